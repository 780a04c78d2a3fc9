package tracer

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Options of bridge networks (libnetwork/drivers/bridge/labels.go, libnetwork/netlabel).
const (
	optionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	optionMode4      = "com.docker.network.bridge.gateway_mode_ipv4"
	optionMode6      = "com.docker.network.bridge.gateway_mode_ipv6"
)

// readExpected compares the rules of the hosts that a flow passed with what their engines should have
// made.
func (s *session) readExpected(f *diagnose.Facts, want diagnose.Want, p *path.Path) {
	for _, inode := range want.Expected {
		for _, e := range s.t.engines.List() {
			if e.NetNS != inode || inode == 0 {
				continue
			}
			state := expectState(e, s.t.engines.Containers(), s.t.engines.Networks())
			if len(state.Networks) == 0 {
				continue // nothing is known of it
			}
			ns := s.fact(f, inode)
			rules := ns.Rules
			if rules == nil {
				rules = s.rules.after(inode, p.Start-min(p.Start, uint64(rulesFresh)))
			}
			if rules == nil {
				continue
			}
			x := &diagnose.Expected{
				Missing: append([]expect.Missing{}, expect.Check(&state, rules)...), Networks: state.Networks,
				Assumed: state.Assumed, LiveRestore: e.LiveRestore,
			}
			if len(x.Missing) > 0 {
				x.Since = firewallSince(e)
			}
			if old := ns.Expected; old != nil { // two engines in one namespace
				x.Missing, x.Networks = append(old.Missing, x.Missing...), append(old.Networks, x.Networks...)
			}
			ns.Expected = x
		}
	}
}

// expectState is an engine's state as package expect wants it.
func expectState(e docker.Engine, containers []*docker.Container, networks []*docker.Network) expect.State {
	s := expect.State{
		Version:  e.Version,
		NFTables: e.FirewallBackend == "nftables" || e.FirewallBackend == "" && e.Settings.FirewallBackend == "nftables",
		IPTables: e.Settings.IPTables, IP6Tables: e.Settings.IP6Tables, Assumed: !e.Settings.Known,
		UserlandProxy: e.Settings.UserlandProxy,
	}
	for _, n := range networks {
		if n.Engine == e.Index && n.Driver == "bridge" && n.Bridge != "" {
			s.Networks = append(s.Networks, expectNetwork(n))
		}
	}
	for _, c := range containers {
		// A container in another one's namespace, or on the host's, has no ports of its own.
		if c.Engine == e.Index && c.Runs() && c.JoinedID == "" && !c.HostNetwork() {
			s.Containers = append(s.Containers, expectContainer(c))
		}
	}
	return s
}

func expectNetwork(n *docker.Network) expect.Network {
	return expect.Network{
		Name: n.Name, Bridge: n.Bridge, Subnets: n.Subnets, Internal: n.Internal, ICC: n.ICC,
		Masquerade: !strings.EqualFold(n.Options[optionMasquerade], "false"),
		Mode4:      expect.Mode(n.Options[optionMode4]), Mode6: expect.Mode(n.Options[optionMode6]),
	}
}

func expectContainer(c *docker.Container) expect.Container {
	out := expect.Container{Name: c.Name}
	for _, e := range c.Endpoints {
		out.Endpoints = append(out.Endpoints, expect.Endpoint{Network: e.Network, IPv4: e.IPv4, IPv6: e.IPv6})
	}
	for _, p := range c.Ports {
		out.Ports = append(out.Ports, expect.Port{
			HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Proto: p.Proto,
		})
	}
	return out
}
