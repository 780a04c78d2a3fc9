package diagnose

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainDuplicateAddress: somebody who has the target's address, too, answered or took the packet.
func explainDuplicateAddress(a *analysis, e *end) *finding {
	h := e.at()
	if h == nil || e.direction() != path.Request || e.hook() != "" {
		return nil
	}
	f := a.takenByDouble(h.NetNS)
	if f == nil {
		f = a.oneOfDoubles(e, h)
	}
	if f != nil {
		f.where = mergeWhere(h, e)
	}
	return f
}

// oneOfDoubles reports that a packet was refused by one of two that have the address, where it is not
// known which of them is meant.
func (a *analysis) oneOfDoubles(e *end, h *path.Hop) *finding {
	if _, known := a.inTarget(h.NetNS); known || !e.answered() {
		return nil
	}
	addr := a.p.Target.Addr()
	for i := range a.f.Owners {
		took := &a.f.Owners[i]
		segment, ok := a.segmentOf(took)
		if !ok || took.Addr != addr || took.NetNS != h.NetNS {
			continue
		}
		for j := range a.f.Owners {
			o := &a.f.Owners[j]
			if s, ok := a.segmentOf(o); !ok || s != segment || o.Addr != addr || o.NetNS == took.NetNS {
				continue
			}
			f := &finding{cause: path.CauseDuplicateAddress,
				says: fmt.Sprintf("%s and %s both have the address %s, and %s got to %s", took.Label, o.Label, addr,
					a.subject(e), took.Label)}
			a.proveDouble(f, o, took)
			f.remedy[0] += "  # or from the other, if this is the right one"
			return f
		}
	}
	return nil
}

// takenByDouble reports that a packet got to a namespace that has the target's address and is not the
// target's; nil if that is not so.
func (a *analysis) takenByDouble(ns uint32) *finding {
	if !a.isForeign(ns) {
		return nil
	}
	addr := a.p.Target.Addr()
	mine, other := a.doubles(addr)
	i := slices.IndexFunc(other, func(o Owner) bool { return o.NetNS == ns })
	if mine == nil || i < 0 {
		return nil
	}
	f := &finding{cause: path.CauseDuplicateAddress,
		says: fmt.Sprintf("%s has the address %s of %s as well, and %s got to it", other[i].Label, addr,
			a.target(), a.subject(&end{phase: phaseRequest}))}
	a.proveDouble(f, mine, &other[i])
	return f
}

// proveDouble adds who has the address, and how to take it from one of them.
func (a *analysis) proveDouble(f *finding, mine, other *Owner) {
	for _, o := range []*Owner{mine, other} {
		f.evidence = append(f.evidence, fmt.Sprintf("%s has %s on %s (MAC address %s)", o.Label, o.Addr,
			o.Device, o.MAC))
	}
	bits := other.Addr.BitLen()
	if l := a.link(other.NetNS, other.Ifindex); l != nil {
		for _, p := range l.Addrs {
			if p.Addr() == other.Addr {
				bits = p.Bits()
			}
		}
	}
	f.remedy = []string{
		a.commandIn(other.NetNS, other.Container, fmt.Sprintf("ip address del %s/%d dev %s", other.Addr, bits,
			quote(other.Device))),
		a.commandIn(a.learnedIn(mine, other), "", "ip neigh flush to "+other.Addr.String()) +
			"  # forgets the MAC address that was learned from the wrong one",
	}
}

// learnedIn returns the namespace whose neighbour table leads to the other owner of an address: the one
// that sent a packet there, or that of the bridge if none was seen.
func (a *analysis) learnedIn(mine, other *Owner) uint32 {
	for _, p := range a.packets(path.Request) {
		if h := sentInto(p, other.NetNS); h != nil && h.NetNS != 0 {
			return h.NetNS
		}
	}
	return a.hostOf(mine)
}

// hostOf returns the namespace in which the bridge of an owner is.
func (a *analysis) hostOf(o *Owner) uint32 {
	if o.PeerNetNS != 0 {
		return o.PeerNetNS
	}
	return o.NetNS
}

// doubles returns the target's device with an address, and the devices of others on the same bridge
// that have it, too. mine is nil if the target is not known to have it.
func (a *analysis) doubles(addr netip.Addr) (mine *Owner, other []Owner) {
	for i := range a.f.Owners {
		if o := &a.f.Owners[i]; o.Addr == addr && slices.Contains(a.f.Target.NetNS, o.NetNS) {
			mine = o
		}
	}
	if mine == nil {
		return nil, nil
	}
	segment, ok := a.segmentOf(mine)
	if !ok {
		return nil, nil
	}
	for _, o := range a.f.Owners {
		if o.Addr != addr || slices.Contains(a.f.Target.NetNS, o.NetNS) {
			continue
		}
		if s, ok := a.segmentOf(&o); ok && s == segment {
			other = append(other, o)
		}
	}
	return mine, other
}

