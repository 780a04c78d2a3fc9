package diagnose

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// body judges every packet alike, unless fits decides.
type body struct {
	match    firewall.Truth
	fits     func(*firewall.Packet) firewall.Truth
	verdict  firewall.Verdict
	unjudged []string
}

func (b body) Judge(p *firewall.Packet) firewall.Judgement {
	if b.fits != nil {
		return firewall.Judgement{Match: b.fits(p), Verdict: b.verdict}
	}
	return firewall.Judgement{Match: b.match, Verdict: b.verdict, Unjudged: b.unjudged}
}

func (b body) Verdicts() []firewall.Verdict { return []firewall.Verdict{b.verdict} }

// testRule is one rule of a test; number counts its packets, -1 for no counter.
type testRule struct {
	text, comment string
	body          body
	packets       int
}

func drops(text string) testRule {
	return testRule{text: text, body: body{match: firewall.Yes, verdict: firewall.Verdict{Kind: firewall.Drop}}, packets: -1}
}

func jumps(text, chain string) testRule {
	return testRule{text: text, body: body{match: firewall.Yes, verdict: firewall.Verdict{Kind: firewall.Jump, Chain: chain}}, packets: -1}
}

func (r testRule) limited(packets int) testRule {
	r.body.match, r.body.unjudged, r.packets = firewall.Maybe, []string{"-m limit"}, packets
	return r
}

func (r testRule) counted(packets int) testRule { r.packets = packets; return r }

func (r testRule) kind(k firewall.VerdictKind, detail string) testRule {
	r.body.verdict = firewall.Verdict{Kind: k, Detail: detail}
	return r
}

func (r testRule) says(comment string) testRule { r.comment = comment; return r }

// testTable builds a table.
func testTable(t firewall.Table, chains ...*firewall.Chain) *firewall.Table {
	for _, c := range chains {
		c.Table = &t
		t.Chains = append(t.Chains, c)
	}
	return &t
}

func chain(name string, list ...testRule) *firewall.Chain {
	c := &firewall.Chain{Name: name}
	for i, r := range list {
		c.Rules = append(c.Rules, &firewall.Rule{
			Chain: c, Number: i + 1, Handle: uint64(10 + i), Written: r.text, Comment: r.comment, Body: r.body,
			Packets: uint64(max(r.packets, 0)), Counted: r.packets >= 0,
		})
	}
	return c
}

func baseChain(name string, hook firewall.Hook, priority int32, policy firewall.VerdictKind, list ...testRule) *firewall.Chain {
	c := chain(name, list...)
	c.Hook, c.Priority, c.Policy, c.Type = hook, priority, policy, "filter"
	if priority == -100 || priority == 100 {
		c.Type = "nat"
	}
	return c
}

var (
	ipFilter = firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: "filter"}
	ipNAT    = firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: "nat"}
)

// ruled are the facts of a host with these rules.
func ruled(tables ...*firewall.Table) func() *Facts {
	return func() *Facts {
		f := facts()
		f.Namespaces[nsHost].Rules = &firewall.Ruleset{Tables: tables}
		return f
	}
}

// forward is a filter table whose FORWARD leads to a chain.
func forward(policy firewall.VerdictKind, chains ...*firewall.Chain) *firewall.Table {
	var list []testRule
	for _, c := range chains {
		list = append(list, jumps("-A FORWARD -j "+c.Name, c.Name))
	}
	return testTable(ipFilter, append(chains, baseChain("FORWARD", firewall.Forward, 0, policy, list...))...)
}

type ruleCase struct {
	verdictCase
	rule, owner string // of where.rule
}

func runRuleCases(t *testing.T, cases []ruleCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.verdictCase.name = "verdict"
			runCases(t, []verdictCase{c.verdictCase})
			v := Explain(&c.flow().p, c.facts())
			got := &path.Rule{}
			if v.Where.Rule != nil {
				got = v.Where.Rule
			}
			if got.Text != c.rule || got.Owner != c.owner {
				t.Errorf("rule %q of %q, want %q of %q", got.Text, got.Owner, c.rule, c.owner)
			}
		})
	}
}

func ruleDropped(function string) func() *testFlow {
	return func() *testFlow { return forwardDrop("NETFILTER_DROP", function) }
}

