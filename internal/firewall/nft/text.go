package nft

import (
	"net"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// links names devices by their index; the kernel is asked once, and only if a rule has an index or is
// written later.
type links struct{ names map[uint32]string }

func (l *links) name(index uint32) string {
	l.read()
	return l.names[index]
}

// read asks for the devices in the calling thread's namespace, unless they are known.
func (l *links) read() {
	if l.names != nil {
		return
	}
	l.names = make(map[uint32]string)
	all, _ := net.Interfaces()
	for _, i := range all {
		l.names[uint32(i.Index)] = i.Name
	}
}

// piece is a part of a rule's text.
type piece struct {
	at   int // the expression that finishes it
	text string
	// rank orders the pieces of an iptables rule, which shows its own fields first.
	rank int
	// implied is set where words after it say the same: `meta l4proto tcp` before `tcp dport`.
	implied bool
}

// writer puts the expressions of a rule back into words. It follows the registers as the kernel
// fills them, with what they hold in words instead of values.
type writer struct {
	b     *body
	links *links
	held  [regBytes / 4]*operand
	ctx   context
	out   []piece
}

// context is what the matches so far say about the packet's protocols, which decides how its bytes
// are called.
type context struct {
	ether uint16 // 0: not known
	l4    int    // -1: not known
	// The pieces that said so, -1 if none did.
	etherPiece, l4Piece, linkPiece int
}

// operand is what a register holds.
type operand struct {
	text  string
	typ   dataType
	n     int    // bytes
	width int    // bytes of the whole field, if only its start was loaded
	mask  []byte // what a bitwise left of it; nil for all
	xor   []byte
	layer layer
	value []byte     // an immediate
	parts []*operand // the fields, if several were loaded at once
	big   bool       // a number of the host that was put into network byte order
}

// layer is where a field comes from, for what it implies of the protocols.
type layer uint8

const (
	layerNone      layer = iota
	layerEther           // a field of Ethernet's header that names the next protocol
	layerLink            // another field of Ethernet's header
	layerNetwork         // a field of IP
	layerProto           // the field or meta key that names the transport protocol
	layerTransport       // a field of a transport protocol
)

// inWords sets the words of each expression and returns the rule's text.
func (b *body) inWords(c *firewall.Chain, l *links, comment string) string {
	w := writer{b: b, links: l}
	w.ctx = context{l4: -1, etherPiece: -1, l4Piece: -1, linkPiece: -1}
	switch b.family {
	case firewall.FamilyIP:
		w.ctx.ether = ethIP
	case firewall.FamilyIP6:
		w.ctx.ether = ethIPv6
	}
	if b.backend == firewall.IptablesNFT {
		if text, ok := w.iptables(c, comment); ok {
			return text
		}
		w.out, w.held = nil, [regBytes / 4]*operand{}
	}
	b.words = make([]string, len(b.exprs))
	for i := range b.exprs {
		w.nft(i)
	}
	var parts []string
	for _, p := range w.out {
		b.words[p.at] = p.text
		if !p.implied {
			parts = append(parts, p.text)
		}
	}
	if comment != "" {
		parts = append(parts, "comment \""+comment+"\"")
	}
	return strings.Join(parts, " ")
}

func (w *writer) say(at int, text string) int {
	w.out = append(w.out, piece{at: at, text: text})
	return len(w.out) - 1
}

// hold notes what a register holds.
func (w *writer) hold(at int, o *operand) {
	if at < 0 || at >= regBytes {
		return
	}
	w.held[at/4] = o
	for i := at/4 + 1; i < (at+o.n+3)/4 && i < len(w.held); i++ {
		w.held[i] = nil
	}
}

// held returns what a register holds.
func (w *writer) operand(at int) *operand {
	if at >= 0 && at < regBytes && w.held[at/4] != nil {
		return w.held[at/4]
	}
	return &operand{text: "?", typ: typeHex}
}

// parts returns the operands that lie one after the other from a register on: of a concatenation.
func (w *writer) parts(at, length int) []*operand {
	var all []*operand
	for end := at + length; at < end; {
		o := w.operand(at)
		all = append(all, o)
		at += max((o.n+3)&^3, 4)
	}
	return all
}

// nft writes expression i in nft's language.
func (w *writer) nft(i int) {
	switch e := w.b.exprs[i].(type) {
	case *payloadExpr:
		w.hold(e.dst, w.payload(e))
	case *metaExpr:
		w.hold(e.dst, metaOperand(e))
	case *ctExpr:
		w.hold(e.dst, ctOperand(e))
	case *fibExpr:
		w.hold(e.dst, fibOperand(e))
	case *loadExpr:
		w.hold(e.dst, w.loadOperand(e))
	case *immediateExpr:
		if e.dst >= 0 {
			w.hold(e.dst, &operand{typ: typeHex, n: len(e.data), value: e.data})
		} else if text := verdictText(e.verdict); text != "" {
			w.say(i, text)
		}
	case *bitwiseExpr:
		w.hold(e.dst, w.masked(e))
	case *byteorderExpr:
		o := *w.operand(e.src)
		o.big = o.typ.host()
		w.hold(e.dst, &o)
	case *cmpExpr:
		w.cmp(i, e)
	case *rangeExpr:
		o := w.operand(e.at)
		op := ""
		if e.not {
			op = "!= "
		}
		w.match(i, o, op, w.value(o, e.from)+"-"+w.value(o, e.to))
	case *lookupExpr:
		w.lookup(i, e)
	default:
		w.statement(i, e)
	}
}
