package tracer

import (
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/topo"
)

// fewVeths is up to how many veth devices a namespace may have for all other ends to be looked at: a
// container has a few, a host one for each container.
const fewVeths = 4

// queueKey identifies a queueing discipline for as long as a trace lasts.
type queueKey struct {
	netns, ifindex uint32
	handle, parent string
}

// readWay reads what is known of devices, bridges and routes along the way of a flow that failed.
func (s *session) readWay(f *diagnose.Facts, want diagnose.LinkWant) {
	for _, inode := range slices.Concat(want.Way, f.Source.NetNS, f.Target.NetNS) {
		if ns := s.readSpace(f, inode); ns != nil {
			s.readNeighbours(ns, inode)
			s.readPeers(f, ns)
		}
	}
	for _, inode := range want.Queues {
		s.readQueues(s.fact(f, inode), inode)
	}
	for _, inode := range want.Tables {
		s.readTable(s.fact(f, inode), inode)
	}
	for _, q := range want.Devices {
		s.readPrograms(f, q)
	}
	f.Subnets = s.subnets()
	s.readTunnels(f, want)
}

// readOwners finds who has an address, and, if there are several, how they are connected.
func (s *session) readOwners(f *diagnose.Facts, addrs []netip.Addr) {
	for _, addr := range addrs {
		owners := s.owners(addr)
		f.Owners = append(f.Owners, owners...)
		for _, o := range owners {
			if len(owners) > 1 {
				s.readSpace(f, o.NetNS)
				s.readSpace(f, o.PeerNetNS)
			}
		}
	}
}

// readSpace reads the devices of a namespace, unless it is unknown.
func (s *session) readSpace(f *diagnose.Facts, inode uint32) *diagnose.Namespace {
	if inode == 0 {
		return nil
	}
	ns := s.fact(f, inode)
	s.readLinks(ns, inode)
	return ns
}

// readPeers reads the devices of the namespaces that the veth devices of a namespace lead to.
func (s *session) readPeers(f *diagnose.Facts, ns *diagnose.Namespace) {
	var peers []uint32
	for _, l := range ns.Links {
		if l.PeerNetNS != 0 && !slices.Contains(peers, l.PeerNetNS) {
			peers = append(peers, l.PeerNetNS)
		}
	}
	if len(peers) > fewVeths {
		return
	}
	for _, inode := range peers {
		s.readSpace(f, inode)
	}
}

func linkFact(l topo.Link) diagnose.Link {
	out := diagnose.Link{
		Index: l.Index, Name: l.Name, Kind: l.Kind, Mode: l.Mode, Up: l.Up, Carrier: l.Carrier, Master: l.Master,
		PeerNetNS: l.PeerNetNS, PeerIndex: l.PeerIndex, MTU: l.MTU, MAC: l.HardwareAddr, Addrs: l.Addrs,
	}
	if l.BridgePortState != "" {
		p := l.PortFlags
		out.Port = &diagnose.Port{State: l.BridgePortState, Hairpin: p.Hairpin, Isolated: p.Isolated,
			Flood: p.Flood, BroadcastFlood: p.BroadcastFlood, Locked: p.Locked}
	}
	return out
}

// queueBaseline reads what the queues of the ends and the hosts had dropped before the trace.
func (s *session) queueBaseline() map[queueKey]uint64 {
	out := map[queueKey]uint64{}
	spaces := append([]uint32{s.t.source.NetNS}, s.t.target.NetNS...)
	for _, inode := range append(spaces, s.hostNetNS(-1)...) {
		list, err := s.t.topo.Qdiscs(inode)
		if inode == 0 || err != nil {
			continue
		}
		for _, q := range list {
			out[queueKey{inode, q.Ifindex, q.Handle, q.Parent}] = q.Drops
		}
	}
	return out
}

func (s *session) readQueues(ns *diagnose.Namespace, inode uint32) {
	list, err := s.t.topo.Qdiscs(inode)
	if err != nil {
		return
	}
	ns.Queues = []diagnose.Queue{}
	for _, q := range list {
		before, ok := s.queues[queueKey{inode, q.Ifindex, q.Handle, q.Parent}]
		ns.Queues = append(ns.Queues, diagnose.Queue{Ifindex: q.Ifindex, Kind: q.Kind, Parent: q.Parent,
			Drops: q.Drops - min(before, q.Drops), Total: !ok})
	}
}

func (s *session) readTable(ns *diagnose.Namespace, inode uint32) {
	list, err := s.t.topo.Table(inode)
	if err != nil {
		return
	}
	ns.Table = []diagnose.TableRoute{}
	for _, r := range list {
		ns.Table = append(ns.Table, diagnose.TableRoute{Dst: r.Dst, Ifindex: r.Index, Gateway: r.Gateway,
			Type: r.Type, Table: r.Table})
	}
}

// readPrograms reads what is attached to a device, and to the other end of a veth device.
func (s *session) readPrograms(f *diagnose.Facts, q diagnose.DeviceQuery) {
	l := s.deviceFact(f, q)
	if l == nil {
		return
	}
	s.attached(q.NetNS, l)
	if peer := s.deviceFact(f, diagnose.DeviceQuery{NetNS: l.PeerNetNS, Ifindex: l.PeerIndex}); peer != nil {
		s.attached(l.PeerNetNS, peer)
	}
}

