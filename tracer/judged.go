package tracer

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/redact"
)

// A redacted recording cannot hold the rules as the kernel has them, with addresses in binary. It holds
// what they say, and how each judged the packets that it was asked about when the recording was redacted.

// rulesetRecord is a reading of rules in a redacted recording.
type rulesetRecord struct {
	rulesRecord
	Problems []string      `json:"problems,omitempty"`
	Tables   []tableRecord `json:"tables"`
}

type tableRecord struct {
	Backend  firewall.Backend `json:"backend"`
	Family   firewall.Family  `json:"family"`
	Name     string           `json:"name"`
	Dormant  bool             `json:"dormant,omitempty"`
	Progname string           `json:"owner,omitempty"`
	Chains   []chainRecord    `json:"chains"`
}

type chainRecord struct {
	Name          string               `json:"name"`
	Hook          firewall.Hook        `json:"hook,omitempty"`
	Type          string               `json:"type,omitempty"`
	Priority      int32                `json:"priority,omitempty"`
	Policy        firewall.VerdictKind `json:"policy,omitempty"`
	PolicyPackets uint64               `json:"policy_packets,omitempty"`
	PolicyCounted bool                 `json:"policy_counted,omitempty"`
	Devices       []string             `json:"devices,omitempty"`
	Rules         []ruleRecord         `json:"rules"`
}

type ruleRecord struct {
	Number  int             `json:"number"`
	Handle  uint64          `json:"handle,omitempty"`
	Text    string          `json:"text"`
	Comment string          `json:"comment,omitempty"`
	Packets uint64          `json:"packets,omitempty"`
	Bytes   uint64          `json:"bytes,omitempty"`
	Counted bool            `json:"counted,omitempty"`
	Does    []verdictRecord `json:"does,omitempty"`
}

type verdictRecord struct {
	Kind     firewall.VerdictKind `json:"does"`
	Chain    string               `json:"chain,omitempty"`
	Detail   string               `json:"detail,omitempty"`
	Untracks bool                 `json:"untracks,omitempty"`
}

// judgedRecord is how the rules of a reading judged one packet.
type judgedRecord struct {
	Packet uint64 `json:"packet"` // packetHash
	// Asked are the rules that were asked, by their place among all: first and number, in turn.
	Asked []int `json:"asked"`
	// Answers are those other than that a rule does not match.
	Answers []answerRecord `json:"answers,omitempty"`
}

type answerRecord struct {
	Rule     int            `json:"rule_number"`
	Match    firewall.Truth `json:"match"`
	Verdict  verdictRecord  `json:"verdict"`
	Unjudged []string       `json:"unjudged,omitempty"`
}

// judgeLog keeps what the rules of a ruleset are asked. It wraps their bodies.
type judgeLog struct {
	names   *redact.Map
	packets map[uint64]map[int]firewall.Judgement
}

// loggedBody is the body of a rule that is asked through a log.
type loggedBody struct {
	firewall.Body
	log  *judgeLog
	rule int
}

// Judge implements firewall.Body.
func (b *loggedBody) Judge(p *firewall.Packet) firewall.Judgement {
	j := b.Body.Judge(p)
	b.log.keep(b.rule, packetHash(redactPacket(b.log.names, p)), j)
	if isMadeUp(p) {
		b.log.keep(b.rule, packetHash(p), j) // it will not have been redacted when it is asked again
	}
	return j
}

func (l *judgeLog) keep(rule int, hash uint64, j firewall.Judgement) {
	if l.packets[hash] == nil {
		l.packets[hash] = map[int]firewall.Judgement{}
	}
	l.packets[hash][rule] = j
}

// logRules wraps the rules of a set.
func logRules(set *firewall.Ruleset, names *redact.Map) *judgeLog {
	l := &judgeLog{names: names, packets: map[uint64]map[int]firewall.Judgement{}}
	eachRule(set, func(i int, r *firewall.Rule) { r.Body = &loggedBody{r.Body, l, i} })
	return l
}

