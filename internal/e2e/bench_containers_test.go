//go:build e2e && bench

package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// containers is how many run while start-up and memory are measured.
const containers = 20

// benchContainers measures what depends on a host with containers.
func benchContainers(t *testing.T, b *bench) {
	h := need(t).Hosts[0]
	n := h.network(t)
	web, client, server := n.server(t), n.client(t), n.client(t)
	for range containers - 3 {
		n.client(t)
	}
	to := web.Name + ":80"
	b.startUp(t, h, "exec to ready, with --from", "--from", client.Name, "--to", to)
	exits := b.startUp(t, h, "exec to ready, watching", "--to", to)
	b.report.atMost("Ctrl-C to exit", median(exits), 300, "%.0f ms", fmt.Sprintf("slowest %.0f ms", quantile(exits, 1)))
	b.memory(t, h, to)
	b.screen(t, h, web, client)
	b.allPackets(t, h, web, client, to)
	b.throughput(t, h, web, client, server, server.addr(n).String(), to)
	info, err := os.Stat(b.binary)
	check(t, err)
	b.report.atMost("size of the stripped binary", float64(info.Size())/1e6, 20, "%.1f MB", "")
}

// command is a pathtrace on a host, with JSON output.
func (b *bench) command(h *host, args ...string) *exec.Cmd {
	cmd := exec.Command(b.binary, append([]string{"--docker-host", "unix://" + h.Socket, "-o", "json"}, args...)...)
	cmd.Env, cmd.Stderr = cleanEnv(), os.Stderr
	return cmd
}

// launch starts a command in a namespace and returns when it has written its meta line, and how long
// that took since just before the fork.
func (b *bench) launch(t *testing.T, namespace string, cmd *exec.Cmd) (*bufio.Reader, time.Duration) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	ns, err := netns.Open(namespace)
	check(t, err)
	defer ns.Close()
	var start time.Time
	check(t, netns.Do(ns, func() error {
		start = time.Now()
		return cmd.Start()
	}))
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, but for a test that failed
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	took := time.Since(start)
	if err != nil || !strings.HasPrefix(line, `{"type":"meta"`) {
		t.Fatalf("%v: first line %q: %v", cmd.Args, line, err)
	}
	return out, took
}

// finish interrupts a command, and returns its statistics.
func finish(t *testing.T, cmd *exec.Cmd, out *bufio.Reader) stats {
	t.Helper()
	_ = cmd.Process.Signal(unix.SIGINT) // it may have ended by itself
	var s stats
	for {
		line, err := out.ReadBytes('\n')
		if bytes.HasPrefix(line, []byte(`{"type":"stats"`)) {
			check(t, json.Unmarshal(line, &s))
		}
		if err != nil {
			break
		}
	}
	_ = cmd.Wait() // without traffic its status is not 0
	if s.Hooks == nil {
		t.Fatalf("%v: no statistics", cmd.Args)
	}
	return s
}

// stats is the part of the last line that is looked at.
type stats struct {
	Events     uint64            `json:"events"`
	LostEvents uint64            `json:"lost_events"`
	Hooks      map[string]uint64 `json:"hooks"`
	Lost       map[string]uint64 `json:"lost"`
	CPUNS      int64             `json:"cpu_ns"`
	WallNS     int64             `json:"wall_ns"`
}

// startUp measures the start of a command, and returns what its end took after SIGINT, ms.
func (b *bench) startUp(t *testing.T, h *host, what string, args ...string) (exits []float64) {
	t.Helper()
	var times []float64
	for i := range b.pick(15, 31) + 1 {
		time.Sleep(200 * time.Millisecond) // the kernel frees the programs of the one before in the background
		cmd := b.command(h, args...)
		out, took := b.launch(t, filepath.Join("/run/netns", h.NetNS), cmd)
		interrupted := time.Now()
		finish(t, cmd, out)
		if i > 0 { // the first reads the file from the disk
			times, exits = append(times, took.Seconds()*1e3), append(exits, time.Since(interrupted).Seconds()*1e3)
		}
	}
	b.report.atMost(what, median(times), 100, "%.0f ms",
		fmt.Sprintf("fastest %.0f ms, 90th percentile %.0f ms, %d runs", quantile(times, 0), quantile(times, 0.9), len(times)))
	return exits
}

