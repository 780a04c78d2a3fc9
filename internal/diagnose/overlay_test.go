package diagnose

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// The namespaces that two hosts' engines keep for the overlay, and the other host.
const (
	nsOverlay uint32 = 4026530101 + iota
	nsPeerOverlay
	nsPeer
)

const (
	o1Addr  = "10.0.1.2:40000"
	o2Addr  = "10.0.1.4:80"
	o2MAC   = "02:42:0a:00:01:04"
	vtepTwo = "10.99.0.12"
)

// overlayFacts are those of cli on host and web on another host, seen by the engine of the first: what
// the lab shows of o1 and o2.
func overlayFacts(change func(*Facts)) func() *Facts {
	return func() *Facts {
		f := &Facts{Complete: true, Probe: &Probe{Kind: ProbeSilence, Timeout: 1e9}}
		f.Source = Endpoint{Label: "cli", Container: "cli", NetNS: []uint32{nsCli}, HostNetNS: []uint32{nsHost}}
		f.Target = Endpoint{Label: "web"}
		f.Subnets = []Subnet{{Network: "ov", Prefix: netip.MustParsePrefix("10.0.1.0/24"), HostNetNS: []uint32{nsHost},
			Peers: []netip.Addr{ip("10.99.0.11"), ip(vtepTwo)}}}
		f.VXLANs = []VXLAN{{NetNS: nsOverlay, HostNetNS: nsHost, Ifindex: 11, Device: "vxlan0", Network: "ov", VNI: 4097, Port: 4789, Proxy: true}}
		f.Namespaces = map[uint32]*Namespace{
			nsCli: {Name: "cli", Container: "cli", Path: "/run/docker/netns/cli",
				Links:      []Link{{Index: 14, Name: "eth0", Kind: "veth", Up: true, Carrier: true, PeerNetNS: nsOverlay, PeerIndex: 15}},
				Neighbours: []Neighbour{{Ifindex: 14, Addr: ip("10.0.1.4"), State: "REACHABLE", MAC: o2MAC}}},
			nsHost: {Name: "host", Self: true},
			nsOverlay: {Name: "overlay ov", Path: "/run/docker/netns/1-abcdefghij",
				Links: []Link{{Index: 2, Name: "br0", Kind: "bridge", Up: true, Carrier: true},
					{Index: 11, Name: "vxlan0", Kind: "vxlan", Up: true, Carrier: true, Master: 2, PeerNetNS: nsHost},
					{Index: 15, Name: "veth1", Kind: "veth", Up: true, Carrier: true, Master: 2, PeerNetNS: nsCli, PeerIndex: 14}},
				Neighbours: []Neighbour{{Ifindex: 11, Addr: ip("10.0.1.4"), State: "PERMANENT", MAC: o2MAC}},
				FDB:        []FDBEntry{{Ifindex: 11, MAC: o2MAC, VTEP: ip(vtepTwo)}}},
		}
		if change != nil {
			change(f)
		}
		return f
	}
}

// twoEngines adds what the engine of the other host knows.
func twoEngines(f *Facts) {
	f.Target = Endpoint{Label: "web", Container: "web", NetNS: []uint32{nsWeb}, HostNetNS: []uint32{nsPeer},
		Networks: []Network{{Name: "ov", Addrs: []netip.Addr{ip("10.0.1.4")}}}}
	f.Namespaces[nsPeer] = &Namespace{Name: "peer", Path: "/run/netns/peer", Links: []Link{
		{Index: 3, Name: "docker0", Kind: "bridge", Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}},
		{Index: 2, Name: "eth0", Up: true, Carrier: true, Addrs: []netip.Prefix{netip.MustParsePrefix(vtepTwo + "/24")}}}}
	f.Subnets = append(f.Subnets, Subnet{Network: "bridge", Prefix: netip.MustParsePrefix("172.17.0.0/16"), Bridge: "docker0"})
	f.VXLANs = append(f.VXLANs, VXLAN{NetNS: nsPeerOverlay, HostNetNS: nsPeer, Ifindex: 11, Device: "vxlan0", Network: "ov", VNI: 4097,
		Port: 4789, Proxy: true})
	f.Namespaces[nsPeerOverlay] = &Namespace{Name: "overlay ov on peer", Path: "/run/docker/netns/1-peer"}
}

// named gives a hop the name of its namespace.
func named(ns string) hopOption { return func(h *path.Hop) { h.Namespace = ns } }

