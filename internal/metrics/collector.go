package metrics

import (
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Series is the histogram of one thing at the moment of asking.
type Series struct {
	// Target is what the packets go to; Direction "request", "reply" or "round_trip"; Kind the kind of
	// segment, or "" for the whole.
	Target, Direction, Kind string
	Sum                     int64 // ns
	Count                   uint64
	// Buckets calls yield with the times, ns, and how often each was measured.
	Buckets func(yield func(ns, count int64) bool)
}

// Counter is a number that only grows.
type Counter struct {
	Target, Why string
	Value       uint64
}

// Source is asked at each scrape. It must be safe for concurrent use.
type Source func() ([]Series, []Counter)

// schema is the resolution of the native histograms: each bucket is 2^(2^-schema) times as wide as the
// one before, 2.2 %.
const schema = 5

// zero is the width of the bucket of zero: what is shorter than a nanosecond.
const zero = 1e-9

// collector turns what Source says into metrics.
type collector struct {
	source      Source
	whole, part *prometheus.Desc
	discarded   *prometheus.Desc
	started     time.Time
}

func newCollector(source Source) *collector {
	return &collector{
		source: source, started: time.Now(),
		whole: prometheus.NewDesc("pathtrace_latency_seconds",
			"Time of packets from the first to the last observation, and of round trips.", []string{"target", "direction"}, nil),
		part: prometheus.NewDesc("pathtrace_latency_segment_seconds",
			"Time of packets in each kind of segment, without that of the observations.", []string{"target", "direction", "kind"}, nil),
		discarded: prometheus.NewDesc("pathtrace_latency_discarded_total",
			"Samples that were left out, by why.", []string{"target", "why"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	out <- c.whole
	out <- c.part
	out <- c.discarded
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	series, counters := c.source()
	for _, s := range series {
		desc, labels := c.whole, []string{s.Target, s.Direction}
		if s.Kind != "" {
			desc, labels = c.part, append(labels, s.Kind)
		}
		zeros, buckets := native(&s)
		m, err := prometheus.NewConstNativeHistogram(desc, s.Count, seconds(s.Sum), buckets, nil, zeros, schema, zero,
			c.started, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(desc, err)
		}
		out <- m
	}
	for _, n := range counters {
		out <- prometheus.MustNewConstMetric(c.discarded, prometheus.CounterValue, float64(n.Value), n.Target, n.Why)
	}
}

// native sorts the times into the buckets of a native histogram: bucket i holds what is above
// base^(i-1) and not above base^i, base being 2^(2^-schema).
func native(s *Series) (zeros uint64, buckets map[int]int64) {
	buckets = map[int]int64{}
	for ns, count := range s.Buckets {
		if ns <= 0 {
			zeros += uint64(count)
			continue
		}
		buckets[int(math.Ceil(math.Log2(seconds(ns))*(1<<schema)))] += count
	}
	return zeros, buckets
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }
