//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// objects are the kernel objects that a process holds, by kind.
type objects map[string][]uint32

// held reads the programs, links and maps that a process holds from its open files.
func held(pid int) objects {
	out := objects{}
	id := regexp.MustCompile(`(?m)^(prog|map|link)_id:\s*(\d+)$`)
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		kinds := id.FindAllStringSubmatch(string(text), -1)
		isLink := slices.ContainsFunc(kinds, func(m []string) bool { return m[1] == "link" })
		for _, m := range kinds {
			if isLink && m[1] != "link" {
				continue // the program of a link is another's file
			}
			if n, err := strconv.ParseUint(m[2], 10, 32); err == nil {
				out[m[1]] = append(out[m[1]], uint32(n))
			}
		}
	}
	return out
}

// left lists the objects that still exist.
func (o objects) left() []string {
	var out []string
	try := func(kind string, open func(uint32) (interface{ Close() error }, error)) {
		for _, id := range o[kind] {
			c, err := open(id)
			if err == nil {
				c.Close()
			}
			if !errors.Is(err, fs.ErrNotExist) {
				out = append(out, fmt.Sprintf("%s %d", kind, id))
			}
		}
	}
	try("prog", func(id uint32) (interface{ Close() error }, error) { return ebpf.NewProgramFromID(ebpf.ProgramID(id)) })
	try("map", func(id uint32) (interface{ Close() error }, error) { return ebpf.NewMapFromID(ebpf.MapID(id)) })
	try("link", func(id uint32) (interface{ Close() error }, error) { return link.NewFromID(link.ID(id)) })
	return out
}

// surroundings is what a trace could leave on the host outside the kernel's own bookkeeping.
func (h *host) surroundings(t *testing.T) map[string]string {
	t.Helper()
	names, err := os.ReadDir("/run/netns")
	check(t, err)
	ours := strings.TrimSuffix(shared.Outside, "outside")
	var demo []string
	for _, n := range names {
		if strings.HasPrefix(n.Name(), "ptdemo-") || strings.HasPrefix(n.Name(), ours) {
			demo = append(demo, n.Name())
		}
	}
	counters := regexp.MustCompile(`packets \d+ bytes \d+|\[\d+:\d+\]|# .*`)
	pinned, _ := filepath.Glob("/sys/fs/bpf/*pathtrace*")
	return map[string]string{
		"devices":    h.do(t, "ip", "-o", "link"),
		"rules":      counters.ReplaceAllString(h.do(t, "nft", "list", "ruleset")+h.do(t, "iptables-save"), ""),
		"qdiscs":     h.do(t, "tc", "qdisc"),
		"sysctls":    h.do(t, "sysctl", "-n", "net.ipv4.ip_forward", "net.bridge.bridge-nf-call-iptables", "kernel.bpf_stats_enabled"),
		"namespaces": strings.Join(demo, " "),
		"pinned":     strings.Join(pinned, " "),
	}
}

// leaves checks that nothing is left of a process that has ended.
func (h *host) leaves(t *testing.T, before map[string]string, o objects) {
	t.Helper()
	if !eventually(10*time.Second, func() bool { return len(o.left()) == 0 }) {
		t.Errorf("left in the kernel: %v", o.left())
	}
	for what, after := range h.surroundings(t) {
		if after != before[what] {
			t.Errorf("%s: before\n%s\nafter\n%s", what, before[what], after)
		}
	}
}

// TestKill ends a trace by kill -9 while it watches, while its probe waits, and a demo.
func TestKill(t *testing.T) {
	h := need(t).Hosts[1]
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	rule(t, h.do, "filter", "DOCKER-USER", "-p", "tcp", "-d", web.addr(n).String(), "-j", "DROP")
	before := h.surroundings(t)
	for name, args := range map[string][]string{
		"watch": {"--to", web.Name + ":80", "-o", "json"},
		"probe": {"--from", client.Name, "--to", web.Name + ":80", "--timeout", "30s", "-o", "json"},
	} {
		t.Run(name, func(t *testing.T) {
			p := h.launch(t, args...)
			p.ready()
			o := held(p.cmd.Process.Pid)
			if len(o["prog"]) == 0 || len(o["map"]) == 0 || len(o["link"]) == 0 {
				t.Fatalf("it holds %v", o)
			}
			check(t, p.cmd.Process.Kill())
			<-p.ended
			h.leaves(t, before, o)
		})
	}
	t.Run("demo", func(t *testing.T) {
		p := launchIn(t, h.NetNS, nil, "demo", "-o", "json")
		p.ready()
		o := held(p.cmd.Process.Pid)
		check(t, p.cmd.Process.Kill())
		<-p.ended
		h.leaves(t, before, o)
	})
}

