package diagnose

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainTranslatedElsewhere: a rule that is none of the target's translated the request for a port which
// the target publishes. Whatever happened to it on its way there is no more than a consequence.
func explainTranslatedElsewhere(a *analysis, e *end) *finding {
	if e.pkt == nil || e.phase == phaseData {
		return nil
	}
	return a.translatedElsewhere(e.direction())
}

// translatedElsewhere names the rule that sent the request for a published port to another address than
// the target's; nil if none is known to have.
func (a *analysis) translatedElsewhere(dir path.Direction) *finding {
	t := &a.f.Target
	if t.Container == "" || len(t.Networks) == 0 || !a.isPublished() || !a.p.Target.IsValid() ||
		a.isTargetAddr(a.p.Target.Addr()) {
		return nil
	}
	for i := range a.p.NAT {
		n := &a.p.NAT[i]
		if n.Kind != path.ActionDNAT || n.Direction != path.Request || n.From != address(a.p.Server) ||
			n.To != address(a.p.Target) || !slices.Contains(t.HostNetNS, n.NetNS) {
			continue
		}
		if c := a.natCandidate(n); c != nil && c.Chain.Name != "DOCKER-INGRESS" {
			return a.astray(n, c, dir)
		}
	}
	return nil
}

// astray words that a rule sends what is for the target somewhere else.
func (a *analysis) astray(n *path.Translation, c *firewall.Candidate, dir path.Direction) *finding {
	t, set := &a.f.Target, a.space(n.NetNS).Rules
	at := &path.Hop{NetNS: n.NetNS, Namespace: a.natPlace(*n), Stage: n.Stage}
	f := &finding{
		cause: path.CauseNATMissing, where: whereOf(at, dir),
		says: fmt.Sprintf("the request from %s for port %d, which %s publishes, was sent to %s by %s in %s", a.asker(),
			a.p.Server.Port(), t.Label, n.To, ruleNamed(c), a.spaceName(n.NetNS)),
	}
	f.where.Rule = pathRule(set, c)
	for _, x := range t.Networks {
		for _, addr := range x.Addrs {
			f.evidence = append(f.evidence, fmt.Sprintf("container %s has %s on network %s", t.Container, addr, x.Name))
		}
	}
	if s := a.subnetOf(at, a.p.Target.Addr()); s != nil {
		f.evidence = append(f.evidence, fmt.Sprintf("no container of network %s has %s", s.Network, a.p.Target.Addr()))
	}
	f.remedy = []string{a.command(at, deleteRule(c, iptables(set, c), "what else it translates goes where it was sent, then"))}
	if list := a.dnatMissing(n.NetNS); len(list) > 0 {
		missing := &finding{}
		a.explainMissing(missing, n.NetNS, list)
		f.evidence, f.remedy = append(f.evidence, missing.evidence...), append(f.remedy, missing.remedy...)
	}
	return f
}
