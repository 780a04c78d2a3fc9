package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainLostSubnet: the host has lost the address, the route or the bridge by which it reaches a Docker
// network. The packet then takes another route, or none: whatever happened to it is a consequence.
func explainLostSubnet(a *analysis, e *end) *finding {
	if e.pkt == nil || e.deliver != nil || e.reset != nil {
		return nil
	}
	for i := range e.pkt.Hops {
		h := &e.pkt.Hops[i]
		if !onPath(h) || h.NetNS == 0 || !h.DstAddr.IsValid() || !a.left(e, h) {
			continue
		}
		out := a.routedTo(e, h)
		if out == "" && (e.drop == nil || e.drop.NetNS != h.NetNS || !isNoRouteDrop(e.drop)) {
			continue
		}
		if s := a.lostSubnet(h.NetNS, h.DstAddr.Addr()); s != nil && string(out) != s.Bridge && !a.onBridge(h, s) {
			return a.lostSubnetFinding(e, h, s, out)
		}
	}
	return nil
}

// lostSubnet returns the Docker subnet of a host that a container's address is in and that the host has no
// route to; nil if there is none, or the routes were not read. A bridge that is down is another matter.
func (a *analysis) lostSubnet(ns uint32, addr netip.Addr) *Subnet {
	n := a.space(ns)
	if n.Table == nil || len(n.Links) == 0 {
		return nil
	}
	routed := slices.ContainsFunc(n.Table, func(r TableRoute) bool { return r.Dst.Bits() > 0 && r.Dst.Contains(addr) })
	if routed {
		return nil
	}
	for i := range a.f.Subnets {
		s := &a.f.Subnets[i]
		if s.Bridge == "" || !slices.Contains(s.HostNetNS, ns) || !s.Prefix.Contains(addr) || !slices.Contains(s.Taken, addr) {
			continue
		}
		if l := a.linkNamed(ns, s.Bridge); l == nil || l.Up {
			return s
		}
	}
	return nil
}

// onBridge reports whether h is on the subnet's own bridge, where nothing is routed.
func (a *analysis) onBridge(h *path.Hop, s *Subnet) bool {
	return h.Device == s.Bridge || h.Bridge == s.Bridge
}

func (a *analysis) lostSubnetFinding(e *end, h *path.Hop, s *Subnet, out device) *finding {
	at := *h
	at.Device, at.Stage, at.Function, at.Reason = string(out), path.StageRoute, "", ""
	f := &finding{cause: path.CauseNoRoute, where: whereOf(&at, e.direction())}
	f.says = fmt.Sprintf("%s has no way to %s, since %s has no route to Docker network %s (%s)", a.subject(e),
		h.DstAddr.Addr(), a.place(h), s.Network, s.Prefix)
	if out != "" {
		f.evidence = append(f.evidence, fmt.Sprintf("%s was to leave %s by %s instead", a.subject(e), a.place(h), out))
	}
	gw, l := a.gatewayOf(s), a.linkNamed(h.NetNS, s.Bridge)
	switch {
	case l == nil:
		f.evidence = append(f.evidence, fmt.Sprintf("there is no device %s in %s, the bridge of that network", s.Bridge, a.place(h)))
		f.remedy = []string{"systemctl restart docker  # makes the bridge again; restarts the containers unless live-restore is on"}
	case !gw.IsValid():
		f.remedy = []string{a.command(h, fmt.Sprintf("ip route add %s dev %s", s.Prefix, quote(s.Bridge)))}
	case !l.carries(gw):
		f.evidence = append(f.evidence, fmt.Sprintf("%s in %s does not have %s, the gateway of that network", s.Bridge, a.place(h), gw))
		f.remedy = []string{a.addAddress(h.NetNS, s, gw)}
	default:
		f.remedy = []string{a.command(h, fmt.Sprintf("ip route add %s dev %s src %s", s.Prefix, quote(s.Bridge), gw))}
	}
	return f
}

// addAddress gives a bridge its address back.
func (a *analysis) addAddress(ns uint32, s *Subnet, gw netip.Addr) string {
	return a.commandIn(ns, "", fmt.Sprintf("ip address add %s/%d dev %s", gw, s.Prefix.Bits(), quote(s.Bridge)))
}

// gatewayOf returns the address that a Docker subnet gives its containers as gateway, the host's own; it
// is invalid if none of the two ends is on that network.
func (a *analysis) gatewayOf(s *Subnet) netip.Addr {
	for _, ep := range []*Endpoint{&a.f.Target, &a.f.Source} {
		for _, n := range ep.Networks {
			for _, gw := range n.Gateways {
				if n.Name == s.Network && s.Prefix.Contains(gw) {
					return gw
				}
			}
		}
	}
	return netip.Addr{}
}

// lostGateway returns the Docker subnet of which addr is the gateway, and the host whose bridge does not
// have that address any more; nil if that is not known.
func (a *analysis) lostGateway(addr netip.Addr) (*Subnet, uint32) {
	for i := range a.f.Subnets {
		s := &a.f.Subnets[i]
		if s.Bridge == "" || !s.Prefix.Contains(addr) || a.gatewayOf(s) != addr {
			continue
		}
		for _, ns := range s.HostNetNS {
			if l := a.linkNamed(ns, s.Bridge); l != nil && l.Up && !l.carries(addr) {
				return s, ns
			}
		}
	}
	return nil, 0
}
