package tracer

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/topo"
)

// readTunnels reads the VXLAN devices of the way, where they send what, and what IPsec demands.
func (s *session) readTunnels(f *diagnose.Facts, want diagnose.LinkWant) {
	var spaces []uint32
	for inode := range f.Namespaces {
		spaces = append(spaces, inode)
	}
	if want.Tunnels {
		for _, ns := range s.t.topo.Namespaces() {
			if ns.Kind == topo.KindHidden && !ns.Gone {
				spaces = append(spaces, ns.Inode)
			}
		}
	}
	slices.Sort(spaces)
	f.VXLANs = []diagnose.VXLAN{}
	for _, inode := range slices.Compact(spaces) {
		s.readVXLANs(f, inode)
	}
	for _, inode := range want.IPsec {
		s.readIPsec(s.fact(f, inode), inode)
	}
}

// readVXLANs reads the VXLAN devices of a namespace with their forwarding and neighbour entries.
func (s *session) readVXLANs(f *diagnose.Facts, inode uint32) {
	links, err := s.t.topo.Links(inode)
	if err != nil {
		return // it has just vanished
	}
	for _, l := range links {
		if l.Kind != "vxlan" {
			continue
		}
		host := l.PeerNetNS
		if host == 0 {
			host = inode
		}
		f.VXLANs = append(f.VXLANs, diagnose.VXLAN{NetNS: inode, HostNetNS: host, Ifindex: l.Index, Device: l.Name,
			Network: s.t.labels.hiddenNetwork(inode), VNI: l.VNI, Port: l.VXLANPort, Proxy: l.VXLANProxy})
		ns := s.readSpace(f, inode)
		s.readNeighbours(ns, inode)
		s.readFDB(ns, l)
	}
}

func (s *session) readFDB(ns *diagnose.Namespace, l topo.Link) {
	list, err := s.t.topo.FDB(l.NetNS, l.Index)
	if err != nil {
		return
	}
	if ns.FDB == nil {
		ns.FDB = []diagnose.FDBEntry{}
	}
	for _, e := range list {
		if e.Dst.IsValid() && e.Ifindex == l.Index {
			ns.FDB = append(ns.FDB, diagnose.FDBEntry{Ifindex: e.Ifindex, MAC: e.HardwareAddr, VTEP: e.Dst})
		}
	}
}

func (s *session) readIPsec(ns *diagnose.Namespace, inode uint32) {
	policies, states, err := s.t.topo.IPsec(inode)
	if err != nil {
		s.t.cfg.Log.Debug("read IPsec", "error", err)
		return
	}
	ns.IPsec = &diagnose.IPsec{}
	for _, p := range policies {
		ns.IPsec.Policies = append(ns.IPsec.Policies, diagnose.IPsecPolicy(p))
	}
	for _, x := range states {
		ns.IPsec.States = append(ns.IPsec.States, diagnose.IPsecState(x))
	}
}

// vxlanPort is the UDP port that IANA assigned to VXLAN (RFC 7348), Docker's unless a swarm was made with
// --data-path-port.
const vxlanPort = 4789

// fewNamed is in how many named namespaces VXLAN devices are looked for.
const fewNamed = 32

// vxlanPorts lists the UDP ports of the VXLAN devices that can be found before any engine answered: in
// the namespaces that Docker keeps for its overlays, in this one and in those with a name.
func (t *Tracer) vxlanPorts() []uint16 {
	var spaces []uint32
	named := 0
	for _, ns := range t.topo.Namespaces() {
		if ns.Kind == topo.KindNamed {
			named++
		}
		given := ns.Inode == t.topo.Self() || slices.Contains(t.given, ns.Inode)
		if !ns.Gone && (given || ns.Kind == topo.KindHidden || ns.Kind == topo.KindNamed && named <= fewNamed) {
			spaces = append(spaces, ns.Inode)
		}
	}
	ports := []uint16{vxlanPort}
	for _, port := range t.topo.VXLANPorts(spaces) {
		if port != vxlanPort {
			ports = append(ports, port)
		}
	}
	return ports
}
