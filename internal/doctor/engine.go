package doctor

import (
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// engineChecks looks at the engine itself and at how it was started.
func engineChecks(h *Host) []finding {
	e := h.Engine
	switch e.State {
	case EngineNone:
		return []finding{{Finding: path.Finding{
			Severity: path.SeverityNote, Check: "docker-absent",
			Summary:  "no Docker engine was found: only namespaces, devices, routes and rules were checked",
			Evidence: []string{e.Problem},
		}}}
	case EngineDown, EngineHangs:
		return []finding{engineDown(h)}
	case EngineDenied:
		return nil // reported as what could not be read
	}
	var out []finding
	if e.ConfigProblem != "" {
		out = append(out, finding{Finding: path.Finding{
			Severity: path.SeverityWarning, Check: "daemon-config-broken",
			Summary:  "dockerd will not start again: its configuration cannot be used",
			Evidence: []string{e.ConfigProblem},
			Remedy:   []string{"dockerd --validate --config-file " + quote(e.ConfigFile) + "  # Docker 23 and newer"},
		}})
	}
	if e.SettingsKnown && !e.IPTables {
		out = append(out, rulesOff(h))
	}
	return out
}

func engineDown(h *Host) finding {
	e := h.Engine
	f := finding{Finding: path.Finding{
		Severity: path.SeverityError, Check: "docker-not-running",
		Summary:  "the Docker engine is not running: what containers and networks there should be was not checked",
		Evidence: append([]string{e.Problem}, e.Signs...),
		Remedy: []string{
			"journalctl -u docker -n 50 --no-pager  # why it ended",
			"systemctl start docker  # also puts its firewall rules back",
		},
	}}
	if e.State == EngineHangs {
		f.Summary = "the Docker engine does not answer: what containers and networks there should be was not checked"
		f.Remedy = []string{
			"journalctl -u docker -n 50 --no-pager  # what it waits for",
			"systemctl restart docker  # restarts the containers too, unless live-restore is on",
		}
	}
	if e.Orphans > 0 {
		f.Evidence = append(f.Evidence, path.FormatCount(e.Orphans, "container")+
			" still running without it: published ports without a DNAT rule and names inside containers do not work meanwhile")
	}
	f.Evidence = notEmpty(f.Evidence)
	return f
}

// rulesOff: the engine was told to leave the firewall alone.
func rulesOff(h *Host) finding {
	e := h.Engine
	f := finding{Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "docker-iptables-off", Cause: path.CauseDockerRulesMissing,
		Summary: "Docker writes no firewall rules (iptables is off): no isolation between networks, no masquerade and no DNAT but your own",
		Evidence: []string{
			"iptables is false in " + e.ConfigFile + " or on the command line of dockerd",
		},
		Remedy: []string{
			`remove "iptables": false from ` + e.ConfigFile + " or from the command line of dockerd",
			"systemctl restart docker  # restarts the containers too, unless live-restore is on",
		},
	}}
	if e.UserlandProxy {
		f.Evidence = append(f.Evidence, "published ports work through docker-proxy only: containers see its address instead of the client's")
	}
	return f
}

func notEmpty(list []string) []string {
	var out []string
	for _, s := range list {
		if strings.TrimSpace(s) != "" {
			out = append(out, s)
		}
	}
	return out
}
