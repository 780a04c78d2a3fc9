package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// segment are facts of two containers on one bridge of the host: cli has 172.18.0.3, web 172.18.0.2.
type segment struct {
	f                  *Facts
	bridge, vcli, vweb *Link // in the host
	cli, web           *Link // in the containers
}

// newSegment returns facts in which nothing is wrong; cli has the neighbour entry of web.
func newSegment() *segment {
	f := facts().between(Network{Name: "app", Addrs: []netip.Addr{ip("172.18.0.3")}})
	port := func() *Port { return &Port{State: "forwarding", Flood: true, BroadcastFlood: true} }
	addr := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	f.Namespaces[nsHost].Links = []Link{
		{Index: 3, Name: "br-app", Kind: "bridge", Up: true, Carrier: true, Addrs: addr("172.18.0.1/16"), MAC: "02:00:00:00:00:01"},
		{Index: 4, Name: "vethC", Kind: "veth", Up: true, Carrier: true, Master: 3, PeerNetNS: nsCli, PeerIndex: 2, Port: port()},
		{Index: 5, Name: "vethW", Kind: "veth", Up: true, Carrier: true, Master: 3, PeerNetNS: nsWeb, PeerIndex: 2, Port: port()},
	}
	f.Namespaces[nsCli].Links = []Link{{Index: 2, Name: "eth0", Kind: "veth", Up: true, Carrier: true, PeerNetNS: nsHost,
		PeerIndex: 4, Addrs: addr("172.18.0.3/16"), MAC: "02:00:00:00:00:03"}}
	f.Namespaces[nsWeb].Links = []Link{{Index: 2, Name: "eth0", Kind: "veth", Up: true, Carrier: true, PeerNetNS: nsHost,
		PeerIndex: 5, Addrs: addr("172.18.0.2/16"), MAC: "02:00:00:00:00:02"}}
	f.Namespaces[nsCli].Neighbours = []Neighbour{{Addr: ip("172.18.0.2"), State: "INCOMPLETE"}}
	h := f.Namespaces[nsHost].Links
	return &segment{f: f, bridge: &h[0], vcli: &h[1], vweb: &h[2], cli: &f.Namespaces[nsCli].Links[0],
		web: &f.Namespaces[nsWeb].Links[0]}
}

// but returns a function that makes the facts with a change.
func but(change func(*segment)) func() *Facts {
	return func() *Facts {
		s := newSegment()
		if change != nil {
			change(s)
		}
		return s.f
	}
}

const peer = "172.18.0.3:40000"

// asking is a request from cli to web that waits for web's MAC address.
func asking() *testFlow {
	f := newFlow(path.TCP).direct()
	f.p.Client, f.p.Source = ap(peer), ap(peer)
	f.add(path.Request, "S", f.asked()...)
	return f
}

func (f *testFlow) asked() []path.Hop {
	e := ends(peer, inner)
	return []path.Hop{
		f.hop(nsCli, path.StageOutput, path.ActionEnter, "", e, through("", "eth0")),
		f.hop(nsCli, path.StagePostrouting, path.ActionEnter, "eth0", e, through("", "eth0")),
		f.hop(nsCli, path.StagePostrouting, path.ActionLeave, "eth0", e, through("", "eth0")),
	}
}

// bridged is a request from cli that came to the host's bridge and was dropped there.
func bridged(reason, function string) func() *testFlow {
	return func() *testFlow {
		f := asking()
		p := f.p.Packets[0]
		e := ends(peer, inner)
		p.Hops = append(p.Hops,
			f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e, index(2)),
			f.hop(nsHost, path.StageDevice, path.ActionReceive, "vethC", e, index(4), bridgePort),
			f.hop(nsHost, path.StageBridge, path.ActionDrop, "vethC", e, index(4), bridgePort, why(reason, function)))
		return f
	}
}

