package probe

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/wire"
)

const (
	etherHeader = 14
	ipUDP       = 28 // headers of UDP over IPv4
)

// capturing returns the events of a datagram with the payload over the loopback device.
func capturing(t *testing.T, cfg Config, payload string) []wire.Event {
	t.Helper()
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	a, b := open(t, ns, "127.0.0.1:0"), open(t, ns, "127.0.0.1:0")
	s := load(t, cfg)
	if s.NeedsNetNS() {
		attach(t, s, ns)
	}
	labtest.Must(t, s.Watch(Endpoint{Addr: b.addr(), Proto: wire.ProtoUDP}))
	r, err := s.Reader()
	labtest.Must(t, err)
	t.Cleanup(func() { r.Close() })
	_, err = a.WriteTo([]byte(payload), net.UDPAddrFromAddrPort(b.addr()))
	labtest.Must(t, err)
	events := drain(t, r, ns.Inode)
	if len(events) == 0 {
		t.Fatal("no event of the datagram")
	}
	return events
}

// TestCapture: the bytes are those of the packet, from the Ethernet header on at the devices, from the
// IP header on in the netfilter hooks of the stack.
func TestCapture(t *testing.T) {
	payload := strings.Repeat("payload!", 40)
	for _, tt := range []struct {
		name string
		cfg  Config
		keep func(headers int) int // bytes of a packet with so long headers
	}{
		{"headers", Config{Snaplen: 192, HeadersOnly: true}, func(h int) int { return h }},
		{"cut", Config{Snaplen: 96}, func(int) int { return 96 }},
		{"not a multiple of eight", Config{Snaplen: 90}, func(int) int { return 90 }},
		{"all", Config{Snaplen: 65535}, func(h int) int { return h + len(payload) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen := map[wire.Hook]bool{}
			for _, e := range capturing(t, tt.cfg, payload) {
				if e.Skb == 0 || e.Hook == wire.SocketDataReady {
					continue
				}
				seen[e.Hook] = true
				checkCapture(t, &e, tt.keep, payload)
			}
			for _, h := range []wire.Hook{wire.DevQueue, wire.DevXmit, wire.DevReceive, wire.NetfilterEnter} {
				if !seen[h] {
					t.Errorf("no bytes at %v", h)
				}
			}
		})
	}
}

func checkCapture(t *testing.T, e *wire.Event, keep func(int) int, payload string) {
	t.Helper()
	c := e.Capture
	if c == nil {
		t.Errorf("%v: nothing captured", e.Hook)
		return
	}
	link := 0
	switch {
	case e.Hook <= wire.DevReceive:
		link = etherHeader
	case e.Hook == wire.NetfilterEnter || e.Hook == wire.NetfilterLeave:
		if e.NFHook == wire.NFPrerouting || e.NFHook == wire.NFInput {
			link = etherHeader
		}
	default:
		link = int(c.Link) // whether the device is still known differs between kernels
	}
	if int(c.Link) != link || int(c.Length) != link+ipUDP+len(payload) || len(c.Bytes) != keep(link+ipUDP) {
		t.Errorf("%v %d: header of %d, %d bytes of %d, want %d, %d of %d", e.Hook, e.NFHook, c.Link, len(c.Bytes), c.Length,
			link, keep(link+ipUDP), link+ipUDP+len(payload))
		return
	}
	if ip := c.Bytes[link:]; ip[0] != 0x45 || ip[9] != wire.ProtoUDP || !bytes.HasPrefix([]byte(payload), ip[ipUDP:]) {
		t.Errorf("%v: bytes %x are not the datagram", e.Hook, c.Bytes)
	}
}

// TestNoCapture: who asks for nothing gets nothing, at no price: the verifier has removed the code.
func TestNoCapture(t *testing.T) {
	for _, e := range capturing(t, Config{}, "x") {
		if e.Capture != nil {
			t.Errorf("%v: captured unasked", e.Hook)
		}
	}
	plain, more := instructions(t, Config{}), instructions(t, Config{Snaplen: 192})
	for _, name := range []string{"net_dev_queue", "netif_receive_skb"} {
		if plain[name]+20 > more[name] {
			t.Errorf("%s has %d instructions without and %d with capturing: the code is not removed", name, plain[name], more[name])
		}
	}
}

// instructions counts those of the loaded programs.
func instructions(t *testing.T, cfg Config) map[string]int {
	t.Helper()
	out := map[string]int{}
	for name, p := range load(t, cfg).Programs() {
		info, err := p.Info()
		labtest.Must(t, err)
		size, err := info.TranslatedSize()
		if err != nil {
			t.Skipf("this kernel does not show its programs: %v", err)
		}
		out[name] = size / 8
	}
	return out
}

// TestInlineCapture: what older kernels get can copy bytes as well.
func TestInlineCapture(t *testing.T) {
	labtest.NeedsRoot(t)
	for family, read := range inlineFamilies() {
		if strings.HasPrefix(family, "function") {
			continue // not every kernel lets functions be probed
		}
		spec, err := read()
		labtest.Must(t, err)
		for name := range spec.Programs {
			if strings.HasSuffix(name, "_plain") {
				delete(spec.Programs, name) // its arguments are those of older kernels
			}
		}
		labtest.Must(t, spec.Variables["config"].Set(settings(Config{Snaplen: 192})))
		coll, err := ebpf.NewCollection(spec)
		if err != nil {
			t.Errorf("object %s: %v", family, err)
			continue
		}
		coll.Close()
	}
}

// TestCapturePages: the payload of a local socket's segment lies in pages behind the linear part.
func TestCapturePages(t *testing.T) {
	var major, minor int
	_, err := fmt.Sscanf(kernel.Release(), "%d.%d", &major, &minor)
	labtest.Must(t, err)
	if major < 6 || major == 6 && minor < 12 {
		t.Skip("tracing programs of this kernel cannot read it")
	}
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	got := make(chan []byte, 1)
	_, err = ns.TCPServer("127.0.0.1:80", func(c net.Conn) {
		b, _ := io.ReadAll(c)
		got <- b
	})
	labtest.Must(t, err)
	s := load(t, Config{Snaplen: 4000, AllPackets: true})
	if s.NeedsNetNS() {
		attach(t, s, ns)
	}
	labtest.Must(t, s.Watch(Endpoint{Addr: netip.MustParseAddrPort("127.0.0.1:80"), Proto: wire.ProtoTCP}))
	r, err := s.Reader()
	labtest.Must(t, err)
	t.Cleanup(func() { r.Close() })
	c, err := ns.Dial(t.Context(), "tcp", "127.0.0.1:80")
	labtest.Must(t, err)
	payload := bytes.Repeat([]byte("0123456789abcdef"), 150)
	_, err = c.Write(payload)
	labtest.Must(t, err)
	labtest.Must(t, c.Close())
	if b := <-got; !bytes.Equal(b, payload) {
		t.Fatalf("%d bytes arrived", len(b))
	}
	seen := 0
	for _, e := range drain(t, r, ns.Inode) {
		// Where netfilter is watched by a probe of its function, that one cannot.
		if int(e.Payload) != len(payload) || e.Hook > wire.DevReceive {
			continue
		}
		seen++
		if e.Capture == nil {
			t.Errorf("%v: nothing was copied", e.Hook)
			continue
		}
		if b := e.Capture.Bytes; int(e.Capture.Length) != len(b) || !bytes.HasSuffix(b, payload) {
			t.Errorf("%v %d: %d bytes of %d", e.Hook, e.NFHook, len(b), e.Capture.Length)
		}
	}
	if seen < 3 {
		t.Errorf("the segment was seen %d times", seen)
	}
}
