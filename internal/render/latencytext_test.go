package render

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// spread is a made-up distribution around a median, ns.
func spread(p50 int64) path.Distribution {
	return path.Distribution{Count: 1000, Min: p50 / 2, P50: p50, P90: p50 * 3 / 2, P99: p50 * 3, P999: p50 * 8, Max: p50 * 20}
}

func spreadOf(p50 int64) *path.Distribution {
	d := spread(p50)
	return &d
}

// latencyCase is a measurement with everything that can be in one.
func latencyCase(target string) TargetLatency {
	return TargetLatency{
		Report: path.LatencyReport{
			Target: target, Source: "client", Sent: 1010, RoundTrip: spread(63_000), Net: spread(52_000), Request: spread(12_400),
			Reply: spread(8_500), Application: spread(23_000), Complete: true,
			Kinds: []path.KindShare{
				{Kind: path.SegmentSender, Segments: 4, Typical: 5500, RoundTrip: spreadOf(5500), Request: spreadOf(1000), Reply: spreadOf(300)},
				{Kind: path.SegmentNetfilter, Segments: 14, Typical: 800, RoundTrip: spreadOf(800), Request: spreadOf(300), Reply: spreadOf(100)},
				{Kind: path.SegmentBridge, Segments: 8, Typical: 3900, RoundTrip: spreadOf(3900), Request: spreadOf(2100), Reply: spreadOf(1200)},
				{Kind: path.SegmentDevice, Request: &path.Distribution{}},
				{Kind: path.SegmentWakeUp, Typical: 13_000, RoundTrip: spreadOf(13_000)},
				{Kind: path.SegmentApplication, Typical: 23_000, RoundTrip: spreadOf(23_000)},
				{Kind: path.SegmentOwn, Typical: 10_700, RoundTrip: spreadOf(10_700), Request: spreadOf(4900), Reply: spreadOf(4900)},
			},
			Discarded:       map[string]uint64{"took another way": 4, "retransmission": 1},
			Retransmissions: map[path.Direction]uint64{path.Request: 1}, DelayedAcks: spreadOf(40_200_000), Reconnects: 2,
			Own: path.OwnCost{PerObservation: 267, Method: "a test", Observations: 40},
			Checks: []path.ClockCheck{{Clock: "user space", Count: 1000, Segments: 63_000, Measured: 63_000},
				{Clock: "SO_TIMESTAMPING", Count: 1000, Segments: 46_100, Measured: 46_200}},
			Thresholds: []path.ThresholdResult{{Threshold: "p99=2ms", Limit: 2e6, Measured: 189_000, Met: true},
				{Threshold: "max=1ms", Limit: 1e6, Measured: 1_260_000}},
		},
		Segments: []path.Segment{
			{Direction: path.Request, Kind: path.SegmentNetfilter, Stage: path.StageOutput, Namespace: "client", Distribution: spread(300)},
			{Direction: path.Request, Kind: path.SegmentVeth, Queue: "backlog", Namespace: "client", Device: "eth0",
				ToNamespace: "host", ToDevice: "veth12345\x1b[31m", Distribution: spread(1600)},
			{Direction: path.Request, Kind: path.SegmentBridge, Namespace: "host", Device: "veth1", ToDevice: "veth2", Distribution: spread(2100)},
			{Kind: path.SegmentApplication, Namespace: "web", Distribution: spread(23_000)},
			{Direction: path.Reply, Kind: path.SegmentReceiver, Container: "client", Namespace: "client", Device: "eth0", Distribution: spread(200)},
		},
	}
}

func latencyComparison() []path.Comparison {
	around := func(ns, by int64) path.Interval { return path.Interval{Estimate: ns, Low: ns - by, High: ns + by} }
	return []path.Comparison{{
		A: "web:80", B: "other:80", Quantile: 0.5, Confidence: 0.95, Difference: around(38_000, 2000), RoundTrip: around(41_000, 60_000),
		Kinds: []path.KindDifference{
			{Kind: path.SegmentSender, A: 5500, B: 5600, Difference: around(100, 300), SegmentsA: 4, SegmentsB: 4},
			{Kind: path.SegmentBridge, A: 3900, B: 12_900, Difference: around(9000, 400), SegmentsA: 8, SegmentsB: 16},
			{Kind: path.SegmentEncapsulation, B: 21_000, Difference: around(21_000, 900), SegmentsB: 4},
			{Kind: path.SegmentWakeUp, A: 13_000, B: 400_000, Difference: around(387_000, 400_000)},
		},
		Summary: "other:80 costs 38 µs more than web:80 on the way at p50 (95 % CI 36 µs to 40 µs): 21 µs encapsulation, 9.0 µs bridge",
	}}
}

func TestLatencyGolden(t *testing.T) {
	one, two := []TargetLatency{latencyCase("web:80")}, []TargetLatency{latencyCase("web:80"), latencyCase("other:80")}
	for _, tt := range []struct {
		name        string
		targets     []TargetLatency
		comparisons []path.Comparison
		verbose     bool
	}{{"latency", one, nil, false}, {"latency-verbose", one, nil, true}, {"latency-two", two, latencyComparison(), false}} {
		for _, width := range []int{0, minWidth} {
			name := tt.name
			if width != 0 {
				name = ""
			}
			checkText(t, name, width, func(o Options) {
				o.Verbose = tt.verbose
				must(t, Latency(o, tt.targets, tt.comparisons, 3))
			})
		}
	}
}

func TestLatencyNothing(t *testing.T) {
	var buf bytes.Buffer
	must(t, Latency(Options{Writer: &buf}, []TargetLatency{{Report: path.LatencyReport{Target: "web:80"}}}, nil, 0))
	if got, want := buf.String(), "web:80: nothing was measured\n"; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestLatencyJSON: every object fits the schema, also with nothing measured.
func TestLatencyJSON(t *testing.T) {
	var buf bytes.Buffer
	j := NewJSON(&buf)
	c := latencyCase("web:80")
	for i := range c.Segments {
		c.Segments[i].Target, c.Segments[i].From, c.Segments[i].To = "web:80", "netfilter/output enter", "netfilter/output leave"
	}
	must(t, j.Latency(c.Report, c.Segments))
	must(t, j.Latency(path.LatencyReport{Target: "web:80"}, nil))
	must(t, j.Comparison(latencyComparison()[0]))
	got := validateLines(t, compileSchema(t), buf.Bytes())
	if len(got) != 8 || got[0] != "latency" || got[1] != "segment" || got[7] != "comparison" {
		t.Errorf("types %q", got)
	}
}
