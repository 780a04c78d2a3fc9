package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

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
	if f := a.overlapInside(e, h, dst); f != nil {
		return f
	}
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
		if s.Bridge == "" || !addr.IsValid() || !s.Prefix.Contains(addr) || !slices.Contains(s.HostNetNS, h.NetNS) {
			continue
		}
		if slices.Contains(s.Taken, addr) {
			return nil
		}
		return s
	}
	return nil
}

// overlapInside explains that a container takes an address that is elsewhere for one of its own network,
// and so asks for it on its own link.
func (a *analysis) overlapInside(e *end, h *path.Hop, addr netip.Addr) *finding {
	out := a.linkNamed(h.NetNS, string(a.outDevice(e, h)))
	if out == nil || a.space(h.NetNS).Container == "" && h.Container == "" {
		return nil
	}
	for i := range a.f.Subnets {
		s := &a.f.Subnets[i]
		if s.Bridge == "" || !s.Prefix.Contains(addr) || slices.Contains(s.Taken, addr) ||
			!slices.ContainsFunc(out.Addrs, func(p netip.Prefix) bool { return s.Prefix.Contains(p.Addr()) }) {
			continue
		}
		dev := a.cameBy(addr, s)
		if dev == "" {
			return nil
		}
		f := a.overlap(e, h, s, addr, dev)
		f.says = fmt.Sprintf("%s is reached by %s of the host, and %s takes it for one of its own network %s (%s), so what is "+
			"for it does not leave that network", addr, dev, a.place(h), s.Network, s.Prefix)
		return f
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
			if h.Action == path.ActionReceive && slices.Contains(s.HostNetNS, h.NetNS) && h.SrcAddr.Addr() == addr &&
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
		remedy:   append([]string{a.command(h, "ip route get "+addr.String())}, a.renumber(s)...),
	}
}

// renumber are the commands that give a network another subnet.
func (a *analysis) renumber(s *Subnet) []string {
	pools := "keep Docker off such subnets: set default-address-pools in /etc/docker/daemon.json"
	free := a.freeSubnet(s.HostNetNS)
	switch {
	case !free.IsValid() || !s.Prefix.Addr().Is4():
		return []string{fmt.Sprintf("create network %s again with a subnet that nothing else uses", quote(s.Network)), pools}
	case s.Network == "bridge":
		return []string{fmt.Sprintf(`set "bip": "%s/%d" in /etc/docker/daemon.json and restart docker`, free.Addr().Next(), free.Bits()), pools}
	}
	name := quote(s.Network)
	other := quote(s.Network + "-new")
	return []string{
		fmt.Sprintf("docker network create --subnet %s %s  # of Compose: set the subnet in its file instead", free, other),
		fmt.Sprintf("for c in $(docker ps -q --filter network=%s); do docker network connect %s $c && docker network disconnect %s $c; done"+
			"  # ends their connections", name, other, name),
		"docker network rm " + name,
		pools,
	}
}

// freeSubnet picks a subnet for private use (RFC 1918) that no network of Docker, no route and no device
// of the hosts overlaps; it is invalid if there is none.
func (a *analysis) freeSubnet(hosts []uint32) netip.Prefix {
	used := []netip.Prefix{}
	for i := range a.f.Subnets {
		used = append(used, a.f.Subnets[i].Prefix)
	}
	for _, ns := range hosts {
		for _, r := range a.space(ns).Table {
			if r.Dst.Bits() > 0 {
				used = append(used, r.Dst)
			}
		}
		for _, l := range a.space(ns).Links {
			used = append(used, l.Addrs...)
		}
	}
	for _, end := range []netip.AddrPort{a.p.Client, a.p.Server, a.p.Source, a.p.Target} {
		if end.IsValid() {
			used = append(used, netip.PrefixFrom(end.Addr(), end.Addr().BitLen()))
		}
	}
	const first, last = 31, 16
	for second := byte(first); second >= last; second-- {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second, 0, 0}), 16)
		if !slices.ContainsFunc(used, p.Overlaps) {
			return p
		}
	}
	return netip.Prefix{}
}
