//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// soakEnv says how long the soak lasts; without it it is a short one. A long one uses a pathtrace with
// the race detector, if this machine has a C compiler.
const (
	soakEnv   = "PATHTRACE_SOAK"
	soakShort = 25 * time.Second
)

// growth is in MB.
const growth = 24

// soak is a host under load, with a trace that watches all of it and one that watches a target without
// traffic of its own.
type soak struct {
	h        *host
	n        *network
	web      *container
	client   *container
	quiet    *container
	traffic  string
	binary   string
	length   time.Duration
	churned  atomic.Int64 // containers and namespaces that came and went
	tried    int
	answered int
}

// TestSoak watches as many connections as the machine makes while containers and namespaces come and go,
// dockerd is restarted twice and the firewall reloaded twice: nothing crashes, nothing leaks, and every
// connection has its verdict or was counted as lost.
func TestSoak(t *testing.T) {
	h := need(t).Hosts[1]
	// Addresses of its own: engines give out the same ones, and the traffic to those of all is seen.
	own := shared.OutsideAddr.As4()
	n := h.network(t, "--subnet", fmt.Sprintf("10.212.%d.0/24", own[2]))
	s := &soak{h: h, n: n, web: n.server(t), client: n.client(t), quiet: n.server(t), length: soakShort}
	if text := os.Getenv(soakEnv); text != "" {
		var err error
		s.length, err = time.ParseDuration(text)
		check(t, err)
	}
	s.build(t)
	busy, counting := s.watch(t)
	idle := s.launch(t, "--to", s.quiet.Name+":80", "-o", "json")
	idle.ready()
	go func() {
		for range idle.lines { // or it waits for its output to be taken
			continue
		}
	}()
	objects := held(busy.Process.Pid)

	stop := make(chan struct{})
	churn := s.churn(t, stop)
	made := s.connect(t)
	var early usage
	for i, event := range []func(){
		func() { early = usageOf(t, busy.Process.Pid) },
		func() { check(t, h.stopDaemon()); check(t, h.startDaemon()) }, func() { s.reload(t) },
		func() { check(t, h.stopDaemon()); check(t, h.startDaemon()) }, func() { s.reload(t) },
	} {
		time.Sleep(s.length / 5) // load is what is waited for
		event()
		if !alive(busy.Process.Pid) || !alive(idle.cmd.Process.Pid) {
			t.Fatalf("pathtrace ended after event %d of the soak: %s", i, idle.text())
		}
	}
	check(t, made())
	close(stop)
	<-churn
	s.settled(t, busy, early)
	s.goroutines(t, idle)
	_ = busy.Process.Signal(unix.SIGINT)
	s.accounted(t, counting())
	if !eventually(10*time.Second, func() bool { return len(objects.left()) == 0 }) {
		t.Errorf("left in the kernel: %v", objects.left())
	}
}

// build builds the maker of traffic, and for a long soak pathtrace with the race detector.
func (s *soak) build(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	s.traffic, s.binary = filepath.Join(dir, "traffic"), shared.Binary
	goBuild(t, "0", "-o", s.traffic, "./testdata/traffic")
	if _, err := exec.LookPath("gcc"); err == nil && os.Getenv(soakEnv) != "" {
		s.binary = filepath.Join(dir, "pathtrace")
		goBuild(t, "1", "-race", "-o", s.binary, "../../cmd/pathtrace")
	}
}

