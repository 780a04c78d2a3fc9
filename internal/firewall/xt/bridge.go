package xt

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// bridgeMatch returns the decoders of matches that ebtables alone has; pkttype and limit are others
// there than in iptables.
func bridgeMatch(name string) matchFunc {
	var f matchFunc
	switch name {
	case "ip", "ip6":
		f = ebtIPMatch
	case "arp":
		f = ebtARPMatch
	case "vlan":
		f = ebtVLANMatch
	case "802_3":
		f = ebt8023Match
	case "stp":
		f = ebtSTPMatch
	case "mark_m":
		f = ebtMarkMatch
	case "pkttype":
		f = ebtPkttypeMatch
	case "limit":
		f = ebtLimitMatch
	default:
		return nil
	}
	return func(d *decoding) judge {
		d.bare = true
		if d.rev != 0 {
			return nil
		}
		return f(d)
	}
}

// after appends an option of ebtables, which has the "!" after its name.
func (d *decoding) after(inverted bool, option, value string) {
	d.arg(option)
	d.option(inverted, value)
}

// ebtIP is struct ebt_ip_info or, after longer addresses, struct ebt_ip6_info.
type ebtIP struct {
	src, dst             ctAddr
	proto, bits, inv     uint8
	srcPorts, dstPorts   [2]uint16
	icmpTypes, icmpCodes [2]uint8
}

// Bits of ebt_ip_info's bitmask and invflags, EBT_IP_*.
const (
	ebtSource = 1 << iota
	ebtDest
	ebtTOS
	ebtProto
	ebtSrcPort
	ebtDstPort
	ebtICMP
	ebtIGMP
)

// ebtIPMatch decodes struct ebt_ip_info and ebt_ip6_info.
func ebtIPMatch(d *decoding) judge {
	v6 := d.name == "ip6"
	addr, rest, prefix := d.addr4, 16, "--ip-"
	size := 4
	if v6 {
		addr = func(off int) netip.Addr { return netip.AddrFrom16([16]byte(d.bytes(off, 16))) }
		rest, prefix, size = 64, "--ip6-", 16
	}
	m := ebtIP{
		src: ctAddr{addr(0), addr(2 * size)}, dst: ctAddr{addr(size), addr(3 * size)},
		proto: d.u8(rest + 1), bits: d.u8(rest + 2), inv: d.u8(rest + 3),
		srcPorts: [2]uint16{d.u16(rest + 4), d.u16(rest + 6)}, dstPorts: [2]uint16{d.u16(rest + 8), d.u16(rest + 10)},
		icmpTypes: [2]uint8{d.u8(rest + 4), d.u8(rest + 5)}, icmpCodes: [2]uint8{d.u8(rest + 8), d.u8(rest + 9)},
	}
	tos, tosName := fmt.Sprintf("0x%02X", d.u8(rest)), "tos"
	if v6 {
		tosName = "tclass"
	}
	option := func(bit uint8, name, value string) {
		if m.bits&bit != 0 {
			d.after(m.inv&bit != 0, prefix+name, value)
		}
	}
	option(ebtSource, "src", m.src.addr.String()+maskText(m.src.mask))
	option(ebtDest, "dst", m.dst.addr.String()+maskText(m.dst.mask))
	option(ebtTOS, tosName, tos)
	option(ebtProto, "proto", ProtocolName(m.proto))
	option(ebtICMP, "icmp-type", m.icmpText(v6))
	option(ebtSrcPort, "sport", span(m.srcPorts[0], m.srcPorts[1]))
	option(ebtDstPort, "dport", span(m.dstPorts[0], m.dstPorts[1]))
	if v6 {
		m.bits &^= ebtIGMP
	} else {
		option(ebtIGMP, "igmp-type", span(m.icmpTypes[0], m.icmpTypes[1]))
	}
	return func(p *firewall.Packet) firewall.Truth {
		if p.IsIPv6() != v6 {
			return firewall.No
		}
		return m.judge(p)
	}
}

func (m ebtIP) icmpText(v6 bool) string {
	types, codes := span(m.icmpTypes[0], m.icmpTypes[1]), span(m.icmpCodes[0], m.icmpCodes[1])
	if m.icmpCodes != [2]uint8{0, 0xff} {
		return types + "/" + codes
	}
	names := map[string]string{
		"0": "echo-reply", "3": "destination-unreachable", "4": "source-quench", "5": "redirect",
		"8": "echo-request", "11": "time-exceeded", "12": "parameter-problem",
	}
	if v6 {
		names = map[string]string{
			"1": "destination-unreachable", "2": "packet-too-big", "3": "time-exceeded",
			"4": "parameter-problem", "128": "echo-request", "129": "echo-reply",
		}
	}
	if name, ok := names[types]; ok {
		return name
	}
	return types
}

