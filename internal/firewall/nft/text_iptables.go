package nft

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// The order in which iptables shows a rule's parts: its own fields, then matches as they come, then
// the target.
const (
	rankSource = iota
	rankDestination
	rankIn
	rankOut
	rankProto
	rankFragment
	rankMatch
	rankTarget
)

// iptables writes the rule as `iptables -S`, `ip6tables -S` or, in the bridge family, `ebtables-save`
// does; ok is false for a rule that none of them can have written.
func (w *writer) iptables(c *firewall.Chain, comment string) (text string, ok bool) {
	x := iptablesWriter{writer: w, transport: -1}
	for i := range w.b.exprs {
		if !x.expr(i) {
			return "", false
		}
	}
	if comment != "" {
		x.say(len(w.b.exprs)-1, rankMatch, "-m comment --comment "+shellQuoted(comment))
	}
	if w.b.family == firewall.FamilyBridge && !slices.ContainsFunc(x.out, func(p piece) bool { return p.rank == rankTarget }) {
		x.say(-1, rankTarget, "-j CONTINUE")
	}
	w.b.words = make([]string, len(w.b.exprs))
	for _, p := range x.out {
		if p.at >= 0 && (w.b.words[p.at] == "" || p.rank == rankTarget || p.rank == rankARPTarget) {
			w.b.words[p.at] = p.text
		}
	}
	slices.SortStableFunc(x.out, func(a, b piece) int { return a.rank - b.rank })
	if w.b.policy {
		return "-P " + c.Name + strings.TrimPrefix(x.out[len(x.out)-1].text, "-j"), true
	}
	parts := []string{"-A " + c.Name}
	for _, p := range x.out {
		parts = append(parts, p.text)
	}
	return strings.Join(parts, " "), true
}

// iptablesWriter writes one rule in iptables' language.
type iptablesWriter struct {
	*writer
	out []piece
	// transport is the piece of -m tcp or -m udp, to which later options are added; -1 if none.
	transport int
	options   []string
}

func (x *iptablesWriter) say(at, rank int, text string) {
	x.out = append(x.out, piece{at: at, rank: rank, text: text})
}

// target writes the target, which arptables shows first.
func (x *iptablesWriter) target(at int, text string) {
	if x.b.family == firewall.FamilyARP {
		x.say(at, rankARPTarget, text)
		return
	}
	x.say(at, rankTarget, text)
}

// expr writes expression i; false if iptables does not write such.
func (x *iptablesWriter) expr(i int) bool {
	switch e := x.b.exprs[i].(type) {
	case *payloadExpr, *metaExpr, *bitwiseExpr:
		x.nft(i)
	case *counterExpr:
	case *cmpExpr:
		return x.cmp(i, e)
	case *rangeExpr:
		return x.ports(i, x.operand(e.at), e.not, e.from, e.to)
	case *doubtExpr:
		if e.name != "limit" {
			return false
		}
		x.say(i, rankMatch, limitText(&e.a))
	case *matchExpr:
		x.say(i, rankMatch, e.match.Text)
	case *targetExpr:
		x.target(i, e.target.Text)
	case *effectExpr:
		if e.name != "log" {
			return false
		}
		x.target(i, nflog(&e.a))
	case *immediateExpr:
		text, ok := iptablesVerdict(e)
		if ok && text != "" {
			x.target(i, text)
		}
		return ok
	default:
		return false
	}
	return true
}

func iptablesVerdict(e *immediateExpr) (string, bool) {
	if e.dst >= 0 {
		return "", false
	}
	switch e.verdict.Kind {
	case firewall.Accept:
		return "-j ACCEPT", true
	case firewall.Drop:
		return "-j DROP", true
	case firewall.Return:
		return "-j RETURN", true
	case firewall.Jump:
		return "-j " + e.verdict.Chain, true
	case firewall.Goto:
		return "-g " + e.verdict.Chain, true
	case firewall.Continue:
		return "", true
	}
	return "", false
}

// cmp writes a comparison.
func (x *iptablesWriter) cmp(i int, e *cmpExpr) bool {
	o := x.operand(e.at)
	if o.parts != nil && e.op == unix.NFT_CMP_EQ && len(e.data) == o.n {
		return x.both(i, o, e)
	}
	if slices.ContainsFunc(o.xor, func(b byte) bool { return b != 0 }) {
		return false
	}
	if x.b.family == firewall.FamilyBridge && o.text == "ether type" && e.op == unix.NFT_CMP_LT {
		x.say(i, rankEther, "-p Length")
		return true
	}
	if e.op != unix.NFT_CMP_EQ && e.op != unix.NFT_CMP_NEQ {
		return x.portRange(i, o, e)
	}
	switch x.b.family {
	case firewall.FamilyBridge:
		return x.frame(i, o, e)
	case firewall.FamilyARP:
		return x.arp(i, o, e)
	}
	return x.field(i, o, e)
}

