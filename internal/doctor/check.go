package doctor

import (
	"cmp"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// finding is a finding with what it concerns.
type finding struct {
	path.Finding
	about about
}

// about is what a finding concerns; the zero value is the whole host.
type about struct {
	containers []string // IDs
	networks   []string // IDs
	ports      []uint16 // of the host or of the container
}

// check is one question asked of a host.
type check struct {
	name string
	run  func(*Host) []finding
}

// checks lists everything that is looked at; of findings that are equally severe, those of earlier
// checks come first.
func checks() []check {
	return []check{
		{"engine", engineChecks},
		{"forwarding", forwardingChecks},
		{"Docker's rules", missingChecks},
		{"rules without the engine", orphanChecks},
		{"links", linkChecks},
		{"duplicate addresses", duplicateChecks},
		{"neighbours", neighbourChecks},
		{"published ports", publishedChecks},
		{"container start", startChecks},
		{"default routes", routeChecks},
		{"subnets", subnetChecks},
		{"names", nameChecks},
		{"ignored ports", ignoredChecks},
		{"containers without a network", aloneChecks},
		{"reverse path filter", reversePathChecks},
		{"bridge netfilter", bridgeFilterChecks},
		{"MTU", mtuChecks},
		{"connection tracking", conntrackChecks},
		{"databases", databaseChecks},
		{"firewall services", serviceChecks},
		{"rules", rulesetChecks},
		{"shared ports", sharedChecks},
		{"open in spite of the firewall", bypassChecks},
	}
}

// Examine applies every check to every host and returns what concerns the scope (nil: everything),
// worst first.
func Examine(hosts []*Host, scope *Scope) []path.Finding {
	var all []finding
	for _, h := range hosts {
		for _, c := range checks() {
			for _, f := range c.run(h) {
				if scope.includes(h, f.about) {
					all = append(all, h.located(f))
				}
			}
		}
	}
	slices.SortStableFunc(all, func(a, b finding) int { return cmp.Compare(rank(a.Severity), rank(b.Severity)) })
	out := make([]path.Finding, len(all))
	for i, f := range all {
		out[i] = f.Finding
	}
	return out
}

// located adds the host's name where there are several.
func (h *Host) located(f finding) finding {
	f.Type = "finding"
	if h.Name == "" {
		return f
	}
	place := path.Place{}
	if f.Where != nil {
		place = *f.Where
	}
	place.Host = h.Name
	f.Where = &place
	return f
}

func rank(s path.Severity) int {
	switch s {
	case path.SeverityError:
		return 0
	case path.SeverityWarning:
		return 1
	}
	return 2
}

// Scope limits findings to a container, network or port. A finding about the whole host always counts.
type Scope struct {
	// Containers and Networks are IDs.
	Containers, Networks []string
	// Port limits findings about ports, of the host or of a container; 0 does not.
	Port uint16
}

func (s *Scope) includes(h *Host, a about) bool {
	if s == nil {
		return true
	}
	if s.Port != 0 && len(a.ports) > 0 && !slices.Contains(a.ports, s.Port) {
		return false
	}
	if len(a.containers) == 0 && len(a.networks) == 0 {
		return true
	}
	return overlap(s.Containers, a.containers) || overlap(s.networks(h), a.networks)
}

// networks are those asked for, and those of the containers asked for.
func (s *Scope) networks(h *Host) []string {
	out := slices.Clone(s.Networks)
	for _, c := range h.Containers {
		if !slices.Contains(s.Containers, c.ID) {
			continue
		}
		for _, e := range c.Endpoints {
			out = append(out, e.NetworkID)
		}
	}
	return out
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
}
