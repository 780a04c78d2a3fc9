package expect

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Tables and chains of x_tables and of Docker in them.
const (
	filterTable, natTable, rawTable = "filter", "nat", "raw"

	forwardChain  = "FORWARD"
	userChain     = "DOCKER-USER"
	dockerChain   = "DOCKER"
	stage1Chain   = "DOCKER-ISOLATION-STAGE-1"
	stage2Chain   = "DOCKER-ISOLATION-STAGE-2"
	toDocker      = "DOCKER-FORWARD"
	answersChain  = "DOCKER-CT"
	bridgeChain   = "DOCKER-BRIDGE"
	internalChain = "DOCKER-INTERNAL"
)

// layout is how an engine arranges its chains in the filter table.
type layout uint8

const (
	layoutUnknown layout = iota
	layoutOld            // before 28: rules for each bridge in FORWARD, isolation in two stages
	layoutStages         // 28: DOCKER-FORWARD, isolation in two stages
	layoutBridges        // 29: DOCKER-FORWARD, DOCKER-INTERNAL
)

// layoutOf finds the layout from the version and, where that does not tell, from the chains there are.
func layoutOf(s *State, filter tables) layout {
	switch {
	case s.before(28, 0, 0):
		return layoutOld
	case s.before(28, 0, 1):
		return layoutUnknown // 28.0.0 used address sets
	case filter.has(internalChain):
		return layoutBridges
	case s.atLeast(29, 0, 0):
		return layoutBridges
	case s.atLeast(28, 0, 0), filter.has(toDocker):
		return layoutStages
	case filter.has(stage1Chain):
		return layoutOld
	}
	return layoutUnknown
}

// iptables expects the rules of an engine that writes iptables, whichever its backend.
func (b *builder) iptables(l layout) {
	published := b.publications()
	b.nat(l, published)
	switch l {
	case layoutOld:
		b.oldFilter()
	case layoutStages, layoutBridges:
		b.newFilter(l)
	default:
		return
	}
	if b.state.before(23, 0, 0) && b.v6 {
		return // DOCKER-USER was for IPv4 only
	}
	for _, p := range published {
		b.open(filterTable, dockerChain, p)
	}
	b.jump(path.CauseDockerRulesMissing, filterTable, forwardChain, firewall.Forward, userChain, match{})
}

func (b *builder) nat(l layout, published []publication) {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	if b.v6 {
		loopback = netip.MustParsePrefix("::1/128")
	}
	local := match{dstLocal: true}
	b.jump(path.CauseNATMissing, natTable, "PREROUTING", firewall.Prerouting, dockerChain, local)
	if b.state.UserlandProxy {
		local.notDst = loopback
	}
	b.jump(path.CauseNATMissing, natTable, "OUTPUT", firewall.Output, dockerChain, local)
	b.each(func(n *Network, subnet netip.Prefix) {
		if n.Internal {
			return
		}
		b.masquerade(natTable, "POSTROUTING", n, subnet)
		if l == layoutOld && b.state.UserlandProxy && n.Masquerade && !b.v6 {
			b.add(rule{
				cause: path.CauseNATMissing, purpose: Hairpin, table: natTable, chain: dockerChain,
				hook: firewall.Prerouting, match: match{in: n.Bridge, dstLocal: true}, first: true,
				verdict: firewall.Verdict{Kind: firewall.Return}, network: n.Name,
				says: "no rule leaves requests from network " + n.Name + " to docker-proxy",
			})
		}
	})
	for _, p := range published {
		b.dnat(natTable, dockerChain, p)
	}
	b.hairpins(natTable, func(*Network) string { return "POSTROUTING" }, published)
}

// oldFilter expects the filter table of engines before 28.
func (b *builder) oldFilter() {
	b.jump(path.CauseDockerRulesMissing, filterTable, forwardChain, firewall.Forward, stage1Chain, match{}, userChain)
	b.each(func(n *Network, subnet netip.Prefix) {
		br := n.Bridge
		b.icc(n, forwardChain)
		if n.Internal {
			b.internal(n, stage1Chain, subnet)
			return
		}
		b.filter(n, Answers, forwardChain, match{out: br, established: true}, firewall.Accept,
			"no rule lets answers in to network %s")
		to := b.filter(n, Jump, forwardChain, match{out: br}, firewall.Jump,
			"chain FORWARD does not call DOCKER for network %s")
		to.verdict.Chain = dockerChain
		b.filter(n, Outgoing, forwardChain, match{in: br, notOut: br}, firewall.Accept,
			"no rule lets network %s out")
		b.stages(n)
	})
}

