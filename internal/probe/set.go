package probe

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/bpfobj"
	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// Config says what to load and how.
type Config struct {
	Facts *kernel.Facts
	// AllPackets reports every packet of a flow; else, of TCP, those that open, close or reset.
	AllPackets bool
	// Exact: only tuples given to Follow are of interest, not endpoints.
	Exact bool
	// Streams: all of them are of TCP. Hooks that only datagrams report from are left out: the kernel enters
	// a program for each segment of everybody's, too.
	Streams bool
	// OnlyQueued: of what devices are given to send, it is enough to be told of the packets that a queueing
	// discipline keeps. A device without one, as those of containers are, passes each to its driver at once,
	// which says the same, and the kernel enters one program less for each packet of everybody's.
	OnlyQueued bool
	// VXLANPorts are the UDP ports whose packets are looked into, four at most; empty means 4789.
	VXLANPorts []uint16
	// Snaplen is how many bytes of each packet are copied into its event, 65,535 at most; 0 means none.
	Snaplen uint32
	// HeadersOnly cuts what was copied behind the last header.
	HeadersOnly bool
	linear      bool // the kernel refused to copy from pages
	// RingSize is the size of the ring buffer in bytes, a power of two; 0 means 1 MiB if Exact, else
	// 2 MiB per processor within 4 and 64 MiB, and more with a Snaplen.
	RingSize uint32
}

// Status says how a hook is watched.
type Status struct {
	Hook
	Kind Kind  // empty if not attached
	Err  error // why not
}

// Set is the loaded programs and their attachments. Its methods are safe for concurrent use, but
// for Close, which comes last.
type Set struct {
	maps  map[string]*ebpf.Map
	marks *ebpf.Memory

	snaplen int  // Config.Snaplen
	cut     bool // Config.HeadersOnly

	objects map[string]*object // by family, until they are loaded

	mu       sync.Mutex
	programs map[string]*ebpf.Program // by name
	links    []link.Link
	status   []Status
	netns    map[uint32][]link.Link // netfilter links per namespace
}

// Load loads and attaches every hook of the table that this kernel offers. It returns an error if a
// required one cannot be had; others are reported by Hooks. Netfilter links, which belong to a
// namespace, are attached by AttachNetNS.
func Load(cfg Config) (*Set, error) {
	s, err := Prepare(cfg)
	if err != nil {
		return nil, err
	}
	return s, s.Load(cfg)
}

