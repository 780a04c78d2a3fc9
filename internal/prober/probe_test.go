package prober

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func open(t *testing.T, cfg Config) *Probe {
	t.Helper()
	p, err := Open(cfg)
	if err != nil {
		t.Fatalf("open %+v: %v", cfg, err)
	}
	t.Cleanup(func() { labtest.Must(t, p.Close()) })
	return p
}

// send checks the times of the result and clears them, so that the rest can be compared.
func send(t *testing.T, p *Probe) Result {
	t.Helper()
	before := monotonic()
	r := p.Send(t.Context())
	after := monotonic()
	if r.Start < before || r.RTT <= 0 || r.Start+uint64(r.RTT) > after {
		t.Errorf("times: got start %d, round trip %d, want within %d and %d", r.Start, r.RTT, before, after)
	}
	r.Start, r.RTT = 0, 0
	return r
}

func addRule(t *testing.T, ns *lab.Namespace, r lab.Rule) {
	t.Helper()
	_, err := ns.AddRule(r)
	labtest.Must(t, err)
}

// family is the demo's addresses of one IP version.
type family struct {
	name                     string
	v6                       bool
	client, router, web, app netip.Addr
}

func families(d *lab.Demo) []family {
	f := []family{{"IPv4", false, d.ClientAddr, d.RouterAddr, d.WebAddr, d.AppAddr}}
	if d.IPv6() {
		f = append(f, family{"IPv6", true, d.ClientAddr6, d.RouterAddr6, d.WebAddr6, d.AppAddr6})
	}
	return f
}

// icmp returns the error of the family that has the given type and code.
func (f family) icmp(errno unix.Errno, type4, code4, type6, code6 uint8, origin netip.Addr) Result {
	r := Result{Kind: ICMPError, Errno: errno, ICMP: ICMP{Type: type4, Code: code4, Origin: origin}}
	if f.v6 {
		r.ICMP = ICMP{V6: true, Type: type6, Code: code6, Origin: origin}
	}
	return r
}

func TestAnswers(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, f := range families(d) {
		at := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(f.router, port) }
		for _, tt := range []struct {
			name string
			cfg  Config
			want Result
		}{
			{"tcp connected", Config{Proto: path.TCP, Dst: at(lab.PublishedPort)}, Result{Kind: Connected}},
			{"tcp reset", Config{Proto: path.TCP, Dst: at(9)}, Result{Kind: Refused, Errno: unix.ECONNREFUSED}},
			{"udp answered", Config{Proto: path.UDP, Dst: at(lab.PublishedEcho), Payload: []byte("12345")}, Result{Kind: Answered, Bytes: 5}},
			{"udp without payload", Config{Proto: path.UDP, Dst: at(lab.PublishedEcho), Payload: []byte{}}, Result{Kind: Answered}},
			{"udp port unreachable", Config{Proto: path.UDP, Dst: at(9)}, f.icmp(unix.ECONNREFUSED, 3, 3, 1, 4, f.router)},
			{"icmp echo", Config{Proto: path.ICMP, Dst: at(0), Payload: []byte("123")}, Result{Kind: Answered, Bytes: 3}},
		} {
			t.Run(f.name+" "+tt.name, func(t *testing.T) {
				tt.cfg.NetNSPath = d.Client.Path
				p := open(t, tt.cfg)
				if p.Local().Addr() != f.client || p.Local().Port() == 0 {
					t.Errorf("local: got %s, want address %s and a port", p.Local(), f.client)
				}
				if got := send(t, p); got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			})
		}
	}
}

