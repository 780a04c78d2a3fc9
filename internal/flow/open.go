package flow

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// isSYN reports whether the event's packet asks for a connection.
func isSYN(e *wire.Event) bool {
	return e.Tuple.Proto == wire.ProtoTCP && e.TCPFlags&(wire.SYN|wire.ACK|wire.RST) == wire.SYN && !e.Has(wire.FlagICMPError)
}

// isNewFlow reports whether a packet whose tuple leads to f begins another flow with the same ends.
func (t *Tracker) isNewFlow(f *flow, d direction, e *wire.Event) bool {
	finished := f.state == lingering
	if isSYN(e) {
		switch {
		case f.hasISN[d] && f.isn[d] == e.Seq:
			return finished && !f.established() // the same connection, tried again
		case f.hasISN[d], finished, f.state == closing:
			return true
		}
		return f.path.Midstream
	}
	if !finished {
		return false
	}
	switch {
	case !t.addsPacket(e), e.Has(wire.FlagICMPError):
		return false
	case f.path.Closed:
		// After both FINs only stragglers can come; a reset may have been somebody else's.
		const settled = uint64(time.Second)
		return !(f.fin[0] && f.fin[1]) && e.Payload > 0 && e.Hook != wire.Drop && e.Time > f.since+settled
	}
	return true
}

// addsPacket reports whether an event of a packet that was not seen yet tells of it.
func (t *Tracker) addsPacket(e *wire.Event) bool {
	switch e.Hook {
	case wire.DevQueue, wire.DevXmit, wire.DevReceive, wire.NetfilterEnter, wire.NetfilterLeave, wire.TCPReset, wire.ICMPSend:
		return true
	case wire.Drop:
		return !isNoiseReason(t.cfg.Namer.DropReason(e.Reason)) && !(e.Tuple.Proto == wire.ProtoTCP && e.TCPFlags&wire.RST != 0)
	}
	return false
}

// openPacket returns a new packet of f with its first branch, number 0; nil if the event does not tell of
// one. If f is nil, the packet begins a flow.
func (t *Tracker) openPacket(cpu *processor, f *flow, d direction, e *wire.Event, fp *fingerprint) *packet {
	if !t.addsPacket(e) {
		return nil
	}
	if f == nil {
		if f, d = t.openFlow(e); f == nil {
			return nil
		}
	}
	p := t.newPacket(f, d, e, fp)
	t.stats.Packets++
	t.addBranch(p, e)
	f.noteEnds(p, e)
	t.noteClose(f, p, e)
	t.takeRoute(cpu, p, e)
	t.noteReject(cpu, p, e)
	t.proveByReply(p, e)
	return p
}

// usualHops is how many hops a packet through one bridge has, about.
const usualHops = 20

// newPacket makes the packet's state and decides whether it is kept.
func (t *Tracker) newPacket(f *flow, d direction, e *wire.Event, fp *fingerprint) *packet {
	keep := len(f.packets) < t.cfg.MaxPackets
	if opens := fp.tcpFlags&(wire.SYN|wire.FIN|wire.RST) != 0 && fp.proto == wire.ProtoTCP; !opens && !fp.icmpError && !endsPacket(e) {
		keep = keep && f.data[d] < t.cfg.MaxData
		if keep {
			f.data[d]++
		}
	}
	repeat := t.isRepeat(f, d, fp)
	if !keep && t.lightList.n >= maxLight {
		t.forget(t.lightList.oldest())
	}
	p := t.unusedPacket()
	if keep && p.hops == nil {
		p.hops = make([]hop, 0, min(usualHops, t.cfg.MaxHops))
	}
	f.ids++
	p.flow, p.id, p.dir, p.kept, p.repeat = f, f.ids, d, keep, repeat
	p.fp, p.first, p.last = *fp, e.Time, e.Time
	if fp.icmpError {
		p.mtu = e.MTU
	}
	if keep {
		f.packets = append(f.packets, p)
	} else {
		t.light(p)
	}
	return p
}

// endsPacket reports whether the event is an end that is always worth keeping.
func endsPacket(e *wire.Event) bool { return e.Hook == wire.Drop || e.Hook == wire.ICMPSend }

