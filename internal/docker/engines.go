package docker

import (
	"context"
	"log/slog"
)

// Engines is the view of all engines. It is safe for concurrent use.
type Engines struct{}

// Options of Connect. The zero value asks the usual engine.
type Options struct {
	// Hosts are engine addresses as in --docker-host; empty means DOCKER_HOST, else the usual socket.
	Hosts []string
	// Procfs is the mount point of the proc file system, "/proc" if empty.
	Procfs string
	// Getenv reads the environment, os.Getenv if nil.
	Getenv func(string) string
	// Log takes what happens in the background; nil discards it.
	Log *slog.Logger
}

// Connect reads the state of every engine and follows it until Close. It returns after each engine
// was read once or was found unusable, which Problems explains; ctx bounds that first reading.
// The error is for addresses that are no engine address at all.
func Connect(ctx context.Context, opts Options) (*Engines, error) { return &Engines{}, nil }

// Close ends following and releases the connections. It is idempotent.
func (e *Engines) Close() error { return nil }

// Problems returns one sentence for each engine that could not be used so far.
func (e *Engines) Problems() []string { return nil }

// List returns the engines in the order of their addresses.
func (e *Engines) List() []Engine { return nil }

// Containers returns all containers, running or not, by engine and name.
func (e *Engines) Containers() []*Container { return nil }

// Networks returns all networks by engine and name.
func (e *Engines) Networks() []*Network { return nil }

// ByNetNS returns the container in a network namespace, also one that was stopped or removed while
// we watched; the owner of the namespace if several share it. Host-network containers are not
// returned: the namespace is the engine's.
func (e *Engines) ByNetNS(inode uint32) (*Container, bool) { return nil, false }

// OnChange calls fn after each change of the state, from one goroutine, until the returned function
// is called. Several changes may be reported at once.
func (e *Engines) OnChange(fn func()) (cancel func()) { return func() {} }
