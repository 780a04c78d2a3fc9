package tracer

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nftrace"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// maxRuleSteps bounds what is kept of one namespace: some thousand packets through a long ruleset.
const maxRuleSteps = 100_000

// run is one packet's way through one base chain and what that jumps to.
type run struct {
	header nftrace.Header
	steps  []nftrace.Step
	taken  bool
}

// runs are the steps of one namespace, sorted into runs.
type runs struct {
	list    []*run
	current map[uint32]*run // by packet
	kept    int             // steps
}

func newRuns() *runs { return &runs{current: map[uint32]*run{}} }

// add takes the next step, in the order of their coming. The kernel sends a packet's headers with the
// first step of each base chain (net/netfilter/nf_tables_trace.c). It reports whether there was room.
func (l *runs) add(s nftrace.Step) bool {
	if l.kept >= maxRuleSteps {
		return false
	}
	l.kept++
	r := l.current[s.Packet]
	if r == nil || s.Header.Proto != 0 {
		r = &run{header: s.Header}
		l.current[s.Packet] = r
		l.list = append(l.list, r)
	}
	r.steps = append(r.steps, s)
	return true
}

// forget drops the runs that were joined.
func (l *runs) forget() {
	l.list = slices.DeleteFunc(l.list, func(r *run) bool { return r.taken })
	l.kept = 0
	for _, r := range l.list {
		l.kept += len(r.steps)
	}
}

// hookOf is the hook whose base chain a run begins in; "" if it is not known.
func hookOf(rules *firewall.Ruleset, s nftrace.Step) firewall.Hook {
	if c := chainOf(rules, s); c != nil {
		return c.Hook
	}
	return ""
}

func chainOf(rules *firewall.Ruleset, s nftrace.Step) *firewall.Chain {
	if rules == nil {
		return nil
	}
	for _, t := range rules.Tables {
		if t.Backend != firewall.IptablesLegacy && t.Family == s.Family && t.Name == s.Table {
			return t.Chain(s.Chain)
		}
	}
	return nil
}

// join puts the runs on the hops at which packets of p entered the namespace's hooks. Runs that fit
// no packet are of other flows; what is joined is not joined again.
func (l *runs) join(p *path.Path, netns uint32, rules *firewall.Ruleset) {
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			h := &packet.Hops[i]
			if h.NetNS != netns || h.Action != path.ActionEnter || hookOfStage(h.Stage) == "" {
				continue
			}
			for _, r := range l.passage(packet, i, rules) {
				r.taken = true
				h.Rules = append(h.Rules, ruleSteps(r, rules)...)
			}
		}
	}
	l.forget()
}

// passage picks the runs of one packet's way through a hook, which it entered at its i-th hop: one of
// each base chain. A second one of the same chain is of a packet sent again.
func (l *runs) passage(packet *path.Packet, i int, rules *firewall.Ruleset) []*run {
	var out []*run
	type base struct {
		family       firewall.Family
		table, chain string
	}
	seen := map[base]bool{}
	hook := hookOfStage(packet.Hops[i].Stage)
	for _, r := range l.list {
		if r.taken || hookOf(rules, r.steps[0]) != hook || !r.fits(packet, i) {
			continue
		}
		first := r.steps[0]
		at := base{first.Family, first.Table, first.Chain}
		if seen[at] {
			break
		}
		seen[at] = true
		out = append(out, r)
	}
	return out
}

// ruleSteps names the rules of a run. A rule that is gone by now keeps its handle.
func ruleSteps(r *run, rules *firewall.Ruleset) []path.RuleStep {
	var out []path.RuleStep
	for _, s := range r.steps {
		step := path.RuleStep{
			Family: string(s.Family), Table: s.Table, Chain: s.Chain, Handle: s.Handle, Verdict: verdictText(s),
		}
		if rule := ruleOf(rules, s); rule != nil {
			step.Number, step.Text, step.Owner = rule.Number, rule.Text(), string(rules.Owner(rule))
		}
		out = append(out, step)
	}
	return out
}

func ruleOf(rules *firewall.Ruleset, s nftrace.Step) *firewall.Rule {
	c := chainOf(rules, s)
	if c == nil || s.Kind != nftrace.Rule {
		return nil
	}
	for _, rule := range c.Rules {
		if rule.Handle == s.Handle {
			return rule
		}
	}
	return nil
}

// verdictText is what a step did, in nft's words.
func verdictText(s nftrace.Step) string {
	text := s.Verdict.Kind.String()
	if s.Verdict.Chain != "" {
		text += " " + s.Verdict.Chain
	}
	switch s.Kind {
	case nftrace.Policy:
		return "policy " + text
	case nftrace.Return:
		return "end of chain"
	}
	return text
}

// fits reports whether the run is of the packet at its i-th hop, entering a hook. A chain behind a
// translation in the same hook sees the packet as it leaves.
func (r *run) fits(packet *path.Packet, i int) bool {
	h := &packet.Hops[i]
	if r.header.Seq != 0 && r.header.Seq != packet.Seq {
		return false
	}
	src, dst := r.header.Src, r.header.Dst
	if src == h.SrcAddr && dst == h.DstAddr {
		return true
	}
	for _, next := range packet.Hops[i+1:] {
		if next.NetNS == h.NetNS && next.Stage == h.Stage {
			return src == next.SrcAddr && dst == next.DstAddr
		}
	}
	return false
}

// hookOfStage is the netfilter hook of a stage, "" for others.
func hookOfStage(s path.Stage) firewall.Hook {
	switch s {
	case path.StagePrerouting, path.StageBridgePrerouting:
		return firewall.Prerouting
	case path.StageInput, path.StageBridgeInput:
		return firewall.Input
	case path.StageForward, path.StageBridgeForward:
		return firewall.Forward
	case path.StageOutput, path.StageBridgeOutput:
		return firewall.Output
	case path.StagePostrouting, path.StageBridgePostrouting:
		return firewall.Postrouting
	}
	return ""
}