// newFilter expects the filter table of engines from 28 on.
func (b *builder) newFilter(l layout) {
	closed := internalChain
	if l == layoutStages {
		closed = stage1Chain
	}
	b.jump(path.CauseDockerRulesMissing, filterTable, forwardChain, firewall.Forward, toDocker, match{}, userChain)
	order := []string{answersChain, closed, bridgeChain}
	for i, chain := range order {
		b.jump(path.CauseDockerRulesMissing, filterTable, toDocker, firewall.Forward, chain, match{}, order[:i]...)
	}
	b.each(func(n *Network, subnet netip.Prefix) {
		br := n.Bridge
		if n.Internal {
			b.icc(n, toDocker)
			b.internal(n, closed, subnet)
			return
		}
		b.filter(n, Answers, answersChain, match{out: br, established: true}, firewall.Accept,
			"no rule lets answers in to network %s")
		to := b.filter(n, Jump, bridgeChain, match{out: br}, firewall.Jump,
			"chain DOCKER-BRIDGE does not call DOCKER for network %s")
		to.verdict.Chain = dockerChain
		last := firewall.Drop
		if n.mode(b.v6) == NATUnprotected {
			last = firewall.Accept
		}
		b.filter(n, Protection, dockerChain, match{notIn: br, out: br}, last,
			"no rule decides about ports of network %s that are not published")
		out := match{in: br}
		if !n.ICC {
			b.icc(n, toDocker)
			out.notOut = br
		}
		b.filter(n, Outgoing, toDocker, out, firewall.Accept, "no rule lets network %s out")
		if l == layoutStages && n.mode(b.v6) == NAT {
			b.stages(n)
		}
	})
}

// icc expects the rule that lets containers of a network talk, or keeps them from it.
func (b *builder) icc(n *Network, chain string) {
	m := match{in: n.Bridge, out: n.Bridge}
	if n.ICC {
		b.filter(n, ICC, chain, m, firewall.Accept, "no rule lets the containers of network %s talk to each other")
		return
	}
	b.filter(n, ICC, chain, m, firewall.Drop, "no rule keeps the containers of network %s from each other")
}

// internal expects the rules that close a network without a way out.
func (b *builder) internal(n *Network, chain string, subnet netip.Prefix) {
	in, out := match{out: n.Bridge, notSrc: subnet}, match{in: n.Bridge, notDst: subnet}
	if b.v6 {
		in.notIn, out.notOut = n.Bridge, n.Bridge
	}
	for _, m := range []match{in, out} {
		b.filter(n, Protection, chain, m, firewall.Drop, "no rule closes the internal network %s").first = true
	}
}

// stages expects the two rules that keep other networks out of this one.
func (b *builder) stages(n *Network) {
	to := b.filter(n, Protection, stage1Chain, match{in: n.Bridge, notOut: n.Bridge}, firewall.Jump,
		"no rule isolates network %s from others (stage 1)")
	to.verdict.Chain, to.first, to.exposes = stage2Chain, true, true
	b.filter(n, Protection, stage2Chain, match{out: n.Bridge}, firewall.Drop,
		"no rule isolates network %s from others (stage 2)").first = true
}

// direct expects what keeps hosts next door from containers' addresses (Docker 28.2 and newer), where
// the engine does so for another container: it may have been told not to.
func (b *builder) direct(raw *firewall.Chain, a addresses) {
	var list []rule
	kept := false // whether the rule for any container is there
	for i := range b.state.Containers {
		c := &b.state.Containers[i]
		for _, g := range b.state.candidates(c, b.v6) {
			if g.network.mode(b.v6) != NAT {
				continue
			}
			r := rule{
				cause: path.CauseDockerRulesMissing, purpose: Protection, table: rawTable, chain: "PREROUTING",
				hook: firewall.Prerouting, match: match{dst: single(g.addr), notIn: g.network.Bridge},
				verdict: firewall.Verdict{Kind: firewall.Drop}, exposes: true, comment: "DROP DIRECT ACCESS",
				network: g.network.Name, container: c.Name,
				says: fmt.Sprintf("no rule keeps other hosts from the address %s of %s", g.addr, c.Name),
			}
			if raw.Table.Name != rawTable {
				r.table, r.chain = raw.Table.Name, raw.Name
			}
			present, _ := r.presence(raw, a)
			kept = kept || present == firewall.Yes
			list = append(list, r)
		}
	}
	if kept {
		b.rules = append(b.rules, list...)
	}
}
