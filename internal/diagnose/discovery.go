package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// ICMPv6 types of neighbour discovery (RFC 4861).
const (
	icmpSolicit   = 135
	icmpAdvertise = 136
)

// muted is the rule or policy that keeps a namespace from learning a MAC address over IPv6.
type muted struct {
	netns uint32
	rule  firewall.Candidate
	what  string // of neighbour discovery it drops: "the question" or "the answer"
}

// discoveryDropped asks the rules of a namespace, and of the one that has an IPv6 address, about the question
// for it and about the answer; nil if none surely drops one. Connection tracking leaves both alone
// (nf_conntrack_proto_icmpv6.c).
func (a *analysis) discoveryDropped(ns uint32, addr netip.Addr, dev device) *muted {
	if !addr.Is6() || dev == "" {
		return nil
	}
	group := netip.MustParseAddr("ff02::1:ff00:0").As16() // of those whose addresses end alike (RFC 4291, 2.7.1)
	own := addr.As16()
	copy(group[13:], own[13:])
	ask := firewall.Packet{Dst: netip.AddrFrom16(group), ICMPType: icmpSolicit}
	answer := firewall.Packet{Src: addr, ICMPType: icmpAdvertise}
	if m := a.drops(ns, "the question", ask, firewall.Output, string(dev)); m != nil {
		return m
	}
	for i := range a.f.Owners {
		o := &a.f.Owners[i]
		if o.Addr != addr || o.NetNS == ns {
			continue
		}
		if m := a.drops(o.NetNS, "the question", ask, firewall.Input, o.Device); m != nil {
			return m
		}
		if m := a.drops(o.NetNS, "the answer", answer, firewall.Output, o.Device); m != nil {
			return m
		}
	}
	return a.drops(ns, "the answer", answer, firewall.Input, string(dev))
}

// drops asks the rules of a namespace about a packet of neighbour discovery at a hook.
func (a *analysis) drops(ns uint32, what string, p firewall.Packet, hook firewall.Hook, dev string) *muted {
	set := a.space(ns).Rules
	if set == nil {
		return nil
	}
	if p.Hook, p.Out = hook, dev; hook == firewall.Input {
		p.In, p.Out = dev, ""
	}
	p.Proto, p.HasICMP, p.TTL = protoICMPv6, true, 255
	p.CT = &firewall.Conntrack{State: firewall.CTUntracked, HasStatus: true}
	w := set.Walk(&p)
	if list := firewall.Discarding(w.Candidates); w.Passed == firewall.No && len(list) > 0 && list[0].Sure {
		return &muted{ns, list[0], what}
	}
	return nil
}

// muteFinding adds to the finding that a MAC address was not learnt which rule kept it from being.
func (a *analysis) muteFinding(f *finding, m *muted) {
	set, c := a.space(m.netns).Rules, &m.rule
	f.says += fmt.Sprintf(", since %s of %s drops %s", ruleNamed(c), a.spaceName(m.netns), m.what)
	f.where.Rule = pathRule(set, c)
	const effect = "  # lets neighbour discovery pass and nothing else; not kept over a restart"
	t, base := c.Chain.Table, c.Base.Name
	if t.Backend == firewall.NFTables {
		f.remedy = []string{a.commandIn(m.netns, "", fmt.Sprintf("nft 'insert rule %s %s %s icmpv6 type { nd-neighbor-solicit, "+
			"nd-neighbor-advert } accept'", t.Family, t.Name, base)) + effect}
		return
	}
	tool := iptables(set, c)
	if t.Name != "filter" {
		tool += " -t " + t.Name
	}
	f.remedy = nil
	for _, kind := range []string{"solicitation", "advertisement"} {
		f.remedy = append(f.remedy, a.commandIn(m.netns, "", fmt.Sprintf("%s -I %s -p ipv6-icmp --icmpv6-type neighbour-%s -j ACCEPT",
			tool, quote(base), kind))+effect)
	}
}

// forDiscovery asks for the rules where a packet may wait for a MAC address that IPv6 has to find.
func (w *want) forDiscovery(a *analysis, e *end) {
	if h := e.at(); h != nil && a.isV6(h) && (e.drop == nil || isNeighbourDrop(e.drop)) {
		w.Rules, w.OwnerRules = append(w.Rules, h.NetNS), true
	}
}
