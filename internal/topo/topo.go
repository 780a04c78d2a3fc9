package topo

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// How often an unknown inode may lead to a scan. A scan costs about a millisecond on a host with a
// few hundred processes; a deep one reads the mounts of every mount namespace.
const (
	scanInterval     = 50 * time.Millisecond
	deepScanInterval = time.Second
)

// maxGone bounds how many vanished namespaces, and vanished links per namespace, keep their names.
const maxGone = 4096

// Options of New. The zero value is ready to use.
type Options struct {
	// Procfs is the mount point of the proc file system, "/proc" if empty.
	Procfs string
	// Log takes what goes wrong in the background; nil discards it.
	Log *slog.Logger
	// HasSymbol reports whether the kernel has a function of that name; nil reads /proc/kallsyms.
	HasSymbol func(name string) bool
	// Now is the clock that limits how often the kernel is asked again, time.Now if nil.
	Now func() time.Time
}

// Topology is a view of the namespaces of this kernel. It is safe for concurrent use.
type Topology struct {
	procfs string
	log    *slog.Logger
	now    func() time.Time
	self   uint32
	selfFD *os.File
	watch  *watcher
	events *dispatcher

	// scanMu serialises scans; it is taken before mu. A space's own lock may be held when taking
	// either, never the other way round.
	scanMu     sync.Mutex
	deepScan   time.Time
	mu         sync.RWMutex
	lastScan   time.Time
	spaces     map[uint32]*space
	goneOrder  []uint32
	given      map[uint32]givenName
	pinHolders map[int]struct{}
	paths      map[string]struct{} // what AddPath was given

	featuresOnce sync.Once
	has          features
	hasSymbol    func(string) bool

	ownersMu sync.Mutex
	owners   map[uint32]owner // by inode of the socket
}

// givenName is what SetName was told.
type givenName struct {
	name string
	kind Kind
}

// New reads which namespaces there are and starts to watch for new ones.
func New(opts Options) (*Topology, error) {
	t := &Topology{
		procfs:     opts.Procfs,
		log:        opts.Log,
		now:        opts.Now,
		hasSymbol:  opts.HasSymbol,
		spaces:     map[uint32]*space{},
		given:      map[uint32]givenName{},
		pinHolders: map[int]struct{}{},
		paths:      map[string]struct{}{},
	}
	if t.procfs == "" {
		t.procfs = "/proc"
	}
	if t.log == nil {
		t.log = slog.New(slog.DiscardHandler)
	}
	if t.now == nil {
		t.now = time.Now
	}
	if err := t.openSelf(); err != nil {
		return nil, err
	}
	t.events = newDispatcher()
	if err := t.Rescan(); err != nil {
		t.closeFiles()
		return nil, err
	}
	watch, err := newWatcher(t)
	if err != nil {
		t.closeFiles()
		return nil, err
	}
	t.watch = watch
	go watch.loop()
	return t, nil
}

// openSelf keeps a descriptor of our own namespace. /proc/self/ns/net is that of the main thread,
// which the runtime may lend to a goroutine that enters another namespace, so it is read once.
func (t *Topology) openSelf() error {
	link := filepath.Join(t.procfs, "thread-self/ns/net")
	inode, err := readNetNS(link)
	if err != nil {
		return fmt.Errorf("read own network namespace: %w", err)
	}
	// A copied proc file system, as tests use, has links that lead nowhere.
	t.selfFD, _ = os.Open(link)
	t.self = inode
	return nil
}

// Close stops watching and releases everything. It is idempotent.
func (t *Topology) Close() error {
	t.watch.close()
	t.closeFiles()
	return nil
}

func (t *Topology) closeFiles() {
	t.events.close()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.selfFD != nil {
		t.selfFD.Close()
		t.selfFD = nil
	}
}

// Self is the namespace of this process.
func (t *Topology) Self() uint32 { return t.self }

// OnChange calls fn for every change from now on, from one goroutine, in order, until the returned
// function is called. fn may use the Topology and should not block for long: up to 65536 changes
// wait, the oldest are forgotten beyond that.
func (t *Topology) OnChange(fn func(Change)) (cancel func()) { return t.events.add(fn) }
