package target

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// containersOf dials the first container that can be reached; they are in a stable order.
func (d *dialer) containersOf() (Dialed, error) {
	if out, ok := d.virtual(); ok {
		return out, nil
	}
	var running []*docker.Container
	for _, c := range d.dst.Containers {
		if c.Runs() {
			running = append(running, c)
		}
	}
	if len(running) == 0 {
		return Dialed{}, notRunning(d.dst.Containers[0])
	}
	// A replica talks to the others.
	if d.src.Container != nil && len(running) > 1 {
		running = slices.DeleteFunc(running, func(c *docker.Container) bool { return c.ID == d.src.Container.ID })
	}
	var firstErr error
	for _, c := range running {
		out, err := d.container(c)
		if err != nil {
			if firstErr == nil {
				firstErr = err
			}
			continue
		}
		if len(running) > 1 {
			out.Note = joinNotes(fmt.Sprintf("%s has %d containers, %s is used", d.dst.Label, len(running), c.Name), out.Note)
		}
		return out, nil
	}
	return Dialed{}, firstErr
}

func notRunning(c *docker.Container) error {
	return &DialError{
		Cause:     path.CauseContainerNotRunning,
		Message:   fmt.Sprintf("container %s is %s, so nothing can receive the packet", c.Name, c.State),
		Remedy:    []string{"docker start " + c.Name, "docker logs " + c.Name},
		Container: c,
	}
}

func joinNotes(notes ...string) string {
	return strings.Join(slices.DeleteFunc(notes, func(s string) bool { return s == "" }), "; ")
}

// container chooses between a container's own address and a published port, as a program where the
// source is would have to.
func (d *dialer) container(c *docker.Container) (Dialed, error) {
	owner := d.owner(c)
	switch {
	case owner.HostNetwork():
		addr, err := d.nearestHost(d.engines[owner.Engine].NetNS, func(netip.Addr) bool { return true })
		if err != nil {
			return Dialed{}, err
		}
		return d.to(addr, d.dst.Port, c), nil
	case d.sameSpace(c):
		return d.sameNamespace(c, owner)
	case d.src.Host && d.src.Engine == owner.Engine:
		return d.fromHost(c, owner)
	case d.src.Container != nil:
		return d.fromContainer(c, owner)
	}
	return d.fromOutside(c, owner)
}

func (d *dialer) sameSpace(c *docker.Container) bool {
	return d.src.NetNS != 0 && c.NetNS == d.src.NetNS
}

// sameNamespace is a container and itself, or one that joined it: only by way of the host does a
// packet leave.
func (d *dialer) sameNamespace(c, owner *docker.Container) (Dialed, error) {
	if d.viaHost(c) {
		return d.published(c, owner)
	}
	return d.own(c, owner)
}

// fromHost uses the container's address for a container's port and the host's for a published one.
func (d *dialer) fromHost(c, owner *docker.Container) (Dialed, error) {
	if d.viaHost(c) {
		return d.published(c, owner)
	}
	if err := d.ignoredPort(c, owner); err != nil && !d.hasInside(owner) {
		return Dialed{}, err
	}
	return d.own(c, owner)
}

// hasInside reports whether the port asked for is one that the container was to publish, by its own number.
func (d *dialer) hasInside(owner *docker.Container) bool {
	return slices.ContainsFunc(owner.Configured, func(p docker.Port) bool { return p.ContainerPort == d.dst.Port })
}

// fromContainer uses the network that both are on.
func (d *dialer) fromContainer(c, owner *docker.Container) (Dialed, error) {
	shared := d.shared(owner)
	if len(shared) > 0 {
		port := insidePorts(owner, d.dst.Port, d.dst.Proto)[0]
		out := d.to(shared[0].addr, port, c)
		out.Network = shared[0].network
		if port != d.dst.Port {
			out.Note = fmt.Sprintf("port %d is published from port %d, which containers on network %s use", d.dst.Port, port, out.Network)
		}
		if others := networksOf(shared); len(others) > 1 {
			out.Note = joinNotes(out.Note, fmt.Sprintf("both are on networks %s, %s is used: %s", strings.Join(others, " and "),
				out.Network, whyNetwork(shared)))
		}
		return out, nil
	}
	switch {
	case d.viaHost(c):
		return d.published(c, owner)
	case d.owner(d.src.Container).Engine != owner.Engine:
		return d.fromOutside(c, owner) // another host: there a published port is the usual way
	}
	return Dialed{}, d.noSharedNetwork(c, owner)
}

