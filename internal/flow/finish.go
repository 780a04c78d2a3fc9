package flow

import (
	"cmp"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// settling is a datagram whose delivery shows by the absence of a drop.
type settling struct {
	flow *flow
	id   int
	time uint64
}

// fifo is a queue of such datagrams.
type fifo struct {
	items []settling
	first int
}

func (q *fifo) push(s settling) {
	if q.first > 0 && len(q.items) == cap(q.items) {
		n := copy(q.items, q.items[q.first:])
		clear(q.items[n:])
		q.items, q.first = q.items[:n], 0
	}
	q.items = append(q.items, s)
}

// wants returns the list a flow that is not finished belongs in.
func (f *flow) wants() state {
	switch {
	case f.path.Closed || f.refused:
		return closing
	case f.dropped && !f.established():
		return troubled
	case f.proto != wire.ProtoTCP:
		return datagrams
	}
	return active
}

// touch notes an event of the flow.
func (t *Tracker) touch(f *flow, now uint64) {
	f.path.End = max(f.path.End, now)
	f.path.Start = min(f.path.Start, now)
	if f.state == closing {
		return
	}
	f.since = f.path.End
	if l := &t.lists[f.state]; l.last != &f.link {
		l.remove(&f.link)
		l.push(&f.link, f)
	}
}

// place moves a flow to the list it belongs in.
func (t *Tracker) place(f *flow) {
	if s := f.wants(); s != f.state {
		t.lists[f.state].remove(&f.link)
		f.state, f.since = s, t.now
		t.lists[s].push(&f.link, f)
	}
}

// sweep finishes flows whose time is up and forgets finished ones.
func (t *Tracker) sweep() {
	t.swept = t.now
	for q := &t.settle; q.first < len(q.items) && t.now >= q.items[q.first].time+uint64(t.cfg.Settle); q.first++ {
		item := &q.items[q.first]
		if item.flow.settleID == item.id {
			item.flow.settled()
		}
		item.flow = nil
	}
	for s, after := range [numStates]time.Duration{
		active: t.cfg.Idle, datagrams: t.cfg.DatagramIdle, troubled: t.cfg.DropIdle, closing: t.cfg.Grace, lingering: t.cfg.Linger,
	} {
		for f := t.lists[s].oldest(); f != nil && t.now > f.since+uint64(after); f = t.lists[s].oldest() {
			if f.state == lingering {
				t.erase(f)
			} else {
				t.finish(f)
			}
		}
	}
}

// makeRoom finishes the flow that will be missed least if there are too many.
func (t *Tracker) makeRoom() {
	n := 0
	for s := range lingering {
		n += t.lists[s].n
	}
	if n < t.cfg.MaxFlows {
		return
	}
	f := t.lists[closing].oldest()
	if f == nil {
		f = t.oldest()
	}
	t.stats.FlowsEvicted++
	t.finish(f)
}

// oldest returns the flow without events for the longest time.
func (t *Tracker) oldest() *flow {
	var oldest *flow
	for s := range closing {
		if f := t.lists[s].oldest(); f != nil && (oldest == nil || f.since < oldest.since) {
			oldest = f
		}
	}
	return oldest
}

// finishAll finishes every flow in the order in which they began.
func (t *Tracker) finishAll() {
	var all []*flow
	for s := range lingering {
		for k := t.lists[s].first; k != nil; k = k.next {
			all = append(all, k.item)
		}
	}
	slices.SortFunc(all, func(a, b *flow) int { return a.path.Flow - b.path.Flow })
	for _, f := range all {
		t.finish(f)
	}
}

// finish reports the flow and keeps only what recognises its stragglers.
func (t *Tracker) finish(f *flow) {
	f.settled()
	if t.cfg.OnDone != nil {
		t.cfg.OnDone(t.build(f))
	}
	for _, p := range f.packets {
		t.recycle(p)
	}
	for f.light != nil {
		t.forget(f.light)
	}
	f.packets, f.ends, f.tracks, f.repeated = nil, nil, nil, [2][]uint32{}
	t.lists[f.state].remove(&f.link)
	f.state, f.since = lingering, t.now
	t.lists[lingering].push(&f.link, f)
	if t.lists[lingering].n > t.cfg.MaxFlows {
		t.erase(t.lists[lingering].oldest())
	}
}

// erase forgets a finished flow.
func (t *Tracker) erase(f *flow) {
	t.lists[lingering].remove(&f.link)
	for _, key := range f.keys {
		if t.tuples[key].flow == f {
			delete(t.tuples, key)
		}
	}
}

// Peek returns the paths of the flows that are not finished, as far as they came.
func (t *Tracker) Peek() []*path.Path {
	var out []*path.Path
	for s := range lingering {
		for k := t.lists[s].first; k != nil; k = k.next {
			out = append(out, t.build(k.item))
		}
	}
	return out
}

// build returns the flow's Path with everything that was kept of it.
func (t *Tracker) build(f *flow) *path.Path {
	out := f.path
	out.NAT = slices.Clone(out.NAT) // names are put on it while the flow may go on
	slices.SortFunc(f.packets, func(a, b *packet) int { return a.id - b.id })
	out.Packets = t.spare.room(len(f.packets), func(i int) int { return len(f.packets[i].hops) })
	for i, p := range f.packets {
		p.settleCopies()
		p.sortHops()
		hops := out.Packets[i].Hops
		*out.Packets[i] = p.public()
		out.Packets[i].Hops = hops
		for j := range p.hops {
			t.fill(p, &p.hops[j], &hops[j])
		}
	}
	return &out
}

// sortHops puts the hops in the order of time, in which they nearly always are.
func (p *packet) sortHops() {
	for i := 1; i < len(p.hops); i++ {
		if p.hops[i].time < p.hops[i-1].time {
			slices.SortStableFunc(p.hops, func(a, b hop) int { return cmp.Compare(a.time, b.time) })
			return
		}
	}
}

// settleCopies marks what was a clone's: the way to a bystander, and a drop while the packet itself
// went on.
func (p *packet) settleCopies() {
	if len(p.branches) < 2 {
		return
	}
	var last [maxBranches]int // index of each branch's last hop, plus one
	split := len(p.hops)
	for i := range p.hops {
		last[p.hops[i].branch] = i + 1
		if p.hops[i].branch != 0 {
			split = min(split, i)
		}
	}
	for b, end := range last {
		if end == 0 || p.hops[end-1].action != actionDrop {
			continue
		}
		drop := &p.hops[end-1]
		if !drop.copied && !(p.wentOn(drop, last) && !drop.noise) {
			continue
		}
		from := 0
		if b == 0 {
			from = split
		}
		for i := from; i < len(p.hops); i++ {
			p.hops[i].copied = p.hops[i].copied || int(p.hops[i].branch) == b
		}
		drop.copied, drop.noise = true, true
	}
}

// wentOn reports whether another branch of the packet lived longer than the dropped one and was
// not dropped itself.
func (p *packet) wentOn(drop *hop, last [maxBranches]int) bool {
	for b, end := range last {
		if b != int(drop.branch) && end > 0 && p.hops[end-1].time > drop.time && p.hops[end-1].action != actionDrop {
			return true
		}
	}
	return false
}
