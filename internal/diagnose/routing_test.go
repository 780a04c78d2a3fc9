package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// hostDrop is a SYN that the host discards outside any hook.
func hostDrop(reason, function string, opts ...hopOption) *testFlow {
	f := newFlow(path.TCP)
	opts = append([]hopOption{ends(sender, inner), why(reason, function)}, opts...)
	f.add(path.Request, "S", append(f.out(),
		f.hop(nsHost, path.StageRoute, path.ActionDrop, "eth0", opts...))...)
	return f
}

func withSysctl(name, value string) func() *Facts {
	return func() *Facts {
		f := facts()
		f.Namespaces[nsHost].Sysctls = map[string]string{name: value}
		return f
	}
}

func TestForwardingOff(t *testing.T) {
	off := func() *testFlow { return hostDrop("IP_INADDRERRORS", "ip_error") }
	unexplained := "dropped: the request from 10.99.0.1 was dropped in host on eth0 by ip_error " +
		"(IP_INADDRERRORS)"
	runCases(t, []verdictCase{
		{
			name: "off", flow: off, facts: withSysctl("net.ipv4.ip_forward", "0"),
			outcome: path.Dropped, cause: path.CauseForwardingOff,
			summary: "dropped: the request from 10.99.0.1 had to be forwarded by host, where forwarding is off " +
				"(net.ipv4.ip_forward = 0)",
			where: "host eth0 route request", remedy: "sysctl -w net.ipv4.ip_forward=1",
		},
		{name: "on", flow: off, facts: withSysctl("net.ipv4.ip_forward", "1"),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop, summary: unexplained},
		{name: "unknown", flow: off, outcome: path.Dropped, cause: path.CauseUnexplainedDrop, summary: unexplained},
	})
}

func TestReversePath(t *testing.T) {
	runCases(t, []verdictCase{{
		name:    "rp_filter",
		flow:    func() *testFlow { return hostDrop("IP_RPFILTER", "ip_rcv_finish_core") },
		facts:   withSysctl("net.ipv4.conf.all.rp_filter", "1"),
		outcome: path.Dropped, cause: path.CauseReversePathFilter,
		summary: "dropped: the request from 10.99.0.1 was dropped in host on eth0 by the reverse path filter: " +
			"source address 10.99.0.1 is not routed by that device",
		remedy:   "sysctl -w net.ipv4.conf.eth0.rp_filter=2",
		evidence: "net.ipv4.conf.all.rp_filter is 1 in host",
	}})
}

func TestNoRoute(t *testing.T) {
	arrives := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.in()...)
		return f
	}
	routes := func(list ...Route) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Namespaces[nsWeb].Routes = list
			f.Probe = silentProbe()
			return f
		}
	}
	const back = "dropped: the reply from web never left: container web has no route to 10.99.0.1"
	runCases(t, []verdictCase{
		{
			name: "no way back", flow: arrives,
			facts: routes(Route{Dst: ip("10.99.0.1"), Err: "ENETUNREACH"}, Route{Dst: netip.IPv4Unspecified(),
				Err: "ENETUNREACH"}),
			outcome: path.Dropped, cause: path.CauseNoRoute, summary: back, where: "web route reply",
			remedy:   "nsenter --net=/run/docker/netns/abc ip route add default via 172.18.0.1",
			evidence: "container web has no default route",
		},
		{
			name: "a way back exists", flow: arrives,
			facts:   routes(Route{Dst: ip("10.99.0.1"), Gateway: ip(gateway), Device: "eth0"}),
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from 10.99.0.1 reached container web, and no answer was seen within 2 s",
		},
		{
			name: "look-up of the reply was seen to fail",
			flow: func() *testFlow {
				f := arrives()
				p := f.p.Packets[0]
				p.Hops = append(p.Hops, f.hop(nsWeb, path.StageRoute, path.ActionReject, "",
					ends(inner, sender), fails("no route")))
				p.Hops[len(p.Hops)-1].Action = ""
				return f
			},
			outcome: path.Dropped, cause: path.CauseNoRoute, summary: back, where: "web route reply",
		},
		{
			name: "the kernel's reason", flow: func() *testFlow { return hostDrop("IP_INNOROUTES", "ip_error") },
			outcome: path.Dropped, cause: path.CauseNoRoute,
			summary: "dropped: the request from 10.99.0.1 ended in host, which has no route to 172.18.0.2",
			where:   "host eth0 route request", remedy: "ip route get 172.18.0.2",
		},
	})
}

func TestTTL(t *testing.T) {
	expired := func(reason string, typ uint8) *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", append(f.out(),
			f.hop(nsHost, path.StageRoute, path.ActionReject, "eth0", icmp(typ, 0)),
			f.hop(nsHost, path.StageRoute, path.ActionDrop, "eth0", why(reason, "ip_forward")))...)
		return f
	}
	runCases(t, []verdictCase{
		{
			name: "exceeded", flow: func() *testFlow { return expired("IP_INHDR", 11) },
			outcome: path.Refused, cause: path.CauseTTLExceeded,
			summary: "refused: the request from 10.99.0.1 used up its hop limit in host",
		},
		{
			name: "another header error", flow: func() *testFlow { return expired("IP_INHDR", 12) },
			outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			summary: "refused: host answered the request from 10.99.0.1 with an ICMP error (unreachable)",
		},
	})
}

func TestTooBig(t *testing.T) {
	big := func(lost bool) *testFlow {
		f := newFlow(path.TCP).connect()
		hops := append(f.backToHost(),
			f.hop(nsHost, path.StageICMP, path.ActionReject, "br-app", icmp(3, 4), mtu(1400), through("br-app", "eth0")),
			f.hop(nsHost, path.StageRoute, path.ActionDrop, "br-app", why("PKT_TOO_BIG", "ip_forward")))
		p := f.add(path.Reply, "PA", hops...)
		p.Seq, p.Length = 5000, 1500
		e := []path.Hop{f.hop(nsHost, path.StageOutput, path.ActionEnter, "", icmp(3, 4), mtu(1400))}
		if lost {
			e = append(e, f.hop(nsHost, path.StageOutput, path.ActionDrop, "", icmp(3, 4),
				why("NETFILTER_DROP", "nft_do_chain")))
		}
		f.addError(path.Request, e...)
		return f
	}
	runCases(t, []verdictCase{
		{
			name: "error got back", flow: func() *testFlow { return big(false) },
			outcome: path.Dropped, cause: path.CausePacketTooBig,
			summary:  "dropped: a data packet from web is too big for eth0 (MTU 1400) at host",
			evidence: "the packet has 1500 bytes from the IP header on", remedy: "driver.mtu=1400",
		},
		{
			name: "error was dropped", flow: func() *testFlow { return big(true) },
			outcome: path.Dropped, cause: path.CauseMTUBlackhole,
			summary: "dropped: a data packet from web is too big for eth0 (MTU 1400) at host, and the ICMP " +
				"error that says so was dropped in host",
		},
	})
}
