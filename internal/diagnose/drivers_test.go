package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestMacvlanModes: two containers on one parent, and what their modes make of that.
func TestMacvlanModes(t *testing.T) {
	const addr, peer = "10.99.0.128", "10.99.0.129"
	e := ends(addr+":40000", peer+":80")
	flow := func(hops func(f *testFlow) []path.Hop) func() *testFlow {
		return func() *testFlow {
			f := newFlow(path.TCP).direct()
			f.p.Client, f.p.Source = ap(addr+":40000"), ap(addr+":40000")
			f.p.Server, f.p.Target = ap(peer+":80"), ap(peer+":80")
			f.add(path.Request, "S", hops(f)...)
			return f
		}
	}
	waiting := flow(func(f *testFlow) []path.Hop {
		return []path.Hop{f.hop(nsCli, path.StagePostrouting, path.ActionLeave, "eth0", e, through("", "eth0"))}
	})
	gone := flow(func(f *testFlow) []path.Hop { // its MAC address was known
		return []path.Hop{
			f.hop(nsCli, path.StagePostrouting, path.ActionLeave, "eth0", e, through("", "eth0")),
			f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e, index(7)),
			f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0", e, index(2)),
		}
	})
	facts := func(mine, theirs string, state string) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Source = Endpoint{Label: "cli", Container: "cli", NetNS: []uint32{nsCli}, HostNetNS: []uint32{nsHost}}
			link := func(mode, addr string, index uint32) Link {
				return Link{Index: index, Name: "eth0", Kind: "macvlan", Mode: mode, Up: true, Carrier: true, PeerNetNS: nsHost, PeerIndex: 2,
					Addrs: []netip.Prefix{netip.MustParsePrefix(addr + "/24")}}
			}
			f.Namespaces[nsHost].Links = []Link{{Index: 2, Name: "eth0", Up: true, Carrier: true}}
			f.Namespaces[nsCli] = &Namespace{Name: "cli", Container: "cli", Links: []Link{link(mine, addr, 7)}}
			if state != "" {
				f.Namespaces[nsCli].Neighbours = []Neighbour{{Addr: ip(peer), State: state}}
			}
			f.Namespaces[nsWeb].Links = []Link{link(theirs, peer, 8)}
			return f
		}
	}
	apart := "container cli: it and container web have macvlan devices on eth0 of host in private mode, which keeps them apart"
	runCases(t, []verdictCase{
		{name: "private", flow: waiting, facts: facts("private", "private", "INCOMPLETE"), outcome: path.Lost, cause: path.CauseNetworkIsolation,
			summary: "lost: the request from cli got no further than " + apart, remedy: "macvlan_mode=bridge"},
		{name: "one of them", flow: waiting, facts: facts("bridge", "private", "INCOMPLETE"), outcome: path.Lost,
			cause: path.CauseNetworkIsolation, summary: "lost: the request from cli got no further than " + apart},
		{name: "vepa", flow: waiting, facts: facts("vepa", "vepa", "INCOMPLETE"), outcome: path.Lost, cause: path.CauseNeighbourUnresolved,
			summary: "lost: the request from cli got no further than container cli: it and container web have macvlan devices on eth0 of " +
				"host in vepa mode: what is for each other has to come back from the switch, and did not", remedy: "reflective relay"},
		{name: "bridge", flow: waiting, facts: facts("bridge", "bridge", "INCOMPLETE"), outcome: path.Lost,
			cause: path.CauseNeighbourUnresolved, summary: "lost: the request from cli got no further than container cli: nobody answered " +
				"ARP for 10.99.0.129 on eth0"},
		{name: "sent to the switch", flow: gone, facts: facts("private", "private", "REACHABLE"), outcome: path.Lost,
			cause: path.CauseNetworkIsolation, summary: "lost: the request from cli got no further than host: it and container web have " +
				"macvlan devices on eth0 of host in private mode, which keeps them apart"},
	})
}

