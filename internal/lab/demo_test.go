package lab_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// get asks the web server at addr for its page and returns the client's address.
func get(t *testing.T, from *lab.Namespace, addr netip.AddrPort) netip.AddrPort {
	t.Helper()
	c, err := from.Dial(t.Context(), "tcp", addr.String())
	if err != nil {
		t.Errorf("%s to %s: got error %v, want a connection", from.Name, addr, err)
		return netip.AddrPort{}
	}
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
	labtest.Must(t, err)
	page, err := io.ReadAll(c)
	labtest.Must(t, err)
	if want := "hello\n"; len(page) < len(want) || string(page[len(page)-len(want):]) != want {
		t.Errorf("%s to %s: got page %q, want one that ends in %q", from.Name, addr, page, want)
	}
	return c.LocalAddr().(*net.TCPAddr).AddrPort()
}

// dialError connects and returns the error, nil if there was none; every timeout is
// context.DeadlineExceeded, whoever noticed it first.
func dialError(t *testing.T, from *lab.Namespace, addr netip.AddrPort, limit time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", addr.String())
	if err == nil {
		c.Close()
	}
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return context.DeadlineExceeded
	}
	return err
}

func TestDemoPaths(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, v6 := range []bool{false, true} {
		web := netip.AddrPortFrom(d.WebAddr, lab.WebPort)
		if v6 {
			if !d.IPv6() {
				continue
			}
			web = netip.AddrPortFrom(d.WebAddr6, lab.WebPort)
		}
		get(t, d.Client, d.Published(v6)) // DNAT
		get(t, d.Router, d.Published(v6)) // DNAT of the router's own
		get(t, d.App, d.Published(v6))    // hairpin to another port of the bridge
		get(t, d.Web, d.Published(v6))    // hairpin to the same port
		get(t, d.App, web)                // bridged
		get(t, d.Router, web)             // from the bridge's own address
	}
}

func TestDemoMasquerade(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	from := make(chan netip.Addr, 1)
	seen := func(c net.Conn) { from <- c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap() }
	s, err := d.Client.TCPServer(":80", seen)
	labtest.Must(t, err)
	outside := []struct{ server, want netip.Addr }{{d.ClientAddr, d.RouterAddr}}
	if d.IPv6() {
		outside = append(outside, struct{ server, want netip.Addr }{d.ClientAddr6, d.RouterAddr6})
	}
	for _, tt := range outside {
		labtest.Must(t, dialError(t, d.Web, netip.AddrPortFrom(tt.server, s.Addr.Port()), time.Second))
		if got := <-from; got != tt.want {
			t.Errorf("web to client: the server saw %s, want %s", got, tt.want)
		}
	}
}

func TestDemoUDP(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, router := range []netip.Addr{d.RouterAddr, d.RouterAddr6} {
		if !router.IsValid() {
			continue
		}
		c, err := d.Client.Dial(t.Context(), "udp", netip.AddrPortFrom(router, lab.PublishedEcho).String())
		labtest.Must(t, err)
		defer c.Close()
		labtest.Must(t, c.SetDeadline(time.Now().Add(time.Second)))
		_, err = c.Write([]byte("ping"))
		labtest.Must(t, err)
		buf := make([]byte, 16)
		n, err := c.Read(buf)
		if got, want := string(buf[:n]), "ping"; got != want || err != nil {
			t.Errorf("echo of %s: got %q, %v, want %q", router, got, err, want)
		}
	}
}

func TestDropWeb(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	rule, err := d.DropWeb()
	labtest.Must(t, err)
	if err := dialError(t, d.Client, d.Published(false), 50*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("through the rule: got error %v, want %v", err, context.DeadlineExceeded)
	}
	labtest.Must(t, rule.Remove())
	get(t, d.Client, d.Published(false))
}

