package docker

import (
	"net/netip"
	"strings"
	"time"
)

// State is the state of a container as the engine names it.
type State string

// The states of a container.
const (
	Created    State = "created"
	Running    State = "running"
	Paused     State = "paused"
	Restarting State = "restarting"
	Removing   State = "removing"
	Exited     State = "exited"
	Dead       State = "dead"
)

// Container is a snapshot of one container; it is never modified after it was handed out.
type Container struct {
	ID string
	// Name is without the leading slash.
	Name string
	// Engine is the index of its engine in Engines.List.
	Engine int
	State  State
	// PID is its first process, 0 while it does not run.
	PID int
	// NetNSPath opens its network namespace and NetNS is the inode of that; empty and 0 while it does
	// not run or if it cannot be reached. A container on the host network has the engine's own.
	NetNSPath string
	NetNS     uint32
	// NetworkMode is bridge, host, none, default, container:ID or the name of a network.
	NetworkMode string
	// JoinedID is the ID of the container whose network namespace this one joined (network mode
	// container:ID); empty otherwise. Endpoints and ports are then those of the other.
	JoinedID string
	// Project, Service and Number are the labels of Docker Compose; empty and 0 without.
	Project, Service string
	Number           int
	// SwarmService and SwarmTask are the names of the Swarm service and of its task, SwarmID the ID of the
	// service, which is the same on all hosts of the swarm.
	SwarmService, SwarmTask, SwarmID string
	// Endpoints are its networks by name, also of a stopped container (then without addresses).
	Endpoints []Endpoint
	// Ports are the published ports; of a stopped container those it is configured to publish.
	Ports []Port
	// Configured are the ports it was asked to publish, whether or not they are: an engine ignores them
	// on internal networks, and publishes nothing for a container without a network.
	Configured []Port
	// RestartPolicy is no, always, unless-stopped or on-failure; empty if the engine did not say.
	RestartPolicy string
	// ExitCode is that of its last end; valid if it does not run and Finished is set.
	ExitCode int
	// OOMKilled is set if the kernel ended it for want of memory.
	OOMKilled bool
	// StartError is why the engine could not start it; empty if it could.
	StartError string
	// Started and Finished are when it last started and ended; zero if it never did.
	Started, Finished time.Time
	// Links are the containers it is linked to (docker run --link).
	Links []string
	// Removed is set on a container that was deleted while we watched.
	Removed bool
}

// ShortID returns the first 12 characters of the ID.
func (c *Container) ShortID() string { return shortID(c.ID) }

// Runs reports whether it has a network namespace with processes: running or paused.
func (c *Container) Runs() bool { return c.State == Running || c.State == Paused }

// HostNetwork reports whether the container shares the network namespace of its engine.
func (c *Container) HostNetwork() bool { return c.NetworkMode == "host" }

// Addrs returns its addresses on all its networks.
func (c *Container) Addrs() []netip.Addr {
	var out []netip.Addr
	for _, e := range c.Endpoints {
		if e.IPv4.IsValid() {
			out = append(out, e.IPv4)
		}
		if e.IPv6.IsValid() {
			out = append(out, e.IPv6)
		}
	}
	return out
}

// Endpoint is a container's place on one network.
type Endpoint struct {
	NetworkID, Network string
	// Addresses are invalid where the endpoint has none.
	IPv4, IPv6           netip.Addr
	GatewayV4, GatewayV6 netip.Addr
	MAC                  string
	// Priority is its gateway priority (Docker 28): the highest of a container's networks gives the
	// default route.
	Priority int
	// Aliases are the DNS names of the container on this network beside its own name.
	Aliases []string
}

// Port is one published port.
type Port struct {
	// HostIP is the address it is published on: 0.0.0.0 or :: for all.
	HostIP netip.Addr
	// HostPort is 0 for a port of a stopped container that the engine chooses at start.
	HostPort, ContainerPort uint16
	// Proto is tcp, udp or sctp.
	Proto string
}

// Network is a snapshot of one Docker network.
type Network struct {
	ID, Name string
	// Engine is the index of its engine in Engines.List.
	Engine        int
	Driver, Scope string
	// Bridge is the name of its bridge device in the engine's namespace; empty for other drivers.
	Bridge   string
	Subnets  []netip.Prefix
	Gateways []netip.Addr
	// Internal networks have no way out; with ICC off containers on it may not talk to each other.
	Internal, ICC       bool
	Attachable, Ingress bool
	// Encrypted is set on overlay networks with IPsec.
	Encrypted bool
	// VNIs of an overlay network, one per subnet.
	VNIs []uint32
	// Peers are the hosts that take part in an overlay network, by the address they announce to each
	// other. It is that of their tunnels, too, unless the swarm has a data path address of its own.
	Peers []netip.Addr
	// MTU in bytes, 0 if not set on the network.
	MTU int
	// Parent is the parent device of a macvlan or ipvlan network.
	Parent string
	// IPv6 is set if the network has IPv6 switched on.
	IPv6 bool
	// Options are the driver's options as the engine keeps them; never modified.
	Options map[string]string
}

// BalancerNetNS is the name of the pin of the namespace Docker keeps for the load balancer of an overlay
// network: "lb_" and the first nine characters of its ID, or ingress_sbox; empty for other drivers.
func (n *Network) BalancerNetNS() string {
	switch {
	case n.Driver != "overlay" || len(n.ID) < 9:
		return ""
	case n.Ingress:
		return "ingress_sbox"
	}
	return "lb_" + n.ID[:9]
}

// HiddenNetNS is the name of the pin of the namespace Docker keeps for an overlay network: "1-" and
// the first ten characters of the network ID. Empty for other drivers.
func (n *Network) HiddenNetNS() string {
	if n.Driver != "overlay" || len(n.ID) < 10 {
		return ""
	}
	return "1-" + n.ID[:10]
}

// Engine is a snapshot of what is known of one engine.
type Engine struct {
	// Index is its place in Engines.List; Host the address it was asked at, such as
	// unix:///var/run/docker.sock.
	Index int
	Host  string
	// Podman is set if it is no Docker engine but Podman behind Docker's API: its firewall rules, its
	// name servers and its processes are others.
	Podman bool
	// Version of the engine and of the API spoken; empty until it first answered.
	Version, APIVersion string
	// PID of dockerd, 0 if it could not be found.
	PID int
	// NetNS is the network namespace of the engine, its "host"; 0 if it could not be found.
	NetNS     uint32
	NetNSPath string
	// Alive is set while the engine answers.
	Alive bool
	// Err is why the engine could not be used when it was last tried; nil while it answers.
	Err error
	// Settings is how it was started.
	Settings Settings
	// FirewallBackend is "iptables", "iptables+firewalld" or "nftables" as the engine says itself;
	// empty before Docker 29, which only knows iptables.
	FirewallBackend string
	// LiveRestore is set if containers keep running while the engine does not.
	LiveRestore bool
	// Rootless is set on an engine without root privileges.
	Rootless bool
	// Swarm is set on an active member of a swarm.
	Swarm bool
}

// shortID returns the first 12 characters of an ID.
func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