// segmentOf identifies the bridge that a device is connected to: by namespace and index.
func (a *analysis) segmentOf(o *Owner) ([2]uint32, bool) {
	port := a.link(o.PeerNetNS, o.PeerIndex)
	if l := a.link(o.NetNS, o.Ifindex); l != nil && l.Kind == "bridge" {
		return [2]uint32{o.NetNS, l.Index}, true
	}
	if port == nil || port.Master == 0 {
		return [2]uint32{}, false
	}
	return [2]uint32{o.PeerNetNS, port.Master}, true
}

// duplicateWarning tells that somebody else on the target's bridge has its address: whose MAC address
// is learned is chance.
func (a *analysis) duplicateWarning() (path.Warning, bool) {
	addr := a.p.Target.Addr()
	mine, other := a.doubles(addr)
	if mine == nil || len(other) == 0 {
		return path.Warning{}, false
	}
	return path.Warning{Cause: path.CauseDuplicateAddress, Summary: fmt.Sprintf("%s has the address %s of %s as"+
		" well: which of the two gets a packet is chance", other[0].Label, addr, a.target())}, true
}

// explainWrongNeighbour: the frame was sent to a MAC address that is not that of the address's owner.
func explainWrongNeighbour(a *analysis, e *end) *finding {
	if e.hook() != "" || e.drop != nil && isNeighbourDrop(e.drop) || e.at() == nil {
		return nil
	}
	s := a.sentFrom(e, e.at())
	if s != nil && e.drop != nil && s.NetNS == e.drop.NetNS && !isBridgeDrop(e.drop) {
		s = sentInto(e.pkt, e.drop.NetNS) // who got the frame tried to send it on
	}
	if s == nil {
		return nil
	}
	addr := a.nextHop(e, s)
	n := a.neighbour(s.NetNS, addr)
	if n == nil || n.MAC == "" || isUnresolved(n.State) {
		return nil
	}
	from, ok := a.sendingPlug(e, s)
	if !ok || e.at().NetNS == s.NetNS && e.drop != nil && !isBridgeDrop(e.drop) {
		return nil
	}
	var owner *plug
	for _, p := range a.plugsOf(addr) {
		if p.dev.MAC == n.MAC || p.ns == e.at().NetNS && !p.bridgedBy(e.at()) {
			return nil
		}
		if p.dev.MAC != "" && p.host == from.host && p.bridge != nil && from.bridge != nil &&
			p.bridge.Index == from.bridge.Index && owner == nil {
			owner = &p
		}
	}
	if owner == nil {
		return nil
	}
	return a.wrongNeighbour(e, s, n, owner)
}

// bridgedBy reports whether h is a frame passing a bridge on which the address is that of the bridge
// itself: being where the bridge is, it did not come to the address.
func (p *plug) bridgedBy(h *path.Hop) bool {
	return p.port == nil && p.bridge != nil && h.Bridge == p.bridge.Name && h.Action == path.ActionTransmit
}

func (a *analysis) wrongNeighbour(e *end, s *path.Hop, n *Neighbour, owner *plug) *finding {
	whose := "which no device here has"
	if ns, l := a.byMAC(n.MAC, owner.host); l != nil {
		whose = fmt.Sprintf("that of %s in %s", l.Name, a.spaceName(ns))
	}
	who := a.spaceName(owner.ns)
	dev := a.outDevice(e, s)
	f := &finding{cause: path.CauseWrongNeighbour, where: whereOf(s, e.direction()),
		says: fmt.Sprintf("%s went to the wrong MAC address: %s sends what is for %s to %s, %s, and %s has %s",
			a.subject(e), a.place(s), n.Addr, n.MAC, whose, who, owner.dev.MAC),
		evidence: []string{
			fmt.Sprintf("the neighbour entry of %s in %s is %s with %s", n.Addr, a.place(s), n.State, n.MAC),
			fmt.Sprintf("%s in %s has %s and MAC address %s", owner.dev.Name, who, n.Addr, owner.dev.MAC),
		},
		remedy: []string{a.command(s, fmt.Sprintf("ip neigh del %s dev %s", n.Addr, quote(string(dev)))) +
			"  # it is asked for again with the next packet"},
	}
	f.where.Stage, f.where.Device = path.StageNeighbour, string(dev)
	return f
}

// byMAC finds a device with a MAC address whose other end, or which itself, is in a namespace.
func (a *analysis) byMAC(mac string, host uint32) (uint32, *Link) {
	for _, ns := range slices.Sorted(maps.Keys(a.f.Namespaces)) {
		links := a.space(ns).Links
		for i := range links {
			l := &links[i]
			if l.MAC == mac && (ns == host || l.PeerNetNS == host) {
				return ns, l
			}
		}
	}
	return 0, nil
}
