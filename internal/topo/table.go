package topo

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TableRoute is an entry of a routing table.
type TableRoute struct {
	// Dst is the destination; 0.0.0.0/0 or ::/0 for a default route.
	Dst netip.Prefix
	// Index is the device, 0 if it has none or several; Gateway the next hop, invalid if on-link.
	Index   uint32
	Gateway netip.Addr
	// Type is unicast, unreachable, prohibit, blackhole, throw, …
	Type   string
	Metric uint32
	Table  uint32 // 254 is main
}

// Table returns the routes of a namespace in all tables but local, for both families.
func (t *Topology) Table(netns uint32) ([]TableRoute, error) {
	var out []TableRoute
	err := t.withHandle(netns, func(h *netlink.Handle) error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			// Table 0 as a filter means every table.
			list, err := h.RouteListFiltered(family, &netlink.Route{}, netlink.RT_FILTER_TABLE)
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return err
			}
			for _, r := range list {
				if r.Table != unix.RT_TABLE_LOCAL {
					out = append(out, tableRoute(family, &r))
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return out, nil
}

func tableRoute(family int, r *netlink.Route) TableRoute {
	unspecified := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		unspecified = netip.IPv6Unspecified()
	}
	out := TableRoute{
		Dst: netip.PrefixFrom(unspecified, 0), Index: uint32(r.LinkIndex), Gateway: toAddr(r.Gw),
		Type: routeType(r.Type), Metric: uint32(r.Priority), Table: uint32(r.Table),
	}
	if r.Dst != nil {
		bits, _ := r.Dst.Mask.Size()
		out.Dst = netip.PrefixFrom(toAddr(r.Dst.IP), bits)
	}
	return out
}

// routeType names the RTN_* of include/uapi/linux/rtnetlink.h as ip-route(8) does.
func routeType(typ int) string {
	switch typ {
	case unix.RTN_UNICAST:
		return "unicast"
	case unix.RTN_BLACKHOLE:
		return "blackhole"
	case unix.RTN_UNREACHABLE:
		return "unreachable"
	case unix.RTN_PROHIBIT:
		return "prohibit"
	case unix.RTN_THROW:
		return "throw"
	}
	return "other"
}
