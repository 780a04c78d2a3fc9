package doctor

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// ignoredChecks finds ports that a running container was to publish and does not.
func ignoredChecks(h *Host) []finding {
	var out []finding
	for _, c := range h.Containers {
		if !c.Runs() || c.Joined {
			continue
		}
		var missing []Port
		for _, p := range c.Configured {
			if !publishesLike(c, p) {
				missing = append(missing, p)
			}
		}
		if len(missing) > 0 {
			out = append(out, ignored(h, c, missing))
		}
	}
	return out
}

// publishesLike reports whether what was asked for is published, on either family where both were.
func publishesLike(c *Container, want Port) bool {
	return slices.ContainsFunc(c.Published, func(p Port) bool {
		return p.Proto == want.Proto && p.ContainerPort == want.ContainerPort && (want.HostPort == 0 || p.HostPort == want.HostPort)
	})
}

func ignored(h *Host, c *Container, missing []Port) finding {
	ports := hostPorts(missing)
	word := "its ports"
	if len(ports) > 0 {
		word = portWord(ports)
	}
	f := finding{about: aboutPorts(c, missing), Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "port-not-published", Cause: path.CauseNotPublished,
		Summary:  fmt.Sprintf("%s was to publish %s, and nothing is published", c.Name, word),
		Evidence: []string{"the engine lists no published port for it"},
		Where:    &path.Place{Container: c.Name},
	}}
	internal, all := "", len(c.Endpoints) > 0
	for _, e := range c.Endpoints {
		if n := h.network(e.NetworkID); n != nil && n.Internal {
			internal = n.Name
		} else {
			all = false
		}
	}
	switch {
	case c.Mode == "host":
		f.Severity = path.SeverityNote
		f.Summary = fmt.Sprintf("%s was to publish %s, which has no effect on the host network: its own ports are the host's", c.Name, word)
		f.Evidence = []string{"its network mode is host"}
	case len(c.Endpoints) == 0:
		f.Cause = path.CauseNoSharedNetwork
		f.Summary = fmt.Sprintf("%s was to publish %s, and is attached to no network", c.Name, word)
		f.Remedy = []string{h.docker("network connect %s %s", networkToJoin(c), quote(c.Name))}
	case all:
		f.Cause = path.CauseNetworkIsolation
		f.Where.Network = internal
		f.Summary = fmt.Sprintf("%s was to publish %s, which Docker ignores: its network %s is internal", c.Name, word, internal)
		f.Evidence = append(f.Evidence, fmt.Sprintf("network %s is internal: it has no way in or out", internal))
		f.Remedy = []string{h.docker("network connect bridge %s  # gives it a way out, too", quote(c.Name))}
	default:
		f.Remedy = []string{h.docker("restart %s", quote(c.Name))}
	}
	return f
}

// networkToJoin is the network a container was created on.
func networkToJoin(c *Container) string {
	if c.Mode == "" || c.Mode == "default" {
		return "bridge"
	}
	return quote(c.Mode)
}
