//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestHealthy: on a healthy host with 10 containers on 3 networks, all pairs that should talk do so
// without a warning, all that should not are isolated.
func TestHealthy(t *testing.T) {
	h := spare(t, plain)
	crowd := h.population(t)
	t.Run("pairs", func(t *testing.T) {
		for _, from := range crowd {
			for _, to := range crowd {
				if from.container != to.container {
					t.Run(from.Name+" to "+to.Name, func(t *testing.T) {
						t.Parallel()
						from.asks(t, to)
					})
				}
			}
		}
	})
	t.Run("outside", func(t *testing.T) {
		port := serveOutside(t)
		for _, c := range crowd[:3] {
			h.fine(t, shared.Outside, c.published("80/tcp").String())
			h.fine(t, "host", c.Name+":80")
			h.fine(t, c.Name, netip.AddrPortFrom(shared.OutsideAddr, port).String())
		}
	})
}

// resident is a container and the networks that it is on, with its address in each.
type resident struct {
	*container
	at map[*network]netip.Addr
}

// population starts 10 containers on 3 networks: three on each and one on two of them.
func (h *host) population(t *testing.T) []resident {
	t.Helper()
	var nets []*network
	for range 3 {
		nets = append(nets, h.network(t))
	}
	var list []resident
	for i := range 9 {
		n := nets[i%3]
		c := n.server(t, "-p", "80")
		list = append(list, resident{c, map[*network]netip.Addr{n: c.addr(n)}})
	}
	both := nets[0].server(t, "-p", "80")
	h.must(t, "network", "connect", nets[1].Name, both.Name)
	return append(list, resident{both, map[*network]netip.Addr{nets[0]: both.addr(nets[0]), nets[1]: both.addr(nets[1])}})
}

// asks traces from one resident to every address of another.
func (c resident) asks(t *testing.T, to resident) {
	t.Helper()
	for n, addr := range to.at {
		target := fmt.Sprintf("%s:80", addr)
		if c.at[n].IsValid() {
			c.h.fine(t, c.Name, target)
			continue
		}
		r := c.h.run(t, "--from", c.Name, "--to", target, "--timeout", "300ms", "-o", "json")
		var wrong []string
		if len(r.verdicts) != 1 || r.verdicts[0].Outcome != path.Dropped || r.verdicts[0].Cause != "network-isolation" {
			wrong = append(wrong, fmt.Sprintf("%v: want network-isolation", r.args))
		}
		right(t, wrong, r)
	}
}

// fine checks that a probe is delivered and that nothing is said against it.
func (h *host) fine(t *testing.T, from, to string) {
	t.Helper()
	r := h.run(t, "--from", from, "--to", to, "-o", "json")
	ok := slices.ContainsFunc(r.verdicts, func(v path.Verdict) bool {
		return v.Outcome == path.Delivered && len(v.Warnings) == 0 && v.Complete
	})
	if !ok || len(r.verdicts) != 1 || r.status != statusDelivered {
		t.Errorf("%v: want delivered without warnings, got\n%s%s", r.args, r.stdout, r.stderr)
	}
}