func TestSegment(t *testing.T) {
	const got = "lost: the request from cli got no further than container cli, because "
	const dropped = "dropped: the request from cli got no further than host, because "
	noTarget := bridged("NO_TX_TARGET", "br_handle_frame_finish")
	runCases(t, []verdictCase{
		{name: "nothing wrong", flow: asking, facts: but(nil), outcome: path.Lost, cause: path.CauseNeighbourUnresolved,
			summary: "lost: the request from cli got no further than container cli: nobody answered ARP for 172.18.0.2 on eth0"},
		{name: "target's port is no port", flow: asking, facts: but(func(s *segment) { s.vweb.Master, s.vweb.Port = 0, nil }),
			outcome: path.Lost, cause: path.CauseNotBridged, where: "host vethW device request",
			summary: got + "vethW in host, which leads to container web, is not a port of bridge br-app",
			remedy:  "ip link set vethW master br-app"},
		{name: "asker's port is no port", flow: asking, facts: but(func(s *segment) { s.vcli.Master, s.vcli.Port = 0, nil }),
			outcome: path.Lost, cause: path.CauseNotBridged, where: "host vethC device request",
			summary: got + "vethC in host, which leads to container cli, is not a port of bridge br-app"},
		{name: "two bridges", flow: asking, facts: but(func(s *segment) { s.vweb.Master = 9 }), outcome: path.Lost,
			cause:   path.CauseNotBridged,
			summary: got + "vethW in host, which leads to container web, is not a port of bridge br-app"},
		{name: "bridge down", flow: asking, facts: but(func(s *segment) { s.bridge.Up = false }), outcome: path.Lost,
			cause: path.CauseLinkDown, summary: got + "br-app in host is down", remedy: "ip link set br-app up"},
		{name: "target's port down", flow: asking, facts: but(func(s *segment) { s.vweb.Up, s.web.Carrier = false, false }),
			outcome: path.Lost, cause: path.CauseLinkDown, summary: got + "vethW in host is down"},
		{name: "target's device down", flow: asking, facts: but(func(s *segment) { s.web.Up, s.vweb.Carrier = false, false }),
			outcome: path.Lost, cause: path.CauseLinkDown, summary: got + "eth0 in container web is down",
			remedy: "nsenter --net=/run/docker/netns/abc ip link set eth0 up"},
		{name: "listening", flow: asking, facts: but(func(s *segment) { s.vweb.Port.State = "listening" }), outcome: path.Lost,
			cause:   path.CauseBridgePortBlocked,
			summary: got + "port vethW of bridge br-app in host does not forward, its spanning tree state is listening"},
		{name: "isolated", flow: noTarget, facts: but(func(s *segment) { s.vweb.Port.Isolated, s.vcli.Port.Isolated = true, true }),
			outcome: path.Dropped, cause: path.CauseBridgePortBlocked, where: "host vethW bridge request",
			summary: dropped + "bridge ports vethC and vethW in host are both isolated",
			remedy:  "bridge link set dev vethW isolated off"},
		{name: "only one isolated", flow: noTarget, facts: but(func(s *segment) { s.vweb.Port.Isolated = true }),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the request from cli was dropped in host on vethC by br_handle_frame_finish (NO_TX_TARGET)"},
		{name: "older kernel", flow: bridged("", "br_handle_frame_finish"),
			facts:   but(func(s *segment) { s.vweb.Port.Isolated, s.vcli.Port.Isolated = true, true }),
			outcome: path.Dropped, cause: path.CauseBridgePortBlocked,
			summary: dropped + "bridge ports vethC and vethW in host are both isolated"},
		{name: "locked", flow: noTarget, facts: but(func(s *segment) { s.vcli.Port.Locked = true }), outcome: path.Dropped,
			cause:   path.CauseBridgePortBlocked,
			summary: dropped + "bridge port vethC in host is locked: it takes frames of entered senders only"},
		{name: "no broadcasts", flow: asking, facts: but(func(s *segment) { s.vweb.Port.BroadcastFlood = false }), outcome: path.Lost,
			cause:   path.CauseBridgePortBlocked,
			summary: got + "bridge port vethW in host gets no broadcasts, ARP questions among them",
			remedy:  "bridge link set dev vethW bcast_flood on"},
		{name: "no unknown addresses", flow: noTarget, facts: but(func(s *segment) { s.vweb.Port.Flood = false }), outcome: path.Dropped,
			cause:   path.CauseBridgePortBlocked,
			summary: dropped + "bridge port vethW in host gets no frames for MAC addresses that the bridge has not learned"},
		{name: "asker blocked", flow: bridged("BRIDGE_INGRESS_STP_STATE", "br_handle_frame"),
			facts:   but(func(s *segment) { s.vcli.Port.State = "blocking" }),
			outcome: path.Dropped, cause: path.CauseBridgePortBlocked, where: "host vethC bridge request",
			summary: dropped + "port vethC of bridge br-app in host does not forward, its spanning tree state is blocking"},
	})
}

// TestSegmentOfTwoBridges: nothing says that devices on two bridges should be on one.
func TestSegmentOfTwoBridges(t *testing.T) {
	s := newSegment()
	n := s.f.Namespaces[nsHost]
	s.vweb.Master = 6
	n.Links = append(n.Links, Link{Index: 6, Name: "br-two", Kind: "bridge", Up: true, Carrier: true})
	v := Explain(&asking().p, s.f)
	if v.Cause != path.CauseNeighbourUnresolved {
		t.Errorf("got %s: %s", v.Cause, v.Summary)
	}
}

// TestFloodedCopy: a frame for a MAC address that no port leads to comes to containers that it is not
// meant for; it got no further than the bridge.
func TestFloodedCopy(t *testing.T) {
	f := asking()
	p, e := f.p.Packets[0], ends(peer, inner)
	p.Hops = append(p.Hops,
		f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e, index(2)),
		f.hop(nsHost, path.StageDevice, path.ActionReceive, "vethC", e, index(4), bridgePort),
		f.hop(nsHost, path.StageDevice, path.ActionTransmit, "vethD", e, index(9), bridgePort),
		f.hop(nsDup, path.StageDevice, path.ActionReceive, "eth0", e, index(2)),
		f.hop(nsDup, path.StageDevice, path.ActionDrop, "eth0", e, why("OTHERHOST", "ip_rcv_core"), asNoise))
	s := newSegment()
	s.vweb.Up = false
	s.f.Namespaces[nsCli].Neighbours[0] = Neighbour{Addr: ip("172.18.0.2"), State: "REACHABLE", MAC: s.web.MAC}
	v := Explain(&f.p, s.f)
	const want = "lost: the request from cli got no further than host, because vethW in host is down"
	if v.Cause != path.CauseLinkDown || v.Summary != want {
		t.Errorf("got %s: %s", v.Cause, v.Summary)
	}
}