func TestSwitches(t *testing.T) {
	rule := func(r lab.Rule) func(*lab.Demo) error {
		return func(d *lab.Demo) error { _, err := d.Router.AddRule(r); return err }
	}
	for _, tt := range []struct {
		name string
		do   func(*lab.Demo) error
		want error
	}{
		{"reject", rule(lab.Rule{Hook: lab.Forward, Action: lab.Reject, Proto: path.TCP, In: lab.RouterDevice, Out: lab.BridgeDevice}), unix.ECONNREFUSED},
		{"reset", rule(lab.Rule{Hook: lab.Forward, Action: lab.RejectReset, Proto: path.TCP}), unix.ECONNREFUSED},
		{"prohibited", rule(lab.Rule{Hook: lab.Forward, Action: lab.RejectAdmin, Src: netip.MustParsePrefix("192.0.2.0/24")}), unix.EHOSTUNREACH},
		{"accept", rule(lab.Rule{Hook: lab.Forward, Action: lab.Accept}), nil},
		{"other source", rule(lab.Rule{Hook: lab.Forward, Action: lab.Drop, Src: netip.MustParsePrefix("192.0.2.128/25")}), nil},
		{"other port", rule(lab.Rule{Hook: lab.Forward, Action: lab.Drop, Proto: path.TCP, DstPort: 81}), nil},
		{"not translated", rule(lab.Rule{Hook: lab.Input, Action: lab.Drop, Translated: true}), nil},
		{"translated", rule(lab.Rule{Hook: lab.Forward, Action: lab.RejectReset, Proto: path.TCP, Translated: true}), unix.ECONNREFUSED},
		{"policy", func(d *lab.Demo) error { return d.Router.SetPolicy(lab.Forward, true) }, context.DeadlineExceeded},
		{"forwarding off", func(d *lab.Demo) error { return d.Router.Sysctl("net/ipv4/ip_forward", "0") }, context.DeadlineExceeded},
		{"client's device down", func(d *lab.Demo) error { return d.Client.SetDown(lab.ClientDevice) }, unix.ENETUNREACH},
		{"port of the bridge down", func(d *lab.Demo) error { return d.Router.SetDown(lab.WebPortDev) }, context.DeadlineExceeded},
		{"device deleted", func(d *lab.Demo) error { return d.Web.DeleteLink(lab.ClientDevice) }, context.DeadlineExceeded},
		{"unreachable route", func(d *lab.Demo) error {
			return d.Router.AddRoute(lab.Route{Dst: netip.PrefixFrom(d.WebAddr, 32), Kind: lab.UnreachableRoute})
		}, unix.EHOSTUNREACH},
		{"no way back", func(d *lab.Demo) error { return d.Web.DeleteRoute(lab.Route{Via: d.GatewayAddr}) }, context.DeadlineExceeded},
		{"reverse path filter", func(d *lab.Demo) error {
			err := d.Router.AddRoute(lab.Route{Dst: netip.PrefixFrom(d.ClientAddr, 32), Device: lab.BridgeDevice})
			return errors.Join(err, d.Router.Sysctl("net/ipv4/conf/"+lab.RouterDevice+"/rp_filter", "1"))
		}, context.DeadlineExceeded},
		{"wrong neighbour", func(d *lab.Demo) error {
			return d.Router.Neighbour(lab.BridgeDevice, d.WebAddr, net.HardwareAddr{2, 0, 0, 0, 0, 9})
		}, context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := labtest.Demo(t, lab.Options{})
			labtest.Must(t, tt.do(d))
			if got := dialError(t, d.Client, d.Published(false), 80*time.Millisecond); !errors.Is(got, tt.want) {
				t.Errorf("client to web: got error %v, want %v", got, tt.want)
			}
		})
	}
}

// TestTimes takes the best of a few runs: the machine may be busy with other things.
func TestTimes(t *testing.T) {
	labtest.NeedsRoot(t)
	const limit = 300 * time.Millisecond
	build, teardown := time.Hour, time.Hour
	for range 5 {
		start := time.Now()
		d, err := lab.NewDemo(t.Context(), lab.Options{})
		labtest.Must(t, err)
		built := time.Now()
		labtest.Must(t, d.Close())
		build, teardown = min(build, built.Sub(start)), min(teardown, time.Since(built))
	}
	if build > limit || teardown > limit {
		t.Errorf("times: got build %v, teardown %v, want at most %v each", build, teardown, limit)
	}
}
