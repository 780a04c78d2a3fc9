//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// doctor examines a host, with JSON and with text, and returns the former.
func (h *host) doctor(t *testing.T, args ...string) *result {
	t.Helper()
	args = append([]string{"doctor", "--docker-host", "unix://" + h.Socket}, args...)
	r := launchIn(t, h.NetNS, nil, append(slices.Clone(args), "-o", "json")...).wait()
	text := launchIn(t, h.NetNS, nil, args...).wait()
	if r.status != text.status {
		t.Errorf("%v: exit status %d with JSON, %d with text", args, r.status, text.status)
	}
	if r.meta == nil || r.stats == nil {
		t.Fatalf("%v: no meta or no stats\n%s%s", args, r.stdout, r.stderr)
	}
	for _, f := range r.findings {
		if !strings.Contains(flat(text.stdout), flat(f.Summary)) {
			t.Errorf("the text lacks %q", f.Summary)
		}
	}
	want := statusDelivered
	if r.stats.Findings[path.SeverityError] > 0 {
		want = statusNotDelivered
	}
	if r.status != want {
		t.Errorf("%v: exit status %d, want %d\n%s", args, r.status, want, r.stderr)
	}
	if len(r.stats.Skipped) > 0 {
		t.Errorf("skipped: %q", r.stats.Skipped)
	}
	t.Logf("%s", text.stdout)
	return r
}

// sound checks that nothing is found.
func (h *host) sound(t *testing.T, when string) {
	t.Helper()
	if r := h.doctor(t); len(r.findings) > 0 {
		t.Errorf("%s: found %s", when, findingList(r.findings))
	}
}

func findingList(list []path.Finding) string {
	var out strings.Builder
	for _, f := range list {
		fmt.Fprintf(&out, "\n%s %s %s: %s; %q; %q", f.Severity, f.Check, f.Cause, f.Summary, f.Evidence, f.Remedy)
	}
	return out.String()
}

// TestDoctorHealthy: ten containers on three networks, published ports, some of them on loopback only,
// on every kind of engine.
func TestDoctorHealthy(t *testing.T) {
	for _, kind := range spareKinds {
		t.Run(kind, func(t *testing.T) {
			h := spare(t, kind)
			for _, name := range []string{"all", "default"} {
				if kind == docker29 { // this backend does not turn it on, and wants it for IPv6
					h.sysctl(t, "net.ipv6.conf."+name+".forwarding", "1")
				}
			}
			doctorHealthy(t, h)
		})
	}
}

func doctorHealthy(t *testing.T, h *host) {
	nets := []*network{h.network(t), h.network(t), h.network(t, "--ipv6", "--subnet", "fd00:d0c::/64")}
	for _, n := range nets {
		n.server(t, "-p", "80")
		n.server(t, "-p", "127.0.0.1::80")
		n.client(t)
	}
	both := nets[0].client(t)
	h.must(t, "network", "connect", nets[1].Name, both.Name)
	h.sound(t, "healthy")
	r := h.doctor(t, "--to", both.Name)
	if len(r.findings) > 0 {
		t.Errorf("limited to %s: found %s", both.Name, findingList(r.findings))
	}
}

// TestDoctorOverlay: an overlay network, with its hidden namespaces, is as healthy as others.
func TestDoctorOverlay(t *testing.T) {
	h := spare(t, plain)
	h.must(t, "swarm", "init", "--advertise-addr", h.Addr.String())
	t.Cleanup(func() {
		h.must(t, "swarm", "leave", "--force")
		h.must(t, "network", "rm", "docker_gwbridge")
	})
	name := unique("ov")
	h.must(t, "network", "create", "-d", "overlay", "--attachable", name)
	t.Cleanup(func() { _ = h.docker("network", "rm", name) })
	web := h.runs(t, "web", "tcp :80", "--network", name, "-p", "80")
	h.runs(t, "cli", "idle", "--network", name)
	h.sound(t, "overlay")
	h.do(t, "ip", "link", "set", "eth0", "mtu", "1400")
	t.Cleanup(func() { h.do(t, "ip", "link", "set", "eth0", "mtu", "1500") })
	r := h.doctor(t, "--to", web.Name)
	if !slices.ContainsFunc(r.findings, func(f path.Finding) bool {
		return f.Check == "mtu-above-uplink" && f.Where.Network == name && strings.Contains(f.Summary, "1450") && strings.Contains(f.Summary, "1350")
	}) {
		t.Errorf("found %s", findingList(r.findings))
	}
}

// TestDoctor makes one ailment after the other.
func TestDoctor(t *testing.T) {
	h, peer := spare(t, plain), spare(t, noProxy)
	s := newScene(t, h, peer, plain)
	h.sound(t, "before")
	for _, a := range ailments() {
		t.Run(a.name, func(t *testing.T) { s.ailment(t, a) })
	}
}

