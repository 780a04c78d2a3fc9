package diagnose

import (
	"net/netip"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Facts is what the caller knows about the surroundings of a flow after the flow has ended. The zero
// value knows nothing. Nil slices, nil maps and nil pointers mean "not read"; an empty but non-nil
// slice means "read, and there is none".
type Facts struct {
	// Probe is the result of the one probe that was sent; nil in passive mode.
	Probe *Probe
	// Dialed is where the probe was sent, or was to be sent; invalid in passive mode.
	Dialed netip.AddrPort
	// Target and Source are the two ends as the user named them; Source is zero without --from.
	Target, Source Endpoint
	// Publications are all published ports of the host that the target is an address of; nil if the
	// target is no host's address, or that is not known.
	Publications []Publication
	// Lookup is how the asker itself resolves the target's name; nil if that was not asked.
	Lookup *Lookup
	// Namespaces holds what was read, by inode number of the network namespace.
	Namespaces map[uint32]*Namespace
	// Waited is how long traffic was watched for in passive mode; 0 if unknown.
	Waited time.Duration
	// LostEvents counts observations that were lost; Complete says that none was lost and that
	// every hook of the path was attached.
	LostEvents uint64
	Complete   bool
	// NFTDropsInPlace says that nf_tables discards packets in nft_do_chain itself (Linux 6.7): then a
	// drop in nf_hook_slow is none of its rules.
	NFTDropsInPlace bool
	// NoIPVS says that the kernel has no IPVS, or has not loaded it.
	NoIPVS bool
	// MissingHooks names the hooks that could not be attached.
	MissingHooks []string
	// Unseen are the hosts that were to be watched and were not, each with why: "h2: connection refused".
	Unseen []string
	// Owners are the devices, in any namespace, that carry an address which was asked about.
	Owners []Owner
	// Subnets are those of the engines' networks.
	Subnets []Subnet
	// VXLANs are the VXLAN devices of the namespaces that Docker keeps for its overlays, and of those
	// on the way; nil if not read.
	VXLANs []VXLAN
}

// Probe is what came of the probe.
type Probe struct {
	Kind ProbeKind
	// ICMPType and ICMPCode are valid for ProbeICMPError; MTU (bytes) if the error carried one;
	// From is the address that sent the error, invalid if unknown.
	ICMPType, ICMPCode uint8
	MTU                uint32
	From               netip.Addr
	// Errno names the error of the system call for ProbeLocalError: "ENETUNREACH".
	Errno string
	// RoundTrip is the time from sending to the answer or the error; 0 if there was none.
	RoundTrip time.Duration
	// Timeout is how long an answer was waited for.
	Timeout time.Duration
}

// ProbeKind says how a probe ended.
type ProbeKind string

// The ends of a probe.
const (
	// ProbeNone: no probe was sent.
	ProbeNone ProbeKind = ""
	// ProbeConnected: the TCP connection was established.
	ProbeConnected ProbeKind = "connected"
	// ProbeAnswered: a UDP datagram or an ICMP echo reply came back.
	ProbeAnswered ProbeKind = "answered"
	// ProbeRefused: a TCP reset came back.
	ProbeRefused ProbeKind = "refused-rst"
	// ProbeICMPError: an ICMP error came back.
	ProbeICMPError ProbeKind = "icmp-error"
	// ProbeLocalError: the sender's own kernel refused to send, or gave up before the timeout.
	ProbeLocalError ProbeKind = "local-error"
	// ProbeSilence: nothing came back within the timeout.
	ProbeSilence ProbeKind = "silence"
)

// Endpoint is one end of the question, as far as names and the engine tell.
type Endpoint struct {
	// Label is how people call it: "web", "host", "10.99.0.1". It appears in sentences.
	Label string
	// Container is the container's name; empty if it is none.
	Container string
	// State is the engine's word for it: running, paused, exited, created, restarting, dead; ""
	// if unknown or not a container.
	State string
	// StartError is why the engine could not start it; "" if it could. ExitCode is that of its last
	// end, valid if State is exited or dead; OOMKilled says that the kernel ended it for want of memory.
	StartError string
	ExitCode   int
	OOMKilled  bool
	// NetNS lists the network namespaces it lives in; empty if unknown or not running.
	NetNS []uint32
	// HostNetNS lists the host namespaces of its engine.
	HostNetNS []uint32
	// Networks it is attached to; nil if unknown.
	Networks []Network
	// Published lists its published ports; nil if unknown.
	Published []Published
	// Joined is the container whose network namespace this one is in (--network container:X); "" if it
	// has one of its own. HostNetwork says that it is in its host's.
	Joined      string
	HostNetwork bool
	// Sharers are the other containers in its namespace, the host's not counted.
	Sharers []string
	// Podman says that its engine is Podman.
	Podman bool
	// Configured lists the ports that it was started to publish, whether or not the engine does.
	Configured []Published
	// Rivals are the running containers that publish a port which this one, not running, is to publish.
	Rivals []string
	// Port is the port that was asked for; 0 if none. PortKind says what kind of port that is.
	Port     uint16
	PortKind PortKind
}

// PortKind says which port number the user gave.
type PortKind uint8

// The kinds of ports.
const (
	PortUnknown   PortKind = iota
	PortContainer          // a port inside the container
	PortHost               // a port of the host, published or meant to be
)

// Network is one attachment to a Docker network.
type Network struct {
	Name  string
	Addrs []netip.Addr
	// Gateways are the addresses that the network gives its containers as default gateway.
	Gateways []netip.Addr
	// Internal networks lead nowhere but to their own containers.
	Internal bool
}

// Published is one published port.
type Published struct {
	HostIP        netip.Addr // unspecified or invalid: every address of the host
	HostPort      uint16
	ContainerPort uint16
	Proto         path.Proto
}

// Publication is a published port and the running container that publishes it.
type Publication struct {
	Container string
	Published
}

// Namespace is what was read of one network namespace.
type Namespace struct {
	// Name is its name for people, Container the name of the container that lives in it, if any.
	Name, Container string
	// Path is a file through which it can be entered, such as /run/netns/x; "" if unknown.
	Path string
	// Self marks the namespace pathtrace itself runs in: commands there need no prefix.
	Self bool
	// Host is the host it is on, if the flow was seen on several; Reach is what runs a command line
	// there, such as "ssh root@h2", "" if that is not known.
	Host, Reach string

	Links      []Link
	Neighbours []Neighbour
	Listeners  []Listener
	// Counters holds by how much kernel counters grew during the flow, such as
	// "TcpExtListenOverflows" and "UdpRcvbufErrors" (names as in `nstat`); nil if not read.
	Counters map[string]uint64
	// Routes holds the results of route look-ups made in this namespace.
	Routes []Route
	// Sysctls holds settings by name: "net.ipv4.ip_forward": "1".
	Sysctls map[string]string

	FirewallFacts
	// Expected is what Docker's rules there were compared with; nil if they were not.
	Expected *Expected
	// Queues are the queueing disciplines of its devices, Table its routes.
	Queues []Queue
	Table  []TableRoute
	// Tracked holds the entries of connection tracking that were asked for and found.
	Tracked []Tracked
	// FDB holds the forwarding entries of its VXLAN devices.
	FDB []FDBEntry
	// IPsec is what it demands and has for encryption; nil if not read.
	IPsec *IPsec
	// NATPorts is how many ports the source translation of the flow has in use towards the target's
	// end, this flow not counted; 0 if not counted.
	NATPorts int
}

// Link is a network device.
type Link struct {
	Index uint32
	Name  string
	Kind  string // veth, bridge, vxlan, …; "" for hardware
	Mode  string // of a macvlan: bridge, private, vepa, …; of an ipvlan: l2, l3, l3s; else ""
	Up    bool   // administratively up
	// Carrier is the operational state: false if the peer or the cable is down.
	Carrier bool
	Master  uint32 // ifindex of its bridge; 0 if none
	// PeerNetNS and PeerIndex name the other end of a veth pair, or the device below a macvlan or
	// ipvlan; 0 if unknown.
	PeerNetNS, PeerIndex uint32
	MTU                  uint32 // bytes; 0 if unknown
	MAC                  string // in colon form; "" if unknown
	Addrs                []netip.Prefix
	// Port is set iff the device is a port of a bridge and its settings were read.
	Port *Port
	// Programs are those attached to the device; nil if not read.
	Programs []Program
}

// Neighbour is an entry of the ARP or ND table.
type Neighbour struct {
	Ifindex uint32
	Addr    netip.Addr
	State   string // as `ip neigh` prints it: REACHABLE, STALE, INCOMPLETE, FAILED, …
	MAC     string // in colon form; "" while unresolved or if unknown
}

// Listener is a socket that takes requests.
type Listener struct {
	Proto path.Proto
	Addr  netip.AddrPort // unspecified address: every address
	// V6Only is set on an IPv6 socket that is known not to take IPv4.
	V6Only bool
	// Queue and QueueMax are the accept queue's length and limit (TCP), or bytes queued and the
	// buffer size (UDP); QueueMax 0 means unknown.
	Queue, QueueMax uint32
	Process         string // "" if unknown
	PID             int    // 0 if unknown
	// Container is the name of the container that the process belongs to; "" if none or unknown.
	Container string
	// Stranger is set if the process is known not to be the target container's, although the container
	// is in the same namespace, the host's.
	Stranger bool
	// Forward is where docker-proxy, if that is the process, carries connections; invalid if unknown.
	Forward netip.AddrPort
}

// Tracked is an entry of connection tracking that belongs to the flow.
type Tracked struct {
	Proto path.Proto
	// OrigSrc and OrigDst are the ends as the first packet had them; ReplySrc and ReplyDst those of
	// the packets that come back, before translation is undone: ReplySrc is what OrigDst is
	// translated to, ReplyDst what OrigSrc is.
	OrigSrc, OrigDst, ReplySrc, ReplyDst netip.AddrPort
	// Replied is set once a packet came back.
	Replied bool
}

// Route is the result of a route look-up.
type Route struct {
	Dst     netip.Addr
	Gateway netip.Addr // invalid if on-link
	Ifindex uint32
	Device  string
	Err     string // error name such as "ENETUNREACH"; "" if there is a route
}
