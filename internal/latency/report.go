package latency

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Segment is a path.Segment with what its names are found by.
type Segment struct {
	path.Segment
	Ifindex            uint32 // of the first end
	ToNetNS, ToIfindex uint32 // of the second
}

// Snapshot is what was measured of one target up to some moment. It does not change any more.
type Snapshot struct {
	// Report lacks the names, the thresholds and what was lost.
	Report   path.LatencyReport
	Segments []Segment
	// RoundTrip is without the own cost; nil if there was no round trip.
	RoundTrip *Histogram
	Measured  *Histogram // with it
	// Kinds are the histograms of each kind's part of a round trip.
	Kinds map[path.SegmentKind]*Histogram

	there, back *way
	rounds      []round
	sums, path  *Histogram
}

// Series is one histogram of a snapshot. Direction is empty for round trips, Kind for the whole.
type Series struct {
	*Histogram
	Direction path.Direction
	Kind      path.SegmentKind
}

// Series returns all histograms of kinds and wholes.
func (s *Snapshot) Series() []Series {
	var out []Series
	if s.Measured != nil {
		out = append(out, Series{Histogram: s.Measured})
	}
	for _, k := range path.SegmentKinds() {
		if h := s.Kinds[k]; h != nil {
			out = append(out, Series{Histogram: h, Kind: k})
		}
	}
	for d, w := range map[path.Direction]*way{path.Request: s.there, path.Reply: s.back} {
		if w == nil {
			continue
		}
		out = append(out, Series{Histogram: w.total, Direction: d})
		for i, k := range path.SegmentKinds() {
			if h := w.kinds[i]; h != nil {
				out = append(out, Series{Histogram: h, Direction: d, Kind: k})
			}
		}
	}
	return out
}

// frozen copies the histograms of a way.
func (w *way) frozen() *way {
	if w == nil {
		return nil
	}
	out := &way{id: w.id, total: w.total.clone()}
	for i, h := range w.kinds {
		if h != nil {
			out.kinds[i] = h.clone()
		}
	}
	return out
}

// Snapshot returns what was measured of a target.
func (m *Meter) Snapshot(index int) *Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.targets[index]
	s := &Snapshot{Kinds: map[path.SegmentKind]*Histogram{}}
	r := &s.Report
	r.Type, r.Own.PerObservation = "latency", m.cfg.Own
	r.Discarded, r.Kinds = map[string]uint64{}, []path.KindShare{}
	for why, n := range t.discarded {
		r.Discarded[why] = n
	}
	tr := t.main()
	there, back := t.mainWay(request), t.mainWay(reply)
	if tr != nil {
		there, back = tr.request, tr.reply
		s.addTrip(tr)
	}
	s.there, s.back = there.frozen(), back.frozen()
	t.otherWays(r, tr)
	s.addWays(m, there, back, tr)
	s.addKinds(there, back, tr)
	s.shares()
	s.addCounts(t, m.cfg.Probed)
	return s
}

// main returns the round trips of the ways that most took, nil if there are none.
func (t *target) main() (best *trip) {
	for _, tr := range t.trips {
		if best == nil || tr.raw.Count() > best.raw.Count() ||
			tr.raw.Count() == best.raw.Count() && tr.request.id+tr.reply.id < best.request.id+best.reply.id {
			best = tr
		}
	}
	return best
}

// mainWay returns the way that most packets of a direction took, nil if there are none.
func (t *target) mainWay(d direction) (best *way) {
	for _, w := range t.ways[d].ways {
		if best == nil || w.total.Count() > best.total.Count() {
			best = w
		}
	}
	return best
}

// otherWays counts the round trips that are not reported.
func (t *target) otherWays(r *path.LatencyReport, chosen *trip) {
	var others uint64
	for _, tr := range t.trips {
		if tr != chosen {
			others += tr.raw.Count()
		}
	}
	if others > 0 {
		r.Discarded[DiscardOtherWay] = others
	}
}

func (s *Snapshot) addTrip(tr *trip) {
	s.RoundTrip, s.Measured, s.sums, s.path = tr.net.clone(), tr.raw.clone(), tr.sums.clone(), tr.path.clone()
	s.rounds = slices.Clone(tr.sample.rounds)
	r := &s.Report
	r.RoundTrip, r.Net = tr.raw.Distribution(), tr.net.Distribution()
	r.Application = tr.application.Distribution()
	r.Own.Observations = tr.observations
}

