//go:build e2e

package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

var record = flag.Bool("record", false, "write the engine's answers to testdata")

// realEngine is a dockerd of the test's own in a network namespace of its own.
type realEngine struct {
	t      *testing.T
	netns  string
	dir    string
	socket string
	cmd    *exec.Cmd
}

func startEngine(t *testing.T) *realEngine {
	t.Helper()
	for _, tool := range []string{"dockerd", "docker", "ip", "nsenter", "busybox"} {
		if _, err := exec.LookPath(tool); err != nil || os.Geteuid() != 0 {
			if os.Getenv("CI") != "" {
				t.Fatalf("this test needs root and %s in CI", tool)
			}
			t.Skipf("needs root and %s", tool)
		}
	}
	dir, err := os.MkdirTemp("", "pt") // short: socket paths have 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	e := &realEngine{t: t, netns: fmt.Sprintf("ptdocker%d", os.Getpid()), dir: dir, socket: filepath.Join(dir, "d.sock")}
	e.must("ip", "netns", "add", e.netns)
	t.Cleanup(e.cleanup)
	e.must("ip", "-n", e.netns, "link", "set", "lo", "up")
	e.start()
	e.importImage()
	return e
}

func (e *realEngine) must(name string, args ...string) string {
	e.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		e.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (e *realEngine) docker(args ...string) string {
	e.t.Helper()
	return e.must("docker", append([]string{"-H", "unix://" + e.socket}, args...)...)
}

func (e *realEngine) start() {
	e.t.Helper()
	config := filepath.Join(e.dir, "config.json")
	log, err := os.Create(filepath.Join(e.dir, "log"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer log.Close()
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		e.t.Fatal(err)
	}
	e.cmd = exec.Command("nsenter", "--net=/run/netns/"+e.netns, "dockerd",
		"--data-root", filepath.Join(e.dir, "root"), "--exec-root", filepath.Join(e.dir, "exec"),
		"--pidfile", filepath.Join(e.dir, "pid"), "-H", "unix://"+e.socket,
		"--config-file", config, "--storage-driver", "vfs", "--live-restore")
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	labtest.Eventually(e.t, "dockerd answers", func() bool {
		return exec.Command("docker", "-H", "unix://"+e.socket, "version").Run() == nil
	})
}

func (e *realEngine) stop() {
	e.cmd.Process.Signal(syscall.SIGTERM)
	e.cmd.Wait()
}

func (e *realEngine) cleanup() {
	if e.t.Failed() {
		log, _ := os.ReadFile(filepath.Join(e.dir, "log"))
		e.t.Logf("dockerd: %s", log)
	}
	if ids, err := exec.Command("docker", "-H", "unix://"+e.socket, "ps", "-aq").Output(); err == nil {
		for _, id := range strings.Fields(string(ids)) {
			exec.Command("docker", "-H", "unix://"+e.socket, "rm", "-f", id).Run()
		}
	}
	if e.cmd != nil {
		e.stop()
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for _, line := range strings.Split(string(mounts), "\n") {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], e.dir+"/") {
			exec.Command("umount", f[4]).Run()
		}
	}
	exec.Command("ip", "netns", "del", e.netns).Run()
	os.RemoveAll(e.dir)
}

// importImage makes the image "box" of one static program.
func (e *realEngine) importImage() {
	e.t.Helper()
	path, _ := exec.LookPath("busybox")
	program, err := os.ReadFile(path)
	if err != nil {
		e.t.Fatal(err)
	}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	w.WriteHeader(&tar.Header{Name: "bin/busybox", Mode: 0o755, Size: int64(len(program))})
	w.Write(program)
	for _, name := range []string{"sleep", "sh", "nc"} {
		w.WriteHeader(&tar.Header{Name: "bin/" + name, Linkname: "busybox", Typeflag: tar.TypeSymlink})
	}
	w.Close()
	cmd := exec.Command("docker", "-H", "unix://"+e.socket, "import", "-", "box")
	cmd.Stdin = &image
	if out, err := cmd.CombinedOutput(); err != nil {
		e.t.Fatalf("import image: %v\n%s", err, out)
	}
}

func TestRealEngine(t *testing.T) {
	real := startEngine(t)
	real.docker("network", "create", "--subnet", "172.28.0.0/16", "-o", "com.docker.network.bridge.name=br-app", "app")
	real.docker("run", "-d", "--name", "web", "--network", "app", "--network-alias", "www", "-p", "8080:80",
		"-p", "127.0.0.1:5353:53/udp", "--label", "com.docker.compose.project=shop",
		"--label", "com.docker.compose.service=web", "--label", "com.docker.compose.container-number=1", "box", "sleep", "600")
	real.docker("run", "-d", "--name", "onhost", "--network", "host", "box", "sleep", "600")
	real.docker("run", "-d", "--name", "side", "--network", "container:web", "box", "sleep", "600")
	real.docker("create", "--name", "stopped", "--network", "app", "-p", "9090:90", "box", "sleep", "600")
	engines, err := Connect(context.Background(), Options{Hosts: []string{"unix://" + real.socket}})
	if err != nil {
		t.Fatal(err)
	}
	defer engines.Close()
	if p := engines.Problems(); len(p) > 0 {
		t.Fatal(p)
	}
	checkRealState(t, engines, real)
	if *record {
		recordAnswers(t, real)
	}

	real.docker("run", "-d", "--name", "later", "--network", "app", "box", "sleep", "600")
	labtest.Eventually(t, "later has a namespace", func() bool { c := named(engines, "later"); return c != nil && c.NetNS != 0 })
	later := named(engines, "later").NetNS
	real.docker("network", "create", "two")
	real.docker("network", "connect", "two", "later")
	labtest.Eventually(t, "later has two networks", func() bool { return len(named(engines, "later").Endpoints) == 2 })
	real.docker("pause", "later")
	labtest.Eventually(t, "later is paused", func() bool { return named(engines, "later").State == Paused })
	real.docker("unpause", "later")
	real.docker("rename", "later", "renamed")
	labtest.Eventually(t, "later is renamed", func() bool { return named(engines, "renamed") != nil })
	real.docker("rm", "-f", "renamed")
	labtest.Eventually(t, "renamed is removed", func() bool { return named(engines, "renamed") == nil })
	if c, ok := engines.ByNetNS(later); !ok || c.Name != "renamed" || !c.Removed {
		t.Errorf("the namespace of a removed container: got %+v", c)
	}

	real.stop()
	labtest.Eventually(t, "the engine is gone", func() bool { return !engines.List()[0].Alive && len(engines.Problems()) == 1 })
	if c := named(engines, "web"); c == nil || c.NetNS == 0 {
		t.Errorf("web was forgotten: %+v", c)
	}
	real.start()
	labtest.Eventually(t, "the engine is back", func() bool { return engines.List()[0].Alive })
	real.docker("run", "-d", "--name", "after", "box", "sleep", "600")
	labtest.Eventually(t, "a container started after the restart", func() bool { c := named(engines, "after"); return c != nil && c.NetNS != 0 })
	if len(engines.Problems()) != 1 {
		t.Errorf("problems: got %q, want one", engines.Problems())
	}
}

func checkRealState(t *testing.T, engines *Engines, real *realEngine) {
	t.Helper()
	host, ok := readNetNS(fmt.Sprintf("/proc/%d/ns/net", real.cmd.Process.Pid))
	info := engines.Described(t.Context())[0]
	if !ok || !info.Alive || info.NetNS != host || info.Version == "" || info.PID != real.cmd.Process.Pid {
		t.Errorf("engine: got %+v, want netns %d pid %d", info, host, real.cmd.Process.Pid)
	}
	web := named(engines, "web")
	if web.NetNS == 0 || !strings.HasPrefix(web.NetNSPath, real.dir) || web.Service != "web" || web.Project != "shop" || len(web.Addrs()) != 1 {
		t.Errorf("web: got %+v", web)
	}
	if side := named(engines, "side"); side.NetNS != web.NetNS || side.JoinedID != web.ID {
		t.Errorf("side: got %+v", side)
	}
	if c, _ := engines.ByNetNS(web.NetNS); c == nil || c.Name != "web" {
		t.Errorf("by namespace: got %+v", c)
	}
	if h := named(engines, "onhost"); h.NetNS != host {
		t.Errorf("onhost: got %+v, want netns %d", h, host)
	}
	stopped := named(engines, "stopped")
	if stopped.State != Created || stopped.NetNS != 0 || len(stopped.Ports) == 0 || stopped.Ports[0].HostPort != 9090 {
		t.Errorf("stopped: got %+v", stopped)
	}
	for _, n := range engines.Networks() {
		if n.Name == "app" && n.Bridge != "br-app" || n.Name == "bridge" && n.Bridge != "docker0" {
			t.Errorf("network: got %+v", n)
		}
	}
}

// recordAnswers keeps what the engine answers as test data.
func recordAnswers(t *testing.T, real *realEngine) {
	t.Helper()
	for file, args := range map[string][]string{
		"containers.json": {"container", "inspect", "web", "onhost", "side", "stopped"},
		"networks.json":   {"network", "inspect", "app", "bridge", "host"},
	} {
		var answer any
		if err := json.Unmarshal([]byte(real.docker(args...)), &answer); err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(answer, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte(real.dir), []byte("/run/docker-test"))
		if err := os.WriteFile(filepath.Join("testdata", file), append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func named(e *Engines, name string) *Container {
	for _, c := range e.Containers() {
		if c.Name == name {
			return c
		}
	}
	return nil
}
