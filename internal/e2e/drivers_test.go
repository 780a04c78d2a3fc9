//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// macvlan creates a network of that mode on the host's own link, and two web servers on it.
func (h *host) macvlan(t *testing.T, mode string) (n *network, first, second *container) {
	t.Helper()
	n = &network{h: h, Name: unique("mv")}
	subnet := netip.PrefixFrom(h.Addr, 24).Masked()
	addr := func(last byte) string {
		a := subnet.Addr().As4()
		a[3] = last
		return netip.AddrFrom4(a).String()
	}
	h.must(t, "network", "create", "-d", "macvlan", "--subnet", subnet.String(), "-o", "parent=eth0",
		"-o", "macvlan_mode="+mode, n.Name)
	t.Cleanup(func() { _ = h.docker("network", "rm", n.Name) })
	return n, n.server(t, "--ip", addr(201)), n.server(t, "--ip", addr(202))
}

// TestMacvlan: which containers reach each other is a matter of the devices' mode.
func TestMacvlan(t *testing.T) {
	h := spare(t, plain)
	t.Run("bridge", func(t *testing.T) {
		n, first, second := h.macvlan(t, "bridge")
		h.probe(t, want{
			Outcome: path.Delivered,
			Says:    []string{"macvlan " + n.Name + ": received from " + first.Name, "container " + second.Name, "eth0 received"},
			Hops: []hop{
				{Container: first.Name, Device: "eth0", Kind: "macvlan", Network: n.Name, Action: path.ActionTransmit, Direction: path.Request},
				{Container: second.Name, Device: "eth0", Kind: "macvlan", Network: n.Name, Direction: path.Request},
			},
		}, first.Name, second.Name+":80")
		h.probe(t, want{Outcome: path.Delivered, Says: []string{"macvlan " + n.Name + " → eth0"}}, shared.Outside, first.Name+":80")
		h.isolated(t, first)
	})
	t.Run("private", func(t *testing.T) {
		n, first, second := h.macvlan(t, "private")
		h.ask(t, want{Outcome: path.Lost, Outcomes: silent, Cause: path.CauseNetworkIsolation, Container: first.Name,
			Says: []string{"eth0 of host in private mode", "macvlan_mode=bridge"}}, first.Name, second.Name+":80", brief...)
		r := h.ask(t, want{Outcome: path.Lost, Outcomes: silent, Cause: path.CauseMacvlanHostIsolation,
			Says: []string{"in private mode"}}, "host", first.Name+":80", brief...)
		if text := strings.Join(r.verdicts[0].Remedy, "\n"); strings.Contains(text, "host-side") {
			t.Errorf("a device of the host's own does not help in private mode:\n%s", text)
		}
		h.probe(t, want{Outcome: path.Delivered, Says: []string{n.Name}}, shared.Outside, first.Name+":80")
	})
	t.Run("vepa", func(t *testing.T) {
		_, first, second := h.macvlan(t, "vepa")
		h.ask(t, want{Outcome: path.Lost, Outcomes: silent, Cause: path.CauseNeighbourUnresolved, Container: first.Name,
			Says: []string{"in vepa mode", "reflective relay"}}, first.Name, second.Name+":80", brief...)
	})
}

// isolated checks that the host does not reach its own macvlan container, and that what is advised helps.
func (h *host) isolated(t *testing.T, c *container) {
	t.Helper()
	r := h.ask(t, want{Outcome: path.Lost, Outcomes: silent, Cause: path.CauseMacvlanHostIsolation,
		Says: []string{"macvlan", "eth0"}}, "host", c.Name+":80", brief...)
	h.ask(t, want{Outcome: path.Lost, Outcomes: silent, Cause: path.CauseMacvlanHostIsolation}, c.Name, h.Addr.String()+":80", brief...)
	t.Cleanup(func() { h.do(t, "ip", "link", "del", "host-side") })
	for _, cmd := range r.verdicts[0].Remedy {
		h.do(t, "sh", "-c", cmd)
	}
	h.ask(t, want{Outcome: path.Delivered}, "host", c.Name+":80")
}

