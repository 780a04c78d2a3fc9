package nft

import (
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// Flags of NAT (uapi linux/netfilter/nf_nat.h).
const (
	natProtoRandom      = 1 << 2
	natPersistent       = 1 << 3
	natProtoRandomFully = 1 << 4
	natNetmap           = 1 << 6
)

func (w *writer) nat(e *natExpr) string {
	text := map[string]string{"masq": "masquerade", "redir": "redirect", "nat": "dnat"}[e.name]
	if e.source {
		text = "snat"
	}
	wide := w.b.family == firewall.FamilyInet || w.b.family == firewall.FamilyBridge
	if e.name == "nat" {
		if e.flags&natNetmap != 0 {
			text += " prefix"
		}
		if wide || w.oneMap(e) {
			text += map[uint8]string{unix.NFPROTO_IPV4: " ip", unix.NFPROTO_IPV6: " ip6"}[e.family]
		}
	}
	if target := w.natTarget(e); target != "" {
		text += " to " + target
	}
	var fl []string
	for _, f := range []flag{{natProtoRandom, "random"}, {natProtoRandomFully, "fully-random"}, {natPersistent, "persistent"}} {
		if uint64(e.flags)&f.bit != 0 {
			fl = append(fl, f.name)
		}
	}
	if len(fl) > 0 {
		text += " " + strings.Join(fl, ",")
	}
	return text
}

func (w *writer) natTarget(e *natExpr) string {
	typ := typeIPv4
	if e.family == unix.NFPROTO_IPV6 {
		typ = typeIPv6
	}
	host := w.spanOf(e.addr, typ, typ.size())
	port := w.spanOf(e.port, typePort, 2)
	if w.oneMap(e) {
		return host
	}
	if port == "" {
		return host
	}
	return bracketed(host) + ":" + port
}

// oneMap reports whether address and port come from one map.
func (w *writer) oneMap(e *natExpr) bool {
	return e.addr[0] >= 0 && w.held[e.addr[0]/4] != nil && e.port[0] >= 0 && w.held[e.port[0]/4] == nil
}

// spanOf writes what two registers hold, which are the same one if there is only one value.
func (w *writer) spanOf(at [2]int, typ dataType, n int) string {
	if at[0] < 0 || w.held[at[0]/4] == nil {
		return ""
	}
	text := w.taken(at[0], typ, n)
	if at[1] >= 0 && at[1] != at[0] && w.held[at[1]/4] != nil {
		if last := w.taken(at[1], typ, n); last != text {
			text += "-" + last
		}
	}
	return text
}

// taken writes what a statement takes from a register: a value or an expression.
func (w *writer) taken(at int, typ dataType, n int) string {
	o := w.operand(at)
	if o.value == nil {
		return o.text + w.changed(o)
	}
	return w.value(&operand{typ: typ}, o.value[:min(max(n, 0), len(o.value))])
}

// changed writes what a bitwise made of an operand that is taken as a value.
func (w *writer) changed(o *operand) string {
	if o.mask == nil || len(o.mask) != len(o.xor) {
		return ""
	}
	keeps, flips, sets, fresh := true, true, true, true
	for i := range o.mask {
		keeps = keeps && o.xor[i] == 0
		flips = flips && o.mask[i] == 0xff
		sets = sets && o.mask[i] == ^o.xor[i]
		fresh = fresh && o.mask[i]&o.xor[i] == 0
	}
	switch {
	case keeps:
		return " & " + w.value(o, o.mask)
	case sets:
		return " | " + w.value(o, o.xor)
	case flips:
		return " ^ " + w.value(o, o.xor)
	}
	if fresh {
		return " & " + w.value(o, o.mask) + " | " + w.value(o, o.xor)
	}
	return " & " + w.value(o, o.mask) + " ^ " + w.value(o, o.xor)
}