// Prepare does what needs no facts of the kernel, so that it can be done while they are read: it
// creates the maps and reads the objects. Config.Facts is not used. Load follows.
func Prepare(cfg Config) (*Set, error) {
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the limit on locked memory, which this kernel counts BPF memory against "+
			"(CAP_SYS_RESOURCE is missing, or ulimit -l unlimited): %w", err)
	}
	s := &Set{
		maps:     map[string]*ebpf.Map{},
		objects:  map[string]*object{},
		programs: map[string]*ebpf.Program{},
		netns:    map[uint32][]link.Link{},
		snaplen:  int(cfg.Snaplen), cut: cfg.HeadersOnly,
	}
	for _, list := range []map[string]func() (*ebpf.CollectionSpec, error){families(), inlineFamilies()} {
		for family, read := range list {
			s.objects[family] = newObject(read)
		}
	}
	err := s.createMaps(cfg)
	for _, family := range usualFamilies() {
		if err == nil {
			_, err = s.objects[family].parse()
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Load is the rest of Load after Prepare. After an error the Set is closed.
func (s *Set) Load(cfg Config) error {
	choices := choose(tableFor(cfg), cfg.Facts)
	err := refuse(choices)
	if err == nil {
		err = s.load(cfg, choices)
	}
	if err == nil {
		err = s.attach(choices)
	}
	s.objects = nil
	if err != nil {
		return errors.Join(err, s.Close())
	}
	return nil
}

// createMaps creates the maps that the objects share.
func (s *Set) createMaps(cfg Config) error {
	spec, err := s.objects[mapsFamily].parse()
	if err != nil {
		return fmt.Errorf("read BPF object: %w", err)
	}
	spec.Maps["events"].MaxEntries = cmp.Or(cfg.RingSize, ringSize(cfg.Exact, cfg.Snaplen, runtime.NumCPU()))
	spec.Maps[marksMap].Flags |= unix.BPF_F_MMAPABLE
	if cfg.Exact {
		spec.Maps["flows"].MaxEntries, spec.Maps["endpoints"].MaxEntries = probeTuples, probeTuples
	}
	for name, m := range spec.Maps {
		if name == ".rodata" {
			continue // an object's own
		}
		if s.maps[name], err = ebpf.NewMap(m); err != nil {
			delete(s.maps, name)
			return explainMap(name, err)
		}
	}
	if s.marks, err = s.maps[marksMap].Memory(); err != nil {
		return fmt.Errorf("map marks: %w", err)
	}
	return nil
}

// probeTuples is how many tuples and ends can be followed of what is sent from here: a handful are. The kernel
// allocates every entry beforehand, which for as many as watched traffic may need takes 3 ms.
const probeTuples = 4096

// The ring buffer that is chosen here, in bytes: bounds, what it has for each processor, for a probe, and
// for how many events with captured bytes it has room.
const (
	minRing      = 4 << 20
	maxRing      = 64 << 20
	ringEach     = 2 << 20
	ringOfProbe  = 1 << 20
	ringCaptured = 8192
)

// ringSize is the size of the ring buffer in bytes, a power of two. A probe makes some hundred events.
// Of watched traffic every processor makes its own, while the reader has to be given one of them: 4 MiB
// hold what comes in 30 ms at half a million events a second.
func ringSize(exact bool, snaplen uint32, processors int) uint32 {
	size, want := uint32(minRing), ringEach*uint32(min(processors, maxRing/ringEach))
	if exact {
		size, want = ringOfProbe, ringOfProbe
	}
	if snaplen > 0 {
		want = max(want, ringCaptured*(wire.Size+wire.SizeCapture+snaplen))
	}
	for size < maxRing && size < want {
		size *= 2
	}
	return size
}

// snaplenStep is what the room for the bytes has to be a multiple of, captureHead is CAPTURE_HEAD of
// bpf/include/capture.h.
const (
	snaplenStep = 8
	captureHead = 160
)

// pages reports whether what lies in pages behind the linear part is to be copied, too. Headers are not
// there.
func (c Config) pages() bool { return c.Snaplen > 0 && !c.HeadersOnly && !c.linear }

// maxVXLANPorts is how many ports fit struct settings of bpf/include/maps.h.
const maxVXLANPorts = 4

func settings(cfg Config) bpfobj.DeviceSettings {
	var out bpfobj.DeviceSettings
	ports := cfg.VXLANPorts
	if len(ports) == 0 {
		ports = []uint16{4789}
	}
	for i, port := range ports[:min(len(ports), maxVXLANPorts)] {
		out.VxlanPorts |= uint64(port) << (16 * i)
	}
	if cfg.AllPackets {
		out.AllPackets = 1
	}
	if cfg.Exact {
		out.Exact = 1
	}
	out.Snaplen = cfg.Snaplen
	out.Room = (cfg.Snaplen + snaplenStep - 1) / snaplenStep * snaplenStep
	if cfg.pages() {
		out.Pages, out.Room = 1, out.Room+captureHead
	}
	return out
}

// attach attaches everything that is not bound to a namespace.
func (s *Set) attach(choices []choice) error {
	for _, c := range choices {
		st := Status{Hook: c.hook, Err: c.err}
		if c.err == nil && c.variants[0].Kind != KindNetfilter {
			st.Err = s.attachTracing(c.variants[0])
		}
		if st.Err == nil {
			st.Kind = c.variants[0].Kind
		} else if c.hook.Required {
			return fmt.Errorf("attach %s: %w", c.hook.Name, explain(st.Err))
		}
		s.status = append(s.status, st)
	}
	return nil
}

func (s *Set) attachTracing(v Variant) error {
	for _, name := range v.Programs {
		l, err := link.AttachTracing(link.TracingOptions{Program: s.programs[name]})
		if err != nil {
			return err
		}
		s.links = append(s.links, l)
	}
	return nil
}

// Hooks returns the state of every hook of the table that the trace has a use for, in its order.
func (s *Set) Hooks() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Status(nil), s.status...)
}

// MissingHooks returns the names of the hooks that are not attached because of an error.
func (s *Set) MissingHooks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for i := range s.status {
		if s.status[i].Err != nil {
			out = append(out, s.status[i].Name)
		}
	}
	return out
}

// Programs returns the loaded programs by name, for measuring their run time.
func (s *Set) Programs() map[string]*ebpf.Program { return s.programs }

// Close detaches everything. It may be called more than once.
func (s *Set) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, links := range s.netns {
		for _, l := range links {
			errs = append(errs, l.Close())
		}
	}
	for i := len(s.links) - 1; i >= 0; i-- {
		errs = append(errs, s.links[i].Close())
	}
	for _, p := range s.programs {
		errs = append(errs, p.Close())
	}
	for _, m := range s.maps {
		errs = append(errs, m.Close())
	}
	s.netns, s.links, s.programs = nil, nil, nil
	return errors.Join(errs...)
}
