package nft

import (
	"slices"
	"sync"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// expr is one expression of a rule.
type expr interface {
	// eval does to the registers and the verdict what the kernel does.
	eval(m *machine)
}

// body is a rule as the kernel has it.
type body struct {
	family  firewall.Family
	backend firewall.Backend
	exprs   []expr
	policy  bool // what a chain of ebtables does at its end, which is a rule to the kernel
	sets    map[string]*set
	// words are the text of each expression that finishes a statement, "" of the others; write sets them and
	// text, when all sets are read.
	words         []string
	text, comment string
	write         func()
	written       sync.Once
}

// Text implements firewall.Writer.
func (b *body) Text() string {
	for s := b.unread(); s != nil; s = b.unread() {
		s.fetch()
	}
	b.written.Do(b.write)
	return b.text
}

// unread is a set of the rule that is still to be fetched, or nil.
func (b *body) unread() *set {
	for _, e := range b.exprs {
		if l, ok := e.(*lookupExpr); ok && l.set != nil && l.set.unread() {
			return l.set
		}
	}
	return nil
}

// lasting reports whether the rule says the same as long as the ruleset is the same: ipsets change
// apart from it.
func (b *body) lasting() bool {
	return !slices.ContainsFunc(b.exprs, func(e expr) bool {
		m, ok := e.(*matchExpr)
		return ok && m.match.Name == "set"
	})
}

// Judge implements firewall.Body.
func (b *body) Judge(p *firewall.Packet) firewall.Judgement {
	known := p.Src.IsValid() || p.Dst.IsValid()
	if known && (b.family == firewall.FamilyIP && p.IsIPv6() || b.family == firewall.FamilyIP6 && !p.IsIPv6() ||
		b.family == firewall.FamilyARP) {
		return firewall.Judgement{}
	}
	m := b.run(p)
	for m.truth != firewall.No && m.unread != nil {
		m.unread.fetch()
		m = b.run(p)
	}
	if m.truth == firewall.No {
		return firewall.Judgement{}
	}
	j := firewall.Judgement{Match: m.truth, Verdict: m.verdict}
	j.Verdict.Untracks = j.Verdict.Untracks || m.untracks
	for _, i := range m.doubts {
		j.Unjudged = append(j.Unjudged, b.word(i))
	}
	return j
}

// run evaluates the rule until it does not match or has a verdict. What a set says that is still to be
// fetched is taken as possible.
func (b *body) run(p *firewall.Packet) machine {
	m := machine{p: p, family: b.family, truth: firewall.Yes}
	for i, e := range b.exprs {
		m.at = i
		e.eval(&m)
		if m.truth == firewall.No || m.ended {
			break
		}
	}
	return m
}

// word is the text of the statement that expression i finishes.
func (b *body) word(i int) string {
	text := b.statement(i)
	if l, ok := b.exprs[i].(*lookupExpr); ok && l.set != nil && l.set.lost != nil {
		text += " (" + l.set.why() + ")"
	}
	return text
}

func (b *body) statement(i int) string {
	if b.write != nil {
		b.Text()
	}
	if i < len(b.words) && b.words[i] != "" {
		return b.words[i]
	}
	if n, ok := b.exprs[i].(interface{ kind() string }); ok {
		return n.kind()
	}
	return "a match"
}

// Verdicts implements firewall.Body.
func (b *body) Verdicts() []firewall.Verdict {
	for {
		m := machine{p: &firewall.Packet{}, family: b.family, truth: firewall.Yes, everything: true,
			listed: map[firewall.Verdict]bool{}}
		for _, e := range b.exprs {
			e.eval(&m)
		}
		if m.unread == nil {
			return m.verdicts
		}
		m.unread.fetch()
	}
}

// commentMatch is the text of the rule's comment match, as iptables-nft writes comments.
func (b *body) commentMatch() string {
	for _, e := range b.exprs {
		if m, ok := e.(*matchExpr); ok && m.match.Comment != "" {
			return m.match.Comment
		}
	}
	return ""
}
