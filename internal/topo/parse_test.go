package topo

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseMountinfo(t *testing.T) {
	const text = `27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
605 24 0:4 net:[4026532281] /run/netns/blue rw shared:5 - nsfs nsfs rw
606 24 0:4 net:[4026532282] /run/docker/netns/1-abc\040def rw - nsfs nsfs rw
607 24 0:4 mnt:[4026532283] /run/snapd/ns/x.mnt rw - nsfs nsfs rw
608 24 0:4 net:[x] /run/netns/bad rw - nsfs nsfs rw
609 24 0:4 net:[99
`
	got, err := parseMountinfo(strings.NewReader(text))
	want := []pin{{4026532281, "/run/netns/blue"}, {4026532282, "/run/docker/netns/1-abc def"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v %v, want %v", got, err, want)
	}
}

func TestPinName(t *testing.T) {
	tests := []struct {
		path string
		name string
		kind Kind
	}{
		{"/run/netns/blue", "blue", KindNamed},
		{"/var/run/netns/blue", "blue", KindNamed},
		{"/proc/77/root/run/netns/blue", "blue", KindNamed},
		{"/run/docker/netns/default", "", KindOther},
		{"/run/docker/netns/0123456789ab", "0123456789ab", KindContainer},
		{"/srv/d1/exec/netns/1-abcdefghij", "1-abcdefghij", KindHidden},
		{"/proc/77/root/srv/exec/netns/12-abcdefghij", "12-abcdefghij", KindHidden},
		{"/run/docker/netns/lb_abcdefghi", "lb_abcdefghi", KindBalancer},
		{"/run/docker/netns/ingress_sbox", "ingress_sbox", KindBalancer},
		{"/run/docker/netns/1-short", "1-short", KindOther},
		{"/run/docker/netns/-abcdefghij", "-abcdefghij", KindOther},
		{"/root/run/netns/x", "x", KindOther},
		{"/mnt/x", "", KindOther},
		{"/", "", KindOther},
	}
	for _, tt := range tests {
		name, kind := pinName(tt.path)
		if name != tt.name || kind != tt.kind {
			t.Errorf("%s: got %q %v, want %q %v", tt.path, name, kind, tt.name, tt.kind)
		}
	}
}

func TestParseSockets(t *testing.T) {
	const heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	tests := []struct {
		name  string
		text  string
		state uint64
		want  []Listener
	}{
		{"listening", heading +
			"   0: 0100007F:0050 00000000:0000 0A 00000000:00000002 00:00000000 00000000     0        0 1234 1 0000\n" +
			"   1: 0100007F:0050 0100007F:A000 01 00000000:00000000 00:00000000 00000000     0        0 1235 1 0000\n",
			stateListen, []Listener{{Addr: netip.MustParseAddrPort("127.0.0.1:80"), Inode: 1234, Queue: 2}}},
		{"IPv6", heading +
			"   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1 0\n" +
			"   1: 0000000000000000FFFF00000100007F:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 8 1 0\n",
			stateListen, []Listener{
				{Addr: netip.MustParseAddrPort("[::]:8080"), Inode: 9},
				{Addr: netip.MustParseAddrPort("127.0.0.1:22"), Inode: 8},
			}},
		{"UDP", heading +
			"  100: 00000000:0035 00000000:0000 07 00000000:00000900 00:00000000 00000000     0        0 77 2 0 0\n",
			stateClose, []Listener{{Addr: netip.MustParseAddrPort("0.0.0.0:53"), Inode: 77, Queue: 0x900}}},
		{"short line", heading + "  0: 00000000:0035\n", stateListen, nil},
		{"empty", "", stateListen, nil},
	}
	for _, tt := range tests {
		got, err := parseSockets(strings.NewReader(tt.text), tt.state)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %v %v, want %v", tt.name, got, err, tt.want)
		}
	}
	if _, err := parseSockets(strings.NewReader(heading+"0: zz:1 0:0 0A 0:0 0 0 0 0 1\n"), stateListen); err == nil {
		t.Error("no error for a bad address")
	}
}

