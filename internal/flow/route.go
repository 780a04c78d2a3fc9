package flow

import (
	"strconv"
	"time"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// Errors of route look-ups (include/uapi/asm-generic/errno.h), negative as the kernel returns them.
const (
	eSRCH        = -3
	eAGAIN       = -11 // the table has no entry; the next table is asked
	eACCES       = -13
	eINVAL       = -22
	eNETUNREACH  = -101
	eHOSTUNREACH = -113
)

// tableLocal is RT_TABLE_LOCAL.
const tableLocal = 255

// nextTable is how soon the look-up in the next table follows that in the one before.
const nextTable = uint64(100 * time.Microsecond)

func routeError(err int32) string {
	switch err {
	case eAGAIN, eSRCH:
		return "no route"
	case eNETUNREACH:
		return "network unreachable"
	case eHOSTUNREACH:
		return "no route to host"
	case eACCES:
		return "prohibited by a route"
	case eINVAL:
		return "blackhole route"
	}
	return "error " + strconv.Itoa(int(-err))
}

// routeLookup uses a look-up, which names no packet: the one being handled on that processor asked.
func (t *Tracker) routeLookup(cpu *processor, e *wire.Event) {
	if e.Err == eAGAIN {
		miss := *e
		cpu.miss = &miss
		return
	}
	t.route(cpu, e)
}

// settleMiss decides about a look-up that found nothing in one table: the next event of the
// processor tells whether another table had an answer.
func (t *Tracker) settleMiss(cpu *processor, e *wire.Event) {
	miss := cpu.miss
	cpu.miss = nil
	again := e.Hook == wire.RouteLookup && e.Tuple.Dst.Addr() == miss.Tuple.Dst.Addr() && e.Time <= miss.Time+nextTable
	if !again && miss.Table != tableLocal {
		t.route(cpu, miss)
	}
}

// commitMisses is settleMiss when no event follows.
func (t *Tracker) commitMisses() {
	for i := range t.cpus {
		cpu := &t.cpus[i]
		if miss := cpu.miss; miss != nil && t.now >= miss.Time+nextTable {
			cpu.miss = nil
			if miss.Table != tableLocal {
				t.route(cpu, miss)
			}
		}
	}
}

// route attaches a look-up to a packet.
func (t *Tracker) route(cpu *processor, e *wire.Event) {
	if p, b := cpu.current(e.Time); p != nil {
		if e.Err == 0 && e.NetNS != 0 && e.NetNS != b.netns {
			return // somebody else's: answering the ARP request of a neighbour takes look-ups too
		}
		if same, opposite := b.concerns(p, e); same || opposite && e.Err != 0 {
			t.keepRoute(p, cpu.branch, e, same)
			return
		} else if opposite {
			return // the source is checked for each packet received
		}
	}
	switch {
	case e.Err != 0:
		t.routeByAddress(e)
	case e.Table != tableLocal:
		route := *e
		cpu.route = &route
	}
}

// concerns reports whether a look-up is for where the packet goes (same) or for where it came from.
func (b *branch) concerns(p *packet, e *wire.Event) (same, opposite bool) {
	if b.ends == noEnds {
		return false, false
	}
	return concerns(&p.flow.ends[b.ends].tuple, e)
}

func concerns(tuple *wire.Tuple, e *wire.Event) (same, opposite bool) {
	from, to := e.Tuple.Src.Addr(), e.Tuple.Dst.Addr()
	open := !from.IsValid() || from.IsUnspecified()
	src, dst := tuple.Src.Addr(), tuple.Dst.Addr()
	same = to == dst && (open || from == src)
	return same, !same && to == src && (open || from == dst)
}

// keepRoute adds the hop of a look-up; same tells whether it is for the packet's own way.
func (t *Tracker) keepRoute(p *packet, branch uint8, e *wire.Event, same bool) {
	if e.Err == 0 && e.Table == tableLocal {
		return
	}
	b := &p.branches[branch]
	x := &extra{gateway: e.Gateway}
	if e.Err != 0 {
		x.err = routeError(e.Err)
	}
	h := hop{
		track: noTrack,
		time:  e.Time, netns: e.NetNS, ifindex: e.Ifindex, in: e.InIfindex, out: e.OutIfindex, dev: t.names.device(e.Dev),
		length: p.fp.length, ends: b.ends, branch: branch, stage: stageRoute, action: actionEnter, hook: e.Hook, dir: p.dir, extra: x,
	}
	if h.netns == 0 {
		h.netns = b.netns
	}
	if !same {
		h.dir = p.dir.opposite()
		if b.ends != noEnds {
			h.ends = p.flow.endsIndex(p.flow.ends[b.ends].tuple.Inverse())
		}
		h.length = 0
	}
	if n := len(p.hops); n > 0 && p.hops[n-1].sameRoute(&h) {
		return
	}
	if e.Err != 0 && !same {
		t.promote(p)
	}
	t.keep(p, h)
}

func (h *hop) sameRoute(o *hop) bool {
	return h.stage == stageRoute && h.hook == o.hook && h.netns == o.netns && h.dir == o.dir && h.ifindex == o.ifindex &&
		h.extra.err == o.extra.err && h.extra.gateway == o.extra.gateway
}

// routeByAddress attaches a failed look-up to the newest packet between its addresses. Only the
// flows with the latest events are looked at.
func (t *Tracker) routeByAddress(e *wire.Event) {
	const maxFlows = 64
	for s := range closing {
		k := t.lists[s].last
		for n := 0; k != nil && n < maxFlows; k, n = k.prev, n+1 {
			if t.routeInFlow(k.item, e) {
				return
			}
		}
	}
	t.stats.Unmatched++
}

func (t *Tracker) routeInFlow(f *flow, e *wire.Event) bool {
	var best *packet
	var branch uint8
	isSame := false
	for _, p := range f.packets {
		for i := range p.branches {
			same, opposite := p.branches[i].concerns(p, e)
			if (same || opposite) && !p.fp.icmpError && (best == nil || p.last >= best.last) {
				best, branch, isSame = p, uint8(i), same
			}
		}
	}
	if best == nil || e.Time > best.last+packetGap {
		return false
	}
	t.keepRoute(best, branch, e, isSame)
	return true
}

// takeRoute gives a new packet the look-up that preceded it.
func (t *Tracker) takeRoute(cpu *processor, p *packet, e *wire.Event) {
	r := cpu.route
	if r == nil {
		return
	}
	cpu.route = nil
	tuple := endsOf(e)
	if same, _ := concerns(&tuple, r); !same || e.Time > r.Time+uint64(sameMoment) {
		return
	}
	p.branches[0].ends = p.flow.endsIndex(tuple)
	p.flow.path.Start = min(p.flow.path.Start, r.Time)
	if r.NetNS == 0 {
		r.NetNS = e.NetNS
	}
	t.keepRoute(p, 0, r, true)
}
