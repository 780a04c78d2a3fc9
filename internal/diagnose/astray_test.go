package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestTranslatedElsewhere: a rule before Docker's own sends the request for a published port somewhere
// else; what happens to it there says nothing about the target.
func TestTranslatedElsewhere(t *testing.T) {
	const elsewhere = "172.18.0.77:80"
	const text = "-A DOCKER ! -i br-app -p tcp -m tcp --dport 8080 -j DNAT --to-destination " + elsewhere
	flow := func(to string) func() *testFlow {
		return func() *testFlow {
			f := newFlow(path.TCP)
			f.p.Target, f.p.NAT[0].To = ap(to), to
			d := ends(sender, to)
			f.add(path.Request, "S", append(f.out(),
				f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, through("eth0", "br-app")),
				f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", d, why("NETFILTER_DROP", "nft_do_chain")))...)
			h := &f.p.Packets[0].Hops[5]
			h.PrevDst, h.PrevDstAddr, h.CT = asked, ap(asked), &path.Conntrack{Info: 2}
			return f
		}
	}
	rules := func(chainName, to string) func() *Facts {
		return ruled(testTable(ipNAT, baseChain("PREROUTING", firewall.Prerouting, -100, firewall.Accept,
			jumps("-A PREROUTING -j "+chainName, chainName)), chain(chainName, drops(text).kind(firewall.DNAT, to))),
			forward(firewall.Drop))
	}
	const policy = "dropped: the request from 10.99.0.1 was dropped by the policy of chain FORWARD in the FORWARD hook " +
		"(netfilter) of host on its way eth0 → br-app"
	runRuleCases(t, []ruleCase{
		{verdictCase{name: "to nobody", flow: flow(elsewhere), facts: rules("DOCKER", elsewhere), outcome: path.Dropped,
			cause: path.CauseNATMissing, where: "host netfilter/prerouting request",
			summary: "dropped: the request from 10.99.0.1 for port 8080, which web publishes, was sent to 172.18.0.77:80 by " +
				"rule 1 of chain DOCKER (table nat) in host",
			evidence: "container web has 172.18.0.2 on network app",
			remedy:   "iptables -t nat -D DOCKER ! -i br-app -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.77:80",
		}, text, "docker"},
		{verdictCase{name: "to the target", flow: flow(inner), facts: rules("DOCKER", inner), outcome: path.Dropped,
			cause: path.CauseFirewallPolicy, summary: policy}, "-P FORWARD DROP", "user"},
		{verdictCase{name: "to the routing mesh", flow: flow(elsewhere), facts: rules("DOCKER-INGRESS", elsewhere),
			outcome: path.Dropped, cause: path.CauseFirewallPolicy, summary: policy}, "-P FORWARD DROP", "user"},
		{verdictCase{name: "by a rule that is not known", flow: flow(elsewhere), facts: rules("DOCKER", inner),
			outcome: path.Dropped, cause: path.CauseFirewallPolicy, summary: policy}, "-P FORWARD DROP", "user"},
	})
}
