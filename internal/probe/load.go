package probe

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sync/errgroup"

	"github.com/pathtrace/pathtrace/internal/kernel"
)

// choice is a hook with the variants that this kernel offers, the best first.
type choice struct {
	hook     Hook
	variants []Variant
	err      error // why there is none, or why the last one failed
}

// refuse returns an error if the kernel does not offer a required hook.
func refuse(choices []choice) error {
	for _, c := range choices {
		if c.err != nil && c.hook.Required {
			return untraceable(c.err.Error())
		}
	}
	return nil
}

func choose(table []Hook, facts *kernel.Facts) []choice {
	choices := make([]choice, 0, len(table))
	for _, h := range table {
		choices = append(choices, pick(h, facts))
	}
	return choices
}

func pick(h Hook, facts *kernel.Facts) choice {
	c := choice{hook: h}
	for _, v := range h.Variants {
		ok, reason := v.Fits(facts)
		if ok {
			c.variants = append(c.variants, v)
		} else if len(c.variants) == 0 {
			c.err = errors.New(reason)
		}
	}
	if len(c.variants) > 0 {
		c.err = nil
	}
	return c
}

// load loads the best variants of all choices side by side, over one set of maps.
func (s *Set) load(cfg Config, choices []choice) error {
	var group errgroup.Group
	for _, members := range together(choices) {
		group.Go(func() error { return s.loadBest(cfg, members) })
	}
	return group.Wait()
}

// together groups what is loaded in one piece: a hook, but all hooks of an object that has maps of its own.
func together(choices []choice) map[string][]*choice {
	groups := map[string][]*choice{}
	for i := range choices {
		c := &choices[i]
		if c.err != nil {
			continue
		}
		key := c.variants[0].Family
		if inlineFamilies()[key] == nil {
			key += " " + c.hook.Name
		}
		groups[key] = append(groups[key], c)
	}
	return groups
}

// loadBest loads the best variants of a group. One that the kernel refuses after all gives way to the next of
// its hook at once: waiting for what else is loaded would leave a processor idle.
func (s *Set) loadBest(cfg Config, members []*choice) error {
	for c, err := range s.loadTogether(cfg, members) {
		for c.variants = c.variants[1:]; err != nil && len(c.variants) > 0; {
			if err = s.loadTogether(cfg, []*choice{c})[c]; err != nil {
				c.variants = c.variants[1:]
			}
		}
		if c.err = err; err != nil && c.hook.Required {
			return fmt.Errorf("load %s: %w", c.hook.Name, explain(err))
		}
	}
	return nil
}

// loadTogether loads what belongs to one family. One program that the kernel rejects costs the whole
// object, so that then each is tried alone.
func (s *Set) loadTogether(cfg Config, members []*choice) map[*choice]error {
	var all []string
	for _, c := range members {
		all = append(all, c.variants[0].Programs...)
	}
	family := members[0].variants[0].Family
	err := s.loadPrograms(cfg, family, all)
	if err != nil && cfg.pages() {
		cfg.linear = true
		err = s.loadPrograms(cfg, family, all)
	}
	if err == nil {
		return nil
	}
	if len(members) == 1 {
		return map[*choice]error{members[0]: err}
	}
	failed := map[*choice]error{}
	for _, c := range members {
		if err := s.loadPrograms(cfg, family, c.variants[0].Programs); err != nil {
			failed[c] = err
		}
	}
	return failed
}

// loadPrograms loads all of the named programs of an object or none of them, side by side if they need not share
// maps of its own.
func (s *Set) loadPrograms(cfg Config, family string, programs []string) error {
	if inlineFamilies()[family] != nil {
		return s.loadFamily(cfg, family, programs)
	}
	var group errgroup.Group
	for _, p := range programs {
		group.Go(func() error { return s.loadFamily(cfg, family, []string{p}) })
	}
	err := group.Wait()
	if err != nil {
		s.unload(programs)
	}
	return err
}

func (s *Set) unload(programs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range programs {
		_ = s.programs[p].Close() // of one that is not there, too
		delete(s.programs, p)
	}
}

