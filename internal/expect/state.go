package expect

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// State is what is known of one engine.
type State struct {
	// Version is the engine's: "20.10.24+dfsg1". Versions that say nothing ("dev") are fine.
	Version string
	// NFTables is set if the engine writes its rules to tables of its own (Docker 29 and newer).
	NFTables bool
	// IPTables and IP6Tables say whether the engine writes rules for IPv4 and for IPv6.
	IPTables, IP6Tables bool
	// Assumed is set if how the engine was started could not be read, so that the settings here are
	// its defaults.
	Assumed bool
	// UserlandProxy is set if docker-proxy is started for published ports.
	UserlandProxy bool
	Networks      []Network
	// Containers are those that run.
	Containers []Container
}

// Network is a network with the bridge driver.
type Network struct {
	Name, Bridge   string
	Subnets        []netip.Prefix
	Internal, ICC  bool
	Masquerade     bool
	Mode4, Mode6   Mode
	TrustedDevices []string
}

// SubnetOf returns the subnet of the network that holds an address, an invalid one if none does.
func (n *Network) SubnetOf(addr netip.Addr) netip.Prefix {
	for _, p := range n.Subnets {
		if p.Contains(addr.Unmap()) {
			return p
		}
	}
	return netip.Prefix{}
}

// Mode is how a network's containers are reached from outside (gateway_mode_ipv4 and _ipv6).
type Mode string

// The gateway modes. The empty one is Docker's default, NAT.
const (
	NAT            Mode = "nat"
	NATUnprotected Mode = "nat-unprotected"
	Routed         Mode = "routed"
	Isolated       Mode = "isolated"
)

// Container is a running container.
type Container struct {
	Name      string
	Endpoints []Endpoint
	Ports     []Port
}

// Endpoint is a container's place on a network of any driver.
type Endpoint struct {
	Network    string
	IPv4, IPv6 netip.Addr // invalid if it has none
}

// Port is a published port.
type Port struct {
	HostIP                  netip.Addr // unspecified: every address of its family
	HostPort, ContainerPort uint16     // HostPort is 0 where nothing is translated
	Proto                   string     // tcp, udp or sctp
}

// mode returns the gateway mode for a family.
func (n *Network) mode(v6 bool) Mode {
	m := n.Mode4
	if v6 {
		m = n.Mode6
	}
	if m == "" {
		return NAT
	}
	return m
}

// subnet returns the network's first subnet of a family; invalid if there is none.
func (n *Network) subnet(v6 bool) netip.Prefix {
	for _, p := range n.Subnets {
		if p.Addr().Is6() == v6 {
			return p.Masked()
		}
	}
	return netip.Prefix{}
}

func (s *State) network(name string) *Network {
	i := slices.IndexFunc(s.Networks, func(n Network) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Networks[i]
}

// writes reports whether the engine writes rules for a family.
func (s *State) writes(v6 bool) bool {
	if v6 {
		return s.IP6Tables
	}
	return s.IPTables
}

// release returns the version's first three numbers; ok is false for versions without any.
func (s *State) release() (v [3]int, ok bool) {
	text, _, _ := strings.Cut(s.Version, "+")
	text, _, _ = strings.Cut(text, "-")
	for i, part := range strings.SplitN(text, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil {
			break
		}
		v[i], ok = n, true
	}
	return v, ok
}

// atLeast reports whether the version is known to be major.minor.patch or newer.
func (s *State) atLeast(major, minor, patch int) bool {
	v, ok := s.release()
	return ok && slices.Compare(v[:], []int{major, minor, patch}) >= 0
}

// before reports whether the version is known to be older than major.minor.patch.
func (s *State) before(major, minor, patch int) bool {
	_, ok := s.release()
	return ok && !s.atLeast(major, minor, patch)
}

// addr returns the endpoint's address of a family.
func (e *Endpoint) addr(v6 bool) netip.Addr {
	if v6 {
		return e.IPv6
	}
	return e.IPv4
}

// candidates are the endpoints of a container through which a port may be published: those on
// bridge networks that have a way out. Docker uses the one that is the container's gateway.
func (s *State) candidates(c *Container, v6 bool) []gateway {
	var out []gateway
	for i := range c.Endpoints {
		e := &c.Endpoints[i]
		n := s.network(e.Network)
		if n != nil && !n.Internal && n.Bridge != "" && e.addr(v6).IsValid() {
			out = append(out, gateway{n, e.addr(v6)})
		}
	}
	return out
}

// gateway is a container's address on a network that may be its gateway.
type gateway struct {
	network *Network
	addr    netip.Addr
}

// gatewayBridge is the network through which containers on overlay networks reach the world. Their
// addresses on it are not told by the engine.
const gatewayBridge = "docker_gwbridge"

// hidden returns the network on which a container has an address that the engine does not tell.
func (s *State) hidden(c *Container) *Network {
	for i := range c.Endpoints {
		if s.network(c.Endpoints[i].Network) == nil {
			return s.network(gatewayBridge)
		}
	}
	return nil
}
