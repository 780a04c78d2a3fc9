package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestNeighbour(t *testing.T) {
	failed := func(reason string) *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", append(f.forwarded(),
			f.hop(nsHost, path.StageNeighbour, path.ActionDrop, "br-app", ends(sender, inner),
				why(reason, "neigh_invalidate")))...)
		f.addError(path.Reply, f.hop(nsHost, path.StageOutput, path.ActionEnter, "", icmp(3, 1)))
		return f
	}
	waiting := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.forwarded()...)
		return f
	}
	entry := func(state string) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Namespaces[nsHost].Neighbours = []Neighbour{{Addr: ip("172.18.0.2"), State: state}}
			return f
		}
	}
	tunnel := func() *testFlow {
		f := newFlow(path.TCP).direct()
		f.add(path.Request, "S", f.hop(nsHost, path.StageNeighbour, path.ActionDrop, "eth0",
			ends(sender, inner), outer("10.99.0.77:4789"), why("NEIGH_FAILED", "neigh_invalidate")))
		return f
	}
	const got = "the request from 10.99.0.1 got no further than host: nobody answered ARP for "
	runCases(t, []verdictCase{
		{
			name: "failed", flow: func() *testFlow { return failed("NEIGH_FAILED") },
			outcome: path.Dropped, cause: path.CauseNeighbourUnresolved,
			summary: "dropped: " + got + "172.18.0.2 on br-app",
			where:   "host br-app neighbour request", remedy: "arping -c 3 -I br-app 172.18.0.2",
		},
		{
			name: "without a reason, as for IPv6", flow: func() *testFlow { return failed("NOT_SPECIFIED") },
			outcome: path.Dropped, cause: path.CauseNeighbourUnresolved,
			summary: "dropped: " + got + "172.18.0.2 on br-app",
			where:   "host br-app neighbour request",
		},
		{
			name: "table overflow is another fault", flow: func() *testFlow { return failed("NEIGH_CREATEFAIL") },
			outcome: path.Refused, cause: path.CauseUnexplainedDrop,
			summary: "refused: an unknown router sent an ICMP error (host unreachable) back to 10.99.0.1",
		},
		{
			name: "waiting", flow: waiting, facts: entry("INCOMPLETE"),
			outcome: path.Lost, cause: path.CauseNeighbourUnresolved,
			summary:  "lost: " + got + "172.18.0.2 on br-app",
			evidence: "the neighbour entry of 172.18.0.2 in host is INCOMPLETE",
		},
		{
			name: "given up, its drop not seen yet", flow: func() *testFlow {
				f := waiting()
				f.addError(path.Reply, f.hop(nsHost, path.StageOutput, path.ActionEnter, "", icmp(3, 1)))
				return f
			}, facts: entry("FAILED"), outcome: path.Dropped, cause: path.CauseNeighbourUnresolved,
			summary: "dropped: " + got + "172.18.0.2 on br-app",
		},
		{
			name: "resolved", flow: waiting, facts: entry("REACHABLE"),
			outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from 10.99.0.1 was last seen passing the POSTROUTING hook (netfilter) of " +
				"host, and nothing came back while it was watched",
		},
		{
			name: "tunnel endpoint", flow: tunnel, outcome: path.Dropped, cause: path.CauseNeighbourUnresolved,
			summary:  "dropped: " + got + "10.99.0.77 on eth0",
			evidence: "it was on its way to the tunnel endpoint 10.99.0.77:4789",
		},
		{
			name: "through a gateway",
			flow: func() *testFlow {
				f := waiting()
				p := f.p.Packets[0]
				look := f.hop(nsHost, path.StageRoute, "", "eth1")
				look.GatewayAddr = ip("192.0.2.1")
				p.Hops = append(p.Hops, look)
				return f
			},
			facts: func() *Facts {
				f := facts()
				f.Namespaces[nsHost].Neighbours = []Neighbour{{Addr: ip("192.0.2.1"), State: "FAILED"}}
				return f
			},
			outcome: path.Lost, cause: path.CauseNeighbourUnresolved, summary: "lost: " + got + "192.0.2.1 on eth1",
		},
	})
}

// bridgeFacts are facts with the host's bridge of three ports: the asker's, the target's, another's.
func bridgeFacts(change func(target, other, bridge *Link)) func() *Facts {
	return func() *Facts {
		f := facts()
		links := []Link{
			{Index: 3, Name: "br-app", Kind: "bridge", Up: true, Carrier: true},
			{Index: 4, Name: "vethC", Kind: "veth", Up: true, Carrier: true, Master: 3, PeerNetNS: nsCli},
			{Index: 5, Name: "vethW", Kind: "veth", Up: true, Carrier: true, Master: 3, PeerNetNS: nsWeb},
			{Index: 6, Name: "vethD", Kind: "veth", Up: true, Carrier: true, Master: 3, PeerNetNS: nsDup},
		}
		change(&links[2], &links[3], &links[0])
		f.Namespaces[nsHost].Links = links
		return f
	}
}

