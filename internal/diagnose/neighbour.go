package diagnose

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// isNeighbourDrop reports whether a drop is for want of the next hop's MAC address. IPv6 gives no
// reason (ndisc_error_report in net/ipv6/ndisc.c), nor does any kernel before 5.17; the function tells.
func isNeighbourDrop(h *path.Hop) bool {
	switch h.Reason {
	case "NEIGH_FAILED", "NEIGH_QUEUEFULL", "NEIGH_DEAD":
		return true
	case "", "NOT_SPECIFIED":
		return h.Function == "neigh_invalidate" || h.Function == "ndisc_error_report" || h.Function == "arp_error_report"
	}
	return false
}

// arpGivesUp is less than the time in which a kernel gives up asking for a MAC address (three
// questions, one second each); an unreachable route fails at once.
const arpGivesUp = 900 * time.Millisecond

// explainNeighbour: nobody answered the question for the next hop's MAC address.
func explainNeighbour(a *analysis, e *end) *finding {
	h := e.drop
	switch {
	case h != nil && !isNeighbourDrop(h):
		return nil
	case h == nil && (e.reset != nil || e.rst != nil || e.held != "" || !a.waitsForMAC(e)):
		return nil
	case h == nil:
		h = e.last
	}
	if explainVirtualIP(a, e) != nil || explainOverlayMisrouted(a, e) != nil || explainOverlayPeer(a, e) != nil {
		return nil // which says so, and why
	}
	hop := a.nextHop(e, h)
	if f := a.ownerUnplugged(e, h, hop); f != nil {
		return f
	}
	f := &finding{cause: path.CauseNeighbourUnresolved, where: whereOf(h, e.direction())}
	f.where.Stage = path.StageNeighbour
	dev := a.outDevice(e, h)
	f.says = fmt.Sprintf("%s got no further than %s: nobody answered %s for %s%s",
		a.subject(e), a.place(h), question(hop), text(hop), dev.on())
	if h.Outer != nil {
		f.evidence = append(f.evidence, fmt.Sprintf("it was on its way to the tunnel endpoint %s",
			h.Outer.Dst))
	}
	if n := a.neighbour(h.NetNS, hop); n != nil {
		f.evidence = append(f.evidence, fmt.Sprintf("the neighbour entry of %s in %s is %s",
			hop, a.place(h), n.State))
	}
	if s, ns := a.lostGateway(hop); s != nil {
		f.says += fmt.Sprintf(", the gateway of network %s, which %s in %s has lost", s.Network, s.Bridge, a.spaceName(ns))
		f.remedy = []string{a.addAddress(ns, s, hop)}
		return f
	}
	if m := a.discoveryDropped(h.NetNS, hop, dev); m != nil {
		a.muteFinding(f, m)
		return f
	}
	f.remedy = []string{a.command(h, "ip neigh show "+text(hop))}
	if dev != "" && hop.Is4() {
		f.remedy = append(f.remedy, a.command(h, fmt.Sprintf("arping -c 3 -I %s %s", dev, hop)))
	}
	f.remedy = append(f.remedy, fmt.Sprintf("check that the owner of %s runs and is connected to the same"+
		" link", text(hop)))
	return f
}

// question names the protocol that asks for the MAC address of addr.
func question(addr netip.Addr) string {
	if addr.Is6() {
		return "neighbour discovery"
	}
	return "ARP"
}

// waitsForMAC reports whether a packet without a drop is known to wait for a MAC address.
func (a *analysis) waitsForMAC(e *end) bool {
	if e.last == nil || e.deliver != nil {
		return false
	}
	switch e.last.Stage {
	case path.StagePostrouting, path.StageNeighbour, path.StageOutput, path.StageRoute:
	default:
		return false
	}
	if n := a.neighbour(e.last.NetNS, a.nextHop(e, e.last)); n != nil {
		return isUnresolved(n.State)
	}
	pr := a.f.Probe
	return pr != nil && pr.Kind == ProbeLocalError && pr.Errno == "EHOSTUNREACH" &&
		pr.RoundTrip >= arpGivesUp && e.direction() == path.Request && e.last.Outer == nil
}

