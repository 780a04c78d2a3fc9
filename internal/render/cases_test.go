package render

import (
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// flowCase is a hand-written flow with its verdict.
type flowCase struct {
	name string
	make func() (*path.Path, path.Verdict)
}

// flowCases are the flows of the golden files.
func flowCases() []flowCase {
	return []flowCase{
		{"same-bridge", sameBridge},
		{"dnat-masquerade", dnatMasquerade},
		{"ipv6", ipv6},
		{"udp-answered", udpAnswered},
		{"udp-silence", udpSilence},
		{"icmp-echo", icmpEcho},
		{"drop-forward", dropForward},
		{"reject", reject},
		{"refused-rst", refusedRST},
		{"neighbour", neighbour},
		{"reply-dropped", replyDropped},
		{"retransmissions", retransmissions},
		{"second-attempt", secondAttempt},
		{"vxlan", vxlan},
		{"no-route", noRoute},
		{"no-way-back", noWayBack},
		{"too-big", tooBig},
		{"long-names", longNames},
		{"midstream-drops", midstreamDrops},
		{"not-sent", notSent},
	}
}

// established marks the sockets of a TCP flow as connected at µs.
func (b *builder) established(client, server int64) {
	b.p.ClientEstablished = startNS + uint64(client)*1000
	b.p.ServerEstablished = startNS + uint64(server)*1000
}

// verdict makes a verdict for the flow.
func (b *builder) verdict(o path.Outcome, c path.Cause, summary string) path.Verdict {
	return path.Verdict{
		Type: "verdict", Flow: 1, Outcome: o, Cause: c, Summary: summary, Complete: true,
		Proto: b.p.Proto, Src: endpoint(b.p.Client), Dst: endpoint(b.p.Server), NAT: b.p.NAT,
	}
}

const (
	cliAddr = "172.18.0.3:40312"
	webAddr = "172.18.0.2:80"
	pubAddr = "10.99.0.11:8080"
)

// handshake adds a bridged handshake from cli to web, the confirming ACK and both FINs.
func (b *builder) handshake() {
	b.packet(path.Request, "S", cliAddr, webAddr).names("cli", "web").sendFrom(0, cliSpot).
		bridged(4, "veth3f1a", "veth77c0").receiveAt(10, webSpot, path.StageTCP)
	b.packet(path.Reply, "SA", webAddr, cliAddr).names("web", "cli").sendFrom(20, webSpot).
		bridged(24, "veth77c0", "veth3f1a").receiveAt(30, cliSpot, path.StageTCP)
	b.established(34, 52)
	b.packet(path.Request, "A", cliAddr, webAddr).names("cli", "web").sendFrom(38, cliSpot).
		bridged(42, "veth3f1a", "veth77c0").receiveAt(48, webSpot, path.StageTCP)
	b.packet(path.Request, "FA", cliAddr, webAddr).names("cli", "web").sendFrom(1210, cliSpot).
		bridged(1214, "veth3f1a", "veth77c0").receiveAt(1220, webSpot, path.StageTCP)
	b.packet(path.Reply, "FA", webAddr, cliAddr).names("web", "cli").sendFrom(1240, webSpot).
		bridged(1244, "veth77c0", "veth3f1a").receiveAt(1250, cliSpot, path.StageTCP)
	b.packet(path.Request, "A", cliAddr, webAddr).names("cli", "web").sendFrom(1260, cliSpot)
}

func sameBridge() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, cliAddr, webAddr)
	b.handshake()
	v := b.verdict(path.Delivered, "", "delivered: web answered 172.18.0.3:40312 in 34 µs (request 14 µs, reply 14 µs).")
	v.SrcName, v.DstName = "cli", "web"
	v.LatencyNS = &path.Latency{Request: 14000, Reply: 14000, RoundTrip: 34000}
	return b.p, v
}