// tunnelled is a request from cli that was encapsulated for vtep, with the hops given after that.
func tunnelled(vtep string, more func(*testFlow, hopOption) []path.Hop) func() *testFlow {
	return func() *testFlow {
		f := intoTunnel()
		o := outer(vtep + ":4789")
		e := ends(o1Addr, o2Addr)
		p := f.p.Packets[0]
		p.Hops = append(p.Hops,
			f.hop(nsHost, path.StageVXLAN, path.ActionEncapsulate, "eth0", e, o),
			f.hop(nsHost, path.StagePostrouting, path.ActionEnter, "eth0", e, o, through("", "eth0")),
			f.hop(nsHost, path.StagePostrouting, path.ActionLeave, "eth0", e, o, through("", "eth0")))
		if more != nil {
			p.Hops = append(p.Hops, more(f, func(h *path.Hop) { e(h); o(h) })...)
		}
		return f
	}
}

// intoTunnel is a request that came to the VXLAN device.
func intoTunnel(more ...hopOption) *testFlow {
	f := newFlow(path.TCP)
	f.p.NAT = nil
	f.p.Client, f.p.Source, f.p.Server, f.p.Target = ap(o1Addr), ap(o1Addr), ap(o2Addr), ap(o2Addr)
	e := ends(o1Addr, o2Addr)
	f.add(path.Request, "S",
		f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e, index(14)),
		f.hop(nsOverlay, path.StageDevice, path.ActionReceive, "veth1", e, index(15), named("overlay ov")),
		f.hop(nsOverlay, path.StageDevice, path.ActionTransmit, "vxlan0", e, index(11), named("overlay ov")))
	for _, o := range more {
		o(&f.p.Packets[0].Hops[2])
	}
	return f
}

