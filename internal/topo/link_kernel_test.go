package topo

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
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

func TestVethAcrossNamespaces(t *testing.T) {
	a, b := newNS(t, "a"), newNS(t, "b")
	veth(t, a, "eth0", b, "vethx")
	in(t, a, func(h *netlink.Handle) error {
		return errors.Join(linkUp(h, "eth0", "192.0.2.1/24"), linkUp(h, "eth0", "2001:db8::1/64"))
	})
	in(t, b, func(h *netlink.Handle) error { return linkUp(h, "vethx", "192.0.2.2/24") })
	topo := newTopology(t)
	ia, ib := inodeOf(t, topo, a), inodeOf(t, topo, b)

	l, ok := topo.LinkByName(ia, "eth0")
	if !ok || l.Kind != "veth" || !l.Up || !l.Carrier || l.MTU != 1500 || l.HardwareAddr == "" {
		t.Fatalf("got %+v", l)
	}
	peer, ok := topo.Link(l.PeerNetNS, l.PeerIndex)
	if !ok || l.PeerNetNS != ib || peer.Name != "vethx" {
		t.Errorf("peer: got %+v in %d, want vethx in %d", peer, l.PeerNetNS, ib)
	}
	if peer.PeerNetNS != ia || peer.PeerIndex != l.Index {
		t.Errorf("peer of peer: got %d:%d, want %d:%d", peer.PeerNetNS, peer.PeerIndex, ia, l.Index)
	}
	for _, addr := range []string{"192.0.2.1", "2001:db8::1"} {
		owners := topo.AddrOwner(netip.MustParseAddr(addr))
		// Other namespaces of the machine may have the same addresses.
		owners = slices.DeleteFunc(owners, func(o Owner) bool { return o.NetNS.Inode != ia && o.NetNS.Inode != ib })
		if len(owners) != 1 || owners[0].NetNS.Inode != ia || owners[0].Link.Name != "eth0" {
			t.Errorf("owner of %s: got %+v", addr, owners)
		}
	}
	addrs, err := topo.HostAddrs(ia)
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	if err != nil || !slices.Equal(addrs, want) {
		t.Errorf("addresses: got %v %v, want %v", addrs, err, want)
	}
	checkRoutes(t, topo, ia)
}

func checkRoutes(t *testing.T, topo *Topology, netns uint32) {
	t.Helper()
	r, err := topo.RouteTo(netns, netip.MustParseAddr("192.0.2.2"))
	if err != nil || r.Dev != "eth0" || !r.Direct() || r.Src != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("direct route: got %+v %v", r, err)
	}
	if r, err := topo.RouteTo(netns, netip.MustParseAddr("192.0.2.1")); err != nil || !r.Local {
		t.Errorf("local route: got %+v %v", r, err)
	}
	if _, err := topo.RouteTo(netns, netip.MustParseAddr("198.51.100.1")); !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("no route: got %v, want ENETUNREACH", err)
	}
}

// changesOf returns what a topology reports from now on, as far as there is room.
func changesOf(topo *Topology) <-chan Change {
	changes := make(chan Change, 1024)
	topo.OnChange(func(c Change) {
		select {
		case changes <- c:
		default:
		}
	})
	return changes
}

func TestLinksFollowChanges(t *testing.T) {
	a, b := newNS(t, "a"), newNS(t, "b")
	topo := newTopology(t)
	ia := inodeOf(t, topo, a)
	if _, err := topo.Links(ia); err != nil {
		t.Fatal(err)
	}
	changes := changesOf(topo)
	veth(t, a, "first", b, "peer")
	l, ok := topo.LinkByName(ia, "first")
	if !ok {
		labtest.Eventually(t, "new link", func() bool { l, ok = topo.LinkByName(ia, "first"); return ok })
	}
	in(t, a, func(h *netlink.Handle) error {
		link, err := h.LinkByName("first")
		if err != nil {
			return err
		}
		return errors.Join(h.LinkSetName(link, "second"), linkUp(h, "second", "192.0.2.9/32"))
	})
	labtest.Eventually(t, "renamed link with address", func() bool {
		got, ok := topo.Link(ia, l.Index)
		return ok && got.Name == "second" && len(got.Addrs) > 0
	})
	in(t, a, func(h *netlink.Handle) error {
		link, err := h.LinkByName("second")
		if err != nil {
			return err
		}
		return h.LinkDel(link)
	})
	labtest.Eventually(t, "link is gone", func() bool {
		got, ok := topo.Link(ia, l.Index)
		return ok && got.Gone && got.Name == "second"
	})
	if _, ok := topo.LinkByName(ia, "second"); ok {
		t.Error("a link that is gone was found by name")
	}
	waitChanges(t, changes, l.Index, LinkAdded, LinkChanged, LinkGone)
}

