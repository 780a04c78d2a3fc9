package tracer_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// packetSocket opens a packet socket on a device, as tcpdump does.
func packetSocket(t *testing.T, ns *lab.Namespace, device string) int {
	t.Helper()
	index, err := ns.Ifindex(device)
	labtest.Must(t, err)
	var fd int
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	labtest.Must(t, ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: int(index)})
	}))
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// mac is the hardware address of a device.
func mac(t *testing.T, ns *lab.Namespace, device string) net.HardwareAddr {
	t.Helper()
	var addr net.HardwareAddr
	labtest.Must(t, ns.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err == nil {
			addr = i.HardwareAddr
		}
		return err
	}))
	return addr
}

// TestPacketSocket: somebody who listens on every device makes no packets of his own.
func TestPacketSocket(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	packetSocket(t, d.Client, lab.ClientDevice)
	packetSocket(t, d.Router, lab.RouterDevice)
	packetSocket(t, d.Router, lab.BridgeDevice)
	packetSocket(t, d.Router, lab.WebPortDev)
	packetSocket(t, d.Web, lab.ClientDevice)
	o := probe(t, d.Lab, "client", d.Published(false).String(), nil)
	checkTrace(t, d.Lab, o)
	f := o.flows[0]
	checkVerdict(t, f.Verdict, path.Delivered, "")
	checkWay(t, "request", first(f.Path, path.Request), strings.Split(ways()[0].request, "\n"))
	seen := map[string]bool{}
	for _, p := range f.Path.Packets {
		key := fmt.Sprint(p.Direction, p.TCPFlags, p.Seq, p.Ack)
		if seen[key] {
			t.Errorf("packet %d (%s %s) is there twice", p.ID, p.Direction, p.TCPFlags)
		}
		seen[key] = true
	}
}

// tunnel joins namespaces a and b by VXLAN; b serves on 10.78.0.2:80 inside.
func tunnel(t *testing.T) *lab.Lab {
	t.Helper()
	l := labtest.New(t, lab.Options{})
	a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	outerA, outerB := netip.MustParsePrefix("198.51.100.1/24"), netip.MustParsePrefix("198.51.100.2/24")
	labtest.Must(t, lab.Veth(lab.End{NS: a, Name: "eth0", Addrs: []netip.Prefix{outerA}}, lab.End{NS: b, Name: "eth0", Addrs: []netip.Prefix{outerB}}))
	for _, end := range []struct {
		ns          *lab.Namespace
		local, peer netip.Prefix
		inner       string
	}{{a, outerA, outerB, "10.78.0.1/24"}, {b, outerB, outerA, "10.78.0.2/24"}} {
		labtest.Must(t, end.ns.VXLAN(lab.VXLAN{Name: "vxlan0", VNI: 4097, Local: end.local.Addr(), Peers: []netip.Addr{end.peer.Addr()},
			Addrs: []netip.Prefix{netip.MustParsePrefix(end.inner)}}))
	}
	for _, ns := range l.Namespaces() {
		labtest.Must(t, ns.WaitUp(t.Context()))
	}
	_, err := b.TCPServer("10.78.0.2:80", nil)
	labtest.Must(t, err)
	// The first ARP request may be sent before both ends can carry it, and the next comes after a second.
	labtest.Eventually(t, "a connects to b through the tunnel", func() bool {
		return connect(a, netip.MustParseAddrPort("10.78.0.2:80")) == nil
	})
	return l
}