// TestFirewall sends through rules of the router and of the client itself.
func TestFirewall(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	const tcpDrop, tcpReject, tcpReset, tcpAdmin, out = 1001, 1002, 1003, 1004, 2000
	for port, action := range map[uint16]lab.Action{
		tcpDrop: lab.Drop, tcpReject: lab.Reject, tcpReset: lab.RejectReset, tcpAdmin: lab.RejectAdmin,
	} {
		addRule(t, d.Router, lab.Rule{Hook: lab.Input, Action: action, Proto: path.TCP, DstPort: port})
		addRule(t, d.Client, lab.Rule{Hook: lab.Output, Action: action, Proto: path.TCP, DstPort: port + out})
		if action != lab.RejectReset {
			addRule(t, d.Router, lab.Rule{Hook: lab.Input, Action: action, Proto: path.UDP, DstPort: port})
			addRule(t, d.Client, lab.Rule{Hook: lab.Output, Action: action, Proto: path.UDP, DstPort: port + out})
		}
	}
	const short = 50 * time.Millisecond
	for _, f := range families(d) {
		reject := func(origin netip.Addr) Result { return f.icmp(unix.ECONNREFUSED, 3, 3, 1, 4, origin) }
		admin := func(errno4 unix.Errno, origin netip.Addr) Result {
			if f.v6 {
				errno4 = unix.EACCES
			}
			return f.icmp(errno4, 3, 13, 1, 1, origin)
		}
		for _, tt := range []struct {
			name    string
			proto   path.Proto
			port    uint16
			timeout time.Duration
			want    Result
		}{
			{"tcp dropped", path.TCP, tcpDrop, short, Result{Kind: Silent}},
			{"tcp rejected", path.TCP, tcpReject, 0, reject(f.router)},
			{"tcp reset by rule", path.TCP, tcpReset, 0, Result{Kind: Refused, Errno: unix.ECONNREFUSED}},
			{"tcp prohibited", path.TCP, tcpAdmin, 0, admin(unix.EHOSTUNREACH, f.router)},
			{"udp dropped", path.UDP, tcpDrop, short, Result{Kind: Silent}},
			{"udp rejected", path.UDP, tcpReject, 0, reject(f.router)},
			{"udp prohibited", path.UDP, tcpAdmin, 0, admin(unix.EHOSTUNREACH, f.router)},
			{"tcp dropped by own output", path.TCP, out + tcpDrop, short, Result{Kind: Silent}},
			{"tcp rejected by own output", path.TCP, out + tcpReject, 0, reject(f.client)},
			{"udp dropped by own output", path.UDP, out + tcpDrop, short, Result{Kind: Unreachable, Errno: unix.EPERM}},
			{"udp rejected by own output", path.UDP, out + tcpReject, 0, reject(f.client)},
		} {
			t.Run(f.name+" "+tt.name, func(t *testing.T) {
				p := open(t, Config{NetNSPath: d.Client.Path, Proto: tt.proto, Dst: netip.AddrPortFrom(f.router, tt.port), Timeout: tt.timeout})
				if got := send(t, p); got != tt.want {
					t.Errorf("got %+v, want %+v", got, tt.want)
				}
			})
		}
	}
}

// TestRouter sends to where the router knows no way: it answers with ICMP errors, to every protocol.
func TestRouter(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	// Three errors to one host within a second are more than a router sends by default.
	labtest.Must(t, d.Router.Sysctl("net/ipv4/icmp_ratelimit", "0"))
	for _, gateway := range []netip.Addr{d.RouterAddr, d.RouterAddr6} {
		if gateway.IsValid() {
			labtest.Must(t, d.Client.AddRoute(lab.Route{Via: gateway}))
		}
	}
	far4, far6 := netip.MustParseAddr("198.51.100.9"), netip.MustParseAddr("2001:db8:9::9")
	for _, f := range families(d) {
		dst := far4
		if f.v6 {
			dst = far6
		}
		for _, proto := range []path.Proto{path.TCP, path.UDP, path.ICMP} {
			t.Run(f.name+" "+string(proto), func(t *testing.T) {
				p := open(t, Config{NetNSPath: d.Client.Path, Proto: proto, Dst: netip.AddrPortFrom(dst, 80)})
				if got, want := send(t, p), f.icmp(unix.ENETUNREACH, 3, 0, 1, 0, f.router); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			})
		}
	}
}

