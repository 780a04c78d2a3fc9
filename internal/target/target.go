package target

import (
	"context"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Target resolves text. proto is that of --proto, empty if it was not given; a scheme in text must
// agree with it. Errors: *UsageError, *UnknownError, *AmbiguousError, or of ctx.
func (n *Names) Target(ctx context.Context, text string, proto path.Proto) (Target, error) {
	r, err := parse(text)
	if err != nil {
		return Target{}, err
	}
	proto, port, err := r.flow(proto)
	if err != nil {
		return Target{}, err
	}
	w := n.world()
	t, err := n.find(ctx, w, r)
	if err != nil {
		return Target{}, err
	}
	out := Target{
		Text: text, Label: r.label(), Kind: t.kind, Containers: t.containers, NetNS: t.netns,
		Engine: t.engine, Proto: proto, Port: port, Asked: t.asked,
	}
	if t.kind == KindSwarmService {
		out.Virtual = n.virtual(ctx, w, out)
	}
	out.Host = len(t.containers) == 0 && (t.kind == KindHost || t.engine >= 0)
	w.addEndpoints(&out)
	return out, nil
}

// Proto is the protocol that Target would find, empty for a text that it would not take.
func Proto(text string, proto path.Proto) path.Proto {
	r, err := parse(text)
	if err != nil {
		return ""
	}
	proto, _, err = r.flow(proto)
	if err != nil {
		return ""
	}
	return proto
}

// addEndpoints finds what traffic to the target carries, and who is behind a host's port.
func (w *world) addEndpoints(t *Target) {
	switch {
	case len(t.Containers) > 0 && len(t.Asked) == 0:
		for _, c := range t.Containers {
			w.containerEndpoints(c, t)
		}
		for _, addr := range t.Virtual {
			t.add(addr, t.Port, false)
		}
	case len(t.Asked) > 0:
		for _, addr := range t.Asked {
			t.add(addr, t.Port, t.Host && w.addBehind(t, addr))
		}
	case len(t.NetNS) > 0:
		addrs, _ := w.topology.HostAddrs(t.NetNS[0])
		for _, addr := range addrs {
			// The loopback of a namespace that is no host has nothing but its own talk with itself.
			if t.Host || !addr.IsLoopback() {
				t.add(addr, t.Port, t.Host && w.addBehind(t, addr))
			}
		}
	}
}

// add appends an endpoint once.
func (t *Target) add(addr netip.Addr, port uint16, published bool) {
	e := Endpoint{AddrPort: netip.AddrPortFrom(addr, port), Proto: t.Proto, Published: published}
	if !slices.Contains(t.Endpoints, e) {
		t.Endpoints = append(t.Endpoints, e)
	}
}

// containerEndpoints adds a container's addresses with its port, and the host's with every port
// published to that.
func (w *world) containerEndpoints(c *docker.Container, t *Target) {
	owner := w.owner(c)
	if owner.HostNetwork() {
		for _, addr := range w.hostAddrs(owner.Engine) {
			t.add(addr, t.Port, false)
		}
		return
	}
	inside := insidePorts(owner, t.Port, t.Proto)
	for _, addr := range owner.Addrs() {
		for _, port := range inside {
			t.add(addr, port, false)
		}
	}
	if t.Proto == path.ICMP {
		return
	}
	for _, p := range owner.Ports {
		if p.Proto != string(t.Proto) || p.HostPort == 0 || !slices.Contains(inside, p.ContainerPort) {
			continue
		}
		for _, addr := range w.publishedOn(owner.Engine, p) {
			t.add(addr, p.HostPort, true)
		}
	}
}

// owner returns the container whose network namespace c is in: itself, or the one it joined.
func (w *world) owner(c *docker.Container) *docker.Container {
	for range len(w.containers) { // joining is no chain in Docker, and never a circle
		if c.JoinedID == "" {
			return c
		}
		i := slices.IndexFunc(w.containers, func(o *docker.Container) bool { return o.ID == c.JoinedID && o.Engine == c.Engine })
		if i < 0 {
			return c
		}
		c = w.containers[i]
	}
	return c
}

// insidePorts maps a port as it was asked to the container's own: it is one of those, or published
// from one of those, or else simply itself.
func insidePorts(c *docker.Container, port uint16, proto path.Proto) []uint16 {
	var published []uint16
	for _, p := range c.Ports {
		if p.Proto != string(proto) {
			continue
		}
		if p.ContainerPort == port {
			return []uint16{port}
		}
		if p.HostPort == port && port != 0 && !slices.Contains(published, p.ContainerPort) {
			published = append(published, p.ContainerPort)
		}
	}
	if len(published) > 0 {
		return published
	}
	return []uint16{port}
}

// hostAddrs returns all addresses of an engine's own namespace.
func (w *world) hostAddrs(engine int) []netip.Addr {
	if engine < 0 || engine >= len(w.engines) || w.engines[engine].NetNS == 0 {
		return nil
	}
	addrs, _ := w.topology.HostAddrs(w.engines[engine].NetNS)
	return addrs
}

// publishedOn returns the host addresses on which a port is published.
func (w *world) publishedOn(engine int, p docker.Port) []netip.Addr {
	if !p.HostIP.IsUnspecified() {
		return []netip.Addr{p.HostIP}
	}
	var out []netip.Addr
	for _, addr := range w.hostAddrs(engine) {
		if addr.Is4() == p.HostIP.Is4() {
			out = append(out, addr)
		}
	}
	return out
}

// addBehind finds the container that publishes the target's port on a host address.
func (w *world) addBehind(t *Target, addr netip.Addr) bool {
	if t.Proto == path.ICMP {
		return false
	}
	found := false
	for _, c := range w.containers {
		for _, p := range c.Ports {
			if c.Engine != t.Engine || !publishes(p, addr, t.Port, t.Proto) {
				continue
			}
			found = true
			t.behind(c, p)
		}
	}
	return found
}

func publishes(p docker.Port, addr netip.Addr, port uint16, proto path.Proto) bool {
	return p.HostPort == port && p.Proto == string(proto) &&
		(p.HostIP == addr || p.HostIP.IsUnspecified() && p.HostIP.Is4() == addr.Is4())
}

// behind notes a container behind a published port. A stopped one gives way to one that runs.
func (t *Target) behind(c *docker.Container, p docker.Port) {
	if !slices.Contains(t.Containers, c) {
		switch {
		case len(t.Containers) > 0 && t.Containers[0].Runs() && !c.Runs():
			return
		case len(t.Containers) > 0 && !t.Containers[0].Runs() && c.Runs():
			t.Containers, t.Behind = nil, nil
		}
		t.Containers = append(t.Containers, c)
	}
	for _, addr := range c.Addrs() {
		e := Endpoint{AddrPort: netip.AddrPortFrom(addr, p.ContainerPort), Proto: t.Proto}
		if !slices.Contains(t.Behind, e) {
			t.Behind = append(t.Behind, e)
		}
	}
}
