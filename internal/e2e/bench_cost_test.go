//go:build e2e && bench

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// The ports of the measured traffic: one is published and answered, one is dropped by a rule.
const (
	floodPort   = 9000
	droppedPort = 9001
)

// datagram is the size of the payload, bytes.
const datagram = 32

// lane is a way through the demo's network.
type lane struct {
	name        string
	from        *lab.Namespace
	to, dropped netip.AddrPort
	target      netip.AddrPort // what to is translated to
}

// lanes builds the network: the client reaches web through a router that translates, app directly
// through the bridge.
func (b *bench) lanes(t *testing.T) (*lab.Demo, []lane) {
	t.Helper()
	d := labtest.Demo(t, lab.Options{})
	at := netip.AddrPortFrom
	lanes := []lane{
		{"IPv4, translated", d.Client, at(d.RouterAddr, floodPort), at(d.RouterAddr, droppedPort), at(d.WebAddr, floodPort)},
		{"IPv4, plain", d.App, at(d.WebAddr, floodPort), at(d.WebAddr, droppedPort), at(d.WebAddr, floodPort)},
	}
	if d.IPv6() {
		lanes = append(lanes, lane{"IPv6, translated", d.Client, at(d.RouterAddr6, floodPort), at(d.RouterAddr6, droppedPort),
			at(d.WebAddr6, floodPort)})
	}
	for _, l := range lanes {
		if l.to == l.target {
			continue
		}
		for _, proto := range []path.Proto{path.UDP, path.TCP} {
			_, err := d.Router.AddRule(lab.Rule{Hook: lab.Prerouting, Action: lab.DNAT, Proto: proto, DstPort: floodPort,
				Dst: netip.PrefixFrom(l.to.Addr(), l.to.Addr().BitLen()), To: l.target})
			check(t, err)
		}
	}
	for _, ns := range []*lab.Namespace{d.Router, d.Web} {
		_, err := ns.AddRule(lab.Rule{Hook: lab.Input, Action: lab.Drop, Proto: path.UDP, DstPort: droppedPort})
		check(t, err)
	}
	b.sink(t, d.Web, ":"+strconv.Itoa(floodPort))
	return d, lanes
}

// flood sends datagrams until the returned function is called; rate 0 is as fast as possible.
func (b *bench) flood(t *testing.T, from *lab.Namespace, to netip.AddrPort, rate int) func() {
	t.Helper()
	return b.start(t, from, exec.Command(b.traffic, "udp", to.String(), strconv.Itoa(datagram), strconv.Itoa(rate), "0"))
}

// benchForeign measures what pathtrace costs packets that are not those of the trace, against programs
// that do nothing on the same hooks. The first program on a hook is the one that waits for the
// packet's cache lines, so both orders of attachment take turns.
func benchForeign(t *testing.T, b *bench) {
	d, lanes := b.lanes(t)
	facts, err := kernel.Load()
	check(t, err)
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	check(t, err)
	defer stats.Close()
	for _, l := range lanes {
		ours, empty := costs{}, costs{}
		ends := []func(){
			b.flood(t, l.from, l.to, 0), b.flood(t, l.from, l.dropped, 2000),
			b.start(t, l.from, exec.Command(b.traffic, "tcp", l.to.String())),
		}
		for round := range b.pick(2, 8) {
			foreignRound(t, facts, d.Namespaces(), round%2 == 0, b.pick(2, 6), ours, empty)
		}
		for _, end := range ends {
			end()
		}
		for _, h := range hooksMeasured {
			o, e := ours[h.name], empty[h.name]
			if len(o) == 0 || len(e) == 0 {
				if !isIPv4Only(h.name) || l.to.Addr().Is4() {
					b.report.info(fmt.Sprintf("not ours, %s, %s", l.name, h.name), "not run here")
				}
				continue
			}
			b.report.atMost(fmt.Sprintf("not ours, %s, %s", l.name, h.name), median(o)/median(e), 1.8, "%.2f",
				fmt.Sprintf("%.0f ns against %.0f ns empty", median(o), median(e)))
		}
	}
}

func isIPv4Only(hook string) bool { return hook == "fib_table_lookup" }

// foreignRound attaches both in one order, and takes samples.
func foreignRound(t *testing.T, facts *kernel.Facts, in []*lab.Namespace, oursFirst bool, windows int, ours, empty costs) {
	t.Helper()
	var y yardstick
	defer y.close()
	if !oursFirst {
		y.attach(t, in)
	}
	set := attachProbe(t, facts, probe.Config{}, in)
	defer set.Close()
	// The target of a trace that has nothing to do with the traffic.
	check(t, set.Watch(probe.Endpoint{Addr: netip.MustParseAddrPort("203.0.113.7:443"), Proto: wire.ProtoTCP}))
	if oursFirst {
		y.attach(t, in)
	}
	our, nothing := oursByHook(set), y.byHook()
	for range windows {
		oursBefore, emptyBefore := countRuns(t, our), countRuns(t, nothing)
		time.Sleep(window)
		ours.add(oursBefore, countRuns(t, our))
		empty.add(emptyBefore, countRuns(t, nothing))
	}
	if lost, err := set.Lost(); err != nil || len(lost) > 0 {
		t.Errorf("lost %v of traffic that is not ours: %v", lost, err)
	}
}

// oursRate is datagrams per second whose events a reader alone can take on one processor.
const oursRate = 8000

// benchOurs measures what a packet costs that is reported.
func benchOurs(t *testing.T, b *bench) {
	d, lanes := b.lanes(t)
	facts, err := kernel.Load()
	check(t, err)
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	check(t, err)
	defer stats.Close()
	for _, l := range lanes {
		b.oursOn(t, d, facts, l)
	}
}

func (b *bench) oursOn(t *testing.T, d *lab.Demo, facts *kernel.Facts, l lane) {
	t.Helper()
	set := attachProbe(t, facts, probe.Config{}, d.Namespaces())
	defer set.Close()
	for _, addr := range []netip.AddrPort{l.to, l.target, l.dropped} {
		check(t, set.Watch(probe.Endpoint{Addr: addr, Proto: wire.ProtoUDP}))
	}
	taken, stop := drainEvents(t, set)
	defer stop()
	endDropped, end := b.flood(t, l.from, l.dropped, oursRate/4), b.flood(t, l.from, l.to, oursRate)
	ours, our := costs{}, oursByHook(set)
	first, counted := countRuns(t, our), taken.counts()
	for range b.pick(4, 16) {
		before := countRuns(t, our)
		time.Sleep(window)
		ours.add(before, countRuns(t, our))
	}
	last, events := countRuns(t, our), taken.counts()
	end()
	endDropped()
	for _, h := range hooksMeasured {
		n := last[h.name].count - first[h.name].count
		share := float64(events[h.event]-counted[h.event]) / float64(max(n, 1))
		if share < 0.5 || len(ours[h.name]) == 0 {
			continue // it reports failures only
		}
		b.report.atMost(fmt.Sprintf("ours, %s, %s", l.name, h.name), median(ours[h.name]), 400, "%.0f ns",
			fmt.Sprintf("%.0f %% of the runs were ours", 100*min(share, 1)))
	}
	if lost, err := set.Lost(); err != nil || len(lost) > 0 {
		b.report.info("ours, "+l.name+", lost meanwhile", "%v %v", lost, err)
	}
}

// drain takes events and counts them.
type drain [256]atomic.Uint64

func (d *drain) counts() (c [256]uint64) {
	for i := range d {
		c[i] = d[i].Load()
	}
	return c
}

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