// isRepeat reports whether a new packet carries again what an earlier one did.
func (t *Tracker) isRepeat(f *flow, d direction, fp *fingerprint) bool {
	if i := slices.Index(f.repeated[d], fp.seq); i >= 0 && fp.proto == wire.ProtoTCP && !fp.icmpError {
		f.repeated[d] = slices.Delete(f.repeated[d], i, i+1)
		return true
	}
	for _, p := range f.packets {
		if p.dir == d && fp.repeats(&p.fp) {
			return true
		}
	}
	for p, n := f.light, 0; p != nil && n < maxScan; p, n = p.older, n+1 {
		if p.dir == d && fp.repeats(&p.fp) {
			return true
		}
	}
	return false
}

// light notes a packet that is recognised but not kept.
func (t *Tracker) light(p *packet) {
	f := p.flow
	if p.older = f.light; p.older != nil {
		p.older.newer = p
	}
	f.light = p
	t.lightList.push(&p.light, p)
	f.path.OmittedPackets++
	t.stats.PacketsOmitted++
}

// unusedPacket returns an empty packet.
func (t *Tracker) unusedPacket() *packet {
	p := t.free
	if p == nil {
		return &packet{}
	}
	t.free = p.older
	t.nFree--
	*p = packet{gen: p.gen, branches: p.branches[:0], places: p.places[:0], hops: p.hops[:0]}
	return p
}

// recycle makes the memory of a packet that nothing leads to any more that of another one.
func (t *Tracker) recycle(p *packet) {
	t.forgetSkbs(p)
	p.gen++
	p.flow = nil
	if t.nFree >= maxFree || cap(p.hops) > 4*usualHops {
		return // of a packet that went round
	}
	clear(p.hops) // of what they refer to
	p.older, t.free = t.free, p
	t.nFree++
}

// forget recycles a light packet.
func (t *Tracker) forget(p *packet) {
	t.unlight(p)
	t.recycle(p)
}

// unlight takes a packet out of the lists of light packets.
func (t *Tracker) unlight(p *packet) {
	t.lightList.remove(&p.light)
	if p.newer != nil {
		p.newer.older = p.older
	} else {
		p.flow.light = p.older
	}
	if p.older != nil {
		p.older.newer = p.newer
	}
	p.older, p.newer = nil, nil
}

// forgetSkbs removes what leads to a packet.
func (t *Tracker) forgetSkbs(p *packet) {
	for i := range p.branches {
		t.forgetSkb(p, p.branches[i].skb)
	}
}

// forgetSkb removes what leads from an sk_buff to a packet.
func (t *Tracker) forgetSkb(p *packet, skb uint64) {
	if t.skbs[skb].packet == p {
		delete(t.skbs, skb)
	}
}

// promote keeps a packet after all, because it was dropped.
func (t *Tracker) promote(p *packet) {
	f := p.flow
	if p.kept || len(f.packets) >= t.cfg.MaxPackets {
		return
	}
	t.unlight(p)
	p.kept = true
	f.packets = append(f.packets, p)
	f.path.OmittedPackets--
	t.stats.PacketsOmitted--
}

// openFlow begins the flow of a packet whose tuple leads nowhere, nil if it cannot have one, and
// returns the packet's direction.
func (t *Tracker) openFlow(e *wire.Event) (*flow, direction) {
	public, ok := publicProto(e.Tuple.Proto)
	if !ok || !e.Tuple.IsValid() || isTruncated(e) {
		return nil, request
	}
	if old, _ := t.known(e.Tuple); old != nil && old.state != lingering {
		t.finish(old)
	}
	t.makeRoom()
	d := t.guessDirection(e) // of the tuple
	t.flows++
	t.stats.Flows++
	f := &flow{proto: e.Tuple.Proto, keys: make([]wire.Tuple, 0, usualKeys), ends: make([]ends, 0, usualEnds)}
	f.path = path.Path{Flow: t.flows, Proto: public, Start: e.Time, End: e.Time}
	f.path.Midstream = f.proto == wire.ProtoTCP && e.TCPFlags&wire.SYN == 0
	f.setEnds(e, d)
	f.since = e.Time
	f.state = f.wants()
	t.lists[f.state].push(&f.link, f)
	t.alias(f, e.Tuple, d)
	if e.CT != 0 && isTranslated(e) {
		t.alias(f, e.CTOrig, request)
	}
	if e.Has(wire.FlagICMPError) {
		d = d.opposite()
	}
	return f, d
}

