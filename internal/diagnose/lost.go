package diagnose

import (
	"fmt"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// DropNeeds says which facts would settle which rule dropped one packet of p.
func DropNeeds(p *path.Path, packet *path.Packet) Want {
	var w want
	a := &analysis{p: p, f: &Facts{}}
	e := a.endOf(packet, phaseReply)
	w.forEndRules(&e)
	if h := e.at(); h != nil {
		w.Links = append(w.Links, h.NetNS)
	}
	return w.sorted()
}

// DropFinding is what is known of the rule that dropped a packet.
type DropFinding struct {
	// Where has the rule, if it can be told. Evidence says what shows that it was this one, Remedy what
	// lets such packets pass.
	Where    *path.Where
	Evidence []string
	Remedy   []string
}

// DropOf says which rule dropped one packet of p, as far as that can be told; Where is nil if the
// packet was not dropped.
func DropOf(p *path.Path, packet *path.Packet, facts *Facts) DropFinding {
	a := &analysis{p: p, f: facts}
	e := a.endOf(packet, phaseReply)
	if e.drop == nil {
		return DropFinding{}
	}
	f := &finding{where: whereOf(e.drop, packet.Direction)}
	if hook := e.hook(); hook != "" {
		f.where.Stage = hook
	}
	a.byRule(&e, f, a.ruling(&e))
	return DropFinding{Where: f.where, Evidence: f.evidence, Remedy: f.remedy}
}

// isTooBig reports whether the packet is the ICMP error by which a router tells the MTU (RFC 1191, RFC 4443).
func isTooBig(p *firewall.Packet) bool {
	if p == nil || !p.HasICMP {
		return false
	}
	return p.Proto == protoICMP && p.ICMPType == 3 && p.ICMPCode == 4 || p.Proto == protoICMPv6 && p.ICMPType == 2
}

// acceptTooBig lets the ICMP errors of path MTU discovery pass in front of a rule or policy, and nothing else.
func acceptTooBig(r *ruling, c *firewall.Candidate) string {
	const effect = "  # lets routers tell senders the MTU, and nothing else pass; not kept over a restart"
	t, v6 := c.Chain.Table, r.packet.IsIPv6()
	if t.Backend == firewall.NFTables {
		match := "icmp type destination-unreachable icmp code frag-needed"
		if v6 {
			match = "icmpv6 type packet-too-big"
		}
		return fmt.Sprintf("nft insert rule %s %s %s %s accept", t.Family, quote(t.Name), quote(c.Chain.Name), match) + effect
	}
	tool, chain, match := iptables(r.space.Rules, c), c.Chain.Name, "-p icmp --icmp-type fragmentation-needed"
	if v6 {
		match = "-p ipv6-icmp --icmpv6-type packet-too-big"
	}
	if t.Name != "filter" {
		tool += " -t " + t.Name
	}
	return fmt.Sprintf("%s -I %s %s -j ACCEPT", tool, chain, match) + effect
}