// memory measures a pathtrace that watches and sees nothing: memory when it is ready, and once it has
// read everything; and the processor time of watching.
func (b *bench) memory(t *testing.T, h *host, to string) {
	t.Helper()
	var ready, resident, peak, share []float64
	for range 3 {
		cmd := b.command(h, "--to", to)
		out, _ := b.launch(t, filepath.Join("/run/netns", h.NetNS), cmd)
		ready = append(ready, status(t, cmd.Process.Pid, "VmRSS:"))
		idle(t, cmd.Process.Pid)
		resident = append(resident, status(t, cmd.Process.Pid, "VmRSS:"))
		peak = append(peak, status(t, cmd.Process.Pid, "VmHWM:"))
		watched := time.Duration(b.pick(4, 10)) * time.Second
		user, sys := processorTime(t, cmd.Process.Pid)
		time.Sleep(watched) // what is measured is that nothing happens
		userNow, sysNow := processorTime(t, cmd.Process.Pid)
		share = append(share, 100*(userNow+sysNow-user-sys).Seconds()/watched.Seconds())
		finish(t, cmd, out)
	}
	b.report.atMost("resident memory at ready", median(ready), 40, "%.1f MB", fmt.Sprintf("%d containers", containers))
	b.report.atMost("resident memory while watching", median(resident), 40, "%.1f MB", "")
	b.report.atMost("peak of the resident memory", median(peak), 50, "%.1f MB", "")
	b.report.atMost("processor time with nothing matched, of one core", median(share), 0.5, "%.2f %%", "")
}

// screen counts the lines for one connection that a rule drops.
func (b *bench) screen(t *testing.T, h *host, web, client *container) {
	t.Helper()
	h.do(t, "iptables", "-w", "-I", "DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP")
	defer h.do(t, "iptables", "-w", "-D", "DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP")
	r := h.run(t, "--from", client.Name, "--to", web.Name+":80")
	if r.status != statusNotDelivered {
		t.Errorf("not dropped: %s", r.stdout)
	}
	b.report.atMost("lines of output for one dropped connection", float64(strings.Count(r.stdout, "\n")), 25, "%.0f", "")
}

// connectionRate is connections per second of which all packets are matched.
const connectionRate = 250

// allPackets watches every packet of many short connections.
func (b *bench) allPackets(t *testing.T, h *host, web, client *container, to string) {
	t.Helper()
	seconds := b.pick(3, 10)
	cmd := b.command(h, "--to", to, "--all-packets")
	stdout, _ := b.launch(t, filepath.Join("/run/netns", h.NetNS), cmd)
	idle(t, cmd.Process.Pid)
	addr := web.inspect("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}") + ":80"
	made := make(chan string, 1)
	go func() {
		out, err := runInNetNS(fmt.Sprintf("/proc/%s/ns/net", client.process()), b.traffic, "connect", addr,
			strconv.Itoa(connectionRate), strconv.Itoa(seconds))
		if err != nil {
			out = err.Error()
		}
		time.Sleep(time.Second) // the last ones are decided
		_ = cmd.Process.Signal(unix.SIGINT)
		made <- out
	}()
	verdicts, s := countVerdicts(t, stdout)
	_ = cmd.Wait() // its status is that of the flows
	var tried, answered int
	if _, err := fmt.Sscan(<-made, &tried, &answered); err != nil {
		t.Fatalf("make connections: %v", err)
	}
	b.report.atMost("events lost, 250 connections/s, all packets", float64(s.LostEvents), 0, "%.0f",
		fmt.Sprintf("of %d; %d connections, %d verdicts", s.Events+s.LostEvents, tried, verdicts))
	if verdicts != tried {
		t.Errorf("%d connections, %d verdicts", tried, verdicts)
	}
}

// countVerdicts reads JSON lines to their end.
func countVerdicts(t *testing.T, out *bufio.Reader) (verdicts int, s stats) {
	t.Helper()
	for {
		line, err := out.ReadSlice('\n')
		switch {
		case bytes.HasPrefix(line, []byte(`{"type":"verdict"`)):
			verdicts++
		case bytes.HasPrefix(line, []byte(`{"type":"stats"`)):
			check(t, json.Unmarshal(line, &s))
		}
		if err != nil && err != bufio.ErrBufferFull { //nolint:errorlint // it is returned as it is
			return verdicts, s
		}
	}
}

// processorTime reads what a process has used, in user space and in the kernel.
func processorTime(t *testing.T, pid int) (user, sys time.Duration) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	check(t, err)
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		t.Fatalf("statistics of process %d: %q", pid, text)
	}
	var ticks [2]int64
	for i := range ticks {
		if ticks[i], err = strconv.ParseInt(f[11+i], 10, 64); err != nil {
			t.Fatalf("statistics of process %d: %v", pid, err)
		}
	}
	const tick = 10 * time.Millisecond // USER_HZ is 100 on all architectures that pathtrace is built for
	return time.Duration(ticks[0]) * tick, time.Duration(ticks[1]) * tick
}

// idle waits until a process has done what it does after its start, such as reading symbols.
func idle(t *testing.T, pid int) {
	t.Helper()
	var last time.Duration
	for range 20 {
		user, sys := processorTime(t, pid)
		if user+sys == last {
			return
		}
		last = user + sys
		time.Sleep(250 * time.Millisecond)
	}
	t.Errorf("process %d does not come to rest", pid)
}

// status reads a size of a process, in MB.
func status(t *testing.T, pid int, field string) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			var kib float64
			_, err := fmt.Sscan(rest, &kib)
			check(t, err)
			return kib * 1024 / 1e6
		}
	}
	t.Fatalf("no %s for process %d", field, pid)
	return 0
}
