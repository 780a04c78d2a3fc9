package tracer

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// protoNumber is the IP protocol number that packets between addresses like addr carry.
func protoNumber(p path.Proto, addr netip.Addr) uint8 {
	switch {
	case p == path.UDP:
		return wire.ProtoUDP
	case p == path.ICMP && addr.Is4():
		return wire.ProtoICMP
	case p == path.ICMP:
		return wire.ProtoICMPv6
	}
	return wire.ProtoTCP
}

// endpointSet is the target's addresses and ports, as the tracker asks for them. It grows while a
// trace runs: containers start and get other addresses.
type endpointSet struct {
	mu  sync.RWMutex
	set map[probe.Endpoint]bool
	rec *recorder // nil records nothing
}

func newEndpointSet() *endpointSet { return &endpointSet{set: map[probe.Endpoint]bool{}} }

// add adds the endpoints and returns those that are new.
func (s *endpointSet) add(list []target.Endpoint) []probe.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fresh []probe.Endpoint
	for _, e := range list {
		ep := probe.Endpoint{Addr: e.AddrPort, Proto: protoNumber(e.Proto, e.AddrPort.Addr())}
		if !s.set[ep] {
			s.set[ep] = true
			fresh = append(fresh, ep)
		}
	}
	s.rec.endpoints(fresh, nil)
	return fresh
}

// remove drops all endpoints that are not in list and returns them.
func (s *endpointSet) remove(list []target.Endpoint) []probe.Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep := map[probe.Endpoint]bool{}
	for _, e := range list {
		keep[probe.Endpoint{Addr: e.AddrPort, Proto: protoNumber(e.Proto, e.AddrPort.Addr())}] = true
	}
	var gone []probe.Endpoint
	for ep := range s.set {
		if !keep[ep] {
			delete(s.set, ep)
			gone = append(gone, ep)
		}
	}
	s.rec.endpoints(nil, gone)
	return gone
}

// has reports whether packets to ap go to the target.
func (s *endpointSet) has(ap netip.AddrPort, proto uint8) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.set[probe.Endpoint{Addr: ap, Proto: proto}]
}

// hasPort reports whether some endpoint has the port.
func (s *endpointSet) hasPort(port uint16) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for ep := range s.set {
		if ep.Addr.Port() == port {
			return true
		}
	}
	return false
}

// all returns the endpoints.
func (s *endpointSet) all() []probe.Endpoint {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.set))
}
