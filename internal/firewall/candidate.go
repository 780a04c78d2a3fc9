package firewall

import "slices"

// Candidate is a rule or a chain's policy that could have ended or translated a packet.
type Candidate struct {
	Chain *Chain
	Rule  *Rule  // nil: the policy of Chain
	Base  *Chain // the base chain that led to it
	// Via are the rules that jumped to Chain, outermost first.
	Via     []*Rule
	Verdict Verdict
	// Sure says that the packet reached it and that it matched.
	Sure bool
	// Unjudged names what leaves it open, if it is not sure: matches of the rule itself first, then
	// those of rules before it.
	Unjudged []string
}

// IsPolicy reports whether the candidate is a chain's policy.
func (c *Candidate) IsPolicy() bool { return c.Rule == nil }

// Backend returns the backend of the candidate's table.
func (c *Candidate) Backend() Backend { return c.Chain.Table.Backend }

// CanDiscard reports whether the candidate can be why the kernel discarded the packet.
func (c *Candidate) CanDiscard() bool {
	return c.Verdict.Ends() && !c.Verdict.Translates() || c.Verdict.Kind == Unknown
}

// Discarding returns the candidates that can be why the kernel discarded the packet.
func Discarding(list []Candidate) []Candidate {
	return keep(list, func(c *Candidate) bool { return c.CanDiscard() })
}

// Translating returns the candidates of a kind of translation: SNAT includes Masquerade, DNAT Redirect.
func Translating(list []Candidate, kind VerdictKind) []Candidate {
	return keep(list, func(c *Candidate) bool {
		switch c.Verdict.Kind {
		case SNAT, Masquerade:
			return kind == SNAT
		case DNAT, Redirect:
			return kind == DNAT
		}
		return false
	})
}

// Of returns the tables of some backends only: those that can have ended a packet.
func (r *Ruleset) Of(backends ...Backend) *Ruleset {
	out := &Ruleset{Read: r.Read, Problems: r.Problems}
	for _, t := range r.Tables {
		if slices.Contains(backends, t.Backend) {
			out.Tables = append(out.Tables, t)
		}
	}
	return out
}

func keep(list []Candidate, want func(*Candidate) bool) []Candidate {
	var out []Candidate
	for i := range list {
		if want(&list[i]) {
			out = append(out, list[i])
		}
	}
	return out
}

// Growth is how a candidate's counter stood before and after a packet.
type Growth struct {
	Before, After uint64
	// Known is false if there is no counter, or if the rule was not there at both readings.
	Known bool
}

// Grew reports whether the counter is known to have grown.
func (g Growth) Grew() bool { return g.Known && g.After > g.Before }

// Settle finds the candidate that took the packet, if that can be told; else it returns -1. The only
// one there is took it, unless its counter denies that; of several the one that is sure and comes
// before all others, else the one whose counter grew while those of all others stood still. growth has
// an element for each candidate. before may be nil.
func Settle(list []Candidate, before, after *Ruleset) (index int, growth []Growth) {
	growth = make([]Growth, len(list))
	grew, unknown, last, lastUnknown := 0, 0, -1, -1
	for i := range list {
		g := list[i].growth(before, after)
		growth[i] = g
		switch {
		case g.Grew():
			grew, last = grew+1, i
		case !g.Known:
			unknown, lastUnknown = unknown+1, i
		}
	}
	switch {
	case grew == 1 && unknown == 0:
		return last, growth
	case grew == 0 && unknown == 1:
		return lastUnknown, growth
	case len(list) > 0 && list[0].Sure && (growth[0].Grew() || !growth[0].Known):
		return 0, growth
	}
	return -1, growth
}

// growth reads the candidate's counter in both readings.
func (c *Candidate) growth(before, after *Ruleset) Growth {
	if before == nil || after == nil {
		return Growth{}
	}
	x, ok1 := before.counter(c)
	y, ok2 := after.counter(c)
	return Growth{Before: x, After: y, Known: ok1 && ok2 && y >= x}
}

// counter finds the candidate in a reading, which may be another than the one it is from.
func (r *Ruleset) counter(c *Candidate) (uint64, bool) {
	ch := r.find(c.Chain)
	switch {
	case ch == nil:
		return 0, false
	case c.Rule == nil:
		return ch.PolicyPackets, ch.PolicyCounted
	}
	q := ch.find(c.Rule)
	if q == nil {
		return 0, false
	}
	return q.Packets, q.Counted
}

// find returns the chain that is the same as c in this reading, or nil.
func (r *Ruleset) find(c *Chain) *Chain {
	for _, t := range r.Tables {
		if t.Backend == c.Table.Backend && t.Family == c.Table.Family && t.Name == c.Table.Name {
			return t.Chain(c.Name)
		}
	}
	return nil
}

// find returns the rule that is the same as r in this reading of the chain, or nil: rules of nf_tables
// have handles; others are the same if they are in the same place or the only one with that text.
func (c *Chain) find(r *Rule) *Rule {
	if n := r.Number; n > 0 && n <= len(c.Rules) && c.Rules[n-1].Handle == r.Handle && c.Rules[n-1].Text() == r.Text() {
		return c.Rules[n-1]
	}
	var found *Rule
	for _, q := range c.Rules {
		if q.Handle != r.Handle || q.Text() != r.Text() {
			continue
		}
		if found != nil {
			return nil
		}
		found = q
	}
	return found
}
