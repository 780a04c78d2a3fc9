package legacy

import (
	"net/netip"
	"strconv"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/xt"
)

// Flags and inverse flags of struct ipt_ip and struct ip6t_ip6.
const (
	flagFragment = 0x01 // IPT_F_FRAG; IP6T_F_PROTO of IPv6
	flagGoto4    = 0x02
	flagGoto6    = 0x04

	notIn       = 0x01
	notOut      = 0x02
	notSrc      = 0x08
	notDst      = 0x10
	notFragment = 0x20
	notProto    = 0x40
)

// header is struct ipt_ip or struct ip6t_ip6: what every rule may match.
type header struct {
	v6               bool
	src, dst         netip.Addr
	srcMask, dstMask netip.Addr
	in, out          device
	proto            uint16
	flags, not       uint8
}

// device is the name of a device under a mask, each of IFNAMSIZ bytes.
type device struct{ name, mask []byte }

func (d device) String() string { return xt.InterfaceText(d.name, d.mask) }

// empty says that every device fits.
func (d device) empty() bool { return d.mask[0] == 0 }

// Sizes of struct ipt_ip and struct ip6t_ip6.
const (
	header4Size = 84
	header6Size = 136
)

// readHeader reads a header from b, which must be long enough.
func readHeader(v6 bool, b []byte) header {
	h := header{v6: v6}
	n := 4
	if v6 {
		n = 16
	}
	for i, a := range []*netip.Addr{&h.src, &h.dst, &h.srcMask, &h.dstMask} {
		*a, _ = netip.AddrFromSlice(b[i*n : i*n+n])
	}
	b = b[4*n:]
	h.in, h.out = device{b[0:16], b[32:48]}, device{b[16:32], b[48:64]}
	h.proto = native16(b[64:])
	if v6 {
		h.flags, h.not = b[67], b[68] // after tos
	} else {
		h.flags, h.not = b[66], b[67]
	}
	return h
}

// jumpsByGoto reports whether the rule's target is reached by -g instead of -j.
func (h header) jumpsByGoto() bool {
	if h.v6 {
		return h.flags&flagGoto6 != 0
	}
	return h.flags&flagGoto4 != 0
}

// matches returns what the header asks for, in the order in which iptables prints it.
func (h header) matches() []xt.Match {
	var list []xt.Match
	add := func(inverse uint8, text string, judge func(p *firewall.Packet) firewall.Truth) {
		if h.not&inverse != 0 {
			text = "! " + text
			list = append(list, xt.Match{Text: text, Judge: func(p *firewall.Packet) firewall.Truth {
				return judge(p).Not()
			}})
			return
		}
		list = append(list, xt.Match{Text: text, Judge: judge})
	}
	if !isAny(h.src, h.srcMask) || h.not&notSrc != 0 {
		add(notSrc, "-s "+network(h.src, h.srcMask), func(p *firewall.Packet) firewall.Truth {
			return xt.AddrIn(p.Src, h.src, h.srcMask)
		})
	}
	if !isAny(h.dst, h.dstMask) || h.not&notDst != 0 {
		add(notDst, "-d "+network(h.dst, h.dstMask), func(p *firewall.Packet) firewall.Truth {
			return xt.AddrIn(p.Dst, h.dst, h.dstMask)
		})
	}
	if !h.in.empty() {
		add(notIn, "-i "+h.in.String(), func(p *firewall.Packet) firewall.Truth { return h.in.is(p.In, p.InIndex) })
	}
	if !h.out.empty() {
		add(notOut, "-o "+h.out.String(), func(p *firewall.Packet) firewall.Truth { return h.out.is(p.Out, p.OutIndex) })
	}
	if h.proto != 0 {
		add(notProto, "-p "+protocol(h.proto), h.isProto)
	}
	if !h.v6 && h.flags&flagFragment != 0 {
		add(notFragment, "-f", func(p *firewall.Packet) firewall.Truth { return firewall.Of(p.Fragment) })
	}
	return list
}

// isAny reports whether every address fits.
func isAny(addr, mask netip.Addr) bool { return addr.IsUnspecified() && mask.IsUnspecified() }

func network(addr, mask netip.Addr) string {
	if bits, ok := xt.PrefixLength(mask); ok {
		return addr.String() + "/" + strconv.Itoa(bits)
	}
	return addr.String() + "/" + mask.String()
}

// is says whether the device of that name fits; one whose name is not known may.
func (d device) is(name string, index uint32) firewall.Truth {
	if name == "" && index != 0 {
		return firewall.Maybe
	}
	return xt.InterfaceIn(name, d.name, d.mask)
}

func (h header) isProto(p *firewall.Packet) firewall.Truth {
	if p.Proto == 0 {
		return firewall.Maybe
	}
	return firewall.Of(h.proto == uint16(p.Proto))
}

func protocol(number uint16) string {
	if number > 255 {
		return strconv.Itoa(int(number))
	}
	return xt.ProtocolName(uint8(number))
}

// body is what a rule does.
type body struct {
	v6      bool
	matches []xt.Match // those of the header first
	target  xt.Target
}

// Judge says whether all matches fit p, and what the target then does.
func (r *body) Judge(p *firewall.Packet) firewall.Judgement {
	j := firewall.Judgement{Match: firewall.Of(p.IsIPv6() == r.v6), Verdict: r.target.At(p.Hook)}
	for _, m := range r.matches {
		t := m.Judge(p)
		if j.Match = j.Match.And(t); j.Match == firewall.No {
			j.Unjudged = nil
			break
		}
		if t == firewall.Maybe {
			j.Unjudged = append(j.Unjudged, m.Text)
		}
	}
	return j
}

// Verdicts returns what the rule does: one thing, but for NETMAP, which depends on the hook.
func (r *body) Verdicts() []firewall.Verdict {
	before, after := r.target.At(firewall.Prerouting), r.target.At(firewall.Postrouting)
	if before != after {
		return []firewall.Verdict{before, after}
	}
	return []firewall.Verdict{before}
}