func dnatMasquerade() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, cliAddr, pubAddr)
	b.p.Source, b.p.Target = addr("172.18.0.1:40312"), addr(webAddr)
	b.packet(path.Request, "S", cliAddr, pubAddr).names("cli", "host").sendFrom(0, cliSpot).in(hostSpot).
		rx(9, "veth3f1a", "veth", "br-app").rx(10, "br-app", "bridge", "").
		dnat(14, path.StagePrerouting, webAddr).names("cli", "web").nf(16, path.StageForward).
		snat(17, path.StagePostrouting, path.ActionMasquerade, "172.18.0.1:40312").
		tx(19, "br-app", "bridge", "").tx(24, "veth77c0", "veth", "br-app").
		receiveAt(27, webSpot, path.StageTCP)
	b.packet(path.Reply, "SYN|ACK", webAddr, "172.18.0.1:40312").names("web", "host").sendFrom(40, webSpot).in(hostSpot).
		rx(44, "veth77c0", "veth", "br-app").rx(45, "br-app", "bridge", "").
		snat(46, path.StagePrerouting, path.ActionDNAT, pubAddr).dnat(47, path.StagePrerouting, cliAddr).
		names("web", "cli").nf(48, path.StageForward, path.StagePostrouting).
		tx(50, "br-app", "bridge", "").tx(51, "veth3f1a", "veth", "br-app").
		receiveAt(55, cliSpot, path.StageTCP)
	b.established(60, 75)
	v := b.verdict(path.Delivered, "", "web answered 172.18.0.3:40312.")
	v.SrcName, v.DstName = "cli", "web"
	v.LatencyNS = &path.Latency{Request: 31000, Reply: 20000, RoundTrip: 60000}
	v.Warnings = []path.Warning{{Cause: "docker-rules-missing", Summary: "the chain DOCKER-USER is gone, so rules that were in it no longer protect published ports of this host"}}
	return b.p, v
}

func ipv6() (*path.Path, path.Verdict) {
	const client, server = "[fd00:1234:5678:9abc:def0:1234:5678:9abc]:40312", "[2001:db8:1234:5678:9abc:def0:1234:5678]:8080"
	const inner, masq = "[fd00:18:1234:5678:9abc:def0:1234:5678]:80", "[fd00:18:1234:5678:9abc:def0:1234:1]:40312"
	b := newBuilder(path.TCP, client, server)
	b.p.Target = addr(inner)
	b.packet(path.Request, "S", client, server).in(hostSpot).rx(0, "eth0", "physical", "").
		dnat(3, path.StagePrerouting, inner).names("", "web").nf(4, path.StageForward).
		snat(5, path.StagePostrouting, path.ActionMasquerade, masq).
		tx(6, "br-app", "bridge", "").tx(7, "veth77c0", "veth", "br-app").receiveAt(10, webSpot, path.StageTCP)
	b.packet(path.Reply, "SA", inner, masq).names("web", "").sendFrom(20, webSpot).in(hostSpot).
		rx(24, "veth77c0", "veth", "br-app").rx(25, "br-app", "bridge", "").
		snat(26, path.StagePrerouting, path.ActionDNAT, server).dnat(27, path.StagePrerouting, client).
		nf(28, path.StageForward, path.StagePostrouting).tx(30, "eth0", "physical", "")
	b.p.ServerEstablished = startNS + 400_000
	v := b.verdict(path.Delivered, "", "web answered "+client+" in 30 µs.")
	v.DstName = "web"
	v.LatencyNS = &path.Latency{RoundTrip: 30000}
	return b.p, v
}

func udpAnswered() (*path.Path, path.Verdict) {
	b := newBuilder(path.UDP, "172.18.0.3:40000", "172.18.0.2:53")
	b.packet(path.Request, "", "172.18.0.3:40000", "172.18.0.2:53").names("cli", "dns").sendFrom(0, cliSpot).
		bridged(4, "veth3f1a", "veth77c0").receiveAt(10, webSpot, path.StageUDP)
	b.packet(path.Reply, "", "172.18.0.2:53", "172.18.0.3:40000").names("dns", "cli").sendFrom(200, webSpot).
		bridged(204, "veth77c0", "veth3f1a").receiveAt(210, cliSpot, path.StageUDP)
	b.packet(path.Request, "", "172.18.0.3:40000", "172.18.0.2:53").sendFrom(900, cliSpot)
	v := b.verdict(path.Delivered, "", "dns answered the datagram of cli in 214 µs.")
	v.LatencyNS = &path.Latency{Request: 14000, Reply: 14000, RoundTrip: 214000}
	return b.p, v
}

func udpSilence() (*path.Path, path.Verdict) {
	b := newBuilder(path.UDP, "172.18.0.3:40000", "172.18.0.2:53")
	b.packet(path.Request, "", "172.18.0.3:40000", "172.18.0.2:53").names("cli", "dns").sendFrom(0, cliSpot).
		bridged(4, "veth3f1a", "veth77c0").receiveAt(10, webSpot, path.StageUDP)
	v := b.verdict(path.Delivered, "", "the socket of dns took the datagram after 14 µs and answered nothing within 2.00 s; UDP services may do that.")
	v.LatencyNS = &path.Latency{Request: 14000}
	return b.p, v
}

