package diagnose

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// ruleRemedy are the commands that let the packet pass, in the words of the tool that made the rule.
func (a *analysis) ruleRemedy(e *end, r *ruling, c *firewall.Candidate, cause path.Cause) []string {
	h := e.at()
	switch cause {
	case path.CauseNetworkIsolation:
		return a.isolationRemedy(r)
	case path.CauseDirectAccessBlocked:
		return a.directRemedy(r)
	}
	p := r.packet
	if t := c.Chain.Table; isTooBig(p) && t.Family != firewall.FamilyBridge && t.Family != firewall.FamilyARP {
		return []string{a.command(h, acceptTooBig(r, c))}
	}
	switch r.owner(c) {
	case firewall.OwnerUFW:
		return []string{a.command(h, ufwAllow(p))}
	case firewall.OwnerFirewalld:
		return a.firewalldAllow(h, p)
	case firewall.OwnerDocker, firewall.OwnerKubeProxy, firewall.OwnerLibvirt:
		if !c.IsPolicy() {
			return nil // not to be deleted by hand: the program would miss it, or bring it back
		}
	}
	if c.IsPolicy() {
		return []string{a.command(h, acceptRule(r, c))}
	}
	return []string{a.command(h, deleteRule(c, iptables(r.space.Rules, c), "everything that this rule stopped passes then"))}
}

// iptables is the name of the tool that shows the candidate's table.
func iptables(set *firewall.Ruleset, c *firewall.Candidate) string {
	t := c.Chain.Table
	tool := "iptables"
	switch t.Family {
	case firewall.FamilyIP6:
		tool = "ip6tables"
	case firewall.FamilyBridge:
		return "ebtables"
	case firewall.FamilyARP:
		return "arptables"
	}
	if t.Backend == firewall.IptablesLegacy {
		return tool + "-legacy"
	}
	for _, other := range set.Tables {
		if other.Backend == firewall.IptablesLegacy {
			return tool + "-nft" // plain iptables may be either
		}
	}
	return tool
}

// deleteRule deletes a rule: by what it says, since its number may change any time, or by its handle.
// effect is what comes of it besides.
func deleteRule(c *firewall.Candidate, tool, effect string) string {
	effect = "  # " + effect
	t := c.Chain.Table
	if t.Backend == firewall.NFTables {
		if hasVerdictMap(c.Rule.Text()) {
			effect = "  # the whole verdict map: what it accepts or sends on is no longer decided there either"
		}
		return fmt.Sprintf("nft delete rule %s %s %s handle %d", t.Family, quote(t.Name), quote(c.Chain.Name),
			c.Rule.Handle) + effect
	}
	if t.Name != "filter" {
		tool += " -t " + t.Name
	}
	spec, ok := strings.CutPrefix(c.Rule.Text(), "-A ")
	switch {
	case !ok:
	case !readsBack(spec):
		effect += "; its number may have changed: see " + tool + " -S " + quote(c.Chain.Name)
	default:
		return tool + " -D " + shellSpec(spec) + effect
	}
	return fmt.Sprintf("%s -D %s %d", tool, quote(c.Chain.Name), c.Rule.Number) + effect
}

// hasVerdictMap reports whether a rule of nftables leaves its verdict to a map.
func hasVerdictMap(text string) bool { return strings.Contains(text, " vmap ") }

// readsBack reports whether iptables -D finds a rule by what iptables -S writes of it. Of all matches,
// connlimit and recent are not found again (seen with iptables 1.8.9, nf_tables and legacy).
func readsBack(spec string) bool {
	return !strings.Contains(spec, "-m connlimit ") && !strings.Contains(spec, "-m recent ")
}

// shellSpec writes a rule's specification for the shell. iptables quotes a word as its own restore reads
// it: between double quotes, with a backslash before ", ' and itself (xtables_save_string), which a shell
// reads otherwise, and it leaves $ and ` as they are.
func shellSpec(spec string) string {
	var out []string
	var word strings.Builder
	quoted, escaped, inWord := false, false, false
	end := func() {
		switch w := word.String(); {
		case !inWord:
		case w == "!":
			out = append(out, w)
		default:
			out = append(out, quote(w))
		}
		inWord = false
		word.Reset()
	}
	for _, r := range spec {
		switch {
		case escaped:
			escaped = false
			word.WriteRune(r)
		case quoted && r == '\\':
			escaped = true
		case r == '"':
			quoted, inWord = !quoted, true
		case r == ' ' && !quoted:
			end()
		default:
			inWord = true
			word.WriteRune(r)
		}
	}
	end()
	return strings.Join(out, " ")
}

