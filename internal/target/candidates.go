package target

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/topo"
)

// hostNameLimit bounds the look-up of a host name, so that dead DNS does not look like a hang.
const hostNameLimit = 2 * time.Second

// thing is something that a name can mean.
type thing struct {
	kind       Kind
	engine     int // -1 if it belongs to none
	containers []*docker.Container
	netns      []uint32
	// where says where the name holds: the network of an alias, the project of a service.
	where string
	// asked are the addresses that the name itself gives.
	asked []netip.Addr
}

// world is one reading of what there is, so that a resolution sees a single state.
type world struct {
	engines    []docker.Engine
	containers []*docker.Container
	networks   []*docker.Network
	topology   Topology
	preferred  []uint32
}

func (n *Names) world() *world {
	w := &world{topology: n.opts.Topology, preferred: n.opts.Preferred}
	if n.opts.Docker != nil {
		w.engines = n.opts.Docker.List()
		w.containers = n.opts.Docker.Containers()
		w.networks = n.opts.Docker.Networks()
	}
	return w
}

// find resolves a reference to exactly one thing.
func (n *Names) find(ctx context.Context, w *world, r reference) (thing, error) {
	switch {
	case r.addr.IsValid():
		return w.byAddr(r.addr)
	case r.name == "host":
		return w.host(0), nil
	}
	found := w.byName(r.name)
	if len(found) == 0 {
		found = w.byID(r.name)
	}
	switch found = w.prefer(found); len(found) {
	case 0:
		return n.byHostName(ctx, w, r.name)
	case 1:
		return found[0], nil
	}
	return thing{}, w.ambiguous(r.label(), found)
}