func icmpEcho() (*path.Path, path.Verdict) {
	b := newBuilder(path.ICMP, "172.18.0.3", "172.18.0.2")
	b.packet(path.Request, "", "172.18.0.3", "172.18.0.2").names("cli", "web").sendFrom(0, cliSpot).
		bridged(4, "veth3f1a", "veth77c0").receiveAt(10, webSpot, path.StageICMP)
	b.packet(path.Reply, "", "172.18.0.2", "172.18.0.3").names("web", "cli").sendFrom(16, webSpot).
		bridged(20, "veth77c0", "veth3f1a").receiveAt(26, cliSpot, path.StageICMP)
	v := b.verdict(path.Delivered, "", "web answered the echo request in 30 µs.")
	v.LatencyNS = &path.Latency{Request: 14000, Reply: 14000, RoundTrip: 30000}
	return b.p, v
}

// fromOutside adds a SYN from an outside namespace up to the FORWARD hook of the host.
func (b *builder) fromOutside(us int64, flags string) *packetBuilder {
	return b.packet(path.Request, flags, "10.99.0.1:51000", pubAddr).names("underlay", "host").
		sendFrom(us, outside).in(hostSpot).rx(us+8, "eth0", "veth", "").
		dnat(us+12, path.StagePrerouting, webAddr).names("underlay", "web").
		hop(us+15, "eth0", "veth", "", path.StageForward, path.ActionEnter, nil)
}

func dropForward() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, "10.99.0.1:51000", pubAddr)
	b.p.Target = addr(webAddr)
	b.fromOutside(0, "S").drop(17, "eth0", path.StageForward, "nft_do_chain", "NETFILTER_DROP")
	r := b.fromOutside(1_020_000, "S")
	r.pkt.Retransmission = true
	r.drop(1_020_017, "eth0", path.StageForward, "nft_do_chain", "NETFILTER_DROP")
	v := b.verdict(path.Dropped, path.CauseFirewallDrop,
		"the SYN from underlay to web:80 was dropped by a firewall rule in the FORWARD hook of docker1.")
	v.Where = &path.Where{
		Host: "docker1", Namespace: "host", Device: "eth0", Stage: path.StageForward, Function: "nft_do_chain",
		Reason: "NETFILTER_DROP", Direction: path.Request,
		Rule: &path.Rule{
			Family: "ip", Table: "filter", Chain: "DOCKER-USER", Number: 1, Handle: 60, Owner: "docker-user",
			Text: "tcp dport 80 counter packets 2 bytes 120 drop",
		},
	}
	v.Evidence = []string{
		"the SYN was translated to 172.18.0.2:80 and entered netfilter/forward on eth0 at +15 µs, and never left it",
		"nft_do_chain discarded it with NETFILTER_DROP: a rule said drop, not a policy",
		"the SYN was sent again after 1.02 s and met the same end",
	}
	v.Remedy = []string{
		"iptables -D DOCKER-USER 1",
		"iptables -I DOCKER-USER -p tcp -m conntrack --ctorigdstport 8080 --ctdir ORIGINAL -s 10.99.0.0/24 -j RETURN",
	}
	v.SrcName, v.DstName = "underlay", "web"
	return b.p, v
}

func reject() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, "10.99.0.1:51000", pubAddr)
	b.p.Target = addr(webAddr)
	const icmp = "type 3 code 3 (port unreachable)"
	b.fromOutside(0, "S").hop(17, "eth0", "veth", "", path.StageForward, path.ActionReject,
		func(h *path.Hop) { h.ICMP = icmp }).
		drop(19, "eth0", path.StageForward, "nft_do_chain", "NETFILTER_DROP")
	e := b.packet(path.Reply, "", "10.99.0.11", "10.99.0.1")
	e.pkt.ICMPError = true
	e.in(hostSpot).hop(18, "", "", "", path.StageOutput, path.ActionEnter, func(h *path.Hop) { h.ICMP = icmp }).
		tx(20, "eth0", "veth", "").in(outside).rx(23, "eth0", "veth", "").deliver(25, path.StageICMP)
	v := b.verdict(path.Refused, path.CauseFirewallReject, "a firewall rule in the FORWARD hook of docker1 rejected the SYN from underlay to web:80.")
	v.SrcName, v.DstName = "underlay", "web"
	v.Where = &path.Where{Host: "docker1", Namespace: "host", Stage: path.StageForward, Device: "eth0"}
	return b.p, v
}

