package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainForwardingOff: the packet had to be forwarded where forwarding is switched off. ip_error
// (net/ipv4/route.c) gives this reason then; the setting settles it.
func explainForwardingOff(a *analysis, e *end) *finding {
	if e.drop == nil {
		return nil
	}
	h := e.drop
	global, device := "net.ipv4.ip_forward", "net.ipv4.conf."+h.Device+".forwarding"
	v4 := h.Function == "ip_error" && h.Reason == "IP_INADDRERRORS" || h.Reason == "" && h.Function == "ip_error"
	v6 := h.Function == "ip6_forward" && a.isV6(h)
	if v6 {
		global, device = "net.ipv6.conf.all.forwarding", "net.ipv6.conf."+h.Device+".forwarding"
	}
	if !v4 && !v6 {
		return nil
	}
	off := ""
	for _, name := range []string{device, global} {
		if n, ok := a.sysctl(h.NetNS, name); ok && n == 0 {
			off = name
		}
	}
	if off == "" {
		return nil
	}
	effect := "  # from then on it forwards between all its devices; a firewall limits that"
	if off == device {
		effect = "  # from then on it forwards what comes in on " + h.Device + "; a firewall limits that"
	}
	return &finding{
		cause: path.CauseForwardingOff,
		says: fmt.Sprintf("%s had to be forwarded by %s, where forwarding is off (%s = 0)",
			a.subject(e), a.place(h), off),
		remedy: []string{a.command(h, "sysctl -w "+off+"=1") + effect},
	}
}

// explainReversePath: the source address is routed by another device than the one it came in on.
func explainReversePath(a *analysis, e *end) *finding {
	if e.drop == nil || e.drop.Reason != "IP_RPFILTER" && !a.failsReversePath(e.drop) {
		return nil
	}
	h := e.drop
	dev := h.Device
	if dev == "" {
		dev = "all"
	}
	name := "net.ipv4.conf." + dev + ".rp_filter"
	src := h.SrcAddr.Addr()
	f := &finding{
		cause: path.CauseReversePathFilter,
		says: fmt.Sprintf("%s was dropped in %s%s by the reverse path filter: source address %s is not"+
			" routed by that device", a.subject(e), a.place(h), onDevice(h), text(src)),
		remedy: []string{
			a.command(h, "ip route get "+text(src)) + "  # shows the device that the source is routed by",
			a.command(h, "sysctl -w "+name+"=2") +
				"  # loose mode: then a source routed by any device is accepted on " + dev,
		},
	}
	for _, r := range a.space(h.NetNS).Routes {
		if r.Dst == src && r.Device != "" && r.Device != h.Device {
			f.evidence = append(f.evidence, fmt.Sprintf("%s is routed by %s in %s", text(src), r.Device, a.place(h)))
		}
	}
	for _, n := range []string{name, "net.ipv4.conf.all.rp_filter"} {
		if v, ok := a.sysctl(h.NetNS, n); ok {
			f.evidence = append(f.evidence, fmt.Sprintf("%s is %d in %s", n, v, a.place(h)))
		}
	}
	return f
}

// failsReversePath reports for kernels that give no reason (before 5.17) that the filter is on where a
// packet was dropped, and that its source is not routed by that device.
func (a *analysis) failsReversePath(h *path.Hop) bool {
	if h.Reason != "" || !isInputRoute(h) {
		return false
	}
	dev, _ := a.sysctl(h.NetNS, "net.ipv4.conf."+h.Device+".rp_filter")
	all, _ := a.sysctl(h.NetNS, "net.ipv4.conf.all.rp_filter")
	mode := max(dev, all) // the stricter would be 1; the kernel takes the larger (IN_DEV_RPFILTER)
	for _, r := range a.space(h.NetNS).Routes {
		if r.Dst == h.SrcAddr.Addr() && (mode == 1 && r.Device != h.Device || mode == 2 && r.Err != "") {
			return true
		}
	}
	return false
}

// text writes an address for a sentence or a command.
func text(addr netip.Addr) string {
	if !addr.IsValid() {
		return "of the packet"
	}
	return addr.String()
}

// noRoute is a place without a route.
type noRoute struct {
	h     *path.Hop
	dst   netip.Addr
	reply bool // it is the answer that has no route
	// kind is that of the route that says so: unreachable, prohibit or blackhole; "" if there is none.
	kind string
}

// isNoRouteDrop reports whether a packet was dropped for want of a route. ip_error
// (net/ipv4/route.c) names a reason only where there is no route at all, not where there is one of
// kind unreachable, prohibit or blackhole; before Linux 5.17 it never does.
func isNoRouteDrop(h *path.Hop) bool {
	switch h.Reason {
	case "IP_INNOROUTES", "IP_OUTNOROUTES":
		return true
	case "", "NOT_SPECIFIED":
		return h.Function == "ip_error" || h.Function == "ip6_pkt_discard" || h.Function == "ip6_pkt_prohibit"
	}
	return false
}

