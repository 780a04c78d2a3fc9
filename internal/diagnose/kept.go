package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// kept is why a rule of NAT that is there did not translate a packet.
type kept struct {
	netns uint32
	stage path.Stage // the hook in which the packet was kept from it
	// list are the rules that kept it: it takes all of them to go before it is translated.
	list []firewall.Candidate
}

// keptFromDNAT finds what kept the request from a DNAT rule of a namespace; nil if nothing is known to have.
func (a *analysis) keptFromDNAT(ns uint32) *kept {
	v := a.hookVisit(path.Request, ns, "PREROUTING", "OUTPUT")
	return a.keptFrom(v, v, firewall.DNAT)
}

// keptFromSNAT is keptFromDNAT of the rules that translate the source of what leaves a namespace. What
// turns tracking off for a packet does so before, where it comes in.
func (a *analysis) keptFromSNAT(ns uint32) *kept {
	leaving := a.hookVisit(path.Request, ns, "POSTROUTING")
	return a.keptFrom(a.hookVisit(path.Request, ns, "PREROUTING", "OUTPUT"), leaving, firewall.SNAT)
}

// hookVisit returns how the first packet of a direction passed one of some hooks of a namespace, for routed
// or for bridged packets; nil if none was seen to.
func (a *analysis) hookVisit(dir path.Direction, ns uint32, hooks ...string) *visit {
	for _, pkt := range a.packets(dir) {
		var v *visit
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			switch {
			case h.NetNS != ns || !onPath(h):
			case v == nil && h.Action == path.ActionEnter && isNetfilter(h.Stage) && slices.Contains(hooks, hookName(h.Stage)):
				v = &visit{pkt: pkt, stage: h.Stage, netns: ns, enter: h}
			case v != nil && v.end == nil && h.Stage == v.stage:
				v.end = h
			}
		}
		if v != nil {
			return v
		}
	}
	return nil
}

// keptFrom asks the rules what they would do with a packet if those that exempt it were not there: at is
// the hook in which tracking would begin, nat that of the translation. Either may be nil.
func (a *analysis) keptFrom(at, nat *visit, kind firewall.VerdictKind) *kept {
	if nat == nil {
		return nil
	}
	n := a.space(nat.netns)
	p := a.packet(nat)
	if n.Rules == nil || p == nil {
		return nil
	}
	out := &kept{netns: nat.netns, stage: nat.stage}
	if isUntracked(p) {
		if list := untracking(n.Rules, a.packetAt(at)); len(list) > 0 {
			out.stage, out.list = at.stage, list
		}
	}
	now := *p
	now.CT, now.TrackedBefore = &firewall.Conntrack{State: firewall.CTNew, HasStatus: true}, hookName(nat.stage) == "POSTROUTING"
	exempt, ok := exempting(n.Rules, &now, kind)
	if out.list = append(out.list, exempt...); !ok || len(out.list) == 0 {
		return nil
	}
	return out
}

// exempting returns the rules in chains of NAT that surely end the way of a packet there before it is
// translated. ok says that it is translated without them.
func exempting(set *firewall.Ruleset, p *firewall.Packet, kind firewall.VerdictKind) (list []firewall.Candidate, ok bool) {
	translates := func(gone []*firewall.Rule) bool {
		t := firewall.Translating(set.WalkWithout(p, gone...).Candidates, kind)
		return len(t) > 0 && t[0].Sure
	}
	var steps []firewall.Step
	var gone []*firewall.Rule
	for _, s := range set.Walk(p).Steps {
		if s.Rule != nil && (s.Verdict.Kind == firewall.Accept || s.Verdict.Kind == firewall.Return) && hasNAT(s.Chain.Table, p.Hook) {
			steps, gone = append(steps, s), append(gone, s.Rule)
		}
	}
	if !translates(gone) {
		return nil, false
	}
	for _, s := range steps {
		without := slices.DeleteFunc(slices.Clone(gone), func(r *firewall.Rule) bool { return r == s.Rule })
		if translates(without) {
			gone = without
			continue
		}
		list = append(list, stepCandidate(s))
	}
	return list, true
}

// packetAt is packet of a visit that may be nil.
func (a *analysis) packetAt(v *visit) *firewall.Packet {
	if v == nil {
		return nil
	}
	return a.packet(v)
}

