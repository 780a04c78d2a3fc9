package flow

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// hop is a path.Hop in a tenth of its size: tens of thousands of flows are kept at once. It becomes
// a path.Hop when it is reported.
type hop struct {
	time    uint64
	extra   *extra // what few hops have, or nil
	netns   uint32
	ifindex uint32
	in, out uint32
	length  uint32
	mark    uint32
	dev     uint16 // names.devices
	symbol  uint16 // names.locations, of a drop
	ends    uint8  // flow.ends
	track   uint8  // flow.tracks
	ttl     uint8
	branch  uint8
	stage   stageID
	action  actionID
	hook    wire.Hook
	dir     direction
	copied  bool
	noise   bool
	piece   bool // of a fragment
}

// extra is what few hops have.
type extra struct {
	ends               *wire.Tuple // if flow.ends was full
	prevSrc, prevDst   netip.AddrPort
	outerSrc, outerDst netip.AddrPort
	vni                uint32
	spi                uint32
	inTunnel           bool
	reason             string
	err                string
	gateway            netip.Addr
	icmp               string
	icmpType, icmpCode uint8
	mtu                uint32
	capture            *path.Capture
}

func outerOf(e *wire.Event) *extra {
	return &extra{outerSrc: e.OuterSrc, outerDst: e.OuterDst, vni: e.VNI, inTunnel: true}
}

func (x *extra) sameOuter(e *wire.Event) bool {
	return x.inTunnel && x.outerSrc == e.OuterSrc && x.outerDst == e.OuterDst && x.vni == e.VNI
}

// extraEnds returns x with ends that are not in flow.ends.
func extraEnds(x *extra, t wire.Tuple) *extra {
	var y extra
	if x != nil {
		y = *x
	}
	y.ends = &t
	return &y
}

// within returns x with what holds for all hops of the branch: the tunnel, and ends that are not in
// flow.ends.
func (x *extra) within(b *extra) *extra {
	if b != nil {
		x.outerSrc, x.outerDst, x.vni, x.inTunnel, x.ends = b.outerSrc, b.outerDst, b.vni, b.inTunnel, b.ends
	}
	return x
}

// with returns x, which may be nil and may be shared, with what was captured.
func (x *extra) with(c *path.Capture) *extra {
	var y extra
	if x != nil {
		y = *x
	}
	y.capture = c
	return &y
}

// keep appends a hop to its packet, if there is room, and reports it.
func (t *Tracker) keep(p *packet, h hop) {
	if t.cfg.OnStep != nil {
		t.report(p, &h)
	}
	if !p.kept {
		return
	}
	limit := t.cfg.MaxHops
	if h.action == actionDrop || h.action == actionDeliver {
		limit += maxBranches // the end of a packet's way says most
	}
	if len(p.hops) >= limit {
		p.omitted++
		t.stats.HopsOmitted++
		return
	}
	p.hops = append(p.hops, h)
	if t.cfg.OnHop == nil {
		return
	}
	t.scratch.packet, t.scratch.hop = p.public(), path.Hop{}
	t.fill(p, &h, &t.scratch.hop)
	t.cfg.OnHop(&p.flow.path, &t.scratch.packet, &t.scratch.hop)
}

// fill makes out, which is empty, from h. Its fields are set one by one: a path.Hop is large, and a
// literal would be made on the stack and copied.
func (t *Tracker) fill(p *packet, h *hop, out *path.Hop) {
	f := p.flow
	out.Type, out.Flow, out.Packet, out.Direction = "hop", f.path.Flow, p.id, h.dir.public()
	out.Time, out.TimeNS = h.time, max(int64(h.time-f.path.Start), 0)
	out.NetNS, out.Ifindex, out.InIfindex, out.OutIfindex = h.netns, h.ifindex, h.in, h.out
	out.Device, out.Stage, out.Action = t.names.devices[h.dev], h.stage.public(), h.action.public()
	out.Length, out.Hook = int(h.length), h.hook.Point(p.v6())
	out.Retransmission, out.Copy, out.Noise, out.Fragment = p.repeat, h.copied, h.noise, h.piece
	if h.symbol != 0 {
		out.Function = t.names.locations[h.symbol].function
	}
	if f.proto == wire.ProtoTCP && !p.fp.icmpError {
		out.TCPFlags = wire.TCPFlagString(p.fp.tcpFlags)
	}
	if h.in != 0 && h.in == h.ifindex {
		out.InDevice = out.Device
	}
	if h.out != 0 && h.out == h.ifindex {
		out.OutDevice = out.Device
	}
	if h.ends < noEnds {
		fillEnds(&f.ends[h.ends], out)
	}
	if h.ttl != 0 {
		out.Mark, out.TTL, out.HasMark = h.mark, h.ttl, true
	}
	if int(h.track) < len(f.tracks) {
		out.CT = f.tracks[h.track]
	}
	if h.extra != nil {
		h.extra.fill(out)
	}
	if p.fp.icmpError && out.ICMP == "" {
		v6 := out.SrcAddr.Addr().Is6()
		out.ICMP, out.ICMPType, out.ICMPCode, out.MTU = icmpText(v6, p.fp.icmpType, p.fp.code), p.fp.icmpType, p.fp.code, p.mtu
	}
}

func fillEnds(en *ends, out *path.Hop) {
	out.SrcAddr, out.DstAddr = shown(en.tuple.Src, en.tuple.Proto), shown(en.tuple.Dst, en.tuple.Proto)
	if en.src == "" {
		en.src, en.dst = endText(out.SrcAddr), endText(out.DstAddr)
	}
	out.Src, out.Dst = en.src, en.dst
}

func (x *extra) fill(out *path.Hop) {
	if x.ends != nil {
		fillEnds(&ends{tuple: *x.ends}, out)
	}
	out.PrevSrcAddr, out.PrevDstAddr = x.prevSrc, x.prevDst
	out.Capture = x.capture
	out.PrevSrc, out.PrevDst = endText(x.prevSrc), endText(x.prevDst)
	if x.inTunnel {
		out.Outer = &path.Outer{Src: endText(x.outerSrc), Dst: endText(x.outerDst), VNI: x.vni}
	}
	out.Reason, out.Error, out.SPI = x.reason, x.err, x.spi
	if x.gateway.IsValid() {
		out.GatewayAddr, out.Gateway = x.gateway, x.gateway.String()
	}
	if x.icmp != "" {
		out.ICMP, out.ICMPType, out.ICMPCode, out.MTU = x.icmp, x.icmpType, x.icmpCode, x.mtu
	}
}
