package tracer

import (
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// saidNames are the names that a recording has already. They are repeated in its next part.
type saidNames struct {
	numbers   map[numberKey]string
	spaces    map[uint32]recording.Namespace
	devices   map[deviceKey]recording.Device
	addrs     map[addrKey]string
	endpoints map[probe.Endpoint]bool // nil before the trace began
}

type numberKey struct {
	kind   recording.NameKind
	number uint64
}

type addrKey struct {
	netns uint32
	addr  netip.Addr
}

func newSaidNames() saidNames {
	return saidNames{
		numbers: map[numberKey]string{}, spaces: map[uint32]recording.Namespace{},
		devices: map[deviceKey]recording.Device{}, addrs: map[addrKey]string{},
	}
}

// repeatNames records all names again. mu is held.
func (r *recorder) repeatNames() {
	for key, name := range r.said.numbers {
		r.writer.Name(key.kind, key.number, name)
	}
	for _, ns := range r.said.spaces {
		r.put(recording.TypeNamespace, ns, nil)
	}
	for _, d := range r.said.devices {
		r.put(recording.TypeDevice, d, nil)
	}
	for key, name := range r.said.addrs {
		r.put(recording.TypeAddress, recording.Address{NetNS: key.netns, Addr: key.addr, Name: name}, nil)
	}
	var ends []probe.Endpoint
	for e := range r.said.endpoints {
		ends = append(ends, e)
	}
	r.changeEndpoints(ends, nil)
}

// nameEvent records the names of an event's numbers, before the event. mu is held.
func (r *recorder) nameEvent(e *wire.Event) {
	switch {
	case e.Hook == wire.Drop:
		r.name(recording.NameDrop, uint64(e.Reason), func() string { return r.namer.DropReason(e.Reason) })
	case e.Hook == wire.TCPReset:
		r.name(recording.NameReset, uint64(e.Reason), func() string { return r.namer.ResetReason(e.Reason) })
	case !e.Has(wire.FlagBridgeNF):
		return // nobody asks where it was
	}
	if e.Location != 0 {
		r.name(recording.NameSymbol, e.Location, func() string { return r.namer.Symbol(e.Location) })
	}
}

// dropper is the function that dropped what an event is of, whose name has been recorded; "" if none did. mu is
// held.
func (r *recorder) dropper(e *wire.Event) string {
	if e.Hook != wire.Drop {
		return ""
	}
	return r.said.numbers[numberKey{recording.NameSymbol, e.Location}]
}

// name records what the kernel calls a number, once.
func (r *recorder) name(kind recording.NameKind, number uint64, ask func() string) {
	key := numberKey{kind, number}
	if _, ok := r.said.numbers[key]; ok {
		return
	}
	name := ask()
	r.said.numbers[key] = name
	r.writer.Name(kind, number, name)
}

// recordedNaming is naming whose answers are recorded, where they differ from those before.
type recordedNaming struct {
	naming
	rec *recorder
}

func (n recordedNaming) space(inode uint32) recording.Namespace {
	ns := n.naming.space(inode)
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	if said, ok := n.rec.said.spaces[inode]; !ok || said != ns {
		n.rec.said.spaces[inode] = ns
		n.rec.put(recording.TypeNamespace, ns, nil)
	}
	return ns
}

func (n recordedNaming) device(netns, ifindex uint32, seen string) device {
	d := n.naming.device(netns, ifindex, seen)
	if ifindex == 0 {
		return d
	}
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	said, ok := n.rec.said.devices[deviceKey{netns, ifindex}]
	now := recording.Device{
		NetNS: netns, Ifindex: ifindex, Name: d.name, Kind: d.kind, Network: d.network, Bridge: d.bridge, MTU: d.mtu,
		Addrs: said.Addrs, PeerMTU: said.PeerMTU,
	}
	if !ok || !sameDevice(said, now) {
		n.rec.sayDevice(now)
	}
	return d
}

func sameDevice(a, b recording.Device) bool {
	return a.Name == b.Name && a.Kind == b.Kind && a.Network == b.Network && a.Bridge == b.Bridge && a.MTU == b.MTU && a.PeerMTU == b.PeerMTU &&
		slices.Equal(a.Addrs, b.Addrs)
}

func (n recordedNaming) peerMTU(netns, ifindex uint32) uint32 {
	mtu := n.naming.peerMTU(netns, ifindex)
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	d := n.rec.said.devices[deviceKey{netns, ifindex}]
	if d.NetNS, d.Ifindex = netns, ifindex; d.PeerMTU != mtu {
		d.PeerMTU = mtu
		n.rec.sayDevice(d)
	}
	return mtu
}

func (r *recorder) sayDevice(d recording.Device) {
	r.said.devices[deviceKey{d.NetNS, d.Ifindex}] = d
	r.put(recording.TypeDevice, d, nil)
}

func (n recordedNaming) addrIn(netns uint32, a netip.Addr) string {
	name := n.naming.addrIn(netns, a)
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	key := addrKey{netns, a}
	if n.rec.said.addrs[key] != name && a.IsValid() {
		n.rec.said.addrs[key] = name
		n.rec.put(recording.TypeAddress, recording.Address{NetNS: netns, Addr: a, Name: name}, nil)
	}
	return name
}

func (n recordedNaming) hasAddr(netns, ifindex uint32, a netip.Addr) bool {
	has := n.naming.hasAddr(netns, ifindex, a)
	n.rec.mu.Lock()
	defer n.rec.mu.Unlock()
	d := n.rec.said.devices[deviceKey{netns, ifindex}]
	if d.NetNS, d.Ifindex = netns, ifindex; slices.Contains(d.Addrs, a) == has {
		return has
	}
	if has {
		d.Addrs = append(slices.Clone(d.Addrs), a)
	} else {
		d.Addrs = slices.DeleteFunc(slices.Clone(d.Addrs), func(x netip.Addr) bool { return x == a })
	}
	n.rec.sayDevice(d)
	return has
}

// sights are the places and addresses of events. Their names are recorded when they are first seen, for
// those who read the recording while it is written.
type sights struct {
	known map[sight]bool
	queue chan sight
}

// sight is a place with an address that was seen there.
type sight struct {
	netns, ifindex uint32
	addr           netip.Addr
	dev            string
	peer           bool // a packet was dropped there that may have been too big for the device's peer
}

// maxSights bounds the places that are remembered; beyond it names come with the flows.
const maxSights = 1 << 16

func newSights() sights { return sights{known: map[sight]bool{}, queue: make(chan sight, 256)} }

// see notes the place of an event and its addresses; function is where the kernel dropped it, "" if it did not.
func (s *sights) see(e *wire.Event, function string) {
	if e.NetNS == 0 {
		return
	}
	for _, a := range [...]netip.Addr{e.Tuple.Src.Addr(), e.Tuple.Dst.Addr()} {
		x := sight{e.NetNS, e.Ifindex, a, e.Dev, mtu.ChecksPeer(function)}
		if s.known[x] || len(s.known) >= maxSights {
			continue
		}
		select {
		case s.queue <- x:
			s.known[x] = true
		default: // next time
		}
	}
}

// nameSights records the names of what was seen, until the recording ends.
func (r *recorder) nameSights() {
	defer close(r.named)
	n := recordedNaming{r.live, r}
	for x := range r.sights.queue {
		n.space(x.netns)
		n.device(x.netns, x.ifindex, x.dev)
		n.addrIn(x.netns, x.addr)
		if x.peer {
			n.peerMTU(x.netns, x.ifindex)
		}
	}
}
