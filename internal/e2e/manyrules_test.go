//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// manyRules are as many as a packet may have to pass.
const manyRules = 5000

// lastDrop is the rule after many that match nothing of ours, as iptables writes it.
const lastDrop = "-A DOCKER-USER -p tcp -m tcp --dport 80 -m comment --comment last -j DROP"

// crowd fills DOCKER-USER with rules, the last of which drops; they go away with the test.
func (h *host) crowd(t *testing.T) {
	t.Helper()
	var b strings.Builder
	b.WriteString("*filter\n:DOCKER-USER - [0:0]\n")
	for i := range manyRules {
		fmt.Fprintf(&b, "-A DOCKER-USER -s 198.51.%d.%d/32 -p tcp -m tcp --dport %d -j DROP\n", i/250, i%250, 1000+i)
	}
	b.WriteString(lastDrop + "\n-A DOCKER-USER -j RETURN\nCOMMIT\n")
	h.saveRules(t)
	h.feed(t, b.String(), "iptables-restore", "-w", "-n")
}

// crowdTable makes a table of nftables of the same kind.
func (h *host) crowdTable(t *testing.T) { h.crowdOf(t, "%d", "80") }

// crowdSets makes one of which each rule has a set of its own, the last one, too.
func (h *host) crowdSets(t *testing.T) { h.crowdOf(t, "{ 80, %d }", "{ 80, 81 }") }

// crowdOf makes a table of rules that match ports, each with a number of its own in ports, and of one more.
func (h *host) crowdOf(t *testing.T, ports, last string) {
	t.Helper()
	var b strings.Builder
	b.WriteString("table inet crowd {\n chain f {\n  type filter hook forward priority 10;\n")
	for i := range manyRules {
		fmt.Fprintf(&b, "  ip saddr 198.51.%d.%d tcp dport "+ports+" counter drop\n", i/250, i%250, 1000+i)
	}
	fmt.Fprintf(&b, "  tcp dport %s counter drop comment \"last\"\n }\n}\n", last)
	h.feed(t, b.String(), "nft", "-f", "-")
	t.Cleanup(func() { h.do(t, "nft", "delete", "table", "inet", "crowd") })
}

// TestManyRules: with 5,000 rules on the path the verdict still names the one that dropped, within a
// second of the drop; and kill -9 at any moment of reading them leaves nothing.
func TestManyRules(t *testing.T) {
	const manySets = "nftables with sets"
	for _, test := range []struct {
		name, kind string
		crowd      func(*host, *testing.T)
		rule       string
	}{
		{"iptables-nft", plain, (*host).crowd, lastDrop},
		{"nftables", plain, (*host).crowdTable, `tcp dport 80 counter drop comment "last"`},
		{manySets, plain, (*host).crowdSets, `tcp dport { 80, 81 } counter drop comment "last"`},
		{"iptables-legacy", legacy, (*host).crowd, lastDrop},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := spare(t, test.kind)
			s := newScene(t, h, h, test.kind)
			test.crowd(h, t)
			t.Run("verdict", func(t *testing.T) { s.quickVerdict(t, test.rule) })
			if test.name != manySets { // nft takes seconds to list those
				t.Run("killed", s.killed)
			}
		})
	}
}

// quickVerdict checks the verdict, and the time from the probe to it.
func (s *scene) quickVerdict(t *testing.T, rule string) {
	t.Helper()
	o := outage{from: "OUTSIDE", to: "HOST:8080", right: as(path.Dropped, path.CauseFirewallDrop), rule: rule}
	start := time.Now()
	p := s.h.launch(t, append(s.args(&o), "-o", "json")...)
	p.ready()
	ready := time.Now()
	p.until("a verdict", func(line string) bool { return strings.HasPrefix(line, `{"type":"verdict"`) })
	waited := time.Since(ready)
	r := p.wait()
	t.Logf("ready after %v, a verdict %v later", ready.Sub(start), waited)
	if waited > briefTimeout+time.Second {
		t.Errorf("the verdict came %v after the probe, which waited %v", waited, briefTimeout)
	}
	right(t, o.wrong(s, r), r)
}

// killed ends pathtrace by kill -9 at several moments and checks that nothing is left.
func (s *scene) killed(t *testing.T) {
	t.Helper()
	before := s.h.surroundings(t)
	for _, delay := range []time.Duration{0, 50, 150, 300, 600} {
		p := s.h.launch(t, "--from", shared.Outside, "--to", s.say("HOST:8080"), "--timeout", "300ms", "-o", "json")
		o := objects{}
		eventually(delay*time.Millisecond, func() bool { o = held(p.cmd.Process.Pid); return false })
		_ = p.cmd.Process.Kill() // it may have ended
		<-p.ended
		s.h.leaves(t, before, o)
	}
}