// TestSharedNamespaces: where containers share a namespace, the process tells which of them answers.
func TestSharedNamespaces(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	side := h.runs(t, "side", "tcp :81", "--network", "container:"+web.Name)
	port := h.freePort(t)
	hosted := h.runs(t, "hn", fmt.Sprintf("tcp :%d", port), "--network", "host")
	idle := h.runs(t, "hn", "idle", "--network", "host")
	for _, test := range []struct {
		from, to string
		says     []string
	}{
		{client.Name, side.Name + ":81", []string{side.Name + " answered", "ptserver of container " + side.Name,
			side.Name + " is in the network of container " + web.Name + " and has no name of its own"}},
		{client.Name, web.Name + ":81", []string{side.Name + ", which shares the network of " + web.Name + ", answered"}},
		{client.Name, side.Name + ":80", []string{web.Name + ", which shares the network of " + side.Name + ", answered"}},
		{web.Name, side.Name + ":81", []string{side.Name + " answered " + web.Name}},
		{shared.Outside, web.published("80/tcp").String(), []string{"listens on [::]:80 in container " + web.Name}},
		{shared.Outside, fmt.Sprintf("%s:%d", hosted.Name, port), []string{"ptserver of container " + hosted.Name}},
		{client.Name, fmt.Sprintf("%s:%d", hosted.Name, port), []string{"is in the host's network, where containers have no names"}},
		{hosted.Name, web.Name + ":80", []string{"where names of containers are not known"}},
	} {
		h.ask(t, want{Outcome: path.Delivered, Says: test.says}, test.from, test.to)
	}
	r := h.ask(t, want{Outcome: path.Misdelivered, Cause: path.CausePortConflict,
		Says: []string{"container " + hosted.Name, "not container " + idle.Name, "in the host's network there is each port once"},
	}, shared.Outside, fmt.Sprintf("%s:%d", idle.Name, port))
	if text := strings.Join(r.verdicts[0].Remedy, "\n"); strings.Contains(text, "-p ") {
		t.Errorf("a port cannot be published in the host's network:\n%s", text)
	}
	// A container in another's namespace has the other's networks.
	r = h.ask(t, want{Outcome: path.Refused, Cause: path.CauseNotListening, Container: client.Name}, side.Name, client.Name+":80")
	if text := strings.Join(r.verdicts[0].Evidence, "\n"); strings.Contains(text, "share no network") {
		t.Errorf("%s and %s do share a network:\n%s", side.Name, client.Name, text)
	}
}

// freePort is a port of the host that nobody has, most likely.
func (h *host) freePort(t *testing.T) int {
	t.Helper()
	return int(h.listenOn(t, 0)) + 1
}

// TestNoNetwork: a container without a network, and what helps it.
func TestNoNetwork(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	none, client := h.runs(t, "none", "tcp :80", "--network", "none"), n.client(t)
	h.ask(t, want{Outcome: path.NoTraffic, Cause: path.CauseNoRoute, Says: []string{"nothing but a loopback device"}},
		none.Name, shared.OutsideAddr.String()+":80")
	h.ask(t, want{Outcome: path.NoTraffic, Cause: path.CauseNoSharedNetwork, Says: []string{"no network that gives it an address"}},
		"host", none.Name+":80")
	r := h.ask(t, want{Outcome: path.NoTraffic, Cause: path.CauseNoSharedNetwork}, client.Name, none.Name+":80")
	for _, cmd := range r.verdicts[0].Remedy {
		args, _, _ := strings.Cut(cmd, "#")
		h.must(t, strings.Fields(args)[1:]...)
	}
	h.ask(t, want{Outcome: path.Delivered}, client.Name, none.Name+":80")
}

