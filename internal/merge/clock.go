package merge

import (
	"math"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Offset says by how much the clock of a host is ahead of that of the reference host.
type Offset struct {
	// NS is the best estimate, ns.
	NS int64
	// Error bounds how far the true offset is from NS, ns; Unbounded if packets bound it on one side
	// only or not at all.
	Error int64
	// Packets counts those that crossed between the two hosts, in each direction.
	Requests, Replies int
	// Same says that both hosts have one clock, as they share a kernel.
	Same bool
}

// Unbounded is the Error of an offset that rests on the hosts' own clocks.
const Unbounded = int64(math.MaxInt64)

// drift is by how much clocks may run apart: quartz oscillators keep within 100 ppm of each other.
const drift = 1e-4

// interval bounds an offset: low <= offset <= high, ns.
type interval struct {
	low, high int64
	up, down  int // packets that gave high and low
}

func anything() interval { return interval{low: math.MinInt64, high: math.MaxInt64} }

// bounded reports whether both sides are known and agree.
func (i interval) bounded() bool {
	return i.low != math.MinInt64 && i.high != math.MaxInt64 && i.low <= i.high
}

// contradicts reports whether no offset fits.
func (i interval) contradicts() bool { return i.low > i.high }

func (i interval) middle() int64 { return i.low + (i.high-i.low)/2 }

// and returns what both intervals allow.
func (i interval) and(o interval) interval {
	return interval{low: max(i.low, o.low), high: min(i.high, o.high), up: i.up, down: i.down}
}

// widened returns the interval as it is after so long.
func (i interval) widened(ns int64) interval {
	if ns < 0 {
		ns = -ns
	}
	d := int64(float64(ns)*drift) + 1
	if i.low != math.MinInt64 {
		i.low -= d
	}
	if i.high != math.MaxInt64 {
		i.high += d
	}
	return i
}

// clamp returns the offset in the interval that is nearest to ns.
func (i interval) clamp(ns int64) int64 { return min(max(ns, i.low), i.high) }

// crossing adds what one packet says about the clock of b, where it came to b from a: it cannot have
// arrived before it left. forward is false if the packet went from b to a.
func (i *interval) crossing(left, arrived int64, forward bool) {
	if forward {
		i.high = min(i.high, arrived-left)
		i.up++
		return
	}
	i.low = max(i.low, left-arrived)
	i.down++
}

// passage is the stay of a packet on a host: when it came and left, with its hop limit at that time, 0 if
// unknown. A packet that comes back to a host has more than one.
type passage struct {
	first, last int64
	came, left  uint8
}

// passageOf describes those observations of a packet on its way that count.
func passageOf(p *path.Packet, counts func(limit uint8) bool) (s passage, ok bool) {
	for i := range p.Hops {
		h := &p.Hops[i]
		limit := limitOf(h)
		if !travels(h) || !counts(limit) {
			continue
		}
		at := int64(h.Time)
		if !ok || at < s.first {
			s.first = at
		}
		s.last, ok = max(s.last, at), true
		if limit != 0 {
			s.came, s.left = max(s.came, limit), limit
		}
	}
	return s, ok
}

// limitOf is the packet's hop limit, 0 if unknown: inside a tunnel it is somebody else's.
func limitOf(h *path.Hop) uint8 {
	if !h.HasMark || h.Outer != nil {
		return 0
	}
	return h.TTL
}

// passes adds what a packet says that was seen by two hosts, x at the one and y at the other. Where one
// of them routed it, its hop limit tells which observations of the other were before and which after;
// else it came from the one that is nearer to where it was sent.
func (i *interval) passes(x, y *path.Packet, forward bool) {
	all := func(uint8) bool { return true }
	a, seenA := passageOf(x, all)
	b, seenB := passageOf(y, all)
	switch {
	case !seenA || !seenB:
	case b.came != b.left:
		i.around(x, b, true)
	case a.came != a.left:
		i.around(y, a, false)
	case forward:
		i.crossing(a.last, b.first, true)
	default:
		i.crossing(b.last, a.first, false)
	}
}

// around adds what one host saw of a packet before and after it passed the other.
func (i *interval) around(p *path.Packet, other passage, forward bool) {
	before, ok := passageOf(p, func(limit uint8) bool { return limit >= other.came })
	if ok {
		i.crossing(before.last, other.first, forward)
	}
	after, ok := passageOf(p, func(limit uint8) bool { return limit != 0 && limit <= other.left })
	if ok {
		i.crossing(other.last, after.first, !forward)
	}
}

// travels reports whether a hop is of the packet itself on its way, not of what became of it.
func travels(h *path.Hop) bool {
	switch h.Action {
	case path.ActionDeliver, path.ActionDrop, path.ActionReject, path.ActionReset:
		return false
	}
	return !h.Copy && !h.Noise && h.Stage != path.StageRoute && h.Stage != path.StageNeighbour
}

// bound returns what the packets of a flow say about the clock of view b, seen from view a, which is
// nearer to the asker.
func bound(groups []group, a, b int) interval {
	out := anything()
	for _, g := range groups {
		x, y := g.of(a), g.of(b)
		if x == nil || y == nil {
			continue
		}
		out.passes(x, y, x.Direction == path.Request)
	}
	return out
}

// of returns the packet as a view has it, nil if it has not.
func (g group) of(view int) *path.Packet {
	for _, s := range g {
		if s.view == view {
			return s.pkt
		}
	}
	return nil
}

// Clocks remembers what packets said about the clocks of hosts: a flow whose packets say little profits
// from the one before. It is not safe for concurrent use. The zero value is ready.
type Clocks struct {
	known map[[2]int]measured
}

type measured struct {
	interval
	when int64 // on the clock of the first of both hosts, ns
}

// offset returns by how much the clock of host b is ahead of that of host a, after what packets of the
// flow at hand allow at a time of a's clock.
func (c *Clocks) offset(hosts []Host, a, b int, now interval, when int64) Offset {
	switch {
	case a == b:
		return Offset{Same: true}
	case hosts[a].BootID != "" && hosts[a].BootID == hosts[b].BootID:
		return Offset{Same: true, Requests: now.up, Replies: now.down}
	}
	if c.known == nil {
		c.known = map[[2]int]measured{}
	}
	key := [2]int{a, b}
	both := now
	if old, ok := c.known[key]; ok {
		if both = now.and(old.widened(when - old.when)); both.contradicts() {
			both = now // a clock was stopped, as that of a machine that slept
		}
	}
	if now.bounded() {
		c.known[key] = measured{both, when}
	}
	out := Offset{Error: Unbounded, Requests: now.up, Replies: now.down}
	switch wall := hosts[a].Wall - hosts[b].Wall; {
	case both.bounded():
		out.NS = both.middle()
		out.Error = max(out.NS-both.low, both.high-out.NS)
	case both.contradicts():
		// Packets that were taken for the same are not: no bound is better than a wrong one.
		out.NS = wall
	default:
		out.NS = both.clamp(wall)
	}
	return out
}

// Apart returns by how much the wall clock of b is ahead of that of a, given the offset of their
// monotonic clocks.
func (o Offset) Apart(a, b Host) time.Duration { return time.Duration(b.Wall - a.Wall + o.NS) }