func refusedRST() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, cliAddr, "172.18.0.2:81")
	b.packet(path.Request, "S", cliAddr, "172.18.0.2:81").names("cli", "web").sendFrom(0, cliSpot).
		bridged(4, "veth3f1a", "veth77c0").in(webSpot).rx(10, "eth0", "veth", "").
		hop(13, "eth0", "veth", "", path.StageTCP, path.ActionReset, func(h *path.Hop) { h.Reason = "NO_SOCKET" }).
		drop(15, "eth0", path.StageTCP, "tcp_v4_rcv", "NO_SOCKET")
	b.packet(path.Reply, "RA", "172.18.0.2:81", cliAddr).names("web", "cli").sendFrom(14, webSpot).
		bridged(18, "veth77c0", "veth3f1a").receiveAt(24, cliSpot, path.StageTCP)
	v := b.verdict(path.Refused, path.CauseNotListening, "refused: nothing listens on port 81 in web, which answered cli with an RST after 28 µs.")
	v.SrcName, v.DstName = "cli", "web"
	v.Where = &path.Where{Container: "web", Namespace: "web", Stage: path.StageTCP, Function: "tcp_v4_rcv", Reason: "NO_SOCKET"}
	v.Evidence = []string{"the SYN reached eth0 of web at +10 µs", "web listens on 0.0.0.0:80"}
	v.Remedy = []string{"start a service on port 81 in web, or use --to web:80"}
	return b.p, v
}

func neighbour() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, "172.18.0.1:40312", "172.18.0.9:80")
	b.packet(path.Request, "S", "172.18.0.1:40312", "172.18.0.9:80").in(hostSpot).
		hop(0, "br-app", "bridge", "", path.StageRoute, path.ActionSend, nil).
		nf(1, path.StageOutput, path.StagePostrouting).
		drop(3_070_000, "br-app", path.StageNeighbour, "neigh_invalidate", "NEIGH_FAILED")
	v := b.verdict(path.Lost, path.CauseNeighbourUnresolved, "nothing on the network app answers for 172.18.0.9, so the SYN never left host.")
	v.Evidence = []string{"ARP requests for 172.18.0.9 on br-app got no answer in 3.07 s"}
	return b.p, v
}

func replyDropped() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, cliAddr, webAddr)
	syn := func(us int64) *packetBuilder {
		return b.packet(path.Request, "S", cliAddr, webAddr).names("cli", "web").sendFrom(us, cliSpot).
			bridged(us+4, "veth3f1a", "veth77c0").receiveAt(us+10, webSpot, path.StageTCP)
	}
	ack := func(us int64) *packetBuilder {
		return b.packet(path.Reply, "SA", webAddr, cliAddr).names("web", "cli").sendFrom(us, webSpot).
			in(hostSpot).rx(us+4, "veth77c0", "veth", "br-app").
			drop(us+6, "veth77c0", path.StageBridgeForward, "nft_do_chain", "NETFILTER_DROP")
	}
	syn(0)
	ack(20)
	syn(1_020_000).pkt.Retransmission = true
	ack(1_020_020).pkt.Retransmission = true
	ack(1_040_000).pkt.Retransmission = true
	v := b.verdict(path.Dropped, path.CauseFirewallDrop, "the reply of web was dropped in bridge-netfilter/forward on host; the request had arrived.")
	v.SrcName, v.DstName = "cli", "web"
	v.Where = &path.Where{Namespace: "host", Stage: path.StageBridgeForward, Direction: path.Reply}
	v.Complete, v.LostEvents = false, 1234
	return b.p, v
}

func retransmissions() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, cliAddr, "10.99.0.99:80")
	for i, at := range []int64{0, 1_020_000, 3_070_000, 7_160_000, 15_350_000, 31_480_000} {
		p := b.packet(path.Request, "S", cliAddr, "10.99.0.99:80").names("cli", "")
		p.pkt.Retransmission = i > 0
		p.sendFrom(at, cliSpot).in(hostSpot).rx(at+5, "veth3f1a", "veth", "br-app").
			rx(at+6, "br-app", "bridge", "").nf(at+8, path.StagePrerouting, path.StageForward).
			tx(at+12, "eth0", "physical", "")
	}
	v := b.verdict(path.Lost, path.CauseLostInTransit, "the SYN left host by eth0 6 times and nothing came back.")
	v.SrcName = "cli"
	v.Where = &path.Where{Namespace: "host", Device: "eth0", Stage: path.StageDevice}
	return b.p, v
}

