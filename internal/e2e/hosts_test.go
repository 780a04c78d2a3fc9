//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// hostsTest is a client on one host and a server on another, which publishes its port.
type hostsTest struct {
	ssh      *sshHosts
	one, two *host
	cli, web *container
	args     []string // a probe from the one to the other
}

// TestHosts follows connections from a container of one host to a published port of another, through ssh.
func TestHosts(t *testing.T) {
	need(t)
	x := &hostsTest{one: shared.Hosts[0], two: shared.Hosts[1]}
	x.ssh = newSSH(t, x.one, x.two)
	x.cli, x.web = x.one.network(t).client(t), x.two.network(t).server(t, "-p", "18080:80")
	x.args = append(at(x.one, x.two), "--from", x.cli.Name, "--to", x.web.Name+":80")
	t.Run("delivered", x.delivered)
	t.Run("dropped on the other host", x.dropped)
	t.Run("one host refuses", x.refused)
	t.Run("host key unknown", x.unknownKey)
	t.Run("names", x.unknownNames)
	t.Run("watched", x.watched)
	t.Run("killed", x.killed)
	t.Run("recorded", x.recorded)
}

func (x *hostsTest) clean(t *testing.T) {
	t.Helper()
	x.ssh.clean(t, x.one)
	x.ssh.clean(t, x.two)
}

// hosts lists on which hosts a direction's packets were seen, in the order in which they came there.
func hostsOf(r *result, d path.Direction) []string {
	var out []string
	for _, h := range r.hops {
		if h.Direction == d && (len(out) == 0 || out[len(out)-1] != h.Host) && h.Stage == path.StageDevice {
			out = append(out, h.Host)
		}
		if len(r.hops) > 0 && h.Packet != 1 && d == path.Request {
			break
		}
	}
	return out
}

// delivered: one path over both hosts, with the names of each.
func (x *hostsTest) delivered(t *testing.T) {
	r := x.ssh.run(t, append(x.args, "-o", "json")...)
	r.verdict(want{Outcome: path.Delivered, Hops: []hop{
		{Container: x.cli.Name, Direction: path.Request, Device: "eth0", Action: path.ActionTransmit},
		{Namespace: x.one.name(), Direction: path.Request, Action: path.ActionMasquerade},
		{Namespace: x.two.name(), Direction: path.Request, Action: path.ActionDNAT},
		{Container: x.web.Name, Direction: path.Request, Device: "eth0", Action: path.ActionReceive},
		{Container: x.web.Name, Direction: path.Reply, Device: "eth0", Action: path.ActionTransmit},
		{Container: x.cli.Name, Direction: path.Reply, Device: "eth0", Action: path.ActionReceive},
	}})
	if got := hostsOf(r, path.Request); !slices.Equal(got, []string{x.one.name(), x.two.name()}) {
		t.Errorf("the request was seen on %v", got)
	}
	if !slices.Equal(r.meta.Hosts, []string{x.one.name(), x.two.name()}) {
		t.Errorf("meta names hosts %v", r.meta.Hosts)
	}
	for _, h := range r.verdicts[0].Hosts {
		if h.Packets == 0 || h.Problem != "" {
			t.Errorf("contribution of a host: %+v", h)
		}
	}
	text := x.ssh.run(t, x.args...)
	text.has("container "+x.cli.Name+" on "+x.one.name(), "host "+x.two.name(), "container "+x.web.Name+" on "+x.two.name())
	x.clean(t)
}

// dropped: the other host's rule is found, and removed by a command that runs there.
func (x *hostsTest) dropped(t *testing.T) {
	rule := []string{"DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP"}
	x.two.do(t, "iptables", append([]string{"-w", "-I"}, rule...)...)
	defer x.two.do(t, "iptables", append([]string{"-w", "-D"}, rule...)...)
	r := x.ssh.run(t, append(append(x.args, brief...), "-o", "json")...)
	r.verdict(want{Outcome: path.Dropped, Cause: path.CauseFirewallDrop, Namespace: x.two.name(), Direction: path.Request})
	v := r.verdicts[0]
	if v.Where.Host != x.two.name() || v.Where.Rule == nil || v.Where.Rule.Chain != "DOCKER-USER" {
		t.Errorf("where: %+v", v.Where)
	}
	if remedy := strings.Join(v.Remedy, "\n"); !strings.Contains(remedy, "ssh root@"+x.two.Addr.String()+" 'iptables") {
		t.Errorf("no remedy that runs on %s:\n%s", x.two.name(), remedy)
	}
}

