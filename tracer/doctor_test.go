package tracer

import (
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// tree makes files below a directory; a text of "->X" is a link to X.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if len(text) > 2 && text[:2] == "->" {
			err = os.Symlink(text[2:], file)
		} else {
			err = os.WriteFile(file, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestReadServices(t *testing.T) {
	root := tree(t, map[string]string{
		"/etc/systemd/system/multi-user.target.wants/docker.service": "->/lib/systemd/system/docker.service",
		"/etc/systemd/system/sysinit.target.wants/nftables.service":  "->/lib/systemd/system/nftables.service",
		"/lib/systemd/system/docker.service":                         "[Unit]\n",
		"/etc/systemd/system/docker.service.d/a.conf":                "[Unit]\nPartOf=x.service\n",
		"/etc/nftables.conf":                                         "flush ruleset\n",
		"/run/systemd/units/invocation:ufw.service":                  "->0123",
	})
	s := readServices(root)
	want := map[string]string{
		"/lib/systemd/system/docker.service":          "[Unit]\n",
		"/etc/systemd/system/docker.service.d/a.conf": "[Unit]\nPartOf=x.service\n",
		"/etc/nftables.conf":                          "flush ruleset\n",
	}
	if !reflect.DeepEqual(s.Files, want) {
		t.Errorf("files: got %q, want %q", s.Files, want)
	}
	slices.Sort(s.Enabled)
	if !slices.Equal(s.Enabled, []string{"docker.service", "nftables.service"}) || !slices.Equal(s.Active, []string{"ufw.service"}) {
		t.Errorf("enabled %q, active %q", s.Enabled, s.Active)
	}
	if s := readServices(t.TempDir()); s != nil {
		t.Errorf("without a service manager: got %+v", s)
	}
}

func TestReadResolvers(t *testing.T) {
	if got := readResolvers(0); got != nil {
		t.Errorf("no process: got %v", got)
	}
	if got := resolvers("# x\nnameserver 127.0.0.11\noptions ndots:0\nnameserver fd00::1\nnameserver x\nsearch a\n"); !slices.Equal(got,
		[]netip.Addr{netip.MustParseAddr("127.0.0.11"), netip.MustParseAddr("fd00::1")}) {
		t.Errorf("got %v", got)
	}
	if got := resolvers(""); got == nil || len(got) != 0 {
		t.Errorf("an empty file was read: got %v, want none but not nil", got)
	}
}

// TestDoctorWithoutDocker: no engine is no error, and nothing is concluded from its absence.
func TestDoctorWithoutDocker(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("reading namespaces needs root")
	}
	e, err := Doctor(context.Background(), DoctorConfig{NoDocker: true, Root: t.TempDir(), Version: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Findings) == 0 || e.Findings[len(e.Findings)-1].Check != "docker-absent" || e.Stats.Findings[path.SeverityNote] == 0 {
		t.Errorf("got %+v", e.Findings)
	}
	for _, f := range e.Findings {
		if f.Severity == path.SeverityError {
			t.Errorf("an error without Docker: %+v", f)
		}
	}
	if e.Meta.Schema != path.Schema || e.Meta.Version != "x" || e.Namespaces == 0 || e.Stats.WallNS == 0 {
		t.Errorf("got %+v", e)
	}
}

func TestDoctorUsage(t *testing.T) {
	for _, cfg := range []DoctorConfig{
		{DockerHosts: []string{"ssh://elsewhere"}},
		{NoDocker: true, Target: "web:port:80"},
	} {
		if _, err := Doctor(context.Background(), cfg); err == nil || !IsUsage(err) {
			t.Errorf("%+v: got %v, want an error of usage", cfg, err)
		}
	}
	if _, err := Doctor(context.Background(), DoctorConfig{NoDocker: true, Target: "no-such-thing-" + t.Name()}); err == nil || IsUsage(err) {
		t.Errorf("an unknown name: got %v", err)
	}
}

func TestCLI(t *testing.T) {
	for _, tt := range []struct {
		address string
		given   bool
		want    string
	}{
		{"unix:///var/run/docker.sock", false, "docker"},
		{"unix:///var/run/docker.sock", true, "docker"},
		{"unix:///x/d.sock", true, "docker -H unix:///x/d.sock"},
		{"unix:///x/d.sock", false, "docker"}, // DOCKER_HOST is set where the command will be typed
	} {
		if got := cli(tt.address, tt.given); got != tt.want {
			t.Errorf("%s %v: got %q, want %q", tt.address, tt.given, got, tt.want)
		}
	}
}
