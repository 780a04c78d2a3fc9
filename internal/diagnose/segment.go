package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// plug is a device with what it is plugged into: a container's device leads to a port of a bridge, a
// bridge is one itself.
type plug struct {
	ns     uint32 // of the device
	dev    *Link
	host   uint32 // the namespace of port and bridge; 0 if the device leads nowhere known
	port   *Link  // the bridge's end; nil if dev is the bridge
	bridge *Link  // nil if the port is none of a bridge
}

// plugOf follows a device to its bridge.
func (a *analysis) plugOf(ns uint32, dev *Link) plug {
	p := plug{ns: ns, dev: dev}
	switch {
	case dev == nil:
	case dev.Kind == "bridge":
		p.host, p.bridge = ns, dev
	case dev.Master != 0:
		p.host, p.port, p.bridge = ns, dev, a.link(ns, dev.Master)
	case dev.Kind == "veth" && dev.PeerNetNS != 0:
		if p.port = a.link(dev.PeerNetNS, dev.PeerIndex); p.port != nil {
			p.host, p.bridge = dev.PeerNetNS, a.link(dev.PeerNetNS, p.port.Master)
		}
	}
	return p
}

// fault is what keeps frames from getting from one device to another.
type fault struct {
	cause    path.Cause
	ns       uint32
	dev      *Link
	says     string // "vethW in host is down"
	evidence []string
	remedy   []string
}

// segmentFault finds what keeps the frames of one plug from another that should be on the same
// bridge, in the order of their way; nil if nothing is known to be wrong, or if the two are known to
// be on different bridges: nothing says then that they should not be.
func (a *analysis) segmentFault(from, to plug) *fault {
	if from.host == 0 || from.host != to.host {
		return nil
	}
	bridge := from.bridge
	if bridge == nil {
		bridge = to.bridge
	}
	if bridge == nil || to.bridge != nil && to.bridge.Index != bridge.Index {
		return nil
	}
	checks := []func() *fault{
		func() *fault { return a.downFault(from.ns, from.dev, from) },
		func() *fault { return a.portFault(from, bridge) },
		func() *fault { return a.downFault(from.host, bridge, plug{}) },
		func() *fault { return a.isolationFault(from, to) },
		func() *fault { return a.portFault(to, bridge) },
		func() *fault { return a.downFault(to.ns, to.dev, to) },
	}
	for _, check := range checks {
		if f := check(); f != nil {
			return f
		}
	}
	return nil
}

// downFault reports a device that is set down. One that only lacks a carrier is the victim of its
// other end, which is looked at by itself.
func (a *analysis) downFault(ns uint32, l *Link, p plug) *fault {
	if l == nil || l.Up && (l.Carrier || l.Kind == "bridge" || p.port != nil) {
		return nil
	}
	at := &path.Hop{NetNS: ns}
	state := "is down"
	if l.Up {
		state = "has no carrier, its other end is down"
	}
	return &fault{
		cause: path.CauseLinkDown, ns: ns, dev: l,
		says: fmt.Sprintf("%s in %s %s", l.Name, a.place(at), state),
		evidence: []string{fmt.Sprintf("device %s in %s is up: %t, carrier: %t",
			l.Name, a.place(at), l.Up, l.Carrier)},
		remedy: a.raise(at, l),
	}
}

// portFault reports a port that is down, is none of the bridge, or may not forward.
func (a *analysis) portFault(p plug, bridge *Link) *fault {
	if p.port == nil {
		return nil
	}
	if !p.port.Up {
		return a.downFault(p.host, p.port, plug{})
	}
	at := a.spaceName(p.host)
	if p.bridge == nil {
		return &fault{
			cause: path.CauseNotBridged, ns: p.host, dev: p.port,
			says: fmt.Sprintf("%s in %s, which leads to %s, is not a port of bridge %s", p.port.Name, at,
				a.spaceName(p.ns), bridge.Name),
			remedy: []string{a.commandIn(p.host, "", "ip link set "+quote(p.port.Name)+" master "+
				quote(bridge.Name))},
		}
	}
	s := p.port.Port
	if s == nil || !isBlocked(s.State) {
		return nil
	}
	return &fault{
		cause: path.CauseBridgePortBlocked, ns: p.host, dev: p.port,
		says: fmt.Sprintf("port %s of bridge %s in %s does not forward, its spanning tree state is %s",
			p.port.Name, bridge.Name, at, s.State),
		remedy: []string{
			a.commandIn(p.host, "", "bridge -d link show dev "+quote(p.port.Name)),
			a.commandIn(p.host, "", "ip link set "+quote(bridge.Name)+" type bridge stp_state 0") +
				"  # for a bridge without loops only",
		},
	}
}

// isBlocked reports whether a spanning tree state keeps frames back. A disabled port is one that is
// down.
func isBlocked(state string) bool {
	return state == "listening" || state == "learning" || state == "blocking"
}

// isolationFault reports two ports that may not exchange frames.
func (a *analysis) isolationFault(from, to plug) *fault {
	if from.port == nil || to.port == nil || from.port.Port == nil || to.port.Port == nil {
		return nil
	}
	x, y := from.port, to.port
	at := a.spaceName(from.host)
	f := &fault{cause: path.CauseBridgePortBlocked, ns: from.host, dev: y}
	set := func(setting string) []string {
		return []string{a.commandIn(from.host, "", "bridge link set dev "+quote(f.dev.Name)+" "+setting)}
	}
	switch {
	case x.Index == y.Index && !x.Port.Hairpin:
		f.says = fmt.Sprintf("bridge port %s in %s may not send a frame back out of itself (hairpin is off)",
			x.Name, at)
		f.remedy = set("hairpin on")
	case x.Index != y.Index && x.Port.Isolated && y.Port.Isolated:
		f.says = fmt.Sprintf("bridge ports %s and %s in %s are both isolated", x.Name, y.Name, at)
		f.remedy = set("isolated off")
	case x.Port.Locked:
		f.dev = x
		f.says = fmt.Sprintf("bridge port %s in %s is locked: it takes frames of entered senders only",
			x.Name, at)
		f.remedy = set("locked off")
	default:
		return nil
	}
	return f
}

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
		if f := a.segmentFault(from, to); f != nil {
			if h.NetNS != from.ns && h.NetNS != from.host {
				h = a.sentFrom(e, h) // a flooded copy came to somebody it was not meant for
			}
			return a.faultFinding(e, h, addr, f)
		}
	}
	return nil
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
	case h != nil || e.last == nil || e.deliver != nil || e.answered():
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
		if onPath(x) && (x.Stage == path.StageOutput || x.Stage == path.StagePostrouting || isLookup(x) ||
			x.Stage == path.StageQdisc && x.Bridge == "") {
			found = x
		}
		if x == h {
			break
		}
	}
	return found
}

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
