//go:build e2e && bench

package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// beside is what runs beside a transfer; it returns when it is attached, and what ends it.
type beside func() (end func())

// throughput lets two containers transfer with nothing, pathtrace and tcpdump beside, in turns.
func (b *bench) throughput(t *testing.T, h *host, client, server *container, addr, other string) {
	t.Helper()
	iperfServer(t, server, addr)
	from := client.inspect("{{.NetworkSettings.SandboxKey}}")
	variants := []struct {
		name string
		beside
	}{
		{"nothing", func() func() { return func() {} }},
		{"pathtrace", func() func() {
			cmd := b.command(h, "--to", other)
			out, _ := b.launch(t, filepath.Join("/run/netns", h.NetNS), cmd)
			idle(t, cmd.Process.Pid)
			return func() { finish(t, cmd, out) }
		}},
		{"tcpdump", func() func() { return tcpdump(t, h) }},
	}
	iperf(t, from, addr, 1) // warm
	rates := map[string][]float64{}
	for range b.pick(3, 21) {
		for _, v := range variants {
			end := v.beside()
			rates[v.name] = append(rates[v.name], iperf(t, from, addr, 1))
			end()
		}
		slices.Reverse(variants) // so that none profits from its place
	}
	base := rates["nothing"]
	b.report.info("throughput, nothing beside", "%.1f Gbit/s  (median of %d × 1 s, in turns)", median(base)/1e9, len(base))
	for _, name := range []string{"pathtrace", "tcpdump"} {
		with, what := rates[name], fmt.Sprintf("throughput, %s beside", name)
		beside := fmt.Sprintf("%.1f Gbit/s; 95 %% of resamplings: %s", median(with)/1e9, interval(base, with))
		if name == "pathtrace" {
			b.report.atLeast(what, median(with)/median(base), 0.97, "%.3f", beside)
		} else {
			b.report.info(what, "%.3f  (%s)", median(with)/median(base), beside)
		}
	}
}

// interval is where the ratio of the medians lies in 95 % of resamplings of the rounds (bootstrap).
func interval(base, with []float64) string {
	random := rand.New(rand.NewPCG(1, 2))
	ratios := make([]float64, 2000)
	for i := range ratios {
		var a, b []float64
		for range base {
			round := random.IntN(len(base))
			a, b = append(a, base[round]), append(b, with[round])
		}
		ratios[i] = median(b) / median(a)
	}
	return fmt.Sprintf("%.3f to %.3f", quantile(ratios, 0.025), quantile(ratios, 0.975))
}

// iperfServer starts a server in the container's namespace and waits until it listens.
func iperfServer(t *testing.T, c *container, addr string) {
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
}

// iperf transfers and returns bits per second as received.
func iperf(t *testing.T, namespace, addr string, seconds int) float64 {
	t.Helper()
	out, err := runInNetNS(namespace, "iperf3", "-J", "-c", addr, "-t", strconv.Itoa(seconds))
	if err != nil {
		t.Fatalf("iperf3: %v\n%s", err, out)
	}
	var result struct {
		End struct {
			Received struct {
				Rate float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.End.Received.Rate == 0 {
		t.Fatalf("iperf3: %v\n%s", err, out)
	}
	return result.End.Received.Rate
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
