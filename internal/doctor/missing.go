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
		lost := untranslated(h, list)
		f.Summary = fmt.Sprintf("published %s answered by nobody: %s", portsOf(lost, "is", "are"), sentences(list))
		switch {
		case len(lost) == 0:
			f.Severity = path.SeverityWarning
			f.Summary = "ports that are published from now on will lead nowhere: " + sentences(list)
		case proxied(h, lost):
			f.Severity = path.SeverityWarning
			f.Summary = fmt.Sprintf("published %s through docker-proxy only, which hides the client's address: %s",
				portsOf(lost, "works", "work"), sentences(list))
			f.Evidence = append(f.Evidence, "docker-proxy listens on "+portWord(portNumbers(lost)))
		}
	case "masquerade-missing":
		f.Summary = "containers get no answers from outside, their private address leaves the host: " + sentences(list)
		if idle(h, list) {
			f.Severity = path.SeverityWarning
			f.Summary = "containers will get no answers from outside: " + sentences(list)
		}
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
	if h.MissingSince != "" {
		f.Evidence = append(f.Evidence, h.MissingSince)
	}
	f.Remedy = restore(h, list)
	return f
}

// idle reports whether what is missing is for networks without running containers only.
func idle(h *Host, list []expect.Missing) bool {
	return !slices.ContainsFunc(list, func(m expect.Missing) bool {
		return m.Network == "" || slices.ContainsFunc(h.Networks, func(n *Network) bool { return n.Name == m.Network && len(h.on(n.ID)) > 0 })
	})
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
	return joined(out)
}

// joined joins one or two sentences.
func joined(out []string) string {
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
	out = append(out, "systemctl restart docker  # puts all of Docker's rules back; "+h.restartEffect())
	for _, m := range list {
		by := enter(h.NS, m.Command)
		if h.Engine.LiveRestore && m.OutlivesRestart() && byHand(m) && !slices.Contains(out, by) {
			out = append(out, by+"  # with live-restore a restart may leave this out")
		}
	}
	return out
}

// restartEffect is what a restart of the engine does to the containers.
func (h *Host) restartEffect() string {
	if h.Engine.LiveRestore {
		return "live-restore is on, the containers keep running"
	}
	return "restarts the containers, as live-restore is off"
}

// lostPort is a published port without its translation.
type lostPort struct {
	container string
	port      Port
}

// untranslated lists the published ports that the missing rules are for: those they name, or, where a
// chain or the way to it is missing, all.
func untranslated(h *Host, list []expect.Missing) []lostPort {
	all := slices.ContainsFunc(list, func(m expect.Missing) bool { return m.Port.HostPort == 0 && m.Purpose != expect.Hairpin })
	var out []lostPort
	for _, c := range h.Containers {
		for _, p := range c.Published {
			named := func(m expect.Missing) bool {
				return m.Container == c.Name && m.Port.HostPort == p.HostPort && m.Port.Proto == p.Proto
			}
			if c.Runs() && p.HostIP.Is4() && p.HostPort != 0 && (all || slices.ContainsFunc(list, named)) {
				out = append(out, lostPort{c.Name, p})
			}
		}
	}
	return out
}

// portsOf is "port 8080 of web is" or "ports 8080 of web and 53 of dns are".
func portsOf(list []lostPort, one, many string) string {
	words := make([]string, len(list))
	for i, p := range list {
		words[i] = fmt.Sprintf("%d of %s", p.port.HostPort, p.container)
	}
	words = unique(words)
	if len(words) == 1 {
		return "port " + words[0] + " " + one
	}
	return "ports " + joinWords(words) + " " + many
}

func portNumbers(list []lostPort) []uint16 {
	var out []Port
	for _, p := range list {
		out = append(out, p.port)
	}
	return hostPorts(out)
}

// proxied reports whether docker-proxy listens on every port that is not translated.
func proxied(h *Host, list []lostPort) bool {
	return !slices.ContainsFunc(list, func(p lostPort) bool { return !byProxy(h, p.port.Proto, p.port.HostPort) })
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
