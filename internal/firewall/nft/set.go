package nft

import (
	"bytes"
	"slices"
	"sort"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// Flags and attributes of sets that x/sys does not have.
const (
	setFlagConcat   = 0x80
	setFlagExpr     = 0x100
	elemFlagCatch   = 0x2
	attrElemKeyEnd  = 10
	attrElemExprs   = 11
	attrDescConcat  = 2
	attrFieldLen    = 1
	attrSetExpr     = 17
	dataTypeVerdict = unix.NFT_DATA_VERDICT
)

// fewElements is up to how many elements are compared again for each rule.
const fewElements = 16

// set is a set or a map.
type set struct {
	family          uint8
	table, name     string
	flags           uint32
	keyType         uint32 // nft's number of the type, 6 bits for each part of a concatenation
	dataType        uint32
	objType         uint32
	keyLen, dataLen int
	fields          []int // lengths of the parts of a concatenation, if the kernel knows them

	elems []*element
	// exact finds an element by its key; sorted holds intervals of sets without concatenation.
	exact  map[string]*element
	ranges []*element
	all    *element // the element that stands for all keys ("*")
	// last is the latest search that went through all elements: thousands of rules may ask for the same.
	last atomic.Pointer[search]

	// generation is that of the ruleset of which the set is, handle and tableHandle are the kernel's numbers,
	// which are never used again.
	generation          uint32
	handle, tableHandle uint64
	// later, if not nil, reads the elements when they are asked for; fetched says that it has, lost why
	// it could not.
	later   *fetcher
	place   int // among its sets
	fetched atomic.Bool
	lost    error
}

// search is what a set had for a value of which some bits are known.
type search struct {
	val, known string
	found      []*element
	truth      firewall.Truth
}

// element is one of a set: a key or, with end, a range of keys; and what a map has for it.
type element struct {
	key, end []byte // both ends belong to it
	data     []byte
	object   string
	verdict  firewall.Verdict
	doubt    bool // it has a rate limit or quota of its own

	intervalEnd bool
}

func newSet(family uint8, a nfnl.Attrs) *set {
	s := &set{
		family: family, table: a.Str(unix.NFTA_SET_TABLE), name: a.Str(unix.NFTA_SET_NAME),
		flags:   a.U32(unix.NFTA_SET_FLAGS),
		keyType: a.U32(unix.NFTA_SET_KEY_TYPE), dataType: a.U32(unix.NFTA_SET_DATA_TYPE),
		keyLen:  int(min(a.U32(unix.NFTA_SET_KEY_LEN), regBytes)),
		dataLen: int(min(a.U32(unix.NFTA_SET_DATA_LEN), regBytes)),
		objType: a.U32(unix.NFTA_SET_OBJ_TYPE), handle: a.U64(attrSetHandle),
	}
	desc := a.Nested(unix.NFTA_SET_DESC)
	_ = nfnl.List(desc[attrDescConcat], func(f nfnl.Attrs) error {
		s.fields = append(s.fields, int(min(f.U32(attrFieldLen), regBytes)))
		return nil
	})
	return s
}

func (s *set) has(flag uint32) bool { return s.flags&flag != 0 }

// anonymous sets are written in the rule itself.
func (s *set) anonymous() bool { return s.has(unix.NFT_SET_ANONYMOUS) }

// changes reports whether packets themselves add to the set, so that what was read is old at once.
func (s *set) changes() bool { return s.has(unix.NFT_SET_EVAL) }

// add adds an element as the kernel lists it.
func (s *set) add(a nfnl.Attrs) error {
	flags := a.U32(unix.NFTA_SET_ELEM_FLAGS)
	key := a.Nested(unix.NFTA_SET_ELEM_KEY)
	el := &element{
		key:         key[unix.NFTA_DATA_VALUE],
		intervalEnd: flags&unix.NFT_SET_ELEM_INTERVAL_END != 0,
		object:      a.Str(unix.NFTA_SET_ELEM_OBJREF),
		doubt:       doubtful(a),
	}
	el.end = el.key
	if a.Has(attrElemKeyEnd) {
		el.end = value(&a, attrElemKeyEnd)
	}
	if data := a.Nested(unix.NFTA_SET_ELEM_DATA); data.Has(unix.NFTA_DATA_VERDICT) {
		el.verdict = verdictOf(data.Nested(unix.NFTA_DATA_VERDICT))
	} else {
		el.data = data[unix.NFTA_DATA_VALUE]
	}
	if flags&elemFlagCatch != 0 {
		s.all = el
	}
	s.elems = append(s.elems, el)
	return nil
}

// doubtful reports whether an element has an expression that can fail.
func doubtful(a nfnl.Attrs) bool {
	harmless := func(e nfnl.Attrs) bool { n := e.Str(unix.NFTA_EXPR_NAME); return n == "counter" || n == "last" }
	if a.Has(unix.NFTA_SET_ELEM_EXPR) && !harmless(a.Nested(unix.NFTA_SET_ELEM_EXPR)) {
		return true
	}
	doubt := false
	_ = nfnl.List(a[attrElemExprs], func(e nfnl.Attrs) error { doubt = doubt || !harmless(e); return nil })
	return doubt
}

// finish orders what was read. Sets of intervals without concatenation list the first key of each
// interval and, as an element of its own, the first key behind it (nft_set_rbtree.c), in any order.
func (s *set) finish() {
	if s.has(unix.NFT_SET_INTERVAL) && !s.concatenated() {
		s.joinIntervals()
		return
	}
	s.exact = make(map[string]*element, len(s.elems))
	for _, el := range s.elems {
		if el != s.all && bytes.Equal(el.key, el.end) {
			s.exact[string(el.key)] = el
		} else if el != s.all {
			s.exact = nil
			return
		}
	}
}

// concatenated sets of intervals carry both ends in one element (nft_set_pipapo.c).
func (s *set) concatenated() bool { return s.has(setFlagConcat) || len(s.fields) > 1 }

func (s *set) joinIntervals() {
	rest := slices.DeleteFunc(slices.Clone(s.elems), func(el *element) bool { return el == s.all })
	// An end and a start with the same key: the end belongs to the interval before.
	slices.SortStableFunc(rest, func(a, b *element) int {
		switch c := bytes.Compare(a.key, b.key); {
		case c != 0 || a.intervalEnd == b.intervalEnd:
			return c
		case a.intervalEnd:
			return -1
		}
		return 1
	})
	var open *element
	for _, el := range rest {
		if open != nil {
			open.end = before(el.key)
			open = nil
		}
		if el.intervalEnd {
			continue
		}
		open = el
		s.ranges = append(s.ranges, el)
	}
	if open != nil {
		open.end = bytes.Repeat([]byte{0xff}, len(open.key))
	}
	s.elems = slices.Clone(s.ranges)
	if s.all != nil {
		s.elems = append(s.elems, s.all)
	}
}

// before is the number before key.
func before(key []byte) []byte {
	b := bytes.Clone(key)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			break
		}
	}
	return b
}

