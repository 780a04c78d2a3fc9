package tracer

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/expect"
)

// Options of networks with the bridge driver.
const (
	optionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optionMode4      = "com.docker.network.bridge.gateway_mode_ipv4"
	optionMode6      = "com.docker.network.bridge.gateway_mode_ipv6"
	optionTrusted    = "com.docker.network.bridge.trusted_host_interfaces"
)

// expectedState is what of an engine's state decides which firewall rules it makes; nil if the engine
// has not answered, as nothing can be expected of it then.
func expectedState(e docker.Engine, containers []*docker.Container, networks []*docker.Network) *expect.State {
	if e.Version == "" || e.Rootless {
		return nil
	}
	s := &expect.State{
		Version: e.Version, NFTables: e.FirewallBackend == "nftables",
		IPTables: e.Settings.IPTables, IP6Tables: e.Settings.IP6Tables,
		Assumed: !e.Settings.Known, UserlandProxy: e.Settings.UserlandProxy,
	}
	for _, n := range networks {
		if n.Engine == e.Index && n.Driver == "bridge" {
			s.Networks = append(s.Networks, expectedNetwork(n))
		}
	}
	for _, c := range containers {
		if c.Engine != e.Index || !c.Runs() || c.HostNetwork() || c.JoinedID != "" {
			continue
		}
		out := expect.Container{Name: c.Name}
		for _, ep := range c.Endpoints {
			out.Endpoints = append(out.Endpoints, expect.Endpoint{Network: ep.Network, IPv4: ep.IPv4, IPv6: ep.IPv6})
		}
		for _, p := range c.Ports {
			out.Ports = append(out.Ports, expect.Port{
				HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Proto: p.Proto,
			})
		}
		s.Containers = append(s.Containers, out)
	}
	return s
}

func expectedNetwork(n *docker.Network) expect.Network {
	return expect.Network{
		Name: n.Name, Bridge: n.Bridge, Subnets: n.Subnets, Internal: n.Internal, ICC: n.ICC,
		Masquerade: n.Options[optionMasquerade] != "false",
		Mode4:      expect.Mode(n.Options[optionMode4]), Mode6: expect.Mode(n.Options[optionMode6]),
		TrustedDevices: strings.FieldsFunc(n.Options[optionTrusted], func(r rune) bool { return r == ':' }),
	}
}