// field writes the comparison of a field for equality.
func (x *iptablesWriter) field(i int, o *operand, e *cmpExpr) bool {
	not := ""
	if e.op == unix.NFT_CMP_NEQ {
		not = "! "
	}
	switch o.text {
	case "ip saddr", "ip6 saddr":
		x.say(i, rankSource, not+"-s "+addressMask(o, e.data))
		return true
	case "ip daddr", "ip6 daddr":
		x.say(i, rankDestination, not+"-d "+addressMask(o, e.data))
		return true
	case "ip frag-off":
		return x.fragment(i, o, e)
	case "meta mark":
		x.say(i, rankMatch, "-m mark "+not+"--mark "+markMask(o, e.data))
		return true
	case "tcp flags":
		mask := o.mask
		if mask == nil {
			mask = []byte{0xff}
		}
		x.option(i, "tcp", not+"--tcp-flags "+tcpFlags(mask[0])+" "+tcpFlags(e.data[0]))
		return true
	}
	if o.mask != nil {
		return false // of no other field does iptables compare some bits
	}
	switch o.text {
	case "iifname":
		x.say(i, rankIn, not+"-i "+wildcard(e.data))
	case "oifname":
		x.say(i, rankOut, not+"-o "+wildcard(e.data))
	case "meta l4proto":
		x.say(i, rankProto, not+"-p "+protocolName(e.data))
		if e.op == unix.NFT_CMP_EQ {
			x.ctx.l4 = int(e.data[0])
		}
	default:
		return x.ports(i, o, not != "", e.data, e.data)
	}
	return true
}

// fragment writes the comparison of the fragment's offset with 0.
func (x *iptablesWriter) fragment(i int, o *operand, e *cmpExpr) bool {
	if !bytes.Equal(o.mask, []byte{0x1f, 0xff}) || !bytes.Equal(e.data, []byte{0, 0}) {
		return false
	}
	if e.op == unix.NFT_CMP_EQ {
		x.say(i, rankFragment, "! -f")
	} else {
		x.say(i, rankFragment, "-f")
	}
	return true
}

// both writes the comparison of two ports at once.
func (x *iptablesWriter) both(i int, o *operand, e *cmpExpr) bool {
	at := 0
	for _, part := range o.parts {
		value := e.data[at : at+part.n]
		if !x.ports(i, part, false, value, value) {
			return false
		}
		at += part.n
	}
	return true
}

// portRange writes the comparisons with both ends of a range, or with one where the other is open.
func (x *iptablesWriter) portRange(i int, o *operand, e *cmpExpr) bool {
	if before, ok := x.rangeBefore(i, e); ok {
		return x.ports(i, o, false, before.data, e.data)
	}
	if i+1 < len(x.b.exprs) {
		if next, ok := x.b.exprs[i+1].(*cmpExpr); ok && next.op == unix.NFT_CMP_LTE && e.op == unix.NFT_CMP_GTE {
			return true // the next expression writes both
		}
	}
	switch {
	case len(e.data) != 2:
		return false
	case e.op == unix.NFT_CMP_GTE:
		return x.ports(i, o, false, e.data, []byte{0xff, 0xff})
	case e.op == unix.NFT_CMP_LTE:
		return x.ports(i, o, false, []byte{0, 0}, e.data)
	}
	return false
}

func (x *iptablesWriter) rangeBefore(i int, e *cmpExpr) (*cmpExpr, bool) {
	if i == 0 || e.op != unix.NFT_CMP_LTE {
		return nil, false
	}
	before, ok := x.b.exprs[i-1].(*cmpExpr)
	return before, ok && before.op == unix.NFT_CMP_GTE && before.at == e.at
}

// ports writes a port or a range of ports.
func (x *iptablesWriter) ports(i int, o *operand, not bool, from, to []byte) bool {
	proto, which, ok := strings.Cut(o.text, " ")
	if !ok || which != "sport" && which != "dport" || len(from) != 2 || len(to) != 2 {
		return false
	}
	text := "--" + which + " " + decimal(bigEndian(from))
	if !bytes.Equal(from, to) {
		text += ":" + decimal(bigEndian(to))
	}
	if not {
		text = "! " + text
	}
	x.option(i, proto, text)
	return true
}

// option adds an option to the match of a transport protocol.
func (x *iptablesWriter) option(i int, proto, text string) {
	if x.transport < 0 {
		x.transport = len(x.out)
		x.say(i, rankMatch, "-m "+proto)
	}
	x.options = append(x.options, text)
	// Ports come first, as the match's save function has them.
	slices.SortStableFunc(x.options, func(a, b string) int { return optionRank(a) - optionRank(b) })
	p := &x.out[x.transport]
	p.text, p.at = "-m "+proto+" "+strings.Join(x.options, " "), i
}

func optionRank(text string) int {
	switch {
	case strings.Contains(text, "--sport"):
		return 0
	case strings.Contains(text, "--dport"):
		return 1
	}
	return 2
}