func goBuild(t *testing.T, cgo string, args ...string) {
	t.Helper()
	cmd := exec.Command("go", append([]string{"build", "-buildvcs=false"}, args...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
}

// counted is what the busy trace came to.
type counted struct {
	verdicts, failed int
	others           map[string]int // outcome, cause and whether complete, of those not delivered
	stats            string
	errors           string
	status           int
}

// watch starts a trace of the busy server.
func (s *soak) watch(t *testing.T) (*exec.Cmd, func() counted) {
	t.Helper()
	return s.h.counting(t, s.binary, "--to", s.web.Name+":80")
}

// counting starts a pathtrace on the host whose output is counted and not kept.
func (h *host) counting(t *testing.T, binary string, args ...string) (*exec.Cmd, func() counted) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"--docker-host", "unix://" + h.Socket, "-o", "json"}, args...)...)
	cmd.Env = append(cleanEnv(), "GORACE=halt_on_error=1 exitcode=66")
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	var errs strings.Builder
	cmd.Stderr = &errs
	check(t, startIn(h.NetNS, cmd))
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, but for a test that failed
	in := bufio.NewReaderSize(stdout, 1<<20)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"type":"meta"`) {
		t.Fatalf("first line %q: %v\n%s", line, err, errs.String())
	}
	result := make(chan counted, 1)
	go func() {
		c := counted{others: map[string]int{}}
		for err := error(nil); err == nil; {
			var line string
			line, err = in.ReadString('\n')
			switch {
			case strings.HasPrefix(line, `{"type":"verdict"`):
				c.verdicts++
				if !strings.Contains(line, `"outcome":"delivered"`) {
					c.failed++
					var v path.Verdict
					_ = json.Unmarshal([]byte(line), &v) // what is not read is counted as the zero value
					c.others[fmt.Sprintf("%s %s, complete %v", v.Outcome, v.Cause, v.Complete)]++
				}
			case strings.HasPrefix(line, `{"type":"stats"`):
				c.stats = line
			}
		}
		_ = cmd.Wait() // its status is looked at
		c.errors, c.status = errs.String(), cmd.ProcessState.ExitCode()
		result <- c
	}()
	return cmd, func() counted { return <-result }
}

// launch is host.launch with the soak's own pathtrace.
func (s *soak) launch(t *testing.T, args ...string) *process {
	t.Helper()
	args = append([]string{"--docker-host", "unix://" + s.h.Socket}, args...)
	return launchIn(t, s.h.NetNS, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Env = s.binary, append(cmd.Env, "GORACE=halt_on_error=1 exitcode=66", "GOTRACEBACK=all")
	}, args...)
}

// connect makes connections from the client, as many as it can; the function it returns ends that.
func (s *soak) connect(t *testing.T) (end func() error) {
	t.Helper()
	stop := s.client.connects(t, s.traffic, s.web.addr(s.n).String()+":80", 0)
	return func() (err error) {
		s.tried, s.answered, err = stop()
		return err
	}
}

// connects makes connections from a container with the maker of traffic, so many a second, 0 for as many as
// it can. The function it returns ends that and says how many were made and how many were answered.
func (c *container) connects(t *testing.T, traffic, to string, rate int) (end func() (tried, answered int, err error)) {
	t.Helper()
	cmd := exec.Command("nsenter", "--net=/proc/"+c.process()+"/ns/net", traffic, "connect", to, strconv.Itoa(rate), "86400")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	check(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended, but for a test that failed
	return func() (tried, answered int, err error) {
		_ = cmd.Process.Signal(unix.SIGTERM)
		if err := cmd.Wait(); err != nil {
			return 0, 0, fmt.Errorf("make connections: %w: %s", err, out.String())
		}
		_, err = fmt.Sscan(out.String(), &tried, &answered)
		return tried, answered, err
	}
}

// churn starts and removes containers and namespaces, those in the middle of a connection, until stop.
// It has to put up with an engine that is being restarted.
func (s *soak) churn(t *testing.T, stop <-chan struct{}) (done <-chan struct{}) {
	t.Helper()
	ended := make(chan struct{})
	quiet := s.quiet.addr(s.n).String()
	prefix := strings.TrimSuffix(shared.Outside, "outside")
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprintf("%ssoak%d", prefix, i)
			if s.h.docker("run", "-d", "--name", name, "--network", s.n.Name, image, "get", quiet+":80", "3") == nil {
				s.churned.Add(1)
			}
			_ = s.vanish(name, quiet) // the engine, or the namespace, may be gone by then
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
			_ = s.h.docker("rm", "-f", name)
		}
	}()
	t.Cleanup(s.h.removeContainers)
	return ended
}

// vanish makes a namespace on the host's network of containers, sends a request from it that is never
// answered, and removes it at once.
func (s *soak) vanish(name, to string) error {
	script := fmt.Sprintf(`set -e
trap "ip netns del %[1]s" EXIT
ip netns add %[1]s
nsenter --net=/run/netns/%[2]s ip link add v-%[3]d type veth peer name eth0 netns %[1]s
nsenter --net=/run/netns/%[2]s ip link set v-%[3]d master %[4]s up
ip -n %[1]s addr add 10.215.0.9/24 dev eth0
ip -n %[1]s link set eth0 up
ip -n %[1]s route add default dev eth0
nsenter --net=/run/netns/%[1]s timeout 0.05 busybox nc %[5]s 80 </dev/null || true`, name, s.h.NetNS, s.churned.Load()%100000, s.n.Bridge, to)
	return exec.Command("bash", "-c", script).Run()
}

// reload writes the host's whole firewall anew, as a service does that reloads it.
func (s *soak) reload(t *testing.T) {
	t.Helper()
	s.h.feed(t, s.h.do(t, "iptables-save"), "iptables-restore", "-w")
}

// growth is how many MB a trace may use more at the end of the soak than after its first fifth. The race
// detector keeps several times as much of what was used once.
func (s *soak) growth() float64 {
	if s.binary != shared.Binary {
		return 4 * growth
	}
	return growth
}

// usage is what a process holds.
type usage struct {
	files, threads int     // files without links
	links          int     // as many as hooks in the namespaces on the way
	memory         float64 // MB
	objects        int
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	check(t, err)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	check(t, err)
	u := usage{files: len(files)}
	for kind, list := range held(pid) {
		if kind == "link" {
			u.files, u.links = u.files-len(list), len(list)
		} else {
			u.objects += len(list)
		}
	}
	for line := range strings.Lines(string(text)) {
		var n float64
		switch key, value, _ := strings.Cut(line, ":"); key {
		case "Threads":
			fmt.Sscan(value, &u.threads)
		case "VmRSS":
			fmt.Sscan(value, &n)
			u.memory = n * 1024 / 1e6
		}
	}
	return u
}

// settled checks that the busy trace holds no more than early in the soak, soon after it.
func (s *soak) settled(t *testing.T, busy *exec.Cmd, early usage) {
	t.Helper()
	const (
		few      = 12 // files of what goes on at that moment: a connection to the engine, a namespace
		fewLinks = 64 // those of some namespaces
	)
	var late usage
	ok := eventually(30*time.Second, func() bool {
		late = usageOf(t, busy.Process.Pid)
		return late.files <= early.files+few && late.threads <= early.threads+few &&
			late.links <= early.links+fewLinks && late.objects <= early.objects
	})
	t.Logf("after a fifth %+v, at the end %+v; %d containers came and went", early, late, s.churned.Load())
	if !ok {
		t.Errorf("it holds more than before: %+v, before %+v", late, early)
	}
	if grown := late.memory - early.memory; grown > s.growth() {
		t.Errorf("it grew by %.1f MB, to %.1f", grown, late.memory)
	}
}

// goroutines compares those of a trace that went through the soak with those of a fresh one.
func (s *soak) goroutines(t *testing.T, old *process) {
	t.Helper()
	fresh := s.launch(t, "--to", s.quiet.Name+":80", "-o", "json")
	fresh.ready()
	header := regexp.MustCompile(`(?m)^goroutine \d+ .*\[`)
	count := func(p *process) int {
		_ = p.cmd.Process.Signal(unix.SIGQUIT) // makes Go list them
		<-p.ended
		return len(header.FindAllString(p.err.String(), -1))
	}
	before, now := count(fresh), count(old)
	t.Logf("%d goroutines after the soak, %d in a fresh trace", now, before)
	if before == 0 || now > before+8 {
		t.Errorf("%d goroutines after the soak, %d in a fresh trace\n%s", now, before, tailOf(old.err.String()))
	}
}

// accounted holds the verdicts against the connections that were made.
func (s *soak) accounted(t *testing.T, c counted) {
	t.Helper()
	var st path.Stats
	check(t, json.Unmarshal([]byte(c.stats), &st))
	t.Logf("%d connections, %d answered; %d verdicts, %d not delivered; %d events, %d lost; warnings %v; status %d",
		s.tried, s.answered, c.verdicts, c.failed, st.Events, st.LostEvents, st.Warnings, c.status)
	t.Logf("not delivered: %v", c.others)
	if strings.Contains(c.errors, "DATA RACE") || strings.Contains(c.errors, "panic") || c.status < 0 || c.status > statusNoTraffic {
		t.Errorf("status %d:\n%s", c.status, tailOf(c.errors))
	}
	lost := int(st.LostEvents)
	// A request that was dropped for a moment and sent again has two verdicts.
	if c.verdicts+lost < s.tried || c.verdicts-c.failed > s.tried+lost {
		t.Errorf("%d connections, %d verdicts (%d of them not delivered), %d events lost", s.tried, c.verdicts, c.failed, lost)
	}
	if s.answered == 0 || s.churned.Load() == 0 {
		t.Errorf("%d connections were answered, %d containers came and went", s.answered, s.churned.Load())
	}
}
