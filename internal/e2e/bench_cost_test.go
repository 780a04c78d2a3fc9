//go:build e2e && bench

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
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

// droppedRate is datagrams per second; with far fewer, it is cold code that is measured.
const droppedRate = 40000

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
	d := labtest.Demo(t, lab.Options{Named: true, Prefix: b.prefix(t)})
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
			b.flood(t, l.from, l.to, 0), b.flood(t, l.from, l.dropped, droppedRate),
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
				continue // this traffic does not come by, or the kernel lacks the hook
			}
			b.report.atMost(fmt.Sprintf("not ours, %s, %s", l.name, h.name), median(o)/median(e), 1.8, "%.2f",
				fmt.Sprintf("%.0f ns against %.0f ns empty", median(o), median(e)))
		}
	}
}

// foreignRound attaches both in one order, and takes samples.
func foreignRound(t *testing.T, facts *kernel.Facts, in []*lab.Namespace, oursFirst bool, windows int, ours, empty costs) {
	t.Helper()
	var y yardstick
	defer y.close()
	attach := func() {
		y.attach(t)
		for _, ns := range in {
			check(t, ns.Do(y.attachNetfilter))
		}
	}
	if !oursFirst {
		attach()
	}
	set := attachProbe(t, facts, probe.Config{}, in)
	defer set.Close()
	// The target of a trace that has nothing to do with the traffic.
	check(t, set.Watch(probe.Endpoint{Addr: netip.MustParseAddrPort("203.0.113.7:443"), Proto: wire.ProtoTCP}))
	if oursFirst {
		attach()
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

// oursRate is datagrams per second; each is seen at some two dozen places on its way.
const oursRate = 20000

// benchOurs measures what a packet costs that is reported: the programs of a pathtrace that watches it.
func benchOurs(t *testing.T, b *bench) {
	_, lanes := b.lanes(t)
	stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
	check(t, err)
	defer stats.Close()
	for _, l := range lanes {
		b.oursTo(t, l, l.to, func(hook string) bool { return hook != "kfree_skb" })
	}
	b.oursTo(t, lanes[0], lanes[0].dropped, func(hook string) bool { return hook == "kfree_skb" })
}

// oursTo floods one destination and takes samples of the hooks that wanted names.
func (b *bench) oursTo(t *testing.T, l lane, to netip.AddrPort, wanted func(hook string) bool) {
	t.Helper()
	cmd := b.command(need(t).Hosts[0], "--to", to.String(), "--proto", "udp")
	out, _ := b.launch(t, l.from.Path, cmd)
	our := programsOf(t, cmd.Process.Pid)
	end := b.flood(t, l.from, to, oursRate)
	time.Sleep(window) // the first packets attach to the namespaces on their way
	ours := costs{}
	for range b.pick(4, 16) {
		before := countRuns(t, our)
		time.Sleep(window)
		ours.add(before, countRuns(t, our))
	}
	end()
	total := countRuns(t, our)
	s := finish(t, cmd, out)
	for _, h := range hooksMeasured {
		point := h.event.Point(to.Addr().Is6())
		reported, n := s.Hooks[point]+s.Lost[point], total[h.name].count
		if strings.HasPrefix(h.name, "netfilter") {
			n = total["netfilter_enter"].count + total["netfilter_leave"].count
		}
		share := float64(reported) / float64(max(n, 1))
		if !wanted(h.name) || len(ours[h.name]) == 0 || share < 0.5 {
			continue // it reports failures only, or another kind of packet
		}
		b.report.atMost(fmt.Sprintf("ours, %s, %s", l.name, h.name), median(ours[h.name]), 400, "%.0f ns",
			fmt.Sprintf("fastest window %.0f ns; %.0f %% of the runs were ours", quantile(ours[h.name], 0), 100*min(share, 1)))
	}
	if s.LostEvents > 0 {
		b.report.info(fmt.Sprintf("ours, %s, lost meanwhile", l.name), "%d of %d", s.LostEvents, s.Events+s.LostEvents)
	}
}

// programsOf finds the programs of a process for each measured hook, through its open files.
func programsOf(t *testing.T, pid int) map[string]*ebpf.Program {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	check(t, err)
	out := map[string]*ebpf.Program{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // closed meanwhile
		}
		_, rest, found := strings.Cut(string(text), "prog_id:")
		var id uint32
		if _, err := fmt.Sscan(rest, &id); !found || err != nil {
			continue
		}
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(id))
		check(t, err)
		t.Cleanup(func() { p.Close() })
		info, err := p.Info()
		check(t, err)
		for _, h := range hooksMeasured {
			// The kernel keeps 15 characters of a name; kfree_skb has variants.
			if strings.HasPrefix(h.name, info.Name) || strings.HasPrefix(info.Name, h.name) {
				out[h.name] = p
			}
		}
	}
	if len(out) == 0 {
		t.Fatalf("process %d has no programs", pid)
	}
	return out
}
