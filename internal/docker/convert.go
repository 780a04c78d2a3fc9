package docker

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/network"
)

// Labels that Docker Compose and Swarm put on their containers.
const (
	labelProject   = "com.docker.compose.project"
	labelService   = "com.docker.compose.service"
	labelNumber    = "com.docker.compose.container-number"
	labelSwarm     = "com.docker.swarm.service.name"
	labelSwarmID   = "com.docker.swarm.service.id"
	labelSwarmTask = "com.docker.swarm.task.name"
)

// convertContainer makes a snapshot of what inspecting a container answered, without the network
// namespace, which is looked up on this machine. Any part of the answer may be missing.
func convertContainer(engine int, in inspection) *Container {
	c := &Container{Engine: engine}
	c.ID, c.Name = in.ID, strings.TrimPrefix(in.Name, "/")
	if in.State != nil {
		c.State, c.PID = in.State.Status, in.State.Pid
	}
	if in.HostConfig != nil {
		c.NetworkMode = in.HostConfig.NetworkMode
		if id, ok := strings.CutPrefix(c.NetworkMode, "container:"); ok {
			c.JoinedID = id
		}
	}
	if in.Config != nil {
		convertLabels(c, in.Config.Labels)
	}
	if in.NetworkSettings != nil {
		c.Endpoints = convertEndpoints(c, in.NetworkSettings.Networks)
	}
	c.Ports = convertPorts(c, in)
	convertLife(c, in)
	return c
}

// convertLife notes how the container is started and how it ended.
func convertLife(c *Container, in inspection) {
	if in.State != nil {
		c.ExitCode, c.OOMKilled, c.StartError = in.State.ExitCode, in.State.OOMKilled, in.State.Error
		c.Started, c.Finished = parseTime(in.State.StartedAt), parseTime(in.State.FinishedAt)
	}
	if in.HostConfig != nil {
		c.RestartPolicy = in.HostConfig.RestartPolicy.Name
		c.Links = in.HostConfig.Links
		c.Configured = ports(in.HostConfig.PortBindings.bindings())
	}
}

// parseTime reads the engine's times; the zero time, which it writes for "never", stays zero.
func parseTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

func convertLabels(c *Container, labels map[string]string) {
	c.Project, c.Service = labels[labelProject], labels[labelService]
	c.Number, _ = strconv.Atoi(labels[labelNumber])
	c.SwarmService, c.SwarmTask, c.SwarmID = labels[labelSwarm], labels[labelSwarmTask], labels[labelSwarmID]
}

func convertEndpoints(c *Container, in map[string]*endpointSettings) []Endpoint {
	out := make([]Endpoint, 0, len(in))
	for name, e := range in {
		if e == nil {
			continue
		}
		out = append(out, Endpoint{
			NetworkID: e.NetworkID,
			Network:   name,
			IPv4:      parseAddr(e.IPAddress),
			IPv6:      parseAddr(e.GlobalIPv6Address),
			GatewayV4: parseAddr(e.Gateway),
			GatewayV6: parseAddr(e.IPv6Gateway),
			MAC:       e.MacAddress,
			Priority:  e.GwPriority,
			Aliases:   aliases(c, e),
		})
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return cmp.Compare(a.Network, b.Network) })
	return out
}

// aliases joins what the user asked for (Aliases) and, from API 1.44 on, all that is answered
// (DNSNames), without the container's own name and ID.
func aliases(c *Container, e *endpointSettings) []string {
	var out []string
	for _, name := range slices.Concat(e.Aliases, e.DNSNames) {
		if name != c.Name && name != shortID(c.ID) && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// binding is a port and where it is published, of either part of the answer.
type binding struct {
	port, proto      string
	hostIP, hostPort string
}

// convertPorts reads what is published now, or for a container that does not run what it is
// configured to publish.
func convertPorts(c *Container, in inspection) []Port {
	switch {
	case c.Runs() && in.NetworkSettings != nil:
		return ports(in.NetworkSettings.Ports.bindings())
	case in.HostConfig != nil:
		return ports(in.HostConfig.PortBindings.bindings())
	}
	return nil
}

// ports converts bindings, in order.
func ports(bindings []binding) []Port {
	var out []Port
	for _, b := range bindings {
		out = append(out, b.ports()...)
	}
	slices.SortFunc(out, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.ContainerPort, b.ContainerPort), cmp.Compare(a.Proto, b.Proto),
			cmp.Compare(a.HostPort, b.HostPort), a.HostIP.Compare(b.HostIP))
	})
	return out
}

// ports converts a binding; one without an address is for all of both families.
func (b binding) ports() []Port {
	inside, err := strconv.ParseUint(b.port, 10, 16)
	if err != nil || inside == 0 {
		return nil
	}
	// Empty or a range ("8000-8010") until the container starts.
	outside, err := strconv.ParseUint(b.hostPort, 10, 16)
	if err != nil {
		outside = 0
	}
	p := Port{HostPort: uint16(outside), ContainerPort: uint16(inside), Proto: b.proto}
	hosts := []netip.Addr{parseAddr(b.hostIP)}
	if !hosts[0].IsValid() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	out := make([]Port, 0, len(hosts))
	for _, host := range hosts {
		p.HostIP = host
		out = append(out, p)
	}
	return out
}

// convertNetwork makes a snapshot of a network.
func convertNetwork(engine int, in network.Summary) *Network {
	n := &Network{
		ID: in.ID, Name: in.Name, Engine: engine, Driver: in.Driver, Scope: in.Scope,
		Internal: in.Internal, Attachable: in.Attachable, Ingress: in.Ingress,
		ICC:    in.Options["com.docker.network.bridge.enable_icc"] != "false",
		Parent: in.Options["parent"],
		IPv6:   in.EnableIPv6, Options: in.Options,
	}
	for _, config := range in.IPAM.Config {
		if p, err := netip.ParsePrefix(config.Subnet); err == nil {
			n.Subnets = append(n.Subnets, p)
		}
		if gw := parseAddr(config.Gateway); gw.IsValid() {
			n.Gateways = append(n.Gateways, gw)
		}
	}
	if in.Driver == "bridge" {
		n.Bridge = bridgeName(in)
	}
	if in.Driver == "overlay" {
		_, n.Encrypted = in.Options["encrypted"]
	}
	for _, peer := range in.Peers {
		if addr := parseAddr(peer.IP); addr.IsValid() {
			n.Peers = append(n.Peers, addr)
		}
	}
	n.MTU, _ = strconv.Atoi(in.Options["com.docker.network.driver.mtu"])
	for _, vni := range strings.Split(in.Options["com.docker.network.driver.overlay.vxlanid_list"], ",") {
		if v, err := strconv.ParseUint(strings.TrimSpace(vni), 10, 24); err == nil {
			n.VNIs = append(n.VNIs, uint32(v))
		}
	}
	return n
}

// bridgeName follows libnetwork: an option, docker0 for the default network, else "br-" and the
// short ID.
func bridgeName(in network.Summary) string {
	if name := in.Options["com.docker.network.bridge.name"]; name != "" {
		return name
	}
	if in.Name == "bridge" || in.Options["com.docker.network.bridge.default_bridge"] == "true" {
		return "docker0"
	}
	return "br-" + shortID(in.ID)
}

// parseAddr reads an address, with or without a prefix length; the result is invalid for anything
// else.
func parseAddr(s string) netip.Addr {
	s, _, _ = strings.Cut(s, "/")
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}
