package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestLostSubnet: the host sends what is for a container's address by its default route.
func TestLostSubnet(t *testing.T) {
	away := func() *testFlow {
		f := newFlow(path.TCP)
		d, way := ends(sender, inner), through("eth0", "eth0")
		f.add(path.Request, "S", append(f.out(),
			f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, way),
			f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", d, way, why("NETFILTER_DROP", "nft_do_chain")))...)
		return f
	}
	subnet := netip.MustParsePrefix("172.18.0.0/16")
	host := func(change func(*Namespace, *Link)) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Subnets = []Subnet{{Network: "app", Prefix: subnet, Bridge: "br-app", HostNetNS: []uint32{nsHost},
				Taken: []netip.Addr{ip(gateway), ip("172.18.0.2")}}}
			bridge := Link{Index: 3, Name: "br-app", Kind: "bridge", Up: true, Carrier: true,
				Addrs: []netip.Prefix{netip.MustParsePrefix(gateway + "/16")}}
			n := f.Namespaces[nsHost]
			n.Table = []TableRoute{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Ifindex: 2, Type: "unicast"}}
			change(n, &bridge)
			n.Links = append(n.Links, Link{Index: 2, Name: "eth0", Up: true, Carrier: true}, bridge)
			return f
		}
	}
	const summary = "dropped: the request from 10.99.0.1 has no way to 172.18.0.2, since host has no route to Docker " +
		"network app (172.18.0.0/16)"
	runCases(t, []verdictCase{
		{name: "address", flow: away, facts: host(func(_ *Namespace, l *Link) { l.Addrs = nil }), outcome: path.Dropped,
			cause: path.CauseNoRoute, summary: summary, where: "host eth0 route request",
			evidence: "br-app in host does not have 172.18.0.1, the gateway of that network",
			remedy:   "ip address add 172.18.0.1/16 dev br-app"},
		{name: "route", flow: away, facts: host(func(*Namespace, *Link) {}), outcome: path.Dropped,
			cause: path.CauseNoRoute, summary: summary, remedy: "ip route add 172.18.0.0/16 dev br-app src 172.18.0.1",
			evidence: "the request from 10.99.0.1 was to leave host by eth0 instead"},
		{name: "bridge", flow: away, facts: host(func(_ *Namespace, l *Link) { l.Name = "other" }), outcome: path.Dropped,
			cause: path.CauseNoRoute, summary: summary, remedy: "systemctl restart docker"},
		{name: "routes not read", flow: away, facts: host(func(n *Namespace, l *Link) { n.Table, l.Addrs = nil, nil }),
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host on its way eth0 → eth0"},
		{name: "another route", facts: host(func(n *Namespace, _ *Link) {
			n.Table = append(n.Table, TableRoute{Dst: subnet, Ifindex: 2, Type: "unicast"})
		}), flow: away, outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host on its way eth0 → eth0"},
	})
}
