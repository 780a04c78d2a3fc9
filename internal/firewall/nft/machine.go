package nft

import (
	"encoding/binary"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// regBytes is the size of the registers: struct nft_regs has 20 words, of which the first four hold
// the verdict.
const regBytes = 80

// register returns the place of a register among the bytes of all, as nft_parse_register does; ok is
// false if there is none of that number with that length.
func register(num uint32, length int) (at int, ok bool) {
	switch {
	case num <= 4:
		at = int(num) * 16
	case num >= 8 && num <= 23:
		at = int(num-4) * 4
	default:
		return 0, false
	}
	return at, length >= 0 && at+length <= regBytes
}

// machine evaluates the expressions of one rule for one packet. A set bit of known says that the same
// bit of val is what the kernel would have there.
type machine struct {
	p      *firewall.Packet
	family firewall.Family

	val, known [regBytes]byte
	// fib is set while a register holds the type of an address, see fibExpr.
	fib   func(typ uint32) firewall.Truth
	fibAt int

	truth    firewall.Truth
	verdict  firewall.Verdict
	untracks bool // and so does every verdict that follows
	ended    bool
	// doubts are the expressions that could not be judged, by their index; at is the current one.
	doubts []int
	at     int
	// unread is the first set of those that the answer depends on which is still to be fetched.
	unread *set

	// everything is set while the verdicts of all packets are collected: nothing is known of the
	// packet, and no match or verdict ends the rule.
	everything bool
	verdicts   []firewall.Verdict
	listed     map[firewall.Verdict]bool
}

// require adds a match's answer.
func (m *machine) require(t firewall.Truth) {
	if m.everything {
		return
	}
	if t == firewall.Maybe {
		m.doubts = append(m.doubts, m.at)
	}
	m.truth = m.truth.And(t)
}

// end sets the rule's verdict; Continue does not end it.
func (m *machine) end(v firewall.Verdict) {
	v.Untracks = v.Untracks || m.untracks
	if m.everything {
		if v.Kind != firewall.Continue && !m.listed[v] {
			m.verdicts = append(m.verdicts, v)
			m.listed[v] = true
		}
		return
	}
	m.verdict = v
	m.ended = v.Kind != firewall.Continue
}

// reg returns a register's bytes; out of range it returns none, which compares as unknown.
func (m *machine) reg(at, length int) (val, known []byte) {
	if at < 0 || length < 0 || at+length > regBytes {
		return nil, nil
	}
	return m.val[at : at+length], m.known[at : at+length]
}

// store fills a register and, as the kernel does, the rest of its last word with zeros. All of val is
// known if known is nil.
func (m *machine) store(at int, val, known []byte) {
	m.forget(at, len(val))
	end := min(at+(len(val)+3)&^3, regBytes)
	if at < 0 || at+len(val) > regBytes {
		return
	}
	for i := at + len(val); i < end; i++ {
		m.val[i], m.known[i] = 0, 0xff
	}
	copy(m.val[at:], val)
	if known == nil {
		for i := range val {
			m.known[at+i] = 0xff
		}
		return
	}
	copy(m.known[at:], known)
}

// set fills a register with what is known.
func (m *machine) set(at int, val []byte) { m.store(at, val, nil) }

// host32 and host8 fill a register with a number, which the kernel keeps in its own byte order.
func (m *machine) host32(at int, v uint32) { m.set(at, binary.NativeEndian.AppendUint32(nil, v)) }

// forget makes a register unknown.
func (m *machine) forget(at, length int) {
	if at < 0 || length < 0 || at >= regBytes {
		return
	}
	end := min(at+(length+3)&^3, regBytes)
	clear(m.known[at:end])
	clear(m.val[at:end])
	if m.fib != nil && m.fibAt >= at && m.fibAt < end {
		m.fib = nil
	}
}

// equal says whether a value of which some bits are known is want.
func equal(val, known, want []byte) firewall.Truth {
	if len(val) != len(want) {
		return firewall.Maybe
	}
	answer := firewall.Yes
	for i := range want {
		if (val[i]^want[i])&known[i] != 0 {
			return firewall.No
		}
		if known[i] != 0xff {
			answer = firewall.Maybe
		}
	}
	return answer
}

// order compares as memcmp does; ok is false where that depends on bits that are not known.
func order(val, known, want []byte) (cmp int, ok bool) {
	if len(val) != len(want) {
		return 0, false
	}
	for i := range want {
		if known[i] != 0xff {
			return 0, false
		}
		if val[i] != want[i] {
			return int(val[i]) - int(want[i]), true
		}
	}
	return 0, true
}

// between says whether a value lies in a range with both its ends.
func between(val, known, from, to []byte) firewall.Truth {
	low, lowKnown := order(val, known, from)
	high, highKnown := order(val, known, to)
	switch {
	case lowKnown && low < 0, highKnown && high > 0:
		return firewall.No
	case lowKnown && highKnown:
		return firewall.Yes
	}
	return firewall.Maybe
}