// eachRule counts the rules of a set, in order.
func eachRule(set *firewall.Ruleset, f func(i int, r *firewall.Rule)) {
	i := 0
	for _, t := range set.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				f(i, r)
				i++
			}
		}
	}
}

// take returns what was kept since the last call.
func (l *judgeLog) take() []judgedRecord {
	var out []judgedRecord
	for hash, rules := range l.packets {
		rec := judgedRecord{Packet: hash}
		var asked []int
		for rule := range rules {
			asked = append(asked, rule)
		}
		slices.Sort(asked)
		for _, rule := range asked {
			if n := len(rec.Asked); n > 0 && rec.Asked[n-2]+rec.Asked[n-1] == rule {
				rec.Asked[n-1]++
			} else {
				rec.Asked = append(rec.Asked, rule, 1)
			}
			if j := rules[rule]; j.Match != firewall.No || len(j.Unjudged) > 0 {
				rec.Answers = append(rec.Answers, answerRecord{rule, j.Match, verdictRecord(j.Verdict), j.Unjudged})
			}
		}
		out = append(out, rec)
	}
	clear(l.packets)
	slices.SortFunc(out, func(a, b judgedRecord) int {
		if a.Packet < b.Packet {
			return -1
		}
		return 1
	})
	return out
}

// describeRules is what rules say.
func describeRules(r rulesRecord, set *firewall.Ruleset) rulesetRecord {
	out := rulesetRecord{rulesRecord: r, Problems: set.Problems}
	for _, t := range set.Tables {
		table := tableRecord{Backend: t.Backend, Family: t.Family, Name: t.Name, Dormant: t.Dormant, Progname: t.Progname}
		for _, c := range t.Chains {
			chain := chainRecord{
				Name: c.Name, Hook: c.Hook, Type: c.Type, Priority: c.Priority, Policy: c.Policy,
				PolicyPackets: c.PolicyPackets, PolicyCounted: c.PolicyCounted, Devices: c.Devices,
			}
			for _, q := range c.Rules {
				rule := ruleRecord{
					Number: q.Number, Handle: q.Handle, Text: q.Text(), Comment: q.Comment, Packets: q.Packets, Bytes: q.Bytes,
					Counted: q.Counted,
				}
				for _, v := range q.Body.Verdicts() {
					rule.Does = append(rule.Does, verdictRecord(v))
				}
				chain.Rules = append(chain.Rules, rule)
			}
			table.Chains = append(table.Chains, chain)
		}
		out.Tables = append(out.Tables, table)
	}
	return out
}

// ruleset makes rules of what they say.
func (r *rulesetRecord) ruleset() *judgedRules {
	out := &judgedRules{set: &firewall.Ruleset{Read: r.Read, Problems: r.Problems}}
	i := 0
	for _, t := range r.Tables {
		table := &firewall.Table{Backend: t.Backend, Family: t.Family, Name: t.Name, Dormant: t.Dormant, Progname: t.Progname}
		for _, c := range t.Chains {
			chain := &firewall.Chain{
				Table: table, Name: c.Name, Hook: c.Hook, Type: c.Type, Priority: c.Priority, Policy: c.Policy,
				PolicyPackets: c.PolicyPackets, PolicyCounted: c.PolicyCounted, Devices: c.Devices,
			}
			for _, q := range c.Rules {
				body := &judgedBody{rules: out, rule: i}
				for _, v := range q.Does {
					body.verdicts = append(body.verdicts, firewall.Verdict(v))
				}
				chain.Rules = append(chain.Rules, &firewall.Rule{
					Chain: chain, Number: q.Number, Handle: q.Handle, Written: q.Text, Comment: q.Comment, Packets: q.Packets,
					Bytes: q.Bytes, Counted: q.Counted, Body: body,
				})
				i++
			}
			table.Chains = append(table.Chains, chain)
		}
		out.set.Tables = append(out.set.Tables, table)
	}
	return out
}

