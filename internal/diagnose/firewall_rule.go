package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// maxListed bounds the rules that a verdict lists where it cannot tell which one it was.
const maxListed = 8

// fewChains bounds the commands that list chains.
const fewChains = 4

// byRule puts what is known of the rule into a finding and returns its part of the sentence: " by rule 1
// of chain DOCKER-USER", or "" if nothing is known.
func (a *analysis) byRule(e *end, f *finding, r *ruling) string {
	if at := e.at(); isBridgeHookDrop(at) && e.hook() == "" {
		f.remedy = []string{a.command(at, "nft -a list ruleset bridge"), a.command(at, "ebtables -L --Lc")}
	} else {
		f.remedy = a.listRules(e.hook(), at)
	}
	if r == nil {
		return ""
	}
	if len(r.list) == 0 {
		a.noRule(f, r)
		return ""
	}
	f.cause = a.commonCause(e, r)
	c := r.one()
	if c == nil {
		f.remedy = a.listChains(e.at(), r)
		return a.oneOf(f, r)
	}
	f.where.Rule = pathRule(r.space.Rules, c)
	f.evidence = append(f.evidence, ruleEvidence(r, c)...)
	if remedy := a.ruleRemedy(e, r, c, f.cause); len(remedy) > 0 {
		f.remedy = remedy
	}
	switch f.cause {
	case path.CauseNetworkIsolation:
		return " by Docker's isolation of networks, " + ruleNamed(c) + ","
	case path.CauseDirectAccessBlocked:
		return " by Docker's protection of what is not published, " + ruleNamed(c) + ","
	}
	return " by " + ruleNamed(c)
}

// listChains are the commands that show the chains of the candidates with their counters.
func (a *analysis) listChains(h *path.Hop, r *ruling) []string {
	var out []string
	for i := range r.list {
		c := &r.list[i]
		t := c.Chain.Table
		cmd := fmt.Sprintf("nft -a list chain %s %s %s", t.Family, quote(t.Name), quote(c.Chain.Name))
		if t.Backend != firewall.NFTables {
			tool, list := iptables(r.space.Rules, c), "-vn --line-numbers"
			if t.Family == firewall.FamilyBridge {
				list = "--Lc --Ln"
			}
			if t.Name != "filter" {
				tool += " -t " + t.Name
			}
			cmd = fmt.Sprintf("%s -L %s %s", tool, quote(c.Chain.Name), list)
		}
		if cmd = a.command(h, cmd); !slices.Contains(out, cmd) && len(out) < fewChains {
			out = append(out, cmd)
		}
	}
	return out
}

// oneOf lists the rules of which one did it.
func (a *analysis) oneOf(f *finding, r *ruling) string {
	var open []string
	for i := range r.list[:min(len(r.list), maxListed)] {
		for _, s := range r.list[i].Unjudged {
			if !slices.Contains(open, s) {
				open = append(open, s)
			}
		}
		f.evidence = append(f.evidence, fmt.Sprintf("it was one of these %d: %s", len(r.list),
			ruleLine(r.space.Rules, &r.list[i])))
	}
	if n := len(r.list) - maxListed; n > 0 {
		f.evidence = append(f.evidence, fmt.Sprintf("… or one of %d more", n))
	}
	if len(open) > 0 {
		f.evidence = append(f.evidence, "what cannot be judged from outside: "+strings.Join(open, ", "))
	}
	return fmt.Sprintf(" by one of %d rules", len(r.list))
}

// noRule says that no rule that was read drops the packet.
func (a *analysis) noRule(f *finding, r *ruling) {
	f.evidence = append(f.evidence, "none of the rules that can be read now drops it: they may have changed since")
	for _, s := range r.space.Rules.Problems {
		f.evidence = append(f.evidence, "not read: "+s)
	}
}

// ruleEvidence says what shows that it was this rule, and whose it is.
func ruleEvidence(r *ruling, c *firewall.Candidate) []string {
	var out []string
	for i := len(r.steps) - 1; i >= 0; i-- {
		s := r.steps[i]
		if s.Verdict.Kind == firewall.Accept && s.Rule != nil && s.Chain.Table != c.Chain.Table {
			out = append(out, fmt.Sprintf("rule %d of chain %s (table %s) had accepted it, which does not save it "+
				"from other tables", s.Rule.Number, s.Chain.Name, s.Chain.Table.Name))
			break
		}
	}
	if r.traced {
		out = append(out, "the kernel's own trace of the packet's way through the rules ends there")
	}
	if g := r.growth[r.settled]; g.Grew() {
		what := "rule"
		if c.IsPolicy() {
			what = "policy"
		}
		out = append(out, fmt.Sprintf("the %s's counter went from %d to %d packets", what, g.Before, g.After))
	}
	if !c.Sure && !r.traced && len(c.Unjudged) > 0 && len(r.list) == 1 {
		out = append(out, "not judged: "+strings.Join(c.Unjudged, ", ")+"; no other rule can have dropped it")
	}
	if s := ownerSentence(r.owner(c), c); s != "" {
		out = append(out, s)
	}
	return out
}

// ownerSentence says whose a rule is, where that is worth a sentence.
func ownerSentence(o firewall.Owner, c *firewall.Candidate) string {
	what := "the rule"
	if c.IsPolicy() {
		what = "the policy"
	}
	switch {
	case o == firewall.OwnerDocker && c.IsPolicy():
		return "Docker sets this policy when it turns forwarding on; what no rule accepts is dropped"
	case o == firewall.OwnerDocker:
		return "the rule is one of Docker's own"
	case o == firewall.OwnerDockerUser && c.Chain.Name == "DOCKER-USER":
		return "the rule is in DOCKER-USER, the chain that Docker leaves to its user"
	case o == firewall.OwnerDockerUser:
		return "the rule is reached from DOCKER-USER, the chain that Docker leaves to its user"
	case o == firewall.OwnerUser && !c.IsPolicy():
		if c.Rule.Comment != "" {
			return fmt.Sprintf("the rule's comment says: %s", c.Rule.Comment)
		}
		return ""
	case o == firewall.OwnerUser:
		return ""
	}
	return what + " is one of " + string(o) + "'s"
}
