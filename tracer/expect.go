package tracer

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/internal/firewall"
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
		if inode == 0 || !slices.ContainsFunc(s.t.engines.List(), func(e docker.Engine) bool { return e.NetNS == inode }) {
			continue
		}
		ns := s.fact(f, inode)
		x, err := recall(&s.readings.mu, &s.readings.expected, inode, func() (*diagnose.Expected, error) {
			rules := ns.Rules
			if rules == nil {
				rules = s.rules.after(inode, p.Start-min(p.Start, uint64(rulesFresh)))
			}
			x := s.compare(inode, rules)
			if x != nil && len(x.Missing) > 0 {
				// A container may have been started since: what counts are rules read after the state.
				x = s.compare(inode, nil)
			}
			if x == nil {
				return nil, errors.New("nothing to compare")
			}
			return x, nil
		})
		if err == nil {
			ns.Expected = x
		}
	}
}

// compare holds the rules of a host against its engines' state; without rules they are read. It
// returns nil if either is not known.
func (s *session) compare(inode uint32, rules *firewall.Ruleset) *diagnose.Expected {
	var out *diagnose.Expected
	ctx, cancel := context.WithTimeout(context.Background(), dockerPatience)
	defer cancel()
	for _, e := range s.t.engines.Described(ctx) {
		if e.NetNS != inode || e.Podman { // whose rules are others
			continue
		}
		state := expectState(e, s.t.engines.Containers(), s.t.engines.Networks())
		if rules == nil {
			rules = s.rules.after(inode, monotonic())
		}
		if rules == nil || len(state.Networks) == 0 {
			continue
		}
		if out == nil {
			out = &diagnose.Expected{Missing: []expect.Missing{}}
		}
		missing := expect.Check(&state, rules)
		if len(missing) > 0 && out.Since == "" {
			out.Since = firewallSince(e)
		}
		out.Missing, out.Networks = append(out.Missing, missing...), append(out.Networks, state.Networks...)
		out.NoIPv6 = !state.IP6Tables && !state.NFTables
		out.Assumed, out.LiveRestore = out.Assumed || state.Assumed, e.LiveRestore
	}
	return out
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
