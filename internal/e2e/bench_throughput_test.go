//go:build e2e && bench

package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// beside is what runs beside a transfer; it returns when it is attached, and what ends it.
type beside func() (end func())

// transferred is how long a transfer is measured with one thing beside it, settling how long that is waited for:
// the kernel frees what was beside it before, and what a start used, in the background.
const (
	transferred = 500 * time.Millisecond
	settling    = time.Second
)

// throughput lets two containers transfer with nothing, pathtrace, programs that do nothing on the same hooks,
// and tcpdump beside, in turns. What counts is the ratio to nothing beside within a round: the machine changes
// its speed between rounds.
func (b *bench) throughput(t *testing.T, h *host, web, client, server *container, addr, other string) {
	t.Helper()
	d := &transfer{t: t, host: h, client: client, server: iperfServer(t, server, addr), addr: addr, kernel: softIRQThreads(t)}
	inside := []string{filepath.Join("/run/netns", h.NetNS), web.inspect("{{.NetworkSettings.SandboxKey}}")}
	variants := []struct {
		name string
		beside
	}{
		{nothing, func() func() { return func() {} }},
		{watching, func() func() {
			cmd := b.command(h, "--to", other)
			out, _ := b.launch(t, inside[0], cmd)
			idle(t, cmd.Process.Pid)
			return func() { finish(t, cmd, out) }
		}},
		{emptyPrograms, func() func() { return hooksAlone(t, inside) }},
		{dumping, func() func() { return tcpdump(t, h) }},
	}
	rate, cost := map[string][]float64{}, map[string][]float64{}
	for range b.pick(5, 41) {
		end := d.begin()
		for _, v := range variants {
			endBeside := v.beside()
			time.Sleep(settling)
			bits, ns := d.measure()
			endBeside()
			rate[v.name], cost[v.name] = append(rate[v.name], bits), append(cost[v.name], ns)
		}
		end()
		slices.Reverse(variants) // so that none profits from its place
	}
	b.report.info("throughput, nothing beside", "%.1f Gbit/s, %.0f ms of both ends' processor time per GB  (%d rounds, in turns)",
		median(rate[nothing])/1e9, median(cost[nothing])*1e3, len(rate[nothing]))
	for _, name := range []string{watching, emptyPrograms, dumping} {
		b.reportBeside(name, rate, cost)
	}
}

// What is beside a transfer. The others are compared with nothing.
const (
	nothing       = "nothing"
	watching      = "pathtrace"
	emptyPrograms = "programs that do nothing"
	dumping       = "tcpdump"
)

// reportBeside adds what a transfer achieved beside something, and what that cost both ends.
func (b *bench) reportBeside(name string, rate, cost map[string][]float64) {
	rates, costs := ratios(rate[name], rate[nothing]), ratios(cost[name], cost[nothing])
	what := fmt.Sprintf("throughput, %s beside", name)
	beside := fmt.Sprintf("95 %% of resamplings %s; processor time per byte %.3f, %s", interval(rates), median(costs), interval(costs))
	if name == watching {
		b.report.atLeast(what, median(rates), 0.97, "%.3f", beside)
	} else {
		b.report.info(what, "%.3f  (%s)", median(rates), beside)
	}
}

// ratios divides what belongs to the same round.
func ratios(with, without []float64) []float64 {
	out := make([]float64, len(with))
	for i := range with {
		out[i] = with[i] / without[i]
	}
	return out
}

// interval is where the median lies in 95 % of resamplings of the rounds (bootstrap).
func interval(rounds []float64) string {
	random := rand.New(rand.NewPCG(1, 2))
	medians := make([]float64, 2000)
	for i := range medians {
		var sample []float64
		for range rounds {
			sample = append(sample, rounds[random.IntN(len(rounds))])
		}
		medians[i] = median(sample)
	}
	return fmt.Sprintf("%.3f to %.3f", quantile(medians, 0.025), quantile(medians, 0.975))
}

// hooksAlone attaches programs that return at once, where a pathtrace attaches that watches TCP.
func hooksAlone(t *testing.T, namespaces []string) func() {
	t.Helper()
	var y yardstick
	y.attach(t, "net_dev_queue", "skb_copy_datagram_iovec", "sk_data_ready")
	for _, path := range namespaces {
		ns, err := netns.Open(path)
		check(t, err)
		check(t, netns.Do(ns, y.attachNetfilter))
		check(t, ns.Close())
	}
	return y.close
}

// iperfServer starts a server in the container's namespace and returns its process when it listens.
func iperfServer(t *testing.T, c *container, addr string) int {
	t.Helper()
	namespace := c.inspect("{{.NetworkSettings.SandboxKey}}")
	cmd := exec.Command("iperf3", "-s", "-B", addr, "--forceflush")
	out, err := cmd.StdoutPipe()
	check(t, err)
	ns, err := netns.Open(namespace)
	check(t, err)
	defer ns.Close()
	check(t, netns.Do(ns, cmd.Start))
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
	buf, text := make([]byte, 256), ""
	for !strings.Contains(text, "listening") {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("iperf3 server: %v\n%s", err, text)
		}
		text += string(buf[:n])
	}
	go func() { _, _ = io.Copy(io.Discard, out) }() // until it is killed
	return cmd.Process.Pid
}

// tcpdump captures the packets of a port that nobody uses.
func tcpdump(t *testing.T, h *host) func() {
	t.Helper()
	cmd := exec.Command("tcpdump", "-i", "any", "-w", "/dev/null", "port", "9")
	errs, err := cmd.StderrPipe()
	check(t, err)
	ns, err := netns.Open(filepath.Join("/run/netns", h.NetNS))
	check(t, err)
	defer ns.Close()
	check(t, netns.Do(ns, cmd.Start))
	buf, text := make([]byte, 256), ""
	for !strings.Contains(text, "listening on") {
		n, err := errs.Read(buf)
		if err != nil {
			t.Fatalf("tcpdump: %v\n%s", err, text)
		}
		text += string(buf[:n])
	}
	return func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		_, _ = io.Copy(io.Discard, errs) // how many it saw
		_ = cmd.Wait()                   // it was ended
	}
}
