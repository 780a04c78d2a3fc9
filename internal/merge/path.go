package merge

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// joinPaths puts the views' paths together, in the order in which a request passes them.
func (x *Exchange) joinPaths(hosts []Host, views []View, groups []group) *path.Path {
	for _, v := range views {
		x.take(hosts, v)
	}
	first, last := views[0].Path, views[len(views)-1].Path
	out := &path.Path{
		Flow: first.Flow, Proto: first.Proto, Client: first.Client, Server: first.Server,
		Source: last.Source, Target: last.Target, Start: first.Start, Midstream: true,
	}
	for _, v := range views {
		x.addView(out, v.Path)
	}
	nameEnds(views)
	for _, g := range groups {
		out.Packets = append(out.Packets, x.joinPacket(hosts, views, g))
	}
	slices.SortStableFunc(out.Packets, func(a, b *path.Packet) int { return cmp.Compare(a.Hops[0].Time, b.Hops[0].Time) })
	for i, p := range out.Packets {
		p.ID = i + 1
		out.Start = min(out.Start, p.Hops[0].Time)
		out.End = max(out.End, p.Hops[len(p.Hops)-1].Time)
	}
	for _, p := range out.Packets {
		for i := range p.Hops {
			h := &p.Hops[i]
			h.Packet, h.Flow, h.TimeNS = p.ID, out.Flow, int64(h.Time-out.Start)
			h.Retransmission = p.Retransmission
		}
	}
	return out
}

// take moves a view's path to the clock and the numbers that all have in common, and names its host.
func (x *Exchange) take(hosts []Host, v View) {
	ahead, p, name := x.Offsets[v.Host].NS, v.Path, hosts[v.Host].Name
	shift := func(t *uint64) {
		if *t != 0 {
			*t = uint64(int64(*t) - ahead)
		}
	}
	for _, t := range []*uint64{&p.Start, &p.End, &p.ServerEstablished, &p.ClientEstablished} {
		shift(t)
	}
	for _, n := range []*uint32{&p.ServerNetNS, &p.ClientNetNS, &p.DeliverNetNS} {
		*n = x.spaces.of(v.Host, *n)
	}
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			shift(&h.Time)
			h.Host, h.NetNS = name, x.spaces.of(v.Host, h.NetNS)
			h.Namespace, h.SrcName, h.DstName = onHost(h.Namespace, name), onHost(h.SrcName, name), onHost(h.DstName, name)
		}
	}
	for i := range p.NAT {
		t := &p.NAT[i]
		t.NetNS, t.Namespace = x.spaces.of(v.Host, t.NetNS), onHost(t.Namespace, name)
	}
}

// nameEnds names addresses on hosts that do not know whose they are, where only one name is known for them.
func nameEnds(views []View) {
	names := map[netip.Addr]string{}
	each := func(visit func(a netip.Addr, name *string)) {
		for _, v := range views {
			for _, pkt := range v.Path.Packets {
				for i := range pkt.Hops {
					visit(pkt.Hops[i].SrcAddr.Addr(), &pkt.Hops[i].SrcName)
					visit(pkt.Hops[i].DstAddr.Addr(), &pkt.Hops[i].DstName)
				}
			}
		}
	}
	const several = "\x00"
	each(func(a netip.Addr, name *string) {
		switch old := names[a]; {
		case *name == "" || old == *name || a.IsLoopback():
		case old == "":
			names[a] = *name
		default:
			names[a] = several
		}
	})
	each(func(a netip.Addr, name *string) {
		if known := names[a]; *name == "" && known != several {
			*name = known
		}
	})
}

// onHost tells namespaces apart that have the same name on each host: the host's own, and those that
// Docker keeps for an overlay.
func onHost(namespace, host string) string {
	switch {
	case namespace == "host":
		return host
	case strings.HasPrefix(namespace, "overlay "):
		network, _, several := strings.Cut(namespace, " on ")
		if several && !strings.HasSuffix(namespace, " on host") {
			return namespace // it tells hosts apart already
		}
		return network + " on " + host
	}
	return namespace
}

// addView adds what a view knows of the flow as a whole.
func (x *Exchange) addView(out, p *path.Path) {
	out.OmittedPackets = max(out.OmittedPackets, p.OmittedPackets)
	out.Midstream = out.Midstream && p.Midstream
	out.Closed = out.Closed || p.Closed
	out.End = max(out.End, p.End)
	if p.ServerEstablished != 0 {
		out.ServerEstablished, out.ServerNetNS = p.ServerEstablished, p.ServerNetNS
	}
	if p.ClientEstablished != 0 && out.ClientEstablished == 0 {
		out.ClientEstablished, out.ClientNetNS = p.ClientEstablished, p.ClientNetNS
	}
	if p.DeliverNetNS != 0 {
		out.DeliverNetNS = p.DeliverNetNS // the last on the way
	}
	for _, t := range p.NAT {
		if !slices.Contains(out.NAT, t) {
			out.NAT = append(out.NAT, t)
		}
	}
}

// joinPacket makes one packet of its sightings.
func (x *Exchange) joinPacket(hosts []Host, views []View, g group) *path.Packet {
	slices.SortFunc(g, func(a, b sighting) int {
		if a.pkt.Direction == path.Request {
			return cmp.Compare(a.view, b.view)
		}
		return cmp.Compare(b.view, a.view)
	})
	out := *g[0].pkt
	out.Hops = nil
	seen := map[string]*kernelHops{}
	for _, s := range g {
		out.Retransmission = out.Retransmission || s.pkt.Retransmission
		out.Length = max(out.Length, s.pkt.Length)
		out.OmittedHops = max(out.OmittedHops, s.pkt.OmittedHops)
		kernel := hosts[views[s.view].Host].BootID
		if kernel == "" {
			out.Hops = append(out.Hops, s.pkt.Hops...)
			continue
		}
		if seen[kernel] == nil {
			seen[kernel] = &kernelHops{at: map[sameHop][]int{}}
		}
		out.Hops = seen[kernel].add(out.Hops, s.pkt.Hops)
	}
	slices.SortStableFunc(out.Hops, func(a, b path.Hop) int { return cmp.Compare(a.Time, b.Time) })
	return &out
}

// sameHop is what two traces on one kernel report alike of one observation.
type sameHop struct {
	netns, ifindex uint32
	stage          path.Stage
	action         path.Action
	src, dst       string
	reason         string
}

// kernelHops removes what two traces on one kernel both saw: each has its own programs at the same
// places.
type kernelHops struct {
	at map[sameHop][]int // indices in the packet's hops, in order
}

// add appends the hops of one trace; an observation that is there already stays, with the names of the
// trace that has them.
func (k *kernelHops) add(out, hops []path.Hop) []path.Hop {
	used := map[sameHop]int{}
	for _, h := range hops {
		key := sameHop{h.NetNS, h.Ifindex, h.Stage, h.Action, h.Src, h.Dst, h.Reason}
		n := used[key]
		used[key]++
		if n < len(k.at[key]) {
			if old := &out[k.at[key][n]]; knowledge(&h) > knowledge(old) {
				h.Time = old.Time
				*old = h
			}
			continue
		}
		k.at[key] = append(k.at[key], len(out))
		out = append(out, h)
	}
	return out
}

// knowledge grades how much a trace knows of the namespace of a hop: most of those that are its host's.
func knowledge(h *path.Hop) int {
	switch {
	case h.Container != "":
		return 3
	case h.Namespace == h.Host, strings.HasPrefix(h.Namespace, "overlay "):
		return 2
	case h.Network != "":
		return 1
	}
	return 0
}
