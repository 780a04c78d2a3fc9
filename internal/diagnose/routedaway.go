package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// tableMain is the routing table in which Docker's networks have their routes (RT_TABLE_MAIN,
// include/uapi/linux/rtnetlink.h).
const tableMain = 254

// explainRoutedAway: the host has a route to a Docker network, and another one, more specific or of another
// table, took the packet elsewhere: whatever happened to it there is a consequence.
func explainRoutedAway(a *analysis, e *end) *finding {
	if e.pkt == nil || e.deliver != nil || e.reset != nil {
		return nil
	}
	for i := range e.pkt.Hops {
		h := &e.pkt.Hops[i]
		if !onPath(h) || h.NetNS == 0 || !h.DstAddr.IsValid() || !a.left(e, h) || h.Outer != nil {
			continue
		}
		s, out := a.networkOf(h), a.linkNamed(h.NetNS, string(a.routedTo(e, h)))
		if s == nil || out == nil || out.Name == s.Bridge || out.Kind == "loopback" || a.onBridge(h, s) {
			continue
		}
		if r := a.takingRoute(h, s, out.Index); r != nil {
			return a.routedAway(e, h, s, r)
		}
	}
	return nil
}

// networkOf returns the Docker subnet with a bridge on the host of h of which a container has the
// destination; nil if there is none.
func (a *analysis) networkOf(h *path.Hop) *Subnet {
	for i := range a.f.Subnets {
		s := &a.f.Subnets[i]
		if s.Bridge != "" && slices.Contains(s.HostNetNS, h.NetNS) && slices.Contains(s.Taken, h.DstAddr.Addr()) {
			return s
		}
	}
	return nil
}

// takingRoute returns the route that took a packet for a Docker subnet to another device; nil if the tables
// do not have one, or lack that to the subnet's bridge.
func (a *analysis) takingRoute(h *path.Hop, s *Subnet, out uint32) *TableRoute {
	bridge := a.linkNamed(h.NetNS, s.Bridge)
	if bridge == nil || !bridge.Up {
		return nil
	}
	table, dst := a.space(h.NetNS).Table, h.DstAddr.Addr()
	own := -1
	for i := range table {
		if r := &table[i]; r.Table == tableMain && r.Ifindex == bridge.Index && r.Dst.Contains(dst) {
			own = max(own, r.Dst.Bits())
		}
	}
	var took *TableRoute
	for i := range table {
		r := &table[i]
		if own < 0 || r.Ifindex != out || !r.Dst.Contains(dst) || r.Table == tableMain && r.Dst.Bits() <= own {
			continue
		}
		if took == nil || r.Table == tableMain && took.Table != tableMain {
			took = r
		}
	}
	return took
}

func (a *analysis) routedAway(e *end, h *path.Hop, s *Subnet, r *TableRoute) *finding {
	out := a.link(h.NetNS, r.Ifindex).Name
	at := *h
	at.Device, at.Stage, at.Function, at.Reason = out, path.StageRoute, "", ""
	f := &finding{cause: path.CauseSubnetOverlap, where: whereOf(&at, e.direction())}
	f.says = fmt.Sprintf("%s was routed to %s in %s and not to %s, the bridge of network %s (%s)", a.subject(e), out,
		a.place(h), s.Bridge, s.Network, s.Prefix)
	if r.Table != tableMain {
		f.cause = path.CauseNoRoute
		f.says += fmt.Sprintf(": a rule of policy routing had table %d asked, which has no route to that network", r.Table)
		if h.HasMark && h.Mark != 0 {
			f.evidence = append(f.evidence, fmt.Sprintf("it carried the mark 0x%x", h.Mark))
		}
		f.remedy = []string{a.command(h, family("ip rule", s.Prefix.Addr())),
			a.command(h, fmt.Sprintf("%s add to %s lookup main priority 1", family("ip rule", s.Prefix.Addr()), s.Prefix)) +
				"  # before the other rules; not kept over a restart"}
		return f
	}
	f.says += fmt.Sprintf(": the route to %s is more specific", r.Dst)
	spec := r.Dst.String()
	if r.Gateway.IsValid() {
		spec += " via " + r.Gateway.String()
	}
	f.remedy = append([]string{a.command(h, fmt.Sprintf("%s del %s dev %s", family("ip route", r.Dst.Addr()), spec, quote(out))) +
		"  # if nothing beyond it is needed; else:"}, a.renumber(s)...)
	return f
}

// family is a command of ip(8) for the family of an address.
func family(command string, addr netip.Addr) string {
	if addr.Is6() {
		return "ip -6" + command[len("ip"):]
	}
	return command
}
