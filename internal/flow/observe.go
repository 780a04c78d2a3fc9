package flow

import (
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// observe uses an event that has a packet.
func (t *Tracker) observe(cpu *processor, e *wire.Event) {
	fp, at := fingerprintOf(e), placeOf(e)
	p, b := t.bySkb(e, &fp, at)
	if p == nil {
		f, d := t.lookup(e)
		if f != nil && t.isNewFlow(f, d, e) {
			f = nil
		}
		if f != nil && f.state == lingering {
			t.stats.Stragglers++
			return
		}
		if f != nil {
			if p = t.byFingerprint(f, d, e, &fp, at); p != nil {
				b = t.addBranch(p, e)
			}
		}
		if p == nil {
			if p = t.openPacket(cpu, f, d, e, &fp); p == nil {
				t.stats.Unmatched++
				return
			}
		}
	}
	p.addPlace(at)
	t.record(p, b, e)
	cpu.packet, cpu.branch, cpu.gen, cpu.time = p, b, p.gen, e.Time
}

// record adds what the event says to its packet.
func (t *Tracker) record(p *packet, index uint8, e *wire.Event) {
	p.last = max(p.last, e.Time)
	t.touch(p.flow, e.Time)
	r := recorder{t: t, p: p, b: &p.branches[index], e: e}
	r.base = hop{
		time: e.Time, netns: e.NetNS, ifindex: e.Ifindex, in: e.InIfindex, out: e.OutIfindex,
		length: e.Length, dev: t.names.device(e.Dev), hook: e.Hook, branch: index, dir: p.dir,
		mark: e.Mark, ttl: e.TTL, track: p.flow.trackIndex(e), piece: e.Has(wire.FlagFragment),
	}
	if r.base.netns == 0 {
		r.base.netns = r.b.netns
	}
	if c := e.Capture; c != nil {
		r.capture = &path.Capture{Bytes: c.Bytes, Length: c.Length, Link: c.Link}
	}
	r.underlay()
	r.tunnel()
	r.ends()
	switch e.Hook {
	case wire.DevQueue:
		r.device(stageQdisc, actionQueue)
	case wire.DevXmit:
		r.device(stageDevice, actionTransmit)
	case wire.DevReceive:
		r.device(stageDevice, actionReceive)
	case wire.NetfilterEnter:
		r.enter()
	case wire.NetfilterLeave:
		r.leave()
	case wire.Drop:
		r.drop()
	case wire.TCPReset:
		r.tcpReset()
	case wire.ICMPSend:
		r.icmpSend()
	case wire.SocketRead, wire.SocketDataReady:
		r.deliver()
	}
	r.finish()
}

// recorder turns one event into hops of its packet.
type recorder struct {
	t    *Tracker
	p    *packet
	b    *branch
	e    *wire.Event
	base hop
	// capture is shared by the hops of the event; nil if it has none.
	capture *path.Capture
	// prev is the index of the ends before a translation that was not put into a hop yet; valid
	// iff translated.
	prev       uint8
	translated bool
}

// add appends a hop made from the event. x may be nil.
func (r *recorder) add(s stageID, a actionID, x *extra) {
	h := r.base
	h.stage, h.action, h.extra = s, a, r.b.outer
	if x != nil {
		h.extra = x.within(r.b.outer)
	}
	if r.capture != nil {
		h.extra = h.extra.with(r.capture)
	}
	r.t.keep(r.p, h)
	r.b.stage = s
}

// underlay gives a tunnel's packet in OUTPUT the device that it is to leave by: its skb->dev is still
// that of the tunnel, which may be in another namespace than the hook.
func (r *recorder) underlay() {
	e := r.e
	hook := e.Hook == wire.NetfilterEnter || e.Hook == wire.NetfilterLeave
	if hook && e.Has(wire.FlagEncapsulated) && e.NFHook == wire.NFOutput && e.OutIfindex != 0 {
		r.base.ifindex, r.base.dev = e.OutIfindex, 0
	}
}

// tunnel notes that the packet entered or left a tunnel. Packets that come out of a device inside
// a tunnel entered it elsewhere.
func (r *recorder) tunnel() {
	inside := r.e.Has(wire.FlagEncapsulated)
	if inside && (r.b.outer == nil || !r.b.outer.sameOuter(r.e) || r.b.outer.ends != nil) {
		r.b.outer = outerOf(r.e)
	}
	if !inside {
		r.b.outer = nil
	}
	sends := r.b.hook != wire.HookUnknown || r.e.Hook == wire.NetfilterEnter && r.e.NFHook == wire.NFOutput
	enters, leaves := inside && !r.b.tunnelled && sends, !inside && r.b.tunnelled
	r.b.tunnelled = inside
	if enters || leaves {
		r.base.ends = r.b.ends
		if r.b.hook == wire.HookUnknown {
			r.base.ends = r.p.flow.endsIndex(endsOf(r.e))
		}
	}
	if enters {
		r.add(stageVXLAN, actionEncapsulate, nil)
	} else if leaves {
		r.add(stageVXLAN, actionDecapsulate, nil)
	}
}

// ends notes the addresses and whether they changed since the last observation.
func (r *recorder) ends() {
	now := endsOf(r.e)
	f := r.p.flow
	if r.b.ends < noEnds && int(r.b.ends) < len(f.ends) && f.ends[r.b.ends].tuple == now && r.b.hook != wire.HookUnknown {
		r.base.ends = r.b.ends
		return
	}
	truncated := r.p.fp.truncated || isTruncated(r.e) // the ports may be missing
	if truncated && r.b.hook != wire.HookUnknown {
		r.base.ends = r.b.ends
		return
	}
	index := f.endsIndex(now)
	// A clone may turn up with addresses from before a translation: that is none.
	again := index < noEnds && r.p.carried&(1<<index) != 0 && r.e.Hook != wire.NetfilterLeave
	r.translated = r.b.hook != wire.HookUnknown && r.b.ends < noEnds && index < noEnds && !again
	if index < noEnds {
		r.p.carried |= 1 << index
	}
	r.prev, r.b.ends, r.base.ends = r.b.ends, index, index
	if index == noEnds {
		r.b.outer = extraEnds(r.b.outer, now)
	}
	d := r.p.dir
	if r.p.fp.icmpError {
		d = d.opposite()
	}
	if !truncated {
		r.t.alias(f, r.e.Tuple, d)
	}
}

// translate puts a change of addresses into hops at the given stage and reports whether there was
// one.
func (r *recorder) translate(s stageID) bool {
	if !r.translated {
		return false
	}
	r.translated = false
	f := r.p.flow
	from, to := f.ends[r.prev].tuple, f.ends[r.base.ends].tuple
	if from.Dst != to.Dst {
		r.add(s, actionDNAT, &extra{prevDst: shown(from.Dst, f.proto)})
		r.note(path.ActionDNAT, s, from.Dst, to.Dst)
	}
	if from.Src != to.Src {
		r.add(s, actionSNAT, &extra{prevSrc: shown(from.Src, f.proto)})
		r.note(path.ActionSNAT, s, from.Src, to.Src)
	}
	f.translated(r.p, to)
	return true
}

// device records a device hook; whatever hook was open let the packet go.
func (r *recorder) device(s stageID, a actionID) {
	r.b.open = false
	if r.e.Hook == wire.DevReceive {
		r.b.input = false
	}
	r.translate(s)
	r.fragment()
	r.add(s, a, nil)
}

// fragment notes that the packet was cut.
func (r *recorder) fragment() {
	if !r.e.Has(wire.FlagFragment) || r.p.split {
		return
	}
	r.p.split = true
	if !r.p.fp.fragment {
		r.add(stageFragment, actionFragment, nil)
	}
}

func (r *recorder) enter() {
	s, bridged := r.t.hookStage(r.e)
	r.t.sawHooks(r.e.NetNS)
	r.decrypted()
	r.translate(s)
	r.fragment()
	b := r.b
	b.open = r.e.Time >= b.last
	b.openStage, b.openNS, b.openIn, b.openOut = s, r.e.NetNS, r.e.InIfindex, r.e.OutIfindex
	b.bridged, b.input = bridged, false
	r.add(s, actionEnter, nil)
}

func (r *recorder) leave() {
	s, bridged := r.t.hookStage(r.e)
	r.t.sawHooks(r.e.NetNS)
	r.b.open, r.b.bridged = false, bridged
	r.b.input = r.e.NFHook == wire.NFInput && !bridged
	if !r.translate(s) {
		r.add(s, actionLeave, nil)
	}
	if r.e.Has(wire.FlagEncrypts) && r.e.NFHook == wire.NFPostrouting {
		if r.e.OutIfindex != 0 { // skb->dev is still that of the tunnel
			r.base.ifindex, r.base.dev = r.e.OutIfindex, 0
		}
		r.add(stageXfrm, actionEncapsulate, &extra{spi: r.e.Reason})
	}
	if r.b.input && !r.b.tunnelled && r.p.dir == request && !r.p.fp.icmpError {
		r.t.maySettle(r.p, r.e)
	}
}

// decrypted notes that IPsec decrypted the packet since its last observation: what is encrypted is not
// seen, and each of its hooks tells of it from then on.
func (r *recorder) decrypted() {
	if !r.e.Has(wire.FlagDecrypted) || r.b.decrypted == r.e.NetNS {
		return
	}
	r.b.decrypted = r.e.NetNS
	r.add(stageXfrm, actionDecapsulate, &extra{spi: r.e.Reason})
}

// finish notes where the packet is.
func (r *recorder) finish() {
	b := r.b
	b.hook, b.last = r.e.Hook, max(b.last, r.e.Time)
	if r.e.NetNS != 0 && r.e.Hook != wire.SocketRead {
		b.netns = r.e.NetNS
	}
	if r.e.TTL != 0 {
		b.ttl = r.e.TTL
	}
}

// sawHooks notes that netfilter hooks of a namespace report.
func (t *Tracker) sawHooks(netns uint32) {
	if _, ok := t.hooked[netns]; !ok && len(t.hooked) < maxHooked {
		t.hooked[netns] = struct{}{}
	}
}
