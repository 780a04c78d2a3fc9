package topo

import (
	"net/netip"
	"strconv"
)

// Kind is what a network namespace is for.
type Kind uint8

// The kinds of namespaces. The zero value is a namespace nobody claimed.
const (
	KindOther     Kind = iota
	KindHost           // the namespace of a host, where its physical devices are
	KindNamed          // made by `ip netns add`
	KindContainer      // a container's sandbox
	KindHidden         // one that Docker keeps for an overlay network
	KindBalancer       // one that Docker keeps for the load balancer of an overlay network, or for the ingress
)

// String returns the kind as a word.
func (k Kind) String() string {
	switch k {
	case KindHost:
		return "host"
	case KindNamed:
		return "named"
	case KindContainer:
		return "container"
	case KindHidden, KindBalancer:
		return "docker"
	}
	return "other"
}

// NetNS is one network namespace.
type NetNS struct {
	// Inode is its number in the nsfs, which is how events name it.
	Inode uint32
	// Name is the best name known: one given by SetName, else that of its pin, else of a process.
	Name string
	// Path opens the namespace; empty if nothing that refers to it can be reached. For a namespace
	// that is Gone it is the last one known.
	Path string
	// PID is the lowest process in it, 0 if there is none.
	PID  int
	Kind Kind
	// Gone is set once nothing refers to the namespace any more; its names stay known.
	Gone bool
}

// Kept reports whether Docker keeps the namespace for itself, in which no process runs.
func (n *NetNS) Kept() bool { return n.Kind == KindHidden || n.Kind == KindBalancer }

// Link is one network device.
type Link struct {
	NetNS uint32
	Index uint32
	Name  string
	// Kind is the device_kind of the contract: veth, bridge, vxlan, loopback, physical, tun, …
	Kind string
	// PeerIndex is the other end of a veth pair, or the device below a macvlan, ipvlan or vlan; 0 if
	// there is none. PeerNetNS is the namespace it is in, 0 if that could not be found.
	PeerNetNS uint32
	PeerIndex uint32
	// Master is the index of the bridge, bond or VRF that the link is a port of; 0 if none.
	Master uint32
	// MTU is in bytes, without the link-layer header.
	MTU uint32
	// Up is the administrative state (IFF_UP), Carrier what IFF_LOWER_UP says.
	Up, Carrier bool
	// HardwareAddr is in colon form; empty if the device has none.
	HardwareAddr string
	// Addrs are the addresses of the device with their prefix length; not to be modified.
	Addrs []netip.Prefix
	// VNI, VXLANPort and VXLANProxy are valid iff Kind is vxlan. With VXLANProxy the device answers
	// ARP and neighbour discovery itself, from its neighbour entries.
	VNI        uint32
	VXLANPort  uint16
	VXLANProxy bool
	// Mode is that of a macvlan (bridge, private, vepa, passthru, source) or ipvlan (l2, l3, l3s); empty
	// for other kinds.
	Mode string
	// BridgePortState is disabled, listening, learning, forwarding or blocking; empty for a link
	// that is no bridge port.
	BridgePortState string
	// PortFlags are those of a bridge port; valid iff BridgePortState is set.
	PortFlags PortFlags
	// XDP is the number of the XDP program on the device, 0 if there is none; XDPMode is native,
	// generic or offloaded.
	XDP     uint32
	XDPMode string
	// Alias is what `ip link set alias` stored.
	Alias string
	// Gone is set once the device vanished or moved to another namespace.
	Gone bool
}

// PortFlags are the settings of a bridge port that decide what it forwards (bridge(8)).
type PortFlags struct {
	// Hairpin lets a frame leave by the port it came in by; an Isolated port exchanges frames only
	// with ports that are not.
	Hairpin, Isolated bool
	// Learning enters the senders of frames into the forwarding database; Flood sends frames for
	// unknown receivers out of the port, BroadcastFlood those for all.
	Learning, Flood, BroadcastFlood bool
	// Locked drops frames of senders that the forwarding database does not have.
	Locked bool
}

// Owner is a link that carries an address.
type Owner struct {
	NetNS NetNS
	Link  Link
}

// Route is the answer of the kernel to "how would you reach this address".
type Route struct {
	// Dev is the device the packet would leave by.
	Dev   string
	Index uint32
	// Gateway is the next hop, invalid if the destination is on the link.
	Gateway netip.Addr
	// Src is the source address the kernel would choose.
	Src netip.Addr
	// Local is set if the destination is an address of the namespace itself.
	Local bool
}

// RouteEntry is a unicast route as it stands in a routing table.
type RouteEntry struct {
	// Dst is the destination; 0.0.0.0/0 or ::/0 for a default route.
	Dst netip.Prefix
	// Dev is the device and Index its ifindex; empty and 0 for a route of several next hops.
	Dev   string
	Index uint32
	// Gateway is invalid for what is on the link.
	Gateway netip.Addr
	// Src is the source address that goes with it, invalid if none is given.
	Src netip.Addr
	// Metric decides between routes to the same destination: the lowest wins.
	Metric int
	Table  int
	// Kernel is set on routes that the kernel made for an address of the device (proto kernel).
	Kernel bool
}

// Direct reports whether the destination is on a link of the namespace, without a gateway.
func (r Route) Direct() bool { return !r.Local && !r.Gateway.IsValid() }

// Neighbour is an entry of the ARP or ND cache.
type Neighbour struct {
	// Ifindex is the device it is on.
	Ifindex uint32
	Addr    netip.Addr
	// HardwareAddr is empty while unresolved.
	HardwareAddr string
	// State is REACHABLE, STALE, DELAY, PROBE, INCOMPLETE, FAILED, NOARP, PERMANENT or NONE.
	State string
	// Proxy marks an entry this host answers for on behalf of another.
	Proxy bool
}

// FDBEntry is an entry of the forwarding database of a bridge port or a VXLAN device.
type FDBEntry struct {
	// Ifindex is the bridge port or VXLAN device it is on.
	Ifindex      uint32
	HardwareAddr string
	// Dst is the tunnel endpoint behind which the address is; valid on VXLAN devices only.
	Dst netip.Addr
	// VNI and VLAN are 0 if the entry does not say.
	VNI  uint32
	VLAN uint16
	// Master is the bridge of a bridge port's entry, 0 if none.
	Master uint32
	// State as in Neighbour.
	State string
}

// ChangeKind tells what happened in a Change.
type ChangeKind uint8

// The changes that are reported.
const (
	NamespaceAdded ChangeKind = iota + 1
	NamespaceGone
	LinkAdded
	LinkChanged
	LinkGone
)

// Change is something that appeared, changed or vanished. Links of namespaces that nobody asked
// about are not watched, so nothing is reported of them.
type Change struct {
	Kind  ChangeKind
	NetNS NetNS
	Link  Link // valid iff Kind is one of the Link kinds
}

// processName is the name of a namespace that only processes refer to.
func processName(pid int, comm string) string {
	if comm == "" {
		return "pid " + strconv.Itoa(pid)
	}
	return comm + "[" + strconv.Itoa(pid) + "]"
}
