//go:build e2e && bench

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// floodTarget is a namespace whose loopback device has an address that is its own, with a sink.
type floodTarget struct {
	ns   *lab.Namespace
	addr netip.AddrPort
}

func (b *bench) floodTarget(t *testing.T) floodTarget {
	t.Helper()
	l := labtest.New(t, lab.Options{Named: true, Prefix: b.prefix(t)})
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

// flood is one flood as pathtrace saw it.
type flood struct {
	rate      float64 // events per second that were produced
	user, sys float64 // processor time of pathtrace per event, ns
	stats
}

// watchFlood sends for a time to a pathtrace of its own; every datagram makes so many events.
func (b *bench) watchFlood(t *testing.T, f floodTarget, eventRate, perDatagram, seconds float64) flood {
	t.Helper()
	cmd, out := b.watch(t, f)
	idle(t, cmd.Process.Pid)
	userBefore, sysBefore := processorTime(t, cmd.Process.Pid)
	packets := eventRate / perDatagram
	_, took := b.send(t, f, int(packets), int(packets*seconds))
	user, sys := processorTime(t, cmd.Process.Pid)
	s := finish(t, cmd, out)
	n := float64(s.Events)
	return flood{float64(s.Events+s.LostEvents) / took.Seconds(),
		float64((user - userBefore).Nanoseconds()) / n, float64((sys - sysBefore).Nanoseconds()) / n, s}
}

// eventsPerDatagram is how many events a datagram makes on this kernel.
func (b *bench) eventsPerDatagram(t *testing.T, f floodTarget) float64 {
	t.Helper()
	cmd, out := b.watch(t, f)
	sent, _ := b.send(t, f, 1000, 500)
	s := finish(t, cmd, out)
	return float64(s.Events) / float64(sent)
}

// benchEvents measures how many events per second pathtrace takes without loss: the built command, from
// the ring buffer through the tracker to the verdict. Sender, kernel and receiver share the processors
// with it.
func benchEvents(t *testing.T, b *bench) {
	f := b.floodTarget(t)
	each, seconds := b.eventsPerDatagram(t, f), float64(b.pick(1, 3))
	lossless, tries, lost := 0, b.pick(2, 5), uint64(0)
	var rates, user, sys []float64
	for range tries {
		// More than wanted: starting the sender counts as well.
		r := b.watchFlood(t, f, wantedRate*1.05, each, seconds)
		rates, user, sys = append(rates, r.rate), append(user, r.user), append(sys, r.sys)
		if lost += r.LostEvents; r.LostEvents == 0 {
			lossless++
		}
	}
	b.report.info("a matched flow, rate asked for: 500,000 events/s", "%.0f made per second  (%.1f events per datagram)", median(rates), each)
	b.report.atLeast("its floods without any loss", float64(lossless)/float64(tries), 1, "%.2f",
		fmt.Sprintf("%d of %d, of %.0f s each; %d events lost", lossless, tries, seconds, lost))
	b.report.info("processor time per event in pathtrace", "%.0f ns user, %.0f ns system", median(user), median(sys))
	best := b.highestRate(t, f, each, seconds)
	b.report.atLeast("highest rate without loss, events per second", best, wantedRate, "%.0f", "")
}

// highestRate goes up from the wanted rate until events are lost, or, if they are lost there already,
// down until they are not.
func (b *bench) highestRate(t *testing.T, f floodTarget, each, seconds float64) float64 {
	t.Helper()
	const step = 1.25
	best, rate := 0.0, float64(wantedRate)
	for ; rate < 8e6; rate *= step {
		r := b.losslessFlood(t, f, rate, each, seconds)
		best = max(best, r)
		if r < rate*0.8 { // lost, or the sender itself falls behind
			break
		}
	}
	for rate = wantedRate / step; best == 0 && rate > 50e3; rate /= step {
		best = b.losslessFlood(t, f, rate, each, seconds)
	}
	return best
}

// losslessFlood returns the rate of a flood of which nothing was lost, else 0. It tries twice: once may
// be somebody else's doing.
func (b *bench) losslessFlood(t *testing.T, f floodTarget, rate, each, seconds float64) float64 {
	t.Helper()
	for range 2 {
		if r := b.watchFlood(t, f, rate, each, seconds); r.LostEvents == 0 {
			return r.rate
		}
	}
	return 0
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

// drain takes events and counts them by hook.
type drain [256]atomic.Uint64

// drainEvents reads until the returned function is called.
func drainEvents(t *testing.T, set *probe.Set) (*drain, func()) {
	t.Helper()
	r, err := set.Reader()
	check(t, err)
	var counts drain
	var reading sync.WaitGroup
	reading.Go(func() {
		var e wire.Event
		for {
			r.SetDeadline(time.Now().Add(20 * time.Millisecond)) // not every event wakes the reader
			err := r.Read(&e)
			if errors.Is(err, probe.ErrClosed) {
				return
			}
			if err == nil {
				counts[e.Hook].Add(1)
			}
		}
	})
	return &counts, func() {
		check(t, r.Close())
		reading.Wait()
	}
}

func (d *drain) counts() (c [256]uint64) {
	for i := range d {
		c[i] = d[i].Load()
	}
	return c
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
