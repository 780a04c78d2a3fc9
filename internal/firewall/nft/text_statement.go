package nft

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// statement writes what is no match.
func (w *writer) statement(i int, e expr) {
	switch e := e.(type) {
	case *counterExpr:
		w.say(i, "counter")
	case *natExpr:
		w.say(i, w.nat(e))
	case *finalExpr:
		w.say(i, w.final(e))
	case *rejectExpr:
		w.say(i, w.reject(e))
	case *doubtExpr:
		w.say(i, w.doubt(e))
	case *effectExpr:
		w.say(i, w.effect(e))
	case *matchExpr:
		// nft shows no more than their names, or a translation.
		w.say(i, e.match.Text)
	case *targetExpr:
		w.say(i, e.target.Text)
	case *unknownExpr:
		w.say(i, e.kind())
	}
}

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

func (w *writer) final(e *finalExpr) string {
	switch e.name {
	case "queue":
		first, total := e.a.U16(unix.NFTA_QUEUE_NUM), e.a.U16(unix.NFTA_QUEUE_TOTAL)
		text := "queue"
		if fl := e.a.U16(unix.NFTA_QUEUE_FLAGS); fl != 0 {
			text += " flags " + flags(uint64(fl), []flag{{1, "bypass"}, {2, "fanout"}})
		}
		text += fmt.Sprintf(" to %d", first)
		if total > 1 {
			text += fmt.Sprintf("-%d", first+total-1)
		}
		return text
	case "fwd":
		at, _ := register(e.a.U32(unix.NFTA_FWD_SREG_DEV), 4)
		return "fwd to " + w.taken(at, typeIfindex, 4)
	case "tproxy":
		text := "tproxy to "
		if at := optional(&e.a, 2); at >= 0 {
			typ := typeIPv4
			if len(w.operand(at).value) == 16 {
				typ = typeIPv6
			}
			text += bracketed(w.taken(at, typ, typ.size()))
		}
		if at := optional(&e.a, 3); at >= 0 {
			text += ":" + w.taken(at, typePort, 2)
		}
		return text
	case "synproxy":
		text := fmt.Sprintf("synproxy mss %d wscale %d", e.a.U16(1), e.a.U8(2))
		for _, f := range []flag{{8, "timestamp"}, {4, "sack-perm"}} {
			if uint64(e.a.U32(3))&f.bit != 0 {
				text += " " + f.name
			}
		}
		return text
	case "objref":
		return "synproxy name " + quoted(e.a.Str(unix.NFTA_OBJREF_IMM_NAME))
	}
	return e.name
}

func (w *writer) reject(e *rejectExpr) string {
	native := w.b.family == firewall.FamilyIP || w.b.family == firewall.FamilyIP6
	switch e.typ {
	case unix.NFT_REJECT_TCP_RST:
		if native {
			w.imply(&operand{layer: layerTransport})
		}
		return "reject with tcp reset"
	case unix.NFT_REJECT_ICMPX_UNREACH:
		if e.code == unix.NFT_REJECT_ICMPX_PORT_UNREACH {
			return "reject"
		}
		names := [...]string{"no-route", "port-unreachable", "host-unreachable", "admin-prohibited"}
		return "reject with icmpx " + names[min(e.code, 3)]
	}
	v6 := w.ctx.ether == ethIPv6
	w.imply(&operand{layer: layerNetwork})
	if native && (v6 && e.code == 4 || !v6 && e.code == 3) {
		return "reject"
	}
	if v6 {
		return "reject with icmpv6 " + symbol(typeICMPv6Code, []byte{e.code})
	}
	return "reject with icmp " + symbol(typeICMPCode, []byte{e.code})
}

func (w *writer) doubt(e *doubtExpr) string {
	switch e.name {
	case "limit":
		return limit(&e.a)
	case "quota":
		over := ""
		if e.a.U32(unix.NFTA_QUOTA_FLAGS)&unix.NFT_QUOTA_F_INV != 0 {
			over = "over "
		}
		n, unit := bytesUnit(e.a.U64(unix.NFTA_QUOTA_BYTES))
		return fmt.Sprintf("quota %s%d %s", over, n, unit)
	case "connlimit":
		over := ""
		if e.a.U32(2)&1 != 0 {
			over = "over "
		}
		return fmt.Sprintf("ct count %s%d", over, e.a.U32(1))
	case "objref":
		return objref(&e.a)
	case "dynset":
		return w.dynset(&e.a)
	}
	return e.name
}

