package xt

import (
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// Numbers of protocols, RFC 5237.
const (
	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoDCCP    = 33
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136
)

func transportMatch(name string) matchFunc {
	switch name {
	case "tcp":
		return tcpMatch
	case "udp", "udplite":
		return udpMatch
	case "icmp":
		return icmpMatch
	case "icmp6":
		return icmpv6Match
	case "multiport":
		return multiportMatch
	case "sctp":
		return sctpMatch
	case "dccp":
		return dccpMatch
	case "tcpmss":
		return tcpmssMatch
	}
	return nil
}

// ports is a range of ports of one side.
type ports struct {
	lo, hi   uint16
	inverted bool
}

func (r ports) judge(port uint16) firewall.Truth {
	return xor(within(port, r.lo, r.hi), r.inverted)
}

// write appends the option unless it says nothing.
func (r ports) write(d *decoding, option string) {
	if r.lo != 0 || r.hi != 0xffff || r.inverted {
		d.option(r.inverted, option, span(r.lo, r.hi))
	}
}

// transport says whether p carries a transport header of that protocol: fragments after the first
// have none, and no x_tables match on ports fits them.
func transport(p *firewall.Packet, proto uint8) firewall.Truth {
	switch {
	case p.Fragment:
		return firewall.No
	case p.Proto == 0:
		return firewall.Maybe
	}
	return firewall.Of(p.Proto == proto)
}

// tcpMatch decodes struct xt_tcp.
func tcpMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	inv := d.u8(11)
	src := ports{d.u16(0), d.u16(2), inv&1 != 0}
	dst := ports{d.u16(4), d.u16(6), inv&2 != 0}
	option, mask, cmp := d.u8(8), d.u8(9), d.u8(10)
	notFlags, notOption := inv&4 != 0, inv&8 != 0
	src.write(d, "--sport")
	dst.write(d, "--dport")
	if option != 0 || notOption {
		d.option(notOption, "--tcp-option", decimal(option))
	}
	if mask != 0 || notFlags {
		d.option(notFlags, "--tcp-flags", tcpFlags(mask), tcpFlags(cmp))
	}
	return func(p *firewall.Packet) firewall.Truth {
		t := transport(p, protoTCP).And(src.judge(p.SrcPort)).And(dst.judge(p.DstPort))
		if mask != 0 || notFlags {
			flags := firewall.Maybe
			if p.HasTCPFlags {
				flags = xor(firewall.Of(p.TCPFlags&mask == cmp), notFlags)
			}
			t = t.And(flags)
		}
		if option != 0 {
			t = t.And(firewall.Maybe)
		}
		return t
	}
}

