//go:build e2e

package e2e

import (
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
	for _, name := range []string{web.Name, alias, service, project + "/" + service, web.addr(n).String()} {
		t.Run(name, func(t *testing.T) {
			h.probe(t, want{
				Outcome: path.Delivered,
				Says:    []string{"container " + client.Name, "container " + web.Name, "bridge " + n.Name, "delivered: " + web.Name},
				Hops: []hop{
					{Container: client.Name, Device: "eth0", Kind: "veth", Network: n.Name, Direction: path.Request, Action: path.ActionTransmit},
					{Device: client.veth(), Kind: "veth", Network: n.Name, Direction: path.Request, Action: path.ActionReceive},
					{Device: n.Bridge, Kind: "bridge", Direction: path.Request},
					{Container: web.Name, Device: "eth0", Direction: path.Request, Action: path.ActionReceive},
					{Container: web.Name, Direction: path.Request, Action: path.ActionDeliver},
					{Container: client.Name, Device: "eth0", Direction: path.Reply, Action: path.ActionReceive},
				},
			}, client.Name, name+":80")
		})
	}
}
