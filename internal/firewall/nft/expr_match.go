package nft

import (
	"encoding/binary"
	"math/bits"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// cmpExpr compares a register with a value (nft_cmp.c).
type cmpExpr struct {
	at, op int
	data   []byte
}

func (e *cmpExpr) eval(m *machine) {
	val, known := m.reg(e.at, len(e.data))
	switch e.op {
	case unix.NFT_CMP_EQ, unix.NFT_CMP_NEQ:
		t := equal(val, known, e.data)
		if m.fib != nil && m.fibAt == e.at && len(e.data) == 4 {
			t = m.fib(binary.NativeEndian.Uint32(e.data))
		}
		if e.op == unix.NFT_CMP_NEQ {
			t = t.Not()
		}
		m.require(t)
		return
	}
	cmp, ok := order(val, known, e.data)
	if !ok {
		m.require(firewall.Maybe)
		return
	}
	m.require(firewall.Of(e.op == unix.NFT_CMP_LT && cmp < 0 || e.op == unix.NFT_CMP_LTE && cmp <= 0 ||
		e.op == unix.NFT_CMP_GT && cmp > 0 || e.op == unix.NFT_CMP_GTE && cmp >= 0))
}

// rangeExpr compares a register with both ends of a range (nft_range.c).
type rangeExpr struct {
	at       int
	not      bool
	from, to []byte
}

func (e *rangeExpr) eval(m *machine) {
	val, known := m.reg(e.at, len(e.from))
	t := between(val, known, e.from, e.to)
	if e.not {
		t = t.Not()
	}
	m.require(t)
}

// bitwiseExpr masks, inverts or shifts a register (nft_bitwise.c).
type bitwiseExpr struct {
	src, dst, length int
	op               int
	mask, xor        []byte
	shift            int
}

func (e *bitwiseExpr) eval(m *machine) {
	val, known := m.reg(e.src, e.length)
	v, k := make([]byte, len(val)), make([]byte, len(val))
	switch {
	case e.op == unix.NFT_BITWISE_BOOL && len(e.mask) == len(val) && len(e.xor) == len(val):
		for i := range val {
			v[i] = val[i]&e.mask[i] ^ e.xor[i]
			k[i] = known[i] | ^e.mask[i]
		}
	case (e.op == bitwiseLeft || e.op == bitwiseRight) && len(val) == 4 && allKnown(known):
		n := binary.NativeEndian.Uint32(val)
		if e.op == bitwiseLeft {
			n <<= uint(e.shift)
		} else {
			n >>= uint(e.shift)
		}
		binary.NativeEndian.PutUint32(v, n)
		k = nil
	}
	m.store(e.dst, v, k)
}

// The shifting operations of uapi enum nft_bitwise_ops.
const (
	bitwiseLeft  = 1
	bitwiseRight = 2
)

func allKnown(known []byte) bool {
	for _, k := range known {
		if k != 0xff {
			return false
		}
	}
	return true
}

// byteorderExpr swaps a register between the byte order of the host and the network (nft_byteorder.c).
type byteorderExpr struct{ src, dst, length, size int }

func (e *byteorderExpr) eval(m *machine) {
	val, known := m.reg(e.src, e.length)
	m.store(e.dst, swapped(val, e.size), swapped(known, e.size))
}

// swapped returns b with the bytes of each number of the size reversed, where the host needs it.
func swapped(b []byte, size int) []byte {
	out := make([]byte, len(b))
	copy(out, b)
	if size < 2 || !littleEndian() {
		return out
	}
	for at := 0; at+size <= len(b); at += size {
		for i := range size {
			out[at+i] = b[at+size-1-i]
		}
	}
	return out
}

// littleEndian reports the byte order of the host.
func littleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }

// lookupExpr looks a register up in a set or map (nft_lookup.c).
type lookupExpr struct {
	name     string
	set      *set // nil if there is none of that name
	at       int
	dst      int // -1: only whether it is there
	not      bool
	verdicts bool
}

func (e *lookupExpr) eval(m *machine) {
	switch {
	case e.set != nil && e.set.unread() && (e.verdicts || !m.everything):
		if m.unread == nil {
			m.unread = e.set
		}
		e.unknown(m)
		return
	case e.set == nil || e.set.why() != "":
		e.unknown(m)
		return
	case m.everything:
		e.collect(m)
		return
	}
	val, known := m.reg(e.at, e.set.keyLen)
	var fib func(uint32) firewall.Truth
	if m.fibAt == e.at && e.set.keyLen == 4 {
		fib = m.fib
	}
	found, t := e.set.find(val, known, fib)
	if e.not {
		t = t.Not()
	}
	m.require(t)
	if e.dst < 0 || t == firewall.No {
		return
	}
	if e.verdicts {
		m.end(commonVerdict(found))
		return
	}
	if len(found) == 1 {
		m.set(e.dst, found[0].data)
		return
	}
	m.forget(e.dst, e.set.dataLen)
}

func (e *lookupExpr) unknown(m *machine) {
	m.require(firewall.Maybe)
	if e.verdicts {
		m.end(firewall.Verdict{Kind: firewall.Unknown, Detail: "verdict map " + e.name})
	} else if e.dst >= 0 {
		m.forget(e.dst, 16)
	}
}

// collect lists the verdicts of a verdict map.
func (e *lookupExpr) collect(m *machine) {
	if e.verdicts {
		for _, el := range e.set.elems {
			m.end(el.verdict)
		}
	} else if e.dst >= 0 {
		m.forget(e.dst, e.set.dataLen)
	}
}

// commonVerdict is the verdict of all elements, Unknown if they differ.
func commonVerdict(found []*element) firewall.Verdict {
	for _, el := range found[1:] {
		if el.verdict != found[0].verdict {
			return firewall.Verdict{Kind: firewall.Unknown, Detail: "verdict map"}
		}
	}
	return found[0].verdict
}

// loadExpr loads something that is not known of packets: a random number, a socket's property.
type loadExpr struct {
	name string
	dst  int
	a    nfnl.Attrs
}

func (e *loadExpr) eval(m *machine) { m.forget(e.dst, regBytes-e.dst) }

// doubtExpr matches or not for reasons that cannot be told from the packet: rates, quotas.
type doubtExpr struct {
	name string
	a    nfnl.Attrs
}

func (e *doubtExpr) eval(m *machine) { m.require(firewall.Maybe) }
func (e *doubtExpr) kind() string    { return e.name }

// unknownExpr is an expression that this program does not know.
type unknownExpr struct{ name string }

func (e *unknownExpr) eval(m *machine) {
	m.forget(16, regBytes-16)
	m.require(firewall.Maybe)
	if m.everything {
		m.end(firewall.Verdict{Kind: firewall.Unknown, Detail: e.name})
	}
}
func (e *unknownExpr) kind() string { return e.name + " [not decoded]" }

// prefixLen is the length of a mask if all its ones come first.
func prefixLen(mask []byte) (n int, ok bool) {
	for i, b := range mask {
		if b == 0xff {
			n += 8
			continue
		}
		k := bits.LeadingZeros8(^b)
		if b != ^byte(0xff>>k) {
			return 0, false
		}
		for _, rest := range mask[i+1:] {
			if rest != 0 {
				return 0, false
			}
		}
		return n + k, true
	}
	return n, true
}
