package latency

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

const (
	resamples     = 4000
	kindResamples = 1000
	confidence    = 0.95
	// method names the estimate in the output; see the package's documentation.
	method = "percentile bootstrap of the difference between quantiles; of kinds, between means near the quantile"
)

// sample is a histogram as bootstrap resamples it.
type sample struct {
	values []int64
	upTo   []int64 // cumulative counts
}

func newSample(h *Histogram) *sample {
	s := &sample{}
	if h == nil || h.Count() == 0 {
		s.values, s.upTo = []int64{0}, []int64{1} // what does not occur takes no time
		return s
	}
	sum := int64(0)
	for value, count := range h.Buckets {
		sum += count
		s.values, s.upTo = append(s.values, value), append(s.upTo, sum)
	}
	return s
}

func (s *sample) n() int64 { return s.upTo[len(s.upTo)-1] }

// at returns the value of a rank, from 1 to n.
func (s *sample) at(rank int64) int64 {
	i, _ := slices.BinarySearch(s.upTo, rank)
	return s.values[min(i, len(s.values)-1)]
}

// rank is the rank of the q-quantile in a sorted sample of n, by nearest rank.
func rank(q float64, n int64) int64 {
	return min(max(int64(math.Ceil(q*float64(n))), 1), n)
}

// quantile returns the q-quantile.
func (s *sample) quantile(q float64) int64 { return s.at(rank(q, s.n())) }

// resampled returns the q-quantile of a resample with replacement. Its k-th order statistic is the
// value at the k-th of n sorted uniform numbers, which is distributed as Beta(k, n-k+1).
func (s *sample) resampled(q float64, rng *rand.Rand) int64 {
	n := s.n()
	k := rank(q, n)
	x, y := gamma(float64(k), rng), gamma(float64(n-k+1), rng)
	return s.at(rank(x/(x+y), n))
}

// gamma draws from the Gamma distribution of shape a >= 1 and scale 1 (Marsaglia and Tsang, A simple
// method for generating gamma variables, 2000).
func gamma(a float64, rng *rand.Rand) float64 {
	d := a - 1.0/3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if u := rng.Float64(); math.Log(u) < x*x/2+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}

// difference estimates the q-quantile of b minus that of a.
func difference(a, b *Histogram, q float64, rng *rand.Rand) path.Interval {
	sa, sb := newSample(a), newSample(b)
	diffs := make([]int64, resamples)
	for i := range diffs {
		diffs[i] = sb.resampled(q, rng) - sa.resampled(q, rng)
	}
	slices.Sort(diffs)
	tail := (1 - confidence) / 2
	return path.Interval{
		Estimate: sb.quantile(q) - sa.quantile(q),
		Low:      diffs[rank(tail, resamples)-1], High: diffs[rank(1-tail, resamples)-1],
	}
}

// Compare lays b beside a at a quantile of the way there and back, and of the round trip. The names are those
// that the sentence uses. It returns nil if one of them has no round trip.
func Compare(nameA, nameB string, a, b *Snapshot, q float64) *path.Comparison {
	if a.RoundTrip == nil || b.RoundTrip == nil {
		return nil
	}
	// The seed is fixed so that the same measurement gives the same sentence.
	rng := rand.New(rand.NewPCG(1, 2))
	c := &path.Comparison{
		Type: "comparison", A: nameA, B: nameB, Quantile: q, Confidence: confidence, Method: method,
		Difference: difference(a.path, b.path, q, rng), RoundTrip: difference(a.RoundTrip, b.RoundTrip, q, rng),
	}
	diffs := kindDifferences(a, b, q, rng)
	for i, k := range path.SegmentKinds() {
		if k == path.SegmentOwn || a.Kinds[k] == nil && b.Kinds[k] == nil {
			continue // the round trips are without it
		}
		d := diffs[i]
		d.Kind, d.SegmentsA, d.SegmentsB = k, a.segments(k), b.segments(k)
		c.Kinds = append(c.Kinds, d)
	}
	c.Summary = summary(c)
	return c
}

// segments counts the places of a kind.
func (s *Snapshot) segments(k path.SegmentKind) int {
	for i := range s.Report.Kinds {
		if s.Report.Kinds[i].Kind == k {
			return s.Report.Kinds[i].Segments
		}
	}
	return 0
}

// summary is "overlay costs 38 µs more than bridge on the way at p50 (95 % CI 36 to 40): 21 encapsulation,
// 9 bridge, …".
func summary(c *path.Comparison) string {
	d := c.Difference
	at := QuantileName(c.Quantile)
	if d.Low <= 0 && d.High >= 0 {
		return fmt.Sprintf("no difference on the way at %s can be told between %s and %s: %s (95 %% CI %s to %s)", at, c.A, c.B,
			signed(d.Estimate), signed(d.Low), signed(d.High))
	}
	word, sign, low, high := "more", int64(1), d.Low, d.High
	if d.Estimate < 0 {
		word, sign, low, high = "less", -1, -d.High, -d.Low
	}
	text := fmt.Sprintf("%s costs %s %s than %s on the way at %s (95 %% CI %s to %s)", c.B, Duration(sign*d.Estimate), word,
		c.A, at, Duration(low), Duration(high))
	if parts := contributions(c, sign); parts != "" {
		text += ": " + parts
	}
	return text
}

func signed(ns int64) string {
	if ns > 0 {
		return "+" + Duration(ns)
	}
	return Duration(ns)
}

// maxParts is how many kinds the sentence names.
const maxParts = 5

// contributions lists the kinds whose difference is sure and not small, and what is left.
func contributions(c *path.Comparison, sign int64) string {
	kinds := slices.DeleteFunc(slices.Clone(c.Kinds), func(k path.KindDifference) bool {
		d := k.Difference
		return k.Kind == path.SegmentApplication || k.Kind == path.SegmentWakeUp || d.Low <= 0 && d.High >= 0 || d.Estimate*20*sign < c.Difference.Estimate*sign && d.Estimate*-20*sign < c.Difference.Estimate*sign
	})
	slices.SortStableFunc(kinds, func(a, b path.KindDifference) int {
		return cmp.Compare(b.Difference.Estimate*sign, a.Difference.Estimate*sign)
	})
	var parts []string
	rest := c.Difference.Estimate
	for i, k := range kinds {
		if i >= maxParts {
			break
		}
		rest -= k.Difference.Estimate
		parts = append(parts, part(k.Difference.Estimate*sign, KindName(k.Kind)+counts(k)))
	}
	if len(parts) > 0 && max(rest, -rest)*20 >= max(c.Difference.Estimate, -c.Difference.Estimate) {
		parts = append(parts, part(rest*sign, "other"))
	}
	return strings.Join(parts, ", ")
}

func part(ns int64, name string) string { return Duration(ns) + " " + name }

// counts says that there are more or fewer places of a kind.
func counts(k path.KindDifference) string {
	if k.SegmentsA == k.SegmentsB || k.SegmentsA == 0 || k.SegmentsB == 0 {
		return ""
	}
	return fmt.Sprintf(" (%d places instead of %d)", k.SegmentsB, k.SegmentsA)
}
