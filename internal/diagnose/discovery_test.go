package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestDiscoveryDropped: a rule keeps a host from learning the MAC address of a container over IPv6.
func TestDiscoveryDropped(t *testing.T) {
	const from, to, text = "[fd99::1]:40000", "[fd18::2]:80", "-A X -p ipv6-icmp -j DROP"
	flow := func() *testFlow {
		f := newFlow(path.TCP).direct()
		f.p.Client, f.p.Source, f.p.Server, f.p.Target = ap(from), ap(from), ap(to), ap(to)
		f.add(path.Request, "S", f.hop(nsHost, path.StagePostrouting, path.ActionLeave, "br-app", ends(from, to), through("eth0", "br-app")))
		return f
	}
	ip6 := firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP6, Name: "filter"}
	// icmpv6 is a rule that drops one type.
	icmpv6 := func(typ uint8) testRule {
		r := drops(text)
		r.body.fits = func(p *firewall.Packet) firewall.Truth { return firewall.Of(p.HasICMP && p.ICMPType == typ) }
		return r
	}
	with := func(ns uint32, tables ...*firewall.Table) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Probe = silentProbe()
			f.Owners = []Owner{{Addr: ip("fd18::2"), NetNS: nsWeb, Device: "eth0"}}
			f.Namespaces[nsHost].Neighbours = []Neighbour{{Addr: ip("fd18::2"), State: "INCOMPLETE"}}
			f.Namespaces[nsHost].Rules, f.Namespaces[nsWeb].Rules = &firewall.Ruleset{}, &firewall.Ruleset{}
			f.Namespaces[ns].Rules = &firewall.Ruleset{Tables: tables}
			return f
		}
	}
	base := func(name string, hook firewall.Hook, list ...testRule) *firewall.Table {
		return testTable(ip6, baseChain(name, hook, 0, firewall.Accept, list...))
	}
	inet := testTable(firewall.Table{Backend: firewall.NFTables, Family: firewall.FamilyInet, Name: "fw"},
		baseChain("in", firewall.Input, 0, firewall.Drop))
	const start = "lost: the request from 10.99.0.1 got no further than host: nobody answered neighbour discovery for fd18::2 on br-app"
	of := func(name string, facts func() *Facts, rest, remedy string) verdictCase {
		return verdictCase{name: name, flow: flow, facts: facts, outcome: path.Lost, cause: path.CauseNeighbourUnresolved,
			summary: start + rest, remedy: remedy}
	}
	const inWeb = "nsenter --net=/run/docker/netns/abc "
	runCases(t, []verdictCase{
		of("question, out", with(nsHost, base("OUTPUT", firewall.Output, icmpv6(icmpSolicit))), ", since rule 1 of chain OUTPUT of host drops the question",
			"ip6tables -I OUTPUT -p ipv6-icmp --icmpv6-type neighbour-solicitation -j ACCEPT"),
		of("question, in", with(nsWeb, base("INPUT", firewall.Input, icmpv6(icmpSolicit))), ", since rule 1 of chain INPUT of container web drops the question",
			inWeb+"ip6tables -I INPUT -p ipv6-icmp --icmpv6-type neighbour-solicitation -j ACCEPT"),
		of("answer, out", with(nsWeb, base("OUTPUT", firewall.Output, icmpv6(icmpAdvertise))), ", since rule 1 of chain OUTPUT of container web drops the answer",
			inWeb+"ip6tables -I OUTPUT -p ipv6-icmp --icmpv6-type neighbour-advertisement -j ACCEPT"),
		of("answer, in", with(nsHost, inet), ", since the policy of chain in (table inet fw) of host drops the answer",
			"nft 'insert rule inet fw in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept'"),
		of("another type", with(nsHost, base("OUTPUT", firewall.Output, icmpv6(128))), "", "ip neigh show fd18::2"),
		of("perhaps", with(nsHost, base("OUTPUT", firewall.Output, drops(text).limited(-1))), "", "ip neigh show fd18::2"),
	})
}
