package flow

import "github.com/pathtrace/pathtrace/tracer/path"

// A path takes a hundred kilobytes, nearly all of what an event allocates: new memory, which no cache
// holds, has to be cleared, filled and collected. Whoever is done with a path may give that memory back.

// maxSpare is how many packets are kept for other paths, spareHops for how many hops one has room at least,
// and at most twice that.
const (
	maxSpare  = 512
	spareHops = 24
)

// spare is memory of packets that were handed out.
type spare struct {
	expected bool           // Config.Recycles
	packets  []*path.Packet // without content, last in first out
}

// room returns n packets, with as many empty hops as hops says of each.
func (s *spare) room(n int, hops func(int) int) []*path.Packet {
	out := make([]*path.Packet, 0, n)
	if s.expected {
		for i := range n {
			out = append(out, s.take(hops(i)))
		}
		return out
	}
	total := 0
	for i := range n {
		total += hops(i)
	}
	packets, all := make([]path.Packet, n), make([]path.Hop, total)
	for i := range packets {
		k := hops(i)
		packets[i].Hops, all = all[:k:k], all[k:]
		out = append(out, &packets[i])
	}
	return out
}

// take returns a packet with n empty hops that can come back.
func (s *spare) take(n int) *path.Packet {
	if last := len(s.packets) - 1; last >= 0 {
		p := s.packets[last]
		if s.packets = s.packets[:last]; n <= cap(p.Hops) {
			p.Hops = p.Hops[:n]
			return p
		}
	}
	return &path.Packet{Hops: make([]path.Hop, n, max(n, spareHops))}
}

// Recycle takes back the packets of a Path that OnDone or Peek gave, with their hops: it is emptied, and
// nothing may refer to them any more. Without Config.Recycles it does nothing.
func (t *Tracker) Recycle(p *path.Path) {
	s := &t.spare
	if !s.expected {
		return
	}
	for _, packet := range p.Packets {
		if packet == nil || len(s.packets) >= maxSpare || cap(packet.Hops) > 2*spareHops {
			continue
		}
		clear(packet.Hops)
		*packet = path.Packet{Hops: packet.Hops[:0]}
		s.packets = append(s.packets, packet)
	}
	p.Packets = nil
}
