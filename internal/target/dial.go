package target

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// dialer is one choice of an address.
type dialer struct {
	*world
	names *Names
	src   Source
	dst   Target
}

// Dial chooses the address that a program in the source would use to reach the target. If there is
// none the error is a *DialError with a Cause, which is a verdict and not a failure; a target that
// is the source itself is a *UsageError.
func (n *Names) Dial(src Source, dst Target) (Dialed, error) {
	d := &dialer{world: n.world(), names: n, src: src, dst: dst}
	if err := d.checkSelf(); err != nil {
		return Dialed{}, err
	}
	switch {
	case len(dst.Asked) > 0:
		return d.asked()
	case dst.Host:
		return d.host()
	case len(dst.Containers) > 0:
		return d.containersOf()
	}
	return d.namespace()
}

// checkSelf refuses a flow that could not leave its namespace.
func (d *dialer) checkSelf() error {
	self := false
	switch {
	case len(d.dst.Asked) > 0:
		return nil // an address was asked for, which may well be the way out and back
	case d.dst.Kind == KindContainer && d.src.Container != nil && len(d.dst.Containers) == 1:
		c := d.dst.Containers[0]
		self = c.ID == d.src.Container.ID && !d.viaHost(c)
	case len(d.dst.Containers) == 0 && d.src.Container == nil:
		self = slices.Contains(d.dst.NetNS, d.src.NetNS)
	}
	if self {
		return usage("source and target are both %s: nothing would leave it, choose another --from", d.src.Label)
	}
	return nil
}

// viaHost tells whether the port asked for is one that the host publishes and not the container's.
func (d *dialer) viaHost(c *docker.Container) bool {
	c = d.owner(c)
	return d.dst.Port != 0 && !slices.Contains(insidePorts(c, d.dst.Port, d.dst.Proto), d.dst.Port)
}

// fits tells whether the source may use an address: one given as source decides the family.
func (d *dialer) fits(addr netip.Addr) bool {
	return addr.IsValid() && (!d.src.Bind.IsValid() || d.src.Bind.Is4() == addr.Is4())
}

// asked dials the address that was written, or the best that a host name has.
func (d *dialer) asked() (Dialed, error) {
	addrs := slices.DeleteFunc(slices.Clone(d.dst.Asked), func(a netip.Addr) bool { return !d.fits(a) })
	if len(addrs) == 0 {
		return Dialed{}, d.familyError(d.dst.Asked)
	}
	best := d.order(addrs)[0]
	out := d.to(best.addr, d.dst.Port, nil)
	if len(d.dst.Containers) > 0 {
		out.Container = d.dst.Containers[0]
		out.Published = d.isPublished(out.AddrPort)
	}
	if len(addrs) > 1 {
		out.Note = fmt.Sprintf("%s has %d addresses, %s is used: %s", d.dst.Label, len(addrs), best.addr, best.why())
	}
	return out, nil
}

// isPublished tells whether an address of the target is a host's with a published port.
func (d *dialer) isPublished(addr netip.AddrPort) bool {
	return slices.ContainsFunc(d.dst.Endpoints, func(e Endpoint) bool { return e.Published && e.AddrPort == addr })
}

// host dials an address of the host that the source is nearest to, one with the port published on it
// if the port is published at all.
func (d *dialer) host() (Dialed, error) {
	published := len(d.dst.Containers) > 0
	netns := d.dst.NetNS[0]
	addr, err := d.nearestHost(netns, func(a netip.Addr) bool {
		return !published || d.isPublished(netip.AddrPortFrom(a, d.dst.Port)) && !d.isBridge(d.dst.Engine, a)
	})
	loopback := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), d.dst.Port)
	if err != nil && d.src.NetNS == netns && d.isPublished(loopback) {
		addr, err = loopback.Addr(), nil
	}
	if err != nil {
		return Dialed{}, err
	}
	out := d.to(addr, d.dst.Port, nil)
	if published {
		out.Published, out.Container = true, d.dst.Containers[0]
	}
	return out, nil
}

// namespace dials an address of a namespace that is neither a container's nor a host's.
func (d *dialer) namespace() (Dialed, error) {
	var addrs []netip.Addr
	for _, e := range d.dst.Endpoints {
		addrs = append(addrs, e.AddrPort.Addr())
	}
	usable := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !d.fits(a) })
	switch {
	case len(addrs) == 0:
		return Dialed{}, &DialError{
			Cause:   path.CauseNoSharedNetwork,
			Message: fmt.Sprintf("namespace %s has no address that %s could use: its devices have none", d.dst.Label, d.src.Label),
			Remedy:  []string{fmt.Sprintf("ip -n %s address", d.dst.Label)},
		}
	case len(usable) == 0:
		return Dialed{}, d.familyError(addrs)
	}
	best := d.order(usable)[0]
	out := d.to(best.addr, d.dst.Port, nil)
	if len(usable) > 1 {
		out.Note = fmt.Sprintf("%s has %d addresses, %s is used: %s", d.dst.Label, len(usable), best.addr, best.why())
	}
	return out, nil
}

func (d *dialer) to(addr netip.Addr, port uint16, c *docker.Container) Dialed {
	return Dialed{AddrPort: netip.AddrPortFrom(addr, port), Container: c}
}

// familyError says that the source's own address is of the wrong family.
func (d *dialer) familyError(addrs []netip.Addr) error {
	family := "IPv4"
	if len(addrs) > 0 && addrs[0].Is6() {
		family = "IPv6"
	}
	return usage("source %s cannot reach %s, which has only %s addresses: give a source by name or with an %s address", d.src.Bind, d.dst.Label, family, family)
}

// reach is an address with how the source would get there.
type reach struct {
	addr netip.Addr
	// rank is 0 for a direct route, 1 by way of a gateway, 2 for the source itself, 3 without route.
	rank    int
	network string
	// last is set on an internal network: Docker gives names and default routes on the others first.
	last bool
	// priority is what `docker network connect --gw-priority` gave; the highest comes first.
	priority int
}

// why explains a choice.
func (r reach) why() string {
	switch r.rank {
	case 0:
		return "the source is on the same subnet"
	case 1:
		return "the source reaches it by way of a gateway"
	case 2:
		return "it is an address of the source itself"
	}
	return "the source has no route to any of them"
}

// order sorts addresses: the preferred family first, then the nearer, then by number, so that the
// choice is always the same.
func (d *dialer) order(addrs []netip.Addr) []reach {
	out := make([]reach, 0, len(addrs))
	for _, a := range addrs {
		out = append(out, reach{addr: a, rank: d.rank(a)})
	}
	d.sort(out)
	return out
}

func (d *dialer) sort(list []reach) {
	slices.SortStableFunc(list, func(a, b reach) int {
		return cmp.Or(
			cmp.Compare(a.rank/3, b.rank/3), // without a route last of all, whatever the family
			cmp.Compare(d.names.familyRank(a.addr), d.names.familyRank(b.addr)),
			cmp.Compare(a.rank, b.rank),
			order(a.last, b.last),
			cmp.Compare(b.priority, a.priority),
			cmp.Compare(a.network, b.network),
			a.addr.Compare(b.addr))
	})
}

// order compares two properties: what has it comes last.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (d *dialer) rank(addr netip.Addr) int {
	r, err := d.topology.RouteTo(d.src.NetNS, addr)
	switch {
	case err != nil:
		return 3
	case r.Local:
		return 2
	case r.Direct():
		return 0
	}
	return 1
}
