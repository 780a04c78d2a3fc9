package docker

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func readJSON[T any](t *testing.T, file string) []T {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var out []T
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func golden(t *testing.T, file string, got any) {
	t.Helper()
	text, err := json.MarshalIndent(got, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(text) != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n%v", file, text, want, err)
	}
}

// The answers were recorded from a real engine (-tags e2e -record).
func TestConvertRecorded(t *testing.T) {
	var containers []*Container
	for _, in := range readJSON[inspection](t, "containers.json") {
		containers = append(containers, convertContainer(0, in))
	}
	golden(t, "containers.golden", containers)
	var networks []*Network
	for _, in := range readJSON[network.Summary](t, "networks.json") {
		networks = append(networks, convertNetwork(0, in))
	}
	golden(t, "networks.golden", networks)
}

func TestConvertContainer(t *testing.T) {
	all4, all6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	tests := []struct {
		name, json string
		want       Container
	}{
		{"empty", `{}`, Container{}},
		{"only a name", `{"Id":"ab","Name":"/web"}`, Container{ID: "ab", Name: "web"}},
		{"DNS names of a newer engine",
			`{"Id":"0123456789abcdef","Name":"/web","NetworkSettings":{"Networks":{"n":{"NetworkID":"x","IPAddress":"172.18.0.2","GlobalIPv6Address":"fd00::2","Aliases":["www"],"DNSNames":["web","www","0123456789ab","host1"]}}}}`,
			Container{ID: "0123456789abcdef", Name: "web", Endpoints: []Endpoint{{
				NetworkID: "x", Network: "n", IPv4: netip.MustParseAddr("172.18.0.2"),
				IPv6: netip.MustParseAddr("fd00::2"), Aliases: []string{"www", "host1"}}}}},
		{"configured ports of a stopped one",
			`{"Name":"/w","State":{"Status":"exited"},"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8000-8010"}],"53/udp":[{"HostIp":"127.0.0.1","HostPort":"53"}]}},"NetworkSettings":{"Ports":{}}}`,
			Container{Name: "w", State: Exited, Ports: []Port{
				{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 53, ContainerPort: 53, Proto: "udp"},
				{HostIP: all4, ContainerPort: 80, Proto: "tcp"}, {HostIP: all6, ContainerPort: 80, Proto: "tcp"}}}},
		{"exposed and not published", `{"Name":"/w","State":{"Status":"running"},"NetworkSettings":{"Ports":{"80/tcp":null}}}`,
			Container{Name: "w", State: Running}},
		{"missing endpoint", `{"Name":"/w","NetworkSettings":{"Networks":{"n":null}}}`, Container{Name: "w"}},
		{"joined and Swarm",
			`{"Name":"/w","HostConfig":{"NetworkMode":"container:abc"},"Config":{"Labels":{"com.docker.swarm.service.name":"api","com.docker.swarm.task.name":"api.1.x"}}}`,
			Container{Name: "w", NetworkMode: "container:abc", JoinedID: "abc", SwarmService: "api", SwarmTask: "api.1.x"}},
	}
	for _, tt := range tests {
		var in inspection
		if err := json.Unmarshal([]byte(tt.json), &in); err != nil {
			t.Fatal(err)
		}
		got := convertContainer(0, in)
		if len(got.Endpoints) == 0 {
			got.Endpoints = nil
		}
		if !got.Runs() {
			tt.want.Configured = tt.want.Ports // what it is to publish is all there is
		}
		if !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, *got, tt.want)
		}
	}
}

func TestConvertLife(t *testing.T) {
	var in inspection
	err := json.Unmarshal([]byte(`{"Name":"/w","State":{"Status":"running","ExitCode":137,"OOMKilled":true,"Error":"no",
		"StartedAt":"2026-01-02T03:04:05.6Z","FinishedAt":"0001-01-01T00:00:00Z"},
		"HostConfig":{"RestartPolicy":{"Name":"always"},"Links":["/a:/w/a"],"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}]}},
		"NetworkSettings":{"Ports":{}}}`), &in)
	if err != nil {
		t.Fatal(err)
	}
	want := Container{
		Name: "w", State: Running, RestartPolicy: "always", ExitCode: 137, OOMKilled: true, StartError: "no",
		Started: time.Date(2026, 1, 2, 3, 4, 5, 600000000, time.UTC), Links: []string{"/a:/w/a"}, Endpoints: []Endpoint{},
		Configured: []Port{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: 8080, ContainerPort: 80, Proto: "tcp"}},
	}
	if got := convertContainer(0, in); !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, want %+v", *got, want)
	}
}

func TestConvertNetwork(t *testing.T) {
	prefix := netip.MustParsePrefix
	tests := []struct {
		name, json string
		want       Network
	}{
		{"bridge", `{"Id":"0123456789abcdef","Name":"app","Driver":"bridge","Scope":"local","IPAM":{"Config":[{"Subnet":"172.18.0.0/16","Gateway":"172.18.0.1"},{"Subnet":"fd00::/64","Gateway":"fd00::1/64"}]}}`,
			Network{ID: "0123456789abcdef", Name: "app", Driver: "bridge", Scope: "local", Bridge: "br-0123456789ab", ICC: true,
				Subnets:  []netip.Prefix{prefix("172.18.0.0/16"), prefix("fd00::/64")},
				Gateways: []netip.Addr{netip.MustParseAddr("172.18.0.1"), netip.MustParseAddr("fd00::1")}}},
		{"options", `{"Id":"1","Name":"x","Driver":"bridge","Internal":true,"Options":{"com.docker.network.bridge.name":"br0","com.docker.network.bridge.enable_icc":"false","com.docker.network.driver.mtu":"1400"}}`,
			Network{ID: "1", Name: "x", Driver: "bridge", Bridge: "br0", Internal: true, MTU: 1400}},
		{"default", `{"Id":"1","Name":"bridge","Driver":"bridge"}`,
			Network{ID: "1", Name: "bridge", Driver: "bridge", Bridge: "docker0", ICC: true}},
		{"overlay", `{"Id":"abcdefghijklm","Name":"ov","Driver":"overlay","Scope":"swarm","Attachable":true,"Options":{"com.docker.network.driver.overlay.vxlanid_list":"4097, 4098","encrypted":""},"Peers":[{"Name":"a","IP":"192.0.2.1"},{"Name":"b","IP":""}]}`,
			Network{ID: "abcdefghijklm", Name: "ov", Driver: "overlay", Scope: "swarm", Attachable: true, ICC: true, Encrypted: true, VNIs: []uint32{4097, 4098},
				Peers: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}},
		{"macvlan", `{"Id":"1","Name":"m","Driver":"macvlan","Options":{"parent":"eth0"}}`,
			Network{ID: "1", Name: "m", Driver: "macvlan", Parent: "eth0", ICC: true}},
	}
	for _, tt := range tests {
		var in network.Summary
		if err := json.Unmarshal([]byte(tt.json), &in); err != nil {
			t.Fatal(err)
		}
		tt.want.Options = in.Options
		if got := convertNetwork(0, in); !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, *got, tt.want)
		}
	}
	overlay := Network{Driver: "overlay", ID: "abcdefghijklm"}
	if got := overlay.HiddenNetNS(); got != "1-abcdefghij" {
		t.Errorf("hidden namespace: got %q", got)
	}
}
