//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// tables lists the tables of nftables in the host's namespace.
func (h *host) tables(t *testing.T) string {
	t.Helper()
	return h.do(t, "nft", "list", "tables")
}

// TestTraceRules lists the rules that a request passes, and leaves no table, also after kill -9.
func TestTraceRules(t *testing.T) {
	h := need(t).Hosts[1]
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	before := h.surroundings(t)
	t.Run("delivered", func(t *testing.T) {
		r := h.probe(t, want{Outcome: path.Delivered}, shared.Outside, web.published("80/tcp").String(), "--trace-rules")
		r.passes(web.rulesTo(n)...)
		h.leaves(t, before, objects{})
	})
	t.Run("killed", func(t *testing.T) {
		// Nobody has that address, so the probe waits.
		client.do("ip", "neigh", "replace", web.addr(n).String(), "lladdr", "02:42:00:00:00:99", "dev", "eth0", "nud", "permanent")
		clean := h.tables(t)
		p := h.launch(t, "--from", client.Name, "--to", web.Name+":80", "--trace-rules", "--timeout", "30s", "-o", "json")
		p.ready()
		if !eventually(10*time.Second, func() bool { return h.tables(t) != clean }) {
			t.Errorf("no table was added: %s", clean)
		}
		o := held(p.cmd.Process.Pid)
		check(t, p.cmd.Process.Kill())
		<-p.ended
		h.leaves(t, before, o)
	})
}

// rulesTo are rules of Docker's that a request from outside to the published port 80 passes.
func (c *container) rulesTo(n *network) []string {
	addr := c.addr(n).String()
	return []string{
		"-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
		"-A FORWARD -j DOCKER-USER",
		"-A DOCKER -d " + addr + "/32 ! -i " + n.Bridge + " -o " + n.Bridge + " -p tcp -m tcp --dport 80 -j ACCEPT",
	}
}

// passes checks that the request is shown with rules of these texts, in this order.
func (r *result) passes(texts ...string) {
	r.t.Helper()
	var got []string
	for _, h := range r.hops {
		if h.Direction == path.Request {
			for _, step := range h.Rules {
				got = append(got, step.Text)
			}
		}
	}
	rest := got
	for _, text := range texts {
		i := slices.Index(rest, text)
		if i < 0 {
			r.t.Fatalf("no rule %q, or not in this order, in\n%s", text, strings.Join(got, "\n"))
		}
		rest = rest[i+1:]
	}
}