// TestOverlayOutside: the asker is not on the overlay that the target's address is of.
func TestOverlayOutside(t *testing.T) {
	leaves := func() *testFlow {
		f := newFlow(path.TCP).direct()
		f.p.Client, f.p.Source = ap("10.99.0.11:40000"), ap("10.99.0.11:40000")
		f.p.Server, f.p.Target = ap(o2Addr), ap(o2Addr)
		f.add(path.Request, "S", f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0", ends("10.99.0.11:40000", o2Addr)))
		return f
	}
	from := func(change func(*Facts)) func() *Facts {
		return overlayFacts(func(f *Facts) {
			f.Source = Endpoint{Label: "host", NetNS: []uint32{nsHost}}
			f.Namespaces[nsHost].Links = []Link{{Index: 2, Name: "eth0", Up: true, Carrier: true,
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.99.0.11/24")}}}
			change(f)
		})
	}
	says := "web (10.0.1.4) is on overlay ov, and host is not: nobody else reaches its addresses"
	runCases(t, []verdictCase{
		{name: "its own host", flow: leaves, facts: from(func(*Facts) {}), outcome: path.Lost, cause: path.CauseNoSharedNetwork,
			summary: "lost: " + says, remedy: "pathtrace --from CONTAINER --to web"},
		{name: "a container", flow: leaves, facts: from(func(f *Facts) {
			f.Source = Endpoint{Label: "cli", Container: "cli", NetNS: []uint32{nsHost}, Networks: []Network{{Name: "app"}}}
		}), outcome: path.Lost, cause: path.CauseNoSharedNetwork, evidence: "container cli is on network app",
			summary: "lost: web (10.0.1.4) is on overlay ov, and cli is not: nobody else reaches its addresses",
			remedy:  "docker network connect ov cli"},
		{name: "a container of it", flow: leaves, facts: from(func(f *Facts) {
			f.Source = Endpoint{Label: "cli", Container: "cli", NetNS: []uint32{nsHost}, Networks: []Network{{Name: "ov"}}}
		}), outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from cli left host through eth0, and nothing came back within 1 s"},
		{name: "its addresses are not known", flow: leaves, facts: from(func(f *Facts) { f.Namespaces[nsHost].Links = nil }),
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from host left host through eth0, and nothing came back within 1 s"},
	})
}

// TestVirtualIP: nobody answers for the virtual address of a service.
func TestVirtualIP(t *testing.T) {
	waiting := func() *testFlow {
		f := newFlow(path.TCP)
		f.p.NAT = nil
		f.p.Client, f.p.Source, f.p.Server, f.p.Target = ap(o1Addr), ap(o1Addr), ap(o2Addr), ap(o2Addr)
		f.add(path.Request, "S", f.hop(nsCli, path.StagePostrouting, path.ActionLeave, "eth0", ends(o1Addr, o2Addr), through("", "eth0")))
		return f
	}
	facts := func(change func(*Facts)) func() *Facts {
		return overlayFacts(func(f *Facts) {
			f.Namespaces[nsCli].Neighbours = []Neighbour{{Ifindex: 14, Addr: ip("10.0.1.4"), State: "INCOMPLETE"}}
			f.Namespaces[nsOverlay].Neighbours = []Neighbour{}
			f.Lookup = &Lookup{Status: LookupFound, Name: "svc", Addrs: []netip.Addr{ip("10.0.1.4")}, AnyAddress: true,
				Tasks: []netip.Addr{ip("10.0.1.9")}}
			change(f)
		})
	}
	unknown := "lost: the request from cli got no further than container cli: vxlan0 in overlay ov, which answers ARP for the " +
		"containers of other hosts, has no entry for 10.0.1.4"
	virtual := "lost: the request from cli got no further than container cli: nobody answers ARP for 10.0.1.4, the virtual address of service svc"
	runCases(t, []verdictCase{
		{name: "no IPVS", flow: waiting, facts: facts(func(f *Facts) { f.NoIPVS = true }), outcome: path.Lost,
			cause: path.CauseNeighbourUnresolved, summary: virtual + ": this kernel has no IPVS, by which the load balancer works",
			evidence: "tasks.svc leads to the containers themselves: 10.0.1.9", remedy: "--endpoint-mode dnsrr svc"},
		{name: "IPVS", flow: waiting, facts: facts(func(*Facts) {}), outcome: path.Lost, cause: path.CauseNeighbourUnresolved, summary: virtual},
		{name: "a task's address", flow: waiting, facts: facts(func(f *Facts) { f.Lookup.Tasks = f.Lookup.Addrs }), outcome: path.Lost,
			cause: path.CauseOverlayMisrouted, summary: unknown},
		{name: "the other hosts are gone", flow: waiting, facts: facts(func(f *Facts) {
			f.Lookup.Tasks, f.Subnets[0].Peers = nil, []netip.Addr{ip("10.99.0.11")}
		}), outcome: path.Lost, cause: path.CauseOverlayPeerUnreachable, remedy: "docker node ls",
			summary: unknown + ", since its host has contact with no other host of overlay ov"},
		{name: "the other host knows of itself", flow: waiting, facts: facts(func(f *Facts) {
			twoEngines(f)
			own := f.Subnets[0]
			f.Lookup.Tasks, own.Peers = nil, []netip.Addr{ip("10.99.0.11")}
			f.Subnets[0].HostNetNS = []uint32{nsPeer}
			f.Subnets = append(f.Subnets, own)
		}), outcome: path.Lost, cause: path.CauseOverlayPeerUnreachable, evidence: "as this host was told: 10.99.0.11",
			summary: unknown + ", since its host has no contact with that of web, 10.99.0.12"},
	})
}

// TestNoWayBack: the answer finds no route, whatever it is, since the container's address left the host.
func TestNoWayBack(t *testing.T) {
	const from, to = "[fd00:5e:1::3]:40000", "[fd00:99::1]:80"
	closed := func() *testFlow {
		f := newFlow(path.TCP).direct()
		f.p.Client, f.p.Source, f.p.Server, f.p.Target = ap(from), ap(from), ap(to), ap(to)
		e := ends(from, to)
		back := func(h *path.Hop) {
			ends(to, from)(h)
			h.Direction, h.Error = path.Reply, "network unreachable"
		}
		f.add(path.Request, "S",
			f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0", e),
			f.hop(nsPeer, path.StageDevice, path.ActionReceive, "eth0", e, named("peer")),
			f.hop(nsPeer, path.StageTCP, path.ActionReset, "eth0", e, named("peer"), why("NO_SOCKET", "tcp_v6_rcv")),
			f.hop(nsPeer, path.StageRoute, path.ActionEnter, "", back, named("peer")),
			f.hop(nsPeer, path.StageTCP, path.ActionDrop, "eth0", e, named("peer"), why("NO_SOCKET", "tcp_v6_rcv")))
		return f
	}
	facts := func(noIPv6 bool, mode expect.Mode) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Probe = &Probe{Kind: ProbeSilence, Timeout: 1e9}
			f.Target = Endpoint{Label: "fd00:99::1"}
			f.Source = Endpoint{Label: "cli", Container: "cli", NetNS: []uint32{nsCli}}
			f.Namespaces[nsHost].Expected = &Expected{NoIPv6: noIPv6, Networks: []expect.Network{{Name: "dual", Bridge: "br-dual",
				Subnets: []netip.Prefix{netip.MustParsePrefix("fd00:5e:1::/64")}, Masquerade: true, Mode6: mode}}}
			return f
		}
	}
	left := "lost: the request from cli left host through eth0 with the private address fd00:5e:1::3, to which no answer finds back: "
	runCases(t, []verdictCase{
		{name: "no rules for IPv6", flow: closed, facts: facts(true, ""), outcome: path.Lost, cause: path.CauseMasqueradeMissing,
			summary: left + "the engine makes no rules for IPv6 (ip6tables is off), so nothing masquerades network dual",
			remedy:  `"ip6tables": true`},
		{name: "routed", flow: closed, facts: facts(false, expect.Routed), outcome: path.Lost, cause: path.CauseMasqueradeMissing,
			summary: left + "network dual is routed (gateway_mode=routed), so the others need a route to fd00:5e:1::/64",
			remedy:  "ip route add fd00:5e:1::/64 via"},
		{name: "neither", flow: closed, facts: facts(false, ""), outcome: path.Dropped, cause: path.CauseNoRoute,
			summary: "dropped: the reply from fd00:99::1 never left: peer has no route to fd00:5e:1::3"},
	})
}

// TestTakesAll: which requests a socket on an unspecified address takes.
func TestTakesAll(t *testing.T) {
	for _, test := range []struct {
		on, to string
		v6only bool
		want   bool
	}{
		{"0.0.0.0:80", "192.0.2.1", false, true}, {"0.0.0.0:80", "fd00::1", false, false},
		{"[::]:80", "fd00::1", false, true}, {"[::]:80", "192.0.2.1", false, true},
		{"[::]:80", "fd00::1", true, true}, {"[::]:80", "192.0.2.1", true, false},
		{"[::]:80", "::ffff:192.0.2.1", true, false}, {"192.0.2.1:80", "192.0.2.2", false, false},
	} {
		l := Listener{Addr: ap(test.on), V6Only: test.v6only}
		if got := l.takesAll(ip(test.to)); got != test.want {
			t.Errorf("%s (IPv6 only: %v) takes requests to %s: got %v, want %v", test.on, test.v6only, test.to, got, test.want)
		}
		p := Published{HostIP: ap(test.on).Addr(), HostPort: 80, Proto: path.TCP}
		if got, want := p.takes(netip.AddrPortFrom(ip(test.to), 80), path.TCP), ap(test.on).Addr().Is4() == ip(test.to).Unmap().Is4(); got != want &&
			p.HostIP.IsUnspecified() {
			t.Errorf("published on %s for %s: got %v, want %v", test.on, test.to, got, want)
		}
	}
}

// TestBalancedTarget: a container that is not known may be one that the load balancer leads to.
func TestBalancedTarget(t *testing.T) {
	f := &Facts{}
	f.Target.Container, f.Target.NetNS = "vip.1", []uint32{1}
	balanced := []path.Translation{{Kind: path.ActionDNAT, By: path.IPVS, Direction: path.Request, To: "10.0.1.3:80"}}
	for _, test := range []struct {
		nat  []path.Translation
		ns   uint32
		want bool
	}{{nil, 1, false}, {nil, 2, true}, {balanced, 1, false}, {balanced, 2, false}} {
		a := &analysis{p: &path.Path{NAT: test.nat}, f: f}
		if got := a.isForeign(test.ns); got != test.want {
			t.Errorf("namespace %d after %v is foreign: got %v, want %v", test.ns, test.nat, got, test.want)
		}
	}
	web := &path.Packet{Direction: path.Request, Hops: []path.Hop{{Container: "vip.2", Action: path.ActionReceive, Dst: "10.0.1.3:80"}}}
	a := &analysis{p: &path.Path{NAT: balanced, Packets: []*path.Packet{web}}, f: f}
	if got := a.chosen(balanced[0]); got != " of vip.2" {
		t.Errorf("chosen: got %q", got)
	}
}
