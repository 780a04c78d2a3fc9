package topo

import (
	"log/slog"
	"net/netip"
)

// Options of New. The zero value is ready to use.
type Options struct {
	// Procfs is the mount point of the proc file system, "/proc" if empty.
	Procfs string
	// Log takes what goes wrong in the background; nil discards it.
	Log *slog.Logger
}

// Topology is a view of the namespaces of this kernel. It is safe for concurrent use.
type Topology struct{}

// New reads which namespaces there are and starts to watch for new ones.
func New(opts Options) (*Topology, error) { return &Topology{}, nil }

// Close stops watching and releases everything. It is idempotent.
func (t *Topology) Close() error { return nil }

// Self is the namespace of this process.
func (t *Topology) Self() uint32 { return 0 }

// Namespaces returns the namespaces that exist, by name.
func (t *Topology) Namespaces() []NetNS { return nil }

// Namespace returns what is known of a namespace, also of one that is gone. An unknown inode leads
// to a new scan, unless there was one a moment ago.
func (t *Topology) Namespace(inode uint32) (NetNS, bool) { return NetNS{}, false }

// NamespaceByName returns the namespaces that exist under a name.
func (t *Topology) NamespaceByName(name string) []NetNS { return nil }

// SetName gives a namespace the name of what lives in it, which wins over every name found by
// scanning, and may be called before the namespace was seen.
func (t *Topology) SetName(inode uint32, name string, kind Kind) {}

// AddPins also looks for pinned namespaces in the mount namespace of process pid, where a dockerd
// with private mounts keeps them.
func (t *Topology) AddPins(pid int) {}

// Rescan looks for new and vanished namespaces now.
func (t *Topology) Rescan() error { return nil }

// InodeOf returns the inode of the namespace that path refers to.
func (t *Topology) InodeOf(path string) (uint32, error) { return 0, nil }

// PathOf returns a path that opens the namespace.
func (t *Topology) PathOf(inode uint32) (string, error) { return "", nil }

// InNamespace runs fn on an operating-system thread that is inside the namespace.
func (t *Topology) InNamespace(inode uint32, fn func() error) error { return nil }

// Do runs fn on an operating-system thread inside the network namespace that path refers to. The
// goroutine fn runs on is not the caller's.
func Do(path string, fn func() error) error { return nil }

// Link returns a device, also one that is gone.
func (t *Topology) Link(netns, ifindex uint32) (Link, bool) { return Link{}, false }

// LinkByName returns the device that has the name now.
func (t *Topology) LinkByName(netns uint32, name string) (Link, bool) { return Link{}, false }

// Links returns the devices of a namespace that exist, by index.
func (t *Topology) Links(netns uint32) ([]Link, error) { return nil, nil }

// HostAddrs returns the addresses of a namespace, loopback included, link-local ones not.
func (t *Topology) HostAddrs(netns uint32) ([]netip.Addr, error) { return nil, nil }

// AddrOwner returns the links of all namespaces that carry an address. It reads every namespace.
func (t *Topology) AddrOwner(addr netip.Addr) []Owner { return nil }

// RouteTo asks the namespace how it would reach dst. The error of an unreachable destination is the
// kernel's: unix.ENETUNREACH, EHOSTUNREACH, EACCES (prohibit) or EINVAL (blackhole).
func (t *Topology) RouteTo(netns uint32, dst netip.Addr) (Route, error) { return Route{}, nil }

// Neighbours returns the neighbour entries of a device (of all devices if ifindex is 0).
func (t *Topology) Neighbours(netns, ifindex uint32) ([]Neighbour, error) { return nil, nil }

// FDB returns the forwarding entries of a bridge port or VXLAN device (of all if ifindex is 0).
func (t *Topology) FDB(netns, ifindex uint32) ([]FDBEntry, error) { return nil, nil }

// OnChange calls fn for every change from now on, from one goroutine, in order, until the returned
// function is called. fn may use the Topology and must not block for long.
func (t *Topology) OnChange(fn func(Change)) (cancel func()) { return func() {} }
