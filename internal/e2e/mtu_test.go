//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// mtuWant is what a measurement must come to.
type mtuWant struct {
	Status        int
	Cause         path.Cause
	Request       int // bytes that pass; 0 if it does not matter
	Reply         int
	RequestFinds  path.Discovery
	ReplyFinds    path.Discovery
	Limit         string // "device in container or namespace" of the direction that fails, or of the request
	LimitedIs     path.Direction
	Says          []string
	WithoutRemedy bool
}

// mtu measures as text and as JSON and checks both.
func (h *host) mtu(t *testing.T, w mtuWant, from, to string, args ...string) *result {
	t.Helper()
	args = append([]string{"mtu", "--from", from, "--to", to, "--live", "0"}, args...)
	text := h.run(t, args...)
	t.Logf("%v\n%s%s", args, text.stdout, text.stderr)
	text.checkText()
	text.has(w.Says...)
	r := h.run(t, append(slices.Clone(args), "-o", "json")...)
	if len(r.verdicts) != 1 || len(r.mtus) == 0 {
		t.Fatalf("%v: %d verdicts, %d directions\n%s%s", args, len(r.verdicts), len(r.mtus), r.stdout, r.stderr)
	}
	if r.status != w.Status || text.status != w.Status || r.verdicts[0].Cause != w.Cause {
		t.Errorf("%v: exit status %d and %d, cause %q, want %d, %q\n%s", args, text.status, r.status, r.verdicts[0].Cause, w.Status, w.Cause, lastVerdict(r))
	}
	for _, m := range r.mtus {
		size, finds := w.Request, w.RequestFinds
		if m.Direction == path.Reply {
			size, finds = w.Reply, w.ReplyFinds
		}
		if size != 0 && m.MTU != size || finds != "" && m.Discovery != finds {
			t.Errorf("%v: %s: %d bytes pass, discovery %s, want %d, %s", args, m.Direction, m.MTU, m.Discovery, size, finds)
		}
		if m.Direction == w.LimitedIs {
			i := slices.IndexFunc(m.Links, func(l path.MTULink) bool { return l.Limit })
			if i < 0 || m.Links[i].Device+" in "+first(m.Links[i].Container, m.Links[i].Namespace) != w.Limit {
				t.Errorf("%v: %s: links %+v, want %s as the limit", args, m.Direction, m.Links, w.Limit)
			}
		}
	}
	return r
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// apply runs the remedies of a verdict that contain text in the host's namespace, as its user would.
func (h *host) apply(t *testing.T, r *result, text string) {
	t.Helper()
	n := 0
	if strings.Contains(text, "TCPMSS") { // in a table that may not be there yet, so it is not restored with the others
		t.Cleanup(func() { h.do(t, "iptables", "-w", "-t", "mangle", "-F", "FORWARD") })
	}
	for _, cmd := range r.verdicts[0].Remedy {
		if strings.Contains(cmd, text) {
			h.do(t, "sh", "-c", cmd)
			n++
		}
	}
	if n == 0 {
		t.Fatalf("no remedy with %q in %q", text, r.verdicts[0].Remedy)
	}
}

// TestMTUOverlay measures an overlay between two hosts, and two of its outages.
func TestMTUOverlay(t *testing.T) {
	s := newSwarm(t)
	o1, o2 := s.o1, s.o2
	healthy := mtuWant{Request: 1450, Reply: 1450, RequestFinds: path.DiscoveryUnneeded, ReplyFinds: path.DiscoveryUnneeded}
	measure := func(t *testing.T, w mtuWant, args ...string) *result {
		t.Helper()
		return s.one.mtu(t, w, o1.Name, o2.Name+":80", s.both(args...)...)
	}
	measure(t, healthy, "--expect", "1450")
	t.Run("j1 containers above the overlay's MTU", func(t *testing.T) {
		for _, c := range []*container{o1, o2} {
			c.do("ip", "link", "set", "eth0", "mtu", "1500")
			t.Cleanup(func() { c.do("ip", "link", "set", "eth0", "mtu", "1450") })
		}
		// 1450 bytes where rules for routed packets see bridged ones, 1454 where they do not.
		r := measure(t, mtuWant{Status: statusNotDelivered, Cause: path.CauseMTUBlackhole,
			RequestFinds: path.DiscoveryFails, ReplyFinds: path.DiscoveryFails, Says: []string{"the sender is not told", "ip link set eth0 mtu 1450"}})
		s.one.apply(t, r, "ip link set eth0 mtu 1450")
		measure(t, healthy)
	})
	t.Run("j2 the hosts' own link is narrower", func(t *testing.T) {
		for _, h := range []*host{s.one, s.two} {
			h.do(t, "ip", "link", "set", "eth0", "mtu", "1400")
			t.Cleanup(func() { h.do(t, "ip", "link", "set", "eth0", "mtu", "1500") })
		}
		w := mtuWant{Request: 1350, Reply: 1350, RequestFinds: path.DiscoveryWorks, ReplyFinds: path.DiscoveryWorks,
			LimitedIs: path.Request, Limit: "eth0 in " + s.one.NetNS, Says: []string{"driver.mtu=1350", "path MTU discovery works"}}
		measure(t, w)
		w.Status, w.Cause, w.Says = statusNotDelivered, path.CausePacketTooBig, []string{"1450 bytes are expected"}
		r := measure(t, w, "--expect", "1450")
		s.one.apply(t, r, "ip link set eth0 mtu 1500")
		measure(t, healthy, "--expect", "1450")
	})
}

// TestMTUPublished measures the way to a published port, and two of its outages.
func TestMTUPublished(t *testing.T) {
	h := spare(t, noProxy)
	n := h.network(t)
	web := n.server(t, "-p", "80")
	to := web.published("80/tcp").String()
	healthy := mtuWant{Request: 1500, Reply: 1500, RequestFinds: path.DiscoveryUnneeded, ReplyFinds: path.DiscoveryUnneeded}
	h.mtu(t, healthy, shared.Outside, to)
	t.Run("j4 the host's link is narrower and its ICMP filtered", func(t *testing.T) {
		h.do(t, "ip", "link", "set", "eth0", "mtu", "1400")
		t.Cleanup(func() { h.do(t, "ip", "link", "set", "eth0", "mtu", "1500") })
		h.saveRules(t)
		h.do(t, "iptables", "-w", "-I", "OUTPUT", "-p", "icmp", "--icmp-type", "fragmentation-needed", "-j", "DROP")
		r := h.mtu(t, mtuWant{Status: statusNotDelivered, Cause: path.CauseMTUBlackhole, Reply: 1400, ReplyFinds: path.DiscoveryFails,
			LimitedIs: path.Reply, Limit: "eth0 in host",
			Says: []string{"rule 1 of chain OUTPUT", "-I OUTPUT -p icmp --icmp-type fragmentation-needed -j ACCEPT", "com.docker.network.driver.mtu=1400", "TCPMSS"}},
			shared.Outside, to)
		if w := r.verdicts[0].Where; w == nil || w.Rule == nil || w.Rule.Chain != "OUTPUT" {
			t.Errorf("where: %+v, want the rule", w)
		}
		// The two ends of this link do not agree now, which is a hole of its own, the other way.
		h.apply(t, r, "--icmp-type fragmentation-needed -j ACCEPT")
		h.mtu(t, mtuWant{Status: statusNotDelivered, Cause: path.CauseMTUBlackhole, Request: 1404, RequestFinds: path.DiscoveryFails,
			Reply: 1400, ReplyFinds: path.DiscoveryWorks}, shared.Outside, to)
		h.apply(t, r, "TCPMSS")
		h.mtu(t, mtuWant{Reply: 1400, ReplyFinds: path.DiscoveryWorks}, shared.Outside, to)
	})
	t.Run("j7 a switch outside is narrower", func(t *testing.T) {
		port := strings.Replace(h.NetNS, shared.Outside[:len(shared.Outside)-len("outside")]+"host", "lan", 1)
		outsideDo(t, "ip", "link", "set", port, "mtu", "1400")
		t.Cleanup(func() { outsideDo(t, "ip", "link", "set", port, "mtu", "1500") })
		other := shared.Hosts[0]
		client := other.network(t).client(t)
		w := mtuWant{Status: statusNotDelivered, Cause: path.CauseMTUBlackhole, Request: 1404, RequestFinds: path.DiscoveryFails,
			LimitedIs: path.Request, Limit: fmt.Sprintf("%s in %s", port, shared.Outside), Says: []string{"br_dev_queue_push_xmit"}}
		r := other.mtu(t, w, client.Name, to)
		other.saveRules(t)
		other.apply(t, r, "TCPMSS")
		other.mtu(t, mtuWant{Request: 1404, RequestFinds: path.DiscoveryFails, Says: []string{"TCP is safe"}}, client.Name, to)
	})
}