// waitChanges expects kinds of changes of a link, in order, with others between them.
func waitChanges(t *testing.T, changes <-chan Change, index uint32, want ...ChangeKind) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for _, kind := range want {
		for found := false; !found; {
			select {
			case c := <-changes:
				found = c.Kind == kind && c.Link.Index == index
			case <-deadline:
				t.Fatalf("change %d was not reported", kind)
			}
		}
	}
}

func TestSubscriptionDoesNotKeepNamespace(t *testing.T) {
	a, b := newNS(t, "a"), newNS(t, "b")
	veth(t, a, "eth0", b, "vethx")
	topo := newTopology(t)
	ia, ib := inodeOf(t, topo, a), inodeOf(t, topo, b)
	if _, err := topo.Links(ia); err != nil {
		t.Fatal(err)
	}
	peer, ok := topo.LinkByName(ib, "vethx")
	if !ok {
		t.Fatal("no vethx")
	}
	if err := netns.DeleteNamed(a); err != nil {
		t.Fatal(err)
	}
	// The kernel deletes both ends of the pair once nothing holds the namespace.
	labtest.Eventually(t, "the peer's end vanished with the namespace", func() bool {
		got, ok := topo.Link(ib, peer.Index)
		return ok && got.Gone
	})
	if got, ok := topo.Link(ia, 1); !ok || got.Name != "lo" || !got.Gone {
		t.Errorf("lo of the namespace that is gone: got %+v", got)
	}
}

func TestBridgeAndVXLAN(t *testing.T) {
	a := newNS(t, "a")
	veth(t, a, "port", a, "eth0")
	in(t, a, func(h *netlink.Handle) error {
		br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		vx := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx0"}, VxlanId: 4097, Port: 4789, Proxy: true}
		if err := errors.Join(h.LinkAdd(br), h.LinkAdd(vx)); err != nil {
			return err
		}
		port, err := h.LinkByName("port")
		if err != nil {
			return err
		}
		return errors.Join(
			h.LinkSetMaster(port, br), h.LinkSetAlias(vx, "overlay"), linkUp(h, "br0", "192.0.2.1/24"), linkUp(h, "vx0", ""),
			linkUp(h, "port", ""), linkUp(h, "eth0", ""), linkUp(h, "lo", ""),
			h.NeighAdd(&netlink.Neigh{
				LinkIndex: vx.Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
				IP: []byte{198, 51, 100, 7}, HardwareAddr: []byte{2, 0, 0, 0, 0, 7},
			}),
			h.NeighAdd(&netlink.Neigh{
				LinkIndex: br.Index, State: netlink.NUD_PERMANENT,
				IP: []byte{192, 0, 2, 77}, HardwareAddr: []byte{2, 0, 0, 0, 0, 9},
			}),
		)
	})
	topo := newTopology(t)
	netns := inodeOf(t, topo, a)
	br, _ := topo.LinkByName(netns, "br0")
	vx, _ := topo.LinkByName(netns, "vx0")
	port, _ := topo.LinkByName(netns, "port")
	if br.Kind != "bridge" || vx.Kind != "vxlan" || vx.VNI != 4097 || vx.VXLANPort != 4789 || !vx.VXLANProxy || vx.Alias != "overlay" {
		t.Errorf("got %+v and %+v", br, vx)
	}
	if port.Master != br.Index || port.BridgePortState == "" || port.PeerNetNS != netns {
		t.Errorf("port: got %+v", port)
	}
	if lo, _ := topo.Link(netns, 1); lo.Kind != "loopback" || lo.BridgePortState != "" {
		t.Errorf("lo: got %+v", lo)
	}
	labtest.Eventually(t, "port is forwarding", func() bool {
		port, _ := topo.LinkByName(netns, "port")
		return port.BridgePortState == "forwarding"
	})
	fdb, err := topo.FDB(netns, vx.Index)
	if err != nil || !slices.ContainsFunc(fdb, func(e FDBEntry) bool {
		return e.Dst == netip.MustParseAddr("198.51.100.7") && e.HardwareAddr == "02:00:00:00:00:07" && e.State == "PERMANENT"
	}) {
		t.Errorf("fdb: got %+v %v", fdb, err)
	}
	neigh, err := topo.Neighbours(netns, br.Index)
	if err != nil || !slices.ContainsFunc(neigh, func(n Neighbour) bool {
		return n.Addr == netip.MustParseAddr("192.0.2.77") && n.State == "PERMANENT"
	}) {
		t.Errorf("neighbours: got %+v %v", neigh, err)
	}
}