func TestRuleOfDrop(t *testing.T) {
	const start, end = "dropped: the request from 10.99.0.1 was dropped by ", " in the FORWARD hook (netfilter) of host on its way eth0 → br-app"
	const user = "-A DOCKER-USER -p tcp -m tcp --dport 80 -j DROP"
	nft := ruleDropped("nft_do_chain")
	legacyTable := testTable(firewall.Table{Backend: firewall.IptablesLegacy, Family: firewall.FamilyIP, Name: "filter"},
		baseChain("FORWARD", firewall.Forward, 0, firewall.Accept, drops("-A FORWARD -j DROP")))
	other := testTable(firewall.Table{Backend: firewall.NFTables, Family: firewall.FamilyInet, Name: "fw"},
		baseChain("f", firewall.Forward, 10, firewall.Accept, drops("tcp dport 80 counter drop")))
	runRuleCases(t, []ruleCase{
		{verdictCase{name: "docker-user", flow: nft, facts: ruled(forward(firewall.Drop, chain("DOCKER-USER", drops(user)))),
			outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: start + "rule 1 of chain DOCKER-USER" + end,
			remedy: "iptables -D DOCKER-USER -p tcp -m tcp --dport 80 -j DROP", evidence: "the chain that Docker leaves to its user",
		}, user, "docker-user"},
		{verdictCase{name: "policy", flow: nft, facts: ruled(forward(firewall.Drop, chain("DOCKER-USER"))),
			outcome: path.Dropped, cause: path.CauseFirewallPolicy, summary: start + "the policy of chain FORWARD" + end,
			remedy: "iptables -I DOCKER-USER -d 172.18.0.2 -p tcp --dport 80 -j ACCEPT", evidence: "Docker sets this policy",
		}, "-P FORWARD DROP", "docker"},
		{verdictCase{name: "legacy, not what nf_tables would do later", flow: ruleDropped("nf_hook_slow"), facts: func() *Facts {
			f := ruled(legacyTable, other)()
			f.NFTDropsInPlace = true
			return f
		}, outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: start + "rule 1 of chain FORWARD (iptables-legacy)" + end,
			remedy: "iptables-legacy -D FORWARD -j DROP",
		}, "-A FORWARD -j DROP", "user"},
		{verdictCase{name: "nf_tables, not what the legacy table would do", flow: nft, facts: ruled(legacyTable, other),
			outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: start + "rule 1 of chain f (table inet fw)" + end,
			remedy: "nft delete rule inet fw f handle 10",
		}, "tcp dport 80 counter drop", "user"},
		{verdictCase{name: "accepted by one table, dropped by another", flow: nft,
			facts:   ruled(forward(firewall.Drop, chain("DOCKER", drops("-A DOCKER -j ACCEPT").kind(firewall.Accept, ""))), other),
			outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: start + "rule 1 of chain f (table inet fw)" + end,
			evidence: "rule 1 of chain DOCKER (table filter) had accepted it, which does not save it from other tables",
		}, "tcp dport 80 counter drop", "user"},
		{verdictCase{name: "nobody reads the queue", flow: func() *testFlow { return forwardDrop("NOT_SPECIFIED", "nf_queue") },
			facts: ruled(forward(firewall.Drop, chain("mine", drops("-A mine -m limit -j DROP").limited(-1),
				drops("-A mine -p tcp -j NFQUEUE --queue-num 7").kind(firewall.Queue, "")))),
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: start + "rule 2 of chain mine" + end + ": no program took it from the queue",
			remedy:  "iptables -D mine -p tcp -j NFQUEUE --queue-num 7",
		}, "-A mine -p tcp -j NFQUEUE --queue-num 7", "user"},
		{verdictCase{name: "one of two", flow: nft,
			facts:   ruled(forward(firewall.Accept, chain("mine", drops("a").limited(-1), drops("b").limited(-1)))),
			outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: start + "one of 2 rules" + end,
			evidence: "it was one of these 2: filter mine 2 (user): b\nwhat cannot be judged from outside: -m limit",
			remedy:   "iptables -L mine -vn --line-numbers",
		}, "", ""},
		{verdictCase{name: "nothing that was read drops it", flow: nft, facts: ruled(forward(firewall.Accept, chain("mine"))),
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped" + end, evidence: "none of the rules that can be read now drops it",
		}, "", ""},
		{verdictCase{name: "isolation", flow: nft,
			facts:   ruled(forward(firewall.Drop, chain("DOCKER-ISOLATION-STAGE-2", drops("-A DOCKER-ISOLATION-STAGE-2 -o br-app -j DROP")))),
			outcome: path.Dropped, cause: path.CauseNetworkIsolation,
			summary: start + "Docker's isolation of networks, rule 1 of chain DOCKER-ISOLATION-STAGE-2," + end,
		}, "-A DOCKER-ISOLATION-STAGE-2 -o br-app -j DROP", "docker"},
		{verdictCase{name: "a published port that Docker's last rule drops", flow: nft,
			facts:   ruled(forward(firewall.Drop, chain("DOCKER", drops("-A DOCKER ! -i br-app -o br-app -j DROP")))),
			outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: start + "rule 1 of chain DOCKER" + end,
		}, "-A DOCKER ! -i br-app -o br-app -j DROP", "docker"},
	})
}