func publicProto(proto uint8) (path.Proto, bool) {
	switch proto {
	case wire.ProtoTCP:
		return path.TCP, true
	case wire.ProtoUDP:
		return path.UDP, true
	case wire.ProtoICMP, wire.ProtoICMPv6:
		return path.ICMP, true
	}
	return "", false
}

// guessDirection tells whether the tuple of a flow's first packet reads as request or reply.
func (t *Tracker) guessDirection(e *wire.Event) direction {
	tuple := e.Tuple
	switch {
	case isEcho(tuple.Proto) && !e.Has(wire.FlagICMPError):
		if e.ICMPType == 0 || e.ICMPType == 129 {
			return reply
		}
		return request
	case tuple.Proto == wire.ProtoTCP && e.TCPFlags&wire.SYN != 0:
		if e.TCPFlags&wire.ACK != 0 {
			return reply
		}
		return request
	}
	to, from := t.cfg.IsTarget(tuple.Dst, tuple.Proto), t.cfg.IsTarget(tuple.Src, tuple.Proto)
	if to != from {
		if from {
			return reply
		}
		return request
	}
	if e.CT != 0 && isReplyInfo(e.CTInfo) != e.Has(wire.FlagICMPError) {
		return reply
	}
	return request
}

// isTranslated reports whether the conntrack entry of an event knows other ends of the packet.
func isTranslated(e *wire.Event) bool {
	return e.CTOrig.IsValid() && e.CTOrig.Proto == e.Tuple.Proto && e.CTOrig != e.Tuple && e.CTOrig != e.Tuple.Inverse()
}

// setEnds fills the path's ends from the first packet, whose tuple reads in direction d.
func (f *flow) setEnds(e *wire.Event, d direction) {
	tuple := e.Tuple
	if d == reply {
		tuple = tuple.Inverse()
	}
	f.path.Source, f.path.Target = shown(tuple.Src, f.proto), shown(tuple.Dst, f.proto)
	if e.CT != 0 && isTranslated(e) {
		tuple = e.CTOrig
	}
	f.path.Client, f.path.Server = shown(tuple.Src, f.proto), shown(tuple.Dst, f.proto)
}

// noteEnds corrects the path's ends by the first request packet and notes sequence numbers.
func (f *flow) noteEnds(p *packet, e *wire.Event) {
	if p.fp.icmpError {
		return
	}
	if p.dir == request && !f.sawRequest {
		f.sawRequest = true
		if p.id > 1 {
			f.path.Client, f.path.Server = shown(e.Tuple.Src, f.proto), shown(e.Tuple.Dst, f.proto)
		}
	}
	if f.proto == wire.ProtoTCP && e.TCPFlags&wire.SYN != 0 && !f.hasISN[p.dir] {
		f.isn[p.dir], f.hasISN[p.dir] = e.Seq, true
	}
}

// translated updates the path's ends after a translation.
func (f *flow) translated(p *packet, to wire.Tuple) {
	src, dst := shown(to.Src, f.proto), shown(to.Dst, f.proto)
	switch {
	case p.fp.icmpError:
	case p.dir == request:
		f.path.Source, f.path.Target = src, dst
	case !f.sawRequest:
		f.path.Server, f.path.Client = src, dst
	}
}

// maxTranslations bounds Path.NAT.
const maxTranslations = 32

// note adds a translation of the request to the path.
func (r *recorder) note(kind path.Action, s stageID, from, to netip.AddrPort) {
	f := r.p.flow
	if r.p.dir != request || r.p.fp.icmpError || len(f.path.NAT) >= maxTranslations {
		return
	}
	tr := path.Translation{
		Kind: kind, Direction: path.Request, From: endText(shown(from, f.proto)), To: endText(shown(to, f.proto)),
		NetNS: r.base.netns, Stage: s.public(),
	}
	if r.e.Has(wire.FlagIPVS) && r.e.Hook == wire.NetfilterEnter && kind == path.ActionDNAT {
		tr.By = path.IPVS
	}
	if !slices.Contains(f.path.NAT, tr) {
		f.path.NAT = append(f.path.NAT, tr)
	}
}
