package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// tunnel asks for what decides where the packet of an overlay goes: the tunnel devices, who owns the
// tunnel's other end and how it is reached, and what IPsec demands of its packets.
func (w *want) tunnel(e *end, h *path.Hop) {
	if dst, ok := vtepOf(e.last); ok {
		w.owners(dst.Addr())
		w.OwnerCounters = isEncrypted(e.last)
		w.Routes = append(w.Routes, RouteQuery{NetNS: e.last.NetNS, Dst: dst.Addr()})
	}
	w.Tunnels = h.Outer != nil || h.Stage == path.StageVXLAN
	if h.Outer != nil {
		w.IPsec = append(w.IPsec, h.NetNS)
	}
}

// vtepOf returns the tunnel endpoint that the packet goes to at h; ok is false outside of a tunnel.
func vtepOf(h *path.Hop) (dst netip.AddrPort, ok bool) {
	if h == nil || h.Outer == nil {
		return dst, false
	}
	dst, err := netip.ParseAddrPort(h.Outer.Dst)
	return dst, err == nil
}

// explainOverlayMisrouted: the packet of an overlay found no tunnel endpoint, the wrong one, or one that
// does not know its network.
func explainOverlayMisrouted(a *analysis, e *end) *finding {
	for _, explain := range []explainer{unknownVNI, noTunnelSocket, noForwarding, noProxyEntry, wrongEndpoint} {
		if f := explain(a, e); f != nil {
			if f.cause == "" {
				f.cause = path.CauseOverlayMisrouted
			}
			return f
		}
	}
	return nil
}

// unknownVNI: the receiving host has no device for the network (vxlan_rcv in
// drivers/net/vxlan/vxlan_core.c). Kernels without reasons need the devices to be known.
func unknownVNI(a *analysis, e *end) *finding {
	h := e.drop
	if h == nil || h.Outer == nil || h.Function != "vxlan_rcv" && h.Reason != "VXLAN_VNI_NOT_FOUND" {
		return nil
	}
	vtep, _ := vtepOf(h)
	there := a.tunnelsAt(h.NetNS, vtep.Port())
	if h.Reason != "VXLAN_VNI_NOT_FOUND" {
		has := slices.ContainsFunc(there, func(v *VXLAN) bool { return v.VNI == h.Outer.VNI })
		if hasReason(h) || len(there) == 0 || has {
			return nil
		}
	}
	f := &finding{where: whereOf(h, e.direction())}
	f.where.Stage = path.StageVXLAN
	f.says = fmt.Sprintf("%s reached %s in VXLAN %d, which none of the VXLAN devices there has", a.subject(e),
		a.place(h), h.Outer.VNI)
	var have []string
	network := a.overlay(h.DstAddr.Addr())
	for _, v := range there {
		have = append(have, fmt.Sprintf("%d (%s in %s)", v.VNI, v.Device, a.spaceName(v.NetNS)))
		if network == nil || v.Network == network.Network || v.Network == "" {
			f.remedy = append(f.remedy, a.commandIn(v.NetNS, "", "ip -d link show "+quote(v.Device)))
		}
	}
	if len(there) > 0 {
		f.evidence = append(f.evidence, fmt.Sprintf("the VXLAN devices of %s have VNI %s", a.place(h), strings.Join(have, ", ")))
	}
	if len(f.remedy) == 0 {
		f.remedy = append(f.remedy, "ls /run/docker/netns"+"  # on "+vtep.Addr().String()+
			": is there a namespace of the network (1- and the beginning of its ID)?")
	}
	f.remedy = append(f.remedy, a.networkCommand(e), a.announce(e))
	return f
}

// noTunnelSocket: the receiving host takes no VXLAN packets on the port.
func noTunnelSocket(a *analysis, e *end) *finding {
	h := e.drop
	vtep, ok := vtepOf(h)
	if !ok || h.Reason != "NO_SOCKET" {
		return nil
	}
	f := &finding{where: whereOf(h, e.direction())}
	f.says = fmt.Sprintf("%s reached %s in VXLAN %d, and no VXLAN device takes packets on UDP port %d there",
		a.subject(e), a.place(h), h.Outer.VNI, vtep.Port())
	for i := range a.f.VXLANs {
		if v := &a.f.VXLANs[i]; v.HostNetNS == h.NetNS && v.Port != vtep.Port() {
			f.evidence = append(f.evidence, fmt.Sprintf("%s in %s takes packets on UDP port %d", v.Device,
				a.spaceName(v.NetNS), v.Port))
		}
	}
	f.remedy = []string{a.command(h, "ss -lun"), "docker info  # on both hosts: the swarm's data path port has to be the same",
		a.announce(e)}
	return f
}

