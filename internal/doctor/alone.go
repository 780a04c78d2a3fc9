package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// aloneChecks finds containers that nobody can reach: attached to nothing, or on networks of their own.
func aloneChecks(h *Host) []finding {
	var out []finding
	for _, c := range h.Containers {
		if !c.Runs() || c.Joined || c.Mode == "host" || c.Mode == "none" || strings.HasPrefix(c.Mode, "container:") {
			continue
		}
		if len(c.Endpoints) == 0 {
			if len(c.Configured) == 0 { // else said with its ports
				out = append(out, unattached(h, c))
			}
			continue
		}
		if f, ok := alone(h, c); ok {
			out = append(out, f)
		}
	}
	return out
}

func unattached(h *Host, c *Container) finding {
	return finding{about: about{containers: []string{c.ID}}, Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "container-without-network", Cause: path.CauseNoSharedNetwork,
		Summary:  fmt.Sprintf("%s is attached to no network: it reaches nothing and nothing reaches it", c.Name),
		Evidence: []string{fmt.Sprintf("it was created on network %s and was disconnected since", networkToJoin(c))},
		Remedy:   []string{h.docker("network connect %s %s", networkToJoin(c), quote(c.Name))},
		Where:    &path.Place{Container: c.Name},
	}}
}

// alone: a container of a Compose project that shares no network with the rest of it, or one that
// serves something, publishes nothing and has no neighbour.
func alone(h *Host, c *Container) (finding, bool) {
	var mates []*Container
	for _, other := range h.Containers {
		if other == c {
			continue
		}
		// One that does not run was company, and one on the host's network reaches every bridge.
		if share(c, other) || other.Mode == "host" && other.Runs() {
			return finding{}, false
		}
		if other.Runs() && c.Project != "" && other.Project == c.Project {
			mates = append(mates, other)
		}
	}
	var nets []string
	for _, e := range c.Endpoints {
		nets = append(nets, e.Network)
		// A macvlan or an overlay network reaches further than this host.
		if n := h.network(e.NetworkID); n == nil || n.Driver != "bridge" {
			return finding{}, false
		}
	}
	f := finding{about: about{containers: []string{c.ID}}, Finding: path.Finding{
		Severity: path.SeverityNote, Check: "container-alone", Cause: path.CauseNoSharedNetwork,
		Evidence: []string{"it is on " + joinWords(nets) + ", alone"},
		Where:    &path.Place{Container: c.Name},
	}}
	switch open := served(c); {
	case len(c.Published)+len(c.Configured) > 0:
		return finding{}, false
	case len(mates) > 0:
		f.Summary = fmt.Sprintf("%s shares no network with the other containers of project %s", c.Name, c.Project)
		f.Remedy = []string{h.docker("network connect %s %s", quote(mates[0].firstNetwork()), quote(c.Name))}
	case len(open) > 0:
		f.Summary = fmt.Sprintf("%s listens on %s, and no other container shares a network with it: only the host reaches it",
			c.Name, portWord(open))
	default:
		return finding{}, false
	}
	return f, true
}

func served(c *Container) []uint16 {
	if c.NS == nil {
		return nil
	}
	return openPorts(c.NS.TCP)
}

func (c *Container) firstNetwork() string {
	if len(c.Endpoints) == 0 {
		return "bridge"
	}
	return c.Endpoints[0].Network
}

// share reports whether two containers have a network in common, or the namespace itself.
func share(a, b *Container) bool {
	if a.NS != nil && a.NS == b.NS {
		return true
	}
	return slices.ContainsFunc(a.Endpoints, func(e Endpoint) bool {
		return e.Network == b.Mode || slices.ContainsFunc(b.Endpoints, func(o Endpoint) bool { return o.NetworkID == e.NetworkID })
	})
}
