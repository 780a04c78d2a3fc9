package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestRoutedAway: a route that is not Docker's took the request out of the host again.
func TestRoutedAway(t *testing.T) {
	flow := func(out string) func() *testFlow {
		return func() *testFlow {
			f := newFlow(path.TCP)
			d, way := ends(sender, inner), through("eth0", out)
			f.add(path.Request, "S", append(f.out(), f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, way),
				f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", d, way, why("NETFILTER_DROP", "nft_do_chain")))...)
			return f
		}
	}
	route := func(dst string, index, table uint32, gw string) TableRoute {
		r := TableRoute{Dst: netip.MustParsePrefix(dst), Ifindex: index, Table: table, Type: "unicast"}
		if gw != "" {
			r.Gateway = ip(gw)
		}
		return r
	}
	with := func(routes ...TableRoute) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Subnets = []Subnet{{Network: "app", Prefix: netip.MustParsePrefix("172.18.0.0/16"), Bridge: "br-app",
				HostNetNS: []uint32{nsHost}, Taken: []netip.Addr{ip("172.18.0.2")}}}
			f.Namespaces[nsHost].Links = []Link{{Index: 2, Name: "eth0", Up: true, Carrier: true},
				{Index: 3, Name: "br-app", Kind: "bridge", Up: true, Carrier: true}}
			f.Namespaces[nsHost].Table = append([]TableRoute{route("0.0.0.0/0", 2, tableMain, "10.99.0.254"),
				route("172.18.0.0/16", 3, tableMain, "")}, routes...)
			return f
		}
	}
	const away = "dropped: the request from 10.99.0.1 was routed to eth0 in host and not to br-app, the bridge of network app (172.18.0.0/16): "
	const rule = "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host on its way eth0 → "
	runCases(t, []verdictCase{
		{name: "more specific", flow: flow("eth0"), facts: with(route("172.18.0.0/17", 2, tableMain, "10.99.0.77")), outcome: path.Dropped,
			cause: path.CauseSubnetOverlap, summary: away + "the route to 172.18.0.0/17 is more specific",
			where: "host eth0 route request", remedy: "ip route del 172.18.0.0/17 via 10.99.0.77 dev eth0"},
		{name: "another table", flow: flow("eth0"), facts: with(route("0.0.0.0/0", 2, 98, "10.99.0.77")), outcome: path.Dropped,
			cause:   path.CauseNoRoute,
			summary: away + "a rule of policy routing had table 98 asked, which has no route to that network",
			remedy:  "ip rule add to 172.18.0.0/16 lookup main priority 1"},
		{name: "less specific", flow: flow("eth0"), facts: with(route("172.16.0.0/12", 2, tableMain, "10.99.0.77")), outcome: path.Dropped,
			cause: path.CauseFirewallDrop, summary: rule + "eth0"},
		{name: "to the bridge", flow: flow("br-app"), facts: with(route("172.18.0.0/17", 2, tableMain, "10.99.0.77")), outcome: path.Dropped,
			cause: path.CauseFirewallDrop, summary: rule + "br-app"},
	})
}

// TestSurplusAttempt: two SYNs came at once, one of which opened the connection.
func TestSurplusAttempt(t *testing.T) {
	warned := func(seq uint32, passed bool) bool {
		f := newFlow(path.TCP).connect()
		f.p.Packets[0].Seq = 7
		d := ends(sender, inner)
		p := f.add(path.Request, "S", append(f.in()[:13], f.hop(nsWeb, path.StageTCP, path.ActionDrop, "eth0", d, why("NOT_SPECIFIED", "tcp_v4_rcv")))...)
		p.Seq = seq
		if !passed {
			p.Hops[len(p.Hops)-1].NetNS = nsHost
		}
		return len(Explain(&f.p, facts()).Warnings) > 0
	}
	if warned(7, true) {
		t.Error("a warning of a SYN that the connection did not need")
	}
	if !warned(8, true) || !warned(7, false) {
		t.Error("no warning of a SYN that was lost")
	}
}
