package diagnose

import "net/netip"

// Port holds the settings of a bridge port.
type Port struct {
	State string // disabled, listening, learning, forwarding or blocking
	// Hairpin lets a frame leave by the port it came in by; an Isolated port exchanges frames only
	// with ports that are not; a port without Flood gets no frames for unknown receivers; a Locked
	// one takes frames only from senders in the forwarding database.
	Hairpin, Isolated, Flood, BroadcastFlood, Locked bool
}

// Program is something attached to a device that may drop packets before, or instead of, the network
// stack: an XDP program, a tc classifier or a tcx program.
type Program struct {
	// Hook is "XDP native", "XDP generic", "XDP offloaded", "tc ingress", "tc egress", "tcx ingress"
	// or "tcx egress".
	Hook string
	// Kind of a tc classifier, such as "bpf" or "u32"; "" for the others.
	Kind string
	// Name and ID of a BPF program; "" and 0 if it is none or they are not known.
	Name string
	ID   uint32
}

// Queue is a queueing discipline of a device.
type Queue struct {
	Ifindex uint32
	Kind    string // as tc(8) names it: noop, noqueue, pfifo_fast, fq_codel, tbf, …
	Parent  string // as tc(8) writes it: root, 1:2
	// Drops is by how much its count of discarded packets grew during the flow, or, if Total is set,
	// since it was created.
	Drops uint64
	Total bool
}

// TableRoute is an entry of a routing table.
type TableRoute struct {
	Dst     netip.Prefix
	Ifindex uint32 // 0 if it has no device, or several
	Gateway netip.Addr
	Type    string // unicast, unreachable, prohibit, blackhole, …
	Table   uint32 // 254 is main
}

// Owner is a device that carries an address.
type Owner struct {
	Addr    netip.Addr
	NetNS   uint32
	Ifindex uint32
	Device  string
	MAC     string
	// PeerNetNS and PeerIndex as in Link.
	PeerNetNS, PeerIndex uint32
	// Label names the namespace for people: "container dup", "host".
	Label string
	// Container is the name of the container that lives there, "" if none.
	Container string
}

// Subnet is one subnet of a Docker network.
type Subnet struct {
	Network string
	Prefix  netip.Prefix
	// Bridge is the network's bridge device in the namespaces HostNetNS; "" for other drivers.
	Bridge    string
	HostNetNS []uint32
	// Encrypted is set on an overlay with IPsec; Peers are the hosts that take part in an overlay, by
	// the address they announce.
	Encrypted bool
	Peers     []netip.Addr
	// Taken lists the addresses of the network's containers and its gateways.
	Taken []netip.Addr
}
