package lab

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// RouteKind is what a route does with a packet.
type RouteKind int

// The kinds of routes.
const (
	UnicastRoute     RouteKind = iota
	UnreachableRoute           // sends ICMP host unreachable, EHOSTUNREACH locally
	ProhibitRoute              // sends ICMP administratively prohibited, EACCES locally
	BlackholeRoute             // drops, EINVAL locally
)

// Route is an entry of a namespace's main table.
type Route struct {
	// Dst is the destination; the zero value means the default route of Via's family.
	Dst netip.Prefix
	// Via is the next hop; the zero value means on-link.
	Via netip.Addr
	// Device is the name of the outgoing device; it may be empty if Via is set.
	Device string
	Kind   RouteKind
}

// AddRoute adds a route.
func (ns *Namespace) AddRoute(r Route) error { return ns.changeRoute(r, "add", ns.handle.RouteAdd) }

// DeleteRoute removes a route.
func (ns *Namespace) DeleteRoute(r Route) error {
	return ns.changeRoute(r, "delete", ns.handle.RouteDel)
}

func (ns *Namespace) changeRoute(r Route, operation string, fn func(*netlink.Route) error) error {
	if !r.Dst.IsValid() {
		unspecified := netip.IPv4Unspecified()
		if r.Via.Is6() {
			unspecified = netip.IPv6Unspecified()
		}
		r.Dst = netip.PrefixFrom(unspecified, 0)
	}
	route := &netlink.Route{Dst: ipNet(r.Dst), Type: r.Kind.rtn()}
	if r.Via.IsValid() {
		route.Gw = r.Via.AsSlice()
	}
	if r.Device != "" {
		link, err := ns.link(r.Device)
		if err != nil {
			return err
		}
		route.LinkIndex = link.Attrs().Index
	}
	if !r.Via.IsValid() && r.Kind == UnicastRoute && r.Dst.Addr().Is4() {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := fn(route); err != nil {
		return fmt.Errorf("%s route to %s in namespace %s: %w", operation, r.Dst, ns.Name, err)
	}
	return nil
}

func (k RouteKind) rtn() int {
	switch k {
	case UnreachableRoute:
		return unix.RTN_UNREACHABLE
	case ProhibitRoute:
		return unix.RTN_PROHIBIT
	case BlackholeRoute:
		return unix.RTN_BLACKHOLE
	}
	return unix.RTN_UNICAST
}
