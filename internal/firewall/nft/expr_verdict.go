package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// immediateExpr puts a value into a register, or is the rule's verdict (nft_immediate.c).
type immediateExpr struct {
	dst     int // -1: verdict
	data    []byte
	verdict firewall.Verdict
}

func (e *immediateExpr) eval(m *machine) {
	if e.dst < 0 {
		m.end(e.verdict)
		return
	}
	m.set(e.dst, e.data)
}

// verdictOf reads the attributes of a verdict.
func verdictOf(a nfnl.Attrs) firewall.Verdict {
	v := firewall.Verdict{Chain: a.Str(unix.NFTA_VERDICT_CHAIN)}
	switch code := int32(a.U32(unix.NFTA_VERDICT_CODE)); code {
	case unix.NFT_JUMP:
		v.Kind = firewall.Jump
	case unix.NFT_GOTO:
		v.Kind = firewall.Goto
	case unix.NFT_RETURN:
		v.Kind = firewall.Return
	case unix.NFT_CONTINUE, unix.NFT_BREAK:
		v.Kind = firewall.Continue
	case nfDrop:
		v.Kind = firewall.Drop
	case nfAccept:
		v.Kind = firewall.Accept
	case nfStolen:
		v.Kind = firewall.Stolen
	default:
		// The queue's number is in the upper half (uapi linux/netfilter.h).
		v.Kind = firewall.Unknown
		if code&0xff == nfQueue {
			v.Kind = firewall.Queue
		}
	}
	return v
}

// Verdicts of uapi linux/netfilter.h.
const (
	nfDrop   = 0
	nfAccept = 1
	nfStolen = 2
	nfQueue  = 3
)

// counterExpr counts (nft_counter.c); what it counted is of the rule, not of its body.
type counterExpr struct{}

func (e *counterExpr) eval(*machine) {}

// effectExpr does something that changes neither where the packet goes nor the registers: a log entry, a
// mark, no connection tracking.
type effectExpr struct {
	name string
	a    nfnl.Attrs
	src  int // register it takes a value from, -1 if none
}

func (e *effectExpr) eval(m *machine) { m.untracks = m.untracks || e.name == "notrack" }

// natExpr translates (nft_nat.c, nft_masq.c, nft_redir.c).
type natExpr struct {
	name    string // nat, masq, redir
	source  bool
	family  uint8
	flags   uint32
	addr    [2]int // registers of the first and last address, -1 if none
	port    [2]int
	verdict firewall.VerdictKind
}

func (e *natExpr) eval(m *machine) {
	v6 := m.p.IsIPv6()
	if !m.everything && (e.family == unix.NFPROTO_IPV4 && v6 || e.family == unix.NFPROTO_IPV6 && !v6) {
		return // nft_nat_inet_eval passes over the other family
	}
	m.end(firewall.Verdict{Kind: e.verdict, Detail: e.detail(m)})
}

// detail is the target as far as the registers are known.
func (e *natExpr) detail(m *machine) string {
	host := e.addressText(m, 0)
	if last := e.addressText(m, 1); last != "" && last != host {
		host += "-" + last
	}
	port := e.portText(m, 0)
	if last := e.portText(m, 1); last != "" && last != port {
		port += "-" + last
	}
	if port == "" {
		return host
	}
	return bracketed(host) + ":" + port
}

// bracketed sets brackets around an IPv6 address before a port.
func bracketed(host string) string {
	for _, r := range host {
		if r == ':' {
			return "[" + host + "]"
		}
	}
	return host
}

func (e *natExpr) addressText(m *machine, i int) string {
	length := 4
	if e.family == unix.NFPROTO_IPV6 {
		length = 16
	}
	val, known := m.reg(e.addr[i], length)
	if val == nil || !allKnown(known) {
		return ""
	}
	a, _ := netip.AddrFromSlice(val)
	return a.String()
}

func (e *natExpr) portText(m *machine, i int) string {
	val, known := m.reg(e.port[i], 2)
	if val == nil || !allKnown(known) {
		return ""
	}
	return fmt.Sprint(binary.BigEndian.Uint16(val))
}

// finalExpr ends the rule with a verdict of its own: reject, queue, synproxy and others.
type finalExpr struct {
	name    string
	a       nfnl.Attrs
	verdict firewall.Verdict
}

func (e *finalExpr) eval(m *machine) { m.end(e.verdict) }

// rejectExpr answers and discards (nft_reject.c).
type rejectExpr struct {
	typ  uint32
	code uint8
}

func (e *rejectExpr) eval(m *machine) {
	if m.everything && m.family != firewall.FamilyIP && m.family != firewall.FamilyIP6 {
		m.end(firewall.Verdict{Kind: firewall.Reject, Detail: e.detail(false)})
		m.end(firewall.Verdict{Kind: firewall.Reject, Detail: e.detail(true)})
		return
	}
	m.end(firewall.Verdict{Kind: firewall.Reject, Detail: e.detail(m.family == firewall.FamilyIP6 || m.p.IsIPv6())})
}

// detail names the answer as the REJECT of iptables and ip6tables does. The codes of ICMPX stand for
// one of each version of IP (nft_reject_icmp_code).
func (e *rejectExpr) detail(v6 bool) string {
	code := e.code
	switch {
	case e.typ == unix.NFT_REJECT_TCP_RST:
		return "tcp-reset"
	case e.typ == unix.NFT_REJECT_ICMPX_UNREACH && v6:
		code = [...]uint8{0, 4, 3, 1}[min(code, 3)]
	case e.typ == unix.NFT_REJECT_ICMPX_UNREACH:
		code = [...]uint8{0, 3, 1, 13}[min(code, 3)]
	}
	if v6 {
		return icmp6Reject(code)
	}
	return icmpReject(code)
}

// icmpReject names a code of ICMP destination unreachable as iptables' REJECT does.
func icmpReject(code uint8) string {
	if code == 2 {
		return "icmp-proto-unreachable" // nft calls it prot-unreachable
	}
	return "icmp-" + symbol(typeICMPCode, []byte{code})
}

// icmp6Reject names a code of ICMPv6 destination unreachable as ip6tables' REJECT does.
func icmp6Reject(code uint8) string {
	if code == 1 {
		return "icmp6-adm-prohibited" // nft calls it admin-prohibited
	}
	return "icmp6-" + symbol(typeICMPv6Code, []byte{code})
}
