package tracer

import (
	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/probe"
)

// HookStatus says how one place in the kernel is watched here.
type HookStatus struct {
	Name string // as in Hop.Hook
	Sees string
	// Kind of attachment, empty if there is none; then Err says why and Without what is not seen.
	Kind    string
	Err     error
	Without string
}

// Limit is something that this process lacks and can trace without.
type Limit struct {
	Name    string // such as CAP_SYS_ADMIN
	Without string // what is not seen
}

// Surroundings is what Hooks found.
type Surroundings struct {
	Hooks  []HookStatus
	Limits []Limit
}

// Hooks loads and attaches every hook as a trace would, and says how it went.
func Hooks() ([]HookStatus, error) {
	found, err := Survey()
	return found.Hooks, err
}

// Survey is Hooks, with what else is missing to see everything.
func Survey() (found Surroundings, err error) {
	if err := kernel.CheckPrivilege(); err != nil {
		return found, err
	}
	facts, err := kernel.Load()
	if err != nil {
		return found, err
	}
	set, err := probe.Load(probe.Config{Facts: facts})
	if err != nil {
		return found, err
	}
	defer set.Close()
	for _, h := range set.Hooks() {
		found.Hooks = append(found.Hooks, HookStatus{
			Name: h.Name, Sees: h.Sees, Kind: string(h.Kind), Err: h.Err, Without: h.Without,
		})
	}
	lacks, err := kernel.Lacks()
	for _, l := range facts.Limits(lacks) {
		found.Limits = append(found.Limits, Limit(l))
	}
	return found, err
}
