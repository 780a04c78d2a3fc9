package tracer

import (
	"slices"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
)

const (
	// readingAge is for how long what was read for one flow serves the flows after it: many may be
	// decided at once, and none is decided sooner than that after its end.
	readingAge = 100 * time.Millisecond
	// sampleEvery is how often the counters are read while traffic is watched, maxSamples how many
	// readings are kept: a flow is compared with the last one before it began.
	sampleEvery = time.Second
	maxSamples  = 16
	// maxSampled bounds the namespaces whose counters are read regularly.
	maxSampled = 16
)

// readings holds what was read of the host a moment ago. The zero value is ready to use.
type readings struct {
	mu        sync.Mutex
	links     map[uint32]aged[[]diagnose.Link]
	listeners map[uint32]aged[[]diagnose.Listener]
	counters  map[uint32]aged[map[string]uint64]
	expected  map[uint32]aged[*diagnose.Expected]
	lost      aged[uint64]
	hasIPVS   aged[bool]
	samples   map[uint32][]sample
}

// aged is a value with the time it was read.
type aged[T any] struct {
	value T
	at    time.Time
}

func (a aged[T]) fresh() bool { return !a.at.IsZero() && time.Since(a.at) < readingAge }

// sample is one reading of a namespace's counters.
type sample struct {
	at       uint64 // CLOCK_MONOTONIC, ns
	counters map[string]uint64
}

// recall returns a value of m that was read a moment ago, else reads it with read, not holding mu.
func recall[T any](mu *sync.Mutex, m *map[uint32]aged[T], key uint32, read func() (T, error)) (T, error) {
	mu.Lock()
	known, ok := (*m)[key]
	mu.Unlock()
	if ok && known.fresh() {
		return known.value, nil
	}
	value, err := read()
	if err != nil {
		return value, err
	}
	mu.Lock()
	defer mu.Unlock()
	if *m == nil {
		*m = map[uint32]aged[T]{}
	}
	(*m)[key] = aged[T]{value, time.Now()}
	return value, nil
}

// lostEvents returns the first result of count, not asked again within a moment.
func (r *readings) lostEvents(count func() (uint64, map[string]uint64)) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.lost.fresh() {
		n, _ := count()
		r.lost = aged[uint64]{n, time.Now()}
	}
	return r.lost.value
}

// ipvs reports whether the kernel has IPVS loaded.
func (r *readings) ipvs() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.hasIPVS.fresh() {
		r.hasIPVS = aged[bool]{hasIPVS(), time.Now()}
	}
	return r.hasIPVS.value
}

// before returns the last sample of a namespace's counters from before a time; nil if there is none.
// What is older than all samples is compared with the oldest, which can only show less growth than
// there was.
func (r *readings) before(inode uint32, at uint64) map[string]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.samples[inode]
	for _, s := range slices.Backward(list) {
		if s.at <= at {
			return s.counters
		}
	}
	if len(list) > 0 {
		return list[0].counters
	}
	return nil
}

func (r *readings) add(inode uint32, s sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.samples == nil {
		r.samples = map[uint32][]sample{}
	}
	list := append(r.samples[inode], s)
	if len(list) > maxSamples {
		list = slices.Delete(list, 0, 1)
	}
	r.samples[inode] = list
}

// forget drops what is known of a namespace that is gone.
func (r *readings) forget(inode uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.samples, inode)
	delete(r.links, inode)
	delete(r.listeners, inode)
	delete(r.counters, inode)
	delete(r.expected, inode)
}

// sampleCounters reads the counters of the ends of the trace and of their hosts.
func (s *session) sampleCounters() {
	spaces := append([]uint32{s.t.source.NetNS}, s.t.currentTarget().NetNS...)
	spaces = append(spaces, s.hostNetNS(-1)...)
	slices.Sort(spaces)
	spaces = slices.DeleteFunc(slices.Compact(spaces), func(inode uint32) bool { return inode == 0 })
	for _, inode := range spaces[:min(len(spaces), maxSampled)] {
		at := monotonic()
		if counters, err := s.t.topo.Counters(inode); err == nil {
			s.readings.add(inode, sample{at, counters})
		}
	}
}

// readCounters says by how much counters grew since a flow began; start is 0 for the whole trace.
func (s *session) readCounters(ns *diagnose.Namespace, inode uint32, start uint64) {
	before := s.readings.before(inode, start)
	if before == nil {
		return
	}
	after, err := recall(&s.readings.mu, &s.readings.counters, inode, func() (map[string]uint64, error) {
		return s.t.topo.Counters(inode)
	})
	if err != nil {
		return
	}
	ns.Counters = map[string]uint64{}
	for name, n := range after {
		if n > before[name] {
			ns.Counters[name] = n - before[name]
		}
	}
}
