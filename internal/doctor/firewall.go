package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// manyRules is how many rules a packet may meet at one hook before that is worth a word.
const manyRules = 1000

// rulesetChecks looks at the host's rules as a whole.
func rulesetChecks(h *Host) []finding {
	if h.NS == nil || h.NS.Rules == nil {
		return nil
	}
	return slices.Concat(twoBackends(h), longWay(h))
}

// twoBackends: rules of iptables-legacy and of iptables-nft both apply, and each tool shows its own only.
func twoBackends(h *Host) []finding {
	counts := map[firewall.Backend]int{}
	docker := map[firewall.Backend]bool{}
	for _, t := range h.NS.Rules.Tables {
		if t.Family != firewall.FamilyIP && t.Family != firewall.FamilyIP6 {
			continue
		}
		for _, c := range t.Chains {
			counts[t.Backend] += len(c.Rules)
			if c.Policy == firewall.Drop {
				counts[t.Backend]++
			}
		}
		docker[t.Backend] = docker[t.Backend] || t.Chain("DOCKER") != nil
	}
	legacy, nft := counts[firewall.IptablesLegacy], counts[firewall.IptablesNFT]
	if legacy == 0 || nft == 0 {
		return nil
	}
	f := finding{Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "two-iptables-backends",
		Summary: "rules of iptables-legacy and of iptables-nft are both in force, and each tool shows only its own",
		Evidence: []string{
			fmt.Sprintf("%s of iptables-legacy, %d of iptables-nft (a DROP policy counts as one)", path.FormatCount(legacy, "rule"), nft),
		},
		Remedy: []string{
			enter(h.NS, "iptables-legacy-save  # write what is needed of it with iptables-nft, then: iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F"),
		},
		Where: &path.Place{Namespace: h.NS.Name},
	}}
	switch {
	case docker[firewall.IptablesLegacy] && docker[firewall.IptablesNFT]:
		f.Evidence = append(f.Evidence, "chains of Docker are in both: it was switched from one to the other without a reboot")
	case docker[firewall.IptablesLegacy]:
		f.Evidence = append(f.Evidence, "Docker's chains are those of iptables-legacy")
		f.Remedy = []string{enter(h.NS, "iptables-nft-save  # write what is needed of it with iptables-legacy, then: iptables-nft -P FORWARD ACCEPT; iptables-nft -F")}
	case docker[firewall.IptablesNFT]:
		f.Evidence = append(f.Evidence, "Docker's chains are those of iptables-nft")
	}
	return []finding{f}
}

// longWay counts the rules that the first packet of a connection to a container meets.
func longWay(h *Host) []finding {
	p := h.sample()
	most, at := 0, firewall.Hook("")
	var longest *firewall.Chain
	for _, hook := range []firewall.Hook{firewall.Prerouting, firewall.Forward, firewall.Postrouting} {
		packet := *p
		packet.Hook = hook
		n, chain := meets(h.NS.Rules, &packet)
		if n > most {
			most, at, longest = n, hook, chain
		}
	}
	if most <= manyRules {
		return nil
	}
	t := longest.Table
	return []finding{{Finding: path.Finding{
		Severity: path.SeverityNote, Check: "many-rules",
		Summary: fmt.Sprintf("a new connection to a container meets up to %s rules at the hook %s: that costs time for each packet", path.FormatNumber(uint64(most)), at),
		Evidence: []string{
			fmt.Sprintf("%s of them are in chain %s of table %s %s (%s)", path.FormatCount(len(longest.Rules), "rule"), longest.Name, t.Family, t.Name, t.Backend),
		},
		Remedy: []string{"put addresses and ports into sets (ipset, nft sets): one rule with a set replaces many"},
		Where:  &path.Place{Namespace: h.NS.Name},
	}}}
}

// sample is the first packet of a connection from outside to some container.
func (h *Host) sample() *firewall.Packet {
	for _, c := range h.Containers {
		for _, p := range c.Published {
			if p.HostIP.Is4() {
				return h.fromOutside(c, p)
			}
		}
	}
	return h.fromOutside(&Container{Endpoints: []Endpoint{{IPv4: netip.AddrFrom4([4]byte{172, 17, 0, 2})}}},
		Port{HostPort: 80, ContainerPort: 80, Proto: "tcp"})
}

