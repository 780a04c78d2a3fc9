package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// forwardDrop is a SYN that FORWARD of the host discards in the function given.
func forwardDrop(reason, function string) *testFlow {
	f := newFlow(path.TCP)
	d, way := ends(sender, inner), through("eth0", "br-app")
	for range 2 {
		f.add(path.Request, "S", append(f.out(),
			f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, way),
			f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", d, why(reason, function)))...)
	}
	return f
}

// earlyDrop is a SYN that a hook of the host other than FORWARD discards in nf_hook_slow.
func earlyDrop(stage path.Stage, opts ...hopOption) *testFlow {
	f := newFlow(path.TCP).untranslated()
	d := append(opts, ends(sender, asked))
	f.add(path.Request, "S",
		f.hop(nsHost, path.StageDevice, path.ActionReceive, "eth0", d...),
		f.hop(nsHost, stage, path.ActionEnter, "eth0", d...),
		f.hop(nsHost, stage, path.ActionDrop, "eth0", append(d, why("NETFILTER_DROP", "nf_hook_slow"))...))
	return f
}

func TestFirewallDrop(t *testing.T) {
	const summary = "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of " +
		"host on its way eth0 → br-app"
	cases := []verdictCase{
		{
			name: "rule", flow: func() *testFlow { return forwardDrop("NETFILTER_DROP", "nft_do_chain") },
			outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: summary,
			where:  "host eth0 netfilter/forward request",
			remedy: "iptables -L FORWARD -vn --line-numbers", evidence: "the request was sent 2 times",
		},
		{
			name: "legacy", flow: func() *testFlow { return forwardDrop("NETFILTER_DROP", "nf_hook_slow") },
			outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: summary,
		},
		{
			name: "kernel without reasons", flow: func() *testFlow { return forwardDrop("", "ipt_do_table") },
			outcome: path.Dropped, cause: path.CauseFirewallDrop, summary: summary,
		},
		{
			name: "another function is not a firewall", flow: func() *testFlow { return forwardDrop("", "kfree_skb_list") },
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host by " +
				"kfree_skb_list",
		},
		{
			name: "in the container",
			flow: func() *testFlow {
				f := newFlow(path.TCP)
				f.add(path.Request, "S", append(f.in()[:14],
					f.hop(nsWeb, path.StageInput, path.ActionDrop, "eth0", why("NETFILTER_DROP", "nft_do_chain")))...)
				return f
			},
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the INPUT hook (netfilter) of " +
				"container web on eth0",
			where:  "web eth0 netfilter/input request",
			remedy: "nsenter --net=/run/docker/netns/abc iptables -L INPUT -vn --line-numbers",
		},
		{
			name: "reply",
			flow: func() *testFlow {
				f := newFlow(path.TCP)
				f.add(path.Request, "S", f.arriving()...)
				f.add(path.Reply, "SA", append(f.backToHost(),
					f.hop(nsHost, path.StageForward, path.ActionEnter, "br-app", through("br-app", "eth0")),
					f.hop(nsHost, path.StageForward, path.ActionDrop, "br-app", why("NETFILTER_DROP", "nft_do_chain")))...)
				return f
			},
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the reply from web was dropped in the FORWARD hook (netfilter) of host on its " +
				"way br-app → eth0",
			where: "host br-app netfilter/forward reply",
		},
		{
			name: "tunnel",
			flow: func() *testFlow {
				f := newFlow(path.TCP).direct()
				o := outer("10.99.0.12:4789")
				f.add(path.Request, "S",
					f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0"),
					f.hop(nsHost, path.StageInput, path.ActionEnter, "eth0", o),
					f.hop(nsHost, path.StageInput, path.ActionDrop, "eth0", o, why("NETFILTER_DROP", "nft_do_chain")))
				return f
			},
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the INPUT hook (netfilter) of host " +
				"on eth0",
			evidence: "what was dropped is the VXLAN packet that carried it: 10.99.0.11:4789 to " +
				"10.99.0.12:4789, VNI 4097",
		},
		{
			name: "bridge-family rule, no IP hook was entered",
			flow: func() *testFlow {
				f := newFlow(path.TCP).direct()
				f.add(path.Request, "S",
					f.hop(nsHost, path.StageDevice, path.ActionReceive, "veth2"),
					f.hop(nsHost, path.StageBridge, path.ActionDrop, "veth2", why("NETFILTER_DROP", "nft_do_chain")))
				return f
			},
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in host on veth2 by nft_do_chain " +
				"(NETFILTER_DROP)",
		},
	}
	runCases(t, cases)
}

// TestNotTheFirewall: in the first and last hooks connection tracking and NAT drop in nf_hook_slow too.
func TestNotTheFirewall(t *testing.T) {
	tracking := func(count string) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Target.Container, f.Target.NetNS = "", []uint32{nsHost}
			f.Namespaces[nsHost].Sysctls = map[string]string{
				"net.netfilter.nf_conntrack_count": count, "net.netfilter.nf_conntrack_max": "200",
			}
			return f
		}
	}
	unknown := func() *Facts { f := tracking("1")(); f.Namespaces[nsHost].Sysctls = nil; return f }
	const summary = "dropped: the request from 10.99.0.1 was dropped in the PREROUTING hook (netfilter) of host"
	runCases(t, []verdictCase{
		{
			name: "table full", flow: func() *testFlow { return earlyDrop(path.StagePrerouting) },
			facts: tracking("200"), outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary:  summary + " by nf_hook_slow (NETFILTER_DROP)",
			evidence: "a rule of the legacy tables, connection tracking and NAT all drop packets there",
		},
		{
			name: "unknown", flow: func() *testFlow { return earlyDrop(path.StagePrerouting) },
			facts: unknown, outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: summary + " by nf_hook_slow (NETFILTER_DROP)",
		},
		{
			name: "room", flow: func() *testFlow { return earlyDrop(path.StagePrerouting) },
			facts: tracking("10"), outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: summary + " on eth0", remedy: "iptables -t raw -L PREROUTING",
		},
		{
			name:  "tunnel that cannot be routed",
			flow:  func() *testFlow { return earlyDrop(path.StageOutput, outer("10.99.0.12:4789")) },
			facts: tracking("10"), outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the OUTPUT hook (netfilter) of host " +
				"by nf_hook_slow (NETFILTER_DROP)",
		},
	})
}

