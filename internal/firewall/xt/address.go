package xt

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

func addressMatch(name string) matchFunc {
	switch name {
	case "addrtype":
		return addrtypeMatch
	case "iprange":
		return iprangeMatch
	case "mac":
		return macMatch
	case "set":
		return setMatch
	}
	return nil
}

// addrTypes are the types in the order of the bits of xt_addrtype_info.
func addrTypes(mask uint16) []string {
	var list []string
	for i, name := range [...]string{
		"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE",
		"PROHIBIT", "THROW", "NAT", "XRESOLVE",
	} {
		if mask&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

// addrtypeMatch decodes struct xt_addrtype_info (revision 0) and xt_addrtype_info_v1.
func addrtypeMatch(d *decoding) judge {
	src, dst := addrTypes(d.u16(0)), addrTypes(d.u16(2))
	flags := d.u32(4)
	switch d.rev {
	case 0:
		notSrc, notDst := flags != 0, d.u32(8) != 0
		flags = 0
		if notSrc {
			flags |= 1
		}
		if notDst {
			flags |= 2
		}
	case 1:
	default:
		return nil
	}
	if len(src) > 0 {
		d.option(flags&1 != 0, "--src-type", strings.Join(src, ","))
	}
	if len(dst) > 0 {
		d.option(flags&2 != 0, "--dst-type", strings.Join(dst, ","))
	}
	d.flag(flags&4 != 0, "--limit-iface-in")
	d.flag(flags&8 != 0, "--limit-iface-out")
	return func(p *firewall.Packet) firewall.Truth {
		t := firewall.Yes
		if len(src) > 0 {
			t = t.And(xor(addrIsType(p, p.Src, src, flags), flags&1 != 0))
		}
		if len(dst) > 0 {
			t = t.And(xor(addrIsType(p, p.Dst, dst, flags), flags&2 != 0))
		}
		return t
	}
}

// addrIsType says whether addr is of one of the types.
func addrIsType(p *firewall.Packet, addr netip.Addr, types []string, flags uint32) firewall.Truth {
	if p.AddrType == nil || !addr.IsValid() {
		return firewall.Maybe
	}
	dev := ""
	switch {
	case flags&4 != 0:
		dev = p.In
	case flags&8 != 0:
		dev = p.Out
	}
	if flags&(4|8) != 0 && dev == "" {
		return firewall.Maybe
	}
	t := firewall.No
	for _, typ := range types {
		t = max(t, p.AddrType(addr, typ, dev))
	}
	return t
}

// iprangeMatch decodes struct xt_iprange_mtinfo.
func iprangeMatch(d *decoding) judge {
	if d.rev != 1 {
		return nil
	}
	srcMin, srcMax, dstMin, dstMax := d.addr(0), d.addr(16), d.addr(32), d.addr(48)
	flags := d.u8(64)
	hasSrc, hasDst, notSrc, notDst := flags&1 != 0, flags&2 != 0, flags&16 != 0, flags&32 != 0
	if hasSrc {
		d.option(notSrc, "--src-range", srcMin.String()+"-"+srcMax.String())
	}
	if hasDst {
		d.option(notDst, "--dst-range", dstMin.String()+"-"+dstMax.String())
	}
	return func(p *firewall.Packet) firewall.Truth {
		t := firewall.Yes
		if hasSrc {
			t = t.And(xor(addrBetween(p.Src, srcMin, srcMax), notSrc))
		}
		if hasDst {
			t = t.And(xor(addrBetween(p.Dst, dstMin, dstMax), notDst))
		}
		return t
	}
}

func addrBetween(a, lo, hi netip.Addr) firewall.Truth {
	if !a.IsValid() {
		return firewall.Maybe
	}
	return firewall.Of(a.BitLen() == lo.BitLen() && a.Compare(lo) >= 0 && a.Compare(hi) <= 0)
}

// macMatch decodes struct xt_mac_info.
func macMatch(d *decoding) judge {
	if d.rev != 0 {
		return nil
	}
	mac, inverted := d.bytes(0, 6), d.u32(8) != 0
	d.option(inverted, "--mac-source", hardware(mac))
	return func(p *firewall.Packet) firewall.Truth {
		if p.SrcMAC == nil {
			return firewall.Maybe
		}
		return xor(firewall.Of(bytes.Equal(p.SrcMAC, mac)), inverted)
	}
}

// hardware writes a MAC address.
func hardware(mac []byte) string {
	words := make([]string, 0, len(mac))
	for i := range mac {
		words = append(words, hex.EncodeToString(mac[i:i+1]))
	}
	return strings.Join(words, ":")
}
