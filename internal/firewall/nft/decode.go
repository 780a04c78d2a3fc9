package nft

import (
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
	"github.com/pathtrace/pathtrace/internal/firewall/xt"
)

// decoder turns the kernel's expressions of one table into those of this package.
type decoder struct {
	family firewall.Family
	sets   map[string]*set
	links  *links
	ipsets xt.Sets // of -m set; nil if they are not known
}

// decodeFunc reads the attributes of one kind of expression; nil if they make no sense.
type decodeFunc func(d *decoder, a nfnl.Attrs) expr

// decode reads one expression; one that is not known is kept as such.
func (d *decoder) decode(e nfnl.Attrs) expr {
	name := e.Str(unix.NFTA_EXPR_NAME)
	if f := decodeFor(name); f != nil {
		if x := f(d, e.Nested(unix.NFTA_EXPR_DATA)); x != nil {
			return x
		}
	}
	return &unknownExpr{name}
}

// decodeFor returns the decoder of the expressions that the kernel calls name, nil if there is none.
func decodeFor(name string) decodeFunc {
	switch name {
	case "payload":
		return decodePayload
	case "cmp":
		return decodeCmp
	case "range":
		return decodeRange
	case "bitwise":
		return decodeBitwise
	case "byteorder":
		return decodeByteorder
	case "lookup":
		return decodeLookup
	case "meta":
		return decodeMeta
	case "ct":
		return decodeCT
	case "fib":
		return decodeFib
	case "immediate":
		return decodeImmediate
	case "match":
		return decodeMatchExpr
	case "target":
		return decodeTargetExpr
	case "counter":
		return func(*decoder, nfnl.Attrs) expr { return &counterExpr{} }
	case "nat", "masq", "redir":
		return func(_ *decoder, a nfnl.Attrs) expr { return decodeNAT(name, a) }
	case "reject":
		return decodeReject
	case "queue", "synproxy", "tproxy", "fwd":
		return func(d *decoder, a nfnl.Attrs) expr { return decodeFinal(d, name, a) }
	case "limit", "quota", "connlimit":
		return func(_ *decoder, a nfnl.Attrs) expr { return &doubtExpr{name, a} }
	case "log", "notrack", "dup", "last", "flow_offload":
		return func(_ *decoder, a nfnl.Attrs) expr { return &effectExpr{name: name, a: a, src: -1} }
	case "objref":
		return decodeObjref
	case "dynset":
		return decodeDynset
	}
	return decodeLoad(name)
}

// decodeLoad decodes the expressions that load what is not known of packets, by the attribute that
// names their register.
func decodeLoad(name string) decodeFunc {
	var dreg int
	switch name {
	case "exthdr", "rt", "tunnel", "xfrm", "osf", "numgen":
		dreg = 1
	case "socket", "hash":
		dreg = 2
	default:
		return nil
	}
	return func(_ *decoder, a nfnl.Attrs) expr {
		at, ok := register(a.U32(dreg), 4)
		if !a.Has(dreg) || !ok {
			src, _ := register(a.U32(unix.NFTA_EXTHDR_SREG), 0)
			return &effectExpr{name: name, a: a, src: src}
		}
		return &loadExpr{name: name, dst: at, a: a}
	}
}

func decodePayload(_ *decoder, a nfnl.Attrs) expr {
	if a.Has(unix.NFTA_PAYLOAD_SREG) {
		src, _ := register(a.U32(unix.NFTA_PAYLOAD_SREG), 0)
		return &effectExpr{name: "payload", a: a, src: src}
	}
	e := &payloadExpr{
		base: int(a.U32(unix.NFTA_PAYLOAD_BASE)), offset: int(a.U32(unix.NFTA_PAYLOAD_OFFSET)),
		length: int(a.U32(unix.NFTA_PAYLOAD_LEN)),
	}
	var ok bool
	if e.dst, ok = register(a.U32(unix.NFTA_PAYLOAD_DREG), e.length); !ok {
		return nil
	}
	return e
}

func decodeCmp(_ *decoder, a nfnl.Attrs) expr {
	e := &cmpExpr{op: int(a.U32(unix.NFTA_CMP_OP)), data: value(&a, unix.NFTA_CMP_DATA)}
	var ok bool
	if e.at, ok = register(a.U32(unix.NFTA_CMP_SREG), len(e.data)); !ok || len(e.data) == 0 {
		return nil
	}
	return e
}

