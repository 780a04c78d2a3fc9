package topo

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// withHandle runs fn with a netlink handle of the namespace, which lives as long as fn.
func (t *Topology) withHandle(netns uint32, fn func(h *netlink.Handle) error) error {
	return t.InNamespace(netns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		defer h.Close()
		return fn(h)
	})
}

// RouteTo asks the namespace how it would reach dst. The error of an unreachable destination wraps
// the kernel's: unix.ENETUNREACH, EHOSTUNREACH, EACCES (prohibit) or EINVAL (blackhole).
func (t *Topology) RouteTo(netns uint32, dst netip.Addr) (Route, error) {
	dst = dst.Unmap()
	var routes []netlink.Route
	err := t.withHandle(netns, func(h *netlink.Handle) (err error) {
		routes, err = h.RouteGet(net.IP(dst.AsSlice()))
		return err
	})
	if err != nil {
		return Route{}, fmt.Errorf("look up route to %s: %w", dst, err)
	}
	if len(routes) == 0 {
		return Route{}, fmt.Errorf("look up route to %s: %w", dst, unix.ENETUNREACH)
	}
	r := routes[0]
	out := Route{
		Index:   uint32(r.LinkIndex),
		Gateway: toAddr(r.Gw),
		Src:     toAddr(r.Src),
		Local:   r.Type == unix.RTN_LOCAL,
	}
	// An IPv4 route by way of an IPv6 gateway.
	if via, ok := r.Via.(*netlink.Via); ok && !out.Gateway.IsValid() {
		out.Gateway = toAddr(via.Addr)
	}
	if l, ok := t.Link(netns, out.Index); ok {
		out.Dev = l.Name
	}
	return out, nil
}

// Neighbours returns the neighbour entries of a device (of all devices if ifindex is 0).
func (t *Topology) Neighbours(netns, ifindex uint32) ([]Neighbour, error) {
	var out []Neighbour
	err := t.withHandle(netns, func(h *netlink.Handle) error {
		for _, flags := range []uint8{0, netlink.NTF_PROXY} {
			list, err := h.NeighListExecute(netlink.Ndmsg{Index: ifindex, Flags: flags})
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return err
			}
			for _, n := range list {
				if n.Family != unix.AF_INET && n.Family != unix.AF_INET6 {
					continue
				}
				out = append(out, Neighbour{
					Ifindex:      uint32(n.LinkIndex),
					Addr:         toAddr(n.IP),
					HardwareAddr: n.HardwareAddr.String(),
					State:        neighState(n.State),
					Proxy:        flags != 0,
				})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	return out, nil
}

// FDB returns the forwarding entries of a bridge port or VXLAN device (of all if ifindex is 0).
func (t *Topology) FDB(netns, ifindex uint32) ([]FDBEntry, error) {
	var out []FDBEntry
	err := t.withHandle(netns, func(h *netlink.Handle) error {
		list, err := h.NeighListExecute(netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: ifindex})
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
		for _, n := range list {
			out = append(out, FDBEntry{
				Ifindex:      uint32(n.LinkIndex),
				HardwareAddr: n.HardwareAddr.String(),
				Dst:          toAddr(n.IP),
				VNI:          uint32(n.VNI),
				VLAN:         uint16(n.Vlan),
				Master:       uint32(n.MasterIndex),
				State:        neighState(n.State),
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list forwarding entries: %w", err)
	}
	return out, nil
}

// toAddr converts, and gives an invalid address for none.
func toAddr(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// neighState names the NUD_* states of include/uapi/linux/neighbour.h as ip-neighbour(8) does.
func neighState(state int) string {
	switch state {
	case unix.NUD_INCOMPLETE:
		return "INCOMPLETE"
	case unix.NUD_REACHABLE:
		return "REACHABLE"
	case unix.NUD_STALE:
		return "STALE"
	case unix.NUD_DELAY:
		return "DELAY"
	case unix.NUD_PROBE:
		return "PROBE"
	case unix.NUD_FAILED:
		return "FAILED"
	case unix.NUD_NOARP:
		return "NOARP"
	case unix.NUD_PERMANENT:
		return "PERMANENT"
	}
	return "NONE"
}
