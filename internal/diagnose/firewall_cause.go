package diagnose

import (
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// ruleCause says which cause a drop by a candidate is.
func (a *analysis) ruleCause(e *end, r *ruling, c *firewall.Candidate) path.Cause {
	switch {
	case c.Chain.Table.Family == firewall.FamilyBridge:
		return path.CauseBridgeFilter
	case r.owner(c) == firewall.OwnerDocker && !c.IsPolicy():
		return a.dockerCause(e, r, c)
	case c.IsPolicy():
		return path.CauseFirewallPolicy
	case r.packet != nil && asksForInvalid(r.packet, c):
		return path.CauseConntrackInvalid
	}
	return path.CauseFirewallDrop
}

// commonCause is the cause that all candidates share, else firewall-drop.
func (a *analysis) commonCause(e *end, r *ruling) path.Cause {
	if c := r.one(); c != nil {
		return a.ruleCause(e, r, c)
	}
	cause := path.CauseFirewallDrop
	for i := range r.list {
		c := a.ruleCause(e, r, &r.list[i])
		if i > 0 && c != cause {
			return path.CauseFirewallDrop
		}
		cause = c
	}
	return cause
}

// dockerCause tells what one of Docker's own rules is for.
func (a *analysis) dockerCause(e *end, r *ruling, c *firewall.Candidate) path.Cause {
	switch purposeOf(c.Rule) {
	case forIsolation:
		return path.CauseNetworkIsolation
	case forProtection:
		switch {
		case r.space.Rules.DockerBridges()[r.packet.In] && r.packet.In != r.packet.Out:
			return path.CauseNetworkIsolation // from one of Docker's networks into another
		case e.direction() == path.Request && !a.hasDNAT():
			return path.CauseDirectAccessBlocked
		}
	}
	return path.CauseFirewallDrop
}

// rulePurpose is what one of Docker's rules that drop is for.
type rulePurpose uint8

const (
	forOther rulePurpose = iota
	// forIsolation: it keeps networks, or the containers of one, apart.
	forIsolation
	// forProtection: it keeps what is not published from being reached from outside the network.
	forProtection
)

// purposeOf tells the purpose from chain, form and comment (libnetwork/drivers/bridge of moby 20.10 to
// 28, daemon/libnetwork/drivers/bridge/internal/{iptabler,nftabler} of moby 29).
func purposeOf(q *firewall.Rule) rulePurpose {
	switch q.Comment {
	case "ICC", "INTERNAL NETWORK INGRESS", "INTERNAL NETWORK EGRESS":
		return forIsolation
	case "DROP DIRECT ACCESS", "UNPUBLISHED PORT DROP":
		return forProtection
	}
	name := q.Chain.Name
	if strings.HasPrefix(name, "DOCKER-ISOLATION-STAGE-") || name == "DOCKER-INTERNAL" {
		return forIsolation
	}
	words := strings.Fields(q.Text())
	in, out := askedDevice(words, "-i"), askedDevice(words, "-o")
	switch {
	case in.name == "":
	case in == out:
		return forIsolation
	case in.not && (out.name == in.name || out.name == "" && q.Chain.Hook == firewall.Prerouting && in.name != "lo"):
		return forProtection
	}
	return forOther
}

// deviceMatch is the device that a rule of iptables asks for.
type deviceMatch struct {
	name string
	not  bool
}

func askedDevice(words []string, option string) deviceMatch {
	for i := 0; i+1 < len(words); i++ {
		if words[i] == option {
			return deviceMatch{words[i+1], i > 0 && words[i-1] == "!"}
		}
	}
	return deviceMatch{}
}

// ruleNamed names a candidate for a sentence: "rule 1 of chain DOCKER-USER".
func ruleNamed(c *firewall.Candidate) string {
	what := "the policy of chain " + c.Chain.Name
	if !c.IsPolicy() {
		what = fmt.Sprintf("rule %d of chain %s", c.Rule.Number, c.Chain.Name)
	}
	t := c.Chain.Table
	switch {
	case t.Backend == firewall.NFTables || t.Family == firewall.FamilyBridge:
		return what + " (table " + string(t.Family) + " " + t.Name + ")"
	case t.Backend == firewall.IptablesLegacy && t.Name == "filter":
		return what + " (iptables-legacy)"
	case t.Backend == firewall.IptablesLegacy:
		return what + " (iptables-legacy, table " + t.Name + ")"
	case t.Name != "filter":
		return what + " (table " + t.Name + ")"
	}
	return what
}

// ruleText writes a rule, or a policy, as its user would.
func ruleText(c *firewall.Candidate) string {
	switch {
	case !c.IsPolicy():
		return c.Rule.Text()
	case c.Backend() == firewall.NFTables:
		return "policy drop"
	}
	return "-P " + c.Chain.Name + " DROP"
}

// pathRule describes a candidate for the verdict.
func pathRule(set *firewall.Ruleset, c *firewall.Candidate) *path.Rule {
	out := &path.Rule{
		Family: string(c.Chain.Table.Family), Table: c.Chain.Table.Name, Chain: c.Chain.Name,
		Text: ruleText(c), Owner: string(set.OwnerOf(c)),
	}
	if !c.IsPolicy() {
		out.Number, out.Handle = c.Rule.Number, c.Rule.Handle
	}
	return out
}

// ruleLine is a candidate in one line, for a list: "filter DOCKER-USER 1 (docker-user): -A DOCKER-USER -j
// DROP", with the family where it is part of a table's name.
func ruleLine(set *firewall.Ruleset, c *firewall.Candidate) string {
	r := pathRule(set, c)
	s := r.Table + " " + r.Chain
	if c.Backend() == firewall.NFTables {
		s = r.Family + " " + s
	}
	if r.Number > 0 {
		s += fmt.Sprintf(" %d", r.Number)
	} else {
		s += " policy"
	}
	return s + " (" + r.Owner + "): " + r.Text
}
