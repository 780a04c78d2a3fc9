package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// withDouble adds the container dup, which has web's address too.
func (s *segment) withDouble() {
	n := s.f.Namespaces[nsHost]
	n.Links = append(n.Links, Link{Index: 6, Name: "vethD", Kind: "veth", Up: true, Carrier: true, Master: 3, PeerNetNS: nsDup, PeerIndex: 2})
	addr := netip.MustParsePrefix("172.18.0.2/16")
	s.f.Namespaces[nsDup] = &Namespace{Container: "dup", Path: "/run/docker/netns/dup", Links: []Link{{Index: 2, Name: "eth0",
		Kind: "veth", Up: true, Carrier: true, PeerNetNS: nsHost, PeerIndex: 6, Addrs: []netip.Prefix{addr}, MAC: "02:00:00:00:00:04"}}}
	s.f.Owners = []Owner{
		{Addr: addr.Addr(), NetNS: nsWeb, Ifindex: 2, Device: "eth0", MAC: "02:00:00:00:00:02", PeerNetNS: nsHost, PeerIndex: 5, Label: "container web", Container: "web"},
		{Addr: addr.Addr(), NetNS: nsDup, Ifindex: 2, Device: "eth0", MAC: "02:00:00:00:00:04", PeerNetNS: nsHost, PeerIndex: 6, Label: "container dup", Container: "dup"},
	}
}

// resetIn is a request that a namespace answers with a reset.
func resetIn(ns uint32) func() *testFlow {
	return func() *testFlow {
		f := asking()
		p, e := f.p.Packets[0], ends(peer, inner)
		p.Hops = append(p.Hops,
			f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e, index(2)),
			f.hop(ns, path.StageDevice, path.ActionReceive, "eth0", e, index(2)),
			f.hop(ns, path.StageTCP, path.ActionReset, "eth0", e, why("NO_SOCKET", "")))
		f.add(path.Reply, "RA", f.hop(ns, path.StageDevice, path.ActionTransmit, "eth0", ends(inner, peer)))
		return f
	}
}

func TestDuplicateAddress(t *testing.T) {
	double := but((*segment).withDouble)
	runCases(t, []verdictCase{
		{name: "the other refuses", flow: resetIn(nsDup), facts: double, outcome: path.Refused,
			cause: path.CauseDuplicateAddress, where: "dup eth0 tcp request",
			summary:  "refused: container dup has the address 172.18.0.2 of web as well, and the request from cli got to it",
			evidence: "container web has 172.18.0.2 on eth0 (MAC address 02:00:00:00:00:02)",
			remedy:   "nsenter --net=/run/docker/netns/dup ip address del 172.18.0.2/16 dev eth0"},
		{name: "the target refuses", flow: resetIn(nsWeb), facts: double, outcome: path.Refused,
			cause: path.CauseNotListening, summary: "refused: nothing listens on port 80 in container web"},
		{name: "another bridge", flow: resetIn(nsDup), outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			facts: but(func(s *segment) {
				s.withDouble()
				s.f.Namespaces[nsHost].Links[3].Master = 7
			}),
			summary: "refused: container dup answered the request from cli with a reset, not web"},
		{name: "target not known", flow: resetIn(nsDup), outcome: path.Refused, cause: path.CauseDuplicateAddress,
			facts: but(func(s *segment) {
				s.withDouble()
				s.f.Target = Endpoint{Label: "172.18.0.2"}
			}),
			summary: "refused: container dup and container web both have the address 172.18.0.2, and the request from cli got to container dup",
			remedy:  "# or from the other"},
	})
}

func TestDuplicateWarning(t *testing.T) {
	f := newFlow(path.TCP).direct().connect()
	s := newSegment()
	if v := Explain(&f.p, s.f); v.Outcome != path.Delivered || len(v.Warnings) > 0 {
		t.Errorf("one owner: got %s, %v", v.Outcome, v.Warnings)
	}
	s.withDouble()
	if v := Explain(&f.p, s.f); v.Outcome != path.Delivered || len(v.Warnings) != 1 || v.Warnings[0].Cause != path.CauseDuplicateAddress {
		t.Errorf("two owners: got %s, %v", v.Outcome, v.Warnings)
	}
}

func TestMisdeliveredToDouble(t *testing.T) {
	f := newFlow(path.TCP).direct().connect()
	f.p.ServerNetNS, f.p.DeliverNetNS = nsDup, nsDup
	s := newSegment()
	s.withDouble()
	v := Explain(&f.p, s.f)
	if v.Outcome != path.Misdelivered || v.Cause != path.CauseDuplicateAddress {
		t.Errorf("got %s %s: %s", v.Outcome, v.Cause, v.Summary)
	}
}

