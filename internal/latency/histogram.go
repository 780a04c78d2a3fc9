package latency

import (
	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Range of the histograms, ns: what is longer is counted as the longest.
const (
	shortest = 1
	longest  = 60_000_000_000
)

// Digits of accuracy: a value is at most 0.1 % or 1 % off.
const (
	fine   = 3 // round trips, kinds
	coarse = 2 // single places, of which there are many
)

// Histogram counts times in nanoseconds. The zero value is not usable; see newHistogram.
type Histogram struct {
	hdr      *hdrhistogram.Histogram
	min, max int64 // exact
	sum      int64
}

func newHistogram(digits int) *Histogram {
	return &Histogram{hdr: hdrhistogram.New(shortest, longest, digits)}
}

// Record takes one time. A negative one, which clocks of two processors may give, counts as 0.
func (h *Histogram) Record(ns int64) {
	ns = max(ns, 0)
	if n := h.hdr.TotalCount(); n == 0 || ns < h.min {
		h.min = ns
	}
	h.max = max(h.max, ns)
	h.sum += ns
	// The range is held, which is the only error there is.
	_ = h.hdr.RecordValue(min(ns, longest))
}

// Count returns the number of times taken.
func (h *Histogram) Count() uint64 { return uint64(h.hdr.TotalCount()) }

// Sum returns the sum of the times taken, ns.
func (h *Histogram) Sum() int64 { return h.sum }

// Quantile returns the time that the share q of all do not exceed, 0 to 1; 0 if there are none.
func (h *Histogram) Quantile(q float64) int64 {
	if h.hdr.TotalCount() == 0 {
		return 0
	}
	return min(max(h.hdr.ValueAtQuantile(q*100), h.min), h.max)
}

// Buckets calls yield for each count that is not 0, from short to long, with the middle of its range.
func (h *Histogram) Buckets(yield func(ns, count int64) bool) {
	for _, b := range h.hdr.Distribution() {
		if b.Count == 0 {
			continue
		}
		if !yield(b.From+(b.To-b.From)/2, b.Count) {
			return
		}
	}
}

// Distribution returns the quantiles of the contract.
func (h *Histogram) Distribution() path.Distribution {
	if h.hdr.TotalCount() == 0 {
		return path.Distribution{}
	}
	return path.Distribution{
		Count: h.Count(), Min: h.min, P50: h.Quantile(0.5), P90: h.Quantile(0.9), P99: h.Quantile(0.99),
		P999: h.Quantile(0.999), Max: h.max,
	}
}

// clone returns a copy that does not change.
func (h *Histogram) clone() *Histogram {
	out := *h
	out.hdr = h.hdr.Clone()
	return &out
}