// TestRuleCounters: what matches cannot settle, counters do.
func TestRuleCounters(t *testing.T) {
	set := func(first, second int) *firewall.Ruleset {
		return &firewall.Ruleset{Tables: []*firewall.Table{forward(firewall.Accept,
			chain("mine", drops("a").limited(first), drops("b").counted(second)))}}
	}
	for name, c := range map[string]struct {
		before, after *firewall.Ruleset
		rule          string
		evidence      string
	}{
		"second":         {set(3, 5), set(3, 7), "b", "the rule's counter went from 5 to 7 packets"},
		"first":          {set(3, 5), set(4, 5), "a", "the rule's counter went from 3 to 4 packets"},
		"both":           {set(3, 5), set(4, 6), "", "it was one of these 2"},
		"none":           {set(3, 5), set(3, 5), "", "none of the rules that can be read now drops it"},
		"no first count": {nil, set(4, 6), "", "it was one of these 2"},
	} {
		t.Run(name, func(t *testing.T) {
			f := facts()
			f.Namespaces[nsHost].RulesBefore, f.Namespaces[nsHost].Rules = c.before, c.after
			v := Explain(&ruleDropped("nft_do_chain")().p, f)
			got := ""
			if v.Where.Rule != nil {
				got = v.Where.Rule.Text
			}
			if all := strings.Join(v.Evidence, "\n"); got != c.rule || !strings.Contains(all, c.evidence) {
				t.Errorf("rule %q, want %q; evidence:\n%s", got, c.rule, all)
			}
		})
	}
}

// direct is a SYN for a container's own address that PREROUTING of the host discards.
func direct(in string) func() *testFlow {
	return func() *testFlow {
		f := newFlow(path.TCP).direct()
		d, way := ends(sender, inner), through(in, "")
		f.add(path.Request, "S",
			f.hop(nsHost, path.StageDevice, path.ActionReceive, in, d),
			f.hop(nsHost, path.StagePrerouting, path.ActionEnter, in, d, way),
			f.hop(nsHost, path.StagePrerouting, path.ActionDrop, in, d, way, why("NETFILTER_DROP", "nft_do_chain")))
		return f
	}
}

func TestDirectAccess(t *testing.T) {
	const start = "dropped: the request from 10.99.0.1 was dropped by Docker's "
	const ipt = "-A PREROUTING -d 172.18.0.2/32 ! -i br-app -j DROP"
	raw := testTable(firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: "raw"},
		baseChain("PREROUTING", firewall.Prerouting, -300, firewall.Accept, drops(ipt)))
	bridges := testTable(ipFilter, baseChain("FORWARD", firewall.Forward, 0, firewall.Accept), chain("DOCKER-BRIDGE",
		jumps("-A DOCKER-BRIDGE -o br-app -j DOCKER", "DOCKER"), jumps("-A DOCKER-BRIDGE -o br-two -j DOCKER", "DOCKER")))
	docker29 := testTable(firewall.Table{Backend: firewall.NFTables, Family: firewall.FamilyIP, Name: "docker-bridges"},
		chain("filter-forward-in__br-app"), chain("filter-forward-in__br-two"),
		baseChain("raw-PREROUTING", firewall.Prerouting, -300, firewall.Accept, drops("ip daddr … drop").says("DROP DIRECT ACCESS")))
	runRuleCases(t, []ruleCase{
		{verdictCase{name: "iptables", flow: direct("eth0"), facts: ruled(raw, bridges),
			outcome: path.Dropped, cause: path.CauseDirectAccessBlocked,
			summary: start + "protection of what is not published, rule 1 of chain PREROUTING (table raw), in the " +
				"PREROUTING hook (netfilter) of host, coming in on eth0",
			remedy: "the published port of the host instead: 8080",
		}, ipt, "docker"},
		{verdictCase{name: "from another network", flow: direct("br-two"), facts: ruled(raw, bridges),
			outcome: path.Dropped, cause: path.CauseNetworkIsolation,
			summary: start + "isolation of networks, rule 1 of chain PREROUTING (table raw), in the PREROUTING " +
				"hook (netfilter) of host, coming in on br-two",
		}, ipt, "docker"},
		{verdictCase{name: "nftables", flow: direct("eth0"), facts: ruled(docker29),
			outcome: path.Dropped, cause: path.CauseDirectAccessBlocked,
			summary: start + "protection of what is not published, rule 1 of chain raw-PREROUTING (table ip docker-bridges), " +
				"in the PREROUTING hook (netfilter) of host, coming in on eth0",
		}, "ip daddr … drop", "docker"},
	})
}