// judge follows net/bridge/netfilter/ebt_ip.c.
func (m ebtIP) judge(p *firewall.Packet) firewall.Truth {
	t := firewall.Yes
	add := func(bit uint8, answer firewall.Truth) {
		if m.bits&bit != 0 {
			t = t.And(xor(answer, m.inv&bit != 0))
		}
	}
	add(ebtSource, AddrIn(p.Src, m.src.addr, m.src.mask))
	add(ebtDest, AddrIn(p.Dst, m.dst.addr, m.dst.mask))
	add(ebtTOS, firewall.Maybe)
	if m.bits&ebtProto == 0 {
		return t
	}
	if p.Proto == 0 {
		return t.And(firewall.Maybe)
	}
	add(ebtProto, firewall.Of(p.Proto == m.proto))
	if m.bits&(ebtSrcPort|ebtDstPort) != 0 {
		t = t.And(hasPorts(p))
	}
	add(ebtSrcPort, within(p.SrcPort, m.srcPorts[0], m.srcPorts[1]))
	add(ebtDstPort, within(p.DstPort, m.dstPorts[0], m.dstPorts[1]))
	icmp := firewall.Maybe
	if p.HasICMP {
		icmp = within(p.ICMPType, m.icmpTypes[0], m.icmpTypes[1]).
			And(within(p.ICMPCode, m.icmpCodes[0], m.icmpCodes[1]))
	}
	add(ebtICMP, icmp)
	add(ebtIGMP, firewall.Maybe)
	return t
}

// notIP is the judge of matches on frames that carry no IP: they never fit an IP packet.
func notIP(p *firewall.Packet) firewall.Truth {
	if p.Src.IsValid() || p.Dst.IsValid() {
		return firewall.No
	}
	return firewall.Maybe
}

// ebtARPMatch decodes struct ebt_arp_info.
func ebtARPMatch(d *decoding) judge {
	bits, inv := d.u8(48), d.u8(49)
	option := func(bit uint8, name, value string) {
		if bits&bit != 0 {
			d.after(inv&bit != 0, "--arp-"+name, value)
		}
	}
	opcode := decimal(d.be16(4))
	names := [...]string{
		"Request", "Reply", "Request_Reverse", "Reply_Reverse", "DRARP_Request", "DRARP_Reply",
		"DRARP_Error", "InARP_Request", "ARP_NAK",
	}
	if n := d.be16(4); n >= 1 && int(n) <= len(names) {
		opcode = names[n-1]
	}
	option(0x01, "op", opcode)
	option(0x02, "htype", decimal(d.be16(0)))
	option(0x04, "ptype", fmt.Sprintf("0x%x", d.be16(2)))
	option(0x08, "ip-src", d.addr4(8).String()+maskText(d.addr4(12)))
	option(0x10, "ip-dst", d.addr4(16).String()+maskText(d.addr4(20)))
	option(0x20, "mac-src", maskedHardware(d.bytes(24, 6), d.bytes(30, 6)))
	option(0x40, "mac-dst", maskedHardware(d.bytes(36, 6), d.bytes(42, 6)))
	if bits&0x80 != 0 {
		d.option(inv&0x80 != 0, "--arp-gratuitous")
	}
	return notIP
}

// maskedHardware writes a MAC address with its mask, unless that is full.
func maskedHardware(mac, mask []byte) string {
	if full := "ff:ff:ff:ff:ff:ff"; hardware(mask) != full {
		return hardware(mac) + "/" + hardware(mask)
	}
	return hardware(mac)
}

