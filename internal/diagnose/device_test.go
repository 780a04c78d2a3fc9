package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// onEth0 is a request that was dropped on the host's eth0.
func onEth0(stage path.Stage, reason, function string) func() *testFlow {
	return func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", append(f.out()[:4],
			f.hop(nsHost, stage, path.ActionDrop, "eth0", index(2), ends(sender, asked), why(reason, function)))...)
		return f
	}
}

// eth0 are facts about the host's eth0.
func eth0(change func(*Namespace, *Link)) func() *Facts {
	return func() *Facts {
		f := facts()
		n := f.Namespaces[nsHost]
		n.Links = []Link{{Index: 2, Name: "eth0", Up: true, Carrier: true, MTU: 1500,
			Addrs: []netip.Prefix{netip.MustParsePrefix("10.99.0.11/24")}}}
		if change != nil {
			change(n, &n.Links[0])
		}
		return f
	}
}

func TestPrograms(t *testing.T) {
	with := func(list ...Program) func() *Facts {
		return eth0(func(_ *Namespace, l *Link) { l.Programs = list })
	}
	tcx := Program{Hook: "tcx ingress", Name: "drop_web", ID: 42}
	xdp := Program{Hook: "XDP generic", Name: "guard", ID: 7}
	const dropped = "dropped: the request from 10.99.0.1 was dropped in host on eth0 by "
	runCases(t, []verdictCase{
		{name: "tcx", flow: onEth0(path.StageQdisc, "TC_INGRESS", "__netif_receive_skb_core"), facts: with(tcx, xdp),
			outcome: path.Dropped, cause: path.CauseTCDrop, summary: dropped + "the tcx ingress program drop_web (id 42)",
			remedy: "bpftool prog show id 42"},
		{name: "several", flow: onEth0(path.StageQdisc, "TC_INGRESS", "__netif_receive_skb_core"),
			facts:   with(tcx, Program{Hook: "tc ingress", Kind: "u32"}),
			outcome: path.Dropped, cause: path.CauseTCDrop,
			summary: dropped + "one of these: the tcx ingress program drop_web (id 42), the tc ingress filter of kind u32"},
		{name: "gone since", flow: onEth0(path.StageQdisc, "TC_EGRESS", "__dev_queue_xmit"), facts: with(),
			outcome: path.Dropped, cause: path.CauseTCDrop, summary: dropped + "a tc program or filter (egress)"},
		{name: "XDP without a reason", flow: onEth0(path.StageDevice, "NOT_SPECIFIED", "do_xdp_generic"), facts: with(xdp),
			outcome: path.Dropped, cause: path.CauseTCDrop, summary: dropped + "the XDP generic program guard (id 7)"},
		{name: "older kernel, counted", flow: onEth0(path.StageDevice, "", "__netif_receive_skb_core"),
			facts: eth0(func(n *Namespace, l *Link) {
				l.Programs = []Program{{Hook: "tc ingress", Kind: "bpf", Name: "guard", ID: 9}}
				n.Queues = []Queue{{Ifindex: 2, Kind: "clsact", Drops: 1}}
			}),
			outcome: path.Dropped, cause: path.CauseTCDrop, summary: dropped + "the tc ingress program guard (id 9)"},
		{name: "older kernel, not counted", flow: onEth0(path.StageDevice, "", "__netif_receive_skb_core"), facts: with(tcx),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop, summary: dropped + "__netif_receive_skb_core"},
		{name: "older kernel, no program", flow: onEth0(path.StageDevice, "", "__netif_receive_skb_core"), facts: with(),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop, summary: dropped + "__netif_receive_skb_core"},
	})
}

