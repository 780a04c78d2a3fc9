//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// newNamespace makes a named namespace of this run, removed at the end of the test.
func newNamespace(t *testing.T, kind string) string {
	t.Helper()
	name := strings.TrimSuffix(shared.Outside, "outside") + unique(kind)
	outsideDo(t, "ip", "netns", "add", name)
	t.Cleanup(func() { outsideDo(t, "ip", "netns", "del", name) })
	outsideDo(t, "ip", "-n", name, "link", "set", "lo", "up")
	return name
}

// bareHost makes a host without an engine: a namespace on the link of all hosts.
func bareHost(t *testing.T, kind string, last byte) *host {
	t.Helper()
	a := shared.OutsideAddr.As4()
	a[3] = last
	h := &host{NetNS: newNamespace(t, kind), Addr: netip.AddrFrom4(a)}
	port := "lan-" + kind
	outsideDo(t, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", h.NetNS)
	t.Cleanup(func() { outsideDo(t, "ip", "link", "del", port) })
	outsideDo(t, "ip", "link", "set", port, "master", "br-lan", "up")
	h.do(t, "ip", "addr", "add", netip.PrefixFrom(h.Addr, 24).String(), "dev", "eth0")
	h.do(t, "ip", "link", "set", "eth0", "up")
	h.do(t, "ip", "route", "add", "default", "via", shared.OutsideAddr.String())
	h.do(t, "sysctl", "-qw", "net.ipv4.ip_forward=1")
	return h
}

// pod makes a namespace and lets the CNI plugins connect it to a bridge of the host.
func (h *host) pod(t *testing.T, plugins string) string {
	t.Helper()
	name := newNamespace(t, "pod")
	config := fmt.Sprintf(`{"cniVersion":"0.4.0","name":"pods","type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":true,
		"ipam":{"type":"host-local","subnet":"10.85.0.0/24","dataDir":%q,"routes":[{"dst":"0.0.0.0/0"}]}}`,
		filepath.Join(shared.Dir, "cni"))
	call := func(command string) {
		feed(t, filepath.Join("/run/netns", h.NetNS), config, "env", "CNI_COMMAND="+command, "CNI_CONTAINERID="+name,
			"CNI_NETNS=/run/netns/"+name, "CNI_IFNAME=eth0", "CNI_PATH="+plugins, filepath.Join(plugins, "bridge"))
	}
	call("ADD")
	t.Cleanup(func() { call("DEL") })
	return name
}

// serve runs the image's web server in a namespace until the end of the test.
func serve(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(shared.Dir, "bin", "ptserver"), "tcp", ":80")
	check(t, startIn(name, cmd))
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // by the signal
	})
	if !eventually(limit, func() bool {
		out, err := runInNetNS(filepath.Join("/run/netns", name), "ss", "-Hltn", "sport = :80")
		return err == nil && out != ""
	}) {
		t.Fatalf("nobody listens in %s", name)
	}
}

// TestPlainNamespaces traces between namespaces that no engine knows, joined by a CNI plugin.
func TestPlainNamespaces(t *testing.T) {
	need(t)
	t.Parallel()
	const plugins = "/usr/lib/cni"
	if _, err := os.Stat(filepath.Join(plugins, "bridge")); err != nil {
		lacks(t, "this test needs containernetworking-plugins: run scripts/install-test-needs.sh")
	}
	h := bareHost(t, "cni", 31)
	pods := []string{h.pod(t, plugins), h.pod(t, plugins)}
	serve(t, pods[0])
	for _, test := range []struct {
		from, to string
		status   int
		says     []string
	}{
		{pods[1], pods[0] + ":80", statusDelivered, []string{"netns " + pods[1], "netns " + pods[0], "bridge cni0:"}},
		{h.NetNS, pods[0] + ":80", statusDelivered, []string{"cni0 → veth", pods[0] + " answered " + h.NetNS}},
		{pods[1], pods[0] + ":81", statusNotDelivered, []string{"nothing listens on port 81 in " + pods[0], "does listen on [::]:80"}},
		{pods[1], shared.OutsideAddr.String(), statusDelivered, []string{"masquerade", "netns " + shared.Outside}},
	} {
		r := launchIn(t, h.NetNS, nil, "--from", test.from, "--to", test.to).wait()
		r.has(test.says...)
		if r.status != test.status {
			t.Errorf("%v: exit status %d, want %d\n%s%s", r.args, r.status, test.status, r.stdout, r.stderr)
		}
	}
}

// podman is a host with Podman behind Docker's API.
type podman struct {
	*host
	args []string
	env  []string
}

