//go:build e2e

package e2e

import (
	"slices"
	"testing"
)

// TestOutages makes one outage after the other on an engine as the package of the machine is.
func TestOutages(t *testing.T) {
	h, peer := spare(t, plain), spare(t, noProxy)
	there, here := newScene(t, peer, h, noProxy), newScene(t, h, peer, plain)
	times := here.outages(t, func(name string) bool { return name != noProxyRow }, otherOutages()...)
	times = append(times, there.outages(t, func(name string) bool { return name == noProxyRow })...)
	logTimes(t, times)
}

// noProxyRow is the row that needs an engine without userland proxy.
const noProxyRow = "a5"

// outages makes the firewall's outages and others, those that are wanted.
func (s *scene) outages(t *testing.T, wanted func(name string) bool, others ...*outage) []timing {
	var times []timing
	for _, o := range append(firewallOutages(), others...) {
		if wanted(o.name) && (o.only == nil || slices.Contains(o.only, s.kind)) {
			t.Run(o.name, func(t *testing.T) { times = append(times, s.outage(t, o.of(s.kind))) })
		}
	}
	return times
}

// TestOutagesLegacy makes the firewall's outages on an engine that drives iptables-legacy.
func TestOutagesLegacy(t *testing.T) { firewallOutagesOn(t, legacy) }

// TestOutages29 makes them on Docker 29 with its nftables backend.
func TestOutages29(t *testing.T) { firewallOutagesOn(t, docker29) }

// TestOutages29Iptables makes them on Docker 29 with its iptables backend.
func TestOutages29Iptables(t *testing.T) { firewallOutagesOn(t, docker29Iptables) }

// TestFirewallVariants makes outages beyond the list, with both kinds of iptables.
func TestFirewallVariants(t *testing.T) {
	for _, kind := range []string{plain, legacy} {
		t.Run(kind, func(t *testing.T) {
			h, peer := spare(t, kind), spare(t, noProxy)
			s := newScene(t, h, peer, kind)
			for _, o := range firewallVariants() {
				t.Run(o.name, func(t *testing.T) { s.outage(t, o.of(kind)) })
			}
		})
	}
}

func firewallOutagesOn(t *testing.T, kind string) {
	h, peer := spare(t, kind), spare(t, noProxy)
	newScene(t, peer, h, noProxy)
	var times []timing
	t.Run("proxy", func(t *testing.T) {
		s := newScene(t, h, peer, kind)
		times = s.outages(t, func(name string) bool { return name != noProxyRow })
	})
	t.Run("no proxy", func(t *testing.T) {
		h.restarted(t, "--userland-proxy=false")
		s := newScene(t, h, peer, kind)
		times = append(times, s.outages(t, func(name string) bool { return name == noProxyRow })...)
	})
	logTimes(t, times)
}

// restarted restarts the engine with further arguments, for the test.
func (h *host) restarted(t *testing.T, args ...string) {
	t.Helper()
	before := h.Args
	restart := func(args []string) {
		check(t, h.stopDaemon())
		h.Args = args
		check(t, h.startDaemon())
	}
	restart(slices.Concat(before, args))
	t.Cleanup(func() { restart(before) })
}

// saveTable restores a table of nftables at the end of the test.
func (h *host) saveTable(t *testing.T, family, name string) {
	t.Helper()
	saved := h.do(t, "nft", "list", "table", family, name)
	t.Cleanup(func() { h.feed(t, "delete table "+family+" "+name+"\n"+saved, "nft", "-f", "-") })
}

// admin makes the row one of a rule in a table of the administrator's, where there is no DOCKER-USER.
func (o *outage) admin(rule string) {
	o.do = []string{
		"host nft add table ip admin",
		"host nft add chain ip admin forward { type filter hook forward priority -10; }",
		"host nft add rule ip admin forward " + rule,
	}
	o.undo = []string{"host nft delete table ip admin"}
	o.rule, o.owner = rule, "user"
}