func TestBridgeFilter(t *testing.T) {
	flow := func() *testFlow {
		f := newFlow(path.TCP).direct()
		d := ends(sender, inner)
		f.add(path.Request, "S",
			f.hop(nsHost, path.StageDevice, path.ActionReceive, "veth2", d),
			f.hop(nsHost, path.StageBridge, path.ActionDrop, "veth1", d, why("NETFILTER_DROP", "nft_do_chain")))
		return f
	}
	bridge := firewall.Table{Backend: firewall.NFTables, Family: firewall.FamilyBridge, Name: "b"}
	runRuleCases(t, []ruleCase{
		{verdictCase{name: "forward", flow: flow, facts: ruled(testTable(bridge,
			baseChain("in", firewall.Input, 0, firewall.Accept, drops("not this")),
			baseChain("f", firewall.Forward, 0, firewall.Accept, drops("tcp dport 80 drop")))),
			outcome: path.Dropped, cause: path.CauseBridgeFilter,
			summary: "dropped: the request from 10.99.0.1 was dropped by rule 1 of chain f (table bridge b) in the bridge of " +
				"host on veth1",
			remedy: "nft delete rule bridge b f handle 10", where: "host veth1 bridge request",
		}, "tcp dport 80 drop", "user"},
		{verdictCase{name: "no such rule", flow: flow, facts: ruled(testTable(bridge)),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in host on veth1 by nft_do_chain (NETFILTER_DROP)",
		}, "", ""},
	})
}

// TestRejectByRule: only rules that reject can have rejected.
func TestRejectByRule(t *testing.T) {
	flow := func() *testFlow {
		f := newFlow(path.TCP)
		d := ends(sender, inner)
		f.add(path.Request, "S", append(f.out(),
			f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, through("eth0", "br-app")),
			f.hop(nsHost, path.StageForward, path.ActionReject, "eth0", d, icmp(3, 3)),
			f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", d, why("NETFILTER_DROP", "nft_do_chain")))...)
		return f
	}
	runRuleCases(t, []ruleCase{{verdictCase{name: "reject", flow: flow,
		facts:   ruled(forward(firewall.Accept, chain("mine", drops("a").limited(-1), drops("b").kind(firewall.Reject, "icmp-port-unreachable")))),
		outcome: path.Refused, cause: path.CauseFirewallReject,
		summary: "refused: the request from 10.99.0.1 was rejected by rule 2 of chain mine in the FORWARD hook (netfilter) of " +
			"host on its way eth0 → br-app",
		remedy: "iptables -D mine 2",
	}, "b", "user"}})
}

func TestRuleOfTranslation(t *testing.T) {
	translated := func(to string, list ...testRule) []path.Translation {
		table := testTable(ipNAT, baseChain("PREROUTING", firewall.Prerouting, -100, firewall.Accept,
			jumps("-A PREROUTING -j DOCKER", "DOCKER")), chain("DOCKER", list...))
		f := newFlow(path.TCP).connect()
		for _, p := range f.p.Packets {
			for i := range p.Hops {
				h := &p.Hops[i]
				if h.Action == path.ActionDNAT {
					h.PrevDst, h.PrevDstAddr = asked, ap(asked)
					h.CT = &path.Conntrack{Info: 2}
				}
			}
		}
		f.p.NAT[0].To = to
		return Explain(&f.p, ruled(table)()).NAT
	}
	dnat := drops("-A DOCKER -j DNAT").kind(firewall.DNAT, inner)
	if nat := translated(inner, dnat); nat[0].Rule == nil || nat[0].Rule.Owner != "docker" || nat[0].Rule.Number != 1 {
		t.Errorf("rule %+v", nat[0].Rule)
	}
	for name, nat := range map[string][]path.Translation{
		"another result": translated(inner, drops("-A DOCKER -j DNAT").kind(firewall.DNAT, "172.18.0.9:80")),
		"not sure":       translated(inner, dnat.limited(-1), dnat),
		"no rule":        translated(inner),
	} {
		if nat[0].Rule != nil {
			t.Errorf("%s: rule %+v", name, nat[0].Rule)
		}
	}
}
