package nft

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// masked is an operand after a bitwise.
func (w *writer) masked(e *bitwiseExpr) *operand {
	o := *w.operand(e.src)
	switch {
	case e.op == unix.NFT_BITWISE_BOOL:
		o.mask, o.xor = e.mask, e.xor
	case e.op == bitwiseLeft:
		o.text += " << " + decimal(uint64(e.shift))
	case e.op == bitwiseRight:
		o.text += " >> " + decimal(uint64(e.shift))
	}
	return &o
}

// cmp writes a comparison; two that are the ends of a range become one.
func (w *writer) cmp(i int, e *cmpExpr) {
	o := w.operand(e.at)
	if o.mask != nil {
		w.cmpMasked(i, o, e)
		return
	}
	if o.parts != nil && e.op == unix.NFT_CMP_EQ && len(e.data) == o.n {
		at := 0
		for _, part := range o.parts {
			w.match(i, part, "", w.value(part, e.data[at:at+part.n]))
			at += part.n
		}
		return
	}
	if before, ok := w.rangeStart(i, e); ok {
		last := &w.out[len(w.out)-1]
		last.at, last.text = i, o.text+" "+w.value(o, before.data)+"-"+w.value(o, e.data)
		return
	}
	if o.width > len(e.data) || o.typ.prefixes() && o.n > len(e.data) {
		w.match(i, o, operator(e.op), w.prefix(o, e.data, len(e.data)*8))
		return
	}
	at := w.match(i, o, operator(e.op), w.value(o, e.data))
	if e.op == unix.NFT_CMP_EQ {
		w.learn(o, e.data, at)
	}
}

// rangeStart returns the comparison before, if both together are a range.
func (w *writer) rangeStart(i int, e *cmpExpr) (*cmpExpr, bool) {
	if i == 0 || e.op != unix.NFT_CMP_LTE {
		return nil, false
	}
	before, ok := w.b.exprs[i-1].(*cmpExpr)
	return before, ok && before.op == unix.NFT_CMP_GTE && before.at == e.at && len(w.out) > 0
}

func operator(op int) string {
	switch op {
	case unix.NFT_CMP_NEQ:
		return "!= "
	case unix.NFT_CMP_LT:
		return "< "
	case unix.NFT_CMP_LTE:
		return "<= "
	case unix.NFT_CMP_GT:
		return "> "
	case unix.NFT_CMP_GTE:
		return ">= "
	}
	return ""
}

// match writes a match and returns its place.
func (w *writer) match(i int, o *operand, op, value string) int {
	w.imply(o)
	return w.say(i, o.text+" "+op+value)
}

// imply marks what a field of a protocol makes superfluous.
func (w *writer) imply(o *operand) {
	switch {
	case o.layer == layerTransport && w.ctx.l4Piece >= 0:
		w.out[w.ctx.l4Piece].implied = true
		w.ctx.l4Piece = -1
		if w.ctx.l4 == unix.IPPROTO_ICMP || w.ctx.l4 == unix.IPPROTO_ICMPV6 {
			w.imply(&operand{layer: layerNetwork}) // each belongs to one version of IP
		}
	case o.layer == layerNetwork && w.ctx.etherPiece >= 0:
		w.out[w.ctx.etherPiece].implied = true
		w.ctx.etherPiece = -1
	case o.layer == layerLink && w.ctx.linkPiece >= 0:
		w.out[w.ctx.linkPiece].implied = true
		w.ctx.linkPiece = -1
	}
}

// learn notes what an equality says about the protocols.
func (w *writer) learn(o *operand, value []byte, at int) {
	switch {
	case o.layer == layerEther && len(value) == 2:
		w.ctx.ether, w.ctx.etherPiece = uint16(value[0])<<8|uint16(value[1]), at
	case o.layer == layerEther && len(value) == 1:
		switch value[0] {
		case unix.NFPROTO_IPV4:
			w.ctx.ether, w.ctx.etherPiece = ethIP, at
		case unix.NFPROTO_IPV6:
			w.ctx.ether, w.ctx.etherPiece = ethIPv6, at
		}
	case o.text == "meta iiftype":
		w.ctx.linkPiece = at
	case (o.layer == layerProto || o.text == "ip protocol" || o.text == "ip6 nexthdr") && len(value) == 1:
		w.ctx.l4, w.ctx.l4Piece = int(value[0]), at
	}
}

// cmpMasked writes the comparison of some bits of a field.
func (w *writer) cmpMasked(i int, o *operand, e *cmpExpr) {
	if len(o.mask) != len(e.data) || len(o.xor) != len(e.data) {
		w.match(i, o, "& "+hex(o.mask)+" "+equality(e.op), hex(e.data))
		return
	}
	zero := bytes.Count(e.data, []byte{0}) == len(e.data)
	n, contiguous := prefixLen(o.mask)
	if name, shift, ok := bitField(o.text, o.mask); ok {
		w.match(i, &operand{text: name, layer: o.layer}, operator(e.op), decimal(bigEndian(e.data)>>shift))
		return
	}
	switch {
	case o.typ == typeDSCP:
		w.match(i, o, operator(e.op), dscp(e.data))
	case o.typ == typeVLAN:
		w.match(i, o, operator(e.op), w.value(o, e.data))
	case o.typ.bitmask() && zero && e.op == unix.NFT_CMP_NEQ:
		w.match(i, o, "", w.value(o, o.mask))
	case o.typ.bitmask() && zero && e.op == unix.NFT_CMP_EQ:
		w.match(i, o, "! ", w.value(o, o.mask))
	case o.typ.bitmask():
		w.match(i, o, operator(e.op), w.value(o, e.data)+" / "+w.value(o, o.mask))
	case o.typ.prefixes() && contiguous:
		w.match(i, o, operator(e.op), w.prefix(o, e.data, n))
	default:
		w.match(i, o, "& "+w.value(o, o.mask)+" "+equality(e.op), w.value(o, e.data))
	}
}

// equality is an operator where nft writes "==".
func equality(op int) string {
	if op == unix.NFT_CMP_EQ {
		return "== "
	}
	return operator(op)
}

// prefix writes the start of an address with its length.
func (w *writer) prefix(o *operand, start []byte, n int) string {
	full := slices.Concat(start, make([]byte, max(max(o.width, o.typ.size())-len(start), 0)))
	if o.typ == typeIfname {
		return quoted(unix.ByteSliceToString(start) + "*")
	}
	return w.value(o, full) + "/" + decimal(uint64(n))
}

// lookup writes a look-up in a set or map.
func (w *writer) lookup(i int, e *lookupExpr) {
	length := 4
	if e.set != nil {
		length = e.set.keyLen
	}
	parts := w.parts(e.at, length)
	var names []string
	for _, o := range parts {
		w.imply(o)
		if o.typ == typeDSCP {
			names = append(names, o.text) // its mask is part of the field
			continue
		}
		names = append(names, o.text+w.changed(o))
	}
	text := strings.Join(names, " . ")
	switch {
	case e.verdicts:
		w.say(i, text+" vmap "+w.set(e, parts))
	case e.dst >= 0:
		typ := typeHex
		if e.set != nil {
			typ = typeByNumber(e.set.dataType)
			length = e.set.dataLen
		}
		text += " map " + w.set(e, parts)
		w.b.words[i] = text
		w.hold(e.dst, &operand{text: text, typ: typ, n: length})
	case e.not:
		w.say(i, text+" != "+w.set(e, parts))
	default:
		w.say(i, text+" "+w.set(e, parts))
	}
}