// ebtVLANMatch decodes struct ebt_vlan_info. The match is used in rules for tagged frames only.
func ebtVLANMatch(d *decoding) judge {
	id, encap, bits, inv := d.u16(0), d.be16(4), d.u8(6), d.u8(7)
	if bits&1 != 0 {
		d.after(inv&1 != 0, "--vlan-id", decimal(id))
	}
	if bits&2 != 0 {
		d.after(inv&2 != 0, "--vlan-prio", decimal(d.u8(2)))
	}
	if bits&4 != 0 {
		d.after(inv&4 != 0, "--vlan-encap", fmt.Sprintf("%04X", encap))
	}
	return func(p *firewall.Packet) firewall.Truth {
		if p.VLAN == 0 {
			return firewall.No
		}
		t := firewall.Yes
		if bits&1 != 0 {
			t = t.And(xor(firewall.Of(p.VLAN == id), inv&1 != 0))
		}
		if bits&2 != 0 {
			t = t.And(firewall.Maybe)
		}
		if bits&4 != 0 {
			proto := uint16(0x0800)
			if p.IsIPv6() {
				proto = 0x86dd
			}
			t = t.And(xor(firewall.Of(proto == encap), inv&4 != 0))
		}
		return t
	}
}

// ebt8023Match decodes struct ebt_802_3_info.
func ebt8023Match(d *decoding) judge {
	bits, inv := d.u8(4), d.u8(5)
	if bits&1 != 0 {
		d.after(inv&1 != 0, "--802_3-sap", fmt.Sprintf("0x%.2X", d.u8(0)))
	}
	if bits&2 != 0 {
		d.after(inv&2 != 0, "--802_3-type", fmt.Sprintf("0x%.4X", d.be16(2)))
	}
	return maybe
}

// ebtSTPMatch decodes struct ebt_stp_info.
func ebtSTPMatch(d *decoding) judge {
	bits, inv := d.u16(68), d.u16(70)
	option := func(bit uint16, name, value string) {
		if bits&bit != 0 {
			d.after(inv&bit != 0, "--stp-"+name, value)
		}
	}
	typ := decimal(d.u8(0))
	switch d.u8(0) {
	case 0:
		typ = "config"
	case 0x80:
		typ = "tcn"
	}
	option(0x0001, "type", typ)
	option(0x0002, "flags", decimal(d.u8(4)))
	option(0x0004, "root-prio", span(d.u16(6), d.u16(8)))
	option(0x0008, "root-addr", maskedHardware(d.bytes(10, 6), d.bytes(16, 6)))
	option(0x0010, "root-cost", span(d.u32(24), d.u32(28)))
	option(0x0020, "sender-prio", span(d.u16(32), d.u16(34)))
	option(0x0040, "sender-addr", maskedHardware(d.bytes(36, 6), d.bytes(42, 6)))
	option(0x0080, "port", span(d.u16(48), d.u16(50)))
	option(0x0100, "msg-age", span(d.u16(52), d.u16(54)))
	option(0x0200, "max-age", span(d.u16(56), d.u16(58)))
	option(0x0400, "hello-time", span(d.u16(60), d.u16(62)))
	option(0x0800, "forward-delay", span(d.u16(64), d.u16(66)))
	return notIP
}

// ebtMarkMatch decodes struct ebt_mark_m_info, whose numbers are of 64 bits on 64-bit kernels.
func ebtMarkMatch(d *decoding) judge {
	mark, mask, inverted, bits := d.u64(0), d.u64(8), d.u8(16) != 0, d.u8(17)
	if bits&2 != 0 { // any of the bits
		d.after(inverted, "--mark", fmt.Sprintf("/0x%x", mask))
		return func(p *firewall.Packet) firewall.Truth {
			if !p.HasMark {
				return firewall.Maybe
			}
			return xor(firewall.Of(uint64(p.Mark)&mask != 0), inverted)
		}
	}
	text := fmt.Sprintf("0x%x", mark)
	if mask < 0xffffffff {
		text += fmt.Sprintf("/0x%x", mask)
	}
	d.after(inverted, "--mark", text)
	return markJudge(uint32(mark), uint32(mask), inverted)
}

// ebtPkttypeMatch decodes struct ebt_pkttype_info.
func ebtPkttypeMatch(d *decoding) judge {
	typ, inverted := d.u8(0), d.u8(1) != 0
	names := [...]string{"host", "broadcast", "multicast", "otherhost", "outgoing", "loopback", "fastroute"}
	if int(typ) >= len(names) {
		return nil
	}
	d.after(inverted, "--pkttype-type", names[typ])
	return func(p *firewall.Packet) firewall.Truth {
		if typ > 2 {
			return firewall.Maybe
		}
		return xor(pktType(p, uint32(typ)), inverted)
	}
}

