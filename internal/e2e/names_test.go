//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// named probes by name and returns what is said against the name.
func (h *host) named(t *testing.T, from *container, to string) string {
	t.Helper()
	r := h.probe(t, want{Outcome: path.Delivered}, from.Name, to)
	var said []string
	for _, w := range r.verdicts[0].Warnings {
		said = append(said, string(w.Cause)+": "+w.Summary)
	}
	return strings.Join(said, "\n")
}

// TestResolveNames: what a container can resolve is told from what it cannot.
func TestResolveNames(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t, "--network-alias", "shop", "--label", "com.docker.compose.service=front")
	client := n.client(t)
	healthy := map[string]string{
		"name": web.Name + ":80", "alias": "shop:80", "ID": web.inspect("{{.Id}}")[:12] + ":80", "address": web.addr(n).String() + ":80",
	}
	for what, to := range healthy {
		if said := h.named(t, client, to); said != "" {
			t.Errorf("by %s %s: %s", what, to, said)
		}
	}
	t.Run("another address in the hosts file", func(t *testing.T) {
		misled := n.client(t, "--add-host", web.Name+":192.0.2.7")
		said := h.named(t, misled, web.Name+":80")
		if !strings.Contains(said, "name-not-resolved: the name "+web.Name+" leads "+misled.Name+" to 192.0.2.7") {
			t.Errorf("got %q", said)
		}
	})
	t.Run("a name that only the container has", func(t *testing.T) {
		knows := n.client(t, "--add-host", "backend.test:"+web.addr(n).String())
		if said := h.named(t, knows, "backend.test:80"); said != "" {
			t.Errorf("got %q", said)
		}
		h.run(t, "--from", client.Name, "--to", "backend.test:80").fails(statusCannotTrace, "backend.test")
	})
	t.Run("a server of its own", func(t *testing.T) {
		// On a user-defined network Docker's server comes first all the same.
		own := n.client(t, "--dns", "192.0.2.53")
		if said := h.named(t, own, web.Name+":80"); said != "" {
			t.Errorf("got %q", said)
		}
	})
	t.Run("a service that is no name", func(t *testing.T) {
		// The label alone makes no name: Compose adds the alias, too.
		if said := h.named(t, client, "front:80"); !strings.Contains(said, "name-not-resolved") {
			t.Errorf("got %q", said)
		}
	})
}

// TestResolveOnDefaultBridge: no names there, unless the hosts file has them.
func TestResolveOnDefaultBridge(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	web := h.runs(t, "web", "tcp :80")
	client, linked := h.runs(t, "cli", "idle"), h.runs(t, "cli", "idle", "--link", web.Name)
	said := h.named(t, client, web.Name+":80")
	if !strings.Contains(said, "name-not-resolved") || !strings.Contains(said, "on the default bridge network") {
		t.Errorf("got %q", said)
	}
	if said := h.named(t, linked, web.Name+":80"); said != "" {
		t.Errorf("with a link: got %q", said)
	}
	addr := web.inspect("{{.NetworkSettings.IPAddress}}")
	if said := h.named(t, client, addr+":80"); said != "" {
		t.Errorf("by address: got %q", said)
	}
}

// TestResolveWithoutRules: the rules that lead to Docker's DNS server are gone, and come back.
func TestResolveWithoutRules(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	t.Run("flushed", func(t *testing.T) {
		client.saveRules(t)
		client.do("iptables", "-w", "-t", "nat", "-F")
		r := h.probe(t, want{Outcome: path.Delivered, Says: []string{"connection refused by its server 127.0.0.11:53"}},
			client.Name, web.Name+":80")
		if !slices.ContainsFunc(r.verdicts[0].Remedy, func(s string) bool { return strings.HasPrefix(s, "docker restart "+client.Name) }) {
			t.Errorf("remedy: got %q", r.verdicts[0].Remedy)
		}
	})
	if said := h.named(t, client, web.Name+":80"); said != "" {
		t.Errorf("after the undo: %s", said)
	}
}
