//go:build e2e

package e2e

import (
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/netns"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// The tests of this file change what all containers of a host need, so they do not run in parallel.

// saveRules restores the host's rules at the end of the test.
func (h *host) saveRules(t *testing.T) {
	t.Helper()
	saveRules(t, h, filepath.Join("/run/netns", h.NetNS))
}

// saveRules restores the rules in the container's namespace at the end of the test.
func (c *container) saveRules(t *testing.T) {
	t.Helper()
	saveRules(t, c.h, c.inspect("{{.NetworkSettings.SandboxKey}}"))
}

func saveRules(t *testing.T, h *host, namespace string) {
	t.Helper()
	saved := inNetNS(t, namespace, h.tool("iptables-save"))
	t.Cleanup(func() {
		ns, err := netns.Open(namespace)
		check(t, err)
		defer ns.Close()
		cmd := exec.Command(h.tool("iptables-restore"), "-w")
		cmd.Stdin = strings.NewReader(saved)
		check(t, netns.Do(ns, cmd.Start))
		check(t, cmd.Wait())
	})
}

// sysctl sets a kernel parameter of the host for the test.
func (h *host) sysctl(t *testing.T, key, value string) {
	t.Helper()
	before := strings.TrimSpace(h.do(t, "sysctl", "-n", key))
	h.do(t, "sysctl", "-qw", key+"="+value)
	t.Cleanup(func() { h.do(t, "sysctl", "-qw", key+"="+before) })
}

// TestNATFlushed: the userland proxy takes over, so it still works.
func TestNATFlushed(t *testing.T) {
	h := need(t).Hosts[0]
	n := h.network(t)
	web := n.server(t, "-p", "80")
	h.saveRules(t)
	h.do(t, "iptables", "-w", "-t", "nat", "-F")
	r := h.probe(t, want{Outcome: path.Delivered}, shared.Outside, web.published("80/tcp").String())
	if slices.ContainsFunc(r.hops, hop{Action: path.ActionDNAT}.matches) {
		t.Errorf("a translation without rules: %s", r.stdout)
	}
}

// TestDockerChainFlushed: the packet gets past DNAT and meets the policy of FORWARD.
func TestDockerChainFlushed(t *testing.T) {
	h := need(t).Hosts[0]
	n := h.network(t)
	web := n.server(t, "-p", "80")
	h.saveRules(t)
	h.do(t, "iptables", "-w", "-F", "DOCKER")
	h.probe(t, want{
		Outcome: path.Dropped, Stage: path.StageForward, Namespace: "host", Direction: path.Request,
		Causes: []path.Cause{path.CauseFirewallDrop, "docker-rules-missing", "firewall-policy"},
	}, shared.Outside, web.published("80/tcp").String(), brief...)
}

// TestForwardingOff turns routing off in the host.
func TestForwardingOff(t *testing.T) {
	h := need(t).Hosts[0]
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	h.sysctl(t, "net.ipv4.ip_forward", "0")
	w := want{Outcome: path.Dropped, Outcomes: []path.Outcome{path.Refused}, Cause: path.CauseForwardingOff, Namespace: "host"}
	h.probe(t, w, shared.Outside, web.published("80/tcp").String(), brief...)
	h.probe(t, w, client.Name, shared.OutsideAddr.String()+":80", brief...)
	h.probe(t, want{Outcome: path.Delivered}, client.Name, web.Name+":80")
}

// TestReversePathFilter sends from an address whose way back is another.
func TestReversePathFilter(t *testing.T) {
	h := need(t).Hosts[0]
	n := h.network(t)
	web := n.server(t, "-p", "80")
	source := shared.Elsewhere
	outsideDo(t, "ip", "addr", "add", source.String(), "dev", "br-lan")
	t.Cleanup(func() { outsideDo(t, "ip", "addr", "del", source.String(), "dev", "br-lan") })
	h.do(t, "ip", "route", "add", source.Masked().String(), "dev", n.Bridge)
	h.sysctl(t, "net.ipv4.conf.all.rp_filter", "1")
	r := h.probe(t, want{
		Outcome: path.Dropped, Cause: path.CauseReversePathFilter, Namespace: "host", Direction: path.Request,
	}, source.Addr().String(), web.published("80/tcp").String(), brief...)
	if addr, err := netip.ParseAddrPort(r.verdicts[0].Src); err != nil || addr.Addr() != source.Addr() {
		t.Errorf("sent from %s, want %s", r.verdicts[0].Src, source.Addr())
	}
}