// find returns the elements that a value of which some bits are known may be, and whether it is among
// them. Yes comes with exactly one element.
func (s *set) find(val, known []byte, fib func(uint32) firewall.Truth) ([]*element, firewall.Truth) {
	found, t := s.lookUp(val, known, fib)
	if t == firewall.No && s.all != nil {
		found, t = []*element{s.all}, firewall.Yes
	} else if t == firewall.Maybe && s.all != nil {
		found = append(found, s.all)
	}
	for _, el := range found {
		if el.doubt && t == firewall.Yes {
			t = firewall.Maybe
		}
	}
	if s.changes() {
		t = firewall.Maybe
		if len(found) == 0 {
			found = []*element{{verdict: firewall.Verdict{Kind: firewall.Unknown, Detail: "verdict map " + s.name}}}
		}
	}
	return found, t
}

func (s *set) lookUp(val, known []byte, fib func(uint32) firewall.Truth) ([]*element, firewall.Truth) {
	if fib == nil && allKnown(known) && len(val) == s.keyLen {
		switch {
		case s.exact != nil:
			return one(s.exact[string(val)])
		case s.ranges != nil:
			i := sort.Search(len(s.ranges), func(i int) bool { return bytes.Compare(s.ranges[i].key, val) > 0 })
			if i == 0 || bytes.Compare(val, s.ranges[i-1].end) > 0 {
				return nil, firewall.No
			}
			return one(s.ranges[i-1])
		}
	}
	if fib != nil || len(s.elems) <= fewElements {
		return s.compare(val, known, fib)
	}
	if q := s.last.Load(); q != nil && q.val == string(val) && q.known == string(known) {
		return q.found, q.truth
	}
	found, t := s.compare(val, known, nil)
	s.last.Store(&search{string(val), string(known), slices.Clip(found), t})
	return found, t
}

// compare compares a value with all elements.
func (s *set) compare(val, known []byte, fib func(uint32) firewall.Truth) ([]*element, firewall.Truth) {
	var maybe []*element
	for _, el := range s.elems {
		if el == s.all {
			continue
		}
		switch s.is(el, val, known, fib) {
		case firewall.Yes:
			return []*element{el}, firewall.Yes
		case firewall.Maybe:
			maybe = append(maybe, el)
		}
	}
	if len(maybe) > 0 {
		return maybe, firewall.Maybe
	}
	return nil, firewall.No
}

func one(el *element) ([]*element, firewall.Truth) {
	if el == nil {
		return nil, firewall.No
	}
	return []*element{el}, firewall.Yes
}

// is says whether a value is an element; each part of a concatenation has a range of its own.
func (s *set) is(el *element, val, known []byte, fib func(uint32) firewall.Truth) firewall.Truth {
	if fib != nil && len(el.key) == 4 {
		return fib(native32(el.key))
	}
	if bytes.Equal(el.key, el.end) {
		return equal(val, known, el.key)
	}
	if len(el.key) != len(val) || len(el.end) != len(val) {
		return firewall.Maybe
	}
	if len(s.fields) == 0 {
		return between(val, known, el.key, el.end)
	}
	answer, at := firewall.Yes, 0
	for _, length := range s.fields {
		if at+length > len(val) {
			return firewall.Maybe
		}
		answer = answer.And(between(val[at:at+length], known[at:at+length], el.key[at:at+length], el.end[at:at+length]))
		at += (length + 3) &^ 3
	}
	return answer
}