// isUntracked reports whether connection tracking is known, or may be taken, to have left a packet alone.
func isUntracked(p *firewall.Packet) bool { return p.CT == nil || p.CT.State == firewall.CTUntracked }

// untracking returns the rules that surely turned tracking off for a packet. p may be nil.
func untracking(set *firewall.Ruleset, p *firewall.Packet) []firewall.Candidate {
	if p == nil {
		return nil
	}
	var out []firewall.Candidate
	for _, s := range set.Walk(p).Steps {
		if s.Rule != nil && s.Verdict.Untracks {
			out = append(out, stepCandidate(s))
		}
	}
	return out
}

func stepCandidate(s firewall.Step) firewall.Candidate {
	return firewall.Candidate{Chain: s.Chain, Base: s.Chain, Rule: s.Rule, Verdict: s.Verdict, Sure: true}
}

// hasNAT reports whether a table has a chain for NAT at a hook.
func hasNAT(t *firewall.Table, hook firewall.Hook) bool {
	return slices.ContainsFunc(t.Chains, func(c *firewall.Chain) bool { return c.Type == "nat" && c.Hook == hook })
}

// why is the rest of a sentence: "rule 1 of chain PREROUTING (table raw) turns connection tracking off
// for it".
func (k *kept) why() string {
	var names []string
	for i := range k.list {
		names = append(names, ruleNamed(&k.list[i]))
	}
	s := strings.Join(names, " and ")
	switch {
	case len(names) > 1:
		return s + " keep it from NAT"
	case k.list[0].Verdict.Untracks:
		return s + " turns connection tracking off for it"
	}
	return s + " takes it out before"
}

// addKept puts into a finding which rules kept a packet from NAT, and how they go.
func (a *analysis) addKept(f *finding, k *kept) {
	set := a.space(k.netns).Rules
	f.where = &path.Where{Namespace: a.spaceLabel(k.netns), Container: a.spaceContainer(k.netns), Stage: k.stage,
		Direction: path.Request, Rule: pathRule(set, &k.list[0])}
	f.remedy = nil
	for i := range k.list {
		c := &k.list[i]
		if i > 0 {
			f.evidence = append(f.evidence, "so did "+ruleLine(set, c))
		}
		effect := "what else it exempted from NAT is translated then"
		if c.Verdict.Untracks {
			effect = "what else it stopped from being tracked is tracked then"
		}
		f.remedy = append(f.remedy, a.commandIn(k.netns, "", deleteRule(c, iptables(set, c), effect)))
	}
}

// explainReplyUntracked: a rule turned tracking off for the reply, so the translation of the request was
// not undone, and the asker does not know what it got.
func explainReplyUntracked(a *analysis, e *end) *finding {
	if e.pkt == nil || e.direction() != path.Reply {
		return nil
	}
	for _, t := range a.p.NAT {
		if t.Direction != path.Request || t.NetNS == 0 {
			continue
		}
		v := a.hookVisit(path.Reply, t.NetNS, "PREROUTING", "OUTPUT")
		p := a.packetAt(v)
		if p == nil || !isUntracked(p) || a.space(t.NetNS).Rules == nil {
			continue
		}
		list := untracking(a.space(t.NetNS).Rules, p)
		if len(list) == 0 {
			continue
		}
		k := &kept{netns: t.NetNS, stage: v.stage, list: list}
		f := &finding{cause: path.CauseConntrackInvalid, says: fmt.Sprintf("%s went on untranslated in %s, since %s",
			a.subject(e), a.spaceName(t.NetNS), k.why())}
		a.addKept(f, k)
		f.where.Direction = path.Reply
		return f
	}
	return nil
}

// forNAT asks for the rules of the namespaces that translated the request, or should have.
func (w *want) forNAT(a *analysis) {
	for _, t := range a.p.NAT {
		w.Rules = append(w.Rules, t.NetNS)
	}
	for _, p := range a.packets(path.Request) {
		for i := range p.Hops {
			if h := &p.Hops[i]; onPath(h) && h.Stage == path.StageForward && h.Outer == nil {
				w.Rules = append(w.Rules, h.NetNS)
			}
		}
	}
}