// ebtLimitMatch decodes struct ebt_limit_info.
func ebtLimitMatch(d *decoding) judge {
	d.arg("--limit", rateText(uint64(d.u32(0)), 10000), "--limit-burst", decimal(d.u32(4)))
	return maybe
}

// bridgeTarget returns the decoders of targets that ebtables alone has.
func bridgeTarget(name string) targetFunc {
	f := map[string]targetFunc{
		"log": ebtLogTarget, "nflog": ebtNFLogTarget, "arpreply": ebtMACTarget, "dnat": ebtMACTarget,
		"snat": ebtMACTarget, "redirect": ebtRedirectTarget, "mark": ebtMarkTarget,
	}[name]
	if f == nil {
		return nil
	}
	return func(d *decoding) (firewall.Verdict, bool) {
		v, ok := f(d)
		return v, ok && d.rev == 0
	}
}

// ebtVerdict is the verdict of a number of ebtables, EBT_ACCEPT and so on, whose upper bits some targets
// use for more.
func ebtVerdict(n uint32) (firewall.Verdict, string) {
	switch int32(n | 0xfffffff0) {
	case -1:
		return firewall.Verdict{Kind: firewall.Accept}, "ACCEPT"
	case -2:
		return firewall.Verdict{Kind: firewall.Drop}, "DROP"
	case -3:
		return firewall.Verdict{}, "CONTINUE"
	case -4:
		return firewall.Verdict{Kind: firewall.Return}, "RETURN"
	}
	return firewall.Verdict{Kind: firewall.Unknown, Detail: decimal(n)}, decimal(n)
}

// ebtLogTarget decodes struct ebt_log_info: a watcher, written without -j.
func ebtLogTarget(d *decoding) (firewall.Verdict, bool) {
	level, prefix, bits := d.u8(0), d.str(1, 30), d.u32(32)
	d.bare = true
	name := decimal(level)
	levels := [...]string{"emerg", "alert", "crit", "error", "warning", "notice", "info", "debug"}
	if int(level) < len(levels) {
		name = levels[level]
	}
	d.arg("--log-level", name)
	d.flag(prefix != "", "--log-prefix", `"`+printable(prefix)+`"`)
	d.flag(bits&1 != 0, "--log-ip")
	d.flag(bits&2 != 0, "--log-arp")
	d.flag(bits&8 != 0, "--log-ip6")
	return firewall.Verdict{}, true
}

// ebtNFLogTarget decodes struct ebt_nflog_info: a watcher, written without -j.
func ebtNFLogTarget(d *decoding) (firewall.Verdict, bool) {
	prefix := d.str(12, 64)
	d.bare = true
	d.flag(prefix != "", "--nflog-prefix", `"`+printable(prefix)+`"`)
	d.flag(d.u16(4) != 0, "--nflog-group", decimal(d.u16(4)))
	d.flag(d.u32(0) != 0, "--nflog-range", decimal(d.u32(0)))
	d.flag(d.u16(6) != 1, "--nflog-threshold", decimal(d.u16(6)))
	return firewall.Verdict{}, true
}

// ebtMACTarget decodes struct ebt_arpreply_info and struct ebt_nat_info: a MAC address and what comes
// then.
func ebtMACTarget(d *decoding) (firewall.Verdict, bool) {
	v, then := ebtVerdict(d.u32(8))
	option := map[string]string{"arpreply": "--arpreply-mac", "dnat": "--to-dst", "snat": "--to-src"}[d.name]
	d.arg(option, hardware(d.bytes(0, 6)))
	d.flag(d.name == "snat" && d.u32(8)&0x10 == 0, "--snat-arp")
	d.arg("--"+d.name+"-target", then)
	return v, true
}

// ebtRedirectTarget decodes struct ebt_redirect_info.
func ebtRedirectTarget(d *decoding) (firewall.Verdict, bool) {
	v, then := ebtVerdict(d.u32(0))
	d.flag(v.Kind != firewall.Accept, "--redirect-target", then)
	return v, true
}

// ebtMarkTarget decodes struct ebt_mark_t_info.
func ebtMarkTarget(d *decoding) (firewall.Verdict, bool) {
	v, then := ebtVerdict(d.u32(8))
	action, ok := map[uint32]string{
		0xfffffff0: "set", 0xffffffe0: "or", 0xffffffd0: "and", 0xffffffc0: "xor",
	}[d.u32(8)&^0xf]
	d.argf("--mark-%s 0x%x --mark-target %s", action, d.u64(0), then)
	return v, ok
}
