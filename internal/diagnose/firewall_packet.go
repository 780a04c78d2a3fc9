package diagnose

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// IP protocol numbers.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// visit is one packet in one netfilter hook: what was seen on entering, and what became of it there.
// Either may be nil.
type visit struct {
	pkt        *path.Packet
	stage      path.Stage
	netns      uint32
	enter, end *path.Hop
}

// visitOf finds how a packet came into the hook in which end was seen.
func visitOf(pkt *path.Packet, stage path.Stage, end *path.Hop) visit {
	v := visit{pkt: pkt, stage: stage, netns: end.NetNS, end: end}
	for i := range pkt.Hops {
		h := &pkt.Hops[i]
		if hopTime(h) > hopTime(end) || h == end {
			break
		}
		if h.Stage == stage && h.Action == path.ActionEnter && h.NetNS == end.NetNS && !h.Copy {
			v.enter = h
		}
	}
	return v
}

// first is what was seen first of the packet in the hook.
func (v *visit) first() *path.Hop {
	if v.enter != nil {
		return v.enter
	}
	return v.end
}

// packet makes the packet as the hook's rules saw it; nil if its addresses are not known.
func (a *analysis) packet(v *visit) *firewall.Packet {
	h := v.first()
	p := &firewall.Packet{
		Hook: firewall.Hook(strings.ToLower(hookName(v.stage))), InIndex: h.InIfindex, OutIndex: h.OutIfindex,
		In: a.inDevice(h), Out: a.outDeviceOf(h), Length: h.Length, TTL: h.TTL,
		BridgeNF: strings.HasPrefix(string(v.stage), "bridge-netfilter/"), AddrType: a.addrType(h.NetNS),
	}
	if !a.setEnds(p, v, h) {
		return nil
	}
	if p.BridgeNF {
		p.In, p.Out = a.bridgeOf(h, p.In), a.bridgeOf(h, p.Out)
		p.PhysIn, p.PhysOut = a.bridgePorts(v)
	}
	setMark(p, v)
	p.CT, p.TrackedBefore = conntrackOf(v, p.Proto)
	return p
}

// setEnds fills in addresses and transport header. Inside a tunnel's hooks the packet is the outer one.
func (a *analysis) setEnds(p *firewall.Packet, v *visit, h *path.Hop) bool {
	src, dst, ok := endsAt(h)
	if !ok {
		return false
	}
	p.Src, p.Dst = src.Addr(), dst.Addr()
	switch {
	case h.Outer != nil:
		p.Proto, p.Length = protoUDP, 0
	case v.pkt.ICMPError:
		setICMP(p, h.ICMPType, h.ICMPCode, h.ICMP != "")
	case a.p.Proto == path.ICMP:
		echo := [2][2]uint8{{8, 0}, {128, 129}}[b2i(p.IsIPv6())][b2i(v.pkt.Direction == path.Reply)]
		setICMP(p, echo, 0, true)
	case a.p.Proto == path.UDP:
		p.Proto = protoUDP
	default:
		p.Proto, p.TCPFlags, p.HasTCPFlags = protoTCP, flagBits(v.pkt.TCPFlags), true
	}
	if p.Proto == protoTCP || p.Proto == protoUDP {
		p.SrcPort, p.DstPort = src.Port(), dst.Port()
	}
	if now, then, ok := endsAt(v.end); v.end != nil && ok && v.end != h && (now != src || then != dst) {
		p.Translated = &firewall.Tuple{Src: now.Addr(), Dst: then.Addr(), Proto: p.Proto}
		if p.SrcPort != 0 || p.DstPort != 0 {
			p.Translated.SrcPort, p.Translated.DstPort = now.Port(), then.Port()
		}
	}
	return true
}

// endsAt returns the addresses that a packet carries at a hop, those of the tunnel inside one.
func endsAt(h *path.Hop) (src, dst netip.AddrPort, ok bool) {
	if h == nil {
		return src, dst, false
	}
	src, dst = h.SrcAddr, h.DstAddr
	if h.Outer != nil {
		src, _ = netip.ParseAddrPort(h.Outer.Src)
		dst, _ = netip.ParseAddrPort(h.Outer.Dst)
	}
	return src, dst, src.IsValid() && dst.IsValid()
}

