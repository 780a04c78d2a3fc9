package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Limits of what is listed of the missing rules.
const (
	fewMissing   = 4 // rules that are quoted
	byHandAtMost = 2 // rules that are worth putting back one by one
)

// explainMissing adds to a finding which rules are missing, since when, and how they come back.
func (a *analysis) explainMissing(f *finding, ns uint32, list []expect.Missing) {
	x := a.space(ns).Expected
	for _, m := range list[:min(len(list), fewMissing)] {
		f.evidence = append(f.evidence, "missing in "+a.spaceName(ns)+": "+described(&m))
	}
	if all := len(x.Missing); all > len(list) {
		f.evidence = append(f.evidence, fmt.Sprintf("in all, %d of Docker's rules and chains are missing in %s",
			all, a.spaceName(ns)))
	}
	if x.Since != "" {
		f.evidence = append(f.evidence, x.Since)
	}
	if x.Assumed {
		f.evidence = append(f.evidence, "how the engine was started could not be read: with --iptables=false it "+
			"makes no rules at all")
	}
	f.remedy = a.restore(ns, list)
}

// described writes what is missing: the rule as its tool lists it, with its table, or the chain.
func described(m *expect.Missing) string {
	if m.Purpose == expect.Chain {
		return m.Sentence
	}
	text := fmt.Sprintf("%s (table %s)", m.Rule, m.Table)
	switch {
	case m.Backend == firewall.NFTables:
		text = fmt.Sprintf("%s (table %s %s, chain %s)", m.Rule, m.Family, m.Table, m.Chain)
	case m.Family == firewall.FamilyIP6:
		text = fmt.Sprintf("%s (table %s of ip6tables)", m.Rule, m.Table)
	}
	if m.Stale != "" {
		text += ", instead of one that leads to " + m.Stale
	}
	return text
}

// restore is how the rules come back: by hand if they are the only ones that are missing, else by
// letting Docker make all of them anew.
func (a *analysis) restore(ns uint32, list []expect.Missing) []string {
	x := a.space(ns).Expected
	var out []string
	if n := len(x.Missing); n == len(list) && n <= byHandAtMost {
		for _, m := range list {
			if m.Command == "" {
				out = nil
				break
			}
			out = append(out, a.commandIn(ns, "", m.Command))
		}
	}
	if !x.LiveRestore {
		return append(out, "systemctl restart docker  # puts all of Docker's rules back; restarts the containers, as "+
			"live-restore is off")
	}
	out = append(out, "systemctl restart docker  # puts Docker's rules back; live-restore is on, the containers "+
		"keep running")
	for _, m := range x.Missing {
		if m.OutlivesRestart() && !slices.Contains(out, a.commandIn(ns, "", m.Command)) {
			out = append(out, a.commandIn(ns, "", m.Command)+"  # with live-restore a restart may leave this out")
		}
	}
	return out
}

// proxyWarning tells that docker-proxy carried a connection that a DNAT rule should have carried.
// Docker's rules leave three kinds of requests to the proxy on purpose: those to a loopback address,
// those of containers on a bridge, and, without ip6tables, those over IPv6.
func (a *analysis) proxyWarning() (path.Warning, bool) {
	ns := a.p.ServerNetNS
	if a.p.Proto != path.TCP || !a.isForeign(ns) || a.hasDNAT() || !a.isPublished() {
		return path.Warning{}, false
	}
	l := a.listenerAt(ns, a.p.Server)
	addr := a.p.Server.Addr().Unmap()
	if l == nil || l.Process != processProxy || addr.IsLoopback() {
		return path.Warning{}, false
	}
	list := a.dnatMissing(ns)
	if k := a.keptFromDNAT(ns); k != nil && len(list) == 0 {
		return path.Warning{Cause: path.CauseNATMissing, Summary: fmt.Sprintf("docker-proxy carried the connection, since "+
			"%s, so Docker's DNAT rule does not see it; %s sees the proxy's address instead of %s; the rule: %s", k.why(),
			a.target(), a.p.Client.Addr(), ruleText(&k.list[0]))}, true
	}
	if a.space(ns).Expected != nil && len(list) == 0 {
		return path.Warning{}, false // Docker's rules leave this request to the proxy
	}
	if len(list) == 0 && (!addr.Is4() || !a.cameRouted(ns)) {
		return path.Warning{}, false
	}
	w := path.Warning{Cause: path.CauseNATMissing, Summary: fmt.Sprintf("docker-proxy carried the connection"+
		" because no DNAT rule in %s took port %d; %s sees the proxy's address instead of %s",
		a.spaceName(ns), a.p.Server.Port(), a.target(), a.p.Client.Addr())}
	if len(list) > 0 {
		w.Summary += "; missing: " + described(&list[0])
	}
	return w, true
}

// missingWarnings tells which of Docker's rules for a packet of a delivered flow are missing: what let
// it pass may not last, or it should not have passed.
func (a *analysis) missingWarnings() []path.Warning {
	var spaces []uint32
	found := map[uint32][]string{}
	for _, p := range a.p.Packets {
		if p == nil || p.ICMPError {
			continue
		}
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.Stage != path.StageForward || h.Action != path.ActionEnter || !onPath(h) || a.space(h.NetNS).Expected == nil {
				continue
			}
			if !slices.Contains(spaces, h.NetNS) {
				spaces = append(spaces, h.NetNS)
			}
			for _, m := range a.missing(h.NetNS, a.hookPacket(h, firewall.Forward)) {
				if m.Cause == path.CauseDockerRulesMissing && !slices.Contains(found[h.NetNS], m.Sentence) {
					found[h.NetNS] = append(found[h.NetNS], m.Sentence)
				}
			}
		}
	}
	var out []path.Warning
	for _, ns := range spaces {
		if list := found[ns]; len(list) > 0 {
			out = append(out, path.Warning{Cause: path.CauseDockerRulesMissing, Summary: fmt.Sprintf("Docker's own rules "+
				"are missing in %s, and it passed all the same: %s", a.spaceName(ns), firstFew(list))})
		}
	}
	return out
}

// firstFew writes the first of some sentences, and how many more there are.
func firstFew(list []string) string {
	const few = 3
	if n := len(list) - few; n > 0 {
		return fmt.Sprintf("%s, and %d more (pathtrace doctor lists them)", strings.Join(list[:few], "; "), n)
	}
	return strings.Join(list, "; ")
}

// expected asks for the comparison with Docker's state in every namespace that the flow was seen in.
func (w *want) expected(a *analysis) {
	for _, p := range a.p.Packets {
		if p == nil {
			continue
		}
		for i := range p.Hops {
			if h := &p.Hops[i]; (isNetfilter(h.Stage) || h.Action == path.ActionDrop || h.Action == path.ActionTransmit) &&
				!slices.Contains(w.Expected, h.NetNS) {
				w.Expected = append(w.Expected, h.NetNS)
			}
		}
	}
}
