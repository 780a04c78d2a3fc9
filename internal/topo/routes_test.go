package topo

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestRoutes lists the routes of a namespace: the kernel's own, a default route, one of another table.
func TestRoutes(t *testing.T) {
	needRoot(t)
	a, b := newNS(t, "ra"), newNS(t, "rb")
	veth(t, a, "eth0", b, "eth1")
	in(t, a, func(h *netlink.Handle) error {
		if err := linkUp(h, "eth0", "192.0.2.1/24"); err != nil {
			return err
		}
		link, err := h.LinkByName("eth0")
		if err != nil {
			return err
		}
		gateway := net.IPv4(192, 0, 2, 254)
		if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway, Priority: 100}); err != nil {
			return err
		}
		_, far, _ := net.ParseCIDR("198.51.100.0/24")
		if err := h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: far, Gw: gateway, Table: 7}); err != nil {
			return err
		}
		_, hole, _ := net.ParseCIDR("203.0.113.0/24")
		return h.RouteAdd(&netlink.Route{Dst: hole, Type: unix.RTN_BLACKHOLE})
	})
	topo := newTopology(t)
	got, err := topo.Routes(inodeOf(t, topo, a))
	if err != nil {
		t.Fatal(err)
	}
	got = slices.DeleteFunc(got, func(r RouteEntry) bool { return r.Dst.Addr().Is6() })
	for i := range got {
		got[i].Index = 0
	}
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	want := []RouteEntry{
		{Dst: prefix("192.0.2.0/24"), Dev: "eth0", Src: addr("192.0.2.1"), Table: unix.RT_TABLE_MAIN, Kernel: true},
		{Dst: prefix("0.0.0.0/0"), Dev: "eth0", Gateway: addr("192.0.2.254"), Metric: 100, Table: unix.RT_TABLE_MAIN},
		{Dst: prefix("198.51.100.0/24"), Dev: "eth0", Gateway: addr("192.0.2.254"), Table: 7},
	}
	byDst := func(a, b RouteEntry) int { return a.Dst.Addr().Compare(b.Dst.Addr()) }
	slices.SortFunc(got, byDst)
	slices.SortFunc(want, byDst)
	if !slices.Equal(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}
