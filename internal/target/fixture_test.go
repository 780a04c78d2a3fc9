package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/topo"
)

// Namespaces of the fixture.
const (
	nsSelf     = 1
	nsHost1    = 100
	nsHost2    = 200
	nsUnderlay = 300
	nsEmpty    = 301
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// fakeSpace is one namespace: its addresses, and what it reaches by a gateway.
type fakeSpace struct {
	ns    topo.NetNS
	addrs []netip.Prefix
	// primary is the source address towards the world, invalid without a default route.
	primary netip.Addr
}

type fakeTopology []fakeSpace

func (f fakeTopology) Self() uint32 { return nsSelf }

func (f fakeTopology) Namespaces() []topo.NetNS {
	var out []topo.NetNS
	for _, s := range f {
		out = append(out, s.ns)
	}
	return out
}

func (f fakeTopology) Mounted(inode uint32) string {
	if inode == nsHost2 {
		return "mounted2"
	}
	return ""
}

func (f fakeTopology) space(inode uint32) (fakeSpace, bool) {
	i := slices.IndexFunc(f, func(s fakeSpace) bool { return s.ns.Inode == inode })
	if i < 0 {
		return fakeSpace{}, false
	}
	return f[i], true
}

func (f fakeTopology) Namespace(inode uint32) (topo.NetNS, bool) {
	s, ok := f.space(inode)
	return s.ns, ok
}

func (f fakeTopology) HostAddrs(inode uint32) ([]netip.Addr, error) {
	s, ok := f.space(inode)
	if !ok {
		return nil, fmt.Errorf("netns %d: %w", inode, unix.ENOENT)
	}
	var out []netip.Addr
	for _, p := range s.addrs {
		out = append(out, p.Addr())
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

func (f fakeTopology) AddrOwner(a netip.Addr) []topo.Owner {
	var out []topo.Owner
	for _, s := range f {
		if slices.ContainsFunc(s.addrs, func(p netip.Prefix) bool { return p.Addr() == a }) {
			out = append(out, topo.Owner{NetNS: s.ns, Link: topo.Link{Addrs: s.addrs}})
		}
	}
	return out
}

func (f fakeTopology) RouteTo(inode uint32, dst netip.Addr) (topo.Route, error) {
	s, _ := f.space(inode)
	for _, p := range s.addrs {
		if p.Addr() == dst {
			return topo.Route{Local: true, Src: dst}, nil
		}
	}
	for _, p := range s.addrs {
		if p.Masked().Contains(dst) {
			return topo.Route{Src: p.Addr()}, nil
		}
	}
	if s.primary.IsValid() && s.primary.Is4() == dst.Is4() {
		return topo.Route{Src: s.primary, Gateway: addr("10.99.0.1")}, nil
	}
	return topo.Route{}, unix.ENETUNREACH
}

func space(inode uint32, name string, kind topo.Kind, primary string, addrs ...string) fakeSpace {
	s := fakeSpace{ns: topo.NetNS{Inode: inode, Name: name, Kind: kind, Path: "/run/netns/" + name}}
	if primary != "" {
		s.primary = addr(primary)
	}
	for _, a := range addrs {
		s.addrs = append(s.addrs, netip.MustParsePrefix(a))
	}
	return s
}

type fakeDocker struct {
	engines    []docker.Engine
	containers []*docker.Container
	networks   []*docker.Network
}

func (f fakeDocker) List() []docker.Engine           { return f.engines }
func (f fakeDocker) Containers() []*docker.Container { return f.containers }
func (f fakeDocker) Networks() []*docker.Network     { return f.networks }

type fakeResolver map[string][]netip.Addr

func (f fakeResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if host == "slow.example" {
		return nil, errors.New("i/o timeout")
	}
	if addrs, ok := f[host]; ok {
		return slices.Clone(addrs), nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func box(id, name string, netns uint32, endpoints ...docker.Endpoint) *docker.Container {
	return &docker.Container{ID: id, Name: name, State: docker.Running, NetNS: netns, NetNSPath: "/pin/" + name, Endpoints: endpoints}
}

func on(network, ip string, aliases ...string) docker.Endpoint {
	e := docker.Endpoint{NetworkID: "id-" + network, Network: network, Aliases: aliases}
	if ip == "" {
		return e
	}
	if a := addr(ip); a.Is6() {
		e.IPv6 = a
	} else {
		e.IPv4 = a
	}
	return e
}

func port(host string, hostPort, containerPort uint16, proto string) docker.Port {
	return docker.Port{HostIP: addr(host), HostPort: hostPort, ContainerPort: containerPort, Proto: proto}
}

// fixture is a small world: two engines on one kernel with the same subnets, as hosts have.
func fixture() *Names { return New(fixtureOptions()) }

func fixtureOptions() Options {
	web := box("aaaa00000001", "web", 11, on("app", "172.18.0.2", "www", "web"))
	web.Project, web.Service, web.Number = "shop", "web", 1
	web.Ports = []docker.Port{port("0.0.0.0", 8080, 80, "tcp"), port("::", 8080, 80, "tcp"), port("10.99.0.11", 8443, 443, "tcp"), port("0.0.0.0", 5353, 53, "udp")}
	side := box("aaaa00000009", "side", 11)
	side.JoinedID = web.ID
	onhost := box("aaaa00000008", "onhost", nsHost1, docker.Endpoint{Network: "host"})
	onhost.NetworkMode = "host"
	stopped := box("aaaa00000006", "stopped", 0, docker.Endpoint{Network: "app"})
	stopped.State, stopped.NetNSPath = docker.Exited, ""
	stopped.Ports = []docker.Port{port("0.0.0.0", 9090, 90, "tcp")}
	db := box("aaaa00000003", "db", 13, on("two", "172.19.0.2", "database"))
	db.Ports = []docker.Port{port("127.0.0.1", 5432, 5432, "tcp")}
	api1, api2 := box("aaaa00000011", "shop-api-1", 21, on("app", "172.18.0.21", "api")), box("aaaa00000012", "shop-api-2", 22, on("app", "172.18.0.22", "api"))
	api1.Project, api1.Service, api1.Number = "shop", "api", 1
	api2.Project, api2.Service, api2.Number = "shop", "api", 2
	six := box("aaaa00000007", "six", 17, on("v6", "fd00:6::2"))
	none := box("aaaa00000010", "lonely", 20, docker.Endpoint{Network: "none"})
	both := box("aaaa00000004", "both", 14, on("app", "172.18.0.4"), on("two", "172.19.0.4"))
	both2 := box("aaaa00000005", "both2", 15, on("app", "172.18.0.5"), on("two", "172.19.0.5"))
	cli := box("aaaa00000002", "cli", 12, on("app", "172.18.0.3"))
	remote := box("bbbb00000001", "remote", 41, on("app2", "172.18.0.2"))
	twin := box("bbbb00000002", "cli", 42, on("app2", "172.18.0.9"))
	remote.Engine, twin.Engine = 1, 1
	task := box("bbbb00000003", "jobs.1.xyz", 43, on("app2", "172.18.0.10"))
	task.Engine, task.SwarmService, task.SwarmTask = 1, "jobs", "jobs.1.xyz"
	return Options{
		Docker: fakeDocker{
			engines:    []docker.Engine{{Index: 0, Host: "unix:///one", NetNS: nsHost1, Alive: true}, {Index: 1, Host: "unix:///two", NetNS: nsHost2, Alive: true}},
			containers: []*docker.Container{web, side, onhost, stopped, db, api1, api2, six, none, both, both2, cli, remote, twin, task},
			networks: []*docker.Network{
				{Name: "app", Gateways: []netip.Addr{addr("172.18.0.1")}}, {Name: "two", Gateways: []netip.Addr{addr("172.19.0.1")}},
			},
		},
		Topology: fakeTopology{
			space(nsSelf, "host", topo.KindHost, "", "127.0.0.1/8", "192.0.2.5/24"),
			space(nsHost1, "host1", topo.KindNamed, "10.99.0.11", "127.0.0.1/8", "::1/128", "10.99.0.11/24", "172.18.0.1/16", "172.19.0.1/16"),
			space(nsHost2, "host2", topo.KindNamed, "10.99.0.12", "127.0.0.1/8", "10.99.0.12/24", "172.18.0.1/16"),
			space(nsUnderlay, "underlay", topo.KindNamed, "", "127.0.0.1/8", "10.99.0.1/24", "2001:db8::1/64"),
			space(nsEmpty, "empty", topo.KindNamed, "", "127.0.0.1/8"),
			space(11, "web", topo.KindContainer, "172.18.0.2", "172.18.0.2/16"),
			space(12, "cli", topo.KindContainer, "172.18.0.3", "172.18.0.3/16"),
			space(14, "both", topo.KindContainer, "172.18.0.4", "172.18.0.4/16", "172.19.0.4/16"),
			space(13, "db", topo.KindContainer, "172.19.0.2", "172.19.0.2/16"),
			space(21, "shop-api-1", topo.KindContainer, "172.18.0.21", "172.18.0.21/16"),
		},
		Resolver: fakeResolver{
			"www.example": {addr("2001:db8::80"), addr("203.0.113.80")},
			"gw.example":  {addr("10.99.0.1")},
		},
	}
}

func mustSource(t *testing.T, n *Names, text string) Source {
	t.Helper()
	s, err := n.Source(context.Background(), text)
	if err != nil {
		t.Fatalf("source %s: %v", text, err)
	}
	return s
}
