package topo

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// TestAddrOwnerReadsLittle: with many namespaces, only the one that has the address is read and followed.
func TestAddrOwnerReadsLittle(t *testing.T) {
	const others = 20
	var names []string
	for i := range others {
		names = append(names, newNS(t, "n"+string(rune('A'+i))))
	}
	a := newNS(t, "holder")
	in(t, a, func(h *netlink.Handle) error { return linkUp(h, "lo", "203.0.113.177/32") })
	in(t, names[3], func(h *netlink.Handle) error { return linkUp(h, "lo", "2001:db8::177/128") })
	topo := newTopology(t)
	for addr, name := range map[string]string{"203.0.113.177": a, "2001:db8::177": names[3], "203.0.113.178": ""} {
		want := []uint32{}
		if name != "" {
			want = append(want, inodeOf(t, topo, name))
		}
		got := []uint32{}
		for _, o := range topo.AddrOwner(netip.MustParseAddr(addr)) {
			got = append(got, o.NetNS.Inode)
		}
		if !slices.Equal(got, want) {
			t.Errorf("owners of %s: got %v, want %v", addr, got, want)
		}
	}
	topo.watch.mu.Lock()
	defer topo.watch.mu.Unlock()
	if n := len(topo.watch.follows); n != 2 {
		t.Errorf("%d namespaces are followed, want the 2 that had an address", n)
	}
}

// TestVXLANPorts: the devices of a kind are found among others, and nothing else is read.
func TestVXLANPorts(t *testing.T) {
	a, b := newNS(t, "a"), newNS(t, "b")
	veth(t, a, "eth0", b, "eth1")
	in(t, a, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx"}, VxlanId: 7, Port: 4790})
	})
	topo := newTopology(t)
	got := topo.VXLANPorts([]uint32{inodeOf(t, topo, a), inodeOf(t, topo, b), 1})
	if !slices.Equal(got, []uint16{4790}) {
		t.Errorf("got %v, want 4790", got)
	}
	if n := len(topo.watch.follows); n != 0 {
		t.Errorf("%d namespaces are followed, want none", n)
	}
}

// TestReadReports: links that a reading finds before their notifications are taken are reported, too.
func TestReadReports(t *testing.T) {
	a := newNS(t, "a")
	topo := newTopology(t)
	ia := inodeOf(t, topo, a)
	if _, err := topo.Links(ia); err != nil {
		t.Fatal(err)
	}
	changes := changesOf(topo)
	for _, what := range []struct {
		kind ChangeKind
		do   func(h *netlink.Handle) error
	}{
		{LinkAdded, func(h *netlink.Handle) error {
			return h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "d", Index: 77}})
		}},
		{LinkGone, func(h *netlink.Handle) error {
			return h.LinkDel(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: 77}})
		}},
	} {
		topo.watch.release(topo.lookup(ia)) // no notification comes
		in(t, a, what.do)
		labtest.Eventually(t, "a reading that is not too soon", func() bool {
			links, err := topo.LinksNow(ia)
			return err == nil && slices.ContainsFunc(links, func(l Link) bool { return l.Index == 77 }) == (what.kind == LinkAdded)
		})
		waitChanges(t, changes, 77, what.kind)
	}
}
