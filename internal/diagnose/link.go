package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainLinkDown: the kernel discarded the packet because a device that it needed is down. The
// reasons alone also fit other faults, so the device has to be known to be down.
func explainLinkDown(a *analysis, e *end) *finding {
	h := e.drop
	if h == nil {
		return nil
	}
	var down *Link
	switch h.Reason {
	case "NO_TX_TARGET":
		down = a.downPort(h)
	case "QDISC_DROP", "DEV_READY", "DEV_HDR", "NOT_SPECIFIED", "":
		down = a.downDevice(h)
	case "BRIDGE_INGRESS_STP_STATE":
		down = a.downBridge(h)
	}
	if down == nil {
		return nil
	}
	state := "is down"
	if down.Up {
		state = "has no carrier, its other end is down"
	}
	f := &finding{
		cause: path.CauseLinkDown,
		says: fmt.Sprintf("%s was dropped in %s because %s %s",
			a.subject(e), a.place(h), down.Name, state),
		where: whereOf(h, e.direction()),
		evidence: []string{fmt.Sprintf("device %s in %s is up: %t, carrier: %t",
			down.Name, a.place(h), down.Up, down.Carrier)},
		remedy: a.raise(h, down),
	}
	f.where.Device = down.Name
	return f
}

// ownerUnplugged explains an address that nobody answers for by the target, which has it, being cut
// off: every device of it is down or has no carrier. It returns nil if that is not known.
func (a *analysis) ownerUnplugged(e *end, h *path.Hop, addr netip.Addr) *finding {
	t := &a.f.Target
	owns := slices.ContainsFunc(t.Networks, func(n Network) bool { return slices.Contains(n.Addrs, addr) })
	if !owns || len(t.NetNS) != 1 || t.NetNS[0] == h.NetNS {
		return nil
	}
	var down *Link
	links := a.space(t.NetNS[0]).Links
	for i := range links {
		switch l := &links[i]; {
		case l.Kind == "loopback" || l.Name == "lo":
		case !l.isDown():
			return nil
		case down == nil:
			down = l
		}
	}
	if down == nil {
		return nil
	}
	at := &path.Hop{NetNS: t.NetNS[0], Container: t.Container, Device: down.Name, Stage: path.StageDevice}
	state := "is down"
	if peer := a.link(down.PeerNetNS, down.PeerIndex); down.Up && peer != nil {
		at = &path.Hop{NetNS: down.PeerNetNS, Namespace: a.spaceLabel(down.PeerNetNS), Device: peer.Name, Stage: path.StageDevice}
		down = peer
	} else if down.Up {
		state = "has no carrier, its other end is down"
	}
	return &finding{
		cause: path.CauseLinkDown,
		says: fmt.Sprintf("%s got no further than %s, because %s in %s, by which %s is reached, %s",
			a.subject(e), a.place(h), down.Name, a.place(at), a.target(), state),
		where: whereOf(at, e.direction()),
		evidence: []string{fmt.Sprintf("device %s in %s is up: %t, carrier: %t", down.Name, a.place(at), down.Up, down.Carrier),
			fmt.Sprintf("nobody in reach answers for %s", addr)},
		remedy: a.raise(at, down),
	}
}

// isDown reports whether a device cannot carry packets.
func (l *Link) isDown() bool { return !l.Up || !l.Carrier }

// downDevice returns the device that the drop was on if it is known to be down.
func (a *analysis) downDevice(h *path.Hop) *Link {
	l := a.link(h.NetNS, h.Ifindex)
	if l == nil {
		l = a.linkNamed(h.NetNS, h.Device)
	}
	if l == nil || !l.isDown() || !isDeviceFunction(h) {
		return nil
	}
	return l
}

// isDeviceFunction reports whether the drop was made by the code that hands packets to devices. With
// a reason that says so the function does not matter.
func isDeviceFunction(h *path.Hop) bool {
	switch h.Function {
	case "__dev_queue_xmit", "dev_queue_xmit", "__dev_xmit_skb", "noop_enqueue", "enqueue_to_backlog",
		"__netif_receive_skb_core", "dev_hard_start_xmit", "__dev_forward_skb2", "netif_rx_internal":
		return true
	}
	return h.Reason == "DEV_READY" || h.Reason == "QDISC_DROP"
}

// downBridge returns the bridge of the port that the drop was on if it is known to be down. A port
// that is blocked by the spanning tree has the same reason.
func (a *analysis) downBridge(h *path.Hop) *Link {
	port := a.port(h)
	if port == nil {
		return nil
	}
	if br := a.link(h.NetNS, port.Master); br != nil && !br.Up {
		return br
	}
	return nil
}

// port returns the bridge port that the drop was on, or nil.
func (a *analysis) port(h *path.Hop) *Link {
	l := a.link(h.NetNS, h.Ifindex)
	if l == nil {
		l = a.linkNamed(h.NetNS, h.Device)
	}
	if l == nil || l.Master == 0 {
		return nil
	}
	return l
}

// downPort returns the port that a bridge had to forward to and that is down: the one that leads to
// the target, or any if no other port of the bridge is usable.
func (a *analysis) downPort(h *path.Hop) *Link {
	in := a.port(h)
	if in == nil {
		return nil
	}
	var down *Link
	usable := false
	links := a.space(h.NetNS).Links
	for i := range links {
		l := &links[i]
		if l.Master != in.Master || l.Index == in.Index {
			continue
		}
		if l.PeerNetNS != 0 && slices.Contains(a.f.Target.NetNS, l.PeerNetNS) {
			if l.isDown() {
				return l
			}
			return nil
		}
		if l.isDown() {
			down = l
		} else {
			usable = true
		}
	}
	if usable {
		return nil
	}
	return down
}

// raise says how to bring a device up: the device itself, or its other end.
func (a *analysis) raise(h *path.Hop, l *Link) []string {
	set := func(ns uint32, container, name string) string {
		return a.commandIn(ns, container, "ip link set "+quote(name)+" up")
	}
	if !l.Up {
		return append([]string{set(h.NetNS, h.Container, l.Name)}, a.defaultRoute(h, l)...)
	}
	if peer := a.link(l.PeerNetNS, l.PeerIndex); peer != nil {
		return []string{set(l.PeerNetNS, "", peer.Name)}
	}
	return []string{a.command(h, "ip -d link show "+quote(l.Name)),
		"bring up the other end of " + l.Name}
}

// defaultRoute puts back the default route of a container, which went when the device was set down; nil
// if l is no device of a container that leads to its gateway.
func (a *analysis) defaultRoute(h *path.Hop, l *Link) []string {
	for _, p := range l.Addrs {
		nr := &noRoute{h: h, dst: p.Addr()}
		if gw := a.gateway(nr); gw.IsValid() && p.Contains(gw) {
			return []string{a.command(h, "ip route add default via "+gw.String()) + "  # it went with the device"}
		}
	}
	return nil
}
