package docker

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// TestOrphan follows a shim to what the engine wrote down of its container.
func TestOrphan(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	root := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	shim := func(pid, args string) {
		put("proc/"+pid+"/cmdline", args)
		for name, target := range map[string]string{"root": "/", "cwd": filepath.Join(root, "bundle")} {
			if err := os.Symlink(target, filepath.Join(root, "proc", pid, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	data := filepath.Join(root, "data/containers/x")
	shim("7", "/usr/bin/containerd-shim-runc-v2\x00-namespace\x00moby\x00-id\x00"+id+"\x00-address\x00/x\x00")
	shim("8", "/usr/bin/containerd-shim-runc-v2\x00-namespace\x00k8s.io\x00-id\x00"+id+"\x00")
	put("bundle/init.pid", "4242")
	l := locator{procfs: filepath.Join(root, "proc")}
	if c := l.orphan(7); c == nil || c.Name != id[:12] || c.State != Running || c.PID != 4242 {
		t.Errorf("without the engine's files: got %+v", c)
	}
	put("bundle/config.json", `{"mounts":[{"destination":"/proc","source":"proc"},{"destination":"/etc/resolv.conf","source":"`+data+`/resolv.conf"}]}`)
	put("data/containers/x/config.v2.json", `{"ID":"`+id+`","Name":"/web","State":{"Running":true,"Paused":true,"Pid":1},"Config":{"Labels":{"com.docker.compose.service":"w"}},
		"NetworkSettings":{"Networks":{"app":{"NetworkID":"n1","IPAddress":"172.18.0.2","Gateway":"172.18.0.1"}},"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]}}}`)
	put("data/containers/x/hostconfig.json", `{"NetworkMode":"app","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]}}`)
	c := l.orphan(7)
	if c == nil || c.Name != "web" || c.State != Paused || c.PID != 4242 || c.Service != "w" || c.NetworkMode != "app" ||
		len(c.Endpoints) != 1 || c.Endpoints[0].IPv4 != netip.MustParseAddr("172.18.0.2") ||
		len(c.Ports) != 1 || c.Ports[0].HostPort != 8080 || len(c.Configured) != 2 {
		t.Errorf("got %+v", c)
	}
	put("data/containers/x/config.v2.json", `{`)
	if c := l.orphan(7); c == nil || c.Name != id[:12] {
		t.Errorf("with a broken file: got %+v", c)
	}
	if c := l.orphan(8); c != nil {
		t.Errorf("another engine's: got %+v", c)
	}
}
