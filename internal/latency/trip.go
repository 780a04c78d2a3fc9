package latency

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// trip is the round trips whose request and reply took the same ways.
type trip struct {
	request, reply *way
	occurs         [numKinds]int
	raw, net       *Histogram // as measured, and without the own cost
	application    *Histogram
	path           *Histogram // without what no way causes
	kinds          kindSet
	sums           *Histogram // of all kinds, the own cost included
	sample         reservoir
	observations   int
}

// pair is a request with its answer.
type pair struct {
	question
	answer      sums
	answerWay   *way
	answerFirst uint64
	answerLast  uint64
	received    uint64 // when the asker's device got the answer, 0 if unknown
	answerSeen  int
}

// Probed is a round trip of an own probe as user space saw it, CLOCK_MONOTONIC ns.
type Probed struct {
	Sent, Received uint64 // before the write, after the read
	// Arrived is the kernel's timestamp (SO_TIMESTAMPING) of the answer; 0 if not had.
	Arrived uint64
}

// check compares the segments' sum with another clock.
type check struct{ segments, measured *Histogram }

func (c *check) record(segments, measured int64) {
	if c.segments == nil {
		c.segments, c.measured = newHistogram(fine), newHistogram(fine)
	}
	c.segments.Record(segments)
	c.measured.Record(measured)
}

// Probed tells a round trip of an own probe. The kernel's part may come before or after.
func (m *Meter) Probed(target int, p Probed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.targets[target]
	t.probes = append(t.probes, p)
	m.join(t)
}

// take makes a sample of a packet whose way is complete.
func (m *Meter) take(p *packet) {
	p.done = true
	f, t := p.flow, p.flow.target
	f.pending--
	if p.repeat {
		t.repeats[p.dir]++
	}
	f.arrived(p)
	if why := p.why(); why != "" {
		t.discard(why, 1)
		return
	}
	w, why := t.ways[p.dir].find(p.places, m.build)
	if w == nil {
		t.discard(why, 1)
		return
	}
	f.usual[p.dir] = w.places
	p.way, p.sums = w, w.take(p.times, m.cfg.Own)
	w.total.Record(int64(p.last - p.first))
	occurs := w.occurs()
	w.kinds.record(&p.sums, &occurs, coarse)
	q := question{end: p.end(), sums: p.sums, way: w, first: p.first, last: p.last, places: m.observations(w)}
	if p.dir == request {
		f.ask(q)
		return
	}
	m.answer(f, p, q)
}

// build makes the way through the places, nil if their devices are not known yet.
func (m *Meter) build(ids []int32) *way {
	w := &way{places: slices.Clone(ids)}
	c := newClassifier(m.placesOf(ids), m.cfg.DeviceKind)
	for i := range len(ids) - 1 {
		in := interval{kind: noKind}
		if k := c.kind(i); k != "" {
			in.kind = indexOf(k)
		}
		w.intervals = append(w.intervals, in)
	}
	if c.unknown {
		return nil
	}
	w.total = newHistogram(fine)
	for i := range w.intervals {
		if w.intervals[i].kind != noKind {
			w.intervals[i].times = newHistogram(coarse)
		}
	}
	return w
}

func (m *Meter) placesOf(ids []int32) []place {
	out := make([]place, len(ids))
	for i, id := range ids {
		out[i] = m.places[id]
	}
	return out
}

// observations counts the events of a way.
func (m *Meter) observations(w *way) int {
	n := 0
	for _, id := range w.places {
		if !m.places[id].same {
			n++
		}
	}
	return n
}

// arrival is when the kernel stamps an answer for SO_TIMESTAMPING. One that was sent on this host carries
// the time of its departure until a socket's side of the stack takes it (skb_clear_delivery_time in
// ip_local_deliver_finish), a tunnel's included. Any other is stamped by the device that gives it to the
// stack, each time anew when it enters another namespace (skb_scrub_packet); devices without hardware do
// so as soon as it is sent, before the backlog.
func (m *Meter) arrival(p *packet) uint64 {
	carried := m.cfg.DeliveryTime && m.places[p.places[0]].stage == path.StageOutput
	for _, id := range p.places {
		carried = carried && !m.places[id].tunnelled
	}
	if carried {
		return p.last
	}
	for i := len(p.places) - 1; i > 0; i-- {
		if m.places[p.places[i]].action != path.ActionReceive {
			continue
		}
		if p.way.intervals[i-1].kind == kindVeth {
			return p.times[i-1]
		}
		return p.times[i]
	}
	return 0
}

// maxAsked bounds the requests of a flow that wait for an answer.
const maxAsked = 64

// ask notes a request that arrived.
func (f *flowState) ask(q question) {
	if len(f.asked) >= maxAsked {
		f.target.discard(DiscardUnanswered, 1)
		f.asked = slices.Delete(f.asked, 0, 1)
	}
	f.asked = append(f.asked, q)
}