func TestParseSNMP(t *testing.T) {
	got := map[string]uint64{}
	err := parseSNMP(strings.NewReader("Tcp: MaxConn InSegs\nTcp: -1 12\nTcpExt: ListenOverflows\nTcpExt: 18446744073709551615\n"), got)
	want := map[string]uint64{"TcpInSegs": 12, "TcpExtListenOverflows": 1<<64 - 1}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v %v, want %v", got, err, want)
	}
	for _, bad := range []string{"Tcp: A B\nTcp: 1\n", "Tcp: A\n", "Tcp: A\nUdp: 1\n", "nonsense\n"} {
		if err := parseSNMP(strings.NewReader(bad), map[string]uint64{}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
	got = map[string]uint64{}
	if err := parseSNMP6(strings.NewReader("Ip6InReceives \t 4\nodd\n"), got); err != nil || got["Ip6InReceives"] != 4 {
		t.Errorf("got %v %v", got, err)
	}
}

// fakeProc makes a proc file system with links that lead nowhere.
func fakeProc(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if strings.HasPrefix(content, "net:[") || strings.HasPrefix(content, "mnt:[") {
			err = errors.Join(err, os.Symlink(content, path))
		} else {
			err = errors.Join(err, os.WriteFile(path, []byte(content), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestScan needs no privilege: everything is read from a copy of /proc.
func TestScan(t *testing.T) {
	proc := fakeProc(t, map[string]string{
		"thread-self/ns/net": "net:[100]",
		"self/ns/mnt":        "mnt:[1]",
		"self/mountinfo":     "1 1 0:4 net:[200] /run/netns/blue rw - nsfs nsfs rw\n2 1 0:4 net:[300] /run/docker/netns/0123456789ab rw - nsfs nsfs rw\n3 1 0:4 net:[100] /run/docker/netns/default rw - nsfs nsfs rw\n",
		"1/ns/net":           "net:[100]",
		"1/ns/mnt":           "mnt:[1]",
		"1/comm":             "init\n",
		"7/ns/net":           "net:[300]",
		"7/ns/mnt":           "mnt:[1]",
		"7/comm":             "web\n",
		"8/ns/net":           "net:[400]",
		"8/ns/mnt":           "mnt:[2]",
		"8/comm":             "odd one\n",
		"8/mountinfo":        "9 1 0:4 net:[500] /x/netns/lb_abcdefghi rw - nsfs nsfs rw\n",
		"9/ns/net":           "mnt:[1]",
	})
	clock := time.Unix(1000, 0)
	topo, err := New(Options{Procfs: proc, Now: func() time.Time { return clock }})
	if err != nil {
		t.Fatal(err)
	}
	defer topo.Close()
	tests := []NetNS{
		{Inode: 100, Name: "host", Kind: KindHost, PID: 1},
		{Inode: 200, Name: "blue", Kind: KindNamed},
		{Inode: 300, Name: "0123456789ab", Kind: KindContainer, PID: 7},
		{Inode: 400, Name: "odd one[8]", Kind: KindOther, PID: 8},
	}
	for _, want := range tests {
		got, ok := topo.Namespace(want.Inode)
		got.Path = ""
		if !ok || got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	if _, ok := topo.Namespace(500); ok {
		t.Error("an unknown namespace was looked for again at once")
	}
	topo.SetName(600, "early", KindContainer)
	if got, ok := topo.Namespace(600); !ok || got.Name != "early" {
		t.Errorf("named before it was seen: got %+v", got)
	}
	if len(topo.Namespaces()) != 4 {
		t.Errorf("got %v", topo.Namespaces())
	}
	if err := topo.scan(500); err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(proc, "8/root/x/netns/lb_abcdefghi")
	if got, ok := topo.Namespace(500); !ok || got.Kind != KindBalancer || got.Path != want {
		t.Errorf("in another mount namespace: got %+v, want path %s", got, want)
	}
}

func TestNewFails(t *testing.T) {
	if _, err := New(Options{Procfs: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want %v", err, os.ErrNotExist)
	}
}

func FuzzParsers(f *testing.F) {
	f.Add([]byte("605 24 0:4 net:[4026532281] /run/netns/b\\040x rw - nsfs nsfs rw"))
	f.Add([]byte("Tcp: A\nTcp: 1"))
	f.Add([]byte("h\n0: 0100007F:0050 0:0 0A 0:0 0 0 0 0 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		text := string(data)
		pins, _ := parseMountinfo(strings.NewReader(text))
		for _, p := range pins {
			if p.inode == 0 {
				t.Errorf("inode 0 in %q", text)
			}
			pinName(p.path)
		}
		parseSNMP(strings.NewReader(text), map[string]uint64{})
		parseSNMP6(strings.NewReader(text), map[string]uint64{})
		parseSockets(strings.NewReader(text), stateListen)
		new(linkState).setBridgePort(data)
		parseDiag(data)
		if _, p, ok := parseAddr(data); ok && !p.IsValid() {
			t.Errorf("invalid prefix from %x", data)
		}
	})
}
