package tracer_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestMachineBench measures, in a machine of scripts/kernels.sh bench, what pathtrace takes to start and
// to end, and what it leaves of three kinds of traffic through DNAT and a bridge, in turns with nothing
// attached: while the traffic runs, and counting the processor time pathtrace still takes after it. `make bench` reads
// the lines that begin with "machine:".
func TestMachineBench(t *testing.T) {
	if os.Getenv("MACHINE_BENCH") == "" {
		t.Skip("it runs in an emulated machine: scripts/kernels.sh bench")
	}
	rounds, err := strconv.Atoi(os.Getenv("MACHINE_BENCH"))
	labtest.Must(t, err)
	m := newBenchMachine(t)
	variants := []struct {
		name string
		args []string
	}{
		{"nothing attached", nil},
		{"matching nothing", []string{"--to", "203.0.113.7:443"}},
		{"matching the flow", []string{"--to", m.to.String()}},
		{"matching every packet", []string{"--to", m.to.String(), "--all-packets"}},
	}
	measured := map[string][]float64{}
	add := func(what string, value float64) { measured[what] = append(measured[what], value) }
	for round := range rounds + 1 {
		base := map[string]float64{}
		for _, v := range variants {
			tool := m.attach(t, v.args, add)
			for _, work := range m.works() {
				rate := work.run(t)
				behind := tool.rest(t)
				switch {
				case round == 0: // the first one is cold
				case v.args == nil:
					base[work.name] = rate
					add(work.name+", per second", rate)
				default:
					rate /= base[work.name]
					add(v.name+", "+work.name, rate)
					add(v.name+", "+work.name+", with what comes after", rate*float64(window)/float64(window+behind))
				}
			}
			tool.stop(t, add)
		}
	}
	for what, values := range measured {
		slices.Sort(values)
		t.Logf("machine: %s = %.3f (%.3f to %.3f)", what, values[len(values)/2], values[0], values[len(values)-1])
	}
}

// benchMachine is the demo's network with a server of three kinds of traffic.
type benchMachine struct {
	d  *lab.Demo
	to netip.AddrPort // published on the router
}

func newBenchMachine(t *testing.T) *benchMachine {
	t.Helper()
	const port = 9000
	d := labtest.Demo(t, lab.Options{Named: true, Prefix: "bench-"})
	m := &benchMachine{d, netip.AddrPortFrom(d.RouterAddr, port)}
	_, err := d.Router.AddRule(lab.Rule{Hook: lab.Prerouting, Action: lab.DNAT, Proto: path.TCP, DstPort: port,
		Dst: netip.PrefixFrom(d.RouterAddr, 32), To: netip.AddrPortFrom(d.WebAddr, port)})
	labtest.Must(t, err)
	server, err := d.Web.TCPServer(":9000", func(c net.Conn) {
		defer c.Close()
		buf := make([]byte, 128<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if n == 1 { // a request; more is bulk
				if _, err := c.Write(buf[:1]); err != nil {
					return
				}
			}
		}
	})
	labtest.Must(t, err)
	t.Cleanup(func() { server.Close() })
	return m
}

// attached is a running pathtrace; without cmd there is none.
type attached struct {
	cmd     *exec.Cmd
	drained chan struct{} // closed when it has ended
}

// attach starts pathtrace in the router, notes how long that took, and waits until it has come to rest.
func (m *benchMachine) attach(t *testing.T, args []string, add func(string, float64)) attached {
	t.Helper()
	if args == nil {
		return attached{}
	}
	cmd := exec.Command("./pathtrace", append([]string{"-o", "json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	labtest.Must(t, err)
	start := time.Now()
	labtest.Must(t, m.d.Router.Do(cmd.Start))
	in := bufio.NewReader(out)
	line, err := in.ReadString('\n')
	if err != nil || !strings.Contains(line, `"meta"`) {
		t.Fatalf("pathtrace: %q, %v", line, err)
	}
	add("exec to ready, s", time.Since(start).Seconds())
	a := attached{cmd, make(chan struct{})}
	go func() {
		defer close(a.drained)
		_, _ = io.Copy(io.Discard, in) // until it ends
	}()
	a.rest(t) // it reads the kernel's symbols
	return a
}

// rest waits until pathtrace uses no processor time any more and returns what it used until then.
func (a attached) rest(t *testing.T) time.Duration {
	t.Helper()
	if a.cmd == nil {
		return 0
	}
	const step, quiet, calm = 5 * time.Millisecond, 200 * time.Millisecond, time.Millisecond
	start, before := time.Now(), a.processorTime(t)
	last, used := start, before
	for time.Since(last) < quiet {
		time.Sleep(step)
		if now := a.processorTime(t); now-used > calm {
			last, used = time.Now(), now
		}
		if time.Since(start) > labtest.Patience(time.Minute) {
			t.Fatal("pathtrace does not come to rest")
		}
	}
	return used - before
}

// processorTime is what all threads of pathtrace have used.
func (a attached) processorTime(t *testing.T) (sum time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", a.cmd.Process.Pid))
	labtest.Must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		var ran time.Duration
		_, err = fmt.Sscan(string(text), &ran)
		labtest.Must(t, err)
		sum += ran
	}
	return sum
}

// stop interrupts a pathtrace at rest and notes how long its end took.
func (a attached) stop(t *testing.T, add func(string, float64)) {
	t.Helper()
	if a.cmd == nil {
		return
	}
	interrupted := time.Now()
	labtest.Must(t, a.cmd.Process.Signal(unix.SIGINT))
	<-a.drained
	_ = a.cmd.Wait() // without traffic its status is not 0
	add("Ctrl-C to exit, s", time.Since(interrupted).Seconds())
}

// work is one kind of traffic; run returns how much of it was done in a second.
type work struct {
	name string
	run  func(*testing.T) float64
}

// window is for how long each kind of traffic is measured.
const window = 300 * time.Millisecond

func (m *benchMachine) works() []work {
	return []work{
		{"request and response", func(t *testing.T) float64 {
			c := m.dial(t)
			defer c.Close()
			return during(func() float64 { return ask(t, c) })
		}},
		{"connect and request", func(t *testing.T) float64 {
			return during(func() float64 {
				c := m.dial(t)
				defer c.Close()
				return ask(t, c)
			})
		}},
		{"bulk", func(t *testing.T) float64 {
			c := m.dial(t)
			defer c.Close()
			buf := make([]byte, 64<<10)
			return during(func() float64 {
				n, err := c.Write(buf)
				labtest.Must(t, err)
				return float64(n)
			})
		}},
	}
}

func (m *benchMachine) dial(t *testing.T) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), labtest.Patience(10*time.Second))
	defer cancel()
	c, err := m.d.Client.Dial(ctx, "tcp", m.to.String())
	labtest.Must(t, err)
	return c
}

func ask(t *testing.T, c net.Conn) float64 {
	t.Helper()
	buf := []byte{1}
	_, err := c.Write(buf)
	labtest.Must(t, err)
	_, err = io.ReadFull(c, buf)
	labtest.Must(t, err)
	return 1
}

// during repeats something for a window and returns the sum of its results per second.
func during(do func() float64) float64 {
	sum, start := 0.0, time.Now()
	for time.Since(start) < window {
		sum += do()
	}
	return sum / time.Since(start).Seconds()
}