// newPodman starts Podman's service in a host of its own.
func newPodman(t *testing.T) *podman {
	t.Helper()
	need(t)
	for _, tool := range []string{"podman", "conmon"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacks(t, "this test needs "+tool+": run scripts/install-test-needs.sh")
		}
	}
	h := bareHost(t, "pod", 32)
	h.Dir = filepath.Join(shared.Dir, "podman")
	h.Socket = filepath.Join(h.Dir, "s")
	check(t, os.MkdirAll(h.Dir, 0o755))
	config := filepath.Join(h.Dir, "containers.conf")
	// Podman's own limits are more than a machine may allow.
	check(t, os.WriteFile(config, []byte("[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n"+
		"[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n"), 0o644))
	p := &podman{host: h, env: append(cleanEnv(), "CONTAINERS_CONF="+config), args: []string{
		"--root", filepath.Join(h.Dir, "root"), "--runroot", filepath.Join(h.Dir, "run"), "--tmpdir", filepath.Join(h.Dir, "tmp"),
		"--network-config-dir", filepath.Join(h.Dir, "net"), "--cgroup-manager", "cgroupfs",
	}}
	p.start(t)
	check(t, h.importImage(filepath.Join(shared.Dir, "bin", "ptserver")))
	return p
}

// start starts the service and ends it, its containers before, at the end of the test.
func (p *podman) start(t *testing.T) {
	t.Helper()
	service := p.command("system", "service", "-t", "0", "unix://"+p.Socket)
	service.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	log, err := os.Create(filepath.Join(p.Dir, "log"))
	check(t, err)
	defer log.Close()
	service.Stdout, service.Stderr = log, log
	check(t, startIn(p.NetNS, service))
	t.Cleanup(func() {
		_, _ = p.try("rm", "-f", "-a", "-t", "0") // not what others depend on
		p.do(t, "rm", "-f", "-a", "-t", "0")
		_ = service.Process.Signal(unix.SIGTERM)
		_ = service.Wait() // by the signal
		if err := errors.Join(killStrays(p.Dir), unmountBelow(p.Dir)); err != nil {
			t.Error(err)
		}
	})
	if !eventually(limit, func() bool { return p.docker("version") == nil }) {
		t.Fatalf("Podman does not answer\n%s", tail(log.Name()))
	}
}

func (p *podman) command(args ...string) *exec.Cmd {
	cmd := exec.Command("podman", append(append([]string{}, p.args...), args...)...)
	cmd.Env = p.env
	return cmd
}

// do runs Podman's own client.
func (p *podman) do(t *testing.T, args ...string) {
	t.Helper()
	if out, err := p.try(args...); err != nil {
		t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (p *podman) try(args ...string) (string, error) {
	var out strings.Builder
	cmd := p.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startIn(p.NetNS, cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// forgetAddresses removes at the end of the test what CNI notes of the addresses of networks, which it does
// in one folder for the whole machine and keeps when a network is removed. What was there before stays.
func forgetAddresses(t *testing.T, networks ...string) {
	t.Helper()
	for _, name := range networks {
		dir := filepath.Join("/var/lib/cni/networks", name)
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestPodman traces between Podman's containers, known by its Docker-compatible socket.
func TestPodman(t *testing.T) {
	const pnet = "pte-pnet" // its addresses are noted for the whole machine
	forgetAddresses(t, pnet, "podman")
	p := newPodman(t)
	p.do(t, "network", "create", pnet)
	for _, args := range []string{
		"--name pweb --network " + pnet + " -p 8091:80 " + image + " tcp :80", "--name pcli --network " + pnet + " " + image + " idle",
		"--name pside --network container:pweb " + image + " tcp :81", "--name palone " + image + " idle",
	} {
		p.do(t, append([]string{"run", "-d"}, strings.Fields(args)...)...)
	}
	for _, c := range []string{"pweb", "pside"} {
		(&container{h: p.host, t: t, Name: c}).listens("tcp", map[string]string{"pweb": ":80", "pside": ":81"}[c])
	}
	r := p.probe(t, want{Outcome: path.Delivered, Says: []string{"bridge " + pnet + ": veth", "container pweb"}, Hops: []hop{
		{Container: "pweb", Device: "eth0", Network: pnet, Direction: path.Request, Action: path.ActionReceive},
	}}, "pcli", "pweb:80")
	if len(r.verdicts[0].Warnings) > 0 && !strings.Contains(strings.Join(r.verdicts[0].Remedy, " "), "podman network inspect "+pnet) {
		t.Errorf("a remedy for Docker: %q", r.verdicts[0].Remedy)
	}
	at := fmt.Sprintf("%s:8091", p.Addr)
	r = p.probe(t, want{Outcome: path.Delivered, Says: []string{"DNAT " + at, "bridge " + pnet, "pweb"}}, shared.Outside, at)
	if len(r.verdicts[0].Warnings) > 0 { // Docker's rules are not there, and need not be
		t.Errorf("warnings: %+v", r.verdicts[0].Warnings)
	}
	p.ask(t, want{Outcome: path.Delivered, Says: []string{"pside answered", "ptserver of container pside"}}, "pcli", "pside:81")
	p.probe(t, want{Outcome: path.Delivered, Says: []string{"masquerade", "bridge podman"}}, "palone", shared.OutsideAddr.String())
	p.ask(t, want{Outcome: path.NoTraffic, Cause: path.CauseNoSharedNetwork, Says: []string{"podman network connect " + pnet + " palone"}},
		"palone", "pweb:80")
	p.ask(t, want{Outcome: path.Refused, Cause: path.CauseNotListening, Container: "pcli", Says: []string{"podman logs"}},
		"pweb", "pcli:80", brief...)
	for _, f := range p.doctor(t).findings {
		t.Errorf("doctor: %s", f.Summary)
	}
}
