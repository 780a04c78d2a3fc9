package xt

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

func headerMatch(name string) matchFunc {
	switch name {
	case "length":
		return lengthMatch
	case "ttl", "hl":
		return ttlMatch
	case "dscp":
		return dscpMatch
	case "tos":
		return tosMatch
	case "ecn":
		return ecnMatch
	case "esp", "ipcomp":
		return espMatch
	case "ah":
		return ahMatch
	case "frag":
		return fragMatch
	case "rt":
		return rtMatch
	case "ipv6header":
		return ipv6headerMatch
	case "policy":
		return policyMatch
	}
	return nil
}

// lengthMatch decodes struct xt_length_info.
func lengthMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	lo, hi, inverted := d.u16(0), d.u16(2), d.u8(4) != 0
	d.option(inverted, "--length", span(lo, hi))
	return func(p *firewall.Packet) firewall.Truth {
		if p.Length == 0 {
			return firewall.Maybe
		}
		return xor(within(p.Length, int(lo), int(hi)), inverted)
	}
}

// ttlMatch decodes struct ipt_ttl_info and struct ip6t_hl_info, which are alike.
func ttlMatch(d *decoding) judge {
	mode, limit := d.u8(0), d.u8(1)
	if d.rev != 0 || mode > 3 {
		return nil
	}
	option := "--" + d.name + [...]string{"-eq", "-eq", "-lt", "-gt"}[mode]
	d.option(mode == 1, option, decimal(limit))
	return func(p *firewall.Packet) firewall.Truth {
		if p.TTL == 0 {
			return firewall.Maybe
		}
		return firewall.Of([...]bool{p.TTL == limit, p.TTL != limit, p.TTL < limit, p.TTL > limit}[mode])
	}
}

// dscpMatch decodes struct xt_dscp_info.
func dscpMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	d.option(d.u8(1) != 0, "--dscp", fmt.Sprintf("0x%02x", d.u8(0)))
	return maybe
}

// tosMatch decodes struct xt_tos_match_info.
func tosMatch(d *decoding) judge {
	if d.rev != 1 {
		return nil
	}
	d.option(d.u8(2) != 0, "--tos", fmt.Sprintf("0x%02x/0x%02x", d.u8(1), d.u8(0)))
	return maybe
}

// ecnMatch decodes struct xt_ecn_info.
func ecnMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	op, inv := d.u8(0), d.u8(1)
	if op&0x10 != 0 {
		d.option(inv&0x10 != 0, "--ecn-tcp-ece")
	}
	if op&0x20 != 0 {
		d.option(inv&0x20 != 0, "--ecn-tcp-cwr")
	}
	if op&0x01 != 0 {
		d.option(inv&0x01 != 0, "--ecn-ip-ect", decimal(d.u8(2)))
	}
	return maybe
}

// writeSPIs appends a range of security parameter indexes unless it holds all.
func writeSPIs(d *decoding, option string, inverted bool) {
	if lo, hi := d.u32(0), d.u32(4); lo != 0 || hi != 0xffffffff || inverted {
		d.option(inverted, option, span(lo, hi))
	}
}

// espMatch decodes struct xt_esp and struct xt_ipcomp, which begin alike.
func espMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	inverted := d.u8(8)&1 != 0
	writeSPIs(d, "--"+d.name+"spi", inverted)
	d.flag(d.name == "ipcomp" && d.u8(9) != 0, "--compres")
	return maybe
}

// ahMatch decodes struct ipt_ah and struct ip6t_ah.
func ahMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	if !d.v6 {
		writeSPIs(d, "--ahspi", d.u8(8)&1 != 0)
		return maybe
	}
	inv := d.u8(13)
	writeSPIs(d, "--ahspi", inv&1 != 0)
	if d.u32(8) != 0 || inv&2 != 0 {
		d.option(inv&2 != 0, "--ahlen", decimal(d.u32(8)))
	}
	d.flag(d.u8(12) != 0, "--ahres")
	return maybe
}

// fragMatch decodes struct ip6t_frag.
func fragMatch(d *decoding) judge {
	if d.rev != 0 || !d.v6 {
		return nil
	}
	flags, inv := d.u8(12), d.u8(13)
	if lo, hi := d.u32(0), d.u32(4); lo != 0 || hi != 0xffffffff || inv&1 != 0 {
		d.option(inv&1 != 0, "--fragid", span(lo, hi))
	}
	if flags&2 != 0 {
		d.option(inv&2 != 0, "--fraglen", decimal(d.u32(8)))
	}
	d.flag(flags&4 != 0, "--fragres")
	d.flag(flags&8 != 0, "--fragfirst")
	d.flag(flags&16 != 0, "--fragmore")
	d.flag(flags&32 != 0, "--fraglast")
	return maybe
}

