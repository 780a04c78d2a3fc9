package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainSegment: the frame could not get over the bridge to the device it was meant for, which is
// known by its address: nobody answered for it, the bridge dropped the frame, or it vanished there.
func explainSegment(a *analysis, e *end) *finding {
	h, addr := a.lastLeg(e)
	if h == nil || !addr.IsValid() {
		return nil
	}
	from, ok := a.sendingPlug(e, h)
	if !ok {
		return nil
	}
	for _, to := range a.plugsOf(addr) {
		if f := a.segmentFault(from, to, a.frameOf(e, addr)); f != nil {
			return a.faultFinding(e, h, addr, f)
		}
	}
	return nil
}

// frameOf tells what had to get over the bridge when the packet ended.
func (a *analysis) frameOf(e *end, addr netip.Addr) frame {
	switch {
	case e.drop == nil && a.waitsForMAC(e) && addr.Is4(), e.drop != nil && isNeighbourDrop(e.drop) && addr.Is4():
		return frameQuestion
	case e.drop != nil && e.drop.Reason == "NO_TX_TARGET", e.drop == nil && a.flooded(e):
		return frameUnknown
	}
	return frameKnown
}

// flooded reports whether a copy of the packet came to somebody who discarded it as another's, as
// happens when a bridge has not learned where the receiver is.
func (a *analysis) flooded(e *end) bool {
	if e.pkt == nil || visits(e.pkt, a.f.Target.NetNS) {
		return false
	}
	return slices.ContainsFunc(e.pkt.Hops, func(h path.Hop) bool {
		return h.Action == path.ActionDrop && isOtherHost(&h)
	})
}

func (a *analysis) faultFinding(e *end, h *path.Hop, addr netip.Addr, f *fault) *finding {
	at := &path.Hop{NetNS: f.ns, Device: f.dev.Name, Stage: path.StageDevice,
		Container: a.spaceContainer(f.ns), Namespace: a.spaceLabel(f.ns)}
	out := &finding{cause: f.cause, where: whereOf(at, e.direction()), evidence: f.evidence, remedy: f.remedy}
	if e.drop != nil && e.drop.NetNS == f.ns {
		out.where.Stage, out.where.Function, out.where.Reason = e.drop.Stage, e.drop.Function, e.drop.Reason
	}
	out.says = fmt.Sprintf("%s got no further than %s, because %s", a.subject(e), a.place(h), f.says)
	if e.drop == nil || isNeighbourDrop(e.drop) {
		out.evidence = append(out.evidence, a.unanswered(h, addr)...)
	}
	return out
}

// unanswered says that nobody answers for an address, if that is known.
func (a *analysis) unanswered(h *path.Hop, addr netip.Addr) []string {
	if n := a.neighbour(h.NetNS, addr); n != nil && isUnresolved(n.State) {
		return []string{fmt.Sprintf("nobody in reach answers for %s: its neighbour entry in %s is %s", addr,
			a.place(h), n.State)}
	}
	return nil
}

// lastLeg returns where a packet was on its last leg, and the address of the device it was sent to;
// nil if the packet did not end between two devices.
func (a *analysis) lastLeg(e *end) (*path.Hop, netip.Addr) {
	switch h := e.drop; {
	case e.reset != nil || e.icmp != nil && e.drop == nil || e.hook() != "":
		return nil, netip.Addr{}
	case h != nil && (isNeighbourDrop(h) || isQueueDrop(h)):
		return h, a.nextHop(e, h)
	case h != nil && isBridgeDrop(h):
		// The frame is the same on both sides of a bridge, so is its next hop.
		if s := a.sentFrom(e, h); s != nil {
			return h, a.nextHop(e, s)
		}
		return h, h.DstAddr.Addr()
	case h != nil || e.last == nil || e.deliver != nil || e.answered() && !a.gaveUpAsking(e):
		return nil, netip.Addr{}
	}
	if a.waitsForMAC(e) {
		return e.last, a.nextHop(e, e.last)
	}
	if e.last.Action != path.ActionTransmit && e.last.Action != path.ActionQueue && e.last.Action != path.ActionReceive {
		return nil, netip.Addr{}
	}
	if s := a.sentFrom(e, e.last); s != nil {
		return e.last, a.nextHop(e, s)
	}
	return nil, netip.Addr{}
}