// TestVXLAN: the packet inside the tunnel is followed, and the tunnel is told.
func TestVXLAN(t *testing.T) {
	l := tunnel(t)
	o := probe(t, l, "a", "10.78.0.2:80", nil)
	checkTrace(t, l, o)
	f := o.flows[0]
	checkVerdict(t, f.Verdict, path.Delivered, "")
	request, reply := first(f.Path, path.Request), first(f.Path, path.Reply)
	way := func(from, to string) []string {
		return []string{
			from + " vxlan0 qdisc queue", from + " vxlan0 device transmit", from + " eth0 device transmit",
			to + " eth0 device receive", to + " vxlan0 device receive",
		}
	}
	checkWay(t, "request", request, way("a", "b"))
	checkWay(t, "reply", reply, way("b", "a"))
	for _, p := range []*path.Packet{request, reply} {
		text := strings.Join(lines(p), "\n")
		if !strings.Contains(text, "vxlan encapsulate") || !strings.Contains(text, "vxlan decapsulate") {
			t.Errorf("%s: entering and leaving the tunnel is missing in\n%s", p.Direction, text)
		}
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.Device == "eth0" && h.Stage == path.StageDevice && (h.Outer == nil || h.Outer.VNI != 4097 ||
				!strings.HasPrefix(h.Outer.Src, "198.51.100.") || !strings.HasSuffix(h.Outer.Dst, ":4789")) {
				t.Errorf("%s: %q has outer %+v, want the tunnel's ends and VNI 4097", p.Direction, line(h), h.Outer)
			}
			if h.Device == "vxlan0" && h.Stage == path.StageDevice && h.Outer != nil {
				t.Errorf("%s: %q is outside of the tunnel and has outer %+v", p.Direction, line(h), h.Outer)
			}
		}
	}
}

// option sets a socket option before connecting.
type option struct {
	name         string
	level, which int
	value        string
	v6           bool
}

// TestOptions: headers behind which the transport header is not where it usually is.
func TestOptions(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, o := range []option{
		{"no operation", unix.IPPROTO_IP, unix.IP_OPTIONS, "\x01\x01\x01\x00", false},
		{"record route", unix.IPPROTO_IP, unix.IP_OPTIONS, "\x07\x27\x04" + strings.Repeat("\x00", 37), false},
		// Both are padded with PadN (RFC 8200, 4.2) to eight bytes.
		{"hop-by-hop", unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, "\x00\x00\x01\x04\x00\x00\x00\x00", true},
		{"destination options", unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, "\x00\x00\x01\x04\x00\x00\x00\x00", true},
	} {
		for _, across := range []bool{true, false} {
			if o.v6 && !d.IPv6() {
				continue
			}
			t.Run(fmt.Sprintf("%s, bridged %v", o.name, across), func(t *testing.T) { o.check(t, d, across) })
		}
	}
}

func (o option) check(t *testing.T, d *lab.Demo, across bool) {
	from, to, request, name := d.App, netip.AddrPortFrom(pick(o.v6, d.WebAddr, d.WebAddr6), lab.WebPort), acrossToWeb, "app"
	if !across {
		from, to, request, name = d.Client, d.Published(o.v6), ways()[0].request, "client"
	}
	w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.Count = 1 })
	labtest.Must(t, from.Do(func() error {
		dialer := net.Dialer{Timeout: 2 * time.Second, Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			return errorOr(c.Control(func(fd uintptr) { err = unix.SetsockoptString(int(fd), o.level, o.which, o.value) }), &err)
		}}
		c, err := dialer.DialContext(t.Context(), "tcp", to.String())
		if err == nil {
			c.Close()
		}
		return err
	}))
	got := w.wait(t)
	checkTrace(t, d.Lab, got)
	f := got.flows[0]
	checkVerdict(t, f.Verdict, path.Delivered, "")
	checkWay(t, "request of "+name, first(f.Path, path.Request), watchedWay(request))
	plain := 60
	if o.v6 {
		plain = 80
	}
	if got, want := first(f.Path, path.Request).Length, plain+len(o.value); got != want {
		t.Errorf("length: got %d, want %d with the option", got, want)
	}
}

func errorOr(err error, other *error) error {
	if err != nil {
		return err
	}
	return *other
}

// TestDatagrams: a watched exchange of one datagram each way. One of 4000 bytes is three fragments on a
// link of 1500; all are of the flow.
func TestDatagrams(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, size := range []int{100, 4000} {
		for _, v6 := range []bool{false, true} {
			if v6 && !d.IPv6() {
				continue
			}
			t.Run(fmt.Sprintf("%d bytes, %s", size, family(v6)), func(t *testing.T) {
				checkDatagrams(t, d, netip.AddrPortFrom(pick(v6, d.WebAddr, d.WebAddr6), lab.EchoPort), size)
			})
		}
	}
}

