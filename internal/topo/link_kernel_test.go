package topo

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// TestPortFlags reads the settings of a bridge port, as they are by default and changed.
func TestPortFlags(t *testing.T) {
	a := newNS(t, "flags")
	veth(t, a, "port", a, "eth0")
	in(t, a, func(h *netlink.Handle) error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := h.LinkAdd(br); err != nil {
			return err
		}
		port, err := h.LinkByName("port")
		return errors.Join(err, h.LinkSetMaster(port, br))
	})
	topo := newTopology(t)
	netns := inodeOf(t, topo, a)
	port, _ := topo.LinkByName(netns, "port")
	if want := (PortFlags{Learning: true, Flood: true, BroadcastFlood: true}); port.PortFlags != want {
		t.Errorf("by default: got %+v, want %+v", port.PortFlags, want)
	}
	in(t, a, func(h *netlink.Handle) error {
		l, err := h.LinkByName("port")
		return errors.Join(err, h.LinkSetHairpin(l, true), h.LinkSetIsolated(l, true), h.LinkSetFlood(l, false), h.LinkSetLearning(l, false))
	})
	labtest.Eventually(t, "the settings are read", func() bool {
		links, err := topo.LinksNow(netns)
		i := slices.IndexFunc(links, func(l Link) bool { return l.Name == "port" })
		want := PortFlags{Hairpin: true, Isolated: true, BroadcastFlood: true}
		return err == nil && i >= 0 && links[i].PortFlags == want
	})
	if eth0, _ := topo.LinkByName(netns, "eth0"); eth0.PortFlags != (PortFlags{}) || eth0.XDP != 0 || eth0.XDPMode != "" {
		t.Errorf("eth0: got %+v", eth0)
	}
}

// TestQdiscsAndFilters reads a queue that dropped something, and a device without filters.
func TestQdiscsAndFilters(t *testing.T) {
	a := newNS(t, "queues")
	veth(t, a, "left", a, "right")
	var index int
	in(t, a, func(h *netlink.Handle) error {
		l, err := h.LinkByName("left")
		if err != nil {
			return err
		}
		index = l.Attrs().Index
		attrs := netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}
		tbf := &netlink.Tbf{QdiscAttrs: attrs, Rate: 1000, Limit: 3000, Buffer: 156250} // 10 bytes, in ticks of 64 ns
		return errors.Join(linkUp(h, "right", ""), linkUp(h, "left", "192.0.2.1/24"), h.QdiscAdd(tbf))
	})
	topo := newTopology(t)
	netns := inodeOf(t, topo, a)
	if err := inPath(nsPath(a), func() error {
		conn, err := net.Dial("udp", "192.0.2.2:9") // the question for its MAC address is too large
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "a drop is counted", func() bool {
		list, err := topo.Qdiscs(netns)
		return err == nil && slices.ContainsFunc(list, func(q Qdisc) bool {
			return q.Ifindex == uint32(index) && q.Kind == "tbf" && q.Handle == "1:" && q.Parent == "root" && q.Drops > 0
		})
	})
	if list, err := topo.Filters(netns, uint32(index)); err != nil || len(list) != 0 {
		t.Errorf("filters: got %v %v, want none", list, err)
	}
}

// TestTable reads routes of every kind and in other tables.
func TestTable(t *testing.T) {
	a := newNS(t, "table")
	veth(t, a, "left", a, "right")
	in(t, a, func(h *netlink.Handle) error {
		if err := errors.Join(linkUp(h, "right", ""), linkUp(h, "left", "192.0.2.1/24")); err != nil {
			return err
		}
		parse := func(s string) *net.IPNet { _, n, _ := net.ParseCIDR(s); return n }
		return errors.Join(
			h.RouteAdd(&netlink.Route{Dst: parse("198.51.100.0/24"), Type: unix.RTN_UNREACHABLE}),
			h.RouteAdd(&netlink.Route{Dst: parse("203.0.113.0/24"), Gw: net.IPv4(192, 0, 2, 9), Table: 100, Priority: 7}),
			h.RouteAdd(&netlink.Route{Gw: net.IPv4(192, 0, 2, 8)}))
	})
	topo := newTopology(t)
	netns := inodeOf(t, topo, a)
	left, _ := topo.LinkByName(netns, "left")
	list, err := topo.Table(netns)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []TableRoute{
		{Dst: netip.MustParsePrefix("192.0.2.0/24"), Index: left.Index, Type: "unicast", Table: unix.RT_TABLE_MAIN},
		{Dst: netip.MustParsePrefix("198.51.100.0/24"), Type: "unreachable", Table: unix.RT_TABLE_MAIN},
		{Dst: netip.MustParsePrefix("203.0.113.0/24"), Index: left.Index, Gateway: netip.MustParseAddr("192.0.2.9"), Type: "unicast",
			Metric: 7, Table: 100},
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Index: left.Index, Gateway: netip.MustParseAddr("192.0.2.8"), Type: "unicast",
			Table: unix.RT_TABLE_MAIN},
	} {
		if !slices.Contains(list, want) {
			t.Errorf("no %+v in %+v", want, list)
		}
	}
	if slices.ContainsFunc(list, func(r TableRoute) bool { return r.Table == unix.RT_TABLE_LOCAL }) {
		t.Errorf("the local table is listed: %+v", list)
	}
}
