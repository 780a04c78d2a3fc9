package target

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
)

// virtual asks for the addresses that the name of a Swarm service gives and none of its containers has. Only
// those of the overlay networks here count: the name may mean something else to another server.
func (n *Names) virtual(ctx context.Context, w *world, t Target) []netip.Addr {
	if n.opts.Resolver == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, hostNameLimit)
	defer cancel()
	addrs, err := n.opts.Resolver.LookupNetIP(limited, "ip", t.Label)
	if err != nil {
		return nil // the containers' own addresses are known
	}
	var out []netip.Addr
	for _, addr := range addrs {
		addr = addr.Unmap()
		own := false
		for _, c := range w.containers {
			own = own || slices.Contains(c.Addrs(), addr)
		}
		if !own && w.overlayOf(addr) != "" {
			out = append(out, addr)
		}
	}
	return out
}

// overlayOf returns the ID of the overlay network that an address belongs to, "" if none.
func (w *world) overlayOf(addr netip.Addr) string {
	for _, n := range w.networks {
		if n.Driver == "overlay" && slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return n.ID
		}
	}
	return ""
}

// virtual chooses the virtual address of a service on a network that the source is on, as a program there
// would that asks for the service by its name.
func (d *dialer) virtual() (Dialed, bool) {
	if d.src.Container == nil {
		return Dialed{}, false
	}
	src := d.owner(d.src.Container)
	for _, addr := range d.dst.Virtual {
		id := d.overlayOf(addr)
		for _, e := range src.Endpoints {
			if e.NetworkID != id || !d.fits(addr) {
				continue
			}
			out := d.to(addr, d.dst.Port, nil)
			out.Network = e.Network
			out.Note = fmt.Sprintf("%s is a service: its virtual address %s is used, from which a load balancer leads to its containers;"+
				" tasks.%s are those", d.dst.Label, addr, d.dst.Label)
			return out, true
		}
	}
	return Dialed{}, false
}
