package target

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// defaultRouteProbes are addresses that only a default route leads to; nothing is sent to them. The
// source address the host would use is its primary one.
func defaultRouteProbes() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{1, 1, 1, 1}), netip.AddrFrom16([16]byte{0x20, 0x01, 0x48, 0x60})}
}

// publications are the ways the host offers to the port that was asked for: if that is a host port
// itself then only those, else all published from the container's port.
func (d *dialer) publications(owner *docker.Container) []docker.Port {
	if d.dst.Proto == path.ICMP {
		return nil
	}
	inside := insidePorts(owner, d.dst.Port, d.dst.Proto)
	via := !slices.Contains(inside, d.dst.Port)
	var out []docker.Port
	for _, p := range owner.Ports {
		if p.Proto != string(d.dst.Proto) || p.HostPort == 0 || !slices.Contains(inside, p.ContainerPort) {
			continue
		}
		if (!via || p.HostPort == d.dst.Port) && (p.HostIP.IsUnspecified() || d.fits(p.HostIP)) {
			out = append(out, p)
		}
	}
	return out
}

// published uses the host's address and port.
func (d *dialer) published(c, owner *docker.Container) (Dialed, error) {
	type option struct {
		reach
		port uint16
	}
	var options []option
	var firstErr error
	for _, p := range d.publications(owner) {
		addr := p.HostIP
		if addr.IsLoopback() && d.src.NetNS != d.engines[owner.Engine].NetNS {
			continue // it would be the source's own
		}
		if addr.IsUnspecified() {
			var err error
			addr, err = d.nearestHost(d.engines[owner.Engine].NetNS, func(a netip.Addr) bool {
				return a.Is4() == p.HostIP.Is4() && !d.isBridge(owner.Engine, a)
			})
			if err != nil {
				firstErr = err
				continue
			}
		}
		options = append(options, option{reach{addr: addr, rank: d.rank(addr)}, p.HostPort})
	}
	if len(options) == 0 {
		if firstErr == nil {
			firstErr = d.notPublished(c)
		}
		return Dialed{}, firstErr
	}
	best := options[0]
	for _, o := range options[1:] {
		if two := []reach{o.reach, best.reach}; o.addr != best.addr {
			if d.sort(two); two[0] == o.reach {
				best = o
			}
		} else if o.port < best.port {
			best = o
		}
	}
	out := d.to(best.addr, best.port, c)
	out.Published = true
	if best.port != d.dst.Port {
		out.Note = fmt.Sprintf("port %d of %s is published as %s", d.dst.Port, c.Name, out.AddrPort)
	}
	return out, nil
}

// nearestHost chooses an acceptable address of a host: one on a subnet of the source, else the one
// that the host itself would use towards the world. Loopback is never chosen.
func (d *dialer) nearestHost(netns uint32, accept func(netip.Addr) bool) (netip.Addr, error) {
	all, err := d.topology.HostAddrs(netns)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("choose an address of the host: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range all {
		if !a.IsLoopback() && d.fits(a) && accept(a) {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) == 0 {
		return netip.Addr{}, &DialError{
			Cause:   path.CauseNotPublished,
			Message: fmt.Sprintf("the host of %s has no address for it that %s could use", d.dst.Label, d.src.Label),
		}
	}
	list := d.order(addrs)
	best := list[0]
	if best.rank == 0 {
		return best.addr, nil
	}
	for _, probe := range defaultRouteProbes() {
		r, err := d.topology.RouteTo(netns, probe)
		if err == nil && probe.Is4() == best.addr.Is4() && slices.Contains(addrs, r.Src) {
			return r.Src, nil
		}
	}
	return best.addr, nil
}

// isBridge tells whether an address is that of a Docker network's bridge on its host. Engines do not
// name the gateway of a network that was made with a subnet alone; on a host, what is in the subnet of
// a bridge network is its bridge.
func (w *world) isBridge(engine int, addr netip.Addr) bool {
	return slices.ContainsFunc(w.networks, func(n *docker.Network) bool {
		inside := func(p netip.Prefix) bool { return p.Contains(addr) }
		return n.Engine == engine && (slices.Contains(n.Gateways, addr) ||
			n.Driver == "bridge" && slices.ContainsFunc(n.Subnets, inside))
	})
}
