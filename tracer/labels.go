package tracer

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// labels puts names on hops: namespaces, containers, networks, devices, addresses. What it found is
// kept until something changes.
type labels struct {
	topo     *topo.Topology
	engines  *docker.Engines
	given    []uint32 // namespaces given by path
	hostname string
	cancel   []func()

	mu      sync.Mutex
	devices map[deviceKey]device
	addrs   map[netip.Addr]string
	hidden  map[uint32]hiddenSpace // by inode
}

type deviceKey struct{ netns, ifindex uint32 }

// device is what is said of a network device.
type device struct {
	name, kind, network, bridge string
	mtu                         uint32
}

func newLabels(t *topo.Topology, engines *docker.Engines, given []uint32) *labels {
	l := &labels{topo: t, engines: engines, given: given}
	l.hostname, _ = os.Hostname() // an unnamed host is no reason not to trace
	l.reset()
	l.nameNamespaces()
	l.cancel = []func(){
		engines.OnChange(func() { l.nameNamespaces(); l.reset() }),
		t.OnChange(func(topo.Change) { l.reset() }),
	}
	return l
}

func (l *labels) close() {
	for _, cancel := range l.cancel {
		cancel()
	}
}

func (l *labels) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.devices = map[deviceKey]device{}
	l.addrs = nil
}

// nameNamespaces tells the topology which namespaces are containers' and which the hosts'.
func (l *labels) nameNamespaces() {
	engines := l.engines.List()
	hosts := map[uint32]bool{}
	for _, e := range engines {
		l.topo.AddPins(e.PID)
		if e.NetNS != 0 {
			hosts[e.NetNS] = true
		}
	}
	if len(hosts) == 0 {
		l.nameOwnHost()
	}
	for inode := range hosts {
		name := ""
		if len(hosts) > 1 { // they need telling apart
			name = l.topo.Mounted(inode)
		}
		l.topo.SetName(inode, cmp.Or(name, "host"), topo.KindHost)
	}
	for _, c := range l.engines.Containers() {
		if c.NetNS != 0 && !c.HostNetwork() && c.JoinedID == "" {
			l.topo.SetName(c.NetNS, c.Name, topo.KindContainer)
		}
	}
	l.nameHidden()
}

// nameOwnHost: without an engine, the host is where this process runs, unless that has a name.
func (l *labels) nameOwnHost() {
	if ns, ok := l.topo.Namespace(l.topo.Self()); !ok || ns.Kind != topo.KindNamed {
		l.topo.SetName(l.topo.Self(), "host", topo.KindHost)
	}
}

// namespace returns the name of a namespace.
func (l *labels) namespace(inode uint32) string {
	if ns, ok := l.topo.Namespace(inode); ok && ns.Name != "" {
		return ns.Name
	}
	return fmt.Sprintf("netns:%d", inode)
}

// device describes a device; seen is the name the kernel reported with the event.
func (l *labels) device(netns, ifindex uint32, seen string) device {
	if ifindex == 0 {
		return device{name: seen}
	}
	key := deviceKey{netns, ifindex}
	l.mu.Lock()
	d, ok := l.devices[key]
	l.mu.Unlock()
	if ok && (seen == "" || seen == d.name) {
		return d
	}
	if !ok {
		d = l.lookUp(netns, ifindex, seen)
	}
	if seen != "" {
		// A container that ends gives its device back, renamed; its packets went through it before.
		d.name = seen
	}
	l.mu.Lock()
	l.devices[key] = d
	l.mu.Unlock()
	return d
}

func (l *labels) lookUp(netns, ifindex uint32, seen string) device {
	link, ok := l.topo.Device(netns, ifindex)
	if !ok {
		return device{name: seen}
	}
	d := device{name: link.Name, kind: link.Kind, mtu: link.MTU}
	if master, ok := l.topo.Device(netns, link.Master); ok && link.Master != 0 && master.Kind == "bridge" {
		d.bridge = master.Name
	}
	d.network = l.network(netns, link, d.bridge)
	return d
}

