//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestNames traces from one container to another on a user network, by every kind of name.
func TestNames(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	project, service, alias := unique("project"), unique("service"), unique("alias")
	web := n.server(t, "--network-alias", alias, "--label", "com.docker.compose.project="+project,
		"--label", "com.docker.compose.service="+service, "--label", "com.docker.compose.container-number=1")
	client := n.client(t)
	for _, name := range []string{web.Name, alias, service, project + "/" + service, web.inspect("{{.Id}}")[:8], web.addr(n).String()} {
		t.Run(strings.ReplaceAll(name, "/", "."), func(t *testing.T) {
			h.probe(t, want{
				Outcome: path.Delivered,
				Says:    []string{"container " + client.Name, "container " + web.Name, "bridge " + n.Name},
				Hops: []hop{
					{Container: client.Name, Device: "eth0", Kind: "veth", Network: n.Name, Direction: path.Request, Action: path.ActionTransmit},
					{Device: client.veth(), Kind: "veth", Network: n.Name, Direction: path.Request, Action: path.ActionReceive},
					{Container: web.Name, Device: "eth0", Direction: path.Request, Action: path.ActionReceive},
					{Container: web.Name, Direction: path.Request, Action: path.ActionDeliver},
					{Container: client.Name, Device: "eth0", Direction: path.Reply, Action: path.ActionReceive},
				},
			}, client.Name, name+":80")
		})
	}
}

// TestSourceByAddress sends the probe from the container that has the address, bound to it.
func TestSourceByAddress(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	r := h.probe(t, want{Outcome: path.Delivered, Hops: []hop{
		{Container: client.Name, Direction: path.Request, Action: path.ActionTransmit},
	}}, client.addr(n).String(), web.Name+":80")
	if !strings.HasPrefix(r.verdicts[0].Src, client.addr(n).String()+":") {
		t.Errorf("sent from %s, want %s", r.verdicts[0].Src, client.addr(n))
	}
}

// TestTwoNetworks traces to a container in two networks, from each of them.
func TestTwoNetworks(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	first, second := h.network(t), h.network(t)
	web := first.server(t)
	h.must(t, "network", "connect", second.Name, web.Name)
	for _, n := range []*network{first, second} {
		client := n.client(t)
		r := h.probe(t, want{
			Outcome: path.Delivered, Says: []string{"bridge " + n.Name},
			Hops: []hop{{Container: web.Name, Network: n.Name, Direction: path.Request, Action: path.ActionReceive}},
		}, client.Name, web.Name+":80")
		if got, want := r.verdicts[0].Dst, web.addr(n).String()+":80"; got != want {
			t.Errorf("from network %s: asked %s, want %s", n.Name, got, want)
		}
	}
}

// TestProtocols traces what UDP and ICMP echo come to.
func TestProtocols(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	client := n.client(t)
	flags := []string{"--network", n.Name}
	echo := h.runs(t, "echo", "udp :53", flags...)
	mute := h.runs(t, "mute", "mute :53", flags...)
	idle := h.runs(t, "idle", "idle", flags...)
	t.Run("udp answered", func(t *testing.T) {
		h.probe(t, want{Outcome: path.Delivered, Hops: []hop{
			{Container: echo.Name, Direction: path.Request, Action: path.ActionDeliver, Stage: path.StageUDP},
		}}, client.Name, echo.Name+":53", "--proto", "udp")
	})
	t.Run("udp silent", func(t *testing.T) {
		r := h.run(t, "--from", client.Name, "--to", mute.Name+":53", "--proto", "udp", "--timeout", "500ms", "-o", "json")
		r.verdict(want{Outcome: path.Delivered})
		if !strings.Contains(r.verdicts[0].Summary+strings.Join(r.verdicts[0].Evidence, " "), "answer") {
			t.Errorf("silence is not explained: %+v", r.verdicts[0])
		}
	})
	t.Run("udp refused", func(t *testing.T) {
		h.probe(t, want{Outcome: path.Refused, Cause: path.CauseNotListening, Container: idle.Name},
			client.Name, idle.Name+":53", "--proto", "udp")
	})
	t.Run("icmp", func(t *testing.T) {
		r := h.probe(t, want{Outcome: path.Delivered, Hops: []hop{
			{Container: idle.Name, Direction: path.Request, Action: path.ActionReceive},
			{Container: client.Name, Direction: path.Reply, Action: path.ActionReceive},
		}}, client.Name, idle.Name)
		if r.verdicts[0].Proto != path.ICMP {
			t.Errorf("no port given: got %s, want icmp", r.verdicts[0].Proto)
		}
	})
}

// TestIPv6 traces over IPv6 on a user network.
func TestIPv6(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t, "--ipv6", "--subnet", "fd00:5e:1::/64")
	web, client := n.server(t), n.client(t)
	addr := web.addr6(n)
	for _, args := range [][]string{
		{"[" + addr.String() + "]:80"}, {web.Name + ":80", "--ipv6"}, {"[" + addr.String() + "]", "--proto", "icmp"},
	} {
		r := h.probe(t, want{
			Outcome: path.Delivered,
			Hops:    []hop{{Container: web.Name, Direction: path.Request, Action: path.ActionReceive}},
		}, client.Name, args[0], args[1:]...)
		if !strings.HasPrefix(r.verdicts[0].Dst, "["+addr.String()) && r.verdicts[0].Dst != addr.String() {
			t.Errorf("asked %s, want %s", r.verdicts[0].Dst, addr)
		}
	}
	h.probe(t, want{Outcome: path.Refused, Cause: path.CauseNotListening, Container: web.Name},
		client.Name, web.Name+":81", "--ipv6")
}
