package tracer

import (
	"crypto/sha256"
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/firewall/tape"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// valueID names a value that several flows share; 0 is none.
type valueID int

// valueRecord is a value that flows refer to.
type valueRecord struct {
	ID    valueID         `json:"id"`
	Value json.RawMessage `json:"value"`
}

// keptValues is how many values a writer refers to again; a reader keeps twice as many.
const keptValues = 4096

// valueBook knows which values were recorded.
type valueBook struct {
	known map[[sha256.Size]byte]valueID
	last  valueID
}

func newValueBook() valueBook { return valueBook{known: map[[sha256.Size]byte]valueID{}} }

// factsRecord is a diagnose.Facts. Most of it is the same for many flows.
type factsRecord struct {
	// Base is a diagnose.Facts without what follows.
	Base       valueID                `json:"base"`
	Waited     time.Duration          `json:"waited_ns,omitempty"`
	Namespaces map[uint32]spaceRecord `json:"namespaces,omitempty"`
}

// spaceRecord is a diagnose.Namespace; Rules and RulesBefore are numbers of readings.
type spaceRecord struct {
	Base        valueID `json:"base"`
	Rules       int     `json:"rules,omitempty"`
	RulesBefore int     `json:"rules_before,omitempty"`
}

// flowKey tells the flows of a recording apart.
type flowKey struct {
	Proto  path.Proto     `json:"proto"`
	Client netip.AddrPort `json:"client"`
	Server netip.AddrPort `json:"server"`
	Start  uint64         `json:"start"`
}

func keyOf(p *path.Path) flowKey { return flowKey{p.Proto, p.Client, p.Server, p.Start} }

// flowRecord says that a flow was decided, and on which facts.
type flowRecord struct {
	flowKey
	Decided time.Time   `json:"decided"`
	Facts   factsRecord `json:"facts"`
	// Podman: the commands are Podman's.
	Podman bool `json:"podman,omitempty"`
	// Steps are the rules that packets passed (--trace-rules).
	Steps []stepsRecord `json:"steps,omitempty"`
	// Judged are what rules say to the flow's packets, by number of the reading, where they were redacted.
	Judged map[int][]judgedRecord `json:"judged,omitempty"`
}

// stepsRecord are the rules at one hop, both by their place in the path.
type stepsRecord struct {
	Packet int             `json:"packet"`
	Hop    int             `json:"hop"`
	Rules  []path.RuleStep `json:"rules"`
}

// noTrafficRecord is a verdict on a flow of which nothing was seen; the last three are what names had to
// say, if anything.
type noTrafficRecord struct {
	Decided time.Time      `json:"decided"`
	Proto   path.Proto     `json:"proto"`
	Server  netip.AddrPort `json:"server"`
	Facts   factsRecord    `json:"facts"`
	Cause   path.Cause     `json:"cause,omitempty"`
	Message string         `json:"message,omitempty"`
	Remedy  []string       `json:"remedy,omitempty"`
	// Podman: the commands are Podman's.
	Podman bool `json:"podman,omitempty"`
	// Judged as in flowRecord.
	Judged map[int][]judgedRecord `json:"judged,omitempty"`
}

// dialError returns what names had to say, nil for nothing.
func (r *noTrafficRecord) dialError() *target.DialError {
	if r.Message == "" {
		return nil
	}
	return &target.DialError{Cause: r.Cause, Message: r.Message, Remedy: r.Remedy}
}

// flow records a flow that is about to be decided.
func (r *recorder) flow(p *path.Path, f *diagnose.Facts, book *ruleBook, at time.Time) {
	if r == nil {
		return
	}
	rec := flowRecord{flowKey: keyOf(p), Decided: at, Podman: r.podman != nil && r.podman()}
	for i, packet := range p.Packets {
		for j := range packet.Hops {
			if rules := packet.Hops[j].Rules; len(rules) > 0 {
				rec.Steps = append(rec.Steps, stepsRecord{i, j, rules})
			}
		}
	}
	numbers := ruleNumbers(f, book)
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.Facts = r.facts(f, numbers)
	r.put(typeFlow, rec, nil)
	r.result.Flows++
}

// noTraffic records that nothing is to be decided.
func (r *recorder) noTraffic(p *path.Path, f *diagnose.Facts, why *target.DialError, book *ruleBook, at time.Time) {
	if r == nil {
		return
	}
	rec := noTrafficRecord{Decided: at, Proto: p.Proto, Server: p.Server, Podman: r.podman != nil && r.podman()}
	if why != nil {
		rec.Cause, rec.Message, rec.Remedy = why.Cause, why.Message, why.Remedy
	}
	numbers := ruleNumbers(f, book)
	r.mu.Lock()
	defer r.mu.Unlock()
	rec.Facts = r.facts(f, numbers)
	r.put(typeNoTraffic, rec, nil)
	r.result.Flows++
}

// ruleNumbers says which readings the rules in facts are: those after and those before the flow.
func ruleNumbers(f *diagnose.Facts, book *ruleBook) map[uint32][2]int {
	out := map[uint32][2]int{}
	for inode, ns := range f.Namespaces {
		out[inode] = [2]int{book.number(inode, ns.Rules), book.number(inode, ns.RulesBefore)}
	}
	return out
}

// facts records what facts have in common with others and returns the rest. mu is held.
func (r *recorder) facts(f *diagnose.Facts, rules map[uint32][2]int) factsRecord {
	base := *f
	base.Waited, base.Namespaces = 0, nil
	out := factsRecord{Waited: f.Waited, Namespaces: map[uint32]spaceRecord{}}
	out.Base = r.value(base)
	for inode, ns := range f.Namespaces {
		space := *ns
		space.Rules, space.RulesBefore = nil, nil
		n := rules[inode]
		out.Namespaces[inode] = spaceRecord{r.value(space), n[0], n[1]}
	}
	return out
}

// value records a value, unless it is known.
func (r *recorder) value(v any) valueID {
	text, err := json.Marshal(v)
	if err != nil {
		if r.result.Err == nil {
			r.result.Err = err
		}
		return 0
	}
	sum := sha256.Sum256(text)
	if id, ok := r.values.known[sum]; ok {
		return id
	}
	if len(r.values.known) >= keptValues {
		clear(r.values.known)
	}
	r.values.last++
	r.values.known[sum] = r.values.last
	r.put(typeValue, valueRecord{r.values.last, text}, nil)
	return r.values.last
}

// rulesRecord is one reading of a namespace's rules; its tape is the record's blob. Times are
// CLOCK_MONOTONIC, ns.
type rulesRecord struct {
	Number int       `json:"number"`
	NetNS  uint32    `json:"netns"`
	Began  uint64    `json:"began"`
	Ended  uint64    `json:"ended"`
	Read   time.Time `json:"read"`
}

// rulesTape is a reading with its tape.
type rulesTape struct {
	rulesRecord
	tape []byte
}

// ruleTapes are the readings that flows may still refer to, by namespace: as many as a ruleBook keeps.
type ruleTapes struct {
	last int
	kept map[uint32][]rulesTape
}

func newRuleTapes() ruleTapes { return ruleTapes{kept: map[uint32][]rulesTape{}} }

func (t *ruleTapes) all() []rulesTape {
	var out []rulesTape
	for _, list := range t.kept {
		out = append(out, list...)
	}
	slices.SortFunc(out, func(a, b rulesTape) int { return a.Number - b.Number })
	return out
}

// readRules records a reading and numbers it.
func (r *recorder) readRules(inode uint32, reading *ruleReading, t *tape.Tape) {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.numbered(inode, reading, t)
	if r.cfg.PartSize == 0 {
		return
	}
	list := append(r.rules.kept[inode], rec)
	if len(list) > rulesKept {
		list = slices.Delete(list, 1, 2)
	}
	r.rules.kept[inode] = list
}

// numbered records a reading with the next number. mu is held.
func (r *recorder) numbered(inode uint32, reading *ruleReading, t *tape.Tape) rulesTape {
	r.rules.last++
	reading.number = r.rules.last
	rec := rulesTape{
		rulesRecord{r.rules.last, inode, reading.began, reading.ended, reading.rules.Read}, t.Append(nil),
	}
	r.put(typeRules, rec.rulesRecord, rec.tape)
	return rec
}
