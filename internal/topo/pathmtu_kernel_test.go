package topo

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// TestPathMTU reads routes with metrics, a device's offloads and a connection's MSS.
func TestPathMTU(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	prefix := netip.MustParsePrefix
	labtest.Must(t, lab.Veth(lab.End{NS: a, Name: "eth0", Addrs: []netip.Prefix{prefix("10.97.0.1/24")}, MTU: 1400},
		lab.End{NS: b, Name: "eth0", Addrs: []netip.Prefix{prefix("10.97.0.2/24")}, MTU: 1400}))
	for _, ns := range l.Namespaces() {
		labtest.Must(t, ns.WaitUp(t.Context()))
	}
	topology, err := New(Options{})
	labtest.Must(t, err)
	defer topology.Close()
	labtest.Must(t, topology.AddPath("a", a.Path))
	dst, src := netip.MustParseAddr("10.97.0.2"), netip.MustParseAddr("10.97.0.1")
	r, err := topology.RouteMTU(a.Inode, dst, src)
	labtest.Must(t, err)
	if r.DeviceMTU != 1400 || r.MTU != 0 || r.Cached {
		t.Errorf("plain route: got %+v, want the device's 1400 alone", r)
	}
	labtest.Must(t, a.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: netlink.NewIPNet(net.IP(dst.AsSlice())), MTU: 1300, AdvMSS: 1200})
	}))
	r, err = topology.RouteMTU(a.Inode, dst, netip.Addr{})
	labtest.Must(t, err)
	if r.MTU != 1300 || r.AdvMSS != 1200 || r.Cached {
		t.Errorf("route with metrics: got %+v, want 1300 and 1200", r)
	}
	if _, err := topology.RouteMTU(a.Inode, netip.MustParseAddr("192.0.2.1"), netip.Addr{}); err == nil {
		t.Error("no error for what has no route")
	}
	o, err := topology.Offload(a.Inode, r.Index)
	labtest.Must(t, err)
	if !o.Known || o.GSOMaxSize == 0 || o.GSOMaxSegments == 0 {
		t.Errorf("offloads: got %+v, want limits and settings", o)
	}
	server, err := b.TCPServer("10.97.0.2:80", nil)
	labtest.Must(t, err)
	conn, err := a.Dial(t.Context(), "tcp", server.Addr.String())
	labtest.Must(t, err)
	defer conn.Close()
	mss, err := topology.SocketMSS(a.Inode, conn.LocalAddr().(*net.TCPAddr).AddrPort(), server.Addr)
	labtest.Must(t, err)
	if mss.MSS == 0 || mss.MSS > 1260 || mss.PathMTU != 1300 {
		t.Errorf("connection: got %+v, want what fits into 1300 bytes", mss)
	}
	if _, err := topology.SocketMSS(a.Inode, netip.AddrPortFrom(src, 1), server.Addr); err == nil {
		t.Error("no error for a socket that is not there")
	}
}

// TestParseRouteMTU: an MTU that expires is an exception, one that does not is the route's own.
func TestParseRouteMTU(t *testing.T) {
	attribute := func(typ uint16, value []byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
		return append(binary.NativeEndian.AppendUint16(b, typ), value...)
	}
	word := func(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
	message := func(ticks uint32) []byte {
		b := append(make([]byte, unix.SizeofRtMsg), attribute(unix.RTA_OIF, word(7))...)
		b = append(b, attribute(unix.RTA_METRICS, append(attribute(unix.RTAX_MTU, word(1350)), attribute(unix.RTAX_LOCK, word(1<<unix.RTAX_MTU))...))...)
		return append(b, attribute(unix.RTA_CACHEINFO, append(append(make([]byte, 8), word(ticks)...), make([]byte, 20)...))...)
	}
	for ticks, want := range map[uint32]RouteMTU{
		0:     {Index: 7, MTU: 1350, Locked: true},
		59900: {Index: 7, MTU: 1350, Locked: true, Cached: true, Expires: 599 * time.Second},
	} {
		if got := parseRouteMTU(message(ticks)); got != want {
			t.Errorf("expiring in %d ticks: got %+v, want %+v", ticks, got, want)
		}
	}
	if got := parseRouteMTU(nil); got != (RouteMTU{}) {
		t.Errorf("no message: got %+v", got)
	}
}
