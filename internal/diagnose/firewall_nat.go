package diagnose

import (
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// translations returns the flow's translations with the rules that made them, where that is sure.
func (a *analysis) translations() []path.Translation {
	list := slices.Clone(a.p.NAT)
	for i := range list {
		if t := &list[i]; t.Direction == path.Request && t.Rule == nil {
			t.Rule = a.natRule(t)
		}
	}
	return list
}

// natRule finds the rule that made a translation; nil if it is not sure.
func (a *analysis) natRule(t *path.Translation) *path.Rule {
	if c := a.natCandidate(t); c != nil {
		return pathRule(a.space(t.NetNS).Rules, c)
	}
	return nil
}

// natCandidate is natRule with the rule as it was read. Packets after the first are translated as the
// first was, without asking a rule.
func (a *analysis) natCandidate(t *path.Translation) *firewall.Candidate {
	set := a.space(t.NetNS).Rules
	if set == nil {
		return nil
	}
	for _, pkt := range a.packets(t.Direction) {
		h := translationHop(pkt, t)
		if h == nil {
			continue
		}
		v := visitOf(pkt, t.Stage, h)
		if v.enter == nil {
			return nil
		}
		p := a.packet(&v)
		if p == nil {
			return nil
		}
		list := firewall.Translating(set.Walk(p).Candidates, natKind(t.Kind))
		if len(list) != 1 || !list[0].Sure || !fitsResult(&list[0], t) {
			return nil
		}
		return &list[0]
	}
	return nil
}

// translationHop returns the observation of the packet being translated so, or nil.
func translationHop(pkt *path.Packet, t *path.Translation) *path.Hop {
	for i := range pkt.Hops {
		h := &pkt.Hops[i]
		if h.Stage == t.Stage && h.NetNS == t.NetNS && h.Action == t.Kind && !h.Copy &&
			(h.Src == t.To && h.PrevSrc == t.From || h.Dst == t.To && h.PrevDst == t.From) {
			return h
		}
	}
	return nil
}

func natKind(k path.Action) firewall.VerdictKind {
	if k == path.ActionDNAT {
		return firewall.DNAT
	}
	return firewall.SNAT
}

// fitsResult reports whether the rule can have had that result: one that names an address has to name
// the one that the packet got.
func fitsResult(c *firewall.Candidate, t *path.Translation) bool {
	addr := strings.Trim(hostOf(t.To), "[]")
	detail := strings.Trim(hostOf(c.Verdict.Detail), "[]")
	switch {
	case c.Verdict.Kind == firewall.Masquerade, c.Verdict.Kind == firewall.Redirect:
		return true
	case detail == "", strings.Contains(detail, "-"), strings.Contains(detail, "/"):
		return true // a range, or nothing that could be read
	}
	return detail == addr
}

// hostOf returns an address without its port.
func hostOf(s string) string {
	if i := strings.LastIndexByte(s, ':'); i >= 0 && (strings.IndexByte(s, ':') == i || strings.Contains(s, "]:")) {
		return s[:i]
	}
	return s
}
