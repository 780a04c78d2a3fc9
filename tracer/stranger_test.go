package tracer_test

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestStranger: the kernel gives the memory of a packet that a hook dropped to the next one, which enters the same
// hook and is translated there, as questions to Docker's name server are. It is nobody's whom we follow.
func TestStranger(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	ends := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")}
	labtest.Must(t, lab.Veth(lab.End{NS: a, Name: "eth0", Addrs: ends[:1]}, lab.End{NS: b, Name: "eth0", Addrs: ends[1:]}))
	for _, ns := range l.Namespaces() {
		labtest.Must(t, ns.WaitUp(t.Context()))
	}
	shell(t, a, "nft 'add table ip x; add chain ip x nat { type nat hook output priority -100; };"+
		" add rule ip x nat ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.1:5353;"+
		" add chain ip x out { type filter hook output priority 10; }; add rule ip x out udp dport 9 drop'")
	_, err := a.UDPEcho("127.0.0.1:5353")
	labtest.Must(t, err)
	w := watch(t, l, "192.0.2.2:9", func(c *tracer.Config) { c.Proto = path.UDP })
	runtime.LockOSThread() // never unlocked: the thread ends with its affinity
	stayOnProcessor(t)
	for range 200 {
		ours, err := a.Dial(t.Context(), "udp", "192.0.2.2:9")
		labtest.Must(t, err)
		theirs, err := a.Dial(t.Context(), "udp", "127.0.0.11:53")
		labtest.Must(t, err)
		_, _ = ours.Write([]byte("dropped")) // and the sender is told
		askAndClose(t, theirs)
		ours.Close()
	}
	o := w.stop(t)
	for _, f := range o.flows {
		if f.Path.Server.Port() != 9 {
			t.Fatalf("%s to %s is none of what was asked for: %s", f.Path.Client, f.Path.Server, f.Verdict.Summary)
		}
	}
	if len(o.flows) == 0 {
		t.Error("nothing was seen")
	}
}

// stayOnProcessor keeps the thread on one of its processors.
func stayOnProcessor(t *testing.T) {
	t.Helper()
	var allowed, one unix.CPUSet
	labtest.Must(t, unix.SchedGetaffinity(0, &allowed))
	for i := 0; one.Count() == 0; i++ {
		if allowed.IsSet(i) {
			one.Set(i)
		}
	}
	labtest.Must(t, unix.SchedSetaffinity(0, &one))
}

// askAndClose has a datagram sent back.
func askAndClose(t *testing.T, c net.Conn) {
	t.Helper()
	defer c.Close()
	_, err := c.Write([]byte("question"))
	labtest.Must(t, err)
	labtest.Must(t, c.SetReadDeadline(time.Now().Add(labtest.Patience(10*time.Second))))
	_, err = c.Read(make([]byte, 100))
	labtest.Must(t, err)
}
