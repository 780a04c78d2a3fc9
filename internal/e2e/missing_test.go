//go:build e2e

package e2e

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// missingCauses are what is said of rules of Docker's that are not there.
var missingCauses = []path.Cause{path.CauseNATMissing, path.CauseMasqueradeMissing, path.CauseDockerRulesMissing}

// TestNothingMissing: no kind of network, container or published port calls for rules that a healthy
// engine does not make.
func TestNothingMissing(t *testing.T) {
	for _, kind := range []string{plain, noProxy, legacy, docker29, docker29Iptables} {
		t.Run(kind, func(t *testing.T) { spare(t, kind).complete(t) })
	}
	t.Run("live-restore", func(t *testing.T) { need(t).Hosts[1].complete(t) })
	t.Run("ip6tables", func(t *testing.T) {
		h := spare(t, plain)
		h.restarted(t, "--experimental", "--ip6tables") // which makes the rules anew afterwards
		h.complete(t)
		h.do(t, "ip6tables", "-w", "-t", "nat", "-F")
		if list := h.missing(t); len(list) == 0 || !strings.Contains(findingList(list), "ip6tables -t nat") &&
			!strings.Contains(findingList(list), "::") {
			t.Errorf("without IPv6's translations: %s", findingList(list))
		}
	})
	t.Run("swarm", func(t *testing.T) {
		h := spare(t, plain)
		h.must(t, "swarm", "init", "--advertise-addr", h.Addr.String())
		t.Cleanup(func() {
			h.must(t, "swarm", "leave", "--force")
			h.must(t, "network", "rm", "docker_gwbridge")
		})
		h.must(t, "network", "create", "-d", "overlay", "--attachable", "ov")
		// A container on an overlay network is published through one whose address the engine hides.
		c := h.runs(t, "task", "tcp :80", "--network", "ov", "-p", "80")
		h.missesNothing(t, "in a swarm")
		t.Cleanup(func() { h.must(t, "rm", "-f", c.Name); h.must(t, "network", "rm", "ov") })
	})
}

// complete makes one of everything and checks that doctor misses no rule.
func (h *host) complete(t *testing.T) {
	t.Helper()
	for _, name := range []string{"all", "default"} { // Docker 29's nftables backend wants it for IPv6
		h.sysctl(t, "net.ipv6.conf."+name+".forwarding", "1")
	}
	nets := []*network{
		h.network(t), h.network(t), h.network(t, "--internal"),
		h.network(t, "-o", "com.docker.network.bridge.enable_icc=false"),
		h.network(t, "-o", "com.docker.network.bridge.enable_ip_masquerade=false"),
		h.network(t, "--ipv6", "--subnet", "fd00:d0d::/64"),
	}
	for _, n := range nets {
		n.server(t, "-p", "80", "-p", "127.0.0.1::81")
	}
	nets[0].server(t, "-p", h.Addr.String()+"::80", "-p", "90/udp", "-p", "18070-18073:70-73")
	both := nets[1].server(t, "-p", "80")
	for _, n := range nets[:3] {
		if n != nets[1] {
			h.must(t, "network", "connect", n.Name, both.Name)
		}
	}
	stopped, paused := nets[0].server(t, "-p", "80"), nets[0].server(t, "-p", "80")
	h.must(t, "kill", stopped.Name)
	h.must(t, "pause", paused.Name)
	t.Cleanup(func() { h.must(t, "unpause", paused.Name) })
	h.runs(t, "onhost", "idle", "--network", "host")
	h.runs(t, "sidecar", "idle", "--network", "container:"+both.Name)
	h.runs(t, "default", "tcp :80", "-p", "80")
	h.missesNothing(t, "with everything started")
}

// missesNothing checks that doctor misses no rule.
func (h *host) missesNothing(t *testing.T, when string) {
	t.Helper()
	if list := h.missing(t); len(list) > 0 {
		t.Errorf("%s: %s", when, findingList(list))
	}
}

// missing are doctor's findings about rules that are not there.
func (h *host) missing(t *testing.T) []path.Finding {
	t.Helper()
	return slices.DeleteFunc(h.doctor(t).findings, func(f path.Finding) bool {
		return !slices.Contains(missingCauses, f.Cause)
	})
}

// TestRestoredRules: what the remedy says brings the rules back, by hand and by restarting the engine.
func TestRestoredRules(t *testing.T) {
	h := need(t).Hosts[1] // with live-restore the containers outlive the restart
	n := h.network(t)
	web := n.server(t, "-p", "80")
	at := web.published("80/tcp").String()
	h.saveRules(t)
	t.Run("by hand", func(t *testing.T) {
		for _, step := range [][]string{
			{"-t", "nat", "-D", "DOCKER", "!", "-i", n.Bridge, "-p", "tcp", "--dport", port(at), "-j", "DNAT",
				"--to-destination", netip.AddrPortFrom(web.addr(n), 80).String()},
			{"-D", "DOCKER", "-d", web.addr(n).String(), "!", "-i", n.Bridge, "-o", n.Bridge, "-p", "tcp", "--dport", "80", "-j", "ACCEPT"},
		} {
			h.do(t, "iptables", append([]string{"-w"}, step...)...)
			r := h.run(t, "--from", shared.Outside, "--to", at, "--timeout", "300ms", "-o", "json")
			h.follows(t, remedyOf(t, r))
			h.fine(t, shared.Outside, at)
		}
		h.missesNothing(t, "after the remedies")
	})
	t.Run("by a restart", func(t *testing.T) {
		h.do(t, "iptables", "-w", "-t", "nat", "-F")
		h.do(t, "iptables", "-w", "-F", "FORWARD")
		check(t, h.stopDaemon())
		check(t, h.startDaemon())
		if len(h.missing(t)) > 0 { // the jump to DOCKER-USER, where containers outlived the restart
			h.follows(t, nil)
		}
		h.fine(t, shared.Outside, at)
		h.missesNothing(t, "after the restart")
	})
}

