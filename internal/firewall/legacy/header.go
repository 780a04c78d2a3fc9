package legacy

import (
	"net/netip"
	"strconv"
	"strings"

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

// part is one option of a header.
type part struct {
	text  string // as iptables prints it, "! -i eth0"
	truth firewall.Truth
}

// parts returns the header's options in the order in which iptables prints them, judged for p if it is
// not nil.
func (h header) parts(p *firewall.Packet) []part {
	var list []part
	if p == nil {
		p = &firewall.Packet{}
	}
	add := func(inverse uint8, text string, truth firewall.Truth) {
		if h.not&inverse != 0 {
			text, truth = "! "+text, truth.Not()
		}
		list = append(list, part{text, truth})
	}
	if !any(h.src, h.srcMask) || h.not&notSrc != 0 {
		add(notSrc, "-s "+network(h.src, h.srcMask), xt.AddrIn(p.Src, h.src, h.srcMask))
	}
	if !any(h.dst, h.dstMask) || h.not&notDst != 0 {
		add(notDst, "-d "+network(h.dst, h.dstMask), xt.AddrIn(p.Dst, h.dst, h.dstMask))
	}
	if !h.in.empty() {
		add(notIn, "-i "+xt.InterfaceText(h.in.name, h.in.mask), h.in.is(p.In, p.InIndex))
	}
	if !h.out.empty() {
		add(notOut, "-o "+xt.InterfaceText(h.out.name, h.out.mask), h.out.is(p.Out, p.OutIndex))
	}
	if h.proto != 0 {
		add(notProto, "-p "+protocol(h.proto), h.isProto(p))
	}
	if !h.v6 && h.flags&flagFragment != 0 {
		add(notFragment, "-f", firewall.Of(p.Fragment))
	}
	return list
}

// any reports whether every address fits.
func any(addr, mask netip.Addr) bool { return addr.IsUnspecified() && mask.IsUnspecified() }

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

// text is the header as iptables prints it, each option after a space.
func (h header) text() string {
	var b strings.Builder
	for _, part := range h.parts(nil) {
		b.WriteByte(' ')
		b.WriteString(part.text)
	}
	return b.String()
}

// body is what a rule does.
type body struct {
	header  header
	matches []xt.Match
	verdict firewall.Verdict
}

// Judge says whether the header and all matches fit p, and what the target then does.
func (r *body) Judge(p *firewall.Packet) firewall.Judgement {
	j := firewall.Judgement{Match: firewall.Yes, Verdict: r.verdict}
	if p.IsIPv6() != r.header.v6 {
		j.Match = firewall.No
		return j
	}
	add := func(text string, t firewall.Truth) {
		j.Match = j.Match.And(t)
		if t == firewall.Maybe {
			j.Unjudged = append(j.Unjudged, text)
		}
	}
	for _, part := range r.header.parts(p) {
		add(part.text, part.truth)
	}
	for _, m := range r.matches {
		if j.Match == firewall.No {
			break
		}
		add(m.Text, m.Judge(p))
	}
	if j.Match != firewall.Maybe {
		j.Unjudged = nil
	}
	return j
}

// Verdicts returns the one thing that the rule does.
func (r *body) Verdicts() []firewall.Verdict { return []firewall.Verdict{r.verdict} }
