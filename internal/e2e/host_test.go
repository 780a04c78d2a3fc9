//go:build e2e

package e2e

import (
	"os/exec"
	"path/filepath"
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
	ns, err := netns.Open(namespace)
	check(t, err)
	defer ns.Close()
	var saved strings.Builder
	cmd := exec.Command(h.tool("iptables-save"))
	cmd.Stdout = &saved // without its warnings
	check(t, netns.Do(ns, cmd.Start))
	check(t, cmd.Wait())
	t.Cleanup(func() { feed(t, namespace, saved.String(), h.tool("iptables-restore"), "-w") })
}

// feed runs a tool of the machine in a namespace with text as its standard input.
func feed(t *testing.T, namespace, text, name string, args ...string) {
	t.Helper()
	ns, err := netns.Open(namespace)
	check(t, err)
	defer ns.Close()
	var out strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), &out, &out
	check(t, netns.Do(ns, cmd.Start))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out.String())
	}
}

// feed does so in the host's namespace.
func (h *host) feed(t *testing.T, text, name string, args ...string) {
	t.Helper()
	feed(t, filepath.Join("/run/netns", h.NetNS), text, h.tool(name), args...)
}

// sysctl sets a kernel parameter of the host for the test.
func (h *host) sysctl(t *testing.T, key, value string) {
	t.Helper()
	before := strings.TrimSpace(h.do(t, "sysctl", "-n", key))
	h.do(t, "sysctl", "-qw", key+"="+value)
	t.Cleanup(func() { h.do(t, "sysctl", "-qw", key+"="+before) })
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
