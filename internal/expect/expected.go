package expect

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// builder collects the rules that a state calls for in one family.
type builder struct {
	state *State
	v6    bool
	rules []rule
}

func (b *builder) add(r rule) { b.rules = append(b.rules, r) }

// jump expects that a chain of Docker's is called, behind the jumps to others.
func (b *builder) jump(cause path.Cause, table, chain string, hook firewall.Hook, to string, m match, after ...string) {
	b.add(rule{
		cause: cause, purpose: Jump, table: table, chain: chain, hook: hook, match: m,
		verdict: firewall.Verdict{Kind: firewall.Jump, Chain: to}, first: hook == firewall.Forward,
		after: after, exposes: onlyCloses(to),
		says: fmt.Sprintf("chain %s does not call %s", chain, to),
	})
}

// onlyCloses reports whether the rules of a chain of iptables only stop packets, so that nothing is
// stopped by their absence.
func onlyCloses(chain string) bool {
	return chain == userChain || chain == stage1Chain || chain == stage2Chain || chain == internalChain
}

// each calls f for every network that has a subnet of the family.
func (b *builder) each(f func(n *Network, subnet netip.Prefix)) {
	for i := range b.state.Networks {
		n := &b.state.Networks[i]
		if subnet := n.subnet(b.v6); subnet.IsValid() && n.Bridge != "" && n.mode(b.v6) != Isolated {
			f(n, subnet)
		}
	}
}

// publication is a port of a container on the network through which Docker publishes it.
type publication struct {
	container *Container
	port      Port
	gateway
	// unsure is set if Docker may have chosen another one of the container's networks.
	unsure  bool
	accepts func(netip.AddrPort) bool
}

// publications lists the published ports of the family. A port on an IPv6 address of a container
// without one is docker-proxy's business alone.
func (b *builder) publications() []publication {
	var out []publication
	for i := range b.state.Containers {
		c := &b.state.Containers[i]
		ways := b.state.candidates(c, b.v6)
		hidden := b.state.hidden(c)
		for _, port := range c.Ports {
			if port.HostIP.Is6() != b.v6 || protoNumber(port.Proto) == 0 || len(ways) == 0 && hidden == nil {
				continue
			}
			p := publication{container: c, port: port, unsure: len(ways) != 1 || hidden != nil}
			if len(ways) > 0 {
				p.gateway = ways[0]
			}
			p.accepts = func(to netip.AddrPort) bool {
				if to.Port() != port.ContainerPort {
					return false
				}
				for _, w := range ways {
					if w.addr == to.Addr() {
						return true
					}
				}
				return hidden != nil && hidden.subnet(b.v6).Contains(to.Addr())
			}
			out = append(out, p)
		}
	}
	return out
}

// dnat expects the translation of a published port.
func (b *builder) dnat(table, chain string, p publication) {
	if p.port.HostPort == 0 || p.network != nil && p.network.mode(b.v6) == Routed {
		return
	}
	m := match{proto: p.port.Proto, dport: p.port.HostPort, dstLocal: true}
	if !p.port.HostIP.IsUnspecified() {
		m.dst = single(p.port.HostIP)
	}
	r := rule{
		cause: path.CauseNATMissing, purpose: Publish, table: table, chain: chain, hook: firewall.Prerouting,
		match: m, container: p.container.Name, port: p.port, unsure: p.unsure, accepts: p.accepts,
		verdict: firewall.Verdict{Kind: firewall.DNAT}, comment: "DNAT",
		says: fmt.Sprintf("no DNAT rule takes %s to %s", portName(p.port), p.container.Name),
	}
	if p.network != nil {
		to := netip.AddrPortFrom(p.addr, p.port.ContainerPort)
		r.network, r.verdict.Detail = p.network.Name, to.String()
		r.says += fmt.Sprintf(" (%s)", to)
		if b.state.UserlandProxy {
			r.notIn = p.network.Bridge
		}
	}
	b.add(r)
}