func (s *session) deviceFact(f *diagnose.Facts, q diagnose.DeviceQuery) *diagnose.Link {
	ns := s.readSpace(f, q.NetNS)
	if ns == nil {
		return nil
	}
	i := slices.IndexFunc(ns.Links, func(l diagnose.Link) bool {
		return l.Index == q.Ifindex || q.Ifindex == 0 && l.Name == q.Name
	})
	if i < 0 {
		return nil
	}
	return &ns.Links[i]
}

// attached lists the programs of a device.
func (s *session) attached(inode uint32, l *diagnose.Link) {
	if l.Programs != nil {
		return
	}
	l.Programs = []diagnose.Program{}
	if now, ok := s.t.topo.Link(inode, l.Index); ok && now.XDPMode != "" {
		l.Programs = append(l.Programs, program("XDP "+now.XDPMode, "", ebpf.ProgramID(now.XDP)))
	}
	filters, err := s.t.topo.Filters(inode, l.Index)
	if err != nil {
		s.t.cfg.Log.Debug("read filters", "device", l.Name, "error", err)
	}
	for _, x := range filters {
		hook := "tc ingress"
		if x.Egress {
			hook = "tc egress"
		}
		p := program(hook, x.Kind, ebpf.ProgramID(x.Program))
		if p.Name == "" {
			p.Name = x.Name
		}
		l.Programs = append(l.Programs, p)
	}
	l.Programs = append(l.Programs, s.tcx(inode, l.Index)...)
}

// tcx lists the programs attached through tcx links (Linux 6.6), which netlink does not show. The
// device is looked for in the namespace of the thread that asks.
func (s *session) tcx(inode, ifindex uint32) []diagnose.Program {
	var out []diagnose.Program
	_ = s.t.topo.InNamespace(inode, func() error {
		for _, side := range []struct {
			attach ebpf.AttachType
			hook   string
		}{{ebpf.AttachTCXIngress, "tcx ingress"}, {ebpf.AttachTCXEgress, "tcx egress"}} {
			found, err := link.QueryPrograms(link.QueryOptions{Target: int(ifindex), Attach: side.attach})
			if err != nil {
				return err // before 6.6 there are none
			}
			for _, p := range found.Programs {
				out = append(out, program(side.hook, "", p.ID))
			}
		}
		return nil
	})
	return out
}

// program names a BPF program; one that went away meanwhile keeps its number.
func program(hook, kind string, id ebpf.ProgramID) diagnose.Program {
	out := diagnose.Program{Hook: hook, Kind: kind, ID: uint32(id)}
	if id == 0 {
		return out
	}
	p, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return out
	}
	defer p.Close()
	if info, err := p.Info(); err == nil {
		out.Name = info.Name
	}
	return out
}

// ownersKnown is for how long the owners of an address are not looked for again: that takes a look
// at every namespace.
const ownersKnown = time.Second

// maxKnown bounds how many addresses are kept.
const maxKnown = 1024

// knownOwners is what was found of an address.
type knownOwners struct {
	list []diagnose.Owner
	when time.Time
}

// owners finds the devices that carry an address, in any namespace.
func (s *session) owners(addr netip.Addr) []diagnose.Owner {
	if known := s.known[addr]; time.Since(known.when) < ownersKnown {
		return known.list
	}
	var out []diagnose.Owner
	for _, o := range s.t.topo.AddrOwner(addr) {
		l := o.Link
		x := diagnose.Owner{Addr: addr, NetNS: l.NetNS, Ifindex: l.Index, Device: l.Name, MAC: l.HardwareAddr,
			PeerNetNS: l.PeerNetNS, PeerIndex: l.PeerIndex, Label: s.t.labels.namespace(l.NetNS)}
		if c, ok := s.t.engines.ByNetNS(l.NetNS); ok && !c.HostNetwork() {
			x.Container, x.Label = c.Name, "container "+c.Name
		}
		out = append(out, x)
	}
	if len(s.known) >= maxKnown {
		clear(s.known)
	}
	s.known[addr] = knownOwners{out, time.Now()}
	return out
}

// subnets lists the subnets of the engines' networks with the addresses in use.
func (s *session) subnets() []diagnose.Subnet {
	taken := map[string][]netip.Addr{}
	for _, c := range s.t.engines.Containers() {
		for _, ep := range c.Endpoints {
			taken[ep.NetworkID] = append(taken[ep.NetworkID], validAddrs(ep.IPv4, ep.IPv6)...)
		}
	}
	var out []diagnose.Subnet
	for _, n := range s.t.engines.Networks() {
		for _, p := range n.Subnets {
			out = append(out, diagnose.Subnet{Network: n.Name, Prefix: p, Bridge: n.Bridge,
				HostNetNS: s.hostNetNS(n.Engine), Encrypted: n.Encrypted, Peers: n.Peers, Taken: slices.Concat(taken[n.ID], n.Gateways)})
		}
	}
	return out
}
