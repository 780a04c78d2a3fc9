//go:build e2e && bench

package e2e

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// addedRate is datagrams there and back per second: few enough that pathtrace's reader, on the other processor,
// never falls behind.
const addedRate = 4000

// benchAdded measures from outside what an observation adds: round trips of datagrams by the sender's own clock,
// with and without pathtrace in turns, divided by the observations of each. One thread sends, answers and
// receives, so that no waking of a process is in it: the kernel takes a packet to the other socket within
// the call that sends it.
func benchAdded(t *testing.T, b *bench) {
	d := labtest.Demo(t, lab.Options{Named: true, Prefix: b.prefix(t)})
	pair := newBouncer(t, d)
	var each, added []float64
	places := 0
	for turn := 0; len(each) < b.pick(5, 9); turn++ {
		if turn == 30 {
			t.Fatalf("of %d turns %d lost no event: the machine is too busy", turn, len(each))
		}
		without := pair.median(t, b)
		cmd := exec.Command(b.binary, "latency", "--docker-host", "unix://"+need(t).Hosts[0].Socket, "-o", "json", "--proto", "udp",
			"--to", pair.to.String(), "--duration", "5m")
		cmd.Env, cmd.Stderr = cleanEnv(), os.Stderr
		out, _ := b.launch(t, d.Web.Path, cmd)
		idle(t, cmd.Process.Pid)
		with := pair.median(t, b)
		report, s := endLatency(t, cmd, out)
		after := pair.median(t, b)
		if s.LostEvents > 0 || report.RoundTrip.Count == 0 {
			continue // an event that is lost costs less
		}
		places = report.Own.Observations
		each = append(each, (with-(without+after)/2)/float64(places))
		added = append(added, with-(without+after)/2)
	}
	b.report.info("round trip of datagrams, added by timing it", "%.1f µs by the sender's clock, %d observations", median(added)/1e3, places)
	b.report.atMost("latency, added per observation, by another's clock", median(each), 500, "%.0f ns", "with and without, in turns")
}

// bouncer sends datagrams between two namespaces and back.
type bouncer struct {
	to       netip.AddrPort
	from     net.Conn
	answerer net.PacketConn
}

func newBouncer(t *testing.T, d *lab.Demo) *bouncer {
	t.Helper()
	p := &bouncer{to: netip.AddrPortFrom(d.WebAddr, 5353)}
	var err error
	p.answerer, err = d.Web.ListenPacket(t.Context(), "udp", p.to.String())
	check(t, err)
	t.Cleanup(func() { p.answerer.Close() })
	p.from, err = d.App.Dial(t.Context(), "udp", p.to.String())
	check(t, err)
	t.Cleanup(func() { p.from.Close() })
	return p
}

// median returns what a round trip takes, ns.
func (p *bouncer) median(t *testing.T, b *bench) float64 {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buf := make([]byte, 64)
	var times []float64
	next := time.Now()
	for range b.pick(1, 3) * addedRate {
		for time.Now().Before(next) { // asleep, the processor's caches would be others'
			continue
		}
		next = next.Add(time.Second / addedRate)
		start := time.Now()
		_, err := p.from.Write(buf)
		check(t, err)
		_, sender, err := p.answerer.ReadFrom(buf)
		check(t, err)
		_, err = p.answerer.WriteTo(buf, sender)
		check(t, err)
		_, err = p.from.Read(buf)
		check(t, err)
		times = append(times, float64(time.Since(start)))
	}
	return median(times)
}
