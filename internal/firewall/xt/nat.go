package xt

import (
	"net/netip"
	"strconv"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

func natTarget(name string) targetFunc {
	switch name {
	case "DNAT", "SNAT":
		return addressTarget
	case "MASQUERADE", "REDIRECT":
		return portTarget
	case "NETMAP":
		return netmapTarget
	}
	return nil
}

// Bits of the range's flags, NF_NAT_RANGE_*.
const (
	natIPs         = 1 << 0
	natPorts       = 1 << 1
	natRandom      = 1 << 2
	natPersistent  = 1 << 3
	natRandomFully = 1 << 4
	natOffset      = 1 << 5
)

// natRange is struct nf_nat_range2, to which the older ones are brought.
type natRange struct {
	flags        uint32
	min, max     netip.Addr
	lo, hi, base uint16
}

// readRange reads struct nf_nat_ipv4_multi_range_compat (old) or struct nf_nat_range and
// nf_nat_range2.
func readRange(d *decoding, old bool) natRange {
	if old {
		return natRange{
			flags: d.u32(4), min: d.addr4(8), max: d.addr4(12), lo: d.be16(16), hi: d.be16(18),
		}
	}
	r := natRange{flags: d.u32(0), min: d.addr(4), max: d.addr(20), lo: d.be16(36), hi: d.be16(38)}
	if d.rev == 2 {
		r.base = d.be16(40)
	}
	return r
}

func (r natRange) ports() string {
	s := decimal(r.lo)
	if r.hi != r.lo {
		s += "-" + decimal(r.hi)
	}
	if r.flags&natOffset != 0 {
		s += "/" + decimal(r.base)
	}
	return s
}

// to writes addresses and ports as iptables does: "172.18.0.2:80", "[fd00::2]:80".
func (r natRange) to() string {
	s := ""
	if r.flags&natIPs != 0 {
		s = r.min.String()
		if r.max != r.min {
			s += "-" + r.max.String()
		}
		if r.min.Is6() && r.flags&natPorts != 0 {
			s = "[" + s + "]"
		}
	}
	if r.flags&natPorts != 0 {
		s += ":" + r.ports()
	}
	return s
}

// addressTarget decodes DNAT and SNAT: revision 0 is for IPv4 alone, 1 for both versions, 2 (DNAT)
// has a base port.
func addressTarget(d *decoding) (firewall.Verdict, bool) {
	if d.rev > 2 || d.rev == 0 && d.v6 {
		return firewall.Verdict{}, false
	}
	r := readRange(d, d.rev == 0)
	v := firewall.Verdict{Kind: firewall.DNAT, Detail: r.to()}
	option := "--to-destination"
	if d.name == "SNAT" {
		v.Kind, option = firewall.SNAT, "--to-source"
	}
	d.flag(v.Detail != "", option, v.Detail)
	d.flag(r.flags&natRandom != 0, "--random")
	d.flag(r.flags&natRandomFully != 0, "--random-fully")
	d.flag(r.flags&natPersistent != 0, "--persistent")
	return v, true
}

// portTarget decodes MASQUERADE and REDIRECT.
func portTarget(d *decoding) (firewall.Verdict, bool) {
	if d.rev != 0 {
		return firewall.Verdict{}, false
	}
	r := readRange(d, !d.v6)
	v := firewall.Verdict{Kind: firewall.Redirect}
	if d.name == "MASQUERADE" {
		v.Kind = firewall.Masquerade
	}
	if r.flags&natPorts != 0 {
		v.Detail = r.ports()
		d.arg("--to-ports", v.Detail)
	}
	d.flag(r.flags&natRandom != 0, "--random")
	d.flag(r.flags&natRandomFully != 0, "--random-fully")
	return v, true
}

// netmapTarget decodes NETMAP: a range that is a network. See Target.At for what it changes.
func netmapTarget(d *decoding) (firewall.Verdict, bool) {
	if d.rev != 0 {
		return firewall.Verdict{}, false
	}
	r := readRange(d, !d.v6)
	a, b := r.min.AsSlice(), r.max.AsSlice()
	for i := range a {
		b[i] = ^(a[i] ^ b[i])
	}
	mask, _ := netip.AddrFromSlice(b)
	to := r.min.String() + "/" + mask.String()
	if bits, ok := PrefixLength(mask); ok {
		to = r.min.String() + "/" + strconv.Itoa(bits)
	}
	d.arg("--to", to)
	return firewall.Verdict{Kind: firewall.DNAT, Detail: to}, true
}