func checkDatagrams(t *testing.T, d *lab.Demo, to netip.AddrPort, size int) {
	t.Helper()
	w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.Proto = path.UDP })
	c, err := d.App.Dial(t.Context(), "udp", to.String())
	labtest.Must(t, err)
	defer c.Close()
	labtest.Must(t, c.SetDeadline(time.Now().Add(labtest.Patience(2*time.Second))))
	_, err = c.Write(make([]byte, size))
	labtest.Must(t, err)
	n, err := c.Read(make([]byte, 8000))
	if n != size || err != nil {
		t.Fatalf("echo: got %d bytes, %v", n, err)
	}
	o := w.stop(t)
	if o.result.Stats.LostEvents != 0 || len(o.flows) != 1 {
		t.Fatalf("got %d flows, %d lost events", len(o.flows), o.result.Stats.LostEvents)
	}
	checkVerdict(t, o.flows[0].Verdict, path.Delivered, "")
	arrived := map[path.Direction]int{}
	for _, p := range o.flows[0].Path.Packets {
		for i := range p.Hops {
			if got := line(&p.Hops[i]); got == "web eth0 device receive" || got == "app eth0 device receive" {
				arrived[p.Direction]++
			}
		}
	}
	want := (size + 1479) / 1480
	if arrived[path.Request] != want || arrived[path.Reply] != want {
		t.Errorf("frames that arrived: got %v, want %d each way", arrived, want)
	}
}

