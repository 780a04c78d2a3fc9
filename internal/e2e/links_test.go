//go:build e2e

package e2e

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestNotBridged takes the container's device on the host out of its bridge.
func TestNotBridged(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	h.do(t, "ip", "link", "set", web.veth(), "nomaster")
	w := want{Outcome: path.Lost, Outcomes: []path.Outcome{path.Dropped}, Cause: path.CauseNotBridged, Namespace: "host",
		Says: []string{web.veth(), n.Bridge}}
	h.probe(t, w, client.Name, web.Name+":80", brief...)
	h.probe(t, w, shared.Outside, web.published("80/tcp").String(), brief...)
	h.do(t, "ip", "link", "set", web.veth(), "master", n.Bridge)
	h.probe(t, want{Outcome: path.Delivered}, client.Name, web.Name+":80")
}

// TestIsolatedPorts keeps two containers of a bridge apart.
func TestIsolatedPorts(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	for _, c := range []*container{web, client} {
		h.do(t, "bridge", "link", "set", "dev", c.veth(), "isolated", "on")
	}
	h.probe(t, want{Outcome: path.Lost, Outcomes: []path.Outcome{path.Dropped}, Cause: path.CauseBridgePortBlocked,
		Says: []string{"both isolated"}}, client.Name, web.Name+":80", brief...)
	h.probe(t, want{Outcome: path.Delivered}, shared.Outside, web.published("80/tcp").String())
	h.do(t, "bridge", "link", "set", "dev", client.veth(), "isolated", "off")
	h.probe(t, want{Outcome: path.Delivered}, client.Name, web.Name+":80")
}

// TestBridgeNetfilterOff asks for a published port of the own bridge without docker-proxy: the answer
// goes straight from container to container.
func TestBridgeNetfilterOff(t *testing.T) {
	h := spare(t, noProxy)
	n := h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	to := web.published("80/tcp").String()
	h.probe(t, want{Outcome: path.Delivered}, client.Name, to)
	h.sysctl(t, "net.bridge.bridge-nf-call-iptables", "0")
	r := h.probe(t, want{Outcome: path.Lost}, client.Name, to, brief...)
	t.Log(r.stdout)
}

// TestShaped limits the rate of the host's device to less than the packets need.
func TestShaped(t *testing.T) {
	h := spare(t, plain)
	n := h.network(t)
	web := n.server(t, "-p", "80")
	h.probe(t, want{Outcome: path.Delivered}, shared.Outside, web.published("80/tcp").String())
	h.do(t, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", "8kbit", "burst", "60", "limit", "3000")
	h.probe(t, want{Outcome: path.Dropped, Cause: path.CauseQueueOverlimit, Namespace: "host", Direction: path.Reply,
		Says: []string{"tbf"}}, shared.Outside, web.published("80/tcp").String(), brief...)
	h.do(t, "tc", "qdisc", "del", "dev", "eth0", "root")
	h.probe(t, want{Outcome: path.Delivered}, shared.Outside, web.published("80/tcp").String())
}