// acceptRule puts an exception for the packet in front of a chain whose policy drops it.
func acceptRule(r *ruling, c *firewall.Candidate) string {
	const effect = "  # for all sources; not kept over a restart"
	p, t := r.packet, c.Chain.Table
	dst, port := asSeenBy(p, c.Chain)
	if t.Backend == firewall.NFTables {
		family, proto := "ip", protoName(p)
		if p.IsIPv6() {
			family = "ip6"
		}
		match := family + " daddr " + dst.String()
		if port != 0 {
			match += fmt.Sprintf(" %s dport %d", proto, port)
		}
		return fmt.Sprintf("nft insert rule %s %s %s %s accept", t.Family, quote(t.Name), quote(c.Chain.Name), match) + effect
	}
	tool := iptables(r.space.Rules, c)
	chain := c.Chain.Name
	if chain == "FORWARD" && t.Chain("DOCKER-USER") != nil {
		chain = "DOCKER-USER"
	}
	if t.Name != "filter" {
		tool += " -t " + t.Name
	}
	cmd := fmt.Sprintf("%s -I %s -d %s", tool, chain, dst)
	if port != 0 {
		cmd += fmt.Sprintf(" -p %s --dport %d", protoName(p), port)
	}
	return cmd + " -j ACCEPT" + effect
}

// asSeenBy returns the destination as the chain sees it.
func asSeenBy(p *firewall.Packet, c *firewall.Chain) (netip.Addr, uint16) {
	if p.Translated != nil && c.Priority > -100 {
		return p.Translated.Dst, p.Translated.DstPort
	}
	return p.Dst, p.DstPort
}

func protoName(p *firewall.Packet) string {
	switch p.Proto {
	case protoTCP:
		return "tcp"
	case protoUDP:
		return "udp"
	case protoICMPv6:
		return "icmpv6"
	}
	return "icmp"
}

// ufwAllow permits the packet in front of ufw's other rules.
func ufwAllow(p *firewall.Packet) string {
	route := ""
	if p.Hook == firewall.Forward {
		route = "route "
	}
	if p.Proto != protoTCP && p.Proto != protoUDP {
		return "ufw status numbered  # ufw has no rules of that kind for this protocol; see /etc/ufw/before.rules"
	}
	return fmt.Sprintf("ufw %sprepend allow proto %s to %s port %d  # for all sources", route, protoName(p), p.Dst, p.DstPort)
}

// firewalldAllow opens the port in the zone of the device that the packet came in by.
func (a *analysis) firewalldAllow(h *path.Hop, p *firewall.Packet) []string {
	list := a.command(h, "firewall-cmd --list-all-zones")
	if p.Hook != firewall.Input || p.DstPort == 0 || p.In == "" {
		return []string{list}
	}
	return []string{a.command(h, fmt.Sprintf(`firewall-cmd --zone="$(firewall-cmd --get-zone-of-interface=%s)" --add-port=%d/%s`,
		quote(p.In), p.DstPort, protoName(p))) + "  # for all sources, until the next reload; --permanent keeps it"}
}

// isolationRemedy brings both ends into one network, or says which option keeps them apart.
func (a *analysis) isolationRemedy(r *ruling) []string {
	src, dst := a.f.Source, a.f.Target
	if r.packet.In == r.packet.Out {
		return append([]string{"docker network create shared  # the present one was made with enable_icc=false"},
			connectBoth("shared", a.nameOr(src, r.packet.Src, "SOURCE"), a.nameOr(dst, r.packet.Dst, "TARGET"))...)
	}
	if src.Container != "" && dst.Container != "" && len(dst.Networks) > 0 {
		asker, n := src.Container, dst.Networks[0].Name
		return []string{fmt.Sprintf("docker network connect %s %s  # %s then reaches all of %s", quote(n), quote(asker), asker, n)}
	}
	if src.Container != "" {
		return []string{fmt.Sprintf("docker network connect bridge %s  # a second network, which leads out of the host",
			quote(src.Container))}
	}
	return nil
}

// connectBoth brings two containers into a network.
func connectBoth(network, a, b string) []string {
	return []string{
		fmt.Sprintf("docker network connect %s %s", network, a),
		fmt.Sprintf("docker network connect %s %s", network, b),
	}
}

// nameOr names the container that is an end, or that was seen to send with an address or to get what was
// for it; other if there is none.
func (a *analysis) nameOr(e Endpoint, addr netip.Addr, other string) string {
	if e.Container != "" {
		return quote(e.Container)
	}
	for _, p := range a.p.Packets {
		if p == nil {
			continue
		}
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.Container != "" && onPath(h) && (h.SrcAddr.Addr() == addr && isLocalStart(h) || h.DstAddr.Addr() == addr && h.Action == path.ActionDeliver) {
				return quote(h.Container)
			}
		}
	}
	return other
}

// directRemedy publishes what was asked for, or says how Docker is told to let it be reached.
func (a *analysis) directRemedy(r *ruling) []string {
	for _, p := range a.f.Target.Published {
		if p.ContainerPort == r.packet.DstPort {
			return []string{fmt.Sprintf("ask for the published port of the host instead: %d", p.HostPort)}
		}
	}
	mode := "gateway_mode_ipv4"
	if r.packet.IsIPv6() {
		mode = "gateway_mode_ipv6"
	}
	open := "make the network with -o com.docker.network.bridge." + mode + "=nat-unprotected  # all of its ports are reachable then"
	port := r.packet.DstPort
	if port == 0 {
		return []string{open}
	}
	return []string{
		fmt.Sprintf("docker run -p %d:%d/%s …  # publish the port: start the container anew with it", port, port, protoName(r.packet)),
		"or " + open,
	}
}