func TestFirewallReject(t *testing.T) {
	rejected := func(after ...func(*testFlow) path.Hop) *testFlow {
		f := newFlow(path.TCP)
		d, way := ends(sender, inner), through("eth0", "br-app")
		hops := append(f.out(), f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, way))
		for _, h := range after {
			hops = append(hops, h(f))
		}
		f.add(path.Request, "S", hops...)
		return f
	}
	send := func(f *testFlow) path.Hop {
		return f.hop(nsHost, path.StageForward, path.ActionReject, "eth0", icmp(3, 3))
	}
	drop := func(f *testFlow) path.Hop {
		return f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", why("NETFILTER_DROP", "nft_do_chain"))
	}
	const summary = "refused: the request from 10.99.0.1 was rejected in the FORWARD hook (netfilter) of host " +
		"on its way eth0 → br-app"
	runCases(t, []verdictCase{
		{
			name: "icmp", flow: func() *testFlow { return rejected(send, drop) },
			outcome: path.Refused, cause: path.CauseFirewallReject, summary: summary,
			where:    "host eth0 netfilter/forward request",
			evidence: "host sent back an ICMP error (port unreachable) from inside the hook",
		},
		{
			name: "icmp, drop not seen", flow: func() *testFlow { return rejected(send) },
			outcome: path.Refused, cause: path.CauseFirewallReject, summary: summary,
		},
		{
			name: "tcp reset",
			flow: func() *testFlow {
				f := rejected()
				rst := f.hop(nsHost, path.StageOutput, path.ActionEnter, "", ends(inner, sender))
				p := f.p.Packets[0]
				p.Hops = append(p.Hops, drop(f))
				f.add(path.Reply, "RA", rst, f.hop(nsCli, path.StageDevice, path.ActionReceive, "eth0"))
				return f
			},
			outcome: path.Refused, cause: path.CauseFirewallReject, summary: summary,
			evidence: "host sent back a TCP reset from inside the hook",
		},
		{
			name: "a reset from elsewhere is not the hook's",
			flow: func() *testFlow {
				f := rejected(drop)
				f.add(path.Reply, "RA", f.hop(nsWeb, path.StageOutput, path.ActionEnter, "", ends(inner, sender)))
				return f
			},
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host " +
				"on its way eth0 → br-app",
		},
	})
}
