//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestTwoEngines traces from a container of one engine to a published port of the other, with names of
// both; the private addresses are the same on both hosts.
func TestTwoEngines(t *testing.T) {
	first, second := need(t).Hosts[0], need(t).Hosts[1]
	here := first.network(t, "--subnet", shared.Elsewhere.Masked().String())
	there := second.network(t, "--subnet", shared.Elsewhere.Masked().String())
	client := here.client(t)
	web := there.server(t, "-p", "80")
	r := first.probe(t, want{
		Outcome: path.Delivered, Says: []string{"container " + client.Name, "container " + web.Name},
		Hops: []hop{
			{Container: client.Name, Direction: path.Request, Action: path.ActionTransmit},
			{Action: path.ActionMasquerade, Direction: path.Request},
			{Action: path.ActionDNAT, Direction: path.Request},
			{Container: web.Name, Network: there.Name, Direction: path.Request, Action: path.ActionReceive},
			{Container: client.Name, Network: here.Name, Direction: path.Reply, Action: path.ActionReceive},
		},
	}, client.Name, fmt.Sprintf("%s:%d", web.Name, web.published("80/tcp").Port()), "--docker-host", "unix://"+second.Socket)
	hosts := map[string]bool{}
	for _, h := range r.hops {
		if h.Action == path.ActionMasquerade || h.Action == path.ActionDNAT {
			hosts[h.Namespace] = true
		}
	}
	if len(hosts) != 2 {
		t.Errorf("the two hosts are called %v", hosts)
	}
}

// TestSameNameOnTwoEngines: it has to be said which is meant.
func TestSameNameOnTwoEngines(t *testing.T) {
	first, second := need(t).Hosts[0], need(t).Hosts[1]
	name := unique("both")
	for _, h := range []*host{first, second} {
		h.must(t, "run", "-d", "--name", name, image, "idle")
		t.Cleanup(func() { _ = h.docker("rm", "-f", name) })
	}
	r := first.run(t, "--docker-host", "unix://"+second.Socket, "--from", "host", "--to", name)
	r.fails(statusCannotTrace, name, first.Socket, second.Socket)
}

// TestEngineRestarted restarts dockerd during a trace; its containers keep running.
func TestEngineRestarted(t *testing.T) {
	h := need(t).Hosts[1]
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	p := h.launch(t, "--to", web.Name+":80", "-o", "json")
	p.ready()
	addr := web.addr(n).String() + ":80"
	flows := 0
	trace := func(c *container) {
		t.Helper()
		namespace := fmt.Sprintf("/proc/%s/ns/net", c.process())
		getFrom(t, namespace, addr)
		flows++
		p.until("verdict", func(line string) bool {
			return strings.HasPrefix(line, `{"type":"verdict"`) && strings.Contains(line, `"src_name":"`+c.Name+`"`)
		})
	}
	trace(client)
	check(t, h.stopDaemon())
	if !p.said(h.Socket) {
		t.Errorf("it is not said that the engine is gone: %s", p.text())
	}
	trace(client) // names are those from before
	check(t, h.startDaemon())
	late := n.client(t)
	trace(late)
	p.interrupt()
	r := p.wait()
	if r.status != statusDelivered || len(r.verdicts) != flows || r.stats.LostEvents != 0 {
		t.Errorf("status %d, verdicts %+v, stats %+v", r.status, r.verdicts, r.stats)
	}
	if got := strings.Count(r.stderr, h.Socket); got != 1 {
		t.Errorf("the engine is spoken of %d times, want once: %s", got, r.stderr)
	}
	for _, v := range r.verdicts {
		if v.DstName != web.Name {
			t.Errorf("the target is called %q, want %q", v.DstName, web.Name)
		}
	}
}
