package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainSubnetOverlap: an address that is somewhere else lies in the subnet of a Docker network, so
// what is for it goes to that network's bridge.
func explainSubnetOverlap(a *analysis, e *end) *finding {
	h := e.at()
	if h == nil || e.deliver != nil {
		return nil
	}
	if e.drop != nil && isInputRoute(e.drop) {
		if s := a.subnetOf(h, h.SrcAddr.Addr()); s != nil && a.cameFromElsewhere(h, s) {
			return a.overlap(e, h, s, h.SrcAddr.Addr(), h.Device)
		}
		return nil
	}
	dst := h.DstAddr.Addr()
	s := a.subnetOf(h, dst)
	if s == nil || !a.wentToBridge(e, h, s) {
		return nil
	}
	if dev := a.cameBy(dst, s); dev != "" {
		return a.overlap(e, h, s, dst, dev)
	}
	if dev := a.otherRoute(h.NetNS, dst, s.Bridge); dev != "" {
		return a.overlap(e, h, s, dst, dev)
	}
	return nil
}

// subnetOf returns the Docker subnet of the host at h that an address lies in although no container of
// that network has it, or nil.
func (a *analysis) subnetOf(h *path.Hop, addr netip.Addr) *Subnet {
	for i := range a.f.Subnets {
		s := &a.f.Subnets[i]
		if s.Bridge == "" || !addr.IsValid() || !s.Prefix.Contains(addr) || !contains(s.HostNetNS, h.NetNS) {
			continue
		}
		for _, x := range s.Taken {
			if x == addr {
				return nil
			}
		}
		return s
	}
	return nil
}

// cameFromElsewhere reports whether a packet came in by a device that is neither the bridge nor a port
// of it.
func (a *analysis) cameFromElsewhere(h *path.Hop, s *Subnet) bool {
	return h.Device != "" && h.Device != s.Bridge && h.Bridge == ""
}

// wentToBridge reports whether the packet was routed to the subnet's bridge.
func (a *analysis) wentToBridge(e *end, h *path.Hop, s *Subnet) bool {
	return string(a.outDevice(e, h)) == s.Bridge
}

// cameBy returns the device by which the asker's packets came in on that host, if the address is the
// asker's and they did not come from the bridge.
func (a *analysis) cameBy(addr netip.Addr, s *Subnet) string {
	for _, p := range a.packets(path.Request) {
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.Action == path.ActionReceive && contains(s.HostNetNS, h.NetNS) && h.SrcAddr.Addr() == addr &&
				a.cameFromElsewhere(h, s) {
				return h.Device
			}
		}
	}
	return ""
}

// otherRoute returns the device of another route to an address than the bridge's, default routes
// aside; "" if there is none.
func (a *analysis) otherRoute(ns uint32, addr netip.Addr, bridge string) string {
	for _, r := range a.space(ns).Table {
		l := a.link(ns, r.Ifindex)
		if l != nil && l.Name != bridge && r.Dst.Bits() > 0 && r.Dst.Contains(addr) {
			return l.Name
		}
	}
	return ""
}

func (a *analysis) overlap(e *end, h *path.Hop, s *Subnet, addr netip.Addr, dev string) *finding {
	return &finding{
		cause: path.CauseSubnetOverlap, where: whereOf(h, e.direction()),
		says: fmt.Sprintf("%s is reached by %s, and %s takes it for one of Docker network %s (%s), so what is for"+
			" it goes to %s", addr, dev, a.place(h), s.Network, s.Prefix, s.Bridge),
		evidence: []string{fmt.Sprintf("no container of network %s has %s", s.Network, addr)},
		remedy: []string{
			a.command(h, "ip route get "+addr.String()),
			fmt.Sprintf("create the network again with a subnet that nothing else uses: docker network create"+
				" --subnet SUBNET %s  # its containers have to be connected again", quote(s.Network)),
			"keep Docker off such subnets: set default-address-pools in /etc/docker/daemon.json",
		},
	}
}
