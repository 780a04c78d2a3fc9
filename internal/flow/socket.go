package flow

import (
	"github.com/pathtrace/pathtrace/internal/wire"
)

// TCP states (include/net/tcp_states.h).
const (
	tcpEstablished = 1
	tcpSynSent     = 2
	tcpSynRecv     = 3
)

// tcpState uses a change of a socket's state: becoming established proves that the other side's
// packet was taken.
func (t *Tracker) tcpState(cpu *processor, e *wire.Event) {
	if e.NewState != tcpEstablished {
		return // a closed socket tells nothing that its packets did not
	}
	f, d := t.known(e.Tuple)
	if f == nil || f.state == lingering {
		t.countLost(f)
		return
	}
	server := e.OldState == tcpSynRecv || e.OldState != tcpSynSent && d == reply
	at, netns, taken := &f.path.ClientEstablished, &f.path.ClientNetNS, reply
	if server {
		at, netns, taken = &f.path.ServerEstablished, &f.path.ServerNetNS, request
	}
	if *at != 0 {
		return
	}
	*at, *netns = e.Time, e.NetNS
	if server && f.path.DeliverNetNS == 0 {
		f.path.DeliverNetNS = e.NetNS
	}
	f.dropped = false
	t.touch(f, e.Time)
	if p, b := f.handled(cpu, taken, e); p != nil {
		t.keepAt(p, b, e, stageTCP, actionDeliver, nil)
	}
}

// keepAt adds a hop for an event without a packet of its own.
func (t *Tracker) keepAt(p *packet, branch uint8, e *wire.Event, s stageID, a actionID, x *extra) {
	b := &p.branches[branch]
	h := hop{
		track: noTrack,
		time:  e.Time, netns: e.NetNS, ifindex: e.Ifindex, in: e.InIfindex, out: e.OutIfindex, dev: t.names.device(e.Dev),
		length: p.fp.length, ends: b.ends, branch: branch, stage: s, action: a, hook: e.Hook, dir: p.dir, extra: x,
	}
	if h.netns == 0 {
		h.netns = b.netns
	}
	t.keep(p, h)
}

// handled returns the packet of a direction that the processor handled in the event's namespace just
// now, and its branch; the newest one if it did not.
func (f *flow) handled(cpu *processor, d direction, e *wire.Event) (*packet, uint8) {
	if p, b := cpu.current(e.Time); p != nil && p.flow == f && p.dir == d && !p.fp.icmpError && b.netns == e.NetNS {
		return p, cpu.branch
	}
	return f.newest(d, e)
}

// newest returns the newest packet of a direction and its branch, best one last seen in the
// event's namespace.
func (f *flow) newest(d direction, e *wire.Event) (best *packet, branch uint8) {
	score := 0
	consider := func(p *packet) {
		if p.dir != d || p.fp.icmpError {
			return
		}
		for i := range p.branches {
			b := &p.branches[i]
			s := 1
			if b.netns == e.NetNS && !b.freed {
				s = 2
			}
			if s > score || s == score && p.last > best.last {
				best, branch, score = p, uint8(i), s
			}
		}
	}
	for _, p := range f.packets {
		consider(p)
	}
	for p, n := f.light, 0; p != nil && n < maxScan; p, n = p.older, n+1 {
		consider(p)
	}
	return best, branch
}

// tcpRetransmit notes that the socket repeats a segment. The kernel reports it after the segment
// was sent, so that its packet may have been seen already.
func (t *Tracker) tcpRetransmit(e *wire.Event) {
	f, d := t.known(e.Tuple)
	if f == nil || f.state == lingering {
		t.countLost(f)
		return
	}
	t.touch(f, e.Time)
	found := (*packet)(nil)
	consider := func(p *packet) {
		if p.dir == d && !p.fp.icmpError && p.fp.seq == e.Seq && p.first+uint64(sameMoment) >= e.Time && (found == nil || p.id > found.id) {
			found = p
		}
	}
	for _, p := range f.packets {
		consider(p)
	}
	for p, n := f.light, 0; p != nil && n < maxScan; p, n = p.older, n+1 {
		consider(p)
	}
	const maxRepeated = 16
	switch {
	case found != nil:
		found.repeat = true
	case len(f.repeated[d]) < maxRepeated:
		f.repeated[d] = append(f.repeated[d], e.Seq)
	default:
		copy(f.repeated[d], f.repeated[d][1:])
		f.repeated[d][maxRepeated-1] = e.Seq
	}
}

// withoutPacket uses an event of a socket that names no packet; its tuple is as the socket sees it.
func (t *Tracker) withoutPacket(cpu *processor, e *wire.Event) {
	f, d := t.known(e.Tuple)
	if f == nil || f.state == lingering {
		t.countLost(f)
		return
	}
	p, b := f.handled(cpu, d.opposite(), e)
	if p == nil {
		t.stats.Unmatched++
		return
	}
	switch e.Hook {
	case wire.TCPReset:
		t.keepAt(p, b, e, stageTCP, actionReset, &extra{reason: t.cfg.Namer.ResetReason(e.Reason)})
	case wire.SocketRead, wire.SocketDataReady:
		if f.proto != wire.ProtoTCP {
			f.deliveredIn(p, e.NetNS)
			t.keepAt(p, b, e, deliverStage(f.proto), actionDeliver, nil)
		}
	default:
		t.stats.Unmatched++
	}
}