func decodeRange(_ *decoder, a nfnl.Attrs) expr {
	e := &rangeExpr{
		not:  a.U32(unix.NFTA_RANGE_OP) == unix.NFT_RANGE_NEQ,
		from: value(&a, unix.NFTA_RANGE_FROM_DATA), to: value(&a, unix.NFTA_RANGE_TO_DATA),
	}
	var ok bool
	e.at, ok = register(a.U32(unix.NFTA_RANGE_SREG), len(e.from))
	if !ok || len(e.from) == 0 || len(e.from) != len(e.to) {
		return nil
	}
	return e
}

// Attributes of bitwise that x/sys does not have.
const (
	attrBitwiseOp   = 6
	attrBitwiseData = 7
)

func decodeBitwise(_ *decoder, a nfnl.Attrs) expr {
	e := &bitwiseExpr{
		length: int(a.U32(unix.NFTA_BITWISE_LEN)), op: int(a.U32(attrBitwiseOp)),
		mask: value(&a, unix.NFTA_BITWISE_MASK), xor: value(&a, unix.NFTA_BITWISE_XOR),
		shift: int(native32(value(&a, attrBitwiseData))),
	}
	var srcOK, dstOK bool
	e.src, srcOK = register(a.U32(unix.NFTA_BITWISE_SREG), e.length)
	e.dst, dstOK = register(a.U32(unix.NFTA_BITWISE_DREG), e.length)
	if !srcOK || !dstOK {
		return nil
	}
	return e
}

func decodeByteorder(_ *decoder, a nfnl.Attrs) expr {
	e := &byteorderExpr{length: int(a.U32(unix.NFTA_BYTEORDER_LEN)), size: int(a.U32(unix.NFTA_BYTEORDER_SIZE))}
	var srcOK, dstOK bool
	e.src, srcOK = register(a.U32(unix.NFTA_BYTEORDER_SREG), e.length)
	e.dst, dstOK = register(a.U32(unix.NFTA_BYTEORDER_DREG), e.length)
	if !srcOK || !dstOK || e.size > 8 {
		return nil
	}
	return e
}

// attrLookupFlags is NFTA_LOOKUP_FLAGS under a name that says what it is.
const attrLookupFlags = unix.NFTA_LOOKUP_FLAGS

func decodeLookup(d *decoder, a nfnl.Attrs) expr {
	e := &lookupExpr{
		name: a.Str(unix.NFTA_LOOKUP_SET), dst: -1,
		not: a.U32(attrLookupFlags)&unix.NFT_LOOKUP_F_INV != 0,
	}
	e.set = d.sets[e.name]
	length := 4
	if e.set != nil {
		length = e.set.keyLen
	}
	var ok bool
	if e.at, ok = register(a.U32(unix.NFTA_LOOKUP_SREG), length); !ok {
		return nil
	}
	if a.Has(unix.NFTA_LOOKUP_DREG) {
		dreg := a.U32(unix.NFTA_LOOKUP_DREG)
		e.verdicts = dreg == unix.NFT_REG_VERDICT
		e.dst, _ = register(dreg, 0)
	}
	return e
}

func decodeMeta(_ *decoder, a nfnl.Attrs) expr {
	key := int(a.U32(unix.NFTA_META_KEY))
	if a.Has(unix.NFTA_META_SREG) {
		src, _ := register(a.U32(unix.NFTA_META_SREG), 0)
		return &effectExpr{name: "meta", a: a, src: src}
	}
	at, ok := register(a.U32(unix.NFTA_META_DREG), metaLen(key))
	if !ok {
		return nil
	}
	return &metaExpr{key: key, dst: at}
}

func decodeCT(_ *decoder, a nfnl.Attrs) expr {
	if a.Has(unix.NFTA_CT_SREG) {
		src, _ := register(a.U32(unix.NFTA_CT_SREG), 0)
		return &effectExpr{name: "ct", a: a, src: src}
	}
	e := &ctExpr{key: int(a.U32(unix.NFTA_CT_KEY)), dir: -1}
	if a.Has(unix.NFTA_CT_DIRECTION) {
		e.dir = int(a.U8(unix.NFTA_CT_DIRECTION))
	}
	var ok bool
	if e.dst, ok = register(a.U32(unix.NFTA_CT_DREG), 4); !ok {
		return nil
	}
	return e
}

func decodeFib(_ *decoder, a nfnl.Attrs) expr {
	at, ok := register(a.U32(unix.NFTA_FIB_DREG), 4)
	if !ok {
		return nil
	}
	return &fibExpr{at, a.U32(unix.NFTA_FIB_RESULT), a.U32(unix.NFTA_FIB_FLAGS)}
}
