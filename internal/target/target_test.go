package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func endpointsText(list []Endpoint) string {
	var out []string
	for _, e := range list {
		s := fmt.Sprintf("%s/%s", e.AddrPort, e.Proto)
		if e.Published {
			s += "*"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestTarget(t *testing.T) {
	const webEndpoints = "172.18.0.2:80/tcp 10.99.0.11:8080/tcp* 127.0.0.1:8080/tcp* 172.18.0.1:8080/tcp* 172.19.0.1:8080/tcp* [::1]:8080/tcp*"
	tests := []struct {
		text       string
		proto      path.Proto
		kind       Kind
		containers string
		endpoints  string
	}{
		{"web:80", "", KindContainer, "web", webEndpoints},
		{"web:8080", "", KindContainer, "web", webEndpoints},
		{"tcp://web:http", "", KindContainer, "web", webEndpoints},
		{"web:81", "", KindContainer, "web", "172.18.0.2:81/tcp"},
		{"web:443", "", KindContainer, "web", "172.18.0.2:443/tcp 10.99.0.11:8443/tcp*"},
		{"udp://web:53", "", KindContainer, "web", "172.18.0.2:53/udp 10.99.0.11:5353/udp* 127.0.0.1:5353/udp* 172.18.0.1:5353/udp* 172.19.0.1:5353/udp*"},
		{"web:53", path.TCP, KindContainer, "web", "172.18.0.2:53/tcp"},
		{"web", "", KindContainer, "web", "172.18.0.2:0/icmp"},
		{"web", path.ICMP, KindContainer, "web", "172.18.0.2:0/icmp"},
		{"www:80", "", KindAlias, "web", webEndpoints},
		{"shop/web:80", "", KindService, "web", webEndpoints},
		{"aaaa00000001:80", "", KindContainer, "web", webEndpoints},
		{"side:80", "", KindContainer, "side", webEndpoints},
		{"api:9000", "", KindService, "shop-api-1 shop-api-2", "172.18.0.21:9000/tcp 172.18.0.22:9000/tcp"},
		{"jobs:1", "", KindSwarmService, "jobs.1.xyz", "172.18.0.10:1/tcp"},
		{"onhost:22", "", KindContainer, "onhost", "10.99.0.11:22/tcp 127.0.0.1:22/tcp 172.18.0.1:22/tcp 172.19.0.1:22/tcp [::1]:22/tcp"},
		{"stopped:90", "", KindContainer, "stopped", "10.99.0.11:9090/tcp* 127.0.0.1:9090/tcp* 172.18.0.1:9090/tcp* 172.19.0.1:9090/tcp*"},
		{"six:80", "", KindContainer, "six", "[fd00:6::2]:80/tcp"},
		{"lonely:80", "", KindContainer, "lonely", ""},
		{"underlay:80", "", KindNetNS, "", "10.99.0.1:80/tcp [2001:db8::1]:80/tcp"},
		{"empty:80", "", KindNetNS, "", ""},
		{"host:8080", "", KindHost, "web", "10.99.0.11:8080/tcp* 127.0.0.1:8080/tcp* 172.18.0.1:8080/tcp* 172.19.0.1:8080/tcp* [::1]:8080/tcp*"},
		{"host1:22", "", KindNetNS, "", "10.99.0.11:22/tcp 127.0.0.1:22/tcp 172.18.0.1:22/tcp 172.19.0.1:22/tcp [::1]:22/tcp"},
		{"10.99.0.11:8080", "", KindHost, "web", "10.99.0.11:8080/tcp*"},
		{"10.99.0.11:22", "", KindHost, "", "10.99.0.11:22/tcp"},
		{"127.0.0.1:5432", "", KindHost, "db", "127.0.0.1:5432/tcp*"},
		{"172.19.0.2:1", "", KindContainer, "db", "172.19.0.2:1/tcp"},
		{"[fd00:6::2]:80", "", KindContainer, "six", "[fd00:6::2]:80/tcp"},
		{"fd00:6::2", "", KindContainer, "six", "[fd00:6::2]:0/icmp"},
		{"203.0.113.9:80", "", KindAddress, "", "203.0.113.9:80/tcp"},
		{"www.example:80", "", KindHostName, "", "203.0.113.80:80/tcp [2001:db8::80]:80/tcp"},
		{"gw.example:80", "", KindNetNS, "", "10.99.0.1:80/tcp"},
	}
	for _, tt := range tests {
		got, err := fixture().Target(context.Background(), tt.text, tt.proto)
		if err != nil {
			t.Errorf("%s: %v", tt.text, err)
			continue
		}
		containers := strings.ReplaceAll(containerNames(got.Containers), ",", "")
		if got.Kind != tt.kind || containers != tt.containers || endpointsText(got.Endpoints) != tt.endpoints {
			t.Errorf("%s: got %s %q\n\t%s, want %s %q\n\t%s", tt.text, got.Kind, containers, endpointsText(got.Endpoints), tt.kind, tt.containers, tt.endpoints)
		}
	}
}

func TestTargetBehindHostPort(t *testing.T) {
	got, err := fixture().Target(context.Background(), "10.99.0.11:8080", "")
	if err != nil || !got.Host || len(got.Asked) != 1 || endpointsText(got.Behind) != "172.18.0.2:80/tcp" {
		t.Errorf("got %+v %v", got, err)
	}
	got, err = fixture().Target(context.Background(), "10.99.0.11:9090", "")
	if err != nil || containerNames(got.Containers) != "stopped" {
		t.Errorf("a port of a stopped container: got %+v %v", got, err)
	}
	got, err = fixture().Target(context.Background(), "10.99.0.12:8080", "")
	if err != nil || len(got.Containers) != 0 || got.Engine != 1 {
		t.Errorf("another engine's host: got %+v %v", got, err)
	}
}

func TestProto(t *testing.T) {
	for _, c := range []struct {
		text string
		flag path.Proto
		want path.Proto
	}{
		{"web:80", "", path.TCP}, {"[fd00::2]:80", "", path.TCP}, {"web:80", "UDP", path.UDP}, {"udp://web:53", "", path.UDP},
		{"web", "", path.ICMP}, {"web", path.TCP, ""}, {"udp://web:53", path.TCP, ""}, {":80", "", ""}, {"web:80", "sctp", ""},
	} {
		if got := Proto(c.text, c.flag); got != c.want {
			t.Errorf("%q with %q: got %q, want %q", c.text, c.flag, got, c.want)
		}
	}
}

func TestTargetErrors(t *testing.T) {
	var usageErr *UsageError
	var unknown *UnknownError
	var ambiguous *AmbiguousError
	tests := []struct {
		text  string
		proto path.Proto
		kind  any
		want  string
	}{
		{"", "", &usageErr, "names nothing"},
		{":80", "", &usageErr, "names nothing"},
		{"web:", "", &usageErr, "no port after it"},
		{"web:0", "", &usageErr, "1 to 65535"},
		{"web:65536", "", &usageErr, "1 to 65535"},
		{"web:99999999999999999999", "", &usageErr, "1 to 65535"},
		{"web:-1", "", &usageErr, "1 to 65535"},
		{"web:nosuchservice", "", &usageErr, "1 to 65535"},
		{"web", path.TCP, &usageErr, "no port, which tcp needs: write web:PORT"},
		{"udp://web", "", &usageErr, "no port, which udp needs"},
		{"web:80", path.ICMP, &usageErr, "ICMP has none"},
		{"udp://web:80", path.TCP, &usageErr, "give one of them"},
		{"web:80", "sctp", &usageErr, "use tcp, udp or icmp"},
		{"http://web", "", &usageErr, "web:80"},
		{"a:b:c", "", &usageErr, "several colons"},
		{"[fd00::2", "", &usageErr, "brackets"},
		{"[10.0.0.1]:80", "", &usageErr, "brackets"},
		{"[fd00::2]x", "", &usageErr, "brackets"},
		{"fe80::1%eth0", "", &usageErr, "zone"},
		{"0.0.0.0:80", "", &usageErr, "every address"},
		{"224.0.0.1:80", "", &usageErr, "multicast"},
		{"255.255.255.255:80", "", &usageErr, "broadcast"},
		{"[fe80::1]:80", "", &usageErr, "link-local"},
		{"a/b/c:80", "", &usageErr, "is no name"},
		{"we b:80", "", &usageErr, "is no name"},
		{"wbe:80", "", &unknown, `called "wbe": did you mean web?`},
		{"shop-api:80", "", &unknown, "did you mean shop/api or shop-api-1 or shop-api-2?"},
		{"unrelated:80", "", &unknown, "there are web, side"},
		{"slow.example:80", "", &unknown, "i/o timeout"},
		{"no/such:80", "", &unknown, "called"},
		{"cli:80", "", &ambiguous, "container cli of engine unix:///one (write aaaa00000002); container cli of engine unix:///two (write bbbb00000002)"},
		{"aaaa:80", "", &ambiguous, "container web of engine unix:///one (write web)"},
		{"172.18.0.2:80", "", &ambiguous, "container remote"},
	}
	for _, tt := range tests {
		_, err := fixture().Target(context.Background(), tt.text, tt.proto)
		if err == nil || !errors.As(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %T %v, want %T with %q", tt.text, err, err, tt.kind, tt.want)
		}
	}
}

// Names of two Compose projects, and an alias that different containers have on different networks.
func TestAmbiguousServices(t *testing.T) {
	opts := fixtureOptions()
	d := opts.Docker.(fakeDocker)
	other := box("cccc00000001", "blog-api-1", 31, on("blog", "172.20.0.2", "api", "database"))
	other.Project, other.Service = "blog", "api"
	d.containers = append(d.containers, other)
	opts.Docker = d
	for text, want := range map[string]string{
		"api:80":      "service api of Compose project shop of engine unix:///one (write shop/api); service api of Compose project blog of engine unix:///one (write blog/api)",
		"database:80": "alias of db on network two of engine unix:///one (write db); alias of blog-api-1 on network blog",
	} {
		var ambiguous *AmbiguousError
		_, err := New(opts).Target(context.Background(), text, "")
		if !errors.As(err, &ambiguous) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
	if got, err := New(opts).Target(context.Background(), "blog/api:80", ""); err != nil || len(got.Containers) != 1 {
		t.Errorf("blog/api: got %+v %v", got, err)
	}
}

func TestWithoutDocker(t *testing.T) {
	opts := fixtureOptions()
	opts.Docker, opts.Resolver = nil, nil
	n := New(opts)
	got, err := n.Target(context.Background(), "underlay:80", "")
	if err != nil || len(got.Endpoints) != 2 {
		t.Errorf("got %+v %v", got, err)
	}
	if got, err := n.Target(context.Background(), "host:80", ""); err != nil || got.NetNS[0] != nsSelf || !got.Host {
		t.Errorf("host: got %+v %v", got, err)
	}
	var unknown *UnknownError
	if _, err := n.Target(context.Background(), "underlya:80", ""); !errors.As(err, &unknown) || unknown.Suggestions[0] != "underlay" {
		t.Errorf("got %v", err)
	}
}

// TestSilentEngine: a name that only an engine can know is not said to be nobody's while that engine
// does not answer.
func TestSilentEngine(t *testing.T) {
	for _, test := range []struct {
		why  error
		says bool
	}{{context.DeadlineExceeded, true}, {fs.ErrNotExist, false}, {nil, false}} {
		opts := fixtureOptions()
		engines := opts.Docker.(fakeDocker)
		engines.engines = []docker.Engine{{Host: "unix:///one", Err: test.why, Alive: test.why == nil}}
		opts.Docker = engines
		_, err := New(opts).Target(context.Background(), "nobody:80", "")
		if err == nil || strings.Contains(err.Error(), "unix:///one does not answer") != test.says {
			t.Errorf("engine %v: got %v", test.why, err)
		}
	}
}

func TestSource(t *testing.T) {
	var usageErr *UsageError
	var unknown *UnknownError
	var ambiguous *AmbiguousError
	var notRunning *NotRunningError
	tests := []struct {
		text  string
		netns uint32
		bind  string
		host  bool
		kind  any
	}{
		{"web", 11, "", false, nil},
		{"side", 11, "", false, nil},
		{"www", 11, "", false, nil},
		{"underlay", nsUnderlay, "", false, nil},
		{"host", nsHost1, "", true, nil},
		{"host2", nsHost2, "", true, nil},
		{"mounted2", nsHost2, "", true, nil}, // as ip netns calls it
		{"onhost", nsHost1, "", true, nil},
		{"10.99.0.1", nsUnderlay, "10.99.0.1", false, nil},
		{"172.18.0.3", 12, "172.18.0.3", false, nil},
		{"10.99.0.12", nsHost2, "10.99.0.12", true, nil},
		{"gw.example", nsUnderlay, "10.99.0.1", false, nil},
		{"web:80", 0, "", false, &usageErr},
		{"tcp://web", 0, "", false, &usageErr},
		{"203.0.113.9", 0, "", false, &unknown},
		{"172.18.0.1", 0, "", false, &ambiguous}, // both hosts' bridge
		{"api", 0, "", false, &ambiguous},
		{"stopped", 0, "", false, &notRunning},
	}
	for _, tt := range tests {
		got, err := fixture().Source(context.Background(), tt.text)
		if tt.kind != nil {
			if err == nil || !errors.As(err, tt.kind) {
				t.Errorf("%s: got %T %v, want %T", tt.text, err, err, tt.kind)
			}
			continue
		}
		bind := ""
		if got.Bind.IsValid() {
			bind = got.Bind.String()
		}
		if err != nil || got.NetNS != tt.netns || bind != tt.bind || got.Host != tt.host || got.NetNSPath == "" {
			t.Errorf("%s: got %+v %v, want netns %d bind %q host %v", tt.text, got, err, tt.netns, tt.bind, tt.host)
		}
	}
}

func TestDial(t *testing.T) {
	tests := []struct {
		from, to string
		want     string // address, then * if published, then the note or the error
		cause    path.Cause
	}{
		// Containers on one network.
		{"aaaa00000002", "web:80", "172.18.0.2:80", ""},
		{"aaaa00000002", "web:8080", "172.18.0.2:80 port 8080 is published from port 80, which containers on network app use", ""},
		{"aaaa00000002", "web", "172.18.0.2:0", ""},
		{"both", "both2:80", "172.18.0.5:80 both are on networks app and two, app is used: Docker gives names on the first by name", ""},
		{"side", "aaaa00000002:80", "172.18.0.3:80", ""},
		{"aaaa00000002", "api:80", "172.18.0.21:80 api has 2 containers, shop-api-1 is used", ""},
		{"shop-api-1", "api:80", "172.18.0.22:80", ""},
		// No shared network.
		{"aaaa00000002", "db:5432", "aaaa00000002 (networks: app) and db (networks: two) share no network", path.CauseNoSharedNetwork},
		{"db", "web:80", "db (networks: two) and web (networks: app) share no network", path.CauseNoSharedNetwork},
		{"db", "web:8080", "10.99.0.11:8080*", ""},
		{"aaaa00000002", "lonely:80", "share no network", path.CauseNoSharedNetwork},
		// The host.
		{"host", "web:80", "172.18.0.2:80", ""},
		{"host", "web:8080", "10.99.0.11:8080*", ""},
		{"host", "web:8443", "10.99.0.11:8443*", ""},
		{"host", "db:5432", "172.19.0.2:5432", ""},
		{"host", "lonely:80", "on no network that gives it an address", path.CauseNoSharedNetwork},
		{"host", "host:8080", "10.99.0.11:8080*", ""},
		{"host", "host:5432", "127.0.0.1:5432*", ""},
		{"onhost", "web:80", "172.18.0.2:80", ""},
		{"aaaa00000002", "onhost:22", "172.18.0.1:22", ""},
		{"aaaa00000002", "host:22", "172.18.0.1:22", ""},
		{"aaaa00000002", "host:8080", "10.99.0.11:8080*", ""},
		// From outside.
		{"underlay", "web:80", "10.99.0.11:8080* port 80 of web is published as 10.99.0.11:8080", ""},
		{"underlay", "web:8080", "10.99.0.11:8080*", ""},
		{"underlay", "web:81", "172.18.0.2:81 port 81 of web is not published, so its own address is used", ""},
		{"underlay", "udp://web:53", "10.99.0.11:5353* port 53 of web is published as 10.99.0.11:5353", ""},
		{"underlay", "db:5432", "port 5432 of db is published on 127.0.0.1:5432 only, which underlay cannot reach", path.CauseNotPublished},
		{"underlay", "web", "172.18.0.2:0", ""},
		{"underlay", "host:8080", "10.99.0.11:8080*", ""},
		{"underlay", "host2:22", "10.99.0.12:22", ""},
		{"remote", "web:80", "10.99.0.11:8080* port 80 of web is published as 10.99.0.11:8080", ""},
		// Hairpin.
		{"web", "web:8080", "10.99.0.11:8080*", ""},
		{"web", "10.99.0.11:8080", "10.99.0.11:8080*", ""},
		{"side", "web:80", "172.18.0.2:80", ""},
		// Addresses and names.
		{"aaaa00000002", "172.19.0.2:80", "172.19.0.2:80", ""},
		{"underlay", "www.example:80", "[2001:db8::80]:80 www.example has 2 addresses, 2001:db8::80 is used: the source is on the same subnet", ""},
		{"10.99.0.1", "www.example:80", "203.0.113.80:80", ""},
		{"host1", "underlay:80", "10.99.0.1:80 underlay has 2 addresses, 10.99.0.1 is used: the source is on the same subnet", ""},
		{"host1", "empty:80", "namespace empty has no address that host1 could use", path.CauseNoSharedNetwork},
		// What does not run.
		{"aaaa00000002", "stopped:90", "container stopped is exited", path.CauseContainerNotRunning},
	}
	for _, tt := range tests {
		n := fixture()
		dst, err := n.Target(context.Background(), tt.to, "")
		if err != nil {
			t.Fatalf("%s: %v", tt.to, err)
		}
		got, err := n.Dial(mustSource(t, n, tt.from), dst)
		if tt.cause != "" {
			var dialErr *DialError
			if !errors.As(err, &dialErr) || dialErr.Cause != tt.cause || !strings.Contains(err.Error(), tt.want) || len(dialErr.Remedy) == 0 {
				t.Errorf("%s -> %s: got %+v %v, want %s %q", tt.from, tt.to, got, err, tt.cause, tt.want)
			}
			continue
		}
		text := got.AddrPort.String()
		if got.Published {
			text += "*"
		}
		if got.Note != "" {
			text += " " + got.Note
		}
		if err != nil || text != tt.want {
			t.Errorf("%s -> %s: got %q %v, want %q", tt.from, tt.to, text, err, tt.want)
		}
	}
}

func TestDialUsage(t *testing.T) {
	for _, tt := range [][2]string{
		{"web", "web:80"}, {"web", "web"}, {"underlay", "underlay:80"}, {"host", "host:22"}, {"10.99.0.1", "six:80"},
	} {
		n := fixture()
		dst, err := n.Target(context.Background(), tt[1], "")
		if err != nil {
			t.Fatal(err)
		}
		var usageErr *UsageError
		if got, err := n.Dial(mustSource(t, n, tt[0]), dst); !errors.As(err, &usageErr) {
			t.Errorf("%s -> %s: got %+v %v, want a usage error", tt[0], tt[1], got, err)
		}
	}
}

func TestDialPrefersIPv6(t *testing.T) {
	opts := fixtureOptions()
	opts.PreferIPv6 = true
	n := New(opts)
	dst, err := n.Target(context.Background(), "underlay:80", "")
	if err != nil {
		t.Fatal(err)
	}
	// host1 has no IPv6 route, so IPv4 is what fits.
	if got, err := n.Dial(mustSource(t, n, "host1"), dst); err != nil || got.AddrPort.String() != "10.99.0.1:80" {
		t.Errorf("got %+v %v", got, err)
	}
	dst, err = n.Target(context.Background(), "www.example:80", "")
	if err != nil || dst.Asked[0] != addr("2001:db8::80") {
		t.Errorf("got %+v %v", dst, err)
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"web:80", "[fd00::2]:80", "udp://a/b:1", "::", "host:", "10.99.0.11:8080"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := fixture()
		dst, err := n.Target(context.Background(), text, "")
		if (err == nil) == (dst.Proto == "") {
			t.Errorf("%q: got %+v and %v", text, dst, err)
		}
		if err == nil {
			n.Dial(mustSource(t, n, "underlay"), dst)
		}
		n.Source(context.Background(), text)
	})
}

// The real sources of facts fit.
var (
	_ Topology = (*topo.Topology)(nil)
	_ Docker   = (*docker.Engines)(nil)
	_ Resolver = (*net.Resolver)(nil)
)

// TestPreferred: two engines use the same gateway address; the namespace that was given wins.
func TestPreferred(t *testing.T) {
	opts := fixtureOptions()
	opts.Preferred = []uint32{nsHost2}
	got, err := New(opts).Target(context.Background(), "172.18.0.1:80", "")
	if err != nil || len(got.NetNS) != 1 || got.NetNS[0] != nsHost2 {
		t.Errorf("address: got %v %v, want namespace %d", got.NetNS, err, nsHost2)
	}
	opts.Topology = append(opts.Topology.(fakeTopology), space(302, "underlay", topo.KindNamed, "", "198.51.100.1/24"))
	opts.Preferred = []uint32{302}
	opts.Topology = append(opts.Topology.(fakeTopology), space(303, "copy", topo.KindNamed, "", "10.99.0.11/24"))
	opts.Preferred = append(opts.Preferred, 303)
	got, err = New(opts).Target(context.Background(), "10.99.0.11:80", "")
	if err != nil || len(got.NetNS) != 1 || got.NetNS[0] != 303 {
		t.Errorf("address of an engine: got %v %v, want namespace 303", got.NetNS, err)
	}
	src, err := New(opts).Source(context.Background(), "underlay")
	if err != nil || src.NetNS != 302 {
		t.Errorf("name: got %d %v, want namespace 302", src.NetNS, err)
	}
}

// TestBridgeWithoutGateway: an engine does not name the gateway of a network made with a subnet alone.
func TestBridgeWithoutGateway(t *testing.T) {
	subnet := []netip.Prefix{netip.MustParsePrefix("10.64.0.0/24")}
	w := &world{networks: []*docker.Network{
		{Engine: 1, Driver: "bridge", Subnets: subnet},
		{Engine: 2, Driver: "macvlan", Subnets: subnet},
	}}
	for engine, want := range map[int]bool{0: false, 1: true, 2: false} {
		if got := w.isBridge(engine, netip.MustParseAddr("10.64.0.1")); got != want {
			t.Errorf("engine %d: got %v, want %v", engine, got, want)
		}
	}
	if w.isBridge(1, netip.MustParseAddr("10.64.1.1")) {
		t.Error("an address outside the subnet is no bridge")
	}
}

// TestAddressOfStrangers: a namespace that has nothing to do with the engines may use their addresses.
func TestAddressOfStrangers(t *testing.T) {
	topology := fakeTopology{
		space(nsSelf, "self", topo.KindOther, "", "192.0.2.1/24"),
		space(nsHost1, "host1", topo.KindHost, "", "10.99.0.11/24"),
		space(400, "lab", topo.KindNamed, "", "10.99.0.11/24", "192.0.2.1/24", "198.51.100.1/24"),
		space(401, "lab2", topo.KindNamed, "", "198.51.100.1/24"),
	}
	n := New(Options{Topology: topology, Docker: fakeDocker{engines: []docker.Engine{{NetNS: nsHost1, Alive: true}}}})
	for text, netns := range map[string]uint32{"10.99.0.11": nsHost1, "192.0.2.1": nsSelf} {
		if got, err := n.Source(context.Background(), text); err != nil || got.NetNS != netns {
			t.Errorf("%s: got %+v %v, want namespace %d", text, got, err, netns)
		}
	}
	var ambiguous *AmbiguousError
	if _, err := n.Source(context.Background(), "198.51.100.1"); !errors.As(err, &ambiguous) {
		t.Errorf("two strangers: got %v, want ambiguous", err)
	}
}

// TestAmbiguous: what would not tell two things apart is not suggested, and what looks the same is listed once.
func TestAmbiguous(t *testing.T) {
	e := &AmbiguousError{Name: "10.0.1.1"}
	for _, c := range []Candidate{
		{What: "namespace 1-abc", Use: "10.0.1.1"}, {What: "namespace 1-abc", Use: "10.0.1.1"},
		{What: "namespace overlay ov", Use: "10.0.9.1"}, {What: "namespace lb_abc", Use: "10.0.9.1"},
		{What: "container web", Use: "web"},
	} {
		e.add(c, e.Name)
	}
	const want = `"10.0.1.1" could be any of these, say which: namespace 1-abc; namespace overlay ov; namespace lb_abc; container web (write web)`
	if got := e.Error(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