// TestVanishedInXDP: a packet that left by a veth device did not come out of the other end.
func TestVanishedInXDP(t *testing.T) {
	f := newFlow(path.TCP)
	f.add(path.Request, "S", f.out()[:3]...)
	s := newSegment()
	s.vcli.Programs = []Program{{Hook: "XDP native", Name: "guard", ID: 7}}
	v := Explain(&f.p, s.f)
	const want = "lost: the request from cli left container cli through eth0 and did not come out of vethC in host, where the " +
		"XDP native program guard (id 7) takes packets first"
	if v.Cause != path.CauseTCDrop || v.Summary != want {
		t.Errorf("got %s: %s", v.Cause, v.Summary)
	}
	s.vcli.Programs = []Program{{Hook: "tcx ingress"}} // its drops are reported
	if v := Explain(&f.p, s.f); v.Cause != path.CauseLostInTransit {
		t.Errorf("got %s: %s", v.Cause, v.Summary)
	}
}

func TestQueue(t *testing.T) {
	queues := func(list ...Queue) func() *Facts {
		return eth0(func(n *Namespace, _ *Link) { n.Queues = list })
	}
	grew := queues(Queue{Ifindex: 2, Kind: "tbf", Parent: "root", Drops: 3})
	const said = "dropped: the request from 10.99.0.1 was dropped in host: the "
	runCases(t, []verdictCase{
		{name: "reason and counter", flow: onEth0(path.StageQdisc, "QDISC_DROP", "__dev_queue_xmit"), facts: grew,
			outcome: path.Dropped, cause: path.CauseQueueOverlimit, summary: said + "tbf queue of eth0 had no room for it",
			evidence: "the tbf queue of eth0 dropped 3 packets during the flow", remedy: "tc qdisc del dev eth0 root"},
		{name: "function only", flow: onEth0(path.StageQdisc, "NOT_SPECIFIED", "tbf_enqueue"), facts: eth0(nil),
			outcome: path.Dropped, cause: path.CauseQueueOverlimit, summary: said + "tbf queue of eth0 had no room for it"},
		{name: "older kernel and counter", flow: onEth0(path.StageQdisc, "", "__dev_queue_xmit"), facts: grew,
			outcome: path.Dropped, cause: path.CauseQueueOverlimit, summary: said + "tbf queue of eth0 had no room for it"},
		{name: "older kernel, drops of long ago", flow: onEth0(path.StageQdisc, "", "__dev_queue_xmit"),
			facts:   queues(Queue{Ifindex: 2, Kind: "tbf", Parent: "root", Drops: 3, Total: true}),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in host on eth0 by __dev_queue_xmit"},
		{name: "queue of fq", flow: onEth0(path.StageQdisc, "FQ_FLOW_LIMIT", "fq_enqueue"), facts: eth0(nil),
			outcome: path.Dropped, cause: path.CauseQueueOverlimit, summary: said + "fq queue of eth0 had no room for it"},
		{name: "device down", flow: onEth0(path.StageQdisc, "QDISC_DROP", "__dev_queue_xmit"),
			facts:   eth0(func(_ *Namespace, l *Link) { l.Up = false }),
			outcome: path.Dropped, cause: path.CauseLinkDown,
			summary: "dropped: the request from 10.99.0.1 was dropped in host because eth0 is down"},
		{name: "device not known", flow: onEth0(path.StageQdisc, "QDISC_DROP", "__dev_queue_xmit"),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in host on eth0 by __dev_queue_xmit (QDISC_DROP)"},
	})
}

func TestChecksum(t *testing.T) {
	const said = "dropped: the request from 10.99.0.1 was dropped in host on eth0: its "
	counted := func() *Facts {
		f := facts()
		f.Namespaces[nsHost].Counters = map[string]uint64{"TcpInCsumErrors": 1}
		return f
	}
	runCases(t, []verdictCase{
		{name: "IP", flow: onEth0(path.StageDevice, "IP_CSUM", "ip_rcv_core"), outcome: path.Dropped,
			cause: path.CauseChecksumInvalid, summary: said + "IP header checksum is wrong", remedy: "ethtool -K eth0 tx off"},
		{name: "TCP", flow: onEth0(path.StageTCP, "TCP_CSUM", "tcp_v4_rcv"), outcome: path.Dropped,
			cause: path.CauseChecksumInvalid, summary: said + "TCP checksum is wrong"},
		{name: "older kernel", flow: onEth0(path.StageTCP, "", "tcp_v4_rcv"), facts: counted, outcome: path.Dropped,
			cause: path.CauseChecksumInvalid, summary: said + "TCP checksum is wrong"},
		{name: "older kernel, not counted", flow: onEth0(path.StageTCP, "", "tcp_v4_rcv"), outcome: path.Dropped,
			cause: path.CauseUnexplainedDrop, summary: "dropped: the request from 10.99.0.1 was dropped in host on eth0 by tcp_v4_rcv"},
	})
}

func TestMartian(t *testing.T) {
	from := func(src, reason string) func() *testFlow {
		return func() *testFlow {
			f := onEth0(path.StageRoute, reason, "ip_rcv_finish_core")()
			h := &f.p.Packets[0].Hops[4]
			h.SrcAddr = ap(src)
			return f
		}
	}
	const said = "dropped: the request from 10.99.0.1 was dropped in host on eth0: "
	runCases(t, []verdictCase{
		{name: "own address", flow: from("10.99.0.11:5", "IP_LOCAL_SOURCE"), facts: eth0(nil), outcome: path.Dropped,
			cause: path.CauseMartianSource, summary: said + "its source address 10.99.0.11 is one of host's own"},
		{name: "own address, older kernel", flow: from("10.99.0.11:5", ""), facts: eth0(nil), outcome: path.Dropped,
			cause: path.CauseMartianSource, summary: said + "its source address 10.99.0.11 is one of host's own"},
		{name: "loopback", flow: from("127.0.0.1:5", "IP_LOCALNET"), facts: eth0(nil), outcome: path.Dropped,
			cause: path.CauseMartianSource, summary: said + "loopback address 127.0.0.1 is not accepted from a device",
			remedy: "sysctl -w net.ipv4.conf.eth0.route_localnet=1"},
		{name: "multicast", flow: from("224.0.0.1:5", "IP_INVALID_SOURCE"), facts: eth0(nil), outcome: path.Dropped,
			cause: path.CauseMartianSource, summary: said + "224.0.0.1 is no address that a packet can come from"},
		{name: "older kernel, nothing wrong with it", flow: from("10.99.0.1:5", ""), facts: eth0(nil), outcome: path.Dropped,
			cause:   path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in host on eth0 by ip_rcv_finish_core"},
		{name: "reverse path filter, older kernel", flow: from("10.99.0.1:5", ""), outcome: path.Dropped,
			facts: eth0(func(n *Namespace, _ *Link) {
				n.Sysctls = map[string]string{"net.ipv4.conf.eth0.rp_filter": "1"}
				n.Routes = []Route{{Dst: ip("10.99.0.1"), Device: "br-app"}}
			}),
			cause: path.CauseReversePathFilter, evidence: "10.99.0.1 is routed by br-app in host",
			summary: "dropped: the request from 10.99.0.1 was dropped in host on eth0 by the reverse path filter: source address " +
				"10.99.0.1 is not routed by that device"},
	})
}

func TestRefusingRoute(t *testing.T) {
	in := func(typ string) func() *Facts {
		return eth0(func(n *Namespace, _ *Link) {
			n.Table = []TableRoute{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: "unicast"},
				{Dst: netip.MustParsePrefix("10.99.0.0/24"), Type: typ}}
		})
	}
	runCases(t, []verdictCase{
		{name: "unreachable", flow: onEth0(path.StageRoute, "NOT_SPECIFIED", "ip_error"), facts: in("unreachable"),
			outcome: path.Dropped, cause: path.CauseNoRoute,
			summary: "dropped: the request from 10.99.0.1 ended in host, which has a route of kind unreachable to 10.99.0.11"},
		{name: "unreachable, older kernel", flow: onEth0(path.StageRoute, "", "ip_error"), facts: in("unreachable"),
			outcome: path.Dropped, cause: path.CauseNoRoute,
			summary: "dropped: the request from 10.99.0.1 ended in host, which has a route of kind unreachable to 10.99.0.11"},
		{name: "older kernel, there is one", flow: onEth0(path.StageRoute, "", "ip_error"), facts: in("unicast"),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in host on eth0 by ip_error"},
		{name: "none", flow: onEth0(path.StageRoute, "IP_INNOROUTES", "ip_error"), facts: in("unicast"), outcome: path.Dropped,
			cause: path.CauseNoRoute, summary: "dropped: the request from 10.99.0.1 ended in host, which has no route to 10.99.0.11"},
	})
}

// TestBypassedLink: what happens to a packet after its way was gone is a consequence.
func TestBypassedLink(t *testing.T) {
	f := newFlow(path.TCP)
	d := ends(sender, inner)
	f.add(path.Request, "S", append(f.out(),
		f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, through("eth0", "eth0")),
		f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", d, through("eth0", "eth0"), why("NETFILTER_DROP", "nft_do_chain")))...)
	s := newSegment()
	s.f.Source = Endpoint{Label: "10.99.0.1", NetNS: []uint32{nsCli}}
	if v := Explain(&f.p, s.f); v.Cause == path.CauseLinkDown {
		t.Errorf("bridge up: got %s: %s", v.Cause, v.Summary)
	}
	s.bridge.Up = false
	v := Explain(&f.p, s.f)
	const want = "dropped: the request from 10.99.0.1 has no way to 172.18.0.2, since br-app in host, by which it is reached, is down"
	if v.Cause != path.CauseLinkDown || v.Summary != want || v.Where.Device != "br-app" {
		t.Errorf("got %s: %s, %+v", v.Cause, v.Summary, v.Where)
	}
}

func TestFrameTooBig(t *testing.T) {
	f := bridged("NOT_SPECIFIED", "br_dev_queue_push_xmit")()
	f.p.Packets[0].Length = 1500
	s := newSegment()
	s.vcli.MTU = 1500
	if v := Explain(&f.p, s.f); v.Cause == path.CauseMTUBlackhole {
		t.Errorf("it fits: got %s: %s", v.Cause, v.Summary)
	}
	s.vcli.MTU = 1400
	v := Explain(&f.p, s.f)
	const want = "dropped: the request from cli is too big for vethC in host (MTU 1400), and the sender is not told: between " +
		"the devices of one link nobody sends an ICMP error"
	if v.Cause != path.CauseMTUBlackhole || v.Summary != want {
		t.Errorf("got %s: %s", v.Cause, v.Summary)
	}
}

func TestBridgeNetfilterOff(t *testing.T) {
	straight := func() *testFlow {
		f := newFlow(path.TCP)
		f.p.Client, f.p.Source = ap(peer), ap(peer)
		f.add(path.Request, "S", f.arriving()...)
		e := ends(inner, peer)
		f.add(path.Reply, "SA",
			f.hop(nsWeb, path.StageDevice, path.ActionTransmit, "eth0", e),
			f.hop(nsHost, path.StageDevice, path.ActionReceive, "vethW", e, bridgePort),
			f.hop(nsHost, path.StageDevice, path.ActionTransmit, "vethC", e, bridgePort),
			f.hop(nsCli, path.StageDevice, path.ActionReceive, "eth0", e),
			f.hop(nsCli, path.StageTCP, path.ActionReset, "eth0", e, why("NO_SOCKET", "")))
		return f
	}
	setting := func(value string) func() *Facts {
		return but(func(s *segment) {
			s.f.Namespaces[nsHost].Sysctls = map[string]string{"net.bridge.bridge-nf-call-iptables": value}
		})
	}
	const want = "dropped: the reply from web came from 172.18.0.2:80 instead of 10.99.0.11:8080: bridge br-app in host passed it " +
		"on without undoing the translation of the request"
	runCases(t, []verdictCase{
		{name: "off", flow: straight, facts: setting("0"), outcome: path.Dropped, cause: path.CauseBridgeNetfilterOff, summary: want,
			evidence: "net.bridge.bridge-nf-call-iptables is 0 in host", remedy: "sysctl -w net.bridge.bridge-nf-call-iptables=1"},
		{name: "not loaded", flow: straight, facts: but(nil), outcome: path.Dropped, cause: path.CauseBridgeNetfilterOff, summary: want,
			remedy: "modprobe br_netfilter"},
		{name: "on", flow: straight, facts: setting("1"), outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the reply from web was answered with a reset in container cli, which knows no such connection"},
	})
}