// refused: a host without an ssh server is named, and the others go on.
func (x *hostsTest) refused(t *testing.T) {
	args := append([]string{"--host", "ssh://root@" + shared.OutsideAddr.String()}, x.args...)
	r := x.ssh.run(t, append(args, "-o", "json")...)
	if len(r.verdicts) != 1 || r.verdicts[0].Outcome != path.Delivered {
		t.Fatalf("%s%s", r.stdout, r.stderr)
	}
	v := r.verdicts[0]
	if i := slices.IndexFunc(v.Hosts, func(h path.HostView) bool { return strings.Contains(h.Problem, "refuses the connection") }); i < 0 || v.Complete {
		t.Errorf("hosts %+v, complete %v", v.Hosts, v.Complete)
	}
	if !strings.Contains(r.stderr, "without "+shared.OutsideAddr.String()) {
		t.Errorf("it is not said who is missing: %s", r.stderr)
	}
}

// unknownKey: nothing is done with a host whose key nobody has accepted.
func (x *hostsTest) unknownKey(t *testing.T) {
	known, err := os.ReadFile(x.ssh.file("known_hosts"))
	check(t, err)
	x.ssh.write("known_hosts", "", 0o600)
	defer x.ssh.write("known_hosts", string(known), 0o600)
	r := x.ssh.run(t, x.args...)
	if r.status != statusCannotTrace || !strings.Contains(r.stderr, "has a host key that is not known here: run ssh root@"+x.one.Addr.String()) {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
}

// unknownNames: one sentence for what no host knows.
func (x *hostsTest) unknownNames(t *testing.T) {
	r := x.ssh.run(t, append(at(x.one, x.two), "--from", x.cli.Name, "--to", "nosuchthing.invalid:80")...)
	if r.status != statusCannotTrace || !strings.Contains(r.stderr, "nosuchthing.invalid") {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
	r = x.ssh.run(t, append(at(x.one, x.two), "--from", "host", "--to", x.web.Name+":80")...)
	if r.status != statusUsage || !strings.Contains(r.stderr, "--from "+x.one.name()) {
		t.Errorf("status %d: %s", r.status, r.stderr)
	}
}

// get asks the web server through its published port, from the client's container.
func (x *hostsTest) get(t *testing.T) {
	t.Helper()
	out, err := runInNetNS("/proc/"+x.cli.inspect("{{.State.Pid}}")+"/ns/net", "curl", "-sS", "-m", "10", "-o", "/dev/null",
		fmt.Sprintf("http://%s:18080/", x.two.Addr))
	if err != nil && !strings.Contains(out, http.StatusText(http.StatusOK)) && !strings.Contains(out, "Empty reply") {
		t.Logf("curl: %v: %s", err, out) // whatever it says, it has connected
	}
}

// watched: live traffic over both hosts; then the connection to one dies, and the other goes on.
func (x *hostsTest) watched(t *testing.T) {
	p := x.ssh.launch(t, append(at(x.one, x.two), "--to", x.web.Name+":80", "-o", "json")...)
	p.ready()
	x.get(t)
	line := p.until("verdict", func(line string) bool { return strings.HasPrefix(line, `{"type":"verdict"`) })
	for _, h := range []*host{x.one, x.two} {
		if !strings.Contains(line, `{"host":"`+h.name()+`","packets":`) {
			t.Errorf("no contribution of %s: %s", h.name(), line)
		}
	}
	for _, pid := range children(p.cmd.Process.Pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(text), x.two.Addr.String()) {
			check(t, unix.Kill(pid, unix.SIGKILL))
		}
	}
	if !p.said("without " + x.two.name()) {
		t.Errorf("it is not said that %s is lost: %s", x.two.name(), p.text())
	}
	x.ssh.clean(t, x.two)
	x.get(t)
	line = p.until("verdict", func(line string) bool { return strings.HasPrefix(line, `{"type":"verdict"`) })
	if !strings.Contains(line, `"problem":`) {
		t.Errorf("the verdict does not say what could not be seen: %s", line)
	}
	check(t, p.cmd.Process.Signal(unix.SIGINT))
	if r := p.wait(); r.stats == nil {
		t.Errorf("no end after Ctrl-C: %s", r.stderr)
	}
	x.clean(t)
}

// killed: a pathtrace that is killed leaves nothing on the hosts.
func (x *hostsTest) killed(t *testing.T) {
	p := x.ssh.launch(t, append(at(x.one, x.two), "--to", x.web.Name+":80", "-o", "json")...)
	p.ready()
	check(t, p.cmd.Process.Kill())
	x.clean(t)
}

// recorded: what both hosts recorded for themselves, merged later.
func (x *hostsTest) recorded(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one.ptr"), filepath.Join(t.TempDir(), "two.ptr")
	target := fmt.Sprintf("%s:18080", x.two.Addr)
	first := x.one.launch(t, "record", "-w", one, "--to", target, "-o", "json")
	second := x.two.launch(t, "record", "-w", two, "--to", x.web.Name+":80", "-o", "json")
	first.ready()
	second.ready()
	x.get(t)
	for _, p := range []*process{first, second} {
		p.until("verdict", func(line string) bool { return strings.HasPrefix(line, `{"type":"verdict"`) })
		check(t, p.cmd.Process.Signal(unix.SIGINT))
		p.wait()
	}
	r := x.ssh.run(t, "replay", one, two, "-o", "json")
	r.verdict(want{Outcome: path.Delivered, Hops: []hop{
		{Container: x.cli.Name, Direction: path.Request, Device: "eth0", Action: path.ActionTransmit},
		{Container: x.web.Name, Direction: path.Request, Device: "eth0", Action: path.ActionReceive},
		{Container: x.cli.Name, Direction: path.Reply, Device: "eth0", Action: path.ActionReceive},
	}})
	seen := map[string]int{}
	for _, h := range r.hops {
		if h.Container == x.web.Name && h.TCPFlags == "S" && h.Stage == path.StageDevice {
			seen[string(h.Action)+h.Device]++
		}
	}
	if seen["receiveeth0"] != 1 {
		t.Errorf("what both recordings have of one kernel is there more than once: %v\n%s", seen, r.stdout)
	}
	twice, err := exec.Command(shared.Binary, "replay", one, one).CombinedOutput()
	if err == nil || !strings.Contains(string(twice), "the same recording: give it once") {
		t.Errorf("the same twice: %v: %s", err, twice)
	}
}

// severalHosts: the overlay seen by a pathtrace on each host, each of which sees its own host only.
func (s *swarm) severalHosts(t *testing.T) {
	ssh := newSSH(t, s.one, s.two)
	args := append(at(s.one, s.two), "--from", s.o1.Name, "--to", s.o2.Name+":80")
	t.Run("delivered", func(t *testing.T) {
		text := ssh.run(t, args...)
		text.has(append(s.outer(), "container "+s.o1.Name+" on "+s.one.name(), "overlay "+s.net.Name+" on "+s.one.name(),
			"host "+s.one.name(), "host "+s.two.name(), "overlay "+s.net.Name+" on "+s.two.name(),
			"container "+s.o2.Name+" on "+s.two.name(), "delivered: "+s.o2.Name+" answered "+s.o1.Name)...)
		for _, proto := range []string{"udp", "icmp"} {
			to := s.o2.Name
			if proto == "udp" {
				to += ":53" // nobody listens, and that is what has to come back
			}
			r := ssh.run(t, append(at(s.one, s.two), "--from", s.o1.Name, "--to", to, "--proto", proto, "-o", "json")...)
			if len(r.verdicts) != 1 || r.verdicts[0].Outcome != path.Delivered && r.verdicts[0].Cause != path.CauseNotListening {
				t.Errorf("%s: %s%s", proto, lastVerdict(r), r.stderr)
			}
		}
	})
	t.Run("blocked at the peer", func(t *testing.T) {
		rule := []string{"INPUT", "-p", "udp", "--dport", "4789", "-j", "DROP"}
		s.two.do(t, "iptables", append([]string{"-w", "-I"}, rule...)...)
		defer s.two.do(t, "iptables", append([]string{"-w", "-D"}, rule...)...)
		r := ssh.run(t, append(append(args, brief...), "-o", "json")...)
		if len(r.verdicts) != 1 {
			t.Fatalf("%s%s", r.stdout, r.stderr)
		}
		v := r.verdicts[0]
		if v.Cause != path.CauseFirewallDrop || v.Where.Host != s.two.name() || v.Where.Rule == nil ||
			!strings.Contains(strings.Join(v.Remedy, "\n"), "ssh root@"+s.two.Addr.String()+" 'iptables") {
			t.Errorf("%s", lastVerdict(r))
		}
	})
	t.Run("the peer is not watched", func(t *testing.T) {
		nobody := "ssh://root@" + shared.OutsideAddr.String()
		r := ssh.run(t, append(at(s.one), "--host", nobody, "--from", s.o1.Name, "--to", s.o2.Name+":80", "-o", "json")...)
		if len(r.verdicts) != 1 {
			t.Fatalf("%s%s", r.stdout, r.stderr)
		}
		v := r.verdicts[0]
		if v.Outcome != path.Delivered || v.Complete || !strings.Contains(strings.Join(v.Evidence, "\n"), "could not be seen: root@"+shared.OutsideAddr.String()) {
			t.Errorf("%s", lastVerdict(r))
		}
	})
}