// sentFrom returns the last observation at or before h in which the packet was routed: of its sender
// or of a router, as opposed to the devices and bridges that only carry the frame.
func (a *analysis) sentFrom(e *end, h *path.Hop) *path.Hop {
	if e.pkt == nil {
		return nil
	}
	var found *path.Hop
	for i := range e.pkt.Hops {
		x := &e.pkt.Hops[i]
		if isRouted(e.pkt, i) {
			found = x
		}
		if x == h {
			break
		}
	}
	return found
}

// sentInto returns the last observation in which a packet was routed before it came into a namespace, or
// nil: it was made there, or never came.
func sentInto(p *path.Packet, ns uint32) *path.Hop {
	var found *path.Hop
	for i := range p.Hops {
		switch x := &p.Hops[i]; {
		case onPath(x) && x.NetNS == ns:
			return found
		case isRouted(p, i):
			found = x
		}
	}
	return nil
}

// isRouted reports whether hop i is one of a packet that its sender or a router sends on. What a device hands
// to the one below it is not.
func isRouted(p *path.Packet, i int) bool {
	switch x := &p.Hops[i]; {
	case !onPath(x):
		return false
	case x.Stage == path.StageOutput, x.Stage == path.StagePostrouting, isLookup(x):
		return true
	case x.Bridge != "":
		return false
	case x.Stage == path.StageQdisc:
		return true
	default:
		return x.Action == path.ActionTransmit && (i == 0 || p.Hops[i-1].Action != path.ActionTransmit)
	}
}

// isSent reports whether a device was given the packet to send.
func isSent(x *path.Hop) bool { return x.Stage == path.StageQdisc || x.Action == path.ActionTransmit }

// sendingPlug returns the device by which the packet was sent on its last leg.
func (a *analysis) sendingPlug(e *end, h *path.Hop) (plug, bool) {
	if isBridgeDrop(h) {
		if l := a.port(h); l != nil {
			p := a.plugOf(h.NetNS, l)
			return p, p.host != 0
		}
	}
	s := a.sentFrom(e, h)
	if s == nil {
		s = h
	}
	l := a.linkNamed(s.NetNS, string(a.outDevice(e, s)))
	if l == nil {
		l = a.link(s.NetNS, s.Ifindex)
	}
	p := a.plugOf(s.NetNS, l)
	return p, p.host != 0
}

// plugsOf returns the devices that carry an address, the target's and the source's first.
func (a *analysis) plugsOf(addr netip.Addr) []plug {
	var out []plug
	seen := map[[2]uint32]bool{}
	add := func(ns uint32, l *Link) {
		if l != nil && !seen[[2]uint32{ns, l.Index}] {
			seen[[2]uint32{ns, l.Index}] = true
			out = append(out, a.plugOf(ns, l))
		}
	}
	for _, ns := range slices.Concat(a.f.Target.NetNS, a.f.Source.NetNS) {
		links := a.space(ns).Links
		for i := range links {
			if links[i].carries(addr) {
				add(ns, &links[i])
			}
		}
	}
	for _, o := range a.f.Owners {
		if o.Addr == addr {
			l := a.link(o.NetNS, o.Ifindex)
			if l == nil { // the namespace itself was not read
				l = &Link{Index: o.Ifindex, Name: o.Device, Kind: "veth", Up: true, Carrier: true, MAC: o.MAC,
					PeerNetNS: o.PeerNetNS, PeerIndex: o.PeerIndex}
			}
			add(o.NetNS, l)
		}
	}
	return out
}

// carries reports whether an address is one of the device's own.
func (l *Link) carries(addr netip.Addr) bool {
	return slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// isBridgeDrop reports whether a drop was made by the code of the bridge. Before Linux 6.15 it gives
// no reason.
func isBridgeDrop(h *path.Hop) bool {
	switch h.Reason {
	case "NO_TX_TARGET", "BRIDGE_INGRESS_STP_STATE", "BRIDGE_NON_FORWARDING_STATE":
		return true
	case "", "NOT_SPECIFIED":
		return h.Stage == path.StageBridge || isBridgeFunction(h.Function)
	}
	return false
}

func isBridgeFunction(name string) bool {
	switch name {
	case "br_handle_frame", "br_handle_frame_finish", "br_forward", "__br_forward", "br_flood", "br_dev_xmit":
		return true
	}
	return false
}

// isQueueDrop reports whether a device's queue took no packet: that of a device without carrier takes
// none at all.
func isQueueDrop(h *path.Hop) bool {
	return h.Reason == "QDISC_DROP" && isDeviceFunction(h)
}