// loadFamily loads the named programs of an object.
func (s *Set) loadFamily(cfg Config, family string, programs []string) error {
	spec, err := s.object(cfg, family)
	if err != nil {
		return fmt.Errorf("read BPF object %s: %w", family, err)
	}
	// The object is shared with others that load from it, so it must not change.
	part := *spec
	part.Programs, part.Variables = map[string]*ebpf.ProgramSpec{}, map[string]*ebpf.VariableSpec{}
	if v := spec.Variables[settingsVariable]; v != nil {
		part.Variables[settingsVariable] = v
	}
	for _, p := range programs {
		part.Programs[p] = spec.Programs[p]
	}
	replace := map[string]*ebpf.Map{}
	for name := range spec.Maps {
		if m, ok := s.maps[name]; ok {
			replace[name] = m
		}
	}
	// Every type that is asked for is the core kernel's. Without KernelTypes the types of all modules are read,
	// too, and cilium/ebpf does not lock those of the kernel for them: programs are loaded side by side.
	coll, err := ebpf.NewCollectionWithOptions(&part, ebpf.CollectionOptions{
		MapReplacements: replace, Cache: cfg.Facts.Cache(),
		Programs: ebpf.ProgramOptions{KernelTypes: cfg.Facts.Types()},
	})
	if err != nil {
		return err
	}
	defer coll.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range programs {
		s.programs[p] = coll.DetachProgram(p)
	}
	return nil
}

// settingsVariable is the one constant that the objects take, of bpf/include/maps.h.
const settingsVariable = "config"

// object is a BPF object that is read once, and configured once before it is loaded.
type object struct {
	parse func() (*ebpf.CollectionSpec, error)

	once sync.Once
	err  error // of configuring

	// linear is read if the kernel refuses the object because it copies from pages; nil in itself.
	linear *object
}

func newObject(read func() (*ebpf.CollectionSpec, error)) *object {
	return &object{parse: sync.OnceValues(read), linear: &object{parse: sync.OnceValues(read)}}
}

// object returns an object with its settings and with the sizes of the maps that exist.
func (s *Set) object(cfg Config, family string) (*ebpf.CollectionSpec, error) {
	o := s.objects[family]
	if cfg.linear {
		o = o.linear
	}
	spec, err := o.parse()
	if err != nil {
		return nil, err
	}
	o.once.Do(func() { o.err = s.configure(cfg, spec) })
	return spec, o.err
}

func (s *Set) configure(cfg Config, spec *ebpf.CollectionSpec) error {
	if v := spec.Variables[settingsVariable]; v != nil {
		if err := v.Set(settings(cfg)); err != nil {
			return fmt.Errorf("configure: %w", err)
		}
	}
	for name, m := range spec.Maps {
		if shared, ok := s.maps[name]; ok {
			m.MaxEntries, m.Flags = shared.MaxEntries(), shared.Flags()
		}
	}
	if !cfg.Facts.HasFunction(rdonlyCast) {
		for _, p := range spec.Programs {
			dropKfunc(p.Instructions, rdonlyCast)
		}
	}
	return nil
}

// rdonlyCast is the one kernel function that programs call, since 6.2 (bpf/include/compat.h).
const rdonlyCast = "bpf_rdonly_cast"

// dropKfunc makes a weak kernel function one that is not there: its address is 0, its calls are never reached. For
// each place that names it cilium/ebpf would look through the types of all modules, to come to the same.
func dropKfunc(instructions asm.Instructions, name string) {
	for i, ins := range instructions {
		if ins.Reference() != name {
			continue
		}
		plain := asm.FnUnspec.Call()
		if !ins.IsKfuncCall() {
			plain = asm.LoadImm(ins.Dst, 0, asm.DWord)
		}
		if symbol := ins.Symbol(); symbol != "" {
			plain = plain.WithSymbol(symbol)
		}
		if f := btf.FuncMetadata(&ins); f != nil {
			plain = btf.WithFuncMetadata(plain, f)
		}
		instructions[i] = plain
	}
}