// judgedRules are rules that know how they judged some packets: those of the flow in question.
type judgedRules struct {
	set     *firewall.Ruleset
	packets map[uint64]*judgedRecord
}

// judge sets how the rules judged the packets of a flow.
func (r *judgedRules) judge(list []judgedRecord) {
	r.packets = map[uint64]*judgedRecord{}
	for i := range list {
		r.packets[list[i].Packet] = &list[i]
	}
}

// judgedBody is the body of a rule of which only its answers are known.
type judgedBody struct {
	rules    *judgedRules
	rule     int
	verdicts []firewall.Verdict
}

// Verdicts implements firewall.Body.
func (b *judgedBody) Verdicts() []firewall.Verdict { return b.verdicts }

// Judge implements firewall.Body. What was not asked then cannot be told now.
func (b *judgedBody) Judge(p *firewall.Packet) firewall.Judgement {
	unknown := firewall.Judgement{Match: firewall.Maybe, Unjudged: []string{"a rule that was redacted"}}
	if len(b.verdicts) > 0 {
		unknown.Verdict = b.verdicts[0]
	}
	rec := b.rules.packets[packetHash(p)]
	if rec == nil || !rec.asked(b.rule) {
		return unknown
	}
	for _, a := range rec.Answers {
		if a.Rule == b.rule {
			return firewall.Judgement{Match: a.Match, Verdict: firewall.Verdict(a.Verdict), Unjudged: a.Unjudged}
		}
	}
	return firewall.Judgement{}
}

func (r *judgedRecord) asked(rule int) bool {
	for i := 0; i+1 < len(r.Asked); i += 2 {
		if rule >= r.Asked[i] && rule < r.Asked[i]+r.Asked[i+1] {
			return true
		}
	}
	return false
}

// packetHash tells packets apart, by everything that is known of them.
func packetHash(p *firewall.Packet) uint64 {
	q := *p
	q.AddrType, q.CT, q.Translated = nil, nil, nil
	h := fnv.New64a()
	fmt.Fprintf(h, "%+v", q)
	if p.CT != nil {
		fmt.Fprintf(h, "%+v", *p.CT)
	}
	if p.Translated != nil {
		fmt.Fprintf(h, "%+v", *p.Translated)
	}
	return h.Sum64()
}

// redactPacket is the packet as it will be seen in the redacted recording.
func redactPacket(m *redact.Map, p *firewall.Packet) *firewall.Packet {
	q := *p
	q.In, q.Out, q.PhysIn, q.PhysOut = m.Device(p.In), m.Device(p.Out), m.Device(p.PhysIn), m.Device(p.PhysOut)
	q.Src, q.Dst = m.Addr(p.Src), m.Addr(p.Dst)
	tuple := func(t firewall.Tuple) firewall.Tuple {
		t.Src, t.Dst = m.Addr(t.Src), m.Addr(t.Dst)
		return t
	}
	if p.CT != nil {
		ct := *p.CT
		ct.Orig, ct.Return = tuple(ct.Orig), tuple(ct.Return)
		q.CT = &ct
	}
	if p.Translated != nil {
		t := tuple(*p.Translated)
		q.Translated = &t
	}
	return &q
}

// isMadeUp reports whether a packet is none of a flow: it has no addresses, or such as are reserved for
// documentation (RFC 5737, 3849).
func isMadeUp(p *firewall.Packet) bool {
	reserved := func(a netip.Addr) bool {
		for _, text := range []string{"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "233.252.0.0/24", "2001:db8::/32"} {
			if netip.MustParsePrefix(text).Contains(a) {
				return true
			}
		}
		return !a.IsValid() || a.IsUnspecified()
	}
	return reserved(p.Src) && reserved(p.Dst) && p.CT == nil && p.Translated == nil
}

// redactJSON is a value with what identifies somebody's network replaced.
func redactJSON(m *redact.Map, value any) (json.RawMessage, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("redact: %w", err)
	}
	return m.JSON(text)
}