// shared lists the target's addresses on the networks it has in common with the source.
func (d *dialer) shared(owner *docker.Container) []reach {
	var out []reach
	src := d.owner(d.src.Container)
	for _, theirs := range owner.Endpoints {
		ours := slices.ContainsFunc(src.Endpoints, func(e docker.Endpoint) bool { return sameNetwork(e, theirs, src.Engine == owner.Engine) })
		if !ours || d.isIngress(theirs) || theirs.Network == "none" || theirs.Network == "host" {
			continue
		}
		for _, addr := range []netip.Addr{theirs.IPv4, theirs.IPv6} {
			if d.fits(addr) {
				out = append(out, d.reach(addr, theirs))
			}
		}
	}
	d.sort(out)
	return out
}

// reach is an address of an endpoint.
func (d *dialer) reach(addr netip.Addr, e docker.Endpoint) reach {
	return reach{
		addr: addr, rank: d.rank(addr), network: e.Network, priority: e.Priority, last: d.isInternal(e),
	}
}

// isInternal reports whether an endpoint is on an internal network.
func (d *dialer) isInternal(e docker.Endpoint) bool {
	return slices.ContainsFunc(d.networks, func(n *docker.Network) bool {
		return n.Internal && (n.ID == e.NetworkID || e.NetworkID == "" && n.Name == e.Network)
	})
}

// isIngress reports whether an endpoint is on the network of Swarm's routing mesh.
func (d *dialer) isIngress(e docker.Endpoint) bool {
	return slices.ContainsFunc(d.networks, func(n *docker.Network) bool { return n.Ingress && n.ID == e.NetworkID })
}

// whyNetwork explains the choice of the first of several networks.
func whyNetwork(list []reach) string {
	best := list[0]
	i := slices.IndexFunc(list, func(r reach) bool { return r.network != best.network })
	switch {
	case i < 0 || list[i].rank != best.rank:
		return best.why()
	case list[i].last != best.last:
		return "Docker gives names on internal networks last"
	case list[i].priority != best.priority:
		return "it has the higher gateway priority"
	case list[i].addr.Is4() != best.addr.Is4():
		return best.why()
	}
	return "Docker gives names on the first by name"
}

// sameNetwork compares endpoints. The ID of an overlay network is the same on every engine.
func sameNetwork(a, b docker.Endpoint, sameEngine bool) bool {
	if a.NetworkID != "" && b.NetworkID != "" {
		return a.NetworkID == b.NetworkID
	}
	return sameEngine && a.Network == b.Network
}

func networksOf(list []reach) []string {
	var out []string
	for _, r := range list {
		if !slices.Contains(out, r.network) {
			out = append(out, r.network)
		}
	}
	slices.Sort(out)
	return out
}

func (d *dialer) noSharedNetwork(c, owner *docker.Container) error {
	names := func(c *docker.Container) string {
		return cmp.Or(strings.Join(connectable(c), ", "), "none")
	}
	e := &DialError{
		Cause: path.CauseNoSharedNetwork,
		Message: fmt.Sprintf("%s (networks: %s) and %s (networks: %s) share no network",
			d.src.Label, names(d.owner(d.src.Container)), c.Name, names(owner)),
		Container: c,
	}
	src := d.owner(d.src.Container)
	for _, network := range connectable(owner) {
		e.Remedy = append(e.Remedy, fmt.Sprintf("docker network connect %s %s", network, src.Name))
	}
	if len(e.Remedy) > 0 {
		e.Remedy = slices.Concat(leaveNone(src), e.Remedy)
		return e
	}
	for _, network := range connectable(src) {
		e.Remedy = append(e.Remedy, fmt.Sprintf("docker network connect %s %s", network, owner.Name))
	}
	e.Remedy = slices.Concat(leaveNone(owner), e.Remedy)
	return e
}

// leaveNone is what has to come before a container without a network can be connected to one.
func leaveNone(c *docker.Container) []string {
	if slices.ContainsFunc(c.Endpoints, func(e docker.Endpoint) bool { return e.Network == "none" }) {
		return []string{"docker network disconnect none " + c.Name + "  # which allows no other network beside it"}
	}
	return nil
}

// connectable lists the networks of a container that others can join.
func connectable(c *docker.Container) []string {
	var out []string
	for _, e := range c.Endpoints {
		if e.Network != "none" && e.Network != "host" {
			out = append(out, e.Network)
		}
	}
	return out
}

