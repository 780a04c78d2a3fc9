package topo

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Routes returns the unicast routes of a namespace, of all tables but the local one.
func (t *Topology) Routes(netns uint32) ([]RouteEntry, error) {
	var out []RouteEntry
	err := t.withHandle(netns, func(h *netlink.Handle) error {
		// Without a table the library keeps those of the main table only; RT_TABLE_UNSPEC means all.
		filter := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			list, err := h.RouteListFiltered(family, filter, netlink.RT_FILTER_TABLE)
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return err
			}
			for _, r := range list {
				if r.Type == unix.RTN_UNICAST && r.Table != unix.RT_TABLE_LOCAL {
					out = append(out, routeEntry(r, family))
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	for i := range out {
		if l, ok := t.Link(netns, out[i].Index); ok {
			out[i].Dev = l.Name
		}
	}
	return out, nil
}

// routeEntry converts; a route without a destination is the default route of its family.
func routeEntry(r netlink.Route, family int) RouteEntry {
	dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if family == unix.AF_INET6 {
		dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if r.Dst != nil {
		bits, _ := r.Dst.Mask.Size()
		if addr := toAddr(r.Dst.IP); addr.IsValid() {
			dst = netip.PrefixFrom(addr, bits)
		}
	}
	out := RouteEntry{
		Dst: dst, Index: uint32(max(r.LinkIndex, 0)), Gateway: toAddr(r.Gw), Src: toAddr(r.Src),
		Metric: r.Priority, Table: r.Table, Kernel: r.Protocol == unix.RTPROT_KERNEL,
	}
	if via, ok := r.Via.(*netlink.Via); ok && !out.Gateway.IsValid() {
		out.Gateway = toAddr(via.Addr)
	}
	return out
}
