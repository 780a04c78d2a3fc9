package render

import (
	"bytes"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestRules: each rule with what it did, once for packets that passed the same.
func TestRules(t *testing.T) {
	passed := []path.RuleStep{
		{Family: "ip", Table: "nat", Chain: "PREROUTING", Number: 1, Handle: 5, Text: "-A PREROUTING -j DOCKER", Verdict: "jump DOCKER"},
		{Family: "ip", Table: "nat", Chain: "DOCKER", Handle: 9, Verdict: "accept"},
		{Family: "ip", Table: "nat", Chain: "PREROUTING", Verdict: "policy drop"},
	}
	packet := func(id int, repeat bool) *path.Packet {
		return &path.Packet{ID: id, Direction: path.Request, TCPFlags: "SYN", Retransmission: repeat, Hops: []path.Hop{
			{Namespace: "router", NetNS: 7, Stage: path.StagePrerouting, Action: path.ActionEnter, Rules: passed},
		}}
	}
	p := &path.Path{Proto: path.TCP, Packets: []*path.Packet{packet(1, false), packet(2, true)}}
	var b bytes.Buffer
	out := newPrinter(Options{Writer: &b})
	writeRules(out, p, true)
	if err := out.flush(); err != nil {
		t.Fatal(err)
	}
	want := `
rules passed by the request  SYN
  router, netfilter/prerouting
    nat PREROUTING 1  jump DOCKER: -A PREROUTING -j DOCKER
    nat DOCKER handle 9  accept
    nat PREROUTING  policy drop
`
	if got := b.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	b.Reset()
	out = newPrinter(Options{Writer: &b})
	writeRules(out, &path.Path{Packets: []*path.Packet{{ID: 1, Hops: []path.Hop{{}}}}}, true)
	if err := out.flush(); err != nil || strings.TrimSpace(b.String()) != "" {
		t.Errorf("without a trace: %q, %v", b.String(), err)
	}
}