// noForwarding: the VXLAN device knows no tunnel endpoint for the frame's MAC address. Apart from that
// vxlan_xmit has no such reason; kernels without reasons need the entries to be known.
func noForwarding(a *analysis, e *end) *finding {
	h := e.drop
	if h == nil || h.Outer != nil || h.Function != "vxlan_xmit" || h.Reason != "NO_TX_TARGET" && hasReason(h) {
		return nil
	}
	v := a.tunnelDevice(h)
	addr := h.DstAddr.Addr()
	mac := a.macOf(h.NetNS, addr)
	if h.Reason != "NO_TX_TARGET" {
		if v == nil || mac == "" || a.space(v.NetNS).FDB == nil || len(a.endpointsOf(v, mac)) > 0 {
			return nil
		}
	}
	f := &finding{where: whereOf(h, e.direction())}
	of := "the frame's MAC address"
	if mac != "" {
		of = fmt.Sprintf("%s, the MAC address of %s", mac, text(addr))
	}
	f.says = fmt.Sprintf("%s got no further than %s in %s: it knows no tunnel endpoint for %s", a.subject(e),
		h.Device, a.place(h), of)
	f.evidence = a.listFDB(h.NetNS)
	a.forgotten(e, f, addr, v)
	f.remedy = append(f.remedy, a.command(h, "bridge fdb show dev "+quote(h.Device)))
	if right, _ := a.farHost(e); len(right) == 1 && mac != "" {
		f.remedy = append(f.remedy, a.command(h, fmt.Sprintf("bridge fdb replace %s dev %s dst %s self permanent",
			mac, quote(h.Device), right[0])))
	}
	f.remedy = append(f.remedy, a.announce(e), gossip)
	return f
}

// gossip is how hosts of a swarm tell each other which container is where.
const gossip = "permit TCP and UDP port 7946 between the hosts: by it they tell each other which container is where"

// noProxyEntry: the VXLAN device has to answer for the containers of other hosts, and has no entry for
// this one. An address that nothing but the asker claims to exist may as well not exist.
func noProxyEntry(a *analysis, e *end) *finding {
	h := a.waitsAt(e)
	if h == nil || h.Outer != nil {
		return nil
	}
	addr := a.nextHop(e, h)
	v := a.proxyFor(h)
	if name, _ := a.virtual(addr); name != "" {
		return nil // which is no container's
	}
	if v == nil || !a.exists(e, addr) || a.macOf(v.NetNS, addr) != "" || a.isLocalTo(v, addr) {
		return nil
	}
	at := a.spaceName(v.NetNS)
	f := &finding{where: whereOf(h, e.direction())}
	f.where.Stage = path.StageNeighbour
	f.says = fmt.Sprintf("%s got no further than %s: %s in %s, which answers %s for the containers of other"+
		" hosts, has no entry for %s", a.subject(e), a.place(h), v.Device, at, question(addr), text(addr))
	if n := a.neighbour(h.NetNS, addr); n != nil {
		f.evidence = append(f.evidence, fmt.Sprintf("the neighbour entry of %s in %s is %s", addr, a.place(h), n.State))
	}
	f.evidence = append(f.evidence, a.answersFor(v))
	a.forgotten(e, f, addr, v)
	f.remedy = append(f.remedy, a.commandIn(v.NetNS, "", "ip neigh show dev "+quote(v.Device)))
	if mac := a.ownerMAC(addr); mac != "" {
		f.remedy = append(f.remedy, a.commandIn(v.NetNS, "", fmt.Sprintf("ip neigh replace %s lladdr %s dev %s nud permanent",
			addr, mac, quote(v.Device))))
	}
	f.remedy = append(f.remedy, a.announce(e), gossip)
	return f
}

