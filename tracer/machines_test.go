package tracer_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// The tests of this file run in two machines that are joined by a network device: scripts/kernels.sh
// starts both with the same test and tells them apart by the environment variable MACHINE, one or two.
// What they leave in /out is judged by TestPairReplay, on the machine that runs them.

// machine is one of the two hosts: its namespace is the machine's own.
type machine struct {
	name        string
	outer, peer netip.Addr
	inner       netip.Prefix // of the container
	container   *lab.Namespace
}

// pairClock is what the two machines found out about their clocks by themselves.
type pairClock struct {
	// The least and the largest two's clock was ahead of one's: an emulated machine that stands still for
	// long loses time.
	LowestNS    int64 `json:"lowest_ns"`
	HighestNS   int64 `json:"highest_ns"`
	RoundTripNS int64 `json:"round_trip_ns"` // the longest: half of it is the error of the others
}

// and is what two comparisons tell together.
func (p pairClock) and(q pairClock) pairClock {
	return pairClock{min(p.LowestNS, q.LowestNS), max(p.HighestNS, q.HighestNS), max(p.RoundTripNS, q.RoundTripNS)}
}

const (
	pairVNI         = 4097
	pairService     = "10.78.0.2:80"
	pairControl     = 9
	pairConnections = 3
	// pairAhead is by how much the second machine's clock is ahead: more than any delay between them.
	pairAhead = 7 * time.Second
)

// newMachine makes this machine a host with an overlay, as a container engine would: the container's
// veth and the VXLAN device are ports of a bridge.
func newMachine(t *testing.T) *machine {
	t.Helper()
	name := os.Getenv("MACHINE")
	if name == "" {
		t.Skip("this needs two machines: scripts/kernels.sh starts them")
	}
	m := &machine{name: name, outer: netip.MustParseAddr("198.51.100.1"), peer: netip.MustParseAddr("198.51.100.2"),
		inner: netip.MustParsePrefix("10.78.0.1/24")}
	if name == "two" {
		m.outer, m.peer, m.inner = m.peer, m.outer, netip.MustParsePrefix(strings.Split(pairService, ":")[0]+"/24")
	}
	labtest.Must(t, unix.Sethostname([]byte(name)))
	l := labtest.New(t, lab.Options{Named: true, Prefix: "c-"})
	m.container = labtest.Namespace(t, l, name)
	for _, command := range []string{
		"ip link set eth0 up",
		fmt.Sprintf("ip address add %s/24 dev eth0", m.outer),
		"ip link add br0 type bridge",
		fmt.Sprintf("ip link add vxlan0 type vxlan id %d local %s remote %s dstport 4789", pairVNI, m.outer, m.peer),
		"ip link set vxlan0 master br0 up",
		"ip link set br0 up",
		"ip link add veth0 type veth peer name eth0 netns c-" + name,
		"ip link set veth0 master br0 up",
		fmt.Sprintf("ip -n c-%s address add %s dev eth0", name, m.inner),
		fmt.Sprintf("ip -n c-%s link set eth0 up mtu 1450", name),
	} {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	labtest.Must(t, m.container.WaitUp(t.Context()))
	return m
}

// control is a connection between the machines beside the overlay, line by line.
type control struct {
	net.Conn
	in *bufio.Reader
}

func (m *machine) control(t *testing.T) *control {
	t.Helper()
	var conn net.Conn
	if m.name == "two" {
		l, err := net.Listen("tcp", netip.AddrPortFrom(m.outer, pairControl).String())
		labtest.Must(t, err)
		defer l.Close()
		conn, err = l.Accept()
		labtest.Must(t, err)
	} else {
		until(t, "connection to the other machine", func() (err error) {
			conn, err = net.DialTimeout("tcp", netip.AddrPortFrom(m.peer, pairControl).String(), time.Second)
			return err
		})
	}
	t.Cleanup(func() { conn.Close() })
	return &control{Conn: conn, in: bufio.NewReader(conn)}
}

func (c *control) say(t *testing.T, word string) {
	t.Helper()
	_, err := fmt.Fprintln(c, word)
	labtest.Must(t, err)
}

func (c *control) hear(t *testing.T) string {
	t.Helper()
	word, err := c.in.ReadString('\n')
	if err != nil {
		t.Fatalf("the other machine ended: %v", err)
	}
	return strings.TrimSpace(word)
}

// compareClocks asks the other machine for its time a number of times; the quickest answer tells best
// (as in NTP, RFC 5905, 8).
func (c *control) compareClocks(t *testing.T) pairClock {
	t.Helper()
	best := pairClock{RoundTripNS: time.Hour.Nanoseconds()}
	for range 30 {
		start := time.Now().UnixNano()
		c.say(t, "time")
		var theirs int64
		_, err := fmt.Sscan(c.hear(t), &theirs)
		labtest.Must(t, err)
		end := time.Now().UnixNano()
		if trip := end - start; trip < best.RoundTripNS {
			ahead := theirs - start - trip/2
			best = pairClock{ahead, ahead, trip}
		}
	}
	return best
}

// recorder is `pathtrace record` that runs.
type recorder struct {
	cmd      *exec.Cmd
	errors   strings.Builder
	verdicts []string
	done     chan bool // closed at the end of its output
}

func (m *machine) record(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	r.cmd = exec.Command("./pathtrace", "record", "-w", "/tmp/"+m.name+".ptr", "--to", pairService, "-o", "json")
	out, err := r.cmd.StdoutPipe()
	labtest.Must(t, err)
	r.cmd.Stderr = &r.errors
	labtest.Must(t, r.cmd.Start())
	started := make(chan bool, 1)
	r.done = make(chan bool)
	go func() {
		defer close(r.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), `"type":"meta"`) {
				started <- true
			}
			if strings.Contains(lines.Text(), `"type":"verdict"`) {
				r.verdicts = append(r.verdicts, lines.Text())
			}
		}
	}()
	select {
	case <-started:
	case <-r.done:
		t.Fatalf("pathtrace record ended: %v: %s", r.cmd.Wait(), r.errors.String())
	case <-time.After(labtest.Patience(5 * time.Second)):
		t.Fatal("pathtrace record does not begin")
	}
	return r
}

