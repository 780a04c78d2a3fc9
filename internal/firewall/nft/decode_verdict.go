package nft

import (
	"bytes"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

func decodeImmediate(_ *decoder, a nfnl.Attrs) expr {
	data := a.Nested(unix.NFTA_IMMEDIATE_DATA)
	if data.Has(unix.NFTA_DATA_VERDICT) {
		return &immediateExpr{dst: -1, verdict: verdictOf(data.Nested(unix.NFTA_DATA_VERDICT))}
	}
	value := data[unix.NFTA_DATA_VALUE]
	at, ok := register(a.U32(unix.NFTA_IMMEDIATE_DREG), len(value))
	if !ok || at < 16 {
		return nil
	}
	return &immediateExpr{dst: at, data: bytes.Clone(value)}
}

// optional is the place of a register that need not be there, -1 then.
func optional(a *nfnl.Attrs, i int) int {
	if !a.Has(i) {
		return -1
	}
	at, ok := register(a.U32(i), 2)
	if !ok {
		return -1
	}
	return at
}

func decodeNAT(name string, a nfnl.Attrs) expr {
	e := &natExpr{name: name, addr: [2]int{-1, -1}}
	switch name {
	case "nat":
		e.source = a.U32(unix.NFTA_NAT_TYPE) == unix.NFT_NAT_SNAT
		e.family = uint8(a.U32(unix.NFTA_NAT_FAMILY))
		e.flags = a.U32(unix.NFTA_NAT_FLAGS)
		e.addr = [2]int{optional(&a, unix.NFTA_NAT_REG_ADDR_MIN), optional(&a, unix.NFTA_NAT_REG_ADDR_MAX)}
		e.port = [2]int{optional(&a, unix.NFTA_NAT_REG_PROTO_MIN), optional(&a, unix.NFTA_NAT_REG_PROTO_MAX)}
		e.verdict = firewall.DNAT
		if e.source {
			e.verdict = firewall.SNAT
		}
	case "masq":
		e.flags = a.U32(unix.NFTA_MASQ_FLAGS)
		e.port = [2]int{optional(&a, unix.NFTA_MASQ_REG_PROTO_MIN), optional(&a, unix.NFTA_MASQ_REG_PROTO_MAX)}
		e.verdict = firewall.Masquerade
	case "redir":
		e.flags = a.U32(unix.NFTA_REDIR_FLAGS)
		e.port = [2]int{optional(&a, unix.NFTA_REDIR_REG_PROTO_MIN), optional(&a, unix.NFTA_REDIR_REG_PROTO_MAX)}
		e.verdict = firewall.Redirect
	}
	return e
}

func decodeFinal(_ *decoder, name string, a nfnl.Attrs) expr {
	v := firewall.Verdict{Kind: firewall.Stolen, Detail: name}
	if name == "queue" {
		v = firewall.Verdict{Kind: firewall.Queue}
	}
	return &finalExpr{name: name, a: a, verdict: v}
}

func decodeReject(_ *decoder, a nfnl.Attrs) expr {
	return &rejectExpr{a.U32(unix.NFTA_REJECT_TYPE), a.U8(unix.NFTA_REJECT_ICMP_CODE)}
}

// decodeObjref reads the use of a named object: a counter changes nothing, a limit may not match.
func decodeObjref(_ *decoder, a nfnl.Attrs) expr {
	switch a.U32(unix.NFTA_OBJREF_IMM_TYPE) {
	case unix.NFT_OBJECT_LIMIT, unix.NFT_OBJECT_QUOTA, unix.NFT_OBJECT_CONNLIMIT:
		return &doubtExpr{"objref", a}
	case unix.NFT_OBJECT_SYNPROXY:
		return &finalExpr{"objref", a, firewall.Verdict{Kind: firewall.Stolen, Detail: "synproxy"}}
	}
	return &effectExpr{name: "objref", a: a, src: -1}
}

// decodeDynset reads the adding to a set, which fails if an expression of the element does.
func decodeDynset(_ *decoder, a nfnl.Attrs) expr {
	if a.Has(unix.NFTA_DYNSET_EXPR) || a.Has(attrDynsetExprs) || a.U32(unix.NFTA_DYNSET_OP) == dynsetDelete {
		return &doubtExpr{"dynset", a}
	}
	src, _ := register(a.U32(unix.NFTA_DYNSET_SREG_KEY), 0)
	return &effectExpr{name: "dynset", a: a, src: src}
}

// Of uapi nf_tables.h, not in x/sys.
const (
	attrDynsetExprs = 10
	dynsetDelete    = 2
)