func left(f *testFlow, in hopOption) []path.Hop {
	return []path.Hop{f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0", in)}
}

// atPeer is what came to the other host and ended there.
func atPeer(reason, function string) func(*testFlow, hopOption) []path.Hop {
	return func(f *testFlow, in hopOption) []path.Hop {
		return append(left(f, in), f.hop(nsPeer, path.StageDevice, path.ActionReceive, "eth0", in, named("peer")),
			f.hop(nsPeer, path.StageVXLAN, path.ActionDrop, "eth0", in, named("peer"), why(reason, function)))
	}
}

func TestOverlayPeer(t *testing.T) {
	waits := func(f *Facts) {
		f.Namespaces[nsHost].Neighbours = []Neighbour{{Addr: ip(vtepTwo), State: "INCOMPLETE"}}
	}
	runCases(t, []verdictCase{
		{
			name: "one host sees no more than that it left", flow: tunnelled(vtepTwo, left), facts: overlayFacts(nil),
			outcome: path.Lost, cause: path.CauseOverlayPeerUnreachable, where: "host eth0 device request",
			summary: "lost: the request from cli was encapsulated in VXLAN 4097 and sent to tunnel endpoint 10.99.0.12 through eth0 of " +
				"host, and nothing came back within 1 s",
			evidence: "10.99.0.12 takes part in overlay ov, as this host was told",
			remedy:   "pathtrace --to 10.0.1.4:80  # on 10.99.0.12",
		},
		{
			name: "the peer does not answer ARP", flow: tunnelled(vtepTwo, nil), facts: overlayFacts(waits),
			outcome: path.Lost, cause: path.CauseOverlayPeerUnreachable, where: "host eth0 neighbour request",
			summary: "lost: the request from cli was encapsulated in VXLAN 4097 for 10.99.0.12, and nobody answers ARP for that address" +
				" on eth0",
			evidence: "the neighbour entry of 10.99.0.12 in host is INCOMPLETE", remedy: "ping -c 3 10.99.0.12",
		},
		{
			name: "the gateway does not answer ARP", flow: tunnelled(vtepTwo, nil),
			facts: overlayFacts(func(f *Facts) {
				f.Namespaces[nsHost].Routes = []Route{{Dst: ip(vtepTwo), Gateway: ip("10.99.0.1"), Device: "eth0"}}
				f.Namespaces[nsHost].Neighbours = []Neighbour{{Addr: ip("10.99.0.1"), State: "FAILED"}}
			}),
			outcome: path.Lost, cause: path.CauseNeighbourUnresolved,
			summary: "lost: the request from cli got no further than host: nobody answered ARP for 10.99.0.1 on eth0",
		},
		{
			name: "it got there", flow: tunnelled(vtepTwo, func(f *testFlow, in hopOption) []path.Hop {
				return append(left(f, in), f.hop(nsPeer, path.StageInput, path.ActionLeave, "eth0", in, named("peer")))
			}),
			facts:   overlayFacts(func(f *Facts) { f.Owners = []Owner{{Addr: ip(vtepTwo), NetNS: nsPeer}} }),
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from cli was last seen passing the INPUT hook (netfilter) of peer, and nothing came back within 1 s",
		},
		{
			name: "the data path is not the swarm's", flow: tunnelled("192.0.2.12", left), facts: overlayFacts(func(f *Facts) {
				f.Subnets[0].Peers = []netip.Addr{ip("10.88.0.11"), ip("10.88.0.12")}
			}),
			outcome: path.Lost, cause: path.CauseOverlayPeerUnreachable,
			summary: "lost: the request from cli was encapsulated in VXLAN 4097 and sent to tunnel endpoint 192.0.2.12 through eth0 of " +
				"host, and nothing came back within 1 s",
		},
	})
}

func TestOverlayMisrouted(t *testing.T) {
	dead := func(f *Facts) { f.Namespaces[nsOverlay].FDB[0].VTEP = ip("10.99.0.77") }
	both := func(change func(*Facts)) func() *Facts {
		return overlayFacts(func(f *Facts) {
			twoEngines(f)
			if change != nil {
				change(f)
			}
		})
	}
	const misrouted = path.CauseOverlayMisrouted
	const gone = "dropped: the request from cli got no further than vxlan0 in overlay ov: it knows no tunnel endpoint for "
	noVNI := "dropped: the request from cli reached peer in VXLAN 4097, which none of the VXLAN devices there has"
	runCases(t, []verdictCase{
		{
			name: "none of the network's hosts", flow: tunnelled("10.99.0.77", left), facts: overlayFacts(dead),
			outcome: path.Lost, cause: misrouted,
			summary: "lost: the request from cli was sent to the wrong tunnel endpoint, 10.99.0.77: only 10.99.0.11, 10.99.0.12 take " +
				"part in overlay ov",
			evidence: "vxlan0 in overlay ov sends what is for 02:42:0a:00:01:04, the MAC address of 10.0.1.4, to 10.99.0.77",
			remedy:   "nsenter --net=/run/docker/netns/1-abcdefghij bridge fdb show dev vxlan0",
		},
		{
			name: "another of the network's hosts", flow: tunnelled("10.99.0.13", left),
			facts:   both(func(f *Facts) { f.Subnets[0].Peers = append(f.Subnets[0].Peers, ip("10.99.0.13")) }),
			outcome: path.Lost, cause: misrouted,
			summary: "lost: the request from cli was sent to the wrong tunnel endpoint, 10.99.0.13: web runs on the host with 10.99.0.12",
			remedy:  "bridge fdb replace 02:42:0a:00:01:04 dev vxlan0 dst 10.99.0.12 self permanent",
		},
		{
			name: "no entry", flow: noEntry("NO_TX_TARGET"), facts: overlayFacts(func(f *Facts) { f.Namespaces[nsOverlay].FDB = []FDBEntry{} }),
			outcome: path.Dropped, cause: misrouted, where: "overlay ov vxlan0 vxlan request",
			summary:  gone + "02:42:0a:00:01:04, the MAC address of 10.0.1.4",
			evidence: "the forwarding entries in overlay ov have nothing", remedy: "permit TCP and UDP port 7946",
		},
		{
			name: "no entry, no reasons, and nothing read", flow: noEntry(""), facts: overlayFacts(func(f *Facts) { f.VXLANs = nil }),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from cli was dropped in overlay ov on vxlan0 by vxlan_xmit",
		},
		{
			name: "no entry, no reasons", flow: noEntry(""), facts: overlayFacts(func(f *Facts) { f.Namespaces[nsOverlay].FDB = []FDBEntry{} }),
			outcome: path.Dropped, cause: misrouted, summary: gone + "02:42:0a:00:01:04, the MAC address of 10.0.1.4",
		},
		{
			name: "another number at the peer", flow: tunnelled(vtepTwo, atPeer("VXLAN_VNI_NOT_FOUND", "vxlan_rcv")),
			facts:   both(func(f *Facts) { f.VXLANs[1].VNI = 5000 }),
			outcome: path.Dropped, cause: misrouted, where: "peer eth0 vxlan request", summary: noVNI,
			evidence: "the VXLAN devices of peer have VNI 5000 (vxlan0 in overlay ov on peer)",
			remedy:   "nsenter --net=/run/docker/netns/1-peer ip -d link show vxlan0",
		},
		{
			name: "another number at the peer, no reasons", flow: tunnelled(vtepTwo, atPeer("", "vxlan_rcv")),
			facts: both(func(f *Facts) { f.VXLANs[1].VNI = 5000 }), outcome: path.Dropped, cause: misrouted, summary: noVNI,
		},
		{
			name: "the number is there, no reasons", flow: tunnelled(vtepTwo, atPeer("", "vxlan_rcv")), facts: both(nil),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from cli was dropped in peer on eth0 by vxlan_rcv",
		},
		{
			name: "another port at the peer", flow: tunnelled(vtepTwo, atPeer("NO_SOCKET", "__udp4_lib_rcv")),
			facts: both(func(f *Facts) { f.VXLANs[1].Port = 7789 }), outcome: path.Dropped, cause: misrouted,
			summary:  "dropped: the request from cli reached peer in VXLAN 4097, and no VXLAN device takes packets on UDP port 4789 there",
			evidence: "vxlan0 in overlay ov on peer takes packets on UDP port 7789", remedy: "docker restart web",
		},
	})
}

// noEntry is a request that the VXLAN device had no tunnel endpoint for.
func noEntry(reason string) func() *testFlow {
	return func() *testFlow {
		f := intoTunnel()
		p := f.p.Packets[0]
		p.Hops = append(p.Hops, f.hop(nsOverlay, path.StageVXLAN, path.ActionDrop, "vxlan0", ends(o1Addr, o2Addr), index(11),
			named("overlay ov"), why(reason, "vxlan_xmit")))
		return f
	}
}

// TestOverlayProxy: the VXLAN device answers ARP for the containers of other hosts, if it knows them.
func TestOverlayProxy(t *testing.T) {
	asks := func() *testFlow {
		f := newFlow(path.TCP)
		f.p.NAT = nil
		f.p.Client, f.p.Source, f.p.Server, f.p.Target = ap(o1Addr), ap(o1Addr), ap(o2Addr), ap(o2Addr)
		e := ends(o1Addr, o2Addr)
		f.add(path.Request, "S", f.hop(nsCli, path.StagePostrouting, path.ActionEnter, "eth0", e, index(14), through("", "eth0")),
			f.hop(nsCli, path.StagePostrouting, path.ActionLeave, "eth0", e, index(14), through("", "eth0")))
		return f
	}
	forgot := func(change func(*Facts)) func() *Facts {
		return overlayFacts(func(f *Facts) {
			f.Namespaces[nsCli].Neighbours = []Neighbour{{Ifindex: 14, Addr: ip("10.0.1.4"), State: "INCOMPLETE"}}
			f.Namespaces[nsOverlay].Neighbours = []Neighbour{{Ifindex: 11, Addr: ip("10.0.1.5"), State: "PERMANENT", MAC: "02:42:0a:00:01:05"}}
			if change != nil {
				change(f)
			}
		})
	}
	const summary = "lost: the request from cli got no further than container cli: vxlan0 in overlay ov, which answers ARP for the " +
		"containers of other hosts, has no entry for 10.0.1.4"
	const nobody = "lost: the request from cli got no further than container cli: nobody answered ARP for 10.0.1.4 on eth0"
	runCases(t, []verdictCase{
		{name: "a name", flow: asks, facts: forgot(nil), outcome: path.Lost, cause: path.CauseOverlayMisrouted, summary: summary,
			where: "cli eth0 neighbour request", evidence: "vxlan0 in overlay ov answers for 10.0.1.5",
			remedy: "nsenter --net=/run/docker/netns/1-abcdefghij ip neigh show dev vxlan0"},
		{name: "its device is known", flow: asks, facts: forgot(func(f *Facts) {
			f.Target.Label = "10.0.1.4"
			f.Owners = []Owner{{Addr: ip("10.0.1.4"), NetNS: nsWeb, MAC: o2MAC, PeerNetNS: nsPeerOverlay}}
		}), outcome: path.Lost, cause: path.CauseOverlayMisrouted, summary: summary,
			remedy: "ip neigh replace 10.0.1.4 lladdr 02:42:0a:00:01:04 dev vxlan0 nud permanent"},
		{name: "the hosts have lost contact", flow: asks, facts: forgot(func(f *Facts) {
			twoEngines(f)
			f.Subnets[0].Peers = f.Subnets[0].Peers[:1]
		}), outcome: path.Lost, cause: path.CauseOverlayPeerUnreachable,
			summary: summary + ", since its host has no contact with that of web, 10.99.0.12",
			remedy:  "ping -c 3 10.99.0.12", evidence: "hosts that take part in overlay ov, as this host was told: 10.99.0.11"},
		{name: "an address that nobody is known to have", flow: asks, facts: forgot(func(f *Facts) { f.Target.Label = "10.0.1.4" }),
			outcome: path.Lost, cause: path.CauseNeighbourUnresolved, summary: nobody},
		{name: "a container of the same host", flow: asks, facts: forgot(func(f *Facts) {
			f.Owners = []Owner{{Addr: ip("10.0.1.4"), NetNS: nsWeb, MAC: o2MAC, PeerNetNS: nsOverlay}}
		}), outcome: path.Lost, cause: path.CauseNeighbourUnresolved, summary: nobody},
		{name: "a device that does not answer", flow: asks, facts: forgot(func(f *Facts) { f.VXLANs[0].Proxy = false }),
			outcome: path.Lost, cause: path.CauseNeighbourUnresolved, summary: nobody},
		{name: "the entry is there", flow: asks, facts: forgot(func(f *Facts) {
			f.Namespaces[nsOverlay].Neighbours[0].Addr = ip("10.0.1.4")
		}), outcome: path.Lost, cause: path.CauseNeighbourUnresolved, summary: nobody},
	})
}

// TestEncryption: a policy without a state, as on a kernel without ESP.
func TestEncryption(t *testing.T) {
	refused := tunnelledDrop("nf_hook_slow")
	policy := IPsecPolicy{Src: netip.MustParsePrefix("10.99.0.11/32"), Dst: netip.MustParsePrefix(vtepTwo + "/32"), Port: 4789,
		Mark: 0xd0c4e3, TunnelDst: ip(vtepTwo), SPI: 0x9b0b9128}
	with := func(encrypted bool, states ...IPsecState) func() *Facts {
		return overlayFacts(func(f *Facts) {
			f.Subnets[0].Encrypted = encrypted
			f.Namespaces[nsHost].IPsec = &IPsec{Policies: []IPsecPolicy{policy}, States: states}
		})
	}
	const unexplained = "dropped: the request from cli was dropped in the OUTPUT hook (netfilter) of host by nf_hook_slow (NETFILTER_DROP)"
	const summary = "dropped: the request from cli was dropped in host: its VXLAN packet to 10.99.0.12 has to be encrypted, and IPsec " +
		"has no state (keys) for that"
	runCases(t, []verdictCase{
		{name: "no state", flow: refused, facts: with(true), outcome: path.Dropped, cause: path.CauseEncryptionFailed, summary: summary,
			where: "host eth0 xfrm request", remedy: "modprobe -a esp4",
			evidence: "an IPsec policy in host demands state 0x9b0b9128 for UDP port 4789 to 10.99.0.12, marked 0xd0c4e3"},
		{name: "another state", flow: refused, facts: with(true, IPsecState{Dst: ip(vtepTwo), SPI: 7}), outcome: path.Dropped,
			cause: path.CauseEncryptionFailed, summary: summary},
		{name: "the state is there", flow: refused, facts: with(true, IPsecState{Dst: ip(vtepTwo), SPI: policy.SPI}), outcome: path.Dropped,
			cause: path.CauseUnexplainedDrop, summary: unexplained},
		{name: "the network is not encrypted", flow: refused, facts: with(false), outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: unexplained},
		{name: "not read", flow: refused, facts: overlayFacts(nil), outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: unexplained},
	})
}

// tunnelledDrop is a request whose VXLAN packet was dropped in OUTPUT.
func tunnelledDrop(function string) func() *testFlow {
	return func() *testFlow {
		f := intoTunnel()
		p := f.p.Packets[0]
		e, o := ends(o1Addr, o2Addr), outer(vtepTwo+":4789")
		p.Hops = append(p.Hops, f.hop(nsHost, path.StageOutput, path.ActionEnter, "eth0", e, o, through("", "eth0")),
			f.hop(nsHost, path.StageOutput, path.ActionDrop, "eth0", e, o, why("NETFILTER_DROP", function)))
		return f
	}
}

// TestTunnelNeeds: what decides about a tunnel is asked for, and only then.
func TestTunnelNeeds(t *testing.T) {
	w := Needs(&tunnelled(vtepTwo, left)().p)
	if !w.Tunnels || !slices.Contains(w.IPsec, nsHost) || !containsAddr(w.Owners, vtepTwo) {
		t.Errorf("in a tunnel: got %+v", w.LinkWant)
	}
	if w := Needs(&asking().p); w.Tunnels || len(w.IPsec) > 0 {
		t.Errorf("outside of a tunnel: got %+v", w.LinkWant)
	}
}

func containsAddr(list []netip.Addr, s string) bool {
	for _, addr := range list {
		if addr == ip(s) {
			return true
		}
	}
	return false
}