// lacksRoute reports for kernels that give no reason that there is no route for a packet: without
// forwarding they drop it in the same place.
func (a *analysis) lacksRoute(h *path.Hop) bool {
	return a.refusingRoute(h) != "" || a.routeFails(h.NetNS, h.DstAddr.Addr())
}

// refusingRoute returns the kind of the most specific route for where a packet had to go, if that is
// one that refuses it; "" if not.
func (a *analysis) refusingRoute(h *path.Hop) string {
	return a.refusal(h.NetNS, h.DstAddr.Addr()).Type
}

// refusal returns the most specific route of a namespace for an address, if that refuses it; the zero
// value if not.
func (a *analysis) refusal(ns uint32, dst netip.Addr) TableRoute {
	var best TableRoute
	for _, r := range a.space(ns).Table {
		if r.Dst.Contains(dst) && (best.Type == "" || r.Dst.Bits() > best.Dst.Bits()) {
			best = r
		}
	}
	switch best.Type {
	case "unreachable", "prohibit", "blackhole":
		return best
	}
	return TableRoute{}
}

// explainNoRoute: a namespace has no route to where the packet, or the answer to it, had to go.
func explainNoRoute(a *analysis, e *end) *finding {
	nr := a.findNoRoute(e)
	if nr == nil {
		return nil
	}
	at := a.place(nr.h)
	f := &finding{cause: path.CauseNoRoute, where: whereOf(nr.h, e.direction()),
		remedy: a.routeRemedy(nr)}
	f.where.Stage = path.StageRoute
	if nr.reply {
		f.outcome = path.Dropped
		f.where.Direction = path.Reply
		f.where.Device = ""
		f.says = fmt.Sprintf("the reply from %s never left: %s has no route to %s",
			a.target(), at, text(nr.dst))
		if nr.kind != "" {
			f.says = fmt.Sprintf("the reply from %s never left: %s has a route of kind %s to %s", a.target(), at, nr.kind,
				text(nr.dst))
		}
		if a.hasNoDefault(nr.h.NetNS) {
			f.evidence = append(f.evidence, at+" has no default route")
		}
		return f
	}
	f.says = fmt.Sprintf("%s ended in %s, which has no route to %s", a.subject(e), at, text(nr.dst))
	if nr.kind != "" {
		f.says = fmt.Sprintf("%s ended in %s, which has a route of kind %s to %s", a.subject(e), at, nr.kind,
			text(nr.dst))
	}
	return f
}

func (a *analysis) findNoRoute(e *end) *noRoute {
	if h := a.wayBackFails(e); h != nil {
		return &noRoute{h: h, dst: h.DstAddr.Addr(), reply: true}
	}
	switch {
	case e.drop != nil:
		if !isNoRouteDrop(e.drop) || e.drop.Reason == "" && !a.lacksRoute(e.drop) {
			return nil
		}
		return &noRoute{h: e.drop, dst: e.drop.DstAddr.Addr(), kind: a.refusingRoute(e.drop)}
	case e.icmp != nil && e.hook() == "" && a.icmpOf(e.icmp) == icmpNetUnreachable:
		return &noRoute{h: e.icmp, dst: e.icmp.DstAddr.Addr()}
	case e.icmp != nil || e.reset != nil || e.last == nil || e.held != "":
		return nil
	case e.last.Stage == path.StageRoute && isNoRouteError(e.last.Error):
		return &noRoute{h: e.last, dst: e.last.DstAddr.Addr(), reply: e.direction() == path.Request && a.isWayBack(e.last)}
	}
	return a.noRouteBack(e)
}

// wayBackFails returns the failed look-up of a route for the answer to a packet that came to its end in a
// stack: whatever the stack had to say, the asker did not get it. Nil if there is none.
func (a *analysis) wayBackFails(e *end) *path.Hop {
	if e.direction() != path.Request || e.pkt == nil || e.rst != nil || e.err != nil || a.probeRefused() {
		return nil
	}
	at := e.at()
	for i := range e.pkt.Hops {
		h := &e.pkt.Hops[i]
		if at != nil && h.Stage == path.StageRoute && a.isWayBack(h) && sameSpace(h, at) && isNoRouteError(h.Error) {
			return h
		}
	}
	return nil
}

// isWayBack reports whether a look-up made for a request was for its answer.
func (a *analysis) isWayBack(h *path.Hop) bool {
	dst := h.DstAddr.Addr()
	return h.Direction == path.Reply || dst.IsValid() && (dst == a.p.Source.Addr() || dst == a.p.Client.Addr())
}

// noRouteBack reports that the request arrived and that the routes read afterwards lack one for the
// answer.
func (a *analysis) noRouteBack(e *end) *noRoute {
	h := a.reached(e)
	if h == nil || e.phase != phaseRequest || !a.p.Source.IsValid() {
		return nil
	}
	for _, r := range a.space(h.NetNS).Routes {
		kind := a.refusal(h.NetNS, r.Dst).Type // the look-up itself fails with EINVAL or EACCES, too
		if r.Dst == a.p.Source.Addr() && r.Err != "" && (isNoRouteError(r.Err) || kind != "") {
			return &noRoute{h: h, dst: r.Dst, reply: true, kind: kind}
		}
	}
	return nil
}

