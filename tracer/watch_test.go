package tracer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// dial opens and closes one connection and returns the client's end.
func dial(t *testing.T, from *lab.Namespace, to netip.AddrPort, limit time.Duration) (netip.AddrPort, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", to.String())
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), nil
}

// TestWatchMany: fifty connections, each with a verdict of its own.
func TestWatchMany(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	const n = 50
	w := watch(t, d.Lab, d.Published(false).String(), func(c *tracer.Config) { c.Count = n })
	ends := make(chan netip.AddrPort, n)
	var group sync.WaitGroup
	for range 5 {
		group.Go(func() {
			for range n / 5 {
				end, err := dial(t, d.Client, d.Published(false), 5*time.Second)
				if err != nil {
					t.Errorf("connect: %v", err)
				}
				ends <- end
			}
		})
	}
	group.Wait()
	close(ends)
	o := w.wait(t)
	checkTrace(t, d.Lab, o)
	verdicts := map[netip.AddrPort]int{}
	for _, f := range o.flows {
		checkVerdict(t, f.Verdict, path.Delivered, "")
		verdicts[f.Path.Client]++
		checkWay(t, "request", first(f.Path, path.Request), watchedWay(ways()[0].request))
		checkWay(t, "reply", first(f.Path, path.Reply), watchedWay(ways()[0].reply))
	}
	for end := range ends {
		if got := verdicts[end]; got != 1 {
			t.Errorf("connection from %s has %d verdicts, want 1", end, got)
		}
	}
	if got, want := o.result.Flows[path.Delivered], n; got != want {
		t.Errorf("delivered: got %d, want %d", got, want)
	}
}

// TestWatchCount: it ends by itself after so many flows.
func TestWatchCount(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	w := watch(t, d.Lab, d.Published(false).String(), func(c *tracer.Config) { c.Count = 2 })
	for range 2 {
		_, err := dial(t, d.Client, d.Published(false), 5*time.Second)
		labtest.Must(t, err)
	}
	o := w.wait(t)
	if got, want := len(o.flows), 2; got != want {
		t.Errorf("got %d flows, want %d", got, want)
	}
}

// TestWatchMixed: delivered, dropped and refused connections at the same time keep their verdicts.
func TestWatchMixed(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	good, bad := netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("192.0.2.11")
	for _, a := range []netip.Addr{good, bad} {
		labtest.Must(t, d.Client.AddAddr(lab.ClientDevice, netip.PrefixFrom(a, 24)))
	}
	_, err := d.Router.AddRule(lab.Rule{Hook: lab.Forward, Action: lab.Drop, Src: netip.PrefixFrom(bad, 32)})
	labtest.Must(t, err)
	w := watch(t, d.Lab, d.Published(false).String(), nil)
	from := func(a netip.Addr, limit time.Duration) {
		labtest.Must(t, d.Client.Do(func() error {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: a.AsSlice()}, Timeout: limit}
			c, err := dialer.DialContext(t.Context(), "tcp", d.Published(false).String())
			if err == nil {
				c.Close()
			}
			return nil // the verdict tells
		}))
	}
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() { from(good, time.Second) })
		group.Go(func() { from(bad, 100*time.Millisecond) })
	}
	group.Wait()
	o := w.stop(t)
	checkTrace(t, d.Lab, o)
	for _, f := range o.flows {
		switch f.Path.Client.Addr() {
		case good:
			checkVerdict(t, f.Verdict, path.Delivered, "")
		case bad:
			checkVerdict(t, f.Verdict, path.Dropped, path.CauseFirewallDrop)
		default:
			t.Errorf("a flow from %s, which sent nothing", f.Path.Client)
		}
	}
	if got := fmt.Sprint(o.result.Flows); got != "map[delivered:3 dropped:3]" {
		t.Errorf("flows: got %s, want 3 delivered and 3 dropped", got)
	}
}

// TestWatchSilence: without traffic there is a hint after three seconds and a verdict at the end.
func TestWatchSilence(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	start := time.Now()
	w := watch(t, d.Lab, "web:80", func(c *tracer.Config) { c.Duration = 4500 * time.Millisecond })
	o := w.wait(t)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v, want a little more than 4.5 s", took)
	}
	if got, want := len(o.flows), 1; got != want {
		t.Fatalf("got %d flows, want %d", got, want)
	}
	checkVerdict(t, o.flows[0].Verdict, path.NoTraffic, "")
	if got := strings.Join(o.notes, "\n"); !strings.Contains(got, "no traffic to web:80 yet") || !strings.Contains(got, "--from") {
		t.Errorf("notes: got %q, want the hint with --from", got)
	}
	if !o.flows[0].Verdict.Complete {
		t.Error("silence is not told as complete")
	}
}

// startConnect begins a connection without waiting for it.
func startConnect(t *testing.T, from *lab.Namespace, to netip.AddrPort) (fd int) {
	t.Helper()
	labtest.Must(t, from.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		if errors.Is(err, unix.EINPROGRESS) {
			err = nil
		}
		return err
	}))
	return fd
}

// TestWatchRetransmission: a segment that is sent again is told as such, in one flow.
func TestWatchRetransmission(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	rule, err := d.DropWeb()
	labtest.Must(t, err)
	w := watch(t, d.Lab, d.Published(false).String(), func(c *tracer.Config) { c.Timeout, c.Count = 3*time.Second, 1 })
	// The first SYN is sent, and dropped, before connect returns; the second finds the way free.
	fd := startConnect(t, d.Client, d.Published(false))
	defer unix.Close(fd)
	labtest.Must(t, rule.Remove())
	o := w.wait(t)
	checkTrace(t, d.Lab, o)
	f := o.flows[0]
	checkVerdict(t, f.Verdict, path.Delivered, "")
	syns, again := 0, 0
	for _, p := range f.Path.Packets {
		if p.Direction == path.Request && p.TCPFlags == "S" {
			syns++
			if p.Retransmission {
				again++
			}
		}
	}
	if syns != 2 || again != 1 {
		t.Errorf("got %d SYNs, %d of them sent again; want 2 and 1", syns, again)
	}
}

// TestWatchUDP: datagrams to a published port, with and without an answer.
func TestWatchUDP(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	to := netip.AddrPortFrom(d.RouterAddr, lab.PublishedEcho)
	w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.Proto = path.UDP })
	c, err := d.Client.Dial(t.Context(), "udp", to.String())
	labtest.Must(t, err)
	defer c.Close()
	for range 3 {
		labtest.Must(t, c.SetDeadline(time.Now().Add(2*time.Second)))
		_, err = c.Write([]byte("ping"))
		labtest.Must(t, err)
		_, err = c.Read(make([]byte, 16))
		labtest.Must(t, err)
	}
	o := w.stop(t)
	checkTrace(t, d.Lab, o)
	if got, want := len(o.flows), 1; got != want {
		t.Fatalf("got %d flows, want %d", got, want)
	}
	checkVerdict(t, o.flows[0].Verdict, path.Delivered, "")
	if got, want := len(o.flows[0].Path.Packets), 6; got != want {
		t.Errorf("got %d packets, want %d", got, want)
	}
}