func port(at string) string { return at[strings.LastIndexByte(at, ':')+1:] }

// remedyOf returns the commands that a verdict offers, its own or those of its first warning's finding.
func remedyOf(t *testing.T, r *result) []string {
	t.Helper()
	if len(r.verdicts) != 1 {
		t.Fatalf("%v: got %d verdicts\n%s", r.args, len(r.verdicts), r.stderr)
	}
	v := r.verdicts[0]
	named := slices.Contains(missingCauses, v.Cause)
	for _, w := range v.Warnings {
		named = named || slices.Contains(missingCauses, w.Cause)
	}
	if !named {
		t.Errorf("%v: no rule is missing: %s %q", r.args, v.Cause, v.Summary)
	}
	return v.Remedy
}

// follows runs those commands of a remedy that put a rule back; without any, doctor's are taken.
func (h *host) follows(t *testing.T, remedy []string) {
	t.Helper()
	if len(remedy) == 0 {
		for _, f := range h.missing(t) {
			remedy = append(remedy, f.Remedy...)
		}
	}
	done := false
	for _, command := range remedy {
		command, _, _ = strings.Cut(command, "  #")
		if f := strings.Fields(command); f[0] == "iptables" {
			h.do(t, f[0], f[1:]...)
			done = true
		}
	}
	if !done {
		t.Errorf("no command puts the rule back: %q", remedy)
	}
}

// TestMissingRule takes single rules of Docker's away and traces what they were for.
func TestMissingRule(t *testing.T) {
	h, peer := spare(t, plain), spare(t, noProxy)
	s := newScene(t, h, peer, plain)
	port := serveOutside(t)
	outward := netip.AddrPortFrom(shared.OutsideAddr, port).String()
	for _, test := range []struct {
		name     string
		do       []string
		from, to string
		want     want
		warned   path.Cause
	}{
		{"jump to DOCKER", []string{"host iptables -w -D FORWARD -o br-app -j DOCKER"}, shared.Outside, "HOST:8080",
			want{Outcome: path.Dropped, Cause: path.CauseDockerRulesMissing, Direction: path.Request}, ""},
		{"way out", []string{"host iptables -w -D FORWARD -i br-app ! -o br-app -j ACCEPT"}, "cli", outward,
			want{Outcome: path.Dropped, Cause: path.CauseDockerRulesMissing, Direction: path.Request}, ""},
		{"answers", []string{"host iptables -w -D FORWARD -o br-app -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"},
			"cli", outward, want{Outcome: path.Dropped, Cause: path.CauseDockerRulesMissing, Direction: path.Reply}, ""},
		{"within the network", []string{"host iptables -w -D FORWARD -i br-app -o br-app -j ACCEPT"}, "cli", "WEB:80",
			want{Outcome: path.Dropped, Cause: path.CauseDockerRulesMissing, Direction: path.Request}, ""},
		{"everything", []string{"host iptables -w -F", "host iptables -w -X"}, shared.Outside, "HOST:8080",
			want{Outcome: path.Dropped, Cause: path.CauseDockerRulesMissing, Direction: path.Request}, ""},
		{"a rule of the user's in front", []string{
			"host iptables -w -F DOCKER", "host iptables -w -I DOCKER-USER -p tcp --dport 80 -j DROP",
		}, shared.Outside, "HOST:8080", want{Outcome: path.Dropped, Cause: path.CauseFirewallDrop}, ""},
		{"closed to the host's sockets", []string{"host iptables -w -t nat -F DOCKER", "host iptables -w -I INPUT -p tcp --dport 8080 -j DROP"},
			shared.Outside, "HOST:8080", want{Outcome: path.Dropped, Causes: []path.Cause{path.CauseNATMissing, path.CauseFirewallDrop}}, ""},
		{"jump to DOCKER-USER", []string{"host iptables -w -D FORWARD -j DOCKER-USER"}, shared.Outside, "HOST:8080",
			want{Outcome: path.Delivered}, path.CauseDockerRulesMissing},
		{"translation for the host itself", []string{"host iptables -w -t nat -D OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER"},
			"host", "HOST:8080", want{Outcome: path.Delivered}, path.CauseNATMissing},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Run("broken", func(t *testing.T) {
				h.saveRules(t)
				for _, command := range test.do {
					s.command(t, command)
				}
				r := h.probe(t, test.want, test.from, s.say(test.to), brief...)
				if test.want.Cause == path.CauseFirewallDrop &&
					!strings.Contains(strings.Join(r.verdicts[0].Evidence, "\n"), "also seen: Docker's own rules are missing") {
					t.Errorf("nothing says that Docker's rules are missing, too: %q", r.verdicts[0].Evidence)
				}
				warned := slices.ContainsFunc(r.verdicts[0].Warnings, func(w path.Warning) bool { return w.Cause == test.warned })
				if test.warned != "" && !warned {
					t.Errorf("no warning %s: %+v", test.warned, r.verdicts[0].Warnings)
				}
			})
			h.fine(t, test.from, s.say(test.to))
		})
	}
}
