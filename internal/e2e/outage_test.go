//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// briefTimeout is enough for what gets no answer.
const briefTimeout = 600 * time.Millisecond

// brief makes the probe wait so long.
var brief = []string{"--timeout", briefTimeout.String()}

// TestNotListening traces to containers in which nothing takes the connection.
func TestNotListening(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	flags := []string{"--network", n.Name, "-p", "80"}
	client := n.client(t)
	for _, test := range []struct {
		name, command string
		causes        []path.Cause
	}{
		{"nothing", "idle", []path.Cause{path.CauseNotListening}},
		{"another port", "tcp :8000", []path.Cause{path.CauseNotListening}},
		{"loopback only", "tcp 127.0.0.1:80", []path.Cause{path.CauseNotListening, "listening-on-loopback"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := h.runs(t, "closed", test.command, flags...)
			w := want{Outcome: path.Refused, Causes: test.causes, Container: c.Name, Direction: path.Request, Says: []string{c.Name}}
			h.probe(t, w, shared.Outside, c.published("80/tcp").String())
			h.probe(t, w, client.Name, c.Name+":80")
		})
	}
}

// TestDockerUser traces into rules of the DOCKER-USER chain.
func TestDockerUser(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	for _, test := range []struct {
		action  string
		outcome path.Outcome
		cause   path.Cause
	}{{"DROP", path.Dropped, path.CauseFirewallDrop}, {"REJECT", path.Refused, path.CauseFirewallReject}} {
		t.Run(test.action, func(t *testing.T) {
			web := n.server(t, "-p", "80")
			rule(t, h.do, "filter", "DOCKER-USER", "-p", "tcp", "-d", web.addr(n).String(), "--dport", "80", "-j", test.action)
			w := want{Outcome: test.outcome, Cause: test.cause, Stage: path.StageForward, Namespace: "host", Direction: path.Request}
			h.probe(t, w, shared.Outside, web.published("80/tcp").String(), brief...)
			w.Stage = path.StageBridgeForward // br_netfilter shows bridged frames to the same rules
			h.probe(t, w, n.client(t).Name, web.Name+":80", brief...)
		})
	}
}

// TestReplyDropped drops the answer, not the request.
func TestReplyDropped(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t, "-p", "80")
	rule(t, h.do, "filter", "DOCKER-USER", "-p", "tcp", "-s", web.addr(n).String(), "--sport", "80", "-j", "DROP")
	h.probe(t, want{
		Outcome: path.Dropped, Cause: path.CauseFirewallDrop, Stage: path.StageForward, Namespace: "host",
		Direction: path.Reply, Says: []string{"reply"},
	}, shared.Outside, web.published("80/tcp").String(), brief...)
}

// TestNoSharedNetwork asks for a container by name that no network joins with the source.
func TestNoSharedNetwork(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n, other := h.network(t), h.network(t)
	web, stranger, neighbour := n.server(t), other.client(t), n.client(t)
	outcomes := []path.Outcome{path.Refused, path.Dropped, path.Lost}
	h.probe(t, want{
		Outcome: path.NoTraffic, Outcomes: outcomes, Cause: path.CauseNoSharedNetwork, Says: []string{n.Name},
	}, stranger.Name, web.Name+":80", brief...)
	h.must(t, "network", "disconnect", n.Name, web.Name)
	h.probe(t, want{Outcome: path.NoTraffic, Outcomes: outcomes, Cause: path.CauseNoSharedNetwork},
		neighbour.Name, web.Name+":80", brief...)
}

// TestStopped asks for a container that does not run.
func TestStopped(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t, "-p", "18080:80"), n.client(t)
	addr := web.addr(n)
	h.must(t, "kill", web.Name)
	outcomes := []path.Outcome{path.Refused, path.Dropped, path.Lost}
	w := want{Outcome: path.NoTraffic, Outcomes: outcomes, Cause: path.CauseContainerNotRunning, Says: []string{web.Name}}
	h.probe(t, w, client.Name, web.Name+":80", brief...)
	h.probe(t, w, shared.Outside, web.Name+":18080", brief...)
	// Nobody has the address any more.
	h.probe(t, want{Outcome: path.Dropped, Outcomes: []path.Outcome{path.Lost, path.Refused},
		Causes: []path.Cause{path.CauseNeighbourUnresolved, path.CauseContainerNotRunning}},
		client.Name, addr.String()+":80", "--timeout", "4s")
	h.run(t, "--from", web.Name, "--to", client.Name+":80").fails(statusCannotTrace, web.Name, "exited", "docker start")
}

// TestPaused asks a container that is paused: its kernel side answers.
func TestPaused(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	h.must(t, "pause", web.Name)
	defer h.must(t, "unpause", web.Name)
	h.probe(t, want{Outcome: path.Delivered}, client.Name, web.Name+":80", brief...)
}

// TestNoDefaultRoute takes the default route from the target: the request arrives, the answer has no
// way.
func TestNoDefaultRoute(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	web.do("ip", "route", "del", "default")
	h.probe(t, want{
		Outcome: path.Dropped, Outcomes: []path.Outcome{path.Lost}, Cause: path.CauseNoRoute,
		Container: web.Name, Direction: path.Reply, Says: []string{"reply", "route"},
	}, shared.Outside, web.Name+":80", brief...)
	client.do("ip", "route", "del", "default")
	h.probe(t, want{
		Outcome: path.NoTraffic, Outcomes: []path.Outcome{path.Dropped, path.Lost, path.Refused},
		Cause: path.CauseNoRoute, Says: []string{client.Name},
	}, client.Name, shared.OutsideAddr.String()+":80", brief...)
	h.probe(t, want{Outcome: path.Delivered}, client.Name, web.Name+":80")
}

// TestLinkDown takes the container's device on the host down.
func TestLinkDown(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	h.do(t, "ip", "link", "set", web.veth(), "down")
	w := want{Outcome: path.Dropped, Outcomes: []path.Outcome{path.Lost}, Cause: path.CauseLinkDown}
	h.probe(t, w, shared.Outside, web.published("80/tcp").String(), brief...)
	h.probe(t, w, client.Name, web.Name+":80", brief...)
}
