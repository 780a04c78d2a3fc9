package docker

import (
	"io/fs"
	"testing"
)

func TestSettings(t *testing.T) {
	usual := Settings{
		ConfigFile: "/etc/docker/daemon.json", IPTables: true, IPForward: true, IPMasq: true, ICC: true,
		UserlandProxy: true, DataRoot: "/var/lib/docker", ExecRoot: "/var/run/docker",
	}
	for _, test := range []struct {
		name, version string
		args          []string
		files         map[string]string
		denied        bool
		change        func(*Settings)
	}{
		{name: "no engine", change: func(*Settings) {}},
		{name: "defaults", args: []string{"dockerd"}, version: "20.10.24", change: func(s *Settings) { s.Known = true }},
		{name: "IPv6 rules since 27", args: []string{"dockerd", "-H", "fd://"}, version: "28.1.0",
			change: func(s *Settings) { s.Known, s.IP6Tables = true, true }},
		{name: "command line", args: []string{
			"dockerd", "--iptables=false", "--userland-proxy=false", "--live-restore", "--exec-root", "/x/exec", "--data-root=/x/root",
		}, change: func(s *Settings) {
			s.Known, s.IPTables, s.UserlandProxy, s.LiveRestore = true, false, false, true
			s.ExecRoot, s.DataRoot = "/x/exec", "/x/root"
		}},
		{name: "file", files: map[string]string{"/etc/docker/daemon.json": `{"iptables":false,"mtu":1400,"hosts":["fd://"],"firewall-backend":"nftables"}`},
			change: func(s *Settings) { s.IPTables, s.MTU, s.FirewallBackend = false, 1400, "nftables" }},
		{name: "another file", args: []string{"dockerd", "--config-file", "/x/d.json"},
			files:  map[string]string{"/x/d.json": `{"ip-forward":false}`},
			change: func(s *Settings) { s.Known, s.ConfigFile, s.IPForward = true, "/x/d.json", false }},
		{name: "a file that may not be read", args: []string{"dockerd"}, denied: true, change: func(*Settings) {}},
		{name: "broken file", files: map[string]string{"/etc/docker/daemon.json": `{`}, change: func(s *Settings) {
			s.Problem = "decode /etc/docker/daemon.json: unexpected end of JSON input"
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := usual
			test.change(&want)
			got := settings(test.args, test.version, func(path string) ([]byte, error) {
				if text, ok := test.files[path]; ok {
					return []byte(text), nil
				}
				if test.denied {
					return nil, fs.ErrPermission
				}
				return nil, fs.ErrNotExist
			})
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}