// stop ends the recording and puts it where the machine that runs this one finds it.
func (r *recorder) stop(t *testing.T, m *machine) {
	t.Helper()
	labtest.Must(t, r.cmd.Process.Signal(unix.SIGINT))
	<-r.done
	err := r.cmd.Wait()
	t.Logf("pathtrace record: %v, %d verdicts\n%s%s", err, len(r.verdicts), strings.Join(r.verdicts, "\n"), r.errors.String())
	content, err := os.ReadFile("/tmp/" + m.name + ".ptr")
	labtest.Must(t, err)
	labtest.Must(t, os.WriteFile("/out/"+m.name+".ptr", content, 0o644))
}

// TestPair is one of two machines with an overlay between their containers: both record a connection,
// and neither sees what the other recorded.
func TestPair(t *testing.T) {
	m := newMachine(t)
	if m.name == "two" {
		labtest.Must(t, setClock(pairAhead))
		_, err := m.container.TCPServer(pairService, nil)
		labtest.Must(t, err)
	}
	c := m.control(t)
	if m.name == "two" {
		m.answer(t, c)
		return
	}
	// The engines of an overlay tell each other about neighbours: the first packet need not ask.
	until(t, "connection through the overlay", func() error {
		return connect(m.container, netip.MustParseAddrPort(pairService))
	})
	r := m.record(t)
	c.say(t, "record")
	if got := c.hear(t); got != "recording" {
		t.Fatalf("the other machine says %q", got)
	}
	clock := c.compareClocks(t)
	for range pairConnections {
		labtest.Must(t, connect(m.container, netip.MustParseAddrPort(pairService)))
		clock = clock.and(c.compareClocks(t))
	}
	t.Logf("the other clock is ahead by %v to %v, give or take %v", time.Duration(clock.LowestNS),
		time.Duration(clock.HighestNS), time.Duration(clock.RoundTripNS/2))
	c.say(t, "stop")
	r.stop(t, m)
	if got := c.hear(t); got != "stopped" {
		t.Fatalf("the other machine says %q", got)
	}
	text, err := json.Marshal(clock)
	labtest.Must(t, err)
	labtest.Must(t, os.WriteFile("/out/clock.json", text, 0o644))
}

