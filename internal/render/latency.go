package render

import (
	"math"
	"math/rand/v2"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// maxSamples bounds what is kept per client: percentiles are exact up to so many flows, beyond
// that they are those of a uniform sample (8 kB per client). Minimum and maximum are always exact.
const maxSamples = 1024

// latencies collects durations, ns. The zero value is ready to use.
type latencies struct {
	sample   []int64
	seen     uint64
	min, max int64
	rng      *rand.Rand
}

// add takes one duration.
func (l *latencies) add(ns int64) {
	l.seen++
	if l.seen == 1 {
		l.min, l.max = ns, ns
	}
	l.min, l.max = min(l.min, ns), max(l.max, ns)
	if len(l.sample) < maxSamples {
		l.sample = append(l.sample, ns)
		return
	}
	// Vitter's algorithm R. The seed is fixed so that the same trace gives the same summary.
	if l.rng == nil {
		l.rng = rand.New(rand.NewPCG(1, 2))
	}
	if i := l.rng.Uint64N(l.seen); i < maxSamples {
		l.sample[i] = ns
	}
}

// quantiles returns the values below which the given shares lie, by nearest rank. There must be at
// least one sample.
func (l *latencies) quantiles(shares ...float64) []int64 {
	sorted := slices.Clone(l.sample)
	slices.Sort(sorted)
	var out []int64
	for _, q := range shares {
		rank := int(math.Ceil(q * float64(len(sorted))))
		out = append(out, sorted[max(rank, 1)-1])
	}
	return out
}

// texts returns minimum, median, 99th percentile and maximum, "-" if nothing was measured.
func (l *latencies) texts() []string {
	if l.seen == 0 {
		return []string{"-", "-", "-", "-"}
	}
	q := l.quantiles(0.5, 0.99)
	return []string{path.FormatDuration(l.min), path.FormatDuration(q[0]), path.FormatDuration(q[1]), path.FormatDuration(l.max)}
}
