package mtu

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// What VXLAN puts around a packet: the inner Ethernet header and the outer IP, UDP and VXLAN headers
// (RFC 7348), bytes.
const (
	vxlanOverIPv4 = 14 + ipv4Header + 8 + 8
	vxlanOverIPv6 = 14 + 40 + 8 + 8
	ipv4Header    = 20
)

// What IPsec puts around the UDP packet of an encrypted overlay, in transport mode: SPI and sequence number,
// then, with rfc4106(gcm(aes)) and the check value of 64 bits that Docker asks for, initialisation vector and
// check value; pad length and next header come before that, and pad it all to words (RFC 4303, RFC 4106).
const (
	espAround  = 8 + 8 + 8
	espTrailer = 2
	espAlign   = 4
)

// Links lists the devices that a packet passed, in order.
func Links(p *path.Packet) []path.MTULink {
	var out []path.MTULink
	if p == nil {
		return nil
	}
	for i := range p.Hops {
		h := &p.Hops[i]
		// What is encrypted is not seen to leave: it was on its way out of that device.
		sealed := h.Stage == path.StageXfrm && h.Action == path.ActionEncapsulate && h.SPI != 0 && h.Outer != nil
		passed := h.Stage == path.StageDevice && (h.Action == path.ActionTransmit || h.Action == path.ActionReceive)
		if !passed && !sealed || h.Copy || h.Noise || h.Device == "" {
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
		if sealed && l.MTU > 0 {
			l.Carries = sealedCarries(l.MTU, h.Outer)
			l.Overhead = l.MTU - l.Carries
		}
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

// sealedCarries is the largest packet that fits into an encrypted tunnel's packet of a device with that MTU.
func sealedCarries(mtu int, o *path.Outer) int {
	const vxlan = vxlanOverIPv4 - ipv4Header
	header := overhead(o) - vxlan
	return max(0, (mtu-header-espAround)&^(espAlign-1)-espTrailer-vxlan)
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