// answer does what the first machine says.
func (m *machine) answer(t *testing.T, c *control) {
	t.Helper()
	var r *recorder
	for {
		switch word := c.hear(t); word {
		case "time":
			c.say(t, fmt.Sprint(time.Now().UnixNano()))
		case "record":
			r = m.record(t)
			c.say(t, "recording")
		case "stop":
			r.stop(t, m)
			c.say(t, "stopped")
			return
		default:
			t.Fatalf("the other machine says %q", word)
		}
	}
}

// setClock puts the machine's clock ahead.
func setClock(by time.Duration) error {
	now := unix.NsecToTimespec(time.Now().Add(by).UnixNano())
	return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
}

// TestPairReplay judges what two machines recorded: one path, one verdict, and the clocks compared
// better than the round trip takes. The environment variable PAIR is the folder, PATHTRACE the program.
func TestPairReplay(t *testing.T) {
	dir, program := os.Getenv("PAIR"), os.Getenv("PATHTRACE")
	if dir == "" {
		t.Skip("this needs the recordings of two machines: scripts/kernels.sh makes them")
	}
	var clock pairClock
	text, err := os.ReadFile(filepath.Join(dir, "clock.json"))
	labtest.Must(t, err)
	labtest.Must(t, json.Unmarshal(text, &clock))
	cmd := exec.Command(program, "replay", "-o", "json", filepath.Join(dir, "one.ptr"), filepath.Join(dir, "two.ptr"))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	labtest.Must(t, err)
	verdicts, ways := 0, map[int]string{}
	for line := range strings.Lines(string(out)) {
		var object struct {
			Type string `json:"type"`
		}
		var v tracer.Verdict
		var h path.Hop
		labtest.Must(t, json.Unmarshal([]byte(line), &object))
		switch object.Type {
		case "hop":
			labtest.Must(t, json.Unmarshal([]byte(line), &h))
			if h.Stage == path.StageDevice && h.Direction == path.Request && h.TCPFlags == "S" {
				ways[h.Flow] += h.Host + " " + h.Device + " " + string(h.Action) + "\n"
			}
		case "verdict":
			verdicts++
			labtest.Must(t, json.Unmarshal([]byte(line), &v))
			checkPairVerdict(t, &v, clock)
		}
	}
	if verdicts != pairConnections {
		t.Errorf("got %d verdicts of %d connections", verdicts, pairConnections)
	}
	for flow, got := range ways {
		for _, want := range []string{"one eth0 transmit\n", "two eth0 receive\n", "two vxlan0 receive\n"} {
			if _, rest, ok := strings.Cut(got, want); ok {
				got = rest
			} else {
				t.Errorf("flow %d: %q is missing or out of order in\n%s", flow, want, ways[flow])
			}
		}
	}
}

// checkPairVerdict compares the offset that the packets told with what the machines found out.
func checkPairVerdict(t *testing.T, v *tracer.Verdict, truth pairClock) {
	t.Helper()
	checkVerdict(t, *v, path.Delivered, "")
	if v.LatencyNS == nil {
		t.Fatalf("flow %d has no round trip", v.Flow)
	}
	for _, h := range v.Hosts {
		if h.Packets == 0 {
			t.Errorf("flow %d: host %s contributed nothing", v.Flow, h.Host)
		}
		if h.Host != "two" {
			continue
		}
		off := max(h.ClockOffsetNS-truth.HighestNS, truth.LowestNS-h.ClockOffsetNS, 0)
		t.Logf("flow %d: offset wrong by %v ± %v, said to be at most %v; round trip %v", v.Flow, time.Duration(off),
			time.Duration(truth.RoundTripNS/2), time.Duration(h.ClockErrorNS), time.Duration(v.LatencyNS.RoundTrip))
		if limit := v.LatencyNS.RoundTrip + truth.RoundTripNS/2; off > limit {
			t.Errorf("flow %d: offset wrong by %v, want less than the round trip", v.Flow, time.Duration(off))
		}
		if off > h.ClockErrorNS+truth.RoundTripNS/2 {
			t.Errorf("flow %d: offset wrong by %v, and said to be right within %v", v.Flow, time.Duration(off), time.Duration(h.ClockErrorNS))
		}
	}
}

// until waits until something works.
func until(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(labtest.Patience(10 * time.Second)); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("no %s: %v", what, err)
}
