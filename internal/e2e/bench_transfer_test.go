//go:build e2e && bench

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// transfer is data on its way from one container to another for as long as it is measured.
type transfer struct {
	t              *testing.T
	host           *host
	client         *container
	server, sender int // processes
	addr           string
	kernel         []int // threads that process packets for both
}

// begin starts the sender and returns when data flows, and what ends it.
func (d *transfer) begin() func() {
	d.t.Helper()
	cmd := exec.Command("iperf3", "-c", d.addr, "-t", "3600")
	ns, err := netns.Open(d.client.inspect("{{.NetworkSettings.SandboxKey}}"))
	check(d.t, err)
	defer ns.Close()
	check(d.t, netns.Do(ns, cmd.Start))
	d.sender = cmd.Process.Pid
	before, deadline := d.now(), time.Now().Add(20*time.Second)
	for d.now().bytes-before.bytes < 100e6 {
		if time.Now().After(deadline) {
			d.t.Fatal("iperf3 transfers nothing")
		}
		time.Sleep(10 * time.Millisecond)
	}
	return func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	}
}

// measure returns bits per second and nanoseconds of processor time of both ends per byte.
func (d *transfer) measure() (bits, ns float64) {
	d.t.Helper()
	from := d.now()
	time.Sleep(transferred) // what is measured is what happens meanwhile
	to := d.now()
	bytes := to.bytes - from.bytes
	if bytes == 0 {
		d.t.Fatal("iperf3 transfers nothing")
	}
	return bytes * 8 / to.at.Sub(from.at).Seconds(), (to.ns - from.ns) / bytes
}

// moment is how far a transfer is.
type moment struct {
	at    time.Time
	bytes float64 // received
	ns    float64 // processor time of both ends, with what the kernel does in their names
}

func (d *transfer) now() moment {
	d.t.Helper()
	m := moment{at: time.Now(), bytes: received(d.t, d.server)}
	for _, pid := range append([]int{d.server, d.sender}, d.kernel...) {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		check(d.t, err)
		for _, task := range tasks {
			text, err := os.ReadFile(task)
			check(d.t, err)
			var ns float64
			_, err = fmt.Sscan(string(text), &ns)
			check(d.t, err)
			m.ns += ns
		}
	}
	return m
}

// received counts the bytes that eth0 of a process's namespace received.
func received(t *testing.T, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	check(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "eth0:"); ok {
			var n float64
			_, err := fmt.Sscan(rest, &n)
			check(t, err)
			return n
		}
	}
	t.Fatalf("process %d has no eth0", pid)
	return 0
}

// softIRQThreads are the kernel's threads that take over when packets come faster than tasks can be charged
// with them.
func softIRQThreads(t *testing.T) (pids []int) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	check(t, err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil || !strings.HasPrefix(string(text), "ksoftirqd/") {
			continue // gone meanwhile, or another
		}
		var pid int
		_, err = fmt.Sscanf(name, "/proc/%d/comm", &pid)
		check(t, err)
		pids = append(pids, pid)
	}
	return pids
}