// open expects that the container's port may be reached through its bridge.
func (b *builder) open(table, chain string, p publication) {
	if p.network == nil || p.unsure || p.network.mode(b.v6) == NATUnprotected {
		return
	}
	n := p.network
	b.add(rule{
		cause: path.CauseDockerRulesMissing, purpose: Open, table: table, chain: chain, hook: firewall.Forward,
		match:   match{notIn: n.Bridge, out: n.Bridge, dst: single(p.addr), proto: p.port.Proto, dport: p.port.ContainerPort},
		verdict: firewall.Verdict{Kind: firewall.Accept}, first: true,
		network: n.Name, container: p.container.Name, port: p.port,
		says: fmt.Sprintf("no rule lets requests in to port %d of %s", p.port.ContainerPort, p.container.Name),
	})
}

// masquerade expects the translation of what leaves a network.
func (b *builder) masquerade(table, chain string, n *Network, subnet netip.Prefix) {
	if !n.Masquerade || n.mode(b.v6) == Routed {
		return
	}
	b.add(rule{
		cause: path.CauseMasqueradeMissing, purpose: Masquerade, table: table, chain: chain,
		hook: firewall.Postrouting, match: match{src: subnet, notOut: n.Bridge},
		verdict: firewall.Verdict{Kind: firewall.Masquerade}, comment: "MASQUERADE", network: n.Name,
		says: fmt.Sprintf("no MASQUERADE rule translates what leaves network %s (%s)", n.Name, subnet),
	})
}

// hairpins expects, where no docker-proxy runs, the translation of requests from the host itself and
// of a container's to its own published port.
func (b *builder) hairpins(table string, chain func(*Network) string, published []publication) {
	if b.state.UserlandProxy {
		return
	}
	b.each(func(n *Network, _ netip.Prefix) {
		if n.Internal {
			return
		}
		b.add(rule{
			cause: path.CauseMasqueradeMissing, purpose: Hairpin, table: table, chain: chain(n),
			hook: firewall.Postrouting, match: match{srcLocal: true, out: n.Bridge},
			verdict: firewall.Verdict{Kind: firewall.Masquerade}, comment: "MASQUERADE FROM HOST", network: n.Name,
			says: "no MASQUERADE rule translates what the host sends to network " + n.Name + " from its own addresses",
		})
	})
	for _, p := range published {
		if p.network == nil || p.unsure || p.port.HostPort == 0 || p.network.mode(b.v6) == Routed {
			continue
		}
		b.add(rule{
			cause: path.CauseMasqueradeMissing, purpose: Hairpin, table: table, chain: chain(p.network),
			hook: firewall.Postrouting, match: match{
				src: single(p.addr), dst: single(p.addr), proto: p.port.Proto, dport: p.port.ContainerPort,
				in: p.network.Bridge, out: p.network.Bridge,
			},
			verdict: firewall.Verdict{Kind: firewall.Masquerade}, comment: "MASQ TO OWN PORT",
			network: p.network.Name, container: p.container.Name, port: p.port,
			says: fmt.Sprintf("no MASQUERADE rule lets %s reach its own published port %d", p.container.Name, p.port.HostPort),
		})
	}
}

// filter expects a rule of the filter table that is for one network.
func (b *builder) filter(n *Network, purpose Purpose, chain string, m match, kind firewall.VerdictKind, says string) *rule {
	var after []string
	if chain == forwardChain {
		after = []string{userChain, stage1Chain}
	}
	b.add(rule{
		after: after,
		cause: path.CauseDockerRulesMissing, purpose: purpose, table: filterTable, chain: chain, match: m,
		hook: firewall.Forward, verdict: firewall.Verdict{Kind: kind}, network: n.Name,
		exposes: kind == firewall.Drop, shared: chain == forwardChain, first: chain == forwardChain,
		says: fmt.Sprintf(says, n.Name),
	})
	return &b.rules[len(b.rules)-1]
}

// portName writes a published port: "host port 8080" or "127.0.0.1:8080".
func portName(p Port) string {
	proto := ""
	if p.Proto != "tcp" {
		proto = "/" + p.Proto
	}
	if p.HostIP.IsUnspecified() || !p.HostIP.IsValid() {
		return fmt.Sprintf("host port %d%s", p.HostPort, proto)
	}
	return netip.AddrPortFrom(p.HostIP, p.HostPort).String() + proto
}
