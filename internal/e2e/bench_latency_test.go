//go:build e2e && bench

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// latencyRate is requests per second; each is a packet there and one back.
const latencyRate = 5000

// benchLatency measures what timing every packet of 10,000 a second costs.
func benchLatency(t *testing.T, b *bench) {
	d := labtest.Demo(t, lab.Options{Named: true, Prefix: b.prefix(t)})
	_, err := d.Web.TCPServer(":81", echoTCP)
	check(t, err)
	to := netip.AddrPortFrom(d.WebAddr, 81)
	var cores, own, trips, peak []float64
	lost, packets := uint64(0), 0.0
	for range b.pick(1, 3) {
		cmd := exec.Command(b.binary, "latency", "--docker-host", "unix://"+need(t).Hosts[0].Socket, "-o", "json", "--to", to.String(),
			"--duration", "5m")
		cmd.Env, cmd.Stderr = cleanEnv(), os.Stderr
		out, _ := b.launch(t, d.Web.Path, cmd)
		idle(t, cmd.Process.Pid)
		userBefore, sysBefore := processorTime(t, cmd.Process.Pid)
		sent, took := converse(t, d.App, to, time.Duration(b.pick(4, 10))*time.Second)
		user, sys := processorTime(t, cmd.Process.Pid)
		peak = append(peak, status(t, cmd.Process.Pid, "VmHWM:"))
		report, s := finishLatency(t, cmd, out)
		cores = append(cores, (user-userBefore+sys-sysBefore).Seconds()/took.Seconds())
		own = append(own, float64(report.Own.PerObservation))
		trips = append(trips, float64(report.RoundTrip.Count)/float64(sent))
		lost, packets = lost+s.LostEvents, float64(2*sent)/took.Seconds()
	}
	b.report.info("latency, rate asked for: 10,000 packets/s", "%.0f sent per second, %.1f %% of the round trips taken", packets, 100*median(trips))
	b.report.atMost("latency, events lost", float64(lost), 0, "%.0f", "")
	b.report.atMost("latency, processor time, of one core", 100*median(cores), 25, "%.1f %%", "user and system")
	b.report.atMost("latency, peak of the resident memory", median(peak), 150, "%.0f MB", "32 MB of it the event buffer, mapped twice")
	b.report.atMost("latency, added per observation, median", median(own), 500, "%.0f ns", "as it measures itself")
}

// echoTCP sends back what comes.
func echoTCP(c net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err == nil {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// converse sends requests over a few connections and returns how many were answered, and how long it took.
func converse(t *testing.T, from *lab.Namespace, to netip.AddrPort, long time.Duration) (sent int, took time.Duration) {
	t.Helper()
	const connections = 4
	counts := make([]int, connections)
	start := time.Now()
	var group sync.WaitGroup
	for i := range connections {
		c, err := from.Dial(t.Context(), "tcp", to.String())
		check(t, err)
		group.Go(func() {
			defer c.Close()
			buf := make([]byte, 4096)
			for time.Since(start) < long {
				due := time.Duration(counts[i]) * time.Second * connections / latencyRate
				time.Sleep(due - time.Since(start))
				if _, err := c.Write(buf[:64]); err != nil {
					return
				}
				if _, err := c.Read(buf); err != nil {
					return
				}
				counts[i]++
			}
		})
	}
	group.Wait()
	took = time.Since(start)
	for _, n := range counts {
		sent += n
	}
	return sent, took
}

// finishLatency interrupts a measurement and returns what it says.
func finishLatency(t *testing.T, cmd *exec.Cmd, out *bufio.Reader) (path.LatencyReport, stats) {
	t.Helper()
	report, s := endLatency(t, cmd, out)
	if report.RoundTrip.Count == 0 {
		t.Fatalf("%v: no round trip", cmd.Args)
	}
	return report, s
}

// endLatency is finishLatency where nothing may have been measured.
func endLatency(t *testing.T, cmd *exec.Cmd, out *bufio.Reader) (report path.LatencyReport, s stats) {
	t.Helper()
	_ = cmd.Process.Signal(os.Interrupt) // it may have ended by itself
	for {
		line, err := out.ReadBytes('\n')
		switch {
		case bytes.HasPrefix(line, []byte(`{"type":"latency"`)):
			check(t, json.Unmarshal(line, &report))
		case bytes.HasPrefix(line, []byte(`{"type":"stats"`)):
			check(t, json.Unmarshal(line, &s))
		}
		if err != nil {
			break
		}
	}
	if err := cmd.Wait(); s.Hooks == nil {
		t.Fatalf("%v: %v, no stats", cmd.Args, err)
	}
	return report, s
}
