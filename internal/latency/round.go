package latency

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// round is one round trip: what it took without the own cost, and in which kinds of segments.
type round struct {
	net  int64
	sums sums
}

// maxRounds bounds the rounds that are kept whole.
const maxRounds = 2048

// reservoir is a uniform sample of rounds. The zero value is ready to use.
type reservoir struct {
	rounds []round
	seen   uint64
	rng    *rand.Rand
}

// add takes one round (Vitter's algorithm R). The seed is fixed so that the same recording gives the
// same result.
func (r *reservoir) add(x round) {
	r.seen++
	if len(r.rounds) < maxRounds {
		r.rounds = append(r.rounds, x)
		return
	}
	if r.rng == nil {
		r.rng = rand.New(rand.NewPCG(1, 2))
	}
	if i := r.rng.Uint64N(r.seen); i < maxRounds {
		r.rounds[i] = x
	}
}

// band is how far from a quantile, in shares of all, rounds are taken for its composition.
const band = 0.05

func (r *round) whole() int64 { return r.net }
func (r *round) path() int64  { return r.sums.path() }

// near returns the rounds around a quantile of what by tells: those that show what such a round trip consists of. Medians
// of parts do not add up to the median of the whole; means over the same rounds do.
func near(rounds []round, q float64, by func(*round) int64) []round {
	if len(rounds) == 0 {
		return nil
	}
	sorted := slices.Clone(rounds)
	slices.SortFunc(sorted, func(a, b round) int { return cmp.Compare(by(&a), by(&b)) })
	half := min(band, q, 1-q)
	n := float64(len(sorted))
	from, to := int(math.Floor((q-half)*n)), int(math.Ceil((q+half)*n))
	from = min(max(from, 0), len(sorted)-1)
	return sorted[from:min(max(to, from+1), len(sorted))]
}

// composition is the mean of each kind over the rounds.
func composition(rounds []round) (mean [numKinds]float64) {
	for i := range rounds {
		for k, ns := range rounds[i].sums {
			mean[k] += float64(ns) / float64(len(rounds))
		}
	}
	return mean
}

// shares fills in what a round trip around the median consists of.
func (s *Snapshot) shares() {
	typical := composition(near(s.rounds, 0.5, (*round).whole))
	for i := range s.Report.Kinds {
		k := &s.Report.Kinds[i]
		k.Typical = int64(math.Round(typical[indexOf(k.Kind)]))
	}
}

// kindDifferences estimates what each kind contributes to the difference of the ways at a quantile, with a
// bootstrap interval over the rounds near it.
func kindDifferences(a, b *Snapshot, q float64, rng *rand.Rand) (out [numKinds]path.KindDifference) {
	nearA, nearB := near(a.rounds, q, (*round).path), near(b.rounds, q, (*round).path)
	ca, cb := composition(nearA), composition(nearB)
	var diffs [numKinds][]int64
	for range kindResamples {
		ra, rb := composition(resample(nearA, rng)), composition(resample(nearB, rng))
		for k := range diffs {
			diffs[k] = append(diffs[k], int64(math.Round(rb[k]-ra[k])))
		}
	}
	for k := range out {
		slices.Sort(diffs[k])
		tail := (1 - confidence) / 2
		out[k] = path.KindDifference{
			A: int64(math.Round(ca[k])), B: int64(math.Round(cb[k])),
			Difference: path.Interval{
				Estimate: int64(math.Round(cb[k] - ca[k])),
				Low:      diffs[k][rank(tail, kindResamples)-1], High: diffs[k][rank(1-tail, kindResamples)-1],
			},
		}
	}
	return out
}

func resample(rounds []round, rng *rand.Rand) []round {
	out := make([]round, len(rounds))
	for i := range out {
		out[i] = rounds[rng.IntN(len(rounds))]
	}
	return out
}
