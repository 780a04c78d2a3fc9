package doctor

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Limits of what is listed of the missing rules.
const (
	fewMissing   = 4 // rules that are quoted
	byHandAtMost = 2 // rules that are worth putting back one by one
)

// missingChecks tells which of the firewall rules that Docker's state calls for are not there, one
// finding for each consequence.
func missingChecks(h *Host) []finding {
	groups := map[string][]expect.Missing{}
	for _, m := range h.Missing {
		key := string(m.Cause)
		if m.Exposes {
			key = "docker-protection-missing"
		}
		groups[key] = append(groups[key], m)
	}
	var out []finding
	for _, key := range []string{"docker-rules-missing", "nat-missing", "masquerade-missing", "docker-protection-missing"} {
		if list := groups[key]; len(list) > 0 {
			out = append(out, missingRules(h, key, list))
		}
	}
	return out
}

func missingRules(h *Host, key string, list []expect.Missing) finding {
	f := finding{about: aboutMissing(h, list), Finding: path.Finding{
		Severity: path.SeverityError, Check: key, Cause: list[0].Cause,
		Where: &path.Place{Namespace: h.NS.Name},
	}}
	switch key {
	case "docker-rules-missing":
		f.Summary = "Docker's own firewall rules are missing, so packets from or to containers are dropped: " + sentences(list)
	case "nat-missing":
		f.Summary = "published ports lead nowhere: " + sentences(list)
		if proxied(h, list) {
			f.Severity = path.SeverityWarning
			f.Summary = "published ports work through docker-proxy only, containers see its address instead of the client's: " + sentences(list)
			f.Evidence = append(f.Evidence, "docker-proxy listens on the ports and hides that the rules are gone")
		}
	case "masquerade-missing":
		f.Summary = "containers get no answers from outside, their private address leaves the host: " + sentences(list)
	default:
		f.Severity = path.SeverityWarning
		f.Summary = "rules of Docker's that keep things apart are missing: " + sentences(list)
	}
	for _, m := range list[:min(len(list), fewMissing)] {
		f.Evidence = append(f.Evidence, "missing: "+described(&m))
	}
	if all := len(h.Missing); all > fewMissing || all > len(list) {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%d of Docker's rules and chains are missing in all", all))
	}
	f.Remedy = restore(h, list)
	return f
}

// sentences joins what is missing; a chain that is gone tells of the rules that were in it.
func sentences(list []expect.Missing) string {
	var out []string
	for _, m := range list {
		out = append(out, m.Sentence)
	}
	out = unique(out)
	if len(out) > 2 {
		return fmt.Sprintf("%s, and %d more", out[0], len(out)-1)
	}
	return list2(out)
}

// list2 joins one or two sentences.
func list2(out []string) string {
	if len(out) == 2 {
		return out[0] + ", and " + out[1]
	}
	return out[0]
}

// described writes what is missing: the rule as its tool lists it, with its table, or the chain.
func described(m *expect.Missing) string {
	if m.Rule == "" {
		return m.Sentence
	}
	text := fmt.Sprintf("%s (table %s)", m.Rule, m.Table)
	if m.Backend == firewall.NFTables {
		text = fmt.Sprintf("%s (table %s %s, chain %s)", m.Rule, m.Family, m.Table, m.Chain)
	}
	if m.Stale != "" {
		text += ", instead of one that leads to " + m.Stale
	}
	return text
}

// restore is how the rules come back: by hand if they are the only ones that are missing, else by
// letting Docker make all of them anew.
func restore(h *Host, list []expect.Missing) []string {
	var out []string
	byHand := func(m expect.Missing) bool { return m.Command != "" }
	if n := len(h.Missing); n == len(list) && n <= byHandAtMost && !slices.ContainsFunc(list, func(m expect.Missing) bool { return !byHand(m) }) {
		for _, m := range list {
			out = append(out, enter(h.NS, m.Command))
		}
	}
	return append(out, "systemctl restart docker  # puts all of Docker's rules back; "+h.restartEffect())
}

// restartEffect is what a restart of the engine does to the containers.
func (h *Host) restartEffect() string {
	if h.Engine.LiveRestore {
		return "live-restore is on, the containers keep running"
	}
	return "restarts the containers, as live-restore is off"
}

// proxied reports whether docker-proxy listens on every port that is not translated.
func proxied(h *Host, list []expect.Missing) bool {
	return !slices.ContainsFunc(list, func(m expect.Missing) bool {
		if m.Port.HostPort == 0 { // a chain or a jump: all ports
			return slices.ContainsFunc(h.Containers, func(c *Container) bool {
				return c.Runs() && slices.ContainsFunc(c.Published, func(p Port) bool { return !byProxy(h, p.Proto, p.HostPort) })
			})
		}
		return !byProxy(h, m.Port.Proto, m.Port.HostPort)
	})
}

func byProxy(h *Host, proto string, port uint16) bool {
	listeners := h.NS.TCP
	if proto == "udp" {
		listeners = h.NS.UDP
	}
	return slices.ContainsFunc(listeners, func(l Listener) bool { return l.Addr.Port() == port && l.Process == "docker-proxy" })
}

// aboutMissing is whom missing rules are for; a rule for all is about the whole host.
func aboutMissing(h *Host, list []expect.Missing) about {
	var a about
	for _, m := range list {
		if m.Network == "" && m.Container == "" {
			return about{}
		}
		for _, n := range h.Networks {
			if n.Name == m.Network && m.Container == "" {
				a.networks = append(a.networks, n.ID)
			}
		}
		for _, c := range h.Containers {
			if c.Name == m.Container {
				a.containers = append(a.containers, c.ID)
			}
		}
		if m.Port.HostPort != 0 {
			a.ports = append(a.ports, m.Port.HostPort, m.Port.ContainerPort)
		}
	}
	return a
}
