package docker

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// firstAnswer is how long Connect waits for an engine that accepts connections and says nothing.
const firstAnswer = 3 * time.Second

// maxHistory bounds how many network namespaces of former containers are remembered.
const maxHistory = 4096

// Options of Connect. The zero value asks the usual engine.
type Options struct {
	// Hosts are engine addresses as in --docker-host; empty means DOCKER_HOST, else the usual socket.
	Hosts []string
	// None asks no engine at all.
	None bool
	// Procfs is the mount point of the proc file system, "/proc" if empty.
	Procfs string
	// Getenv reads the environment, os.Getenv if nil.
	Getenv func(string) string
	// Log takes what happens in the background; nil discards it.
	Log *slog.Logger
	// RetryAfter is the first pause before a lost engine is tried again, which doubles up to 5 s;
	// 100 ms if 0.
	RetryAfter time.Duration
}

// Engines is the view of all engines. It is safe for concurrent use.
type Engines struct {
	log     *slog.Logger
	engines []*engine
	cancel  context.CancelFunc
	running sync.WaitGroup
	changed chan struct{}

	mu       sync.RWMutex
	problems []string
	history  map[uint32]*Container
	fns      map[int]func()
	nextFn   int
}

// Connect reads the state of every engine and follows it until Close. It returns after each engine
// was read once or was found unusable, which Problems explains; ctx bounds that first reading.
// The error, a *HostError, is for addresses that are no engine address at all.
func Connect(ctx context.Context, opts Options) (*Engines, error) {
	if opts.Getenv == nil {
		opts.Getenv = os.Getenv
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Procfs == "" {
		opts.Procfs = "/proc"
	}
	if opts.RetryAfter <= 0 {
		opts.RetryAfter = 100 * time.Millisecond
	}
	var hosts []hostAddress
	if !opts.None {
		var err error
		if hosts, err = hostList(opts.Hosts, opts.Getenv); err != nil {
			return nil, err
		}
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	e := &Engines{
		log:     opts.Log,
		cancel:  cancel,
		changed: make(chan struct{}, 1),
		history: map[uint32]*Container{},
		fns:     map[int]func(){},
	}
	for i, h := range hosts {
		e.engines = append(e.engines, newEngine(e, i, h, opts))
	}
	e.running.Go(func() { e.notify(background) })
	for _, en := range e.engines {
		e.running.Go(func() { en.run(background) })
	}
	e.awaitFirst(ctx)
	return e, nil
}

// awaitFirst waits until each engine was tried once.
func (e *Engines) awaitFirst(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstAnswer)
	defer cancel()
	for _, en := range e.engines {
		select {
		case <-en.tried:
		case <-ctx.Done():
			en.report(explain(en.addr, context.DeadlineExceeded), context.DeadlineExceeded)
		}
	}
}

// Pending lists the addresses of the engines that are there and have not answered yet: not those that
// do not run, may not be asked, or are elsewhere.
func (e *Engines) Pending() (hosts []string) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	for _, en := range e.engines {
		if !en.info.Alive && !isFinal(en.info.Err) {
			hosts = append(hosts, en.addr.label())
		}
	}
	return hosts
}

// isFinal reports whether an engine that failed so will not answer a moment later.
func isFinal(err error) bool {
	for _, final := range []error{errElsewhere, fs.ErrNotExist, fs.ErrPermission, syscall.ECONNREFUSED} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// Await waits until no engine is pending, or until ctx ends.
func (e *Engines) Await(ctx context.Context) {
	const look = 20 * time.Millisecond
	for len(e.Pending()) > 0 {
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return
		}
	}
}

// Close ends following and releases the connections. It is idempotent.
func (e *Engines) Close() error {
	e.cancel()
	e.running.Wait()
	return nil
}

// Problems returns, in the order in which they came up, one sentence for each thing that is wrong
// with an engine. The list only grows, and OnChange tells when, so that each can be said once.
func (e *Engines) Problems() []string {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return slices.Clone(e.problems)
}

// List returns the engines in the order of their addresses.
func (e *Engines) List() []Engine {
	e.mu.RLock()
	defer e.mu.RUnlock()
	out := make([]Engine, 0, len(e.engines))
	for _, en := range e.engines {
		out = append(out, en.info)
	}
	return out
}

// Containers returns all containers, running or not, by engine and name.
func (e *Engines) Containers() []*Container {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var out []*Container
	for _, en := range e.engines {
		for _, c := range en.containers {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Container) int {
		return cmp.Or(cmp.Compare(a.Engine, b.Engine), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Networks returns all networks by engine and name.
func (e *Engines) Networks() []*Network {
	e.mu.RLock()
	defer e.mu.RUnlock()
	var out []*Network
	for _, en := range e.engines {
		for _, n := range en.networks {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *Network) int {
		return cmp.Or(cmp.Compare(a.Engine, b.Engine), cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// ByNetNS returns the container in a network namespace, also one that was stopped or removed while
// we watched; the owner of the namespace if several share it. Host-network containers are not
// returned: the namespace is the engine's.
func (e *Engines) ByNetNS(inode uint32) (*Container, bool) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	c := e.history[inode]
	return c, c != nil
}

// OnChange calls fn after changes of the state or of Problems, from one goroutine, until the
// returned function is called. Several changes may be reported at once.
func (e *Engines) OnChange(fn func()) (cancel func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id := e.nextFn
	e.nextFn++
	e.fns[id] = fn
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.fns, id)
	}
}

func (e *Engines) notify(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.changed:
		}
		e.mu.RLock()
		fns := make([]func(), 0, len(e.fns))
		for id := range e.nextFn {
			if fn := e.fns[id]; fn != nil {
				fns = append(fns, fn)
			}
		}
		e.mu.RUnlock()
		for _, fn := range fns {
			fn()
		}
	}
}

func (e *Engines) signal() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// remember keeps which container a namespace belonged to; e.mu is held.
func (e *Engines) remember(old, c *Container) {
	if c.NetNS != 0 && !c.HostNetwork() && c.JoinedID == "" {
		e.history[c.NetNS] = c
	}
	// A container that stopped or was removed is known under its last namespace.
	if old != nil && old.NetNS != 0 && old.NetNS != c.NetNS {
		if h := e.history[old.NetNS]; h != nil && h.ID == c.ID {
			e.history[old.NetNS] = c
		}
	}
	if len(e.history) > maxHistory {
		for inode, h := range e.history {
			if h.Removed || h.NetNS != inode {
				delete(e.history, inode)
			}
		}
	}
}