// network finds the Docker network of a device: a container's by address, a host's by its bridge,
// that of a hidden namespace by its pin.
func (l *labels) network(netns uint32, link topo.Link, bridge string) string {
	if c, ok := l.engines.ByNetNS(netns); ok {
		return containerNetwork(c, link)
	}
	engine := l.engineOf(netns)
	for _, n := range l.engines.Networks() {
		if n.Bridge != "" && n.Engine == engine && (n.Bridge == link.Name || n.Bridge == bridge) {
			return n.Name
		}
	}
	return l.hiddenNetwork(netns)
}

func containerNetwork(c *docker.Container, link topo.Link) string {
	for _, ep := range c.Endpoints {
		if ep.MAC != "" && strings.EqualFold(ep.MAC, link.HardwareAddr) {
			return ep.Network
		}
		for _, prefix := range link.Addrs {
			if a := prefix.Addr(); a == ep.IPv4 || a == ep.IPv6 {
				return ep.Network
			}
		}
	}
	return ""
}

func (l *labels) engineOf(netns uint32) int {
	for _, e := range l.engines.List() {
		if e.NetNS == netns {
			return e.Index
		}
	}
	return -1
}

// addr names an address: a container, a host; "" if nobody is known to own it.
func (l *labels) addr(a netip.Addr) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addrs == nil {
		l.addrs = l.collectAddrs()
	}
	return l.addrs[a]
}

// addrIn is addr for an address seen in a namespace: loopback addresses are that namespace's own.
func (l *labels) addrIn(netns uint32, a netip.Addr) string {
	if a.IsLoopback() {
		return l.namespace(netns)
	}
	return l.addr(a)
}

// collectAddrs maps addresses to names. An address that two things have gets no name, which is better
// than a wrong one; but what a given namespace has is meant.
func (l *labels) collectAddrs() map[netip.Addr]string {
	names := map[netip.Addr]string{}
	add := func(a netip.Addr, name string) {
		switch old, ok := names[a]; {
		case !a.IsValid() || name == "":
		case ok && old != name:
			names[a] = ""
		default:
			names[a] = name
		}
	}
	for _, c := range l.engines.Containers() {
		for _, a := range c.Addrs() {
			add(a, c.Name)
		}
	}
	meant := map[netip.Addr]string{}
	for _, ns := range l.topo.Namespaces() {
		given := slices.Contains(l.given, ns.Inode)
		if !given && ns.Kind != topo.KindHost && ns.Kind != topo.KindNamed {
			continue
		}
		addrs, err := l.topo.HostAddrs(ns.Inode)
		if err != nil {
			continue // it has just vanished
		}
		for _, a := range addrs {
			if a.IsLoopback() {
				continue
			}
			if add(a, ns.Name); given {
				meant[a] = ns.Name
			}
		}
	}
	maps.Copy(names, meant)
	return names
}

// naming answers what is asked about the names on a path: labels from what is there now, a recording
// from what was.
type naming interface {
	host() string
	// space names a namespace and the container that lives there.
	space(inode uint32) recording.Namespace
	// device describes a device; seen is the name the kernel reported, "" if none.
	device(netns, ifindex uint32, seen string) device
	// peerMTU is the MTU of the other end of a veth pair, bytes; 0 if it is not known.
	peerMTU(netns, ifindex uint32) uint32
	addrIn(netns uint32, a netip.Addr) string
	// hasAddr reports whether a device has an address.
	hasAddr(netns, ifindex uint32, a netip.Addr) bool
}

func (l *labels) host() string { return l.hostname }

func (l *labels) peerMTU(netns, ifindex uint32) uint32 {
	link, ok := l.topo.Link(netns, ifindex)
	if !ok {
		return 0
	}
	peer, _ := l.topo.Link(link.PeerNetNS, link.PeerIndex)
	return peer.MTU
}

func (l *labels) space(inode uint32) recording.Namespace {
	ns := recording.Namespace{Inode: inode, Name: l.namespace(inode)}
	if c, ok := l.engines.ByNetNS(inode); ok {
		ns.Container, ns.Project, ns.Service = c.Name, c.Project, c.Service
	}
	return ns
}

// onePath is naming for one path, whose hops are in few namespaces, at few devices and have few addresses: each
// is asked for once.
type onePath struct {
	naming
	spaces  []recording.Namespace
	devices []seenDevice
	addrs   []seenAddr
}

