package mtu

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// What VXLAN puts around a packet: the inner Ethernet header and the outer IP, UDP and VXLAN headers
// (RFC 7348), bytes.
const (
	vxlanOverIPv4 = 14 + 20 + 8 + 8
	vxlanOverIPv6 = 14 + 40 + 8 + 8
)

// Links lists the devices that a packet passed, in order.
func Links(p *path.Packet) []path.MTULink {
	var out []path.MTULink
	if p == nil {
		return nil
	}
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.Stage != path.StageDevice || h.Copy || h.Noise || h.Device == "" ||
			h.Action != path.ActionTransmit && h.Action != path.ActionReceive {
			continue
		}
		if n := len(out); n > 0 && out[n-1].NetNS == h.NetNS && out[n-1].Device == h.Device {
			continue
		}
		l := path.MTULink{
			Host: h.Host, Namespace: h.Namespace, NetNS: h.NetNS, Container: h.Container, Network: h.Network,
			Device: h.Device, DeviceKind: h.DeviceKind, MTU: int(h.DeviceMTU), Outer: h.Outer, Ifindex: h.Ifindex,
			Overhead: overhead(h.Outer),
		}
		l.Carries = max(0, l.MTU-l.Overhead)
		out = append(out, l)
	}
	return out
}

// overhead is what a tunnel adds to a packet, bytes.
func overhead(o *path.Outer) int {
	if o == nil {
		return 0
	}
	if a, err := netip.ParseAddrPort(o.Src); err == nil && a.Addr().Is6() && !a.Addr().Is4In6() {
		return vxlanOverIPv6
	}
	return vxlanOverIPv4
}

// Declared is the least that the links declare to carry; 0 if none says anything.
func Declared(links []path.MTULink) int {
	least := 0
	for _, l := range links {
		if l.Carries > 0 && (least == 0 || l.Carries < least) {
			least = l.Carries
		}
	}
	return least
}

// Bounds are the sizes worth trying: what each link carries and what the route says.
func Bounds(m *path.MTU) []int {
	var out []int
	for _, l := range m.Links {
		if l.Carries > 0 {
			out = append(out, l.Carries)
		}
	}
	for _, n := range []int{m.CachedMTU, m.RouteMTU} {
		if n > 0 {
			out = append(out, n)
		}
	}
	return out
}