func tcpFlags(flags uint8) string {
	if flags == 0 {
		return "NONE"
	}
	var names []string
	for i, name := range [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if flags&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// udpMatch decodes struct xt_udp, which udplite uses as well.
func udpMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	proto := uint8(protoUDP)
	if d.name == "udplite" {
		proto = protoUDPLite
	}
	inv := d.u8(8)
	src := ports{d.u16(0), d.u16(2), inv&1 != 0}
	dst := ports{d.u16(4), d.u16(6), inv&2 != 0}
	src.write(d, "--sport")
	dst.write(d, "--dport")
	return func(p *firewall.Packet) firewall.Truth {
		t := transport(p, proto)
		if proto == protoUDPLite { // whose ports a Packet does not hold
			return t.And(firewall.Maybe)
		}
		return t.And(src.judge(p.SrcPort)).And(dst.judge(p.DstPort))
	}
}

// icmpMatch decodes struct ipt_icmp; type 255 means any.
func icmpMatch(d *decoding) judge {
	if d.u8(0) == 0xff {
		d.option(d.u8(3)&1 != 0, "--icmp-type", "any")
		return icmpJudge(d, protoICMP, true)
	}
	d.option(d.u8(3)&1 != 0, "--icmp-type", icmpType(d))
	return icmpJudge(d, protoICMP, false)
}

// icmpv6Match decodes struct ip6t_icmp.
func icmpv6Match(d *decoding) judge {
	d.option(d.u8(3)&1 != 0, "--icmpv6-type", icmpType(d))
	return icmpJudge(d, protoICMPv6, false)
}

func icmpType(d *decoding) string {
	s := decimal(d.u8(0))
	if d.u8(1) != 0 || d.u8(2) != 0xff {
		s += "/" + decimal(d.u8(1))
	}
	return s
}

func icmpJudge(d *decoding, proto uint8, all bool) judge {
	if d.rev != 0 {
		return nil
	}
	typ, lo, hi, inverted := d.u8(0), d.u8(1), d.u8(2), d.u8(3)&1 != 0
	return func(p *firewall.Packet) firewall.Truth {
		t := transport(p, proto)
		switch {
		case all:
			return t.And(firewall.Of(!inverted))
		case !p.HasICMP:
			return t.And(firewall.Maybe)
		}
		return t.And(xor(firewall.Of(p.ICMPType == typ).And(within(p.ICMPCode, lo, hi)), inverted))
	}
}

// multiportMatch decodes struct xt_multiport and xt_multiport_v1 (with ranges and inversion).
func multiportMatch(d *decoding) judge {
	if d.rev > 1 {
		return nil
	}
	side, count := d.u8(0), int(d.u8(1))
	if side > 2 || count > 15 {
		return nil
	}
	var list []ports
	var words []string
	for i := 0; i < count; i++ {
		r := ports{lo: d.u16(2 + 2*i), hi: d.u16(2 + 2*i)}
		if d.rev == 1 && d.u8(32+i) != 0 && i+1 < count {
			i++
			r.hi = d.u16(2 + 2*i)
			words = append(words, decimal(r.lo)+":"+decimal(r.hi))
		} else {
			words = append(words, decimal(r.lo))
		}
		list = append(list, r)
	}
	inverted := d.rev == 1 && d.u8(47) != 0
	d.option(inverted, [...]string{"--sports", "--dports", "--ports"}[side], strings.Join(words, ","))
	return func(p *firewall.Packet) firewall.Truth {
		found := false
		for _, r := range list {
			found = found || side != 1 && r.judge(p.SrcPort) == firewall.Yes ||
				side != 0 && r.judge(p.DstPort) == firewall.Yes
		}
		return hasPorts(p).And(xor(firewall.Of(found), inverted))
	}
}

// hasPorts says whether the ports of p are there and known.
func hasPorts(p *firewall.Packet) firewall.Truth {
	switch p.Proto {
	case protoTCP, protoUDP, protoSCTP, protoDCCP:
		return firewall.Of(!p.Fragment)
	case 0, protoUDPLite:
		return firewall.Of(!p.Fragment).And(firewall.Maybe)
	}
	return firewall.No
}

// portPair decodes the two ranges of ports with which struct xt_sctp_info and struct xt_dccp_info begin.
// Bits 0 and 1 of flags say that the source, the destination counts, those of inverted turn it round.
func portPair(d *decoding, proto uint8, flags, inverted uint32) judge {
	dst := ports{d.u16(0), d.u16(2), inverted&2 != 0}
	src := ports{d.u16(4), d.u16(6), inverted&1 != 0}
	if flags&1 != 0 {
		d.option(src.inverted, "--sport", span(src.lo, src.hi))
	}
	if flags&2 != 0 {
		d.option(dst.inverted, "--dport", span(dst.lo, dst.hi))
	}
	return func(p *firewall.Packet) firewall.Truth {
		t := transport(p, proto)
		if flags&1 != 0 {
			t = t.And(src.judge(p.SrcPort))
		}
		if flags&2 != 0 {
			t = t.And(dst.judge(p.DstPort))
		}
		return t
	}
}

// sctpMatch decodes struct xt_sctp_info; chunk types are named only, as a Packet does not hold them.
func sctpMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	flags := d.u32(284) // after a map of 256 bytes and four conditions on it
	judged := portPair(d, protoSCTP, flags, d.u32(288))
	if flags&4 != 0 {
		return nil
	}
	return judged
}

// dccpMatch decodes struct xt_dccp_info.
func dccpMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	flags, inv := uint32(d.u16(8)), uint32(d.u16(10))
	judged := portPair(d, protoDCCP, flags, inv)
	if flags&4 != 0 {
		d.option(inv&4 != 0, "--dccp-types", dccpTypes(d.u16(12)))
	}
	if flags&8 != 0 {
		d.option(inv&8 != 0, "--dccp-option", decimal(d.u8(14)))
	}
	if flags&(4|8) == 0 {
		return judged
	}
	return func(p *firewall.Packet) firewall.Truth { return judged(p).And(firewall.Maybe) }
}

func dccpTypes(mask uint16) string {
	names := [...]string{
		"REQUEST", "RESPONSE", "DATA", "ACK", "DATAACK", "CLOSEREQ", "CLOSE", "RESET", "SYNC", "SYNCACK",
	}
	var list []string
	for i := range 16 {
		switch {
		case mask&(1<<i) == 0:
		case i < len(names):
			list = append(list, names[i])
		default:
			list = append(list, strconv.Itoa(i))
		}
	}
	return strings.Join(list, ",")
}

// tcpmssMatch decodes struct xt_tcpmss_match_info.
func tcpmssMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	d.option(d.u8(4) != 0, "--mss", span(d.u16(0), d.u16(2)))
	return maybe
}
