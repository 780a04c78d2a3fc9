package nft

import (
	"slices"

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
	// words are the text of each expression that finishes a statement, "" of the others.
	words         []string
	text, comment string
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
	m := machine{p: p, family: b.family, truth: firewall.Yes}
	for i, e := range b.exprs {
		m.at = i
		e.eval(&m)
		if m.truth == firewall.No {
			return firewall.Judgement{}
		}
		if m.ended {
			break
		}
	}
	j := firewall.Judgement{Match: m.truth, Verdict: m.verdict}
	j.Verdict.Untracks = j.Verdict.Untracks || m.untracks
	for _, i := range m.doubts {
		j.Unjudged = append(j.Unjudged, b.word(i))
	}
	return j
}

// word is the text of the statement that expression i finishes.
func (b *body) word(i int) string {
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
	m := machine{p: &firewall.Packet{}, family: b.family, truth: firewall.Yes, everything: true}
	for _, e := range b.exprs {
		e.eval(&m)
	}
	return m.verdicts
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
