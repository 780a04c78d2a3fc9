package render

import (
	"strconv"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// ruleText shows a firewall rule, where it is and whose it is: "filter DOCKER-USER 1 (docker-user):
// -A DOCKER-USER -j DROP". The families that iptables writes into go without saying.
func ruleText(r *path.Rule) string {
	return rulePlace(r) + " (" + r.Owner + ")" + colon(r.Text)
}

// shortRule names a firewall rule in a few words: "nat DOCKER rule 2, docker".
func shortRule(r *path.Rule) string {
	text := familyTable(r) + " " + r.Chain
	if r.Number > 0 {
		text += " rule " + strconv.Itoa(r.Number)
	}
	return text + ", " + r.Owner
}

// rulePlace says where a rule is; a policy has no number.
func rulePlace(r *path.Rule) string {
	text := familyTable(r) + " " + r.Chain
	if r.Number > 0 {
		return text + " " + strconv.Itoa(r.Number)
	}
	return text + " policy"
}

// familyTable names the table, with its family if it is not one of those that iptables has.
func familyTable(r *path.Rule) string {
	switch r.Table {
	case "filter", "nat", "mangle", "raw", "security":
		if r.Family == "ip" || r.Family == "ip6" {
			return r.Table
		}
	}
	return r.Family + " " + r.Table
}

// natRule returns the rule that made the translation seen at a hop, nil if it is not known.
func natRule(p *path.Path, h *path.Hop) *path.Rule {
	for i := range p.NAT {
		t := &p.NAT[i]
		if t.Rule != nil && t.Direction == h.Direction && t.Kind == h.Action && t.NetNS == h.NetNS && t.Stage == h.Stage &&
			(t.From == h.PrevDst && t.To == h.Dst || t.From == h.PrevSrc && t.To == h.Src) {
			return t.Rule
		}
	}
	return nil
}
