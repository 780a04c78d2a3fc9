package tracer

import (
	"context"
	"fmt"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// findRule names the rule that dropped an ICMP error.
func (m *measurement) findRule(ctx context.Context, lost *path.Packet, end *path.MTUEnd) {
	s, p := m.s, m.peek(ctx)
	if p == nil {
		return
	}
	f := &diagnose.Facts{Namespaces: map[uint32]*diagnose.Namespace{}, NFTDropsInPlace: nftDropsInPlace(kernel.Release())}
	want := diagnose.DropNeeds(p, lost)
	for _, inode := range want.Links {
		s.readLinks(s.fact(f, inode), inode)
	}
	p.End = monotonic() // its counters may have been read before
	s.readRules(f, want, p)
	found := diagnose.DropOf(p, lost, f)
	if found.Where == nil {
		return
	}
	end.Lost = found.Where
	d := lost.Direction.Opposite()
	if found.Where.Rule != nil {
		m.openRule[d] = found.Remedy
	}
	m.ruleEvidence[d] = found.Evidence
}

// facts collects what the verdict needs.
func (m *measurement) facts(directions []path.MTU, p *path.Path) mtu.Facts {
	s := m.s
	lost, _ := s.lost()
	f := mtu.Facts{
		Directions: directions, Expect: m.expect, Source: s.t.source.Label, Target: s.targetFact(p).Label,
		Complete: lost == 0 && !s.gaps(p), LostEvents: lost,
		OpenRule: m.openRule, RuleEvidence: m.ruleEvidence, Routes: m.routes, Detours: m.detours,
		Spaces: map[uint32]mtu.Space{}, Networks: map[string]mtu.Network{},
	}
	for _, n := range s.t.engines.Networks() {
		f.Networks[n.Name] = mtu.Network{Driver: n.Driver, MTU: n.MTU, Default: n.Name == "bridge", Attachable: n.Attachable && n.Driver == "overlay"}
	}
	if p == nil {
		return f
	}
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			h := &packet.Hops[i]
			space, ok := f.Spaces[h.NetNS]
			if !ok {
				space = m.space(h.NetNS)
			}
			space.Forwards = space.Forwards || h.Stage == path.StageForward
			f.Spaces[h.NetNS] = space
		}
	}
	return f
}

// space describes a namespace of the path.
func (m *measurement) space(inode uint32) mtu.Space {
	s := m.s
	var out mtu.Space
	if c, ok := s.t.engines.ByNetNS(inode); ok && !c.HostNetwork() {
		out.Container = c.Name
		out.Enter = fmt.Sprintf(`nsenter --net=/proc/"$(docker inspect -f '{{.State.Pid}}' %s)"/ns/net `, c.Name)
	}
	if inode == s.t.topo.Self() {
		out.Enter = ""
	} else if ns, ok := s.t.topo.Namespace(inode); ok && ns.Path != "" {
		out.Enter = "nsenter --net=" + ns.Path + " "
	}
	if set := s.rules.after(inode, 0); set != nil {
		out.Clamp = dialect(set)
	}
	return out
}

// dialect is the tool that a namespace's firewall is written with.
func dialect(set *firewall.Ruleset) string {
	legacy, nft, native := set.Of(firewall.IptablesLegacy), set.Of(firewall.IptablesNFT), set.Of(firewall.NFTables)
	switch {
	case len(nft.Tables) > 0:
		return "iptables"
	case len(legacy.Tables) > 0:
		return "iptables-legacy"
	case len(native.Tables) > 0:
		return "nft"
	}
	return "iptables"
}
