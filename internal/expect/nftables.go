package expect

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// The table that Docker 29 makes in the families ip and ip6, and its chains.
const (
	bridgesTable   = "docker-bridges"
	nftForward     = "filter-FORWARD"
	nftPostrouting = "nat-POSTROUTING"
	nftPrerouting  = "nat-PREROUTING"
	nftOutput      = "nat-OUTPUT"
	nftPublished   = "nat-prerouting-and-output"
	nftRaw         = "raw-PREROUTING"
)

// nftables expects the rules of Docker's own tables.
func (b *builder) nftables() {
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	if b.v6 {
		loopback = netip.MustParsePrefix("::1/128")
	}
	local := match{dstLocal: true}
	b.jump(path.CauseNATMissing, bridgesTable, nftPrerouting, firewall.Prerouting, nftPublished, local)
	if b.state.UserlandProxy {
		local.notDst = loopback
	}
	b.jump(path.CauseNATMissing, bridgesTable, nftOutput, firewall.Output, nftPublished, local)
	b.each(func(n *Network, subnet netip.Prefix) { b.nftNetwork(n, subnet) })
	published := b.publications()
	for _, p := range published {
		b.dnat(bridgesTable, nftPublished, p)
		if p.network != nil {
			b.open(bridgesTable, "filter-forward-in__"+p.network.Bridge, p)
		}
	}
	b.hairpins(bridgesTable, func(n *Network) string { return "nat-postrouting-in__" + n.Bridge }, published)
}

// nftNetwork expects the chains of one network, and that they are called.
func (b *builder) nftNetwork(n *Network, subnet netip.Prefix) {
	br := n.Bridge
	in, out := "filter-forward-in__"+br, "filter-forward-out__"+br
	from := len(b.rules)
	b.jump(path.CauseDockerRulesMissing, bridgesTable, nftForward, firewall.Forward, in, match{out: br})
	b.jump(path.CauseDockerRulesMissing, bridgesTable, nftForward, firewall.Forward, out, match{in: br})
	talk := firewall.Accept
	if !n.ICC {
		talk = firewall.Drop
	}
	b.filter(n, ICC, in, match{in: br, out: br}, talk, "no rule decides whether containers of network %s may talk").comment = "ICC"
	if n.Internal {
		b.filter(n, Protection, in, match{notIn: br, out: br}, firewall.Drop, "no rule closes the internal network %s")
		b.filter(n, Protection, out, match{in: br, notOut: br}, firewall.Drop, "no rule closes the internal network %s")
	} else {
		b.filter(n, Answers, in, match{out: br, established: true}, firewall.Accept, "no rule lets answers in to network %s")
		b.filter(n, Outgoing, out, match{in: br, notOut: br}, firewall.Accept, "no rule lets network %s out").comment = "OUTGOING"
		if n.mode(b.v6) != NATUnprotected {
			b.filter(n, Protection, in, match{notIn: br, out: br}, firewall.Drop,
				"no rule decides about ports of network %s that are not published").comment = "UNPUBLISHED PORT DROP"
		}
		if n.Masquerade && n.mode(b.v6) != Routed {
			b.jump(path.CauseMasqueradeMissing, bridgesTable, nftPostrouting, firewall.Postrouting,
				"nat-postrouting-out__"+br, match{in: br})
			b.masquerade(bridgesTable, "nat-postrouting-out__"+br, n, subnet)
		}
	}
	for i := from; i < len(b.rules); i++ {
		r := &b.rules[i]
		r.table, r.network = bridgesTable, n.Name
		r.first = r.verdict.Kind == firewall.Accept || r.purpose == ICC || n.Internal
	}
}