// isNoRouteError recognises the errors of a route look-up that mean "there is none".
func isNoRouteError(s string) bool {
	s = strings.ToLower(s)
	return containsAny(s, []string{"no route", "unreachable", "enetunreach", "ehostunreach"})
}

// hasNoDefault reports whether a look-up of the unspecified address, which asks for the default
// route, is known to have failed.
func (a *analysis) hasNoDefault(ns uint32) bool {
	for _, r := range a.space(ns).Routes {
		if r.Dst.IsUnspecified() && r.Err != "" {
			return true
		}
	}
	return false
}

// reached returns the observation that the request arrived at the stack it was meant for, or nil.
func (a *analysis) reached(e *end) *path.Hop {
	if e.direction() != path.Request || e.last == nil || e.drop != nil || e.held != "" {
		return nil
	}
	if e.deliver != nil {
		return e.deliver
	}
	if e.last.Outer != nil {
		return nil // what arrived is the tunnel's packet
	}
	in, known := a.inTarget(e.last.NetNS)
	switch e.last.Stage {
	case path.StageInput, path.StageTCP, path.StageUDP, path.StageICMP, path.StageSocket:
		if e.last == firstHop(e.pkt) || known && !in {
			return nil // the sender's own
		}
		return e.last
	case path.StageRoute:
		if in || e.last.Direction == path.Reply {
			return e.last
		}
	case path.StageDevice, path.StagePrerouting:
		if (in || !known && a.isOwn(e.last)) && e.last.Action != path.ActionTransmit && e.last.Action != path.ActionQueue {
			return e.last
		}
	}
	return nil
}

// isOwn reports whether a packet had the address of a device of the namespace it was in, which settles
// that it was meant for the stack there. Without functions in its hooks nothing else shows it.
func (a *analysis) isOwn(h *path.Hop) bool {
	return a.carriedBy(h.NetNS, h.DstAddr.Addr()) != nil
}

// routeRemedy says how to look at the routes and how to restore a container's default route.
func (a *analysis) routeRemedy(nr *noRoute) []string {
	ip := family("ip", nr.dst)
	cmds := []string{a.command(nr.h, ip+" route")}
	if r := a.refusal(nr.h.NetNS, nr.dst); r.Type != "" {
		return append(cmds, a.command(nr.h, fmt.Sprintf("%s route del %s %s%s", ip, r.Type, r.Dst, table(r.Table)))+
			"  # find out first who set it, and what for")
	}
	switch h := nr.h; {
	case !nr.dst.IsValid():
	case h.Action == path.ActionDrop && h.Device != "" && h.SrcAddr.IsValid() && a.routeSucceeds(h.NetNS, nr.dst):
		// There is a route, for others: a rule sends packets like this one to another table.
		get := fmt.Sprintf("%s route get %s from %s iif %s", ip, nr.dst, h.SrcAddr.Addr(), quote(h.Device))
		if h.HasMark && h.Mark != 0 {
			get += fmt.Sprintf(" mark 0x%x", h.Mark)
		}
		return append(cmds, a.command(h, ip+" rule"), a.command(h, get))
	default:
		cmds = append(cmds, a.command(h, ip+" route get "+text(nr.dst)))
	}
	in, _ := a.inTarget(nr.h.NetNS)
	if gw := a.gateway(nr); gw.IsValid() {
		cmds = append(cmds, a.command(nr.h, ip+" route add default via "+gw.String())+
			"  # lasts until the container is restarted")
	} else if in && a.f.Target.Container != "" {
		cmds = append(cmds, "docker restart "+quote(a.f.Target.Container)+
			"  # Docker sets its routes again; open connections end")
	}
	return cmds
}

// table names a routing table that is not the main one, for ip route.
func table(n uint32) string {
	if n == 0 || n == tableMain {
		return ""
	}
	return fmt.Sprintf(" table %d", n)
}

// routeSucceeds reports whether the look-up of a route to dst is known to find one.
func (a *analysis) routeSucceeds(ns uint32, dst netip.Addr) bool {
	for _, r := range a.space(ns).Routes {
		if r.Dst == dst && r.Err == "" {
			return true
		}
	}
	return false
}

// gateway returns the default gateway that a network of the container at nr gives; invalid if none is
// known.
func (a *analysis) gateway(nr *noRoute) netip.Addr {
	for _, ep := range []*Endpoint{&a.f.Target, &a.f.Source} {
		if !slices.Contains(ep.NetNS, nr.h.NetNS) {
			continue
		}
		for _, n := range ep.Networks {
			for _, gw := range n.Gateways {
				if gw.Is6() == nr.dst.Is6() {
					return gw
				}
			}
		}
	}
	return netip.Addr{}
}
