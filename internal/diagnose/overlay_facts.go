package diagnose

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// overlay returns the overlay network that an address is of, nil if none is known.
func (a *analysis) overlay(addr netip.Addr) *Subnet {
	for i := range a.f.Subnets {
		if s := &a.f.Subnets[i]; s.Bridge == "" && len(s.Peers) > 0 && s.Prefix.Contains(addr) {
			return s
		}
	}
	return nil
}

// overlayAt is overlay as the engine of a host knows it, or any engine if that is not known.
func (a *analysis) overlayAt(addr netip.Addr, host uint32) *Subnet {
	for i := range a.f.Subnets {
		if s := &a.f.Subnets[i]; s.Bridge == "" && len(s.Peers) > 0 && s.Prefix.Contains(addr) && slices.Contains(s.HostNetNS, host) {
			return s
		}
	}
	return a.overlay(addr)
}

// knowsPeers reports whether the peers of a network are known by the addresses of their tunnels: a swarm
// may have a data path of its own, and then the sender's own end is none of them either.
func (a *analysis) knowsPeers(h *path.Hop, s *Subnet) bool {
	src, err := netip.ParseAddrPort(h.Outer.Src)
	return err == nil && slices.Contains(s.Peers, src.Addr())
}

// tunnelsAt lists the VXLAN devices that take packets on a UDP port of a namespace.
func (a *analysis) tunnelsAt(host uint32, port uint16) []*VXLAN {
	var list []*VXLAN
	for i := range a.f.VXLANs {
		if v := &a.f.VXLANs[i]; v.HostNetNS == host && v.Port == port {
			list = append(list, v)
		}
	}
	return list
}

// tunnelDevice returns the VXLAN device at which the packet was seen, nil if it is not known.
func (a *analysis) tunnelDevice(h *path.Hop) *VXLAN {
	for i := range a.f.VXLANs {
		if v := &a.f.VXLANs[i]; v.NetNS == h.NetNS && (v.Ifindex == h.Ifindex || h.Ifindex == 0 && v.Device == h.Device) {
			return v
		}
	}
	return nil
}

// senderDevice returns the VXLAN device that encapsulated the packet before h, nil if it is not known.
func (a *analysis) senderDevice(e *end, h *path.Hop) *VXLAN {
	for i := len(e.pkt.Hops) - 1; i >= 0; i-- {
		x := &e.pkt.Hops[i]
		if x.Outer != nil || !onPath(x) || hopTime(x) > hopTime(h) {
			continue
		}
		if v := a.tunnelDevice(x); v != nil && v.VNI == h.Outer.VNI {
			return v
		}
	}
	return nil
}

// proxyFor returns the VXLAN device that answers ARP on the link on which the packet waits at h: a port
// of the bridge that the device there leads to.
func (a *analysis) proxyFor(h *path.Hop) *VXLAN {
	dev := a.link(h.NetNS, h.OutIfindex)
	if dev == nil {
		dev = a.link(h.NetNS, h.Ifindex)
	}
	if dev == nil {
		dev = a.linkNamed(h.NetNS, cmp.Or(h.OutDevice, h.Device))
	}
	p := a.plugOf(h.NetNS, dev)
	if p.bridge == nil {
		return nil
	}
	for i := range a.f.VXLANs {
		v := &a.f.VXLANs[i]
		if l := a.link(v.NetNS, v.Ifindex); v.NetNS == p.host && v.Proxy && l != nil && l.Master == p.bridge.Index {
			return v
		}
	}
	return nil
}

// exists reports whether somebody besides the packet itself knows the address: it is the receiver's as
// the engine knows it, a device has it, or Docker's name server gave it.
func (a *analysis) exists(e *end, addr netip.Addr) bool {
	far := a.far(e)
	if slices.ContainsFunc(far.Networks, func(n Network) bool { return slices.Contains(n.Addrs, addr) }) ||
		slices.ContainsFunc(a.f.Owners, func(o Owner) bool { return o.Addr == addr }) {
		return true
	}
	l := a.f.Lookup
	return l != nil && l.Status == LookupFound && slices.Contains(l.Addrs, addr) ||
		far.Label != "" && far.Label != addr.String() && a.isNamed(far.Label)
}

// isNamed reports whether a label is a name rather than an address.
func (a *analysis) isNamed(label string) bool {
	_, err := netip.ParseAddr(label)
	return err != nil
}

