package nft

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

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
