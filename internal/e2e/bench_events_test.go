//go:build e2e && bench

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// wantedRate is what has to be taken without loss, events per second.
const wantedRate = 500e3

// perDatagram is what one datagram over the loopback device of a namespace makes whatever becomes of
// it in the end: it enters and leaves four netfilter hooks.
func perDatagram() map[string]uint64 {
	return map[string]uint64{"net_dev_queue": 1, "net_dev_start_xmit": 1, "netif_receive_skb": 1, "netfilter": 8}
}

// allPerDatagram adds being queued to the socket and read.
const allPerDatagram = 13

// floodTarget is a namespace whose loopback device has an address that is its own, with a sink.
type floodTarget struct {
	ns   *lab.Namespace
	addr netip.AddrPort
}

func (b *bench) floodTarget(t *testing.T) floodTarget {
	t.Helper()
	l := labtest.New(t, lab.Options{Named: true, Prefix: strings.TrimSuffix(need(t).Outside, "outside") + "bench-"})
	f := floodTarget{labtest.Namespace(t, l, "flood"), netip.MustParseAddrPort("10.213.99.1:9000")}
	check(t, f.ns.AddAddr("lo", netip.PrefixFrom(f.addr.Addr(), 32)))
	b.sink(t, f.ns, f.addr.String())
	return f
}

// send sends datagrams and returns how many, and how long it took. A rate of 0 is no limit.
func (b *bench) send(t *testing.T, f floodTarget, rate, count int) (uint64, time.Duration) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(b.traffic, "udp", f.addr.String(), strconv.Itoa(datagram), strconv.Itoa(rate), strconv.Itoa(count))
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	check(t, f.ns.Do(cmd.Start))
	err := cmd.Wait()
	took := time.Since(start)
	sent, parseErr := strconv.ParseUint(strings.TrimSpace(out.String()), 10, 64)
	if err != nil || parseErr != nil {
		t.Fatalf("send datagrams: %v: %s", err, out.String())
	}
	return sent, took
}

// watch starts a pathtrace that watches the flood.
func (b *bench) watch(t *testing.T, f floodTarget) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	cmd := b.command(need(t).Hosts[0], "--to", f.addr.String(), "--proto", "udp")
	out, _ := b.launch(t, f.ns.Path, cmd)
	return cmd, out
}

// flow is one flood as pathtrace saw it.
type flow struct {
	rate float64 // events per second that were produced
	stats
}

// run floods a pathtrace of its own for a time.
func (b *bench) run(t *testing.T, f floodTarget, eventRate float64, seconds float64) flow {
	t.Helper()
	cmd, out := b.watch(t, f)
	packets := eventRate / allPerDatagram
	_, took := b.send(t, f, int(packets), int(packets*seconds))
	s := finish(t, cmd, out)
	return flow{float64(s.Events+s.LostEvents) / took.Seconds(), s}
}

// benchEvents measures how many events per second pathtrace takes without loss: the built command, from
// the ring buffer through the tracker to the verdict. Sender, kernel and receiver share the processors
// with it.
func benchEvents(t *testing.T, b *bench) {
	f := b.floodTarget(t)
	seconds := float64(b.pick(1, 3))
	lossless, tries, lost := 0, b.pick(2, 5), uint64(0)
	var rates, cpu []float64
	for range tries {
		r := b.run(t, f, wantedRate*1.02, seconds) // the pace of the sender is a little uneven
		rates, cpu = append(rates, r.rate), append(cpu, float64(r.CPUNS)/float64(r.Events))
		if lost += r.LostEvents; r.LostEvents == 0 {
			lossless++
		}
	}
	b.report.atMost("events lost at 500,000 events/s", float64(lost), 0, "%.0f",
		fmt.Sprintf("%d of %d floods of %.0f s without loss, at %.0f events/s", lossless, tries, seconds, median(rates)))
	b.report.info("processor time per event, in user space", "%.0f ns", median(cpu))
	best, factor := quantile(rates, 0), 1.25
	if lost > 0 {
		best, factor = 0, 0.8
	}
	for rate := wantedRate * factor; rate < 8e6 && rate > 50e3; rate *= factor {
		r := b.run(t, f, rate, seconds)
		if r.LostEvents == 0 {
			best = max(best, r.rate)
		}
		// The traffic itself has a limit: it is reached when the sender falls behind.
		if (r.LostEvents == 0) != (factor > 1) || r.rate < rate*0.8 {
			break
		}
	}
	b.report.atLeast("events taken without loss, per second", best, wantedRate, "%.0f", "highest rate tried that lost none")
}

// benchLoss makes events faster than they are taken, and holds what was taken and lost to what the
// packets must have made.
func benchLoss(t *testing.T, b *bench) {
	f := b.floodTarget(t)
	count := b.pick(20000, 100000)
	t.Run("stopped", func(t *testing.T) {
		cmd, out := b.watch(t, f)
		check(t, cmd.Process.Signal(unix.SIGSTOP))
		sent, _ := b.send(t, f, 0, count)
		check(t, cmd.Process.Signal(unix.SIGCONT))
		s := finish(t, cmd, out)
		b.accounted(t, "loss, pathtrace stopped meanwhile", sent, s.Hooks, s.Lost)
	})
	t.Run("small buffer", func(t *testing.T) {
		facts, err := kernel.Load()
		check(t, err)
		set := attachProbe(t, facts, probe.Config{RingSize: 64 << 10}, []*lab.Namespace{f.ns})
		defer set.Close()
		check(t, set.Watch(probe.Endpoint{Addr: f.addr, Proto: wire.ProtoUDP}))
		taken, stop := drainEvents(t, set)
		defer stop()
		sent, _ := b.send(t, f, 0, count)
		events := taken.settled()
		lost, err := set.Lost()
		check(t, err)
		hooks := map[string]uint64{}
		for hook, n := range events {
			hooks[wire.Hook(hook).Point(false)] += n
		}
		b.accounted(t, "loss, buffer of 64 KiB", sent, hooks, lost)
	})
}

// accounted adds up what was taken and lost where every datagram makes a known number of events.
func (b *bench) accounted(t *testing.T, what string, sent uint64, taken, lost map[string]uint64) {
	t.Helper()
	var sumTaken, sumLost, produced uint64
	for hook, each := range perDatagram() {
		if got, want := taken[hook]+lost[hook], sent*each; got != want {
			t.Errorf("%s: %s: %d taken + %d lost = %d, want %d", what, hook, taken[hook], lost[hook], got, want)
		}
		sumTaken, sumLost, produced = sumTaken+taken[hook], sumLost+lost[hook], produced+sent*each
	}
	if sumLost == 0 {
		t.Errorf("%s: nothing was lost, so nothing was shown", what)
	}
	b.report.exact(what, sumTaken, sumLost, produced)
}

// exact adds a sum that must be right.
func (r *report) exact(what string, taken, lost, produced uint64) {
	difference := float64(taken+lost) - float64(produced)
	r.add(what, difference, 0, "%.0f", fmt.Sprintf("%d taken + %d lost − %d made", taken, lost, produced), "= ",
		difference == 0, difference != 0)
}

// settled returns the counts once they do not grow any more.
func (d *drain) settled() [256]uint64 {
	last := d.counts()
	for {
		time.Sleep(100 * time.Millisecond) // nothing tells that no event will come
		now := d.counts()
		if now == last {
			return now
		}
		last = now
	}
}
