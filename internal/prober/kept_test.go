package prober

import (
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

// kept opens a connection from app to a server in web that handles connections so.
func kept(t *testing.T, handle func(net.Conn)) *Kept {
	t.Helper()
	d := labtest.Demo(t, lab.Options{})
	s, err := d.Web.TCPServer(":99", handle)
	labtest.Must(t, err)
	k, err := OpenKept(Config{
		NetNSPath: d.App.Path, Proto: path.TCP, Dst: netip.AddrPortFrom(d.WebAddr, s.Addr.Port()), Payload: []byte("12345678"),
		Timeout: labtest.Patience(500 * time.Millisecond),
	})
	labtest.Must(t, err)
	t.Cleanup(func() { labtest.Must(t, k.Close()) })
	if k.Local().Addr() != d.AppAddr || k.Local().Port() == 0 {
		t.Errorf("local address %s, want a port of %s", k.Local(), d.AppAddr)
	}
	labtest.Must(t, k.Connect(t.Context()))
	return k
}

// TestKept: many exchanges over one connection, with the kernel's time of each answer between ours.
func TestKept(t *testing.T) {
	k := kept(t, func(c net.Conn) {
		buf := make([]byte, 8)
		for {
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			if _, err := c.Write(append(buf, " and more"...)); err != nil {
				return
			}
		}
	})
	last, stamped := monotonic(), 0
	for range 200 {
		x, err := k.Exchange()
		labtest.Must(t, err)
		if string(x.Answer[:8]) != "12345678" || x.Sent < last || x.Received <= x.Sent {
			t.Fatalf("%+v after %d", x, last)
		}
		// The clocks are read one after the other.
		const slack = 100_000
		if x.Arrived != 0 { // the kernel begins to take times a moment after the first socket asks for them
			stamped++
		}
		if x.Arrived != 0 && (x.Arrived+slack < x.Sent || x.Arrived > x.Received+slack) {
			t.Errorf("arrived at %d, not between %d and %d", x.Arrived, x.Sent, x.Received)
		}
		last = x.Received
	}
	if stamped == 0 {
		t.Error("no answer has the kernel's time")
	}
}

func TestKeptHungUp(t *testing.T) {
	k := kept(t, func(c net.Conn) {
		buf := make([]byte, 8)
		_, _ = io.ReadFull(c, buf)
		_, _ = c.Write(buf)
	})
	_, err := k.Exchange()
	labtest.Must(t, err)
	if _, err := k.Exchange(); !errors.Is(err, ErrHungUp) {
		t.Errorf("after the server closed: %v, want ErrHungUp", err)
	}
}

func TestKeptSilent(t *testing.T) {
	k := kept(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	if _, err := k.Exchange(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("without an answer: %v, want os.ErrDeadlineExceeded", err)
	}
}

func FuzzParseStamp(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 64))
	f.Fuzz(func(_ *testing.T, oob []byte) { parseStamp(oob) })
}