func TestWrongNeighbour(t *testing.T) {
	flooded := func() *testFlow {
		f := asking()
		p, e := f.p.Packets[0], ends(peer, inner)
		p.Hops = append(p.Hops,
			f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e, index(2)),
			f.hop(nsHost, path.StageDevice, path.ActionReceive, "vethC", e, index(4), bridgePort))
		return f
	}
	entry := func(mac string, change func(*segment)) func() *Facts {
		return but(func(s *segment) {
			s.f.Namespaces[nsCli].Neighbours = []Neighbour{{Addr: ip("172.18.0.2"), State: "PERMANENT", MAC: mac}}
			if change != nil {
				change(s)
			}
		})
	}
	const said = "lost: the request from cli went to the wrong MAC address: container cli sends what is for 172.18.0.2 to "
	runCases(t, []verdictCase{
		{name: "nobody's", flow: flooded, facts: entry("02:00:00:00:00:99", nil), outcome: path.Lost,
			cause: path.CauseWrongNeighbour, where: "cli eth0 neighbour request", remedy: "ip neigh del 172.18.0.2 dev eth0",
			summary: said + "02:00:00:00:00:99, which no device here has, and container web has 02:00:00:00:00:02"},
		{name: "another's", flow: flooded, facts: entry("02:00:00:00:00:04", (*segment).withDouble), outcome: path.Lost,
			cause:   path.CauseLostInTransit, // dup has the address as well: the entry is not wrong
			summary: "lost: the request from cli was last seen in host on vethC, and nothing came back while it was watched"},
		{name: "the target's", flow: flooded, facts: entry("02:00:00:00:00:02", nil), outcome: path.Lost,
			cause:   path.CauseLostInTransit,
			summary: "lost: the request from cli was last seen in host on vethC, and nothing came back while it was watched"},
		{name: "owner unknown", flow: flooded, facts: entry("02:00:00:00:00:99", func(s *segment) { s.web.Addrs = nil }),
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from cli was last seen in host on vethC, and nothing came back while it was watched"},
	})
}

func TestMacvlan(t *testing.T) {
	waiting := func() *testFlow {
		f := newFlow(path.TCP).direct()
		f.p.Client, f.p.Source = ap("10.99.0.11:40000"), ap("10.99.0.11:40000")
		f.p.Server, f.p.Target = ap("10.99.0.128:80"), ap("10.99.0.128:80")
		e := ends("10.99.0.11:40000", "10.99.0.128:80")
		f.add(path.Request, "S", f.hop(nsHost, path.StagePostrouting, path.ActionLeave, "eth0", e, through("", "eth0")))
		return f
	}
	macvlan := func(kind string) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Source = Endpoint{Label: "host", NetNS: []uint32{nsHost}}
			f.Namespaces[nsHost].Links = []Link{{Index: 2, Name: "eth0", Up: true, Carrier: true}}
			f.Namespaces[nsHost].Neighbours = []Neighbour{{Addr: ip("10.99.0.128"), State: "INCOMPLETE"}}
			f.Namespaces[nsWeb].Links = []Link{{Index: 3, Name: "eth0", Kind: kind, Up: true, Carrier: true, PeerNetNS: nsHost, PeerIndex: 2,
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.99.0.128/24")}}}
			return f
		}
	}
	givenUp := func() *testFlow {
		f := waiting()
		f.addError(path.Reply, f.hop(nsHost, path.StageOutput, path.ActionEnter, "", icmp(3, 1)))
		return f
	}
	runCases(t, []verdictCase{
		{name: "macvlan, given up", flow: givenUp, facts: macvlan("macvlan"), outcome: path.Dropped, cause: path.CauseMacvlanHostIsolation,
			summary: "dropped: the request from host got no further than host: a host does not reach its own macvlan container over the " +
				"device below it (eth0), nor the container its host"},
		{name: "macvlan", flow: waiting, facts: macvlan("macvlan"), outcome: path.Lost, cause: path.CauseMacvlanHostIsolation,
			summary: "lost: the request from host got no further than host: a host does not reach its own macvlan container over the " +
				"device below it (eth0), nor the container its host",
			remedy: "ip route add 10.99.0.128/32 dev host-side"},
		{name: "ipvlan", flow: waiting, facts: macvlan("ipvlan"), outcome: path.Lost, cause: path.CauseMacvlanHostIsolation,
			summary: "lost: the request from host got no further than host: a host does not reach its own ipvlan container over the " +
				"device below it (eth0), nor the container its host", remedy: "type ipvlan mode l2"},
		{name: "a device of its own", flow: waiting, facts: macvlan("veth"), outcome: path.Lost, cause: path.CauseNeighbourUnresolved,
			summary: "lost: the request from host got no further than host: nobody answered ARP for 10.99.0.128 on eth0"},
	})
}