// prefer keeps what is in a preferred namespace, if anything is.
func (w *world) prefer(found []thing) []thing {
	var out []thing
	for _, t := range found {
		if slices.ContainsFunc(t.netns, func(inode uint32) bool { return slices.Contains(w.preferred, inode) }) {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return found
	}
	return out
}

// byName collects what has a name. A container that several routes lead to is one thing.
func (w *world) byName(name string) []thing {
	var out []thing
	for _, t := range slices.Concat(w.containersNamed(name), w.services(name), w.swarmServices(name), w.aliases(name), w.namespaces(name)) {
		if !slices.ContainsFunc(out, func(have thing) bool { return same(have, t) }) {
			out = append(out, t)
		}
	}
	return out
}

// same tells whether a later thing adds nothing to an earlier one: its containers are among those,
// or the earlier is a container or service that the later one includes, or it is their namespace.
func same(have, t thing) bool {
	if t.kind == KindNetNS {
		return slices.ContainsFunc(t.netns, func(n uint32) bool { return slices.Contains(have.netns, n) })
	}
	if len(t.containers) == 0 {
		return false
	}
	if subset(t.containers, have.containers) {
		return true
	}
	return have.kind != KindAlias && t.kind != have.kind && subset(have.containers, t.containers)
}

func subset(a, b []*docker.Container) bool {
	for _, c := range a {
		if !slices.ContainsFunc(b, func(d *docker.Container) bool { return c.ID == d.ID }) {
			return false
		}
	}
	return len(a) > 0
}

func (w *world) containersNamed(name string) []thing {
	var out []thing
	for _, c := range w.containers {
		if c.Name == name {
			out = append(out, group(KindContainer, c.Engine, "", []*docker.Container{c}))
		}
	}
	return out
}

// services finds Compose services, by their name or as PROJECT/SERVICE.
func (w *world) services(name string) []thing {
	project, service, qualified := strings.Cut(name, "/")
	if !qualified {
		project, service = "", name
	}
	return w.grouped(KindService, func(c *docker.Container) []string {
		if c.Service != service || c.Service == "" || qualified && c.Project != project {
			return nil
		}
		return []string{c.Project}
	})
}

// swarmServices finds the services of swarms, which may have containers on several hosts, and their tasks.
func (w *world) swarmServices(name string) []thing {
	members := map[string][]*docker.Container{}
	var order []string
	for _, c := range w.containers {
		if c.SwarmService != name && c.SwarmTask != name || name == "" {
			continue
		}
		if members[c.SwarmID] == nil {
			order = append(order, c.SwarmID)
		}
		members[c.SwarmID] = append(members[c.SwarmID], c)
	}
	out := make([]thing, 0, len(order))
	for _, id := range order {
		first := members[id][0]
		out = append(out, group(KindSwarmService, first.Engine, first.SwarmService, members[id]))
	}
	return out
}

// aliases finds network aliases, one thing per network.
func (w *world) aliases(name string) []thing {
	return w.grouped(KindAlias, func(c *docker.Container) []string {
		var networks []string
		for _, e := range c.Endpoints {
			if slices.Contains(e.Aliases, name) {
				networks = append(networks, e.Network)
			}
		}
		return networks
	})
}

// grouped makes one thing of all containers of an engine for which keys gives the same key.
func (w *world) grouped(kind Kind, keys func(*docker.Container) []string) []thing {
	type groupKey struct {
		engine int
		key    string
	}
	members := map[groupKey][]*docker.Container{}
	var order []groupKey
	for _, c := range w.containers {
		for _, key := range keys(c) {
			k := groupKey{c.Engine, key}
			if members[k] == nil {
				order = append(order, k)
			}
			members[k] = append(members[k], c)
		}
	}
	out := make([]thing, 0, len(order))
	for _, k := range order {
		out = append(out, group(kind, k.engine, k.key, members[k]))
	}
	return out
}

// group makes a thing of containers; those that run stand for all, if there are any.
func group(kind Kind, engine int, where string, members []*docker.Container) thing {
	running := slices.DeleteFunc(slices.Clone(members), func(c *docker.Container) bool { return !c.Runs() })
	if len(running) > 0 {
		members = running
	}
	slices.SortStableFunc(members, func(a, b *docker.Container) int {
		return cmp.Or(cmp.Compare(a.Number, b.Number), cmp.Compare(a.Name, b.Name))
	})
	t := thing{kind: kind, engine: engine, where: where, containers: members}
	for _, c := range members {
		if c.NetNS != 0 && !slices.Contains(t.netns, c.NetNS) {
			t.netns = append(t.netns, c.NetNS)
		}
	}
	return t
}

// byID finds containers by a prefix of their ID.
func (w *world) byID(prefix string) []thing {
	if strings.Trim(prefix, "0123456789abcdef") != "" {
		return nil
	}
	var out []thing
	for _, c := range w.containers {
		if strings.HasPrefix(c.ID, prefix) {
			out = append(out, group(KindContainer, c.Engine, "", []*docker.Container{c}))
		}
	}
	return out
}

// namespaces finds named namespaces and those that Docker hides.
func (w *world) namespaces(name string) []thing {
	var out []thing
	for _, ns := range w.topology.Namespaces() {
		if w.topology.Mounted(ns.Inode) == name || ns.Name == name && (ns.Kept() || ns.Kind == topo.KindNamed || ns.Kind == topo.KindHost) {
			out = append(out, w.namespace(ns.Inode))
		}
	}
	return out
}

// namespace makes a thing of a namespace; that of an engine is a host under another name.
func (w *world) namespace(inode uint32) thing {
	return thing{kind: KindNetNS, engine: w.engineOf(inode), netns: []uint32{inode}}
}

// engineOf returns the engine whose own namespace this is, -1 if none.
func (w *world) engineOf(inode uint32) int {
	for _, e := range w.engines {
		if e.NetNS == inode && inode != 0 {
			return e.Index
		}
	}
	return -1
}

// host is the machine itself: the namespace of an engine, else that of this process.
func (w *world) host(engine int) thing {
	if engine < len(w.engines) && w.engines[engine].NetNS != 0 {
		return thing{kind: KindHost, engine: engine, netns: []uint32{w.engines[engine].NetNS}}
	}
	return thing{kind: KindHost, engine: w.engineOf(w.topology.Self()), netns: []uint32{w.topology.Self()}}
}

// byAddr finds what carries an address: a container, a host, a namespace here, or nothing here.
func (w *world) byAddr(addr netip.Addr) (thing, error) {
	asked := []netip.Addr{addr}
	if addr.IsLoopback() {
		t := w.host(0)
		t.asked = asked
		return t, nil
	}
	var found []thing
	for _, c := range w.containers {
		if slices.Contains(c.Addrs(), addr) {
			found = append(found, group(KindContainer, c.Engine, "", []*docker.Container{c}))
		}
	}
	if len(found) == 0 {
		found = w.ours(w.prefer(w.ownersOf(addr)))
	}
	switch found = w.prefer(found); len(found) {
	case 0:
		return thing{kind: KindAddress, engine: -1, asked: asked}, nil
	case 1:
		t := found[0]
		t.asked = asked
		return t, nil
	}
	return thing{}, w.ambiguous(addr.String(), found)
}

// ownersOf asks the kernel. A bridge has the same address in every namespace of one host only once,
// but two hosts on one kernel may well use the same one.
func (w *world) ownersOf(addr netip.Addr) []thing {
	var found []thing
	for _, o := range w.topology.AddrOwner(addr) {
		if isVirtual(o, addr) {
			continue // the same on every host, and whoever asks is served by its own
		}
		inode := o.NetNS.Inode
		if slices.ContainsFunc(found, func(t thing) bool { return slices.Contains(t.netns, inode) }) {
			continue
		}
		if t, ok := w.containerIn(inode); ok {
			found = append(found, t)
			continue
		}
		t := w.namespace(inode)
		if t.engine >= 0 || inode == w.topology.Self() {
			t.kind = KindHost
		}
		found = append(found, t)
	}
	return found
}

// isVirtual reports whether an address is the virtual one of a Swarm service: Docker gives it to the load
// balancer as a second one, of its full length.
func isVirtual(o topo.Owner, addr netip.Addr) bool {
	return o.NetNS.Kind == topo.KindBalancer && slices.Contains(o.Link.Addrs, netip.PrefixFrom(addr, addr.BitLen()))
}

// ours keeps what belongs to the engines that were asked and to the namespace we run in, if anything
// does: labs and other engines on the same kernel use the same private addresses.
func (w *world) ours(found []thing) []thing {
	var out []thing
	for _, t := range found {
		if t.engine >= 0 || slices.Contains(t.netns, w.topology.Self()) {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return found
	}
	return out
}

// containerIn returns the container that a namespace belongs to.
func (w *world) containerIn(inode uint32) (thing, bool) {
	for _, c := range w.containers {
		if c.NetNS == inode && inode != 0 && !c.HostNetwork() && c.JoinedID == "" {
			return group(KindContainer, c.Engine, "", []*docker.Container{c}), true
		}
	}
	return thing{}, false
}

// byHostName asks the resolver, after everything else.
func (n *Names) byHostName(ctx context.Context, w *world, name string) (thing, error) {
	unknown := &UnknownError{Name: name, Suggestions: w.similar(name), Known: w.known(), Silent: w.silent(), Absent: w.absent()}
	if n.opts.Resolver == nil || strings.Contains(name, "/") {
		return thing{}, unknown
	}
	limited, cancel := context.WithTimeout(ctx, hostNameLimit)
	defer cancel()
	addrs, err := n.opts.Resolver.LookupNetIP(limited, "ip", name)
	if ctx.Err() != nil {
		return thing{}, ctx.Err()
	}
	var dns *net.DNSError
	switch {
	case err != nil && errors.As(err, &dns) && dns.IsNotFound:
		return thing{}, unknown
	case err != nil:
		unknown.Reason = fmt.Sprintf("looking it up as a host name: %v", err)
		return thing{}, unknown
	case len(addrs) == 0:
		return thing{}, unknown
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	n.sortFamilies(addrs)
	t, err := w.byAddr(addrs[0])
	if err != nil {
		return thing{}, err
	}
	t.asked = slices.Compact(addrs)
	if t.kind == KindAddress {
		t.kind = KindHostName
	}
	return t, nil
}

// sortFamilies puts the preferred family first and keeps the order otherwise.
func (n *Names) sortFamilies(addrs []netip.Addr) {
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return n.familyRank(a) - n.familyRank(b) })
}

func (n *Names) familyRank(a netip.Addr) int {
	if a.Is6() != n.opts.PreferIPv6 {
		return 1
	}
	return 0
}
