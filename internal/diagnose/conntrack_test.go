package diagnose

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// trackerDrop is a SYN that connection tracking discards at the hook given.
func trackerDrop(stage path.Stage) func() *testFlow {
	return func() *testFlow {
		f := newFlow(path.TCP)
		d := ends(sender, asked)
		hops := f.out()[:5]
		if stage == path.StagePostrouting {
			d = ends("10.99.0.11:40000", inner)
			f.p.NAT = append(f.p.NAT, path.Translation{Kind: path.ActionMasquerade, Direction: path.Request, From: sender,
				To: "10.99.0.11:40000", Namespace: "host", NetNS: nsHost, Stage: path.StagePostrouting})
			hops = f.forwarded()
		}
		f.add(path.Request, "S", append(hops, f.hop(nsHost, stage, path.ActionDrop, "eth0", d,
			why("NETFILTER_DROP", "nf_hook_slow")))...)
		return f
	}
}

// tracker are facts with counters and settings of connection tracking in the host.
func tracker(count, limit string, counters map[string]uint64) func() *Facts {
	return func() *Facts {
		f := facts()
		f.Namespaces[nsHost].Counters = counters
		f.Namespaces[nsHost].Sysctls = map[string]string{
			"net.netfilter.nf_conntrack_count": count, "net.netfilter.nf_conntrack_max": limit,
		}
		return f
	}
}

func TestConntrackRefuses(t *testing.T) {
	drops := map[string]uint64{"nf_conntrack_drop": 3}
	invalid := map[string]uint64{"nf_conntrack_drop": 1, "nf_conntrack_invalid": 1}
	unexplained := "dropped: the request from 10.99.0.1 was dropped in the PREROUTING hook (netfilter) of host by " +
		"nf_hook_slow (NETFILTER_DROP)"
	runCases(t, []verdictCase{
		{
			name: "full", flow: trackerDrop(path.StagePrerouting), facts: tracker("262140", "262144", drops),
			outcome: path.Dropped, cause: path.CauseConntrackFull,
			summary: "dropped: the request from 10.99.0.1 was dropped in the PREROUTING hook (netfilter) of host: the " +
				"connection tracking table is full, 262140 of 262144 entries",
			where: "host eth0 netfilter/prerouting request", remedy: "nf_conntrack_max=524288",
			evidence: "connection tracking in host refused 3 packets during the flow",
		}, {
			name: "full, and nothing was refused", flow: trackerDrop(path.StagePrerouting),
			facts:   tracker("262140", "262144", map[string]uint64{}),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop, summary: unexplained,
		}, {
			name: "invalid", flow: trackerDrop(path.StagePrerouting), facts: tracker("10", "262144", invalid),
			outcome: path.Dropped, cause: path.CauseConntrackInvalid,
			summary: "dropped: the request from 10.99.0.1 was dropped in the PREROUTING hook (netfilter) of host: " +
				"connection tracking refused it as invalid",
		}, {
			name: "no port", flow: trackerDrop(path.StagePostrouting), facts: func() *Facts {
				f := tracker("10", "262144", map[string]uint64{"nf_conntrack_insert_failed": 1})()
				f.Namespaces[nsHost].NATPorts = 2
				return f
			},
			outcome: path.Dropped, cause: path.CauseNATExhausted,
			summary: "dropped: the request from 10.99.0.1 was dropped in the POSTROUTING hook (netfilter) of host: the source " +
				"translation to 10.99.0.11 found no free port towards 172.18.0.2:80",
			where:    "host eth0 netfilter/postrouting request",
			evidence: "2 ports of 10.99.0.11 in use towards 172.18.0.2:80",
			remedy:   "conntrack -L -p tcp --reply-src 172.18.0.2 --reply-dst 10.99.0.11",
		}, {
			name: "at the end, and everything was entered", flow: trackerDrop(path.StagePostrouting),
			facts:   tracker("10", "262144", map[string]uint64{}),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the POSTROUTING hook (netfilter) of host by " +
				"nf_hook_slow (NETFILTER_DROP)",
		},
	})
}

// translating is a rule that leads everything to one end, or may do so.
type translating struct {
	to   string
	sure firewall.Truth
}

func (r translating) Judge(*firewall.Packet) firewall.Judgement {
	return firewall.Judgement{Match: r.sure, Verdict: r.Verdicts()[0]}
}

func (r translating) Verdicts() []firewall.Verdict {
	return []firewall.Verdict{{Kind: firewall.DNAT, Detail: r.to}}
}

