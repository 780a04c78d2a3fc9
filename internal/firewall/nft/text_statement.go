package nft

import (
	"fmt"

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
