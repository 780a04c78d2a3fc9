package tracer

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/expect"
)

func TestExpectState(t *testing.T) {
	subnet := []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16")}
	networks := []*docker.Network{
		{Name: "app", Driver: "bridge", Bridge: "br-app", Subnets: subnet, ICC: true},
		{Name: "plain", Driver: "bridge", Bridge: "br-plain", Options: map[string]string{optionMasquerade: "false", optionMode4: "routed"}},
		{Name: "ov", Driver: "overlay"},
		{Name: "other", Driver: "bridge", Bridge: "br-other", Engine: 1},
	}
	port := docker.Port{HostIP: netip.IPv4Unspecified(), HostPort: 8080, ContainerPort: 80, Proto: "tcp"}
	containers := []*docker.Container{
		{Name: "web", State: docker.Running, Ports: []docker.Port{port},
			Endpoints: []docker.Endpoint{{Network: "app", IPv4: netip.MustParseAddr("172.18.0.2")}}},
		{Name: "paused", State: docker.Paused},
		{Name: "stopped", State: docker.Exited, Ports: []docker.Port{port}},
		{Name: "sidecar", State: docker.Running, JoinedID: "abc", Ports: []docker.Port{port}},
		{Name: "onhost", State: docker.Running, NetworkMode: "host"},
		{Name: "elsewhere", State: docker.Running, Engine: 1},
	}
	e := docker.Engine{Version: "29.0.0", FirewallBackend: "nftables",
		Settings: docker.Settings{Known: true, IPTables: true, UserlandProxy: true}}
	s := expectState(e, containers, networks)
	if !s.NFTables || !s.IPTables || s.IP6Tables || s.Assumed || !s.UserlandProxy {
		t.Errorf("got %+v", s)
	}
	if len(s.Networks) != 2 || !s.Networks[0].Masquerade || s.Networks[1].Masquerade || s.Networks[1].Mode4 != expect.Routed {
		t.Errorf("networks: %+v", s.Networks)
	}
	if len(s.Containers) != 2 || s.Containers[0].Name != "web" || len(s.Containers[0].Ports) != 1 || s.Containers[1].Name != "paused" {
		t.Errorf("containers: %+v", s.Containers)
	}
}

func TestStartedAfter(t *testing.T) {
	dir := t.TempDir()
	unit := filepath.Join(dir, "invocation:nftables.service")
	if err := os.Symlink("0123", unit); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	if got := startedAfter(dir, now.Add(-time.Minute)); !strings.HasPrefix(got, "nftables.service was started at ") {
		t.Errorf("got %q", got)
	}
	if got := startedAfter(dir, now.Add(time.Minute)); got != "" {
		t.Errorf("started before the engine: %q", got)
	}
	if got := startedAfter(filepath.Join(dir, "none"), now.Add(-time.Minute)); got != "" {
		t.Errorf("no service manager: %q", got)
	}
}

func TestProcessStart(t *testing.T) {
	got, err := processStart("/proc", os.Getpid())
	if err != nil || time.Since(got) < -2*time.Second || time.Since(got) > time.Hour {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := processStart(t.TempDir(), 1); err == nil {
		t.Error("no error without /proc")
	}
}
