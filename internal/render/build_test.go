package render

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// spot is a namespace of a hand-written path.
type spot struct {
	netns                      uint32
	host, namespace, container string
}

// The namespaces of the hand-written paths.
var (
	cliSpot  = spot{11, "docker1", "cli", "cli"}
	webSpot  = spot{12, "docker1", "web", "web"}
	hostSpot = spot{1, "docker1", "host", ""}
	outside  = spot{20, "docker1", "underlay", ""}
)

// builder writes a path by hand. Times are µs since the start.
type builder struct{ p *path.Path }

const startNS = 1_000_000_000

func newBuilder(proto path.Proto, client, server string) *builder {
	c, s := addr(client), addr(server)
	return &builder{&path.Path{
		Flow: 1, Proto: proto, Client: c, Server: s, Source: c, Target: s, Start: startNS, End: startNS,
	}}
}

// addr parses "addr:port" or "addr".
func addr(s string) netip.AddrPort {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a
	}
	return netip.AddrPortFrom(netip.MustParseAddr(s), 0)
}

// packet starts a packet with the given ends.
func (b *builder) packet(dir path.Direction, flags, src, dst string) *packetBuilder {
	pkt := &path.Packet{
		ID: len(b.p.Packets) + 1, Direction: dir, TCPFlags: flags, Length: 60, Seq: 100, Ack: 0,
	}
	b.p.Packets = append(b.p.Packets, pkt)
	return &packetBuilder{b: b, pkt: pkt, src: src, dst: dst}
}

// packetBuilder writes the hops of one packet.
type packetBuilder struct {
	b                *builder
	pkt              *path.Packet
	at               spot
	src, dst         string
	srcName, dstName string
	outer            *path.Outer
}

// names sets the names of the ends from here on.
func (p *packetBuilder) names(src, dst string) *packetBuilder {
	p.srcName, p.dstName = src, dst
	return p
}

// in moves to a namespace.
func (p *packetBuilder) in(s spot) *packetBuilder {
	p.at = s
	return p
}

// hop adds an observation; change may be nil.
func (p *packetBuilder) hop(us int64, dev, kind, bridge string, stage path.Stage, action path.Action, change func(*path.Hop)) *packetBuilder {
	h := path.Hop{
		Type: "hop", Flow: 1, Packet: p.pkt.ID, Direction: p.pkt.Direction, TimeNS: us * 1000,
		Host: p.at.host, Namespace: p.at.namespace, NetNS: p.at.netns, Container: p.at.container,
		Device: dev, DeviceKind: kind, Bridge: bridge, Stage: stage, Action: action,
		Src: p.src, Dst: p.dst, SrcName: p.srcName, DstName: p.dstName, Length: p.pkt.Length,
		TCPFlags: p.pkt.TCPFlags, Outer: p.outer, Retransmission: p.pkt.Retransmission,
	}
	if bridge != "" || kind == "bridge" {
		h.Network = "app"
	}
	if change != nil {
		change(&h)
	}
	p.pkt.Hops = append(p.pkt.Hops, h)
	p.b.p.End = max(p.b.p.End, startNS+uint64(h.TimeNS))
	return p
}

// veth and friends add the hops of one device.
func (p *packetBuilder) tx(us int64, dev, kind, bridge string) *packetBuilder {
	p.hop(us, dev, kind, bridge, path.StageQdisc, path.ActionQueue, nil)
	return p.hop(us, dev, kind, bridge, path.StageDevice, path.ActionTransmit, nil)
}

func (p *packetBuilder) rx(us int64, dev, kind, bridge string) *packetBuilder {
	return p.hop(us, dev, kind, bridge, path.StageDevice, path.ActionReceive, nil)
}

// nf adds a netfilter hook that lets the packet pass.
func (p *packetBuilder) nf(us int64, stages ...path.Stage) *packetBuilder {
	for _, s := range stages {
		p.hop(us, "", "", "", s, path.ActionEnter, nil)
		p.hop(us, "", "", "", s, path.ActionLeave, nil)
	}
	return p
}

// dnat and snat translate an address in a netfilter hook.
func (p *packetBuilder) dnat(us int64, stage path.Stage, to string) *packetBuilder {
	from := p.dst
	p.dst = to
	p.b.translated(p, path.ActionDNAT, from, to, stage)
	return p.hop(us, "", "", "", stage, path.ActionDNAT, func(h *path.Hop) { h.PrevDst, h.PrevSrc = from, h.Src })
}

func (p *packetBuilder) snat(us int64, stage path.Stage, action path.Action, to string) *packetBuilder {
	from := p.src
	p.src = to
	p.b.translated(p, action, from, to, stage)
	return p.hop(us, "", "", "", stage, action, func(h *path.Hop) { h.PrevSrc, h.PrevDst = from, h.Dst })
}

// translated records a translation of the path.
func (b *builder) translated(p *packetBuilder, kind path.Action, from, to string, stage path.Stage) {
	b.p.NAT = append(b.p.NAT, path.Translation{
		Kind: kind, Direction: p.pkt.Direction, From: from, To: to, NetNS: p.at.netns, Stage: stage,
	})
}

// deliver adds that a socket took the packet and, later, that the application read it.
func (p *packetBuilder) deliver(us int64, stage path.Stage) *packetBuilder {
	p.hop(us, "", "", "", stage, path.ActionDeliver, nil)
	return p.hop(us+3, "", "", "", path.StageSocket, path.ActionDeliver, nil)
}

// drop ends the packet.
func (p *packetBuilder) drop(us int64, dev string, stage path.Stage, function, reason string) *packetBuilder {
	return p.hop(us, dev, "", "", stage, path.ActionDrop, func(h *path.Hop) { h.Function, h.Reason = function, reason })
}

// sendFrom adds what a sender's namespace shows of a packet that leaves by its eth0.
func (p *packetBuilder) sendFrom(us int64, s spot) *packetBuilder {
	return p.in(s).nf(us, path.StageOutput, path.StagePostrouting).tx(us+2, "eth0", "veth", "")
}

// receiveAt adds what a receiver's namespace shows up to the socket.
func (p *packetBuilder) receiveAt(us int64, s spot, stage path.Stage) *packetBuilder {
	return p.in(s).rx(us, "eth0", "veth", "").nf(us+1, path.StagePrerouting, path.StageInput).deliver(us+4, stage)
}

// bridged adds the crossing of the bridge br-app between two ports.
func (p *packetBuilder) bridged(us int64, in, out string) *packetBuilder {
	return p.in(hostSpot).rx(us, in, "veth", "br-app").
		nf(us+1, path.StageBridgePrerouting, path.StageBridgeForward).tx(us+3, out, "veth", "br-app")
}