// TestInternal: an internal network carries what stays on it, and its containers publish nothing.
func TestInternal(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t, "--internal")
	port := h.freePort(t)
	web, client := n.server(t, "-p", fmt.Sprintf("%d:80", port)), n.client(t)
	h.probe(t, want{Outcome: path.Delivered, Says: []string{"bridge " + n.Name}}, client.Name, web.Name+":80")
	h.ask(t, want{Outcome: path.Delivered}, "host", web.Name+":80")
	h.ask(t, want{Outcome: path.Dropped, Cause: path.CauseNetworkIsolation}, client.Name, shared.OutsideAddr.String()+":80", brief...)
	to := fmt.Sprintf("%s:%d", web.Name, port)
	for _, from := range []string{shared.Outside, "host"} {
		h.ask(t, want{Outcome: path.NoTraffic, Cause: path.CauseNotPublished,
			Says: []string{"no other network than " + n.Name + ", which is internal"}}, from, to)
	}
	h.must(t, "network", "connect", "bridge", web.Name) // as it advises
	h.ask(t, want{Outcome: path.Delivered}, shared.Outside, to)
}

// TestSeveralNetworks: of the networks that two containers share, the one is used that Docker's name
// server answers with.
func TestSeveralNetworks(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	internal, first, second := h.network(t, "--internal"), h.network(t), h.network(t) // in the order of their names
	web, client := internal.server(t), internal.client(t)
	for _, n := range []*network{second, first} {
		for _, c := range []*container{web, client} {
			h.must(t, "network", "connect", n.Name, c.Name)
		}
	}
	named := h.must(t, "exec", client.Name, "/bin/ptserver", "get", web.Name+":80")
	used := first
	if first.Name > second.Name {
		used = second
	}
	if !strings.Contains(named, client.addr(used).String()) {
		t.Errorf("Docker's name server led through another network than %s: %s", used.Name, named)
	}
	r := h.probe(t, want{Outcome: path.Delivered, Says: []string{"bridge " + used.Name}}, client.Name, web.Name+":80")
	if got, want := r.verdicts[0].Dst, web.addr(used).String()+":80"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
	for _, part := range []string{used.Name + " is used", "Docker gives names"} {
		if !strings.Contains(flat(r.stderr), part) {
			t.Errorf("no %q in %q", part, r.stderr)
		}
	}
}

// TestBridges traces over the default bridge and over a bridge with options of its own.
func TestBridges(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	web := h.runs(t, "web", "tcp :80", "-p", "80")
	client := h.runs(t, "cli", "idle")
	h.probe(t, want{Outcome: path.Delivered, Says: []string{"bridge bridge", "docker0"}}, "host", web.Name+":80")
	h.probe(t, want{Outcome: path.Delivered, Says: []string{"bridge bridge"}}, client.Name, web.addr(&network{Name: "bridge"}).String()+":80")
	h.probe(t, want{Outcome: path.Delivered, Says: []string{"bridge bridge", "DNAT"}}, shared.Outside, web.published("80/tcp").String())
	n := h.network(t, "-o", "com.docker.network.driver.mtu=1300", "-o", "com.docker.network.bridge.enable_ip_masquerade=false",
		"-o", "com.docker.network.bridge.host_binding_ipv4="+h.Addr.String())
	small, asker := n.server(t, "-p", "80"), n.client(t)
	r := h.ask(t, want{Outcome: path.Delivered}, asker.Name, small.Name+":80")
	if !slices.ContainsFunc(r.hops, func(h path.Hop) bool { return h.Container == small.Name && h.DeviceMTU == 1300 }) {
		t.Errorf("no hop on a device with the MTU of the network")
	}
	h.ask(t, want{Outcome: path.Delivered}, shared.Outside, small.published("80/tcp").String())
	h.ask(t, want{Outcome: path.Lost, Outcomes: failed, Cause: path.CauseMasqueradeMissing,
		Says: []string{"network " + n.Name + " was made without masquerading"}}, asker.Name, shared.OutsideAddr.String()+":9", brief...)
}