// waitsAt returns where a packet waits for a MAC address, or gave up waiting; nil if it does not.
func (a *analysis) waitsAt(e *end) *path.Hop {
	switch {
	case e.drop != nil && isNeighbourDrop(e.drop):
		return e.drop
	case e.drop != nil, e.reset != nil, e.rst != nil, e.held != "", !a.waitsForMAC(e):
		return nil
	}
	return e.last
}

// answersFor says for which addresses a VXLAN device answers.
func (a *analysis) answersFor(v *VXLAN) string {
	var known []string
	for _, n := range a.space(v.NetNS).Neighbours {
		if n.Ifindex == v.Ifindex && n.MAC != "" {
			known = append(known, n.Addr.String())
		}
	}
	list := "nobody"
	if len(known) > 0 {
		list = strings.Join(known, ", ")
	}
	return fmt.Sprintf("%s in %s answers for %s", v.Device, a.spaceName(v.NetNS), list)
}

// forgotten adds that the sender's host has lost contact with the receiver's: Docker then takes away the
// entries of its containers. The peer is what fails then, not what is known of it.
func (a *analysis) forgotten(e *end, f *finding, addr netip.Addr, v *VXLAN) {
	network := a.overlay(addr)
	if v != nil {
		network = a.overlayAt(addr, v.HostNetNS) // the other host may well know of itself
	}
	if network == nil {
		return
	}
	right, name := a.farHost(e)
	if len(right) == 0 && len(network.Peers) == 1 { // itself
		f.cause = path.CauseOverlayPeerUnreachable
		f.says += ", since its host has contact with no other host of overlay " + network.Network
		f.remedy = append(f.remedy, "docker node ls  # on a manager: which hosts should there be, and are they ready?")
	}
	if len(right) > 0 && !slices.ContainsFunc(right, func(r netip.Addr) bool { return slices.Contains(network.Peers, r) }) {
		f.cause = path.CauseOverlayPeerUnreachable
		f.says += fmt.Sprintf(", since its host has no contact with that of %s, %s", name, joinAddrs(right))
		f.remedy = append(f.remedy, "ping -c 3 "+right[0].String())
	}
	f.evidence = append(f.evidence, fmt.Sprintf("hosts that take part in overlay %s, as this host was told: %s", network.Network,
		joinAddrs(network.Peers)))
}

// wrongEndpoint: the packet went to a host that is not that of the receiver, or none of the network's.
func wrongEndpoint(a *analysis, e *end) *finding {
	h := e.last
	vtep, ok := vtepOf(h)
	if !ok || e.drop != nil && !isNeighbourDrop(e.drop) || e.reset != nil || e.held != "" {
		return nil
	}
	to := vtep.Addr()
	right, who := a.farHost(e)
	network := a.overlay(h.DstAddr.Addr())
	var why string
	switch {
	case len(right) > 0 && !slices.Contains(right, to):
		why = fmt.Sprintf("%s runs on the host with %s", who, joinAddrs(right))
	case len(right) == 0 && network != nil && a.knowsPeers(h, network) && !slices.Contains(network.Peers, to):
		why = fmt.Sprintf("only %s take part in overlay %s", joinAddrs(network.Peers), network.Network)
	default:
		return nil
	}
	f := &finding{where: whereOf(e.at(), e.direction())}
	f.says = fmt.Sprintf("%s was sent to the wrong tunnel endpoint, %s: %s", a.subject(e), to, why)
	v := a.senderDevice(e, h)
	if v == nil {
		f.remedy = []string{a.announce(e), gossip}
		return f
	}
	mac := a.macOf(v.NetNS, h.DstAddr.Addr())
	if mac != "" {
		f.evidence = append(f.evidence, fmt.Sprintf("%s in %s sends what is for %s, the MAC address of %s, to %s", v.Device,
			a.spaceName(v.NetNS), mac, text(h.DstAddr.Addr()), to))
	}
	f.remedy = []string{a.commandIn(v.NetNS, "", "bridge fdb show dev "+quote(v.Device))}
	if len(right) == 1 && mac != "" {
		f.remedy = append(f.remedy, a.commandIn(v.NetNS, "", fmt.Sprintf("bridge fdb replace %s dev %s dst %s self permanent",
			mac, quote(v.Device), right[0])))
	}
	f.remedy = append(f.remedy, a.announce(e), gossip)
	return f
}