func TestLinkDown(t *testing.T) {
	bridged := func(reason, function string) func() *testFlow {
		return func() *testFlow {
			f := newFlow(path.TCP).direct()
			f.add(path.Request, "S",
				f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0"),
				f.hop(nsHost, path.StageDevice, path.ActionReceive, "vethC", index(4)),
				f.hop(nsHost, path.StageBridge, path.ActionDrop, "vethC", index(4), why(reason, function)))
			return f
		}
	}
	noTarget := bridged("NO_TX_TARGET", "br_handle_frame_finish")
	const dropped = "dropped: the request from 10.99.0.1 was dropped in host "
	runCases(t, []verdictCase{
		{
			name: "target's port", flow: noTarget,
			facts:   bridgeFacts(func(target, _, _ *Link) { target.Up, target.Carrier = false, false }),
			outcome: path.Dropped, cause: path.CauseLinkDown, summary: dropped + "because vethW is down",
			where: "host vethW bridge request", remedy: "ip link set vethW up",
		},
		{
			name: "another port is down, the target's is not", flow: noTarget,
			facts:   bridgeFacts(func(_, other, _ *Link) { other.Up = false }),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: dropped + "on vethC by br_handle_frame_finish (NO_TX_TARGET)",
		},
		{
			name: "links not read", flow: noTarget, outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: dropped + "on vethC by br_handle_frame_finish (NO_TX_TARGET)",
		},
		{
			name: "target's port unknown, every other is down", flow: noTarget,
			facts: bridgeFacts(func(target, other, _ *Link) {
				target.PeerNetNS, target.Carrier, other.Master = 0, false, 0
			}),
			outcome: path.Dropped, cause: path.CauseLinkDown,
			summary: dropped + "because vethW has no carrier, its other end is down",
			remedy:  "bring up the other end of vethW",
		},
		{
			name: "bridge", flow: bridged("BRIDGE_INGRESS_STP_STATE", "br_handle_frame"),
			facts:   bridgeFacts(func(_, _, bridge *Link) { bridge.Up = false }),
			outcome: path.Dropped, cause: path.CauseLinkDown, summary: dropped + "because br-app is down",
			remedy: "ip link set br-app up",
		},
		{
			name: "spanning tree", flow: bridged("BRIDGE_INGRESS_STP_STATE", "br_handle_frame"),
			facts:   bridgeFacts(func(_, _, _ *Link) {}),
			outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: dropped + "on vethC by br_handle_frame (BRIDGE_INGRESS_STP_STATE)",
		},
		{
			name: "queueing discipline of a device that is up",
			flow: bridged("QDISC_DROP", "__dev_queue_xmit"), facts: bridgeFacts(func(_, _, _ *Link) {}),
			outcome: path.Dropped, cause: path.CauseQueueOverlimit,
			summary: "dropped: the request from 10.99.0.1 was dropped in host: the queue of vethC had no room for it",
		},
	})
}

func TestOwnerUnplugged(t *testing.T) {
	waiting := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.forwarded()...)
		return f
	}
	with := func(links ...Link) func() *Facts {
		return func() *Facts {
			f := facts()
			f.Namespaces[nsHost].Neighbours = []Neighbour{{Addr: ip("172.18.0.2"), State: "INCOMPLETE"}}
			f.Namespaces[nsHost].Links = []Link{{Index: 5, Name: "vethW", Kind: "veth", PeerNetNS: nsWeb, PeerIndex: 4}}
			f.Namespaces[nsWeb].Links = append([]Link{{Index: 1, Name: "lo", Kind: "loopback", Up: true, Carrier: true}}, links...)
			return f
		}
	}
	const got = "lost: the request from 10.99.0.1 got no further than host"
	runCases(t, []verdictCase{
		{
			name: "other end down", flow: waiting,
			facts:   with(Link{Index: 4, Name: "eth0", Kind: "veth", Up: true, PeerNetNS: nsHost, PeerIndex: 5}),
			outcome: path.Lost, cause: path.CauseLinkDown,
			summary: got + ", because vethW in host, by which web is reached, is down",
			where:   "host vethW device request", remedy: "ip link set vethW up",
		},
		{
			name: "own end down", flow: waiting, facts: with(Link{Index: 4, Name: "eth0", Kind: "veth"}),
			outcome: path.Lost, cause: path.CauseLinkDown,
			summary: got + ", because eth0 in container web, by which web is reached, is down",
		},
		{
			name: "another device is up", flow: waiting,
			facts:   with(Link{Index: 4, Name: "eth0", Kind: "veth"}, Link{Index: 6, Name: "eth1", Kind: "veth", Up: true, Carrier: true}),
			outcome: path.Lost, cause: path.CauseNeighbourUnresolved,
			summary: got + ": nobody answered ARP for 172.18.0.2 on br-app",
		},
	})
}
