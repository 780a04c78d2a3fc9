package latency

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// trip is the round trips whose request and reply took the same ways.
type trip struct {
	request, reply *way
	occurs         [numKinds]int
	raw, net       *Histogram // as measured, and without the own cost
	application    *Histogram
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
	// Driven and Arrived are the kernel's timestamps (SO_TIMESTAMPING) of the request at its device's
	// driver and of the answer when its device gave it to the stack, before any backlog; 0 if not had.
	Driven, Arrived uint64
	// Check: the timestamps may have delayed it, so it serves the comparison of clocks only.
	Check bool
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
	w := t.ways[p.dir].find(p.places, m.build)
	if w == nil {
		t.discard(DiscardManyWays, 1)
		return
	}
	p.way, p.sums = w, w.take(p.times, m.cfg.Own)
	w.total.Record(int64(p.last - p.first))
	occurs := w.occurs()
	w.kinds.record(&p.sums, &occurs, coarse)
	q := question{end: p.end(), sums: p.sums, way: w, first: p.first, last: p.last, places: m.observations(w)}
	if p.dir == request {
		q.sent = m.timeOf(p, path.ActionTransmit)
		f.ask(q)
		return
	}
	m.answer(f, p, q)
}

// build makes the way through the places.
func (m *Meter) build(ids []int32) *way {
	w := &way{places: slices.Clone(ids), total: newHistogram(fine)}
	c := newClassifier(m.placesOf(ids), m.cfg.DeviceKind)
	for i := range len(ids) - 1 {
		in := interval{kind: noKind}
		if k := c.kind(i); k != "" {
			in.kind, in.times = indexOf(k), newHistogram(coarse)
		}
		w.intervals = append(w.intervals, in)
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

// arrival is when the last device gave the packet to the stack. Devices without hardware do so as soon as
// it is sent, into the backlog that it waits in until it is received.
func (m *Meter) arrival(p *packet) uint64 {
	for i := len(p.way.intervals) - 1; i >= 0; i-- {
		if m.places[p.way.places[i+1]].action == path.ActionReceive {
			if p.way.intervals[i].kind == kindVeth {
				return p.times[i]
			}
			return p.times[i+1]
		}
	}
	return 0
}

// timeOf returns when the packet was first seen with an action; 0 if never.
func (m *Meter) timeOf(p *packet, a path.Action) uint64 {
	for i, id := range p.places {
		if m.places[id].action == a {
			return p.times[i]
		}
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
	if pb != nil && pb.Check {
		t.compare(pr, pb)
		return
	}
	tr := t.trip(pr)
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
		s[kindReceiver] += woken - cost
		s[kindOwn] += cost
		raw = int64(pb.Received - pb.Sent)
	}
	tr.raw.Record(raw)
	tr.net.Record(raw - s[kindOwn])
	tr.application.Record(application - cost)
	tr.kinds.record(&s, &tr.occurs, fine)
	tr.sums.Record(s.total())
	tr.sample.add(round{raw - s[kindOwn], s})
}

// compare compares the hooks with the kernel's timestamps.
func (t *target) compare(pr *pair, pb *Probed) {
	if pb.Driven != 0 && pb.Arrived > pb.Driven && pr.sent != 0 && pr.received > pr.sent {
		t.stamped.record(int64(pr.received-pr.sent), int64(pb.Arrived-pb.Driven))
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
func (t *target) trip(pr *pair) *trip {
	key := [2]int{pr.way.id, pr.answerWay.id}
	if tr, ok := t.trips[key]; ok {
		return tr
	}
	if len(t.trips) >= maxTrips {
		return nil
	}
	tr := &trip{
		request: pr.way, reply: pr.answerWay, raw: newHistogram(fine), net: newHistogram(fine),
		application: newHistogram(fine), sums: newHistogram(fine), observations: pr.places + pr.answerSeen,
	}
	there, back := pr.way.occurs(), pr.answerWay.occurs()
	for i := range tr.occurs {
		tr.occurs[i] = there[i] + back[i]
	}
	for _, k := range []kindIndex{kindSender, kindReceiver, kindApplication, kindOwn} {
		tr.occurs[k] = max(tr.occurs[k], 1)
	}
	t.trips[key] = tr
	return tr
}

// Delayed acknowledgements: Linux holds them back for 40 ms or more (TCP_DELACK_MIN, include/net/tcp.h);
// what is sent at once takes microseconds.
const delayedAck = 5_000_000

// maxUnacked bounds the arrivals of a flow that wait for an acknowledgement.
const maxUnacked = 64

// arrived notes data that arrived, and what the packet acknowledges.
func (f *flowState) arrived(p *packet) {
	if f.proto != path.TCP {
		return
	}
	f.acked(p.dir, p.ack)
	if list := f.unacked[p.dir]; len(list) < maxUnacked && !p.dropped {
		f.unacked[p.dir] = append(list, arrival{p.end(), p.last})
	}
}

// acked forgets the data that a packet of direction d acknowledges and returns when the oldest of it
// had arrived, 0 if there is none.
func (f *flowState) acked(d direction, ack uint32) (at uint64) {
	list := f.unacked[d.opposite()]
	n := 0
	for n < len(list) && int32(ack-list[n].end) >= 0 {
		n++
	}
	if n > 0 {
		at = list[0].at
		f.unacked[d.opposite()] = slices.Delete(list, 0, n)
	}
	return at
}

// noteAck takes the first step of a packet without data.
func (f *flowState) noteAck(d direction, s *flow.Step) {
	if s.Packet <= f.lastAck[d] {
		return
	}
	f.lastAck[d] = s.Packet
	at := f.acked(d, s.Ack)
	if at == 0 || s.Time < at+delayedAck {
		return
	}
	if f.target.delayed == nil {
		f.target.delayed = newHistogram(fine)
	}
	f.target.delayed.Record(int64(s.Time - at))
}
