package tracer

import (
	"cmp"
	"slices"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// mtuRecord is a mtu.Facts: what probes of chosen sizes showed, and what the verdict needs beside.
type mtuRecord struct {
	Directions   []path.MTU                  `json:"directions"`
	Expect       int                         `json:"expect,omitempty"`
	Source       string                      `json:"source"`
	Target       string                      `json:"target"`
	Complete     bool                        `json:"complete"`
	LostEvents   uint64                      `json:"lost_events,omitempty"`
	OpenRule     map[path.Direction][]string `json:"open_rule,omitempty"`
	RuleEvidence map[path.Direction][]string `json:"rule_evidence,omitempty"`
	Routes       map[path.Direction]string   `json:"routes,omitempty"`
	Detours      map[path.Direction]string   `json:"detours,omitempty"`
	Spaces       map[uint32]mtu.Space        `json:"spaces,omitempty"`
	Networks     []mtuNetwork                `json:"networks,omitempty"`
}

// mtuNetwork is a network with its name, which is not to be the key of an object: keys are not redacted.
type mtuNetwork struct {
	Network string      `json:"network"`
	Options mtu.Network `json:"options"`
}

// measured records on what a measurement is about to be judged.
func (r *recorder) measured(f mtu.Facts) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.put(typeMTU, describeMTU(&f), nil)
}

// describeMTU puts facts into a record.
func describeMTU(f *mtu.Facts) mtuRecord {
	rec := mtuRecord{
		Directions: f.Directions, Expect: f.Expect, Source: f.Source, Target: f.Target, Complete: f.Complete,
		LostEvents: f.LostEvents, OpenRule: f.OpenRule, RuleEvidence: f.RuleEvidence, Routes: f.Routes,
		Detours: f.Detours, Spaces: f.Spaces,
	}
	for name, n := range f.Networks {
		rec.Networks = append(rec.Networks, mtuNetwork{name, n})
	}
	slices.SortFunc(rec.Networks, func(a, b mtuNetwork) int { return cmp.Compare(a.Network, b.Network) })
	return rec
}

// facts is what was recorded.
func (rec *mtuRecord) facts() mtu.Facts {
	f := mtu.Facts{
		Directions: rec.Directions, Expect: rec.Expect, Source: rec.Source, Target: rec.Target, Complete: rec.Complete,
		LostEvents: rec.LostEvents, OpenRule: rec.OpenRule, RuleEvidence: rec.RuleEvidence, Routes: rec.Routes,
		Detours: rec.Detours, Spaces: rec.Spaces,
		Networks: map[string]mtu.Network{},
	}
	for _, n := range rec.Networks {
		f.Networks[n.Network] = n.Options
	}
	return f
}
