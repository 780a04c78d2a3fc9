//go:build e2e

package e2e

import (
	"net/netip"
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
	client.do("ip", "neigh", "flush", "dev", "eth0") // the kernel waits a second before it asks anew
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
	h.probe(t, want{Outcome: path.Dropped, Cause: path.CauseBridgeNetfilterOff, Container: client.Name,
		Direction: path.Reply, Says: []string{n.Bridge, "bridge-nf-call-iptables=1"}}, client.Name, to, brief...)
	h.do(t, "sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=1")
	h.probe(t, want{Outcome: path.Delivered}, client.Name, to)
}

// TestSubnetOverlap gives a Docker network the subnet that a client outside is in.
func TestSubnetOverlap(t *testing.T) {
	h := spare(t, plain)
	n := h.network(t)
	web := n.server(t, "-p", "80")
	peer := netip.PrefixFrom(shared.Elsewhere.Addr().Next().Next(), 24) // not the gateway's
	outsideDo(t, "ip", "addr", "add", peer.String(), "dev", "br-lan")
	defer outsideDo(t, "ip", "addr", "del", peer.String(), "dev", "br-lan")
	h.do(t, "ip", "route", "add", peer.Addr().String(), "via", shared.OutsideAddr.String())
	h.probe(t, want{Outcome: path.Delivered}, peer.Addr().String(), web.published("80/tcp").String())
	h.do(t, "ip", "route", "del", peer.Addr().String())
	other := h.network(t, "--subnet", peer.Masked().String())
	h.probe(t, want{Outcome: path.Lost, Outcomes: []path.Outcome{path.Dropped}, Cause: path.CauseSubnetOverlap,
		Direction: path.Reply, Says: []string{other.Name, other.Bridge}}, peer.Addr().String(), web.published("80/tcp").String(), brief...)
	h.must(t, "network", "rm", other.Name)
}

// TestDuplicateAddress gives a second container the address of the first: which one gets a packet is
// chance.
func TestDuplicateAddress(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web, dup, client := n.server(t, "-p", "80"), n.server(t), n.client(t)
	mac := func(c *container) string {
		return c.inspect(`{{(index .NetworkSettings.Networks "` + n.Name + `").MacAddress}}`)
	}
	addr := web.addr(n).String()
	dup.do("ip", "addr", "add", addr+"/16", "dev", "eth0")
	for _, test := range []struct {
		to      *container
		outcome path.Outcome
		cause   path.Cause
		warns   bool
	}{{dup, path.Misdelivered, path.CauseDuplicateAddress, false}, {web, path.Delivered, "", true}} {
		client.do("ip", "neigh", "replace", addr, "lladdr", mac(test.to), "dev", "eth0", "nud", "permanent")
		r := h.probe(t, want{Outcome: test.outcome, Cause: test.cause, Says: []string{"container " + dup.Name + " has the address"}},
			client.Name, web.Name+":80")
		if w := r.verdicts[0].Warnings; test.warns && (len(w) != 1 || w[0].Cause != path.CauseDuplicateAddress) {
			t.Errorf("warnings: got %v, want that of a duplicate address", w)
		}
	}
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