// countLost counts an event that is not used; f is the finished flow it is of, or nil.
func (t *Tracker) countLost(f *flow) {
	if f == nil {
		t.stats.Unmatched++
	} else {
		t.stats.Stragglers++
	}
}

func deliverStage(proto uint8) stageID {
	switch proto {
	case wire.ProtoTCP:
		return stageTCP
	case wire.ProtoUDP:
		return stageUDP
	}
	return stageICMP
}

// deliveredIn notes that a socket in netns took a packet.
func (f *flow) deliveredIn(p *packet, netns uint32) {
	if p.dir == request && !p.fp.icmpError && f.path.DeliverNetNS == 0 {
		f.path.DeliverNetNS = netns
	}
	f.dropped = f.dropped && p.dropped
}

// deliver records that a socket took the packet.
func (r *recorder) deliver() {
	s := deliverStage(r.p.flow.proto)
	r.translate(s)
	if r.e.Hook == wire.SocketRead && r.b.netns != 0 {
		// The event tells the reader's namespace, which need not be that of its socket.
		r.base.netns = r.b.netns
	}
	for i := range r.p.hops {
		if h := &r.p.hops[i]; h.action == actionDeliver && h.hook == r.e.Hook {
			return
		}
	}
	r.p.flow.deliveredIn(r.p, r.base.netns)
	r.add(s, actionDeliver, nil)
}

// tcpReset records that the stack answers the packet with an RST.
func (r *recorder) tcpReset() {
	r.translate(stageTCP)
	r.add(stageTCP, actionReset, &extra{reason: r.t.cfg.Namer.ResetReason(r.e.Reason)})
}

// maySettle notes that a datagram was handed to the local stack; if no drop follows, a socket took
// it.
func (t *Tracker) maySettle(p *packet, e *wire.Event) {
	f := p.flow
	if f.proto != wire.ProtoUDP || f.path.DeliverNetNS != 0 || f.settleID != 0 {
		return
	}
	f.settleID, f.settleNS = p.id, e.NetNS
	t.settle.push(settling{f, p.id, e.Time})
}

// settled draws the conclusion.
func (f *flow) settled() {
	if f.settleID != 0 && f.path.DeliverNetNS == 0 {
		f.path.DeliverNetNS = f.settleNS
	}
	f.settleID = 0
}

// proveByReply notes what the first observation of a reply proves, if it was made there: the request it
// answers was taken in that namespace. One that is received was made out of sight.
func (t *Tracker) proveByReply(p *packet, e *wire.Event) {
	f := p.flow
	received := e.Hook == wire.DevReceive || e.Hook == wire.NetfilterEnter && e.NFHook == wire.NFPrerouting
	if p.dir != reply || p.fp.icmpError || e.Hook == wire.Drop || received {
		return
	}
	if f.proto == wire.ProtoUDP && f.settleID != 0 && f.settleNS == e.NetNS {
		f.settled()
	}
	if f.proto != wire.ProtoTCP {
		f.dropped = false
	}
	if !isEcho(f.proto) {
		return
	}
	for i := len(f.packets) - 1; i >= 0; i-- {
		q := f.packets[i]
		if q.dir != request || q.fp.icmpError || q.fp.seq != p.fp.seq {
			continue
		}
		for j := range q.branches {
			if b := &q.branches[j]; b.netns == e.NetNS && !b.freed && e.NetNS != 0 {
				f.deliveredIn(q, e.NetNS)
				t.keepAt(q, uint8(j), &wire.Event{Time: e.Time, NetNS: e.NetNS, Hook: e.Hook}, stageICMP, actionDeliver, nil)
				return
			}
		}
	}
}

// noteReject recognises the answer of a firewall rule: an RST or ICMP error that is made while the
// hook that the offending packet entered is still open on the same processor.
func (t *Tracker) noteReject(cpu *processor, p *packet, e *wire.Event) {
	reset := p.fp.proto == wire.ProtoTCP && p.fp.tcpFlags&wire.RST != 0
	if !isBirth(e) || !reset && !p.fp.icmpError {
		return
	}
	q, b := cpu.current(e.Time)
	if q == nil || q.flow != p.flow || q.dir == p.dir || !b.open || b.openNS != e.NetNS {
		return
	}
	var x *extra
	if p.fp.icmpError {
		if n := len(q.hops); n > 0 && q.hops[n-1].action == actionReject {
			return // ICMPSend told already
		}
		x = rejectOf(e)
	}
	open := &wire.Event{Time: e.Time, NetNS: b.openNS, InIfindex: b.openIn, OutIfindex: b.openOut, Hook: e.Hook}
	t.promote(q)
	t.keepAt(q, cpu.branch, open, b.openStage, actionReject, x)
}

// noteClose notes FINs, resets and ICMP errors that end the flow.
func (t *Tracker) noteClose(f *flow, p *packet, e *wire.Event) {
	switch {
	case p.fp.icmpError:
		if p.dir == reply && !f.established() {
			fatal, soft := icmpEnds(e.OuterSrc.Addr().Is6(), e.ICMPType, e.ICMPCode)
			f.refused, f.dropped = f.refused || fatal, f.dropped || soft
		}
	case f.proto != wire.ProtoTCP:
	case e.TCPFlags&wire.RST != 0:
		f.reset = true
	case e.TCPFlags&wire.FIN != 0:
		f.fin[p.dir] = true
	}
	f.path.Closed = f.reset || f.fin[0] && f.fin[1]
	t.place(f)
}