func setICMP(p *firewall.Packet, typ, code uint8, known bool) {
	p.Proto = protoICMP
	if p.IsIPv6() {
		p.Proto = protoICMPv6
	}
	p.ICMPType, p.ICMPCode, p.HasICMP = typ, code, known
}

// flagBits returns the flags as the header has them.
func flagBits(s string) uint8 {
	f := flagsOf(s)
	return b2i8(f.fin) | b2i8(f.syn)<<1 | b2i8(f.rst)<<2 | b2i8(f.psh)<<3 | b2i8(f.ack)<<4
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func b2i8(b bool) uint8 { return uint8(b2i(b)) }

// setMark fills in the packet's mark, if it was the same all through the hook.
func setMark(p *firewall.Packet, v *visit) {
	first := v.first()
	if !first.HasMark || v.end != nil && v.end.HasMark && v.end.Mark != first.Mark {
		return
	}
	p.Mark, p.HasMark = first.Mark, true
}

// bridgePorts names the ports of a bridged packet: the one that received it last, and in hooks behind
// the bridge's decision the one it was about to leave by.
func (a *analysis) bridgePorts(v *visit) (in, out string) {
	for i := range v.pkt.Hops {
		h := &v.pkt.Hops[i]
		if hopTime(h) > hopTime(v.first()) {
			break
		}
		if h.NetNS == v.netns && h.Action == path.ActionReceive && h.Bridge != "" {
			in = h.Device
		}
	}
	switch hookName(v.stage) {
	case "FORWARD", "POSTROUTING":
		if d := v.first().Device; d != in {
			out = d
		}
	}
	return in, out
}

// conntrackOf returns the packet's tracking entry as of the hook; before says that it had one already
// when it came into the hook.
func conntrackOf(v *visit, proto uint8) (ct *firewall.Conntrack, before bool) {
	var known *path.Conntrack
	switch {
	case v.enter != nil && v.enter.CT != nil:
		known, before = v.enter.CT, true
	case v.end != nil:
		known = v.end.CT
	}
	if known == nil {
		return nil, false
	}
	// enum ip_conntrack_info: established, related, new; from 3 on the same of the reply direction.
	const replies, untracked = 3, 7
	states := [...]firewall.CTState{firewall.CTEstablished, firewall.CTRelated, firewall.CTNew}
	ct = &firewall.Conntrack{
		State: firewall.CTUntracked, Status: known.Status, HasStatus: true,
		Orig: tuple(known.OrigSrc, known.OrigDst, proto), Return: tuple(known.ReplySrc, known.ReplyDst, proto),
	}
	if known.Info != untracked {
		ct.State, ct.Reply = states[known.Info%replies], known.Info >= replies
	}
	return ct, before
}

func tuple(src, dst netip.AddrPort, proto uint8) firewall.Tuple {
	return firewall.Tuple{Src: src.Addr(), Dst: dst.Addr(), SrcPort: src.Port(), DstPort: dst.Port(), Proto: proto}
}

// addrType returns a function that says what an address is to a namespace; nil if that is not known.
func (a *analysis) addrType(ns uint32) func(netip.Addr, string, string) firewall.Truth {
	n := a.space(ns)
	if n.Addrs == nil {
		return nil
	}
	return func(addr netip.Addr, typ, dev string) firewall.Truth {
		local := addr.IsLoopback() || slices.Contains(n.Addrs, addr)
		// The broadcast address of a subnet is not known for sure; its last byte is most often 255.
		b := addr.AsSlice()
		broadcast := firewall.Of(addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}))
		if addr.Is4() && !local && broadcast == firewall.No && b[3] == 255 {
			broadcast = firewall.Maybe
		}
		switch typ {
		case "LOCAL":
			if local && dev != "" && !addr.IsLoopback() {
				return firewall.Maybe // on which device it is, is not known
			}
			return firewall.Of(local)
		case "BROADCAST":
			return broadcast
		case "MULTICAST":
			return firewall.Of(addr.IsMulticast())
		case "UNICAST":
			return firewall.Of(!local && !addr.IsMulticast()).And(broadcast.Not())
		}
		return firewall.Maybe
	}
}