// limit writes a rate limit (nft's limit_stmt_print).
func limit(a *nfnl.Attrs) string {
	over := ""
	if a.U32(unix.NFTA_LIMIT_FLAGS)&unix.NFT_LIMIT_F_INV != 0 {
		over = "over "
	}
	rate, burst := a.U64(unix.NFTA_LIMIT_RATE), uint64(a.U32(unix.NFTA_LIMIT_BURST))
	unit := timeUnit(a.U64(unix.NFTA_LIMIT_UNIT))
	if a.U32(unix.NFTA_LIMIT_TYPE) == unix.NFT_LIMIT_PKT_BYTES {
		n, size := bytesUnit(rate)
		text := fmt.Sprintf("limit rate %s%d %s/%s", over, n, size, unit)
		if burst > 0 && burst != 5 {
			n, size := bytesUnit(burst)
			text += fmt.Sprintf(" burst %d %s", n, size)
		}
		return text
	}
	text := fmt.Sprintf("limit rate %s%d/%s", over, rate, unit)
	if burst > 0 && burst != 5 {
		text += fmt.Sprintf(" burst %d packets", burst)
	}
	return text
}

func timeUnit(seconds uint64) string {
	switch seconds {
	case 1:
		return "second"
	case 60:
		return "minute"
	case 3600:
		return "hour"
	case 86400:
		return "day"
	case 604800:
		return "week"
	}
	return fmt.Sprintf("%d seconds", seconds)
}

func bytesUnit(n uint64) (uint64, string) {
	for i, unit := range []string{"bytes", "kbytes"} {
		if n == 0 || n%1024 != 0 || i == 2 {
			return n, unit
		}
		n /= 1024
	}
	return n, "mbytes"
}

func objref(a *nfnl.Attrs) string {
	name := quoted(a.Str(unix.NFTA_OBJREF_IMM_NAME))
	switch a.U32(unix.NFTA_OBJREF_IMM_TYPE) {
	case unix.NFT_OBJECT_COUNTER:
		return "counter name " + name
	case unix.NFT_OBJECT_QUOTA:
		return "quota name " + name
	case unix.NFT_OBJECT_CT_HELPER:
		return "ct helper set " + name
	case unix.NFT_OBJECT_LIMIT:
		return "limit name " + name
	case unix.NFT_OBJECT_CONNLIMIT:
		return "ct count name " + name
	case unix.NFT_OBJECT_CT_TIMEOUT:
		return "ct timeout set " + name
	case unix.NFT_OBJECT_CT_EXPECT:
		return "ct expectation set " + name
	case unix.NFT_OBJECT_SECMARK:
		return "meta secmark set " + name
	}
	return "object name " + name
}

// effect writes what changes neither verdict nor registers.
func (w *writer) effect(e *effectExpr) string {
	switch e.name {
	case "log":
		return logText(&e.a)
	case "objref":
		return objref(&e.a)
	case "dynset":
		return w.dynset(&e.a)
	case "meta":
		o := metaOperand(&metaExpr{key: int(e.a.U32(unix.NFTA_META_KEY))})
		return o.text + " set " + w.taken(e.src, o.typ, o.n)
	case "ct":
		key := &ctExpr{key: int(e.a.U32(unix.NFTA_CT_KEY)), dir: -1}
		o := ctOperand(key)
		return o.text + " set " + w.taken(e.src, o.typ, o.n)
	case "payload":
		p := &payloadExpr{base: int(e.a.U32(unix.NFTA_PAYLOAD_BASE)), offset: int(e.a.U32(unix.NFTA_PAYLOAD_OFFSET)),
			length: int(e.a.U32(unix.NFTA_PAYLOAD_LEN))}
		o := w.payload(p)
		w.imply(o)
		return o.text + " set " + w.taken(e.src, o.typ, o.n)
	case "exthdr":
		o := &operand{}
		exthdr(&loadExpr{a: e.a}, o)
		w.imply(&operand{layer: layerTransport})
		return o.text + " set " + w.taken(e.src, o.typ, o.n)
	case "dup":
		return w.dup(e)
	case "flow_offload":
		return "flow add @" + e.a.Str(1)
	}
	return e.name
}