// gaveUpAsking reports whether the packet's own kernel answered it with an ICMP error because nobody
// told a MAC address; the packet's drop follows that error, and may not have been seen yet.
func (a *analysis) gaveUpAsking(e *end) bool {
	if e.drop != nil || e.rst != nil || e.err == nil || !a.waitsForMAC(e) {
		return false
	}
	h := firstHop(e.err)
	return h != nil && h.NetNS != 0 && h.NetNS == e.last.NetNS &&
		a.icmpOf(icmpHop(e.err)) == icmpHostUnreachable
}

func isUnresolved(state string) bool {
	switch strings.ToUpper(state) {
	case "INCOMPLETE", "FAILED":
		return true
	}
	return false
}

// neighbour returns the entry of an address in a namespace, an unresolved one first, or nil.
func (a *analysis) neighbour(ns uint32, addr netip.Addr) *Neighbour {
	var found *Neighbour
	list := a.space(ns).Neighbours
	for i := range list {
		if n := &list[i]; addr.IsValid() && n.Addr == addr && (found == nil || isUnresolved(n.State)) {
			found = n
		}
	}
	return found
}

// nextHop returns the address that had to be resolved at h: the gateway of the packet's last route
// look-up there, or the destination itself. The packet of a tunnel goes to the tunnel's endpoint.
func (a *analysis) nextHop(e *end, h *path.Hop) netip.Addr {
	dst := h.DstAddr.Addr()
	if h.Outer != nil {
		if ap, err := netip.ParseAddrPort(h.Outer.Dst); err == nil {
			dst = ap.Addr()
		}
	}
	if e.pkt != nil && h.Outer == nil {
		if gw := lookedUp(e.pkt, h.NetNS); gw.IsValid() {
			return gw
		}
	}
	for _, r := range a.space(h.NetNS).Routes {
		if r.Dst == dst && r.Gateway.IsValid() {
			return r.Gateway
		}
	}
	if h.Outer == nil {
		for _, p := range a.packets(e.direction()) { // a repeated packet takes the route that the first one was given
			if gw := lookedUp(p, h.NetNS); gw.IsValid() {
				return gw
			}
		}
	}
	return dst
}

// lookedUp returns the gateway of the last route look-up of a packet in a namespace; invalid if none was
// seen, or the route was on-link.
func lookedUp(p *path.Packet, ns uint32) netip.Addr {
	for i := len(p.Hops) - 1; i >= 0; i-- {
		if r := &p.Hops[i]; isLookup(r) && r.NetNS == ns && r.GatewayAddr.IsValid() {
			return r.GatewayAddr
		}
	}
	return netip.Addr{}
}

// device is the name of a device; "" if unknown.
type device string

// on says " on eth0", or "".
func (d device) on() string {
	if d == "" {
		return ""
	}
	return " on " + string(d)
}

// outDevice returns the device by which the packet had to leave at h, or that of h itself.
func (a *analysis) outDevice(e *end, h *path.Hop) device {
	if d := a.routedTo(e, h); d != "" {
		return d
	}
	return device(h.Device)
}

// routedTo returns the device that routing chose for the packet in the namespace of h: as a netfilter
// hook was told, or as a look-up of the packet found; "" if neither was seen.
func (a *analysis) routedTo(e *end, h *path.Hop) device {
	if out := a.outDeviceOf(h); out != "" || e.pkt == nil {
		return device(out)
	}
	for i := len(e.pkt.Hops) - 1; i >= 0; i-- {
		r := &e.pkt.Hops[i]
		if r.NetNS != h.NetNS {
			continue
		}
		if out := a.outDeviceOf(r); out != "" {
			return device(out)
		}
		if isLookup(r) && r.Device != "" {
			return device(r.Device)
		}
	}
	return ""
}

// isLookup reports whether the hop is a route look-up rather than an end in the routing code.
func isLookup(h *path.Hop) bool {
	return h.Stage == path.StageRoute && h.Action != path.ActionDrop && h.Action != path.ActionReject
}