func TestSubnetOverlap(t *testing.T) {
	reply := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.arriving()...)
		e := ends(inner, sender)
		f.add(path.Reply, "SA", append(f.backToHost(),
			f.hop(nsHost, path.StageForward, path.ActionEnter, "br-two", e, through("br-app", "br-two")),
			f.hop(nsHost, path.StageForward, path.ActionLeave, "br-two", e, through("br-app", "br-two")),
			f.hop(nsHost, path.StageNeighbour, path.ActionDrop, "br-two", e, why("NEIGH_FAILED", "neigh_invalidate")))...)
		return f
	}
	subnet := func(prefix string, taken ...netip.Addr) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Subnets = []Subnet{{Network: "two", Prefix: netip.MustParsePrefix(prefix), Bridge: "br-two",
				HostNetNS: []uint32{nsHost}, Taken: taken}}
			return f
		}
	}
	const unresolved = "dropped: the reply from web got no further than host: nobody answered ARP for 10.99.0.1 on br-two"
	runCases(t, []verdictCase{
		{name: "of the asker", flow: reply, facts: subnet("10.99.0.0/16"), outcome: path.Dropped, cause: path.CauseSubnetOverlap,
			summary: "dropped: 10.99.0.1 is reached by eth0, and host takes it for one of Docker network two (10.99.0.0/16), so what is " +
				"for it goes to br-two", remedy: "docker network create --subnet 172.31.0.0/16 two-new"},
		{name: "a container has it", flow: reply, facts: subnet("10.99.0.0/16", ip("10.99.0.1")), outcome: path.Dropped,
			cause: path.CauseNeighbourUnresolved, summary: unresolved},
		{name: "another subnet", flow: reply, facts: subnet("10.98.0.0/16"), outcome: path.Dropped,
			cause: path.CauseNeighbourUnresolved, summary: unresolved},
	})
}

// TestSubnetOverlapInside: the asker's address is one of the container's own network, as the container sees it.
func TestSubnetOverlapInside(t *testing.T) {
	flow := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.arriving()...)
		f.add(path.Reply, "SA", f.hop(nsWeb, path.StagePostrouting, path.ActionLeave, "eth0", ends(inner, sender), through("", "eth0")))
		return f
	}
	with := func(change func(*Facts)) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Probe = silentProbe()
			f.Subnets = []Subnet{{Network: "app", Prefix: netip.MustParsePrefix("10.99.0.0/16"), Bridge: "br-app", HostNetNS: []uint32{nsHost}}}
			f.Namespaces[nsWeb].Links = []Link{{Index: 7, Name: "eth0", Up: true, Carrier: true,
				Addrs: []netip.Prefix{netip.MustParsePrefix("10.99.7.2/16")}}}
			f.Namespaces[nsWeb].Neighbours = []Neighbour{{Addr: ip("10.99.0.1"), State: "INCOMPLETE"}}
			change(f)
			return f
		}
	}
	const unresolved = "lost: the reply from web got no further than container web: nobody answered ARP for 10.99.0.1 on eth0"
	runCases(t, []verdictCase{
		{name: "of the asker", flow: flow, facts: with(func(*Facts) {}), outcome: path.Lost, cause: path.CauseSubnetOverlap,
			summary: "lost: 10.99.0.1 is reached by eth0 of the host, and container web takes it for one of its own network app " +
				"(10.99.0.0/16), so what is for it does not leave that network",
			remedy: "docker network create --subnet 172.31.0.0/16 app-new"},
		{name: "taken subnets", flow: flow, facts: with(func(f *Facts) {
			f.Subnets = append(f.Subnets, Subnet{Network: "x", Prefix: netip.MustParsePrefix("172.30.0.0/15"), Bridge: "br-x"})
			f.Namespaces[nsHost].Table = []TableRoute{{Dst: netip.MustParsePrefix("0.0.0.0/0")}, {Dst: netip.MustParsePrefix("172.29.8.0/24")}}
		}), outcome: path.Lost, cause: path.CauseSubnetOverlap, remedy: "--subnet 172.28.0.0/16 app-new",
			summary: "lost: 10.99.0.1 is reached by eth0 of the host, and container web takes it for one of its own network app " +
				"(10.99.0.0/16), so what is for it does not leave that network"},
		{name: "a container has it", flow: flow, facts: with(func(f *Facts) { f.Subnets[0].Taken = []netip.Addr{ip("10.99.0.1")} }),
			outcome: path.Lost, cause: path.CauseNeighbourUnresolved, summary: unresolved},
		{name: "not on that network", flow: flow, facts: with(func(f *Facts) { f.Namespaces[nsWeb].Links[0].Addrs = nil }),
			outcome: path.Lost, cause: path.CauseNeighbourUnresolved, summary: unresolved},
	})
}
