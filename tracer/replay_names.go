package tracer

import (
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/recording"
)

// bookNaming answers from a recording. A path asks the same things again and again: the last answers
// are kept.
type bookNaming struct {
	header  *recording.Header
	names   *recording.Names
	version int
	spaces  recent[uint32, recording.Namespace]
	devices recent[deviceKey, device]
	addrs   recent[addrKey, string]
}

// recent holds a few of the last answers.
type recent[K comparable, V any] struct {
	keys   [8]K
	values [8]V
	n      int
}

func (r *recent[K, V]) get(key K) (v V, ok bool) {
	for i := range min(r.n, len(r.keys)) {
		if r.keys[i] == key {
			return r.values[i], true
		}
	}
	return v, false
}

func (r *recent[K, V]) put(key K, v V) {
	i := r.n % len(r.keys)
	r.keys[i], r.values[i] = key, v
	if r.n++; r.n == 2*len(r.keys) {
		r.n = len(r.keys)
	}
}

// at returns the naming for what a reader has read.
func (b *bookNaming) at(r *recording.Reader) *bookNaming {
	if b.names != r.Names() || b.version != r.Names().Version() {
		*b = bookNaming{header: r.Header(), names: r.Names(), version: r.Names().Version()}
	}
	return b
}

func (b *bookNaming) host() string { return b.header.Host }

func (b *bookNaming) space(inode uint32) recording.Namespace {
	ns, ok := b.spaces.get(inode)
	if !ok {
		ns = b.names.Namespace(inode)
		b.spaces.put(inode, ns)
	}
	return ns
}

func (b *bookNaming) device(netns, ifindex uint32, seen string) device {
	if ifindex == 0 {
		return device{name: seen}
	}
	key := deviceKey{netns, ifindex}
	d, ok := b.devices.get(key)
	if !ok {
		known, _ := b.names.Device(netns, ifindex)
		d = device{name: known.Name, kind: known.Kind, network: known.Network, bridge: known.Bridge, mtu: known.MTU}
		b.devices.put(key, d)
	}
	if seen != "" {
		d.name = seen
	}
	return d
}

func (b *bookNaming) peerMTU(netns, ifindex uint32) uint32 {
	d, _ := b.names.Device(netns, ifindex)
	return d.PeerMTU
}

func (b *bookNaming) addrIn(netns uint32, a netip.Addr) string {
	key := addrKey{netns, a}
	name, ok := b.addrs.get(key)
	if !ok {
		name = b.names.Address(netns, a)
		b.addrs.put(key, name)
	}
	return name
}

func (b *bookNaming) hasAddr(netns, ifindex uint32, a netip.Addr) bool {
	d, _ := b.names.Device(netns, ifindex)
	return slices.Contains(d.Addrs, a)
}
