package target

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// swarmOf is a service with a task on each of two hosts of a swarm, whose load balancers both have its
// virtual address, and a client on its network; another client is on another network.
func swarmOf() *Names {
	task := func(engine int, id, addr string, netns uint32) *docker.Container {
		c := box(id, "vip."+id, netns, on("ov", addr))
		c.Engine, c.SwarmService, c.SwarmTask, c.SwarmID = engine, "vip", "vip."+id, "s1"
		return c
	}
	ov := &docker.Network{ID: "id-ov", Name: "ov", Driver: "overlay", Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.1.0/24")}}
	balancer := func(inode uint32, own string) fakeSpace {
		return space(inode, "load balancer of ov", topo.KindBalancer, "", own, "10.0.1.2/32")
	}
	return New(Options{
		Docker: fakeDocker{
			engines: []docker.Engine{{Index: 0, Host: "unix:///one", NetNS: nsHost1}, {Index: 1, Host: "unix:///two", NetNS: nsHost2}},
			containers: []*docker.Container{task(0, "1", "10.0.1.3", 11), task(1, "2", "10.0.1.4", 21), box("c1", "cli", 12, on("ov", "10.0.1.7")),
				box("c2", "other", 13, on("app", "172.18.0.2"))},
			networks: []*docker.Network{ov},
		},
		Topology: fakeTopology{
			space(nsSelf, "host", topo.KindHost, "", "192.0.2.5/24"), balancer(31, "10.0.1.5/24"), balancer(32, "10.0.1.6/24"),
			space(12, "cli", topo.KindContainer, "", "10.0.1.7/24"), space(13, "other", topo.KindContainer, "", "172.18.0.2/16"),
		},
		Resolver: fakeResolver{"vip": {addr("10.0.1.2")}},
	})
}

// TestVirtual: the name of a service means its virtual address to who can reach that, and traffic to it or to
// any of its containers is traffic to the service.
func TestVirtual(t *testing.T) {
	n := swarmOf()
	for _, c := range []struct{ from, to, dial string }{
		{"cli", "vip:80", "10.0.1.2:80"},
		{"cli", "10.0.1.2:80", "10.0.1.2:80"},
		{"cli", "vip.2:80", "10.0.1.4:80"},
		{"other", "vip:80", "10.0.1.4:80"}, // in vain, as the trace will say
	} {
		target, err := n.Target(t.Context(), c.to, path.TCP)
		if err != nil {
			t.Fatalf("%s: %v", c.to, err)
		}
		out, err := n.Dial(mustSource(t, n, c.from), target)
		if (err == nil) != (c.dial != "") || err == nil && out.AddrPort.String() != c.dial {
			t.Errorf("%s to %s: %v, %v; want %q", c.from, c.to, out.AddrPort, err, c.dial)
		}
	}
	target, err := n.Target(t.Context(), "vip:80", path.TCP)
	if err != nil {
		t.Fatal(err)
	}
	var ends []string
	for _, e := range target.Endpoints {
		ends = append(ends, e.AddrPort.String())
	}
	if want := []string{"10.0.1.3:80", "10.0.1.4:80", "10.0.1.2:80"}; !slices.Equal(ends, want) {
		t.Errorf("endpoints %v, want %v", ends, want)
	}
}