// rtMatch decodes struct ip6t_rt.
func rtMatch(d *decoding) judge {
	if d.rev != 0 || !d.v6 {
		return nil
	}
	flags, inv := d.u8(16), d.u8(17)
	if flags&1 != 0 {
		d.option(inv&1 != 0, "--rt-type", decimal(d.u32(0)))
	}
	if lo, hi := d.u32(4), d.u32(8); lo != 0 || hi != 0xffffffff || inv&2 != 0 {
		d.option(inv&2 != 0, "--rt-segsleft", span(lo, hi))
	}
	if flags&4 != 0 {
		d.option(inv&4 != 0, "--rt-len", decimal(d.u32(12)))
	}
	d.flag(flags&8 != 0, "--rt-0-res")
	if flags&0x10 != 0 {
		var hops []string
		for i := range min(int(d.u8(276)), 16) {
			hops = append(hops, d.addr(20+16*i).String())
		}
		d.arg("--rt-0-addrs", strings.Join(hops, ","))
	}
	d.flag(flags&0x20 != 0, "--rt-0-not-strict")
	return maybe
}

// ipv6headerMatch decodes struct ip6t_ipv6header_info.
func ipv6headerMatch(d *decoding) judge {
	if d.rev != 0 || !d.v6 {
		return nil
	}
	names := bitNames(uint32(d.u8(0)), []bitName{
		{128, "hop-by-hop"}, {64, "ipv6-opts"}, {32, "ipv6-route"}, {16, "ipv6-frag"}, {8, "ah"}, {4, "esp"},
		{2, "ipv6-nonxt"}, {1, "protocol"},
	})
	d.option(d.u8(1) != 0, "--header", names)
	d.flag(d.u8(2) != 0, "--soft")
	return maybe
}

// policyMatch decodes struct xt_policy_info. A Packet says nothing about IPsec.
func policyMatch(d *decoding) judge {
	const size = 76 // of struct xt_policy_elem
	flags, count := d.u16(4*size), int(d.u16(4*size+2))
	if d.rev != 0 || count > 4 {
		return nil
	}
	if flags&1 != 0 {
		d.arg("--dir", "in")
	} else {
		d.arg("--dir", "out")
	}
	if flags&4 != 0 {
		d.arg("--pol", "none")
	} else {
		d.arg("--pol", "ipsec")
	}
	d.flag(flags&8 != 0, "--strict")
	for i := range count {
		d.flag(i > 0, "--next")
		writePolicy(d, i*size)
	}
	return maybe
}

// writePolicy appends one struct xt_policy_elem; its last two bytes are bit fields: saddr, daddr,
// proto, mode, spi, reqid.
func writePolicy(d *decoding, off int) {
	match, inv := d.u8(off+74), d.u8(off+75)
	option := func(bit uint8, name, value string) {
		if match&bit != 0 {
			d.option(inv&bit != 0, name, value)
		}
	}
	option(1<<5, "--reqid", decimal(d.u32(off+68)))
	option(1<<4, "--spi", fmt.Sprintf("0x%x", d.u32(off+64)))
	option(1<<2, "--proto", ProtocolName(d.u8(off+72)))
	mode := "transport"
	if d.u8(off+73) == 1 {
		mode = "tunnel"
	}
	option(1<<3, "--mode", mode)
	option(1<<1, "--tunnel-dst", d.addr(off+32).String()+maskText(d.addr(off+48)))
	option(1<<0, "--tunnel-src", d.addr(off).String()+maskText(d.addr(off+16)))
}

// ProtocolName returns the name that iptables prints for an IP protocol: that of its own table or of
// Debian's /etc/protocols, else the number.
func ProtocolName(proto uint8) string {
	names := [...]string{
		1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 8: "egp", 9: "igp", 12: "pup", 17: "udp", 20: "hmp",
		22: "xns-idp", 27: "rdp", 29: "iso-tp4", 33: "dccp", 36: "xtp", 37: "ddp", 38: "idpr-cmtp",
		41: "ipv6", 43: "ipv6-route", 44: "ipv6-frag", 45: "idrp", 46: "rsvp", 47: "gre", 50: "esp",
		51: "ah", 57: "skip", 58: "ipv6-icmp", 59: "ipv6-nonxt", 60: "ipv6-opts", 73: "rspf", 81: "vmtp",
		88: "eigrp", 89: "ospf", 93: "ax.25", 94: "ipip", 97: "etherip", 98: "encap", 103: "pim",
		108: "ipcomp", 112: "vrrp", 115: "l2tp", 124: "isis", 132: "sctp", 133: "fc",
		135: "mobility-header", 136: "udplite", 137: "mpls-in-ip", 138: "manet", 139: "hip",
		140: "shim6", 141: "wesp", 142: "rohc", 143: "ethernet",
	}
	if int(proto) >= len(names) || names[proto] == "" {
		return decimal(proto)
	}
	return names[proto]
}