// answer joins an answer with the request that it acknowledges.
func (m *Meter) answer(f *flowState, p *packet, a question) {
	i := slices.IndexFunc(f.asked, func(q question) bool { return f.answers(p, &q) })
	if i < 0 {
		if f.proto != path.TCP { // of TCP it may be the rest of an answer
			f.target.discard(DiscardUnasked, 1)
		}
		return
	}
	pr := pair{
		question: f.asked[i], answer: p.sums, answerWay: a.way, answerFirst: p.first, answerLast: p.last,
		received: m.arrival(p), answerSeen: a.places,
	}
	// What was asked before was part of the same request, or answered by the same segment.
	f.asked = slices.Delete(f.asked, 0, i+1)
	if p.first < pr.last {
		f.target.discard(DiscardUnasked, 1)
		return
	}
	if !m.cfg.Probed {
		f.target.record(&pr, nil, m.cfg.Own)
		return
	}
	f.target.pairs = append(f.target.pairs, pr)
	m.join(f.target)
}

// answers reports whether a packet answers a request: the first that acknowledges its end (TCP), has
// its sequence number (ICMP echo), or follows it when nothing else waits (UDP).
func (f *flowState) answers(p *packet, q *question) bool {
	switch f.proto {
	case path.TCP:
		return p.ack == q.end
	case path.ICMP:
		return p.seq+p.length == q.end
	}
	return len(f.asked) == 1
}

// join brings together what the kernel and user space saw of the probes. Both come in the order of
// time, and one probe of a target is out at a time.
func (m *Meter) join(t *target) {
	for len(t.pairs) > 0 && len(t.probes) > 0 {
		pr, pb := &t.pairs[0], t.probes[0]
		switch {
		case pr.first < pb.Sent: // of an answer that came too late for its probe
			t.discard(DiscardUnasked, 1)
			t.pairs = t.pairs[1:]
			continue
		case pr.first > pb.Received:
			t.discard(DiscardUnseen, 1)
			t.probes = t.probes[1:]
			continue
		}
		if pr.answerLast > pb.Received { // an answer in parts, of an earlier request
			t.discard(DiscardUnasked, 1)
		} else {
			t.record(pr, &pb, m.cfg.Own)
		}
		t.pairs, t.probes = t.pairs[1:], t.probes[1:]
	}
	const most = 4096 // one side is missing altogether
	if n := len(t.pairs); n > most {
		t.pairs = slices.Clone(t.pairs[n-most:])
		t.discard(DiscardUnasked, n-most)
	}
}

// record takes one round trip; pb is what user space saw of it, nil if nothing.
func (t *target) record(pr *pair, pb *Probed, own int64) {
	tr := t.trip(pr, pb != nil)
	if tr == nil {
		t.discard(DiscardManyWays, 1)
		return
	}
	s := pr.sums
	s.add(&pr.answer)
	application := int64(pr.answerFirst - pr.last)
	cost := min(application, own)
	s[kindApplication] += application - cost
	s[kindOwn] += cost
	raw := int64(pr.answerLast - pr.first)
	if pb != nil {
		s[kindSender] += int64(pr.first - pb.Sent)
		woken := max(int64(pb.Received-pr.answerLast), 0)
		cost := min(woken, own)
		s[kindWakeUp] += woken - cost
		s[kindOwn] += cost
		raw = int64(pb.Received - pb.Sent)
	}
	tr.raw.Record(raw)
	tr.net.Record(raw - s[kindOwn])
	tr.path.Record(s.path())
	tr.application.Record(application - cost)
	tr.kinds.record(&s, &tr.occurs, fine)
	tr.sums.Record(s.total())
	tr.sample.add(round{raw - s[kindOwn], s})
	if pb != nil && pb.Arrived > pb.Sent && pr.received != 0 {
		t.stamped.record(int64(pr.received-pb.Sent), int64(pb.Arrived-pb.Sent))
	}
}

// RoundTrips returns how many round trips to a target were taken.
func (m *Meter) RoundTrips(index int) (n uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, tr := range m.targets[index].trips {
		n += tr.raw.Count()
	}
	return n
}

// trip returns the round trips with the ways of a pair, nil if there are too many.
func (t *target) trip(pr *pair, probed bool) *trip {
	key := [2]int{pr.way.id, pr.answerWay.id}
	if tr, ok := t.trips[key]; ok {
		return tr
	}
	if len(t.trips) >= maxTrips {
		return nil
	}
	tr := &trip{
		request: pr.way, reply: pr.answerWay, raw: newHistogram(fine), net: newHistogram(fine),
		application: newHistogram(fine), path: newHistogram(fine), sums: newHistogram(fine), observations: pr.places + pr.answerSeen,
	}
	there, back := pr.way.occurs(), pr.answerWay.occurs()
	for i := range tr.occurs {
		tr.occurs[i] = there[i] + back[i]
	}
	tr.occurs[kindApplication], tr.occurs[kindOwn] = 1, 1
	if probed {
		tr.occurs[kindSender], tr.occurs[kindWakeUp] = max(tr.occurs[kindSender], 1), 1
	}
	t.trips[key] = tr
	return tr
}