// seenDevice is a device as events named it, which is not "", with what is said of it.
type seenDevice struct {
	deviceKey
	seen string
	device
}

// seenAddr is an address in a namespace with its name.
type seenAddr struct {
	netns uint32
	addr  netip.Addr
	name  string
}

func (n *onePath) device(netns, ifindex uint32, seen string) device {
	if seen == "" || ifindex == 0 {
		return n.naming.device(netns, ifindex, seen)
	}
	key := deviceKey{netns, ifindex}
	for i := range n.devices {
		if d := &n.devices[i]; d.deviceKey == key && d.seen == seen {
			return d.device
		}
	}
	d := n.naming.device(netns, ifindex, seen)
	n.devices = append(n.devices, seenDevice{key, seen, d})
	return d
}

func (n *onePath) addrIn(netns uint32, a netip.Addr) string {
	for i := range n.addrs {
		if s := &n.addrs[i]; s.netns == netns && s.addr == a {
			return s.name
		}
	}
	name := n.naming.addrIn(netns, a)
	n.addrs = append(n.addrs, seenAddr{netns, a, name})
	return name
}

func (n *onePath) space(inode uint32) recording.Namespace {
	for i := range n.spaces {
		if n.spaces[i].Inode == inode {
			return n.spaces[i]
		}
	}
	ns := n.naming.space(inode)
	ns.Inode = inode
	n.spaces = append(n.spaces, ns)
	return ns
}

// annotate fills in the names of a finished path.
func annotate(from naming, p *path.Path) {
	l := &onePath{naming: from}
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			h := &packet.Hops[i]
			l.device(h.NetNS, h.Ifindex, h.Device) // hooks know only the index; the names are the same
		}
	}
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			annotateHop(l, &packet.Hops[i])
		}
	}
	for i := range p.NAT {
		p.NAT[i].Namespace = l.space(p.NAT[i].NetNS).Name
	}
	masquerades(p, l)
}

func annotateHop(l naming, h *path.Hop) {
	ns := l.space(h.NetNS)
	h.Host, h.Namespace = l.host(), ns.Name
	h.Container, h.Project, h.Service = ns.Container, ns.Project, ns.Service
	d := l.device(h.NetNS, h.Ifindex, h.Device)
	h.Device, h.DeviceKind, h.Network, h.Bridge, h.DeviceMTU = d.name, d.kind, d.network, d.bridge, d.mtu
	if h.InIfindex != 0 && h.InDevice == "" {
		h.InDevice = l.device(h.NetNS, h.InIfindex, "").name
	}
	if h.OutIfindex != 0 && h.OutDevice == "" {
		h.OutDevice = l.device(h.NetNS, h.OutIfindex, "").name
	}
	h.SrcName = l.addrIn(h.NetNS, h.SrcAddr.Addr())
	h.DstName = l.addrIn(h.NetNS, h.DstAddr.Addr())
}

// masquerades renames source translations to the address of the device the packet leaves by: that is
// what masquerading is (net/netfilter/nf_nat_masquerade.c takes the address of the outgoing device).
func masquerades(p *path.Path, l naming) {
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			h := &packet.Hops[i]
			if h.Action != path.ActionSNAT || packet.Direction != path.Request ||
				h.Stage != path.StagePostrouting || !leavesWithOwnAddr(l, h) {
				continue
			}
			h.Action = path.ActionMasquerade
			for j := range p.NAT {
				if t := &p.NAT[j]; t.Kind == path.ActionSNAT && t.NetNS == h.NetNS && t.To == h.Src {
					t.Kind = path.ActionMasquerade
				}
			}
		}
	}
}

func leavesWithOwnAddr(l naming, h *path.Hop) bool {
	ifindex := h.OutIfindex
	if ifindex == 0 {
		ifindex = h.Ifindex
	}
	return l.hasAddr(h.NetNS, ifindex, h.SrcAddr.Addr())
}

func (l *labels) hasAddr(netns, ifindex uint32, a netip.Addr) bool {
	link, ok := l.topo.Link(netns, ifindex)
	return ok && slices.ContainsFunc(link.Addrs, func(p netip.Prefix) bool { return p.Addr() == a })
}
