package prober

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestNamespaceVanishes(t *testing.T) {
	gone := func(t *testing.T, vanish func(*lab.Lab), sendAfter bool) {
		labtest.NeedsRoot(t)
		l := lab.New(lab.Options{Named: true})
		defer l.Close()
		ns := labtest.Namespace(t, l, "source")
		labtest.Must(t, lab.Veth(lab.End{NS: ns, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}},
			lab.End{NS: labtest.Namespace(t, l, "peer"), Name: "eth0"}))
		freed := labtest.Watch(t, ns.Path)
		p := open(t, Config{NetNSPath: ns.Path, Proto: path.TCP, Dst: netip.MustParseAddrPort("192.0.2.1:80"), Timeout: time.Minute})
		if sendAfter {
			vanish(l)
		} else {
			// The SYN is out, waiting for a neighbour, when the namespace goes.
			p.sock = &hookedSocket{socket: p.sock, sent: func() { vanish(l) }}
		}
		r := p.Send(t.Context())
		if got, want := r.Kind, NamespaceVanished; got != want {
			t.Errorf("got %v (%+v), want %v", got, r, want)
		}
		labtest.Must(t, p.Close())
		freed(5 * time.Second)
	}
	closeLab := func(l *lab.Lab) { labtest.Must(t, l.Close()) }
	t.Run("before Send", func(t *testing.T) { gone(t, closeLab, true) })
	t.Run("during Send", func(t *testing.T) { gone(t, closeLab, false) })
}

// hookedSocket calls sent after the probe was sent.
type hookedSocket struct {
	socket
	sent func()
}

func (s *hookedSocket) send() error {
	err := s.socket.send()
	s.sent()
	return err
}

func TestNamespaceError(t *testing.T) {
	file := t.TempDir() + "/dead"
	labtest.Must(t, os.WriteFile(file, nil, 0o600))
	for _, p := range []string{"/run/netns/no-such-namespace", file} {
		_, err := Open(Config{NetNSPath: p, Proto: path.TCP, Dst: netip.MustParseAddrPort("192.0.2.1:80")})
		var ne *NamespaceError
		if !errors.As(err, &ne) || ne.Path != p {
			t.Errorf("%s: got error %v, want a namespace error", p, err)
		}
	}
}

func TestCancel(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	addRule(t, d.Router, lab.Rule{Hook: lab.Prerouting, Action: lab.Drop})
	for _, proto := range []path.Proto{path.TCP, path.UDP, path.ICMP} {
		t.Run(string(proto), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			p := open(t, Config{NetNSPath: d.Client.Path, Proto: proto, Dst: netip.AddrPortFrom(d.RouterAddr, 80), Timeout: time.Hour})
			p.sock = &hookedSocket{socket: p.sock, sent: cancel}
			if r := p.Send(ctx); r.Kind != Canceled || !errors.Is(r.Err, context.Canceled) {
				t.Errorf("got %+v, want kind %v", r, Canceled)
			}
		})
	}
}

// TestPoliteClose: the server sees an end of file, not a reset, even if it spoke first and unasked.
func TestPoliteClose(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	ended := make(chan error, 1)
	dst := netip.AddrPortFrom(d.RouterAddr, 5022)
	_, err := d.Router.TCPServer(dst.String(), func(c net.Conn) {
		_, err := c.Write([]byte("220 a greeting\r\n"))
		if err == nil {
			_, err = io.Copy(io.Discard, c)
		}
		ended <- err
	})
	labtest.Must(t, err)
	p := open(t, Config{NetNSPath: d.Client.Path, Proto: path.TCP, Dst: dst})
	if got, want := send(t, p), (Result{Kind: Connected}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	labtest.Must(t, p.Close())
	if err := <-ended; err != nil {
		t.Errorf("end of the connection at the server: got %v, want end of file", err)
	}
}

// TestCloseFreesNamespace: neither a closed connection nor one whose FIN was lost keeps a namespace.
func TestCloseFreesNamespace(t *testing.T) {
	labtest.NeedsRoot(t)
	for _, lost := range []bool{false, true} {
		d, err := lab.NewDemo(t.Context(), lab.Options{})
		labtest.Must(t, err)
		freed := labtest.Watch(t, d.Client.Path)
		p := open(t, Config{NetNSPath: d.Client.Path, Proto: path.TCP, Dst: d.Published(false)})
		if lost {
			p.sock = &brokenSocket{socket: p.sock, connected: func() { addRule(t, d.Router, lab.Rule{Hook: lab.Prerouting, Action: lab.Drop}) }}
		}
		if r := p.Send(t.Context()); r.Kind != Connected {
			t.Errorf("got %+v, want kind %v", r, Connected)
		}
		labtest.Must(t, p.Close())
		labtest.Must(t, d.Close())
		freed(5 * time.Second)
	}
}

// brokenSocket calls connected once, before the connection is closed.
type brokenSocket struct {
	socket
	connected func()
}

func (s *brokenSocket) receive() (Result, bool) {
	r, ok := s.socket.receive()
	if ok {
		s.connected()
	}
	return r, ok
}