// isLocalTo reports whether a container of the VXLAN device's own host has the address.
func (a *analysis) isLocalTo(v *VXLAN, addr netip.Addr) bool {
	return slices.ContainsFunc(a.f.Owners, func(o Owner) bool {
		return o.Addr == addr && (o.PeerNetNS == v.NetNS || o.NetNS == v.NetNS)
	})
}

// macOf returns the MAC address that a namespace knows for an address, "" if none.
func (a *analysis) macOf(ns uint32, addr netip.Addr) string {
	for _, n := range a.space(ns).Neighbours {
		if n.Addr == addr && n.MAC != "" && !isUnresolved(n.State) {
			return n.MAC
		}
	}
	return ""
}

// ownerMAC returns the MAC address of the device that has an address, "" if it is not known.
func (a *analysis) ownerMAC(addr netip.Addr) string {
	for _, o := range a.f.Owners {
		if o.Addr == addr {
			return o.MAC
		}
	}
	return ""
}

// endpointsOf lists the tunnel endpoints for a MAC address, those for every address included.
func (a *analysis) endpointsOf(v *VXLAN, mac string) []netip.Addr {
	const anyMAC = "00:00:00:00:00:00"
	var list []netip.Addr
	for _, entry := range a.space(v.NetNS).FDB {
		if entry.Ifindex == v.Ifindex && (strings.EqualFold(entry.MAC, mac) || entry.MAC == anyMAC) {
			list = append(list, entry.VTEP)
		}
	}
	return list
}

// listFDB says where a namespace's VXLAN devices send what.
func (a *analysis) listFDB(ns uint32) []string {
	const few = 4
	n := a.space(ns)
	if n.FDB == nil {
		return nil
	}
	var list []string
	for _, entry := range n.FDB {
		list = append(list, fmt.Sprintf("%s behind %s", entry.MAC, entry.VTEP))
	}
	if len(list) > few {
		list = append(list[:few:few], fmt.Sprintf("%d more", len(list)-few))
	}
	if len(list) == 0 {
		list = []string{"nothing"}
	}
	return []string{fmt.Sprintf("the forwarding entries in %s have %s", a.spaceName(ns), strings.Join(list, ", "))}
}

// far is the end that the packet was on its way to.
func (a *analysis) far(e *end) *Endpoint {
	if e.direction() == path.Reply {
		return &a.f.Source
	}
	return &a.f.Target
}

// farHost returns the addresses of the host that the receiver runs on, and the receiver's name; nil if
// they are not known.
func (a *analysis) farHost(e *end) (addrs []netip.Addr, name string) {
	far := a.far(e)
	if far.Container == "" || len(far.HostNetNS) == 0 {
		return nil, ""
	}
	for _, ns := range far.HostNetNS {
		for _, l := range a.space(ns).Links {
			ofDocker := slices.ContainsFunc(a.f.Subnets, func(s Subnet) bool { return s.Bridge == l.Name })
			if l.Kind == "loopback" || ofDocker {
				continue
			}
			for _, p := range l.Addrs {
				if !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
					addrs = append(addrs, p.Addr())
				}
			}
		}
	}
	return addrs, far.Container
}

// inUnderlay writes a command for the namespace from which the sender's tunnel packets start.
func (a *analysis) inUnderlay(e *end, h *path.Hop, cmd string) string {
	for i := range e.pkt.Hops {
		if x := &e.pkt.Hops[i]; x.Outer != nil && onPath(x) {
			return a.command(x, cmd)
		}
	}
	return a.command(h, cmd)
}

// networkCommand shows the number that the network has.
func (a *analysis) networkCommand(e *end) string {
	const option = `{{index .Options "com.docker.network.driver.overlay.vxlanid_list"}}`
	if s := a.overlay(e.at().DstAddr.Addr()); s != nil {
		return "docker network inspect -f '" + option + "' " + quote(s.Network) + "  # the VNI that it has to have"
	}
	return "docker network ls -q --filter driver=overlay | xargs docker network inspect -f '{{.Name}} " + option +
		"'  # the VNI that each has to have"
}

// announce makes the receiver's engine tell the other hosts anew where it is.
func (a *analysis) announce(e *end) string {
	name := a.far(e).Container
	if name == "" {
		return "restart the container that has " + text(e.at().DstAddr.Addr()) + ": its host announces it anew then"
	}
	return "docker restart " + quote(name) + "  # its host announces it anew then"
}
