package render

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestRuleText(t *testing.T) {
	user := &path.Rule{Family: "ip", Table: "filter", Chain: "DOCKER-USER", Number: 1, Handle: 7, Text: "-A DOCKER-USER -j DROP", Owner: "docker-user"}
	for want, r := range map[string]*path.Rule{
		"filter DOCKER-USER 1 (docker-user): -A DOCKER-USER -j DROP": user,
		"filter FORWARD policy (docker): -P FORWARD DROP":            {Family: "ip6", Table: "filter", Chain: "FORWARD", Text: "-P FORWARD DROP", Owner: "docker"},
		"inet fw f 3 (user): tcp dport 80 drop":                      {Family: "inet", Table: "fw", Chain: "f", Number: 3, Text: "tcp dport 80 drop", Owner: "user"},
		"bridge filter FORWARD 2 (user): -A FORWARD -j DROP":         {Family: "bridge", Table: "filter", Chain: "FORWARD", Number: 2, Text: "-A FORWARD -j DROP", Owner: "user"},
	} {
		if got := ruleText(r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestTranslationRule: the rule of a translation stands behind its step, unless there is no room.
func TestTranslationRule(t *testing.T) {
	rule := &path.Rule{Family: "ip", Table: "nat", Chain: "DOCKER", Number: 2, Text: "-A DOCKER -p tcp --dport 8080 -j DNAT", Owner: "docker"}
	p := &path.Path{Proto: path.TCP, Packets: []*path.Packet{{ID: 1, Direction: path.Request, TCPFlags: "SYN", Hops: []path.Hop{
		{Direction: path.Request, NetNS: 1, Namespace: "host", Stage: path.StageDevice, Action: path.ActionReceive, Device: "eth0"},
		{Direction: path.Request, NetNS: 1, Namespace: "host", Stage: path.StagePrerouting, Action: path.ActionDNAT, Src: "192.0.2.2:4000",
			PrevDst: "192.0.2.1:8080", Dst: "172.18.0.2:80"},
	}}}, NAT: []path.Translation{{Kind: path.ActionDNAT, Direction: path.Request, From: "192.0.2.1:8080", To: "172.18.0.2:80", NetNS: 1,
		Stage: path.StagePrerouting, Rule: rule}}}
	show := func(width int, verbose bool) string {
		var out bytes.Buffer
		if err := NewText(Options{Writer: &out, Width: width, Verbose: verbose}).Flow(p, path.Verdict{Outcome: path.Delivered, Complete: true}); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	const step, short = "DNAT 192.0.2.1:8080 → 172.18.0.2:80", " (nat DOCKER rule 2, docker)"
	if got := show(100, false); !strings.Contains(got, step+short) {
		t.Errorf("no rule in\n%s", got)
	}
	if got := show(70, false); !strings.Contains(got, step) || strings.Contains(got, "nat DOCKER") {
		t.Errorf("on a narrow screen\n%s", got)
	}
	if got := strings.Join(strings.Fields(show(100, true)), " "); !strings.Contains(got, "by nat DOCKER 2 (docker): "+rule.Text) {
		t.Errorf("no rule in\n%s", got)
	}
}
