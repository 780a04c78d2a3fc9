package doctor

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/internal/firewall"
)

// Host is what was read of one Docker host. Nil slices, nil maps and nil pointers mean "not read"; an
// empty but non-nil slice means "read, and there is none". It is not changed after it was read.
type Host struct {
	// Name tells several hosts apart; empty if there is one.
	Name string
	// NS is the network namespace of the engine; of pathtrace itself without an engine.
	NS *Namespace
	// Namespaces are all that were read, by inode: the host's, the containers', Docker's hidden ones.
	Namespaces map[uint32]*Namespace
	Engine     Engine
	Containers []*Container
	Networks   []*Network
	// Missing are the rules that Docker's state calls for and that NS.Rules does not have.
	Missing []expect.Missing
	// MissingSince says what may have taken them away, and when; empty if that is not known.
	MissingSince string
	// Services is what the files of the service manager say; nil if not read.
	Services *Services
	// Now is when reading ended.
	Now time.Time
}

// EngineState says whether the engine can be used.
type EngineState uint8

// The states of an engine. The zero value is an engine that answers.
const (
	EngineAnswers EngineState = iota
	// EngineNone: nothing speaks of Docker on this host.
	EngineNone
	// EngineDown: it should run, and does not.
	EngineDown
	// EngineHangs: it accepts connections and says nothing.
	EngineHangs
	// EngineDenied: it may run, but this process may not ask it.
	EngineDenied
)

// Engine is what is known of the Docker engine.
type Engine struct {
	State EngineState
	// Address as in --docker-host; CLI is how the client is called for it: "docker", or with -H.
	Address, CLI string
	Version      string // empty if unknown
	// Problem is the sentence about an engine that does not answer.
	Problem string
	// Orphans counts containers whose processes run although the engine does not.
	Orphans int
	// Signs is why an engine is expected where none answers.
	Signs []string

	// SettingsKnown says that the command line was read, ConfigFile names daemon.json, and
	// ConfigProblem says what is wrong with it.
	SettingsKnown             bool
	ConfigFile, ConfigProblem string
	// IPTables and UserlandProxy are settings of daemon.json or the command line.
	IPTables, UserlandProxy bool
	LiveRestore             bool
	// Backend is "iptables", "iptables+firewalld" or "nftables"; empty before Docker 29.
	Backend string
}

// Container is one container.
type Container struct {
	ID, Name string
	State    string // the engine's word: running, paused, exited, created, restarting, dead
	// NS is its network namespace; nil if it does not run or could not be read.
	NS *Namespace
	// Mode is bridge, host, none, default, container:ID or the name of a network; Joined is set where
	// it uses the namespace of another container.
	Mode   string
	Joined bool
	// Project is that of Docker Compose; empty without.
	Project   string
	Endpoints []Endpoint
	// Published is what is published, Configured what it was asked to publish.
	Published, Configured []Port
	Links                 []string
	Restart               string // restart policy: no, always, unless-stopped, on-failure
	ExitCode              int
	OOMKilled             bool
	StartError            string
	Started, Finished     time.Time
}

// Runs reports whether the container has processes.
func (c *Container) Runs() bool { return c.State == "running" || c.State == "paused" }

// Endpoint is a container's place on a network.
type Endpoint struct {
	NetworkID, Network string
	IPv4, IPv6         netip.Addr // invalid if it has none
	Gateway            netip.Addr // IPv4; invalid if it has none
	MAC                string
}

// Port is one published port.
type Port struct {
	HostIP                  netip.Addr // unspecified: every address of the host
	HostPort, ContainerPort uint16     // HostPort 0: chosen at the start
	Proto                   string     // tcp, udp or sctp
}

// Network is one Docker network.
type Network struct {
	ID, Name, Driver string
	Bridge           string // device in the host's namespace; empty for other drivers
	Subnets          []netip.Prefix
	Internal, ICC    bool
	Encrypted        bool
	Parent           string // of macvlan and ipvlan
}

// Default reports whether it is the network called bridge, which has no name resolution.
func (n *Network) Default() bool { return n.Driver == "bridge" && n.Name == "bridge" }

// Namespace is what was read of one network namespace.
type Namespace struct {
	Inode uint32
	// Name is its name for people, Path a file through which it can be entered; Self marks the one
	// pathtrace runs in, Host the one of an engine.
	Name, Path string
	Self, Host bool

	Links      []Link
	Routes     []Route
	Neighbours []Neighbour
	TCP, UDP   []Listener
	// Sysctls holds settings by path, "net/ipv4/ip_forward"; an empty value is a setting that does not
	// exist, an absent key was not read.
	Sysctls map[string]string
	// Rules are its firewall rules; nil if not read.
	Rules *firewall.Ruleset
	// Resolvers are the name servers that its processes ask, of a container.
	Resolvers []netip.Addr
	// Counters are protocol counters as nstat names them.
	Counters map[string]uint64
}

// Sysctl returns a setting; ok is false if it was not read.
func (n *Namespace) Sysctl(name string) (value string, ok bool) {
	value, ok = n.Sysctls[name]
	return value, ok
}

// link finds a device by index or, with index 0, by name.
func (n *Namespace) link(index uint32, name string) *Link {
	if n == nil {
		return nil
	}
	i := slices.IndexFunc(n.Links, func(l Link) bool {
		return index != 0 && l.Index == index || index == 0 && name != "" && l.Name == name
	})
	if i < 0 {
		return nil
	}
	return &n.Links[i]
}

// Link is a network device.
type Link struct {
	Index       uint32
	Name, Kind  string // Kind as device_kind of the contract
	Up, Carrier bool
	Master      uint32 // ifindex of its bridge; 0 if none
	PeerNetNS   uint32 // of a veth pair; 0 if unknown
	PeerIndex   uint32
	MTU         uint32 // bytes
	MAC         string
	Addrs       []netip.Prefix
	PortState   string // of a bridge port: forwarding, disabled, blocking, …
	VNI         uint32 // of a VXLAN device
}

// Route is a unicast route.
type Route struct {
	Dst     netip.Prefix // 0.0.0.0/0 or ::/0: the default route
	Dev     string
	Gateway netip.Addr // invalid: on the link
	Metric  int
	Table   int
	Kernel  bool // made by the kernel for an address of the device
}

// mainTable is RT_TABLE_MAIN (include/uapi/linux/rtnetlink.h).
const mainTable = 254

// Neighbour is an entry of the ARP or ND table.
type Neighbour struct {
	Ifindex uint32
	Addr    netip.Addr
	MAC     string
	State   string // as `ip neigh` prints it
}

// Listener is a socket that takes requests.
type Listener struct {
	Addr    netip.AddrPort // unspecified address: every address
	V6Only  bool
	Inode   uint32 // of the socket
	Process string // empty if unknown
	PID     int
}

// Services is what files say about the services that write firewall rules, and about docker.service.
type Services struct {
	// Files holds the text of those files that exist, by path.
	Files map[string]string
	// Enabled and Active are units that start with the host, and units that were started.
	Enabled, Active []string
}