// ipv4 makes an IPv4 packet; the kernel fills no checksum of what goes through a packet socket.
func ipv4(src, dst netip.Addr, proto byte, payload []byte) []byte {
	h := make([]byte, 20, 20+len(payload))
	h[0], h[8], h[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
	copy(h[12:], src.AsSlice())
	copy(h[16:], dst.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(h[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(h[10:], ^uint16(sum+sum>>16))
	return append(h, payload...)
}

func ethernet(dst, src net.HardwareAddr, tags ...uint16) []byte {
	frame := append(append([]byte{}, dst...), src...)
	for _, tag := range tags {
		frame = binary.BigEndian.AppendUint16(frame, tag)
	}
	return frame
}

// tcpSYN is a TCP header that asks for a connection, without checksum.
func tcpSYN(sport, dport uint16, seq uint32) []byte {
	h := make([]byte, 20)
	binary.BigEndian.PutUint16(h, sport)
	binary.BigEndian.PutUint16(h[2:], dport)
	binary.BigEndian.PutUint32(h[4:], seq)
	h[12], h[13] = 5<<4, 2
	return h
}

// TestVLAN: tagged frames are read, one and two tags deep. Nothing in the router takes them.
func TestVLAN(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	to := d.Published(false)
	for i, tags := range [][]uint16{{0x8100, 7, 0x0800}, {0x88a8, 9, 0x8100, 7, 0x0800}} {
		t.Run(fmt.Sprintf("%d tags", i+1), func(t *testing.T) {
			w := watch(t, d.Lab, to.String(), nil)
			fd := packetSocket(t, d.Client, lab.ClientDevice)
			sport := uint16(41000 + i)
			frame := append(ethernet(mac(t, d.Router, lab.RouterDevice), mac(t, d.Client, lab.ClientDevice), tags...),
				ipv4(d.ClientAddr, to.Addr(), 6, tcpSYN(sport, to.Port(), 1))...)
			_, err := unix.Write(fd, frame)
			labtest.Must(t, err)
			o := w.stop(t)
			if len(o.flows) != 1 || o.flows[0].Path.Client != netip.AddrPortFrom(d.ClientAddr, sport) {
				t.Fatalf("got %d flows, want the tagged one", len(o.flows))
			}
			checkWay(t, "request", first(o.flows[0].Path, path.Request), []string{"client eth0 device transmit", "router eth0 device receive"})
			if v := o.flows[0].Verdict; v.Outcome == path.Delivered {
				t.Errorf("verdict: got %s (%s), want that it did not arrive", v.Outcome, v.Summary)
			}
			if got, want := first(o.flows[0].Path, path.Request).Length, 40; got != want {
				t.Errorf("length: got %d, want %d without the tags", got, want)
			}
		})
	}
}

// TestBrokenHeaders: what is cut off or lies about its length is neither misread nor in the way.
func TestBrokenHeaders(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	to := d.Published(false)
	w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.AllPackets = true })
	fd := packetSocket(t, d.Client, lab.ClientDevice)
	head4 := ethernet(mac(t, d.Router, lab.RouterDevice), mac(t, d.Client, lab.ClientDevice), 0x0800)
	head6 := ethernet(mac(t, d.Router, lab.RouterDevice), mac(t, d.Client, lab.ClientDevice), 0x86dd)
	whole := ipv4(d.ClientAddr, to.Addr(), 6, tcpSYN(42000, to.Port(), 1))
	var frames [][]byte
	for n := range len(whole) { // cut at every byte
		frames = append(frames, append(append([]byte{}, head4...), whole[:n]...))
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 300 { // any byte of the header changed, also under the other protocol's number
		broken := append([]byte{}, whole...)
		for range 1 + random.IntN(3) {
			broken[random.IntN(12)] = byte(random.Uint32())
		}
		frames = append(frames, append(append([]byte{}, head4...), broken...), append(append([]byte{}, head6...), broken...))
	}
	for _, f := range frames {
		// A frame without any payload is refused; that is one less to read.
		_, _ = unix.Write(fd, f)
	}
	end, err := dial(t, d.Client, to, 5*time.Second)
	labtest.Must(t, err)
	o := w.stop(t)
	if o.result.Stats.LostEvents != 0 {
		t.Errorf("lost events: got %d %v, want none", o.result.Stats.LostEvents, o.result.Stats.Lost)
	}
	found := false
	for _, f := range o.flows {
		switch c := f.Path.Client; {
		case c == end:
			found = true
			checkVerdict(t, f.Verdict, path.Delivered, "")
		case c.Addr() != d.ClientAddr && f.Path.Server != to:
			t.Errorf("a flow %s to %s that nobody sent (%s)", c, f.Path.Server, f.Verdict.Summary)
		}
	}
	if !found {
		t.Errorf("the connection among broken packets has no verdict")
	}
}

// TestTooBig: a datagram that may not be fragmented meets a smaller link.
func TestTooBig(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	labtest.Must(t, d.Router.SetMTU(lab.BridgeDevice, 1000))
	to := netip.AddrPortFrom(d.RouterAddr, lab.PublishedEcho)
	w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.Proto = path.UDP })
	c, err := d.Client.Dial(t.Context(), "udp", to.String())
	labtest.Must(t, err)
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	labtest.Must(t, err)
	labtest.Must(t, errorOr(raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
	}), &err))
	_, err = c.Write(make([]byte, 1200))
	labtest.Must(t, err)
	o := w.stop(t)
	checkTrace(t, d.Lab, o)
	if len(o.flows) != 1 {
		t.Fatalf("got %d flows, want 1", len(o.flows))
	}
	v := o.flows[0].Verdict
	if v.Cause != path.CausePacketTooBig || v.Where == nil || v.Where.Namespace != "router" || !strings.Contains(v.Summary+strings.Join(v.Evidence, " "), "1000") {
		t.Errorf("got %s %s at %+v (%s), want %s in router with the MTU of 1000", v.Outcome, v.Cause, v.Where, v.Summary, path.CausePacketTooBig)
	}
}

// TestSilentUDP: a socket that takes the datagram and says nothing is the target's own business.
func TestSilentUDP(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	pc, err := d.Web.ListenPacket(t.Context(), "udp", "10.77.0.2:9")
	labtest.Must(t, err)
	defer pc.Close()
	o := probe(t, d.Lab, "app", "10.77.0.2:9", func(c *tracer.Config) { c.Proto = path.UDP })
	checkTrace(t, d.Lab, o)
	checkVerdict(t, o.flows[0].Verdict, path.Delivered, "")
	if got, want := o.flows[0].Path.DeliverNetNS, d.Web.Inode; got != want {
		t.Errorf("delivered in namespace %d, want %d", got, want)
	}
}
