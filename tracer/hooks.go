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

// Hooks loads and attaches every hook as a trace would, and says how it went.
func Hooks() ([]HookStatus, error) {
	if err := kernel.CheckPrivilege(); err != nil {
		return nil, err
	}
	facts, err := kernel.Load()
	if err != nil {
		return nil, err
	}
	set, err := probe.Load(probe.Config{Facts: facts})
	if err != nil {
		return nil, err
	}
	defer set.Close()
	var list []HookStatus
	for _, h := range set.Hooks() {
		list = append(list, HookStatus{
			Name: h.Name, Sees: h.Sees, Kind: string(h.Kind), Err: h.Err, Without: h.Without,
		})
	}
	return list, nil
}
