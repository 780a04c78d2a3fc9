//go:build e2e

package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestPrivateMounts: the engine is in a mount namespace of its own, as in a container or a snap, so that
// the namespaces of its containers are pinned nowhere that this process sees. Everything has its name all the
// same, also a container that was restarted and one that came later.
func TestPrivateMounts(t *testing.T) {
	h := spare(t, private)
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	pin := web.inspect("{{.NetworkSettings.SandboxKey}}")
	var fs unix.Statfs_t
	if unix.Statfs(pin, &fs) == nil && fs.Type == unix.NSFS_MAGIC {
		t.Fatalf("the pin %s is mounted here, too", pin)
	}
	names := want{
		Outcome: path.Delivered, Says: []string{"container " + client.Name, "container " + web.Name},
		Hops: []hop{
			{Container: client.Name, Direction: path.Request, Action: path.ActionTransmit},
			{Container: web.Name, Network: n.Name, Direction: path.Request, Action: path.ActionReceive},
		},
	}
	h.probe(t, names, client.Name, web.Name+":80")
	h.probe(t, want{Outcome: path.Delivered, Says: []string{"container " + web.Name}}, shared.Outside, web.published("80/tcp").String())
	rule(t, h.do, "filter", "DOCKER-USER", "-p", "tcp", "--dport", "80", "-j", "DROP")
	h.ask(t, want{Outcome: path.Dropped, Cause: path.CauseFirewallDrop}, client.Name, web.Name+":80", brief...)
	p := h.launch(t, "--to", web.Name+":80", "-o", "json")
	p.ready()
	h.must(t, "restart", "-t", "0", web.Name) // another namespace, of which only the engine knows the pin
	late := n.client(t)
	h.ask(t, want{Outcome: path.Dropped, Cause: path.CauseFirewallDrop}, late.Name, web.Name+":80", brief...)
	line := p.until("a verdict", func(line string) bool { return strings.HasPrefix(line, `{"type":"verdict"`) })
	if !strings.Contains(line, late.Name) || !strings.Contains(line, web.Name) {
		t.Errorf("names are missing: %s", line)
	}
}
