//go:build e2e

package e2e

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestEmulated is the shortest test that shows a whole engine at work, for machines that are slow:
// scripts/kernels.sh runs it on another kernel. What comes from outside is delivered, and the same
// connection is dropped by a rule of DOCKER-USER then.
func TestEmulated(t *testing.T) {
	h := need(t).Hosts[0]
	n := h.network(t)
	web := n.server(t, "-p", "80")
	to := web.published("80/tcp").String()
	args := []string{"--from", shared.Outside, "--to", to, "-o", "json"}
	r := h.run(t, args...)
	r.verdict(want{Outcome: path.Delivered, Hops: []hop{
		{Namespace: h.NetNS, Direction: path.Request, Device: "eth0", Action: path.ActionReceive},
		{Namespace: h.NetNS, Direction: path.Request, Action: path.ActionDNAT},
		{Container: web.Name, Network: n.Name, Direction: path.Request, Device: "eth0", Action: path.ActionReceive},
		{Container: web.Name, Network: n.Name, Direction: path.Reply, Device: "eth0", Action: path.ActionTransmit},
	}})
	t.Log(r.verdicts[0].Summary)
	rule(t, h.do, "filter", "DOCKER-USER", "-p", "tcp", "-d", web.addr(n).String(), "--dport", "80", "-j", "DROP")
	r = h.run(t, args...)
	r.verdict(want{Outcome: path.Dropped, Cause: path.CauseFirewallDrop, Stage: path.StageForward, Namespace: "host",
		Direction: path.Request})
	if rule := r.verdicts[0].Where.Rule; rule == nil || rule.Chain != "DOCKER-USER" || rule.Number != 1 {
		t.Errorf("rule: got %+v, want rule 1 of DOCKER-USER", rule)
	}
	t.Log(r.verdicts[0].Summary)
}