func secondAttempt() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, cliAddr, webAddr)
	b.packet(path.Request, "S", cliAddr, webAddr).names("cli", "web").sendFrom(0, cliSpot).in(hostSpot).
		rx(5, "veth3f1a", "veth", "br-app").drop(6, "veth3f1a", path.StageBridge, "br_handle_frame_finish", "NO_TX_TARGET")
	p := b.packet(path.Request, "S", cliAddr, webAddr).names("cli", "web")
	p.pkt.Retransmission = true
	p.sendFrom(1_020_000, cliSpot).bridged(1_020_004, "veth3f1a", "veth77c0").receiveAt(1_020_010, webSpot, path.StageTCP)
	b.packet(path.Reply, "SA", webAddr, cliAddr).names("web", "cli").sendFrom(1_020_030, webSpot).
		bridged(1_020_040, "veth77c0", "veth3f1a").receiveAt(1_020_050, cliSpot, path.StageTCP)
	b.established(1_020_060, 1_020_080)
	v := b.verdict(path.Delivered, "", "web answered cli in 1.02 s, at the second attempt.")
	v.LatencyNS = &path.Latency{RoundTrip: 1_020_060_000}
	return b.p, v
}

func vxlan() (*path.Path, path.Verdict) {
	const o1, o2 = "10.0.1.2:40312", "10.0.1.4:80"
	b := newBuilder(path.TCP, o1, o2)
	in1, ov1, h1 := spot{31, "host1", "o1", "o1"}, spot{32, "host1", "1-x2kq9c0v1n", ""}, spot{33, "host1", "host", ""}
	in2, ov2, h2 := spot{41, "host2", "o2", "o2"}, spot{42, "host2", "1-x2kq9c0v1n", ""}, spot{43, "host2", "host", ""}
	overlay := func(h *path.Hop) { h.Network = "ov" }
	port := func(p *packetBuilder, us int64, dev, kind string, a path.Action) {
		p.hop(us, dev, kind, "br0", path.StageDevice, a, overlay)
	}
	p := b.packet(path.Request, "S", o1, o2).names("o1", "o2")
	out := &path.Outer{Src: "10.99.0.11:49152", Dst: "10.99.0.12:4789", VNI: 4097}
	p.sendFrom(0, in1).in(ov1)
	port(p, 4, "veth0", "veth", path.ActionReceive)
	port(p, 6, "vxlan0", "vxlan", path.ActionTransmit)
	p.outer = out
	p.in(h1).nf(9, path.StageOutput, path.StagePostrouting).tx(12, "eth0", "physical", "").in(h2).
		rx(20, "eth0", "physical", "").nf(22, path.StagePrerouting, path.StageInput)
	p.outer = nil
	p.in(ov2)
	port(p, 26, "vxlan0", "vxlan", path.ActionReceive)
	port(p, 28, "veth1", "veth", path.ActionTransmit)
	p.receiveAt(31, in2, path.StageTCP)
	r := b.packet(path.Reply, "SA", o2, o1).names("o2", "o1")
	back := &path.Outer{Src: "10.99.0.12:49153", Dst: "10.99.0.11:4789", VNI: 4097}
	r.sendFrom(50, in2).in(ov2)
	port(r, 54, "veth1", "veth", path.ActionReceive)
	port(r, 56, "vxlan0", "vxlan", path.ActionTransmit)
	r.hop(57, "vxlan0", "vxlan", "br0", path.StageVXLAN, path.ActionEncapsulate, func(h *path.Hop) { h.Outer = back })
	r.outer = back
	r.in(h2).tx(60, "eth0", "physical", "").in(h1).rx(70, "eth0", "physical", "").
		drop(72, "eth0", path.StageInput, "nft_do_chain", "NETFILTER_DROP")
	v := b.verdict(path.Dropped, path.CauseFirewallDrop, "the reply of o2 was dropped in netfilter/input on host1, still inside VXLAN 4097.")
	v.Where = &path.Where{Host: "host1", Namespace: "host", Stage: path.StageInput, Direction: path.Reply}
	return b.p, v
}

func noRoute() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, cliAddr, "192.0.2.1:80")
	b.packet(path.Request, "S", cliAddr, "192.0.2.1:80").names("cli", "").in(cliSpot).
		hop(0, "", "", "", path.StageRoute, path.ActionSend, func(h *path.Hop) { h.Error = "network unreachable" })
	v := b.verdict(path.Lost, path.CauseNoRoute, "cli has no route to 192.0.2.1.")
	v.Remedy = []string{"nsenter -t 4711 -n ip route add default via 172.18.0.1"}
	return b.p, v
}

