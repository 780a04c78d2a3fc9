package tracer

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// declare reads what the links of the path declare: their MTUs, what they take in one piece, the bridges
// between them and Docker's options of their networks.
func (s *side) declare(links []path.MTULink) {
	s.out.Links, s.out.Declared = links, mtu.Declared(links)
	s.out.Bridges, s.out.Networks = nil, nil
	for i := range links {
		s.offload(&links[i])
		s.bridge(&links[i])
		s.network(links[i].Network)
	}
}

// offload adds to a link what it takes in one piece.
func (s *side) offload(l *path.MTULink) {
	if o, err := s.m.s.t.topo.Offload(l.NetNS, l.Ifindex); err == nil {
		l.GSOMaxSize, l.GSOMaxSegments, l.GROMaxSize = int(o.GSOMaxSize), int(o.GSOMaxSegments), int(o.GROMaxSize)
	}
}

// bridge adds the bridge that a link is a port of.
func (s *side) bridge(l *path.MTULink) {
	topo := s.m.s.t.topo
	port, ok := topo.Link(l.NetNS, l.Ifindex)
	if !ok || port.Master == 0 {
		return
	}
	br, ok := topo.Link(l.NetNS, port.Master)
	if !ok || br.Kind != "bridge" {
		return
	}
	b := path.MTUBridge{Host: l.Host, Namespace: l.Namespace, NetNS: l.NetNS, Device: br.Name, MTU: int(br.MTU)}
	isIt := func(x path.MTULink) bool { return x.NetNS == b.NetNS && x.Device == b.Device }
	if slices.Contains(s.out.Bridges, b) || slices.ContainsFunc(s.out.Links, isIt) {
		return // it is a link of its own where packets are routed
	}
	s.out.Bridges = append(s.out.Bridges, b)
}

// network adds what Docker was told of a network.
func (s *side) network(name string) {
	for _, n := range s.m.s.t.engines.Networks() {
		known := path.MTUNetwork{Network: n.Name, Driver: n.Driver, MTU: n.MTU}
		if n.Name == name && !slices.Contains(s.out.Networks, known) {
			s.out.Networks = append(s.out.Networks, known)
		}
	}
}
