package tracer_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestPairHosts is one of two machines with different kernels, and with an ssh server each: the first one
// follows a connection over both with --host, while the other one's clock is ahead.
func TestPairHosts(t *testing.T) {
	m := newMachine(t)
	m.serveSSH(t)
	if m.name == "two" {
		labtest.Must(t, setClock(pairAhead))
		_, err := m.container.TCPServer(pairService, nil)
		labtest.Must(t, err)
	}
	c := m.control(t)
	if m.name == "two" {
		m.serves(t, c)
		return
	}
	clock := c.compareClocks(t)
	until(t, "connection through the overlay", func() error {
		return connect(m.container, netip.MustParseAddrPort(pairService))
	})
	cmd := exec.Command("./pathtrace", "--host", "ssh://root@"+m.outer.String(), "--host", "ssh://root@"+m.peer.String(),
		"--from", "c-one", "--to", pairService, "--timeout", "20s", "-o", "json")
	var said strings.Builder
	cmd.Stderr = &said
	start := time.Now()
	out, err := cmd.Output()
	t.Logf("pathtrace --host took %v: %v\n%s", time.Since(start).Round(time.Second), err, said.String())
	labtest.Must(t, err)
	checkPairHosts(t, string(out), time.Duration(clock.LowestNS))
	m.checkNothingLeft(t)
	c.say(t, "end")
	if got := c.hear(t); got != "nothing left" {
		t.Errorf("the other machine says %q", got)
	}
}

// serveSSH starts this machine's ssh server.
func (m *machine) serveSSH(t *testing.T) {
	t.Helper()
	labtest.Must(t, os.MkdirAll("/run/sshd", 0o755))
	cmd := exec.Command("/usr/sbin/sshd", "-D", "-e")
	cmd.Stderr = os.Stderr
	labtest.Must(t, cmd.Start())
	t.Cleanup(func() {
		labtest.Must(t, cmd.Process.Signal(unix.SIGTERM))
		_ = cmd.Wait() // ended by the signal
	})
}

// serves does what the first machine asks for.
func (m *machine) serves(t *testing.T, c *control) {
	t.Helper()
	for {
		switch word := c.hear(t); word {
		case "time":
			c.say(t, fmt.Sprint(time.Now().UnixNano()))
		case "end":
			m.checkNothingLeft(t)
			c.say(t, "nothing left")
			return
		default:
			t.Fatalf("the other machine says %q", word)
		}
	}
}

// checkNothingLeft: the program that was copied here has been removed.
func (m *machine) checkNothingLeft(t *testing.T) {
	t.Helper()
	until(t, "end of what was copied to "+m.name, func() error {
		if left, err := filepath.Glob("/tmp/pathtrace.*"); err != nil || len(left) > 0 {
			return os.ErrExist
		}
		return nil
	})
}

// checkPairHosts: one path over both machines in the right order, one verdict, and the clock that is ahead.
func checkPairHosts(t *testing.T, output string, ahead time.Duration) {
	t.Helper()
	var verdicts []tracer.Verdict
	way := ""
	for line := range strings.Lines(output) {
		var object struct {
			Type string `json:"type"`
		}
		labtest.Must(t, json.Unmarshal([]byte(line), &object))
		switch object.Type {
		case "hop":
			var h path.Hop
			labtest.Must(t, json.Unmarshal([]byte(line), &h))
			if h.Stage == path.StageDevice && h.Direction == path.Request && h.TCPFlags == "S" {
				way += h.Host + " " + h.Device + " " + string(h.Action) + "\n"
			}
		case "verdict":
			var v tracer.Verdict
			labtest.Must(t, json.Unmarshal([]byte(line), &v))
			verdicts = append(verdicts, v)
		}
	}
	if len(verdicts) != 1 {
		t.Fatalf("got %d verdicts, want one:\n%s", len(verdicts), output)
	}
	checkVerdict(t, verdicts[0], path.Delivered, "")
	rest := way
	for _, want := range []string{"one eth0 transmit\n", "two eth0 receive\n", "two vxlan0 receive\n"} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Errorf("%q is missing or out of order in\n%s", want, way)
		}
		rest = after
	}
	checkPairClocks(t, &verdicts[0], ahead)
}

// checkPairClocks: both machines contributed, and the packets told by how much the second one's clock is
// ahead. TestPairReplay holds how exactly; here it has to be the clock that is seven seconds ahead.
func checkPairClocks(t *testing.T, v *tracer.Verdict, ahead time.Duration) {
	t.Helper()
	if len(v.Hosts) != 2 {
		t.Errorf("got %d hosts, want two: %+v", len(v.Hosts), v.Hosts)
	}
	for _, h := range v.Hosts {
		if h.Packets == 0 || h.Problem != "" {
			t.Errorf("host %s contributed %d packets: %q", h.Host, h.Packets, h.Problem)
		}
		off := time.Duration(h.ClockOffsetNS) - ahead
		if h.Host == "two" && (off.Abs() > time.Second || h.Clock != "packets") {
			t.Errorf("offset of its clock wrong by %v, known from %s", off, h.Clock)
		}
		t.Logf("%s: clock ahead by %v ± %v, from %s", h.Host, time.Duration(h.ClockOffsetNS), time.Duration(h.ClockErrorNS), h.Clock)
	}
}