// addWays lists the segments in the order of the way.
func (s *Snapshot) addWays(m *Meter, there, back *way, tr *trip) {
	s.Report.Request = s.addWay(m, there, path.Request)
	if tr != nil {
		s.Segments = append(s.Segments, Segment{Segment: path.Segment{
			Type: "segment", Position: len(s.Segments) + 1, Kind: path.SegmentApplication,
			From: m.places[last(there.places)].String(), To: m.places[back.places[0]].String(),
			NetNS: m.places[back.places[0]].netns, Distribution: tr.application.Distribution(),
		}})
	}
	s.Report.Reply = s.addWay(m, back, path.Reply)
}

func last(ids []int32) int32 { return ids[len(ids)-1] }

func (s *Snapshot) addWay(m *Meter, w *way, d path.Direction) path.Distribution {
	if w == nil {
		return path.Distribution{}
	}
	for i := range w.intervals {
		in := &w.intervals[i]
		if in.kind == noKind {
			continue
		}
		a, b := &m.places[w.places[i]], &m.places[w.places[i+1]]
		seg := Segment{
			Segment: path.Segment{
				Type: "segment", Position: len(s.Segments) + 1, Direction: d, Kind: path.SegmentKinds()[in.kind],
				From: a.String(), To: b.String(), NetNS: a.netns, Device: a.device, Distribution: in.times.Distribution(),
			},
			Ifindex: a.ifindex,
		}
		seg.Queue = queue(seg.Kind)
		if a.enters() {
			seg.Stage = a.stage
		}
		if b.netns != a.netns || b.ifindex != a.ifindex && b.ifindex != 0 {
			seg.ToNetNS, seg.ToIfindex, seg.ToDevice = b.netns, b.ifindex, b.device
		}
		s.Segments = append(s.Segments, seg)
	}
	return w.total.Distribution()
}

// addKinds sums up the kinds.
func (s *Snapshot) addKinds(there, back *way, tr *trip) {
	for i, k := range path.SegmentKinds() {
		share := path.KindShare{Kind: k}
		for _, in := range slices.Concat(intervals(there), intervals(back)) {
			if in.kind == kindIndex(i) {
				share.Segments++
			}
		}
		if there != nil && there.kinds[i] != nil {
			share.Request = pointer(there.kinds[i].Distribution())
		}
		if back != nil && back.kinds[i] != nil {
			share.Reply = pointer(back.kinds[i].Distribution())
		}
		if tr != nil && tr.kinds[i] != nil {
			share.RoundTrip = pointer(tr.kinds[i].Distribution())
			s.Kinds[k] = tr.kinds[i].clone()
		}
		if share.Request != nil || share.Reply != nil || share.RoundTrip != nil {
			s.Report.Kinds = append(s.Report.Kinds, share)
		}
	}
}

func intervals(w *way) []interval {
	if w == nil {
		return nil
	}
	return w.intervals
}

func pointer[T any](v T) *T { return &v }

// addCounts fills in what was told apart, and the comparison with other clocks.
func (s *Snapshot) addCounts(t *target, probed bool) {
	r := &s.Report
	for d, n := range t.repeats {
		if n == 0 {
			continue
		}
		if r.Retransmissions == nil {
			r.Retransmissions = map[path.Direction]uint64{}
		}
		r.Retransmissions[[...]path.Direction{path.Request, path.Reply}[d]] = n
	}
	if t.delayed != nil {
		r.DelayedAcks = pointer(t.delayed.Distribution())
	}
	if s.RoundTrip != nil && probed {
		r.Checks = append(r.Checks, path.ClockCheck{
			Clock: "user space", Count: s.Measured.Count(), Segments: s.sums.Quantile(0.5), Measured: s.Measured.Quantile(0.5),
		})
	}
	if c := t.stamped; c.measured != nil {
		r.Checks = append(r.Checks, path.ClockCheck{
			Clock: "SO_TIMESTAMPING", Count: c.measured.Count(), Segments: c.segments.Quantile(0.5), Measured: c.measured.Quantile(0.5),
		})
	}
}