// fromOutside uses a published port if there is one, else the container's own address.
func (d *dialer) fromOutside(c, owner *docker.Container) (Dialed, error) {
	ports := d.publications(owner)
	reachable := slices.DeleteFunc(slices.Clone(ports), func(p docker.Port) bool { return p.HostIP.IsLoopback() })
	switch {
	case len(reachable) > 0:
		return d.published(c, owner)
	case len(ports) > 0:
		return Dialed{}, &DialError{
			Cause: path.CauseNotPublished,
			Message: fmt.Sprintf("port %d of %s is published on %s only, which %s cannot reach",
				d.dst.Port, c.Name, netip.AddrPortFrom(ports[0].HostIP, ports[0].HostPort), d.src.Label),
			Remedy:    []string{fmt.Sprintf("publish it on an address of the host: docker run -p %d:%d", ports[0].HostPort, ports[0].ContainerPort)},
			Container: c,
		}
	}
	if err := d.ignoredPort(c, owner); err != nil {
		return Dialed{}, err
	}
	out, err := d.own(c, owner)
	if err == nil && d.dst.Port != 0 {
		out.Note = joinNotes(fmt.Sprintf("port %d of %s is not published, so its own address is used", d.dst.Port, c.Name), out.Note)
	}
	return out, err
}

// ignoredPort is the error for a port that the container was started to publish and the engine does not:
// it publishes none of a container that is on internal networks only. Nil if there is no such port.
func (d *dialer) ignoredPort(c, owner *docker.Container) error {
	i := slices.IndexFunc(owner.Configured, func(p docker.Port) bool {
		return p.Proto == string(d.dst.Proto) && (p.HostPort == d.dst.Port || p.ContainerPort == d.dst.Port)
	})
	names := connectable(owner)
	if i < 0 || d.dst.Port == 0 || len(names) == 0 || !d.onlyInternal(owner) {
		return nil
	}
	p := owner.Configured[i]
	return &DialError{
		Cause: path.CauseNotPublished,
		Message: fmt.Sprintf("%s was started with -p %d:%d, but it is on no other network than %s, which is internal, and"+
			" Docker publishes nothing of that", c.Name, p.HostPort, p.ContainerPort, strings.Join(names, ", ")),
		Remedy: []string{fmt.Sprintf("docker network connect bridge %s  # a second network, not internal: then port %d is published",
			owner.Name, p.HostPort)},
		Container: c,
	}
}

// onlyInternal reports whether all networks of a container are internal.
func (d *dialer) onlyInternal(c *docker.Container) bool {
	for _, e := range c.Endpoints {
		if !d.isInternal(e) {
			return false
		}
	}
	return true
}

// own uses one of the container's own addresses.
func (d *dialer) own(c, owner *docker.Container) (Dialed, error) {
	var list []reach
	for _, e := range owner.Endpoints {
		if d.isIngress(e) {
			continue // for the published ports of services; nobody connects to it
		}
		for _, addr := range []netip.Addr{e.IPv4, e.IPv6} {
			if d.fits(addr) {
				list = append(list, d.reach(addr, e))
			}
		}
	}
	if len(list) == 0 {
		if addrs := owner.Addrs(); len(addrs) > 0 {
			return Dialed{}, d.familyError(addrs)
		}
		return Dialed{}, d.noAddress(c, owner)
	}
	d.sort(list)
	out := d.to(list[0].addr, insidePorts(owner, d.dst.Port, d.dst.Proto)[0], c)
	if others := networksOf(list); len(others) > 1 {
		out.Note = fmt.Sprintf("%s is on networks %s, its address on %s is used: %s", c.Name, strings.Join(others, " and "), list[0].network,
			whyNetwork(list))
	}
	return out, nil
}

func (d *dialer) noAddress(c, owner *docker.Container) error {
	return &DialError{
		Cause:     path.CauseNoSharedNetwork,
		Message:   fmt.Sprintf("container %s is on no network that gives it an address, so %s cannot reach it", c.Name, d.src.Label),
		Remedy:    append(leaveNone(owner), "docker network connect "+d.networkToJoin()+" "+owner.Name),
		Container: c,
	}
}

// networkToJoin names a network of the source, or the default bridge, which every host has.
func (d *dialer) networkToJoin() string {
	if c := d.src.Container; c != nil {
		for _, e := range c.Endpoints {
			if e.Network != "none" && e.Network != "host" {
				return e.Network
			}
		}
	}
	return "bridge"
}

func (d *dialer) notPublished(c *docker.Container) error {
	return &DialError{
		Cause:     path.CauseNotPublished,
		Message:   fmt.Sprintf("port %d of %s is not published on an address that %s could use", d.dst.Port, c.Name, d.src.Label),
		Remedy:    []string{fmt.Sprintf("docker port %s", c.Name)},
		Container: c,
	}
}
