package tracer

import (
	"github.com/pathtrace/pathtrace/internal/latency"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// result puts names on what was measured and lays the targets side by side.
func (l *LatencyTracer) result(stats Stats) LatencyResult {
	r := LatencyResult{Stats: stats}
	var snapshots []*latency.Snapshot
	for i := range l.targets {
		snap := l.meter.Snapshot(i)
		snapshots = append(snapshots, snap)
		report := l.report(i, snap)
		report.Complete = stats.LostEvents == 0
		r.Targets = append(r.Targets, TargetLatency{Report: report, Segments: namedSegments(l.t.labels, report.Target, snap)})
	}
	r.compare(snapshots, l.quantile)
	return r
}

// compare lays each other target beside the first.
func (r *LatencyResult) compare(snapshots []*latency.Snapshot, quantile float64) {
	for i, snap := range snapshots {
		if i == 0 {
			continue
		}
		a, b := r.Targets[0].Report.Target, r.Targets[i].Report.Target
		if c := latency.Compare(a, b, snapshots[0], snap, quantile); c != nil {
			r.Comparisons = append(r.Comparisons, *c)
		}
	}
}

func (l *LatencyTracer) report(i int, snap *latency.Snapshot) path.LatencyReport {
	r := snap.Report
	r.Target, r.Source = l.targets[i].name, l.cfg.Source
	if r.Own.Method = costMethod; r.Own.PerObservation == 0 {
		r.Own.Method = "too small to be measured, or not measured: nothing was taken out"
	}
	r.Sent, r.Reconnects = l.counts[i].sent.Load(), l.counts[i].reconnects.Load()
	for _, limit := range l.thresholds {
		r.Thresholds = append(r.Thresholds, limit.Check(snap.Measured))
	}
	return r
}

// namedSegments puts names on the places.
func namedSegments(n naming, target string, snap *latency.Snapshot) []path.Segment {
	var out []path.Segment
	for _, seg := range snap.Segments {
		s := seg.Segment
		s.Target = target
		ns := n.space(s.NetNS)
		s.Namespace, s.Container = ns.Name, ns.Container
		d := n.device(s.NetNS, seg.Ifindex, s.Device)
		s.Device, s.Network = d.name, d.network
		if seg.ToNetNS != 0 {
			s.ToDevice = n.device(seg.ToNetNS, seg.ToIfindex, s.ToDevice).name
			if seg.ToNetNS != s.NetNS {
				s.ToNamespace = n.space(seg.ToNetNS).Name
			}
		}
		out = append(out, s)
	}
	return out
}

// LatencySeries is a histogram of one target at some moment: of Kind, or, if that is empty, of the
// whole. Direction is empty for round trips.
type LatencySeries struct {
	Target    string
	Direction path.Direction
	Kind      path.SegmentKind
	Count     uint64
	Sum       int64 // ns
	// Buckets calls yield with the times, ns, and how often each was measured.
	Buckets func(yield func(ns, count int64) bool)
}

// Series returns the histograms as they are now, and for each target the samples left out, by why. It may
// be called while Run runs.
func (l *LatencyTracer) Series() (list []LatencySeries, discarded []map[string]uint64) {
	for i := range l.targets {
		snap := l.meter.Snapshot(i)
		for _, s := range snap.Series() {
			list = append(list, LatencySeries{
				Target: l.targets[i].name, Direction: s.Direction, Kind: s.Kind, Count: s.Count(), Sum: s.Sum(), Buckets: s.Buckets,
			})
		}
		discarded = append(discarded, snap.Report.Discarded)
	}
	return list, discarded
}

// RoundTrips returns how many round trips to each target were measured so far. It may be called while Run
// runs.
func (l *LatencyTracer) RoundTrips() []uint64 {
	out := make([]uint64, len(l.targets))
	for i := range out {
		out[i] = l.meter.RoundTrips(i)
	}
	return out
}

// Targets returns the names of the targets in their order.
func (l *LatencyTracer) Targets() []string {
	var out []string
	for i := range l.targets {
		out = append(out, l.targets[i].name)
	}
	return out
}