// leading are the rules of the host: one that translates to an end.
func leading(to string, sure firewall.Truth) *firewall.Ruleset {
	table := &firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: "nat"}
	chain := &firewall.Chain{Table: table, Name: "PREROUTING", Hook: firewall.Prerouting, Type: "nat", Priority: -100,
		Policy: firewall.Accept}
	chain.Rules = []*firewall.Rule{{Chain: chain, Number: 1, Written: "-A PREROUTING -j DNAT --to-destination " + to,
		Body: translating{to, sure}}}
	table.Chains = []*firewall.Chain{chain}
	return &firewall.Ruleset{Tables: []*firewall.Table{table}}
}

// swallowed is a datagram that a socket of the host takes; entry is what the host's tracking has.
func swallowed(process, replySrc string, rules *firewall.Ruleset) func() *Facts {
	return func() *Facts {
		f := facts()
		f.Target.Published[0].Proto = path.UDP
		host := f.Namespaces[nsHost]
		host.Rules, host.Addrs = rules, []netip.Addr{ip("10.99.0.11")}
		host.Listeners = []Listener{{Proto: path.UDP, Addr: ap("0.0.0.0:8080"), Process: process, PID: 7}}
		host.Tracked = []Tracked{{Proto: path.UDP, OrigSrc: ap(sender), OrigDst: ap(asked), ReplySrc: ap(replySrc),
			ReplyDst: ap(sender)}}
		return f
	}
}

func TestStaleEntry(t *testing.T) {
	taken := func() *testFlow {
		f := newFlow(path.UDP).untranslated()
		d := ends(sender, asked)
		f.add(path.Request, "", append(f.out()[:5], f.hop(nsHost, path.StageInput, path.ActionLeave, "eth0", d),
			f.hop(nsHost, path.StageUDP, path.ActionDeliver, "eth0", d))...)
		f.p.DeliverNetNS = nsHost
		return f
	}
	gone := func() *testFlow {
		f := newFlow(path.UDP)
		f.p.Target, f.p.NAT[0].To = ap("172.18.0.9:80"), "172.18.0.9:80"
		d := ends(sender, "172.18.0.9:80")
		f.add(path.Request, "", append(f.out()[:5], f.hop(nsHost, path.StagePrerouting, path.ActionDNAT, "eth0", d),
			f.hop(nsHost, path.StageNeighbour, path.ActionDrop, "br-app", d, why("NEIGH_FAILED", "neigh_invalidate")))...)
		return f
	}
	here := leading("172.18.0.2:80", firewall.Yes)
	const nobody = "misdelivered: dockerd in host only holds the published port 8080 and never answers on it, and no DNAT " +
		"rule took the request to web"
	runCases(t, []verdictCase{
		{
			name: "before the port was published", flow: taken, facts: swallowed("dockerd", asked, here),
			outcome: path.Misdelivered, cause: path.CauseConntrackStale,
			summary: "misdelivered: an old connection tracking entry in host keeps the request from 10.99.0.1 from being " +
				"translated to 172.18.0.2:80; dockerd in host took it",
			where:    "host socket request",
			evidence: "the entry: udp 10.99.0.1:40000 to 10.99.0.11:8080, answered by 10.99.0.11:8080; no answer came yet",
			remedy: "conntrack -D -p udp --orig-src 10.99.0.1 --orig-dst 10.99.0.11 --orig-port-src 40000 " +
				"--orig-port-dst 8080",
		}, {
			name: "there is no rule", flow: taken, facts: swallowed("dockerd", asked, &firewall.Ruleset{}),
			outcome: path.Misdelivered, cause: path.CauseNATMissing, summary: nobody,
		}, {
			name: "whether the rule takes it is not sure", flow: taken,
			facts:   swallowed("dockerd", asked, leading("172.18.0.2:80", firewall.Maybe)),
			outcome: path.Misdelivered, cause: path.CauseNATMissing, summary: nobody,
		}, {
			name: "a replaced container", flow: gone, facts: swallowed("dockerd", "172.18.0.9:80", here),
			outcome: path.Dropped, cause: path.CauseConntrackStale,
			summary: "dropped: an old connection tracking entry in host leads the request from 10.99.0.1 to 172.18.0.9:80, " +
				"new ones go to 172.18.0.2:80",
		},
	})
	v := Explain(&taken().p, swallowed("docker-proxy", asked, here)())
	if v.Outcome != path.Delivered || len(v.Warnings) != 1 || v.Warnings[0].Cause != path.CauseConntrackStale {
		t.Errorf("behind docker-proxy: got %s %v, want delivered with a warning", v.Outcome, v.Warnings)
	}
	v = Explain(&gone().p, swallowed("dockerd", "172.18.0.9:80", leading("172.18.0.9:80", firewall.Yes))())
	if v.Cause == path.CauseConntrackStale || strings.Contains(strings.Join(v.Evidence, " "), "old connection") {
		t.Errorf("the entry and the rule agree: got %s", v.Summary)
	}
}
