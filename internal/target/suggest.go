package target

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/topo"
)

// Limits of what an error lists.
const (
	maxSuggestions = 3
	maxKnown       = 12
)

// ambiguous lists the things a name could mean and how to write each of them.
func (w *world) ambiguous(name string, found []thing) error {
	e := &AmbiguousError{Name: name}
	for _, t := range found {
		e.add(Candidate{What: w.describe(t, name), Use: w.unambiguous(t)}, name)
	}
	return e
}

// add appends a candidate. What two of them suggest, or the name itself, tells nothing apart; what looks
// the same is listed once.
func (e *AmbiguousError) add(c Candidate, name string) {
	if c.Use == name {
		c.Use = ""
	}
	for i := range e.Candidates {
		if old := &e.Candidates[i]; c.Use != "" && old.Use == c.Use {
			old.Use, c.Use = "", ""
		}
	}
	if !slices.Contains(e.Candidates, c) {
		e.Candidates = append(e.Candidates, c)
	}
}

// describe says what a thing is, and of which engine if there are several.
func (w *world) describe(t thing, name string) string {
	var s string
	switch t.kind {
	case KindContainer:
		s = "container " + t.containers[0].Name
	case KindService:
		s = fmt.Sprintf("service %s of Compose project %s", t.containers[0].Service, t.where)
	case KindSwarmService:
		s = "Swarm service " + t.where
	case KindAlias:
		s = fmt.Sprintf("alias of %s on network %s", containerNames(t.containers), t.where)
	case KindNetNS:
		ns, _ := w.topology.Namespace(t.netns[0])
		s = "namespace " + cmp.Or(ns.Name, name)
	case KindHost:
		s = "host"
		if ns, ok := w.topology.Namespace(t.netns[0]); ok && ns.Name != "" && ns.Name != "host" {
			s = "host " + ns.Name
		}
	default:
		s = string(t.kind) + " " + name
	}
	if len(w.engines) > 1 && t.engine >= 0 {
		s += " of engine " + w.engines[t.engine].Host
	}
	return s
}

// unambiguous returns a name that means only this thing, empty if there is none.
func (w *world) unambiguous(t thing) string {
	switch t.kind {
	case KindContainer, KindAlias, KindSwarmService:
		var names []string
		for _, c := range t.containers {
			names = append(names, w.uniqueName(c))
		}
		return strings.Join(names, " or ")
	case KindService:
		name := t.where + "/" + t.containers[0].Service
		if found := w.services(name); t.where != "" && len(found) == 1 {
			return name
		}
		return w.uniqueName(t.containers[0])
	case KindNetNS, KindHost:
		ns, _ := w.topology.Namespace(t.netns[0])
		if ns.Name != "" && len(w.byName(ns.Name)) == 1 {
			return ns.Name
		}
		addrs, _ := w.topology.HostAddrs(t.netns[0])
		for _, a := range addrs {
			if !a.IsLoopback() {
				return written(a)
			}
		}
	}
	return ""
}

// written is an address as a name: IPv6 in brackets, so that a port can follow.
func written(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// uniqueName is the name of a container, or its ID if something else has the name.
func (w *world) uniqueName(c *docker.Container) string {
	if len(w.byName(c.Name)) == 1 {
		return c.Name
	}
	return c.ShortID()
}

func containerNames(list []*docker.Container) string {
	names := make([]string, len(list))
	for i, c := range list {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// names are all that could be written, containers first.
func (w *world) names() []string {
	var out []string
	add := func(name string) {
		if name != "" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, c := range w.containers {
		add(c.Name)
	}
	for _, c := range w.containers {
		if c.Service != "" && c.Project != "" {
			add(c.Project + "/" + c.Service)
		}
		add(c.Service)
		add(c.SwarmService)
		for _, e := range c.Endpoints {
			for _, alias := range e.Aliases {
				add(alias)
			}
		}
	}
	for _, ns := range w.topology.Namespaces() {
		if ns.Kind == topo.KindNamed {
			add(ns.Name)
		}
	}
	add("host")
	return out
}

// known returns some names there are.
func (w *world) known() []string {
	names := w.names()
	if len(names) == 1 {
		return nil // only "host", which always is
	}
	if len(names) > maxKnown {
		names = append(names[:maxKnown:maxKnown], fmt.Sprintf("%d more", len(names)-maxKnown))
	}
	return names
}

// similar returns names that look like a misspelt one, the nearest first.
func (w *world) similar(name string) []string {
	type scored struct {
		name  string
		score int
	}
	var found []scored
	for _, known := range w.names() {
		d := distance(strings.ToLower(name), strings.ToLower(known))
		if len(name) >= 2 && (strings.HasPrefix(known, name) || strings.HasPrefix(name, known) && len(known) >= 2) {
			d = min(d, 2)
		} else if d > max(1, len(name)/3) {
			continue
		}
		found = append(found, scored{known, d})
	}
	slices.SortStableFunc(found, func(a, b scored) int { return cmp.Compare(a.score, b.score) })
	var out []string
	for _, s := range found[:min(len(found), maxSuggestions)] {
		out = append(out, s.name)
	}
	return out
}

// distance is the number of single-byte edits, counting a swap of neighbours as one (optimal string
// alignment).
func distance(a, b string) int {
	before, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, prev, row = prev, row, before
	}
	return prev[len(b)]
}

// silent lists the engines that are there and do not answer.
func (w *world) silent() (hosts []string) {
	for _, e := range w.engines {
		if e.Err != nil && !errors.Is(e.Err, fs.ErrNotExist) {
			hosts = append(hosts, e.Host)
		}
	}
	return hosts
}

// absent lists the addresses at which there is no engine.
func (w *world) absent() (hosts []string) {
	for _, e := range w.engines {
		if e.Err != nil && errors.Is(e.Err, fs.ErrNotExist) {
			hosts = append(hosts, e.Host)
		}
	}
	return hosts
}