// meets counts the rules of the chains that a packet may come through at its hook, each chain once, and
// returns the longest of them. Rules after one that surely ends the walk are not met.
func meets(rules *firewall.Ruleset, p *firewall.Packet) (n int, longest *firewall.Chain) {
	seen := map[*firewall.Chain]bool{}
	var visit func(c *firewall.Chain)
	visit = func(c *firewall.Chain) {
		if c == nil || seen[c] {
			return
		}
		seen[c] = true
		met := 0
		for _, r := range c.Rules {
			met++
			j := r.Body.Judge(p)
			if j.Match == firewall.No {
				continue
			}
			if j.Verdict.Kind == firewall.Jump || j.Verdict.Kind == firewall.Goto {
				visit(c.Table.Chain(j.Verdict.Chain))
			}
			if j.Match == firewall.Yes && (j.Verdict.Ends() || j.Verdict.Kind == firewall.Goto) {
				break
			}
		}
		n += met
		if longest == nil || len(c.Rules) > len(longest.Rules) {
			longest = c
		}
	}
	for _, t := range rules.Tables {
		if t.Family != firewall.FamilyIP && t.Family != firewall.FamilyInet || t.Dormant {
			continue
		}
		for _, c := range t.Chains {
			if c.Hook == p.Hook {
				visit(c)
			}
		}
	}
	return n, longest
}

// bypassChecks finds published ports that the host's own firewall shows as closed: packets for
// containers do not come through INPUT, which is all that ufw, firewalld and most scripts look at.
func bypassChecks(h *Host) []finding {
	if h.NS == nil || h.NS.Rules == nil {
		return nil
	}
	var out []finding
	for _, c := range h.Containers {
		if !c.Runs() {
			continue
		}
		for _, ports := range byContainerPort(exposed4(c)) {
			p := ports[0]
			by, closed := h.closedFor(p)
			if !closed || h.guarded(c, p) {
				continue
			}
			out = append(out, finding{about: aboutPorts(c, ports), Finding: path.Finding{
				Severity: path.SeverityNote, Check: "firewall-bypassed",
				Summary: fmt.Sprintf("port %d, which %s publishes, is open to everybody although %s shows it as closed",
					p.HostPort, c.Name, by),
				Evidence: []string{
					fmt.Sprintf("%s refuses port %d in INPUT, which packets for containers do not come through", by, p.HostPort),
					"no rule in FORWARD (DOCKER-USER) refuses it",
				},
				Remedy: []string{h.closing(p)},
				Where:  &path.Place{Container: c.Name},
			}})
		}
	}
	return out
}

// exposed4 are the ports that are published on addresses of the host other than loopback, IPv4.
func exposed4(c *Container) []Port {
	var out []Port
	for _, p := range c.Published {
		if p.HostIP.Is4() && !p.HostIP.IsLoopback() && p.HostPort != 0 {
			out = append(out, p)
		}
	}
	return out
}

// closedFor reports whether the host itself would surely refuse a connection from outside to a port,
// and who says so.
func (h *Host) closedFor(p Port) (by string, closed bool) {
	packet := h.fromOutside(&Container{}, p)
	packet.Hook, packet.Out, packet.DstPort = firewall.Input, "", p.HostPort
	packet.Dst = packet.CT.Orig.Dst
	packet.CT = &firewall.Conntrack{State: firewall.CTNew, HasStatus: true, Orig: packet.CT.Orig,
		Return: firewall.Tuple{Src: packet.Dst, Dst: packet.Src, SrcPort: p.HostPort, DstPort: packet.SrcPort, Proto: packet.Proto}}
	own := packet.Dst
	packet.AddrType = func(addr netip.Addr, typ, _ string) firewall.Truth {
		switch typ {
		case "LOCAL":
			return firewall.Of(addr == own)
		case "UNICAST":
			return firewall.Yes
		}
		return firewall.No
	}
	w := h.NS.Rules.Walk(packet)
	if w.Passed != firewall.No {
		return "", false
	}
	for _, c := range firewall.Discarding(w.Candidates) {
		switch owner := h.NS.Rules.OwnerOf(&c); {
		case owner == "ufw" || owner == "firewalld":
			return string(owner), true
		case c.IsPolicy():
			by = "the policy of " + c.Chain.Name
		default:
			by = "a rule of " + c.Chain.Name
		}
	}
	return by, by != ""
}
