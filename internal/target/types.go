package target

import (
	"context"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Docker is what is asked of the engines; *docker.Engines implements it.
type Docker interface {
	List() []docker.Engine
	Containers() []*docker.Container
	Networks() []*docker.Network
}

// Topology is what is asked of the kernel; *topo.Topology implements it.
type Topology interface {
	Self() uint32
	Namespaces() []topo.NetNS
	// Mounted is the name that a namespace has under /run/netns, whatever else it is called.
	Mounted(inode uint32) string
	Namespace(inode uint32) (topo.NetNS, bool)
	HostAddrs(netns uint32) ([]netip.Addr, error)
	AddrOwner(addr netip.Addr) []topo.Owner
	RouteTo(netns uint32, dst netip.Addr) (topo.Route, error)
}

// Resolver looks up host names; *net.Resolver implements it.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Kind is what a name turned out to be.
type Kind string

// The kinds of things a name can mean.
const (
	KindContainer    Kind = "container"
	KindService      Kind = "service" // a Compose service
	KindAlias        Kind = "alias"   // an alias on a Docker network
	KindSwarmService Kind = "swarm service"
	KindNetNS        Kind = "namespace"
	KindAddress      Kind = "address"
	KindHostName     Kind = "host name"
	KindHost         Kind = "host"
)

// Target is what a flow goes to.
type Target struct {
	// Text is what was written, Label the name without scheme and port.
	Text, Label string
	Kind        Kind
	// Containers are the containers the name means, in a stable order; none for namespaces, foreign
	// addresses and the host. They may be stopped.
	Containers []*docker.Container
	// NetNS are the namespaces of the target, as far as known.
	NetNS []uint32
	// Host is set if the target is an address of a host itself, whether or not a container is behind.
	Host bool
	// Engine is the engine the target belongs to, -1 if none.
	Engine int
	Proto  path.Proto
	// Port as asked, 0 if none was.
	Port uint16
	// Asked is the address the name itself gives: an IP address, or what a host name resolved to.
	Asked []netip.Addr
	// Virtual are the addresses that a Swarm service has beside those of its containers: a load balancer
	// takes what is for them.
	Virtual []netip.Addr
	// Endpoints is every address, port and protocol that traffic to the target carries. For an
	// address it is that address alone.
	Endpoints []Endpoint
	// Behind are the container's own addresses where Endpoints are host addresses with a port that it
	// publishes, and nothing else.
	Behind []Endpoint
}

// Endpoint is one address and port under which the target is reached. Port 0 matches any port.
type Endpoint struct {
	AddrPort netip.AddrPort
	Proto    path.Proto
	// Published is set on a host address with a published port.
	Published bool
}

// Source is where a flow comes from.
type Source struct {
	// Text is what was written, Label the name.
	Text, Label string
	Kind        Kind
	NetNS       uint32
	NetNSPath   string
	// Bind is valid iff the source was given as an address: the probe uses it as its own.
	Bind netip.Addr
	// Container is nil for namespaces and hosts.
	Container *docker.Container
	// Engine is the engine the source belongs to, -1 if none.
	Engine int
	// Host is set if the source is the namespace of an engine (or of this process, without one).
	Host bool
}

// Options of a Names.
type Options struct {
	Docker   Docker
	Topology Topology
	Resolver Resolver
	// PreferIPv6 makes Dial and host names choose IPv6 where both fit.
	PreferIPv6 bool
	// Preferred are namespaces that were given by path: what is in one of them wins over what has the
	// same name or address elsewhere.
	Preferred []uint32
}

// Names resolves names. It keeps no state: each call asks anew.
type Names struct{ opts Options }

// New returns a Names. Docker and Resolver may be nil.
func New(opts Options) *Names { return &Names{opts: opts} }

// Dialed is what a probe connects to.
type Dialed struct {
	AddrPort netip.AddrPort
	// Container is the one behind the address, nil if none.
	Container *docker.Container
	// Published is set if AddrPort is a host address with a port published by Container.
	Published bool
	// Network is the Docker network that source and Container share, if that is the way.
	Network string
	// Note says which address was chosen and why if there was a choice; empty otherwise.
	Note string
}