// TestInterrupt presses Ctrl-C at several moments: as early as possible, during the attaching, while
// it watches, while the probe waits.
func TestInterrupt(t *testing.T) {
	h := need(t).Hosts[1]
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	rule(t, h.do, "filter", "DOCKER-USER", "-p", "tcp", "-d", web.addr(n).String(), "-j", "DROP")
	before := h.surroundings(t)
	probe := []string{"--from", client.Name, "--to", web.Name + ":80", "--timeout", "30s"}
	for _, delay := range []time.Duration{0, 5, 20, 60, 120, 200} {
		t.Run(fmt.Sprintf("after %d ms", delay), func(t *testing.T) {
			for _, args := range [][]string{{"--to", web.Name + ":80"}, probe, {"demo"}} {
				p := h.launchPlain(t, args...)
				o := objects{}
				eventually(delay*time.Millisecond, func() bool { o = held(p.cmd.Process.Pid); return false })
				h.interrupted(t, p, before, o)
			}
		})
	}
	t.Run("when ready", func(t *testing.T) {
		for _, args := range [][]string{{"--to", web.Name + ":80", "-o", "json"}, append(slices.Clone(probe), "-o", "json")} {
			p := h.launch(t, args...)
			p.ready()
			h.interrupted(t, p, before, held(p.cmd.Process.Pid))
		}
	})
}

// launchPlain starts a command that may have no --docker-host.
func (h *host) launchPlain(t *testing.T, args ...string) *process {
	t.Helper()
	if args[0] == "demo" {
		return launchIn(t, h.NetNS, nil, args...)
	}
	return h.launch(t, args...)
}

// interrupted presses Ctrl-C and checks that the process ends soon and cleanly.
func (h *host) interrupted(t *testing.T, p *process, before map[string]string, o objects) {
	t.Helper()
	p.interrupt()
	start := time.Now()
	r := p.wait()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("%v: it took %v to end", r.args, took)
	}
	// Before the signal is handled the process ends by it, as any program does.
	early := p.cmd.ProcessState.ExitCode() == -1
	if !early && (r.status < statusDelivered || r.status > statusNoTraffic) {
		t.Errorf("%v: exit status %d", r.args, r.status)
	}
	if n := strings.Count(r.stderr, "\n"); n > 3 || strings.Contains(r.stderr, "goroutine") {
		t.Errorf("%v: standard error: %q", r.args, r.stderr)
	}
	h.leaves(t, before, o)
}

// TestSourceVanishes removes the source while its probe waits for an answer.
func TestSourceVanishes(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	// Nobody has that address, so the request is lost without a drop, which would end the waiting.
	client.do("ip", "neigh", "replace", web.addr(n).String(), "lladdr", "02:42:00:00:00:99", "dev", "eth0", "nud", "permanent")
	p := h.launch(t, "--from", client.Name, "--to", web.Name+":80", "--timeout", "1m", "-o", "json")
	p.ready()
	h.must(t, "rm", "-f", client.Name)
	removed := time.Now()
	r := p.wait()
	if d := time.Since(removed); d > 10*time.Second {
		t.Errorf("it was noticed after %v", d)
	}
	for _, hop := range r.hops {
		if hop.Container == client.Name && hop.Device != "" && hop.Device != "eth0" {
			t.Errorf("the device of the source is called %s: %+v", hop.Device, hop)
		}
	}
	if r.status != statusNotDelivered || len(r.verdicts) != 1 {
		t.Errorf("exit status %d, verdicts %+v", r.status, r.verdicts)
	}
	if !strings.Contains(r.stderr, "vanished") {
		t.Errorf("it is not said: %q", r.stderr)
	}
}
