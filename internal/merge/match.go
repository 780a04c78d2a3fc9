package merge

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// minimal is the payload of a minimal Ethernet frame, bytes: what is shorter arrives padded.
const minimal = 46

// mark is what a packet has on every host it passes.
type mark struct {
	dir       path.Direction
	icmpError bool
	icmp      string
	flags     string
	seq, ack  uint32
	ident     uint32
	length    int
}

// markOf returns the mark of a packet. Its length counts only where there is nothing better: packets are
// fragmented on the way, and offloading splits and joins TCP segments.
func markOf(p *path.Packet) mark {
	m := mark{dir: p.Direction, icmpError: p.ICMPError, flags: p.TCPFlags, seq: p.Seq, ack: p.Ack, ident: p.Ident}
	if p.ICMPError {
		for i := range p.Hops {
			if m.icmp = p.Hops[i].ICMP; m.icmp != "" {
				break
			}
		}
	}
	if p.TCPFlags == "" && p.Ident == 0 {
		m.length = max(p.Length, minimal)
	}
	return m
}

// sure reports whether no other packet of a flow can have that mark by chance.
func (m mark) sure() bool { return m.ident != 0 || m.flags != "" && m.ack != 0 }

// sighting is a packet as one view has it.
type sighting struct {
	view int // index
	pkt  *path.Packet
	at   int64 // first observation, on the view's own clock, ns
}

// group collects the sightings of one packet, at most one of each view.
type group []sighting

// pair puts the sightings of each packet together. before(a, b) estimates by how much the clock of view b
// is ahead of that of view a; it decides where packets look alike.
func pair(views []View, ahead func(a, b int) int64) []group {
	var order []mark
	alike := map[mark][][]sighting{} // by view
	for v := range views {
		for _, p := range views[v].Path.Packets {
			if p == nil || len(p.Hops) == 0 {
				continue
			}
			m := markOf(p)
			if alike[m] == nil {
				alike[m] = make([][]sighting, len(views))
				order = append(order, m)
			}
			alike[m][v] = append(alike[m][v], sighting{view: v, pkt: p, at: int64(p.Hops[0].Time)})
		}
	}
	var out []group
	for _, m := range order {
		out = append(out, align(alike[m], ahead)...)
	}
	return out
}

// align puts packets that look alike together: in the order in which they were sent if every view has
// the same number of them, else those that are nearest in time.
func align(byView [][]sighting, ahead func(a, b int) int64) []group {
	var out []group
	for v, list := range byView {
		slices.SortStableFunc(list, func(a, b sighting) int { return cmp.Compare(a.at, b.at) })
		same := len(out) == len(list)
		for i, s := range list {
			if same {
				out[i] = append(out[i], s)
				continue
			}
			if g := nearest(out, s, v, ahead); g >= 0 {
				out[g] = append(out[g], s)
				continue
			}
			out = append(out, group{s})
		}
	}
	return out
}

// nearest returns the index of the group without a sighting of view v whose first sighting is nearest in
// time to s, -1 if there is none.
func nearest(groups []group, s sighting, v int, ahead func(a, b int) int64) int {
	best, bestGap := -1, int64(0)
	for i, g := range groups {
		if slices.ContainsFunc(g, func(x sighting) bool { return x.view == v }) {
			continue
		}
		gap := s.at - g[0].at - ahead(g[0].view, v)
		if gap < 0 {
			gap = -gap
		}
		if best < 0 || gap < bestGap {
			best, bestGap = i, gap
		}
	}
	return best
}

// ends is a pair of addresses that a packet carried, the lower one first, so that both directions agree.
type ends struct {
	proto path.Proto
	a, b  netip.AddrPort
}

func endsOf(proto path.Proto, src, dst netip.AddrPort) (ends, bool) {
	if !src.IsValid() || !dst.IsValid() {
		return ends{}, false
	}
	if src.Compare(dst) > 0 {
		src, dst = dst, src
	}
	return ends{proto, src, dst}, true
}

// allEnds lists the ends that packets of a path carried, before and after each translation.
func allEnds(p *path.Path) []ends {
	seen := map[ends]bool{}
	var out []ends
	add := func(src, dst netip.AddrPort) {
		if e, ok := endsOf(p.Proto, src, dst); ok && !seen[e] {
			seen[e] = true
			out = append(out, e)
		}
	}
	add(p.Client, p.Server)
	add(p.Source, p.Target)
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			if h.Stage == path.StageRoute || pkt.ICMPError {
				continue
			}
			add(h.SrcAddr, h.DstAddr)
			add(orElse(h.PrevSrcAddr, h.SrcAddr), orElse(h.PrevDstAddr, h.DstAddr))
		}
	}
	return out
}

func orElse(a, b netip.AddrPort) netip.AddrPort {
	if a.IsValid() {
		return a
	}
	return b
}
