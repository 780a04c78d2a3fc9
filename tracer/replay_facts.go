package tracer

import (
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/tape"
	"github.com/pathtrace/pathtrace/internal/recording"
)

// maxValueBytes bounds the values that are kept, and maxTapeBytes the rules, as they were recorded.
const (
	maxValueBytes = 64 << 20
	maxTapeBytes  = 128 << 20
)

// factsBook holds the recorded values that flows refer to.
type factsBook struct {
	raw    map[valueID]json.RawMessage
	order  []valueID
	bytes  int
	bases  map[valueID]*diagnose.Facts
	spaces map[valueID]*diagnose.Namespace
	latest *diagnose.Facts
}

func newFactsBook() factsBook {
	b := factsBook{}
	b.reset()
	return b
}

// reset forgets the values: each part of a recording has its own.
func (b *factsBook) reset() {
	*b = factsBook{
		raw: map[valueID]json.RawMessage{}, bases: map[valueID]*diagnose.Facts{},
		spaces: map[valueID]*diagnose.Namespace{}, latest: b.latest,
	}
}

func (b *factsBook) add(rec *recording.Record) error {
	var v valueRecord
	if err := rec.Decode(&v); err != nil {
		return err
	}
	if _, ok := b.raw[v.ID]; ok {
		return fmt.Errorf("value %d was recorded twice", v.ID)
	}
	b.raw[v.ID] = v.Value
	b.order = append(b.order, v.ID)
	for b.bytes += len(v.Value); b.bytes > maxValueBytes || len(b.order) > 2*keptValues; {
		oldest := b.order[0]
		b.bytes -= len(b.raw[oldest])
		b.order = b.order[1:]
		delete(b.raw, oldest)
		delete(b.bases, oldest)
		delete(b.spaces, oldest)
	}
	return nil
}

// value returns a value, decoded once.
func value[T any](b *factsBook, decoded map[valueID]*T, id valueID) (*T, error) {
	if v, ok := decoded[id]; ok {
		return v, nil
	}
	raw, ok := b.raw[id]
	if !ok {
		return nil, fmt.Errorf("a flow refers to value %d, which was not recorded", id)
	}
	v := new(T)
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("value %d cannot be read", id)
	}
	decoded[id] = v
	return v, nil
}

// facts puts the facts of a flow together.
func (b *factsBook) facts(rec *factsRecord, rules *ruleShelf) (*diagnose.Facts, error) {
	base, err := value(b, b.bases, rec.Base)
	if err != nil {
		return nil, err
	}
	f := *base
	f.Waited = rec.Waited
	f.Namespaces = make(map[uint32]*diagnose.Namespace, len(rec.Namespaces))
	for inode, s := range rec.Namespaces {
		space, err := value(b, b.spaces, s.Base)
		if err != nil {
			return nil, err
		}
		if s.Rules != 0 || s.RulesBefore != 0 {
			whole := *space
			whole.Rules, whole.RulesBefore = rules.ruleset(s.Rules), rules.ruleset(s.RulesBefore)
			space = &whole
		}
		f.Namespaces[inode] = space
	}
	b.latest = base
	return &f, nil
}

// guess is what is known of a flow without facts of its own: the ends of the trace.
func (b *factsBook) guess(lost uint64) *diagnose.Facts {
	f := &diagnose.Facts{Namespaces: map[uint32]*diagnose.Namespace{}, LostEvents: lost}
	if b.latest != nil {
		f.Target, f.Source = b.latest.Target, b.latest.Source
	}
	return f
}

// ruleShelf holds the recorded readings of rules. They are decoded when a flow asks for them.
type ruleShelf struct {
	tapes   map[int]*shelved
	order   []int
	bytes   int
	decoded []int // numbers of those that are decoded, oldest first
	// onDecode, if set, is told of each that was decoded.
	onDecode func(*shelved)
}

// shelved is one reading.
type shelved struct {
	rulesRecord
	tape  []byte
	rules *firewall.Ruleset
	// judged are the rules of a redacted recording, which has no tape.
	judged *judgedRules
	size   int // as it was recorded, in bytes
}

// keptRulesets is how many decoded rulesets are kept.
const keptRulesets = 16

func newRuleShelf() ruleShelf { return ruleShelf{tapes: map[int]*shelved{}} }

func (s *ruleShelf) add(rec *recording.Record) error {
	x := &shelved{}
	if err := rec.Decode(&x.rulesRecord); err != nil {
		return err
	}
	if _, ok := s.tapes[x.Number]; ok {
		return nil // repeated at the beginning of a part
	}
	x.tape = append([]byte(nil), rec.Blob...)
	s.put(x)
	return nil
}

// addRuleset takes rules of a redacted recording.
func (s *ruleShelf) addRuleset(rec *recording.Record) error {
	var r rulesetRecord
	if err := rec.Decode(&r); err != nil {
		return err
	}
	if _, ok := s.tapes[r.Number]; ok {
		return nil
	}
	x := &shelved{rulesRecord: r.rulesRecord, judged: r.ruleset(), size: len(rec.JSON)}
	x.rules = x.judged.set
	s.put(x)
	return nil
}

// judge sets how the rules judged the packets of the flow in question.
func (s *ruleShelf) judge(judged map[int][]judgedRecord) {
	for number, list := range judged {
		if x := s.tapes[number]; x != nil && x.judged != nil {
			x.judged.judge(list)
		}
	}
}

// put keeps a reading, and forgets the oldest if there are too many.
func (s *ruleShelf) put(x *shelved) {
	x.size += len(x.tape)
	s.tapes[x.Number] = x
	s.order = append(s.order, x.Number)
	for s.bytes += x.size; s.bytes > maxTapeBytes && len(s.order) > 1; {
		oldest := s.order[0]
		s.bytes -= s.tapes[oldest].size
		s.order = s.order[1:]
		delete(s.tapes, oldest)
	}
}

// ruleset returns the rules of a reading; nil for 0 and for what was not recorded.
func (s *ruleShelf) ruleset(number int) *firewall.Ruleset {
	x := s.tapes[number]
	if x == nil {
		return nil
	}
	if x.rules == nil {
		if x.rules = x.read(); x.rules != nil && s.onDecode != nil {
			s.onDecode(x)
		}
		s.decoded = append(s.decoded, number)
		if len(s.decoded) > keptRulesets {
			if old := s.tapes[s.decoded[0]]; old != nil {
				old.rules = nil
			}
			s.decoded = s.decoded[1:]
		}
	}
	return x.rules
}

// read reads the rules as they were read from the kernel; nil if that cannot be done.
func (x *shelved) read() *firewall.Ruleset {
	t, err := tape.Parse(x.tape)
	if err != nil {
		return nil
	}
	b := newRuleBook(func(_ uint32, fn func() error) error { return fn() }, slog.New(slog.DiscardHandler))
	rules := b.read(x.NetNS, b.readers(nil), t)
	if rules == nil {
		return nil
	}
	rules.Read = x.Read
	return rules
}
