package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// embeddedDNS is where containers on user networks ask Docker's own name server.
func embeddedDNS() netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 0, 11}) }

// nameChecks looks at how containers resolve each other's names.
func nameChecks(h *Host) []finding {
	if h.Engine.State != EngineAnswers {
		return nil // the name server is the engine: said with that
	}
	var out []finding
	for _, c := range h.Containers {
		if !c.Runs() || c.Joined || c.NS == nil || !slices.Contains(c.NS.Resolvers, embeddedDNS()) {
			continue
		}
		if f, ok := resolverCheck(h, c); ok {
			out = append(out, f)
		}
	}
	return append(out, defaultBridge(h)...)
}

// resolverCheck: queries to 127.0.0.11:53 are translated to the port that dockerd opened inside the
// container's namespace.
func resolverCheck(h *Host, c *Container) (finding, bool) {
	f := finding{about: about{containers: []string{c.ID}}, Finding: path.Finding{
		Severity: path.SeverityError, Cause: path.CauseNameNotResolved,
		Where: &path.Place{Namespace: c.NS.Name, Container: c.Name},
	}}
	atDNS := func(l Listener) bool { return l.Addr.Addr() == embeddedDNS() }
	switch {
	case c.NS.UDP != nil && !slices.ContainsFunc(c.NS.UDP, atDNS):
		f.Check = "dns-server-gone"
		f.Summary = fmt.Sprintf("%s resolves no names: Docker's name server does not listen inside it", c.Name)
		f.Evidence = []string{
			"its resolv.conf asks " + joinWords(addresses(c.NS.Resolvers)),
			fmt.Sprintf("no UDP socket is bound to %s in %s", embeddedDNS(), c.NS.Name),
		}
		f.Remedy = []string{h.docker("restart %s  # breaks its connections", quote(c.Name))}
		return f, true
	case c.NS.Rules != nil && !translatesDNS(c.NS.Rules):
		f.Check = "dns-rules-missing"
		f.Summary = fmt.Sprintf("%s resolves no names: the rules that lead to Docker's name server are missing inside it", c.Name)
		f.Evidence = []string{
			"its resolv.conf asks " + joinWords(addresses(c.NS.Resolvers)),
			fmt.Sprintf("no rule in %s translates queries to %s", c.NS.Name, embeddedDNS()),
		}
		f.Remedy = []string{h.docker("restart %s  # breaks its connections", quote(c.Name))}
		return f, true
	}
	return f, false
}

// translatesDNS looks for a DNAT to the name server's own port.
func translatesDNS(rules *firewall.Ruleset) bool {
	for _, t := range rules.Tables {
		for _, c := range t.Chains {
			for _, r := range c.Rules {
				if slices.ContainsFunc(r.Body.Verdicts(), func(v firewall.Verdict) bool {
					return v.Kind == firewall.DNAT && strings.HasPrefix(v.Detail, embeddedDNS().String()+":")
				}) {
					return true
				}
			}
		}
	}
	// What could not be read may hold it.
	return len(rules.Problems) > 0
}

// defaultBridge: the network called bridge has no name server.
func defaultBridge(h *Host) []finding {
	for _, n := range h.Networks {
		if !n.Default() {
			continue
		}
		var users []*Container
		for _, c := range h.on(n.ID) {
			// One on another network as well has names there.
			if len(c.Links) == 0 && !c.Joined && len(c.Endpoints) == 1 {
				users = append(users, c)
			}
		}
		if len(users) < 2 {
			return nil
		}
		f := finding{about: about{networks: []string{n.ID}, containers: ids(users)}, Finding: path.Finding{
			Severity: path.SeverityNote, Check: "default-bridge-names", Cause: path.CauseNameNotResolved,
			Summary:  "containers on the default network bridge do not find each other by name, only by address",
			Evidence: []string{"on it: " + joinWords(names(users))},
			Remedy:   []string{h.docker("network create app")},
			Where:    &path.Place{Network: n.Name},
		}}
		for _, c := range users[:min(len(users), maxListed)] {
			f.Remedy = append(f.Remedy, h.docker("network connect app %s", quote(c.Name)))
		}
		return []finding{f}
	}
	return nil
}