// TestDoctorNoProxy: without docker-proxy nothing hides a lost translation.
func TestDoctorNoProxy(t *testing.T) {
	h, peer := spare(t, noProxy), spare(t, plain)
	s := newScene(t, h, peer, noProxy)
	h.sound(t, "before")
	s.ailment(t, ailment{
		name: "a5", with: func(t *testing.T, s *scene) { s.h.saveRules(t) }, do: []string{"host iptables -w -t nat -F"},
		check: "nat-missing", severity: path.SeverityError, cause: path.CauseNATMissing,
		says: []string{"8080", "web", "restart docker"}, also: []string{"masquerade-missing"},
	})
}

// ailment runs a row: broken, then healthy again.
func (s *scene) ailment(t *testing.T, a ailment) {
	t.Helper()
	t.Run("broken", func(t *testing.T) {
		s.breaks(t, &outage{do: a.do, undo: a.undo, with: a.with})
		r := s.h.doctor(t)
		wrong := a.wrong(s, r.findings)
		switch {
		case a.gap != "" && len(wrong) == 0:
			t.Errorf("this is found now: remove the gap (%s)", a.gap)
		case a.gap != "":
			t.Skipf("%s: %s", a.gap, strings.Join(wrong, "; "))
		case len(wrong) > 0:
			t.Errorf("%s\nfound %s", strings.Join(wrong, "\n"), findingList(r.findings))
		}
	})
	s.h.sound(t, "after the undo of "+a.name)
}

func (a *ailment) wrong(s *scene, list []path.Finding) []string {
	var out []string
	is := func(f path.Finding) bool { return f.Check == a.check }
	i := slices.IndexFunc(list, is)
	if i < 0 {
		return []string{"no finding " + a.check}
	}
	f := list[i]
	if f.Severity != a.severity || f.Cause != a.cause {
		out = append(out, fmt.Sprintf("severity %q and cause %q, want %q and %q", f.Severity, f.Cause, a.severity, a.cause))
	}
	text := flat(f.Summary + " " + strings.Join(f.Evidence, " ") + " " + strings.Join(f.Remedy, " "))
	for _, part := range a.says {
		if !strings.Contains(text, s.say(part)) {
			out = append(out, fmt.Sprintf("%q is not said", s.say(part)))
		}
	}
	for _, other := range list {
		if !is(other) && !slices.Contains(a.also, other.Check) {
			out = append(out, "false alarm: "+other.Check+": "+other.Summary)
		}
	}
	return out
}

// restart starts the engine again with more arguments, and the scene's containers with it.
func (s *scene) restart(t *testing.T, args ...string) {
	t.Helper()
	before := s.h.Args
	s.h.Args = append(slices.Clone(before), args...)
	defer func() { s.h.Args = before }()
	check(t, s.h.stopDaemon())
	check(t, s.h.startDaemon())
	for _, c := range []*container{s.web, s.cli} {
		s.h.must(t, "start", c.Name)
	}
	s.web.listens("tcp", ":80")
}

// TestDoctorDead: without the engine, what its containers have is still looked at, and named.
func TestDoctorDead(t *testing.T) {
	h := need(t).Hosts[1] // its containers survive
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	h.sound(t, "before")
	port := web.published("80/tcp").Port()
	dev := web.veth()
	check(t, h.stopDaemon())
	t.Cleanup(func() {
		if h.pid() == 0 {
			check(t, h.startDaemon())
		}
	})
	const dead = "docker-not-running"
	r := h.doctor(t)
	r.found(dead)
	if text := findingList(r.findings); !strings.Contains(text, "2 containers still running") {
		t.Errorf("the containers are not mentioned: %s", text)
	}
	if r := h.doctor(t, "--docker-host", "unix:///nonexistent/d.sock"); len(r.findings) != 2 {
		t.Errorf("two dead engines: found %s", findingList(r.findings))
	}
	h.do(t, "iptables", "-w", "-t", "nat", "-F")
	h.do(t, "ip", "link", "set", dev, "down")
	r = h.doctor(t)
	r.found(dead, "nat-missing", "veth-down")
	text := findingList(r.findings)
	for _, part := range []string{fmt.Sprint("port ", port, " of ", web.Name), web.Name + " is cut off from network " + n.Name} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, text)
		}
	}
	if strings.Contains(text, client.Name) {
		t.Errorf("%s is well: %s", client.Name, text)
	}
	h.do(t, "ip", "link", "set", dev, "up")
	check(t, h.startDaemon())
	h.sound(t, "after the engine was started")
}