func (w *writer) dup(e *effectExpr) string {
	text := "dup"
	if at := optional(&e.a, unix.NFTA_DUP_SREG_ADDR); at >= 0 {
		text += " to " + w.taken(at, typeIPv4, 16)
	}
	if at := optional(&e.a, unix.NFTA_DUP_SREG_DEV); at >= 0 {
		if w.b.family == firewall.FamilyNetdev {
			text += " to"
		} else {
			text += " device"
		}
		text += " " + w.taken(at, typeIfindex, 4)
	}
	return text
}

func logText(a *nfnl.Attrs) string {
	text := "log"
	if a.Has(unix.NFTA_LOG_PREFIX) && a.Str(unix.NFTA_LOG_PREFIX) != "" {
		text += " prefix " + quoted(a.Str(unix.NFTA_LOG_PREFIX))
	}
	if a.Has(unix.NFTA_LOG_GROUP) {
		text += fmt.Sprintf(" group %d", a.U16(unix.NFTA_LOG_GROUP))
	}
	if n := a.U32(unix.NFTA_LOG_SNAPLEN); n != 0 {
		text += fmt.Sprintf(" snaplen %d", n)
	}
	if n := a.U16(unix.NFTA_LOG_QTHRESHOLD); n != 0 {
		text += fmt.Sprintf(" queue-threshold %d", n)
	}
	const warning = 4
	if level := a.U32(unix.NFTA_LOG_LEVEL); a.Has(unix.NFTA_LOG_LEVEL) && level != warning {
		all := []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug", "audit"}
		if int(level) < len(all) {
			text += " level " + all[level]
		}
	}
	return text + logFlags(a.U32(unix.NFTA_LOG_FLAGS))
}

// logFlags writes NF_LOG_* (uapi linux/netfilter/nf_log.h).
func logFlags(n uint32) string {
	const all = 0x2f
	switch {
	case n == 0:
		return ""
	case n == all:
		return " flags all"
	}
	text := ""
	if n&3 == 3 {
		text += " flags tcp sequence,options"
	} else if n&1 != 0 {
		text += " flags tcp sequence"
	} else if n&2 != 0 {
		text += " flags tcp options"
	}
	for _, f := range []flag{{4, "ip options"}, {8, "skuid"}, {32, "ether"}} {
		if uint64(n)&f.bit != 0 {
			text += " flags " + f.name
		}
	}
	return text
}

// dynset writes the adding of an element to a set.
func (w *writer) dynset(a *nfnl.Attrs) string {
	op := [...]string{"add", "update", "delete"}[min(a.U32(unix.NFTA_DYNSET_OP), 2)]
	name := a.Str(unix.NFTA_DYNSET_SET_NAME)
	at, _ := register(a.U32(unix.NFTA_DYNSET_SREG_KEY), 0)
	key := w.operand(at).text
	if s := w.b.sets[name]; s != nil {
		var texts []string
		for _, o := range w.parts(at, s.keyLen) {
			w.imply(o)
			texts = append(texts, o.text)
		}
		key = strings.Join(texts, " . ")
	}
	text := op + " @" + name + " { " + key
	if ms := a.U64(unix.NFTA_DYNSET_TIMEOUT); ms != 0 {
		text += " timeout " + duration(ms)
	}
	for _, e := range dynsetExprs(a) {
		d := decoder{family: w.b.family}
		switch x := d.decode(e).(type) {
		case *doubtExpr:
			text += " " + w.doubt(x)
		case *counterExpr:
			text += " counter"
		}
	}
	return text + " }"
}

func dynsetExprs(a *nfnl.Attrs) []nfnl.Attrs {
	if a.Has(unix.NFTA_DYNSET_EXPR) {
		return []nfnl.Attrs{a.Nested(unix.NFTA_DYNSET_EXPR)}
	}
	var all []nfnl.Attrs
	_ = nfnl.List(a[attrDynsetExprs], func(e nfnl.Attrs) error { all = append(all, e); return nil })
	return all
}

// duration writes milliseconds as nft's time_print does: "1d2h3m4s5ms".
func duration(ms uint64) string {
	text := ""
	for _, u := range []struct {
		ms   uint64
		unit string
	}{{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}} {
		if n := ms / u.ms; n > 0 {
			text += fmt.Sprintf("%d%s", n, u.unit)
			ms %= u.ms
		}
	}
	return text
}