func noWayBack() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, "10.99.0.1:51000", webAddr)
	b.packet(path.Request, "S", "10.99.0.1:51000", webAddr).names("", "web").in(hostSpot).rx(0, "eth0", "physical", "").
		nf(2, path.StagePrerouting, path.StageForward).tx(5, "br-app", "bridge", "").tx(6, "veth77c0", "veth", "br-app").
		in(webSpot).rx(9, "eth0", "veth", "").nf(10, path.StagePrerouting, path.StageInput).
		hop(14, "", "", "", path.StageRoute, path.ActionEnter, func(h *path.Hop) {
			h.Direction, h.Src, h.Dst, h.Error = path.Reply, webAddr, "10.99.0.1:51000", "network unreachable"
		})
	v := b.verdict(path.Lost, path.CauseNoRoute, "web has no route back to 10.99.0.1.")
	v.Where = &path.Where{Container: "web", Stage: path.StageRoute, Direction: path.Reply}
	return b.p, v
}

func tooBig() (*path.Path, path.Verdict) {
	b := newBuilder(path.UDP, "172.18.0.3:40000", "10.99.0.12:9000")
	p := b.packet(path.Request, "", "172.18.0.3:40000", "10.99.0.12:9000").names("cli", "")
	p.pkt.Length = 1500
	p.sendFrom(0, cliSpot).in(hostSpot).rx(5, "veth3f1a", "veth", "br-app").rx(6, "br-app", "bridge", "").
		hop(8, "br-app", "bridge", "", path.StageICMP, path.ActionReject, func(h *path.Hop) {
			h.ICMP, h.MTU = "type 3 code 4 (fragmentation needed)", 1400
		}).drop(9, "br-app", path.StageRoute, "ip_forward", "PKT_TOO_BIG")
	v := b.verdict(path.Refused, path.CausePacketTooBig, "1,500 bytes do not fit into the MTU of 1,400 of eth0 on host.")
	return b.p, v
}

func longNames() (*path.Path, path.Verdict) {
	client := "warehouse-synchronisation-background-worker-production-eu-central-1-replica-set-" + strings.Repeat("a", 40)
	server := "warehouse-synchronisation-inventory-database-production-eu-central-1-replica-set-" + strings.Repeat("b", 40)
	p, v := sameBridge()
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			h.Container = map[string]string{"cli": client, "web": server}[h.Container]
			h.SrcName = map[string]string{"cli": client, "web": server}[h.SrcName]
			h.DstName = map[string]string{"cli": client, "web": server}[h.DstName]
			if h.Network != "" {
				h.Network = "warehouse_" + strings.Repeat("long-", 20) + "network"
			}
		}
	}
	v.SrcName, v.DstName = client, server
	v.Summary = server + " answered " + client + " in 34 µs."
	v.Evidence = []string{"a name with \x1b[31man escape code\x1b[0m and a\nline break is made harmless"}
	return p, v
}

func midstreamDrops() (*path.Path, path.Verdict) {
	b := newBuilder(path.TCP, cliAddr, webAddr)
	b.p.Midstream, b.p.OmittedPackets = true, 7
	for i := range int64(4) {
		p := b.packet(path.Request, "PA", cliAddr, webAddr).names("cli", "web")
		p.sendFrom(i*1000, cliSpot).in(hostSpot).rx(i*1000+4, "veth3f1a", "veth", "br-app")
		p.pkt.Retransmission = i == 0
		if i > 0 {
			p.drop(i*1000+5, "veth3f1a", path.StageBridge, "br_forward", "NOT_SPECIFIED")
		}
	}
	v := b.verdict(path.Dropped, path.CauseUnexplainedDrop, "br_forward dropped segments of cli to web (NOT_SPECIFIED).")
	v.Where = &path.Where{Namespace: "host", Stage: path.StageBridge}
	v.Complete = false
	return b.p, v
}

func notSent() (*path.Path, path.Verdict) {
	return nil, path.Verdict{
		Type: "verdict", Outcome: path.NoTraffic, Cause: path.CauseContainerNotRunning, Complete: true,
		Summary: "no-traffic: web does not run (exited), so nothing was sent to it.",
		Dst:     "172.18.0.2:80", SrcName: "cli", DstName: "web", Remedy: []string{"docker start web"},
	}
}