// found checks which findings there are, in any order.
func (r *result) found(checks ...string) {
	r.t.Helper()
	var got []string
	for _, f := range r.findings {
		got = append(got, f.Check)
	}
	slices.Sort(got)
	slices.Sort(checks)
	if !slices.Equal(got, checks) {
		r.t.Errorf("%v: found %s\nwant %q", r.args, findingList(r.findings), checks)
	}
}

// TestDoctorPrivilege: without capabilities what the engine says is still looked at, and what is
// missing is named; without an engine as well there is nothing to read.
func TestDoctorPrivilege(t *testing.T) {
	tool, err := exec.LookPath("setpriv")
	check(t, err)
	h := need(t).Hosts[0]
	n := h.network(t)
	db := h.runs(t, "db", "tcp :5432", "--network", n.Name, "-p", "15432:5432")
	drop := func(cmd *exec.Cmd) {
		cmd.Args = append([]string{tool, "--inh-caps=-all", "--bounding-set=-all", cmd.Path}, cmd.Args[1:]...)
		cmd.Path = tool
	}
	r := launchIn(t, h.NetNS, drop, "doctor", "--docker-host", "unix://"+h.Socket, "-o", "json").wait()
	r.found("database-exposed")
	skipped := strings.Join(r.stats.Skipped, "; ")
	for _, part := range []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "run it as root"} {
		if !strings.Contains(skipped, part) {
			t.Errorf("no %q in %q", part, skipped)
		}
	}
	if r.status != statusDelivered || !strings.Contains(findingList(r.findings), db.Name) {
		t.Errorf("status %d, found %s", r.status, findingList(r.findings))
	}
	refused := launchIn(t, h.NetNS, drop, "doctor", "--to", "nobody/nothing", "--docker-host", "unix://"+h.Socket).wait()
	refused.fails(statusCannotTrace, "nobody/nothing")
	launchIn(t, h.NetNS, nil, "doctor", "--docker-host", "ssh://elsewhere").wait().fails(statusUsage, "ssh://elsewhere")
	launchIn(t, h.NetNS, nil, "doctor", "web").wait().fails(statusUsage, "--to web")
}

// TestDoctorScope limits what is said to a container, a network, a port.
func TestDoctorScope(t *testing.T) {
	h := spare(t, plain)
	n, other := h.network(t), h.network(t)
	closed := h.runs(t, "closed", "idle", "--network", n.Name, "-p", "80", "-p", "81")
	web := other.server(t, "-p", "80")
	web.do("ip", "route", "del", "default")
	to := func(target string, checks ...string) {
		t.Helper()
		h.doctor(t, "--to", target).found(checks...)
	}
	const nothing, route = "port-nothing-listens", "no-default-route"
	to(closed.Name, nothing, nothing)
	to(closed.Name+":81", nothing)
	to(fmt.Sprint(closed.Name, ":", closed.published("81/tcp").Port()), nothing)
	to(web.Name, route)
	to(n.Name)
	to("host", nothing, nothing, route)
}

// TestDoctorLarge: fifty containers and two thousand rules are read within two seconds of processor
// time; how long that takes by the clock depends on what else the machine does.
func TestDoctorLarge(t *testing.T) {
	const containers, rules, limit = 50, 2000, 2 * time.Second
	h := spare(t, plain)
	n := h.network(t)
	t.Cleanup(func() { h.removeContainers() })
	var group errgroup.Group
	group.SetLimit(4)
	for range containers {
		name := unique("large")
		group.Go(func() error {
			return h.docker("run", "-d", "--name", name, "--network", n.Name, "-p", "80", image, "tcp", ":80")
		})
	}
	check(t, group.Wait())
	h.saveRules(t)
	var text strings.Builder
	text.WriteString("*filter\n")
	for i := range rules {
		fmt.Fprintf(&text, "-I DOCKER-USER -p tcp -s 198.18.%d.%d --dport 80 -j DROP\n", i/250, i%250)
	}
	text.WriteString("COMMIT\n")
	file := filepath.Join(t.TempDir(), "rules")
	check(t, os.WriteFile(file, []byte(text.String()), 0o600))
	h.do(t, h.tool("iptables-restore"), "-w", "-n", file)
	var r *result
	if !eventually(20*time.Second, func() bool { // until the last container listens
		r = h.doctor(t)
		return len(r.findings) == 1
	}) || r.findings[0].Check != "many-rules" {
		t.Errorf("found %s, want many-rules only", findingList(r.findings))
	}
	t.Logf("%d ms by the clock, %d ms of processor time", r.stats.WallNS/1e6, r.stats.CPUNS/1e6)
	if cpu := time.Duration(r.stats.CPUNS); cpu > limit {
		t.Errorf("took %v of processor time, want at most %v", cpu, limit)
	}
}