// TestTooBig sends a datagram that may not be fragmented to a link with a smaller MTU behind the router.
func TestTooBig(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	const mtu = 1300
	labtest.Must(t, d.Router.SetMTU(lab.BridgeDevice, mtu))
	for _, f := range families(d) {
		t.Run(f.name, func(t *testing.T) {
			labtest.Must(t, d.Client.AddRoute(lab.Route{Via: f.router}))
			p := open(t, Config{NetNSPath: d.Client.Path, Proto: path.UDP, Dst: netip.AddrPortFrom(f.web, lab.EchoPort), Payload: make([]byte, 1400)})
			want := f.icmp(unix.EMSGSIZE, 3, 4, 2, 0, f.router)
			want.ICMP.MTU = mtu
			if got := send(t, p); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

// TestNeighbour sends to an address of the own subnet that nobody has: the error is the own kernel's.
func TestNeighbour(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, f := range families(d) {
		t.Run(f.name, func(t *testing.T) {
			version := "ipv4"
			if f.v6 {
				version = "ipv6"
			}
			labtest.Must(t, d.Client.Sysctl("net/"+version+"/neigh/eth0/retrans_time_ms", "10"))
			dst := netip.AddrPortFrom(f.router.Next().Next(), 80)
			p := open(t, Config{NetNSPath: d.Client.Path, Proto: path.TCP, Dst: dst})
			if got, want := send(t, p), f.icmp(unix.EHOSTUNREACH, 3, 1, 1, 3, f.client); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestNoRoute(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	labtest.Must(t, d.Client.AddRoute(lab.Route{Dst: netip.MustParsePrefix("203.0.113.0/25"), Kind: lab.UnreachableRoute}))
	labtest.Must(t, d.Client.AddRoute(lab.Route{Dst: netip.MustParsePrefix("203.0.113.128/25"), Kind: lab.ProhibitRoute}))
	for _, tt := range []struct {
		name, dst string
		want      unix.Errno
	}{
		{"no route", "198.51.100.1", unix.ENETUNREACH},
		{"no route IPv6", "2001:db8:9::9", unix.ENETUNREACH},
		{"unreachable", "203.0.113.1", unix.EHOSTUNREACH},
		{"prohibit", "203.0.113.129", unix.EACCES},
		{"unknown zone", "fe80::1%none0", unix.ENODEV},
	} {
		for _, proto := range []path.Proto{path.TCP, path.UDP, path.ICMP} {
			t.Run(tt.name+" "+string(proto), func(t *testing.T) {
				dst := netip.AddrPortFrom(netip.MustParseAddr(tt.dst), 80)
				_, err := Open(Config{NetNSPath: d.Client.Path, Proto: proto, Dst: dst})
				var re *RouteError
				if !errors.As(err, &re) {
					t.Fatalf("got error %v, want a route error", err)
				}
				if got, want := re.Result(), (Result{Kind: Unreachable, Errno: tt.want}); got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			})
		}
	}
}

// TestRouteLostAfterOpen takes the device down between the two phases.
func TestRouteLostAfterOpen(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	p := open(t, Config{NetNSPath: d.Client.Path, Proto: path.TCP, Dst: netip.AddrPortFrom(d.RouterAddr, 80)})
	labtest.Must(t, d.Client.SetDown(lab.ClientDevice))
	if got, want := send(t, p), (Result{Kind: Unreachable, Errno: unix.ENETUNREACH}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestBind(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	second := netip.MustParseAddr("192.0.2.77")
	labtest.Must(t, d.Client.AddAddr(lab.ClientDevice, netip.PrefixFrom(second, 24)))
	from := make(chan netip.Addr, 1)
	_, err := d.Router.TCPServer(netip.AddrPortFrom(d.RouterAddr, 5000).String(), func(c net.Conn) {
		from <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
	})
	labtest.Must(t, err)
	cfg := Config{NetNSPath: d.Client.Path, Proto: path.TCP, Bind: second, Dst: netip.AddrPortFrom(d.RouterAddr, 5000)}
	p := open(t, cfg)
	if got := p.Local().Addr(); got != second {
		t.Errorf("local: got %s, want %s", got, second)
	}
	if got, want := send(t, p), (Result{Kind: Connected}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := <-from; got != second {
		t.Errorf("seen by the server: got %s, want %s", got, second)
	}
	cfg.Bind = netip.MustParseAddr("192.0.2.99")
	if _, err := Open(cfg); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("bind to a foreign address: got error %v, want %v", err, unix.EADDRNOTAVAIL)
	}
}

func TestLinkLocal(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	if !d.IPv6() {
		t.Skip("this kernel has no IPv6")
	}
	server := netip.MustParseAddr("fe80::53")
	labtest.Must(t, d.Router.AddAddr(lab.RouterDevice, netip.PrefixFrom(server, 64)))
	for _, tt := range []struct {
		proto path.Proto
		port  uint16
		want  Kind
	}{{path.TCP, lab.PublishedPort, Refused}, {path.UDP, lab.PublishedEcho, ICMPError}, {path.ICMP, 0, Answered}} {
		t.Run(string(tt.proto), func(t *testing.T) {
			dst := netip.AddrPortFrom(server.WithZone(lab.ClientDevice), tt.port)
			p := open(t, Config{NetNSPath: d.Client.Path, Proto: tt.proto, Dst: dst})
			if !p.Local().Addr().IsLinkLocalUnicast() {
				t.Errorf("local: got %s, want a link-local address", p.Local())
			}
			if got := send(t, p); got.Kind != tt.want {
				t.Errorf("got %+v, want kind %v", got, tt.want)
			}
		})
	}
}

// TestEchoSockets sends an echo through a ping socket and through a raw one.
func TestEchoSockets(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, raw := range []bool{true, false} {
		groups := "0 2147483647"
		if raw {
			groups = "1 0" // nobody
		}
		labtest.Must(t, d.Client.Sysctl("net/ipv4/ping_group_range", groups))
		for _, f := range families(d) {
			p := open(t, Config{NetNSPath: d.Client.Path, Proto: path.ICMP, Dst: netip.AddrPortFrom(f.router, 0)})
			if got := p.sock.(*icmpSocket).raw; got != raw {
				t.Errorf("%s: raw socket: got %t, want %t", f.name, got, raw)
			}
			if got := send(t, p); got.Kind != Answered {
				t.Errorf("%s raw %t: got %+v, want kind %v", f.name, raw, got, Answered)
			}
		}
	}
}

func TestConfigErrors(t *testing.T) {
	dst := netip.MustParseAddrPort("192.0.2.1:80")
	for _, cfg := range []Config{
		{Proto: path.TCP},
		{Proto: path.TCP, Dst: netip.MustParseAddrPort("0.0.0.0:80")},
		{Proto: path.UDP, Dst: netip.MustParseAddrPort("192.0.2.1:0")},
		{Proto: "sctp", Dst: dst},
		{Proto: path.TCP, Dst: dst, Bind: netip.MustParseAddr("2001:db8::1")},
	} {
		if p, err := Open(cfg); err == nil {
			p.Close()
			t.Errorf("%+v: got no error, want one", cfg)
		}
	}
}

func TestSendAfterClose(t *testing.T) {
	p, err := Open(Config{Proto: path.UDP, Dst: netip.MustParseAddrPort("127.0.0.1:9")})
	labtest.Must(t, err)
	labtest.Must(t, p.Close())
	labtest.Must(t, p.Close())
	if r := p.Send(t.Context()); !errors.Is(r.Err, os.ErrClosed) {
		t.Errorf("got %+v, want error %v", r, os.ErrClosed)
	}
}
