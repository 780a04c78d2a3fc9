package nft_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nft"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// manySets is a ruleset of n rules with an anonymous set each, and one of a kind that changes.
func manySets(n int) string {
	var b strings.Builder
	b.WriteString("table ip t {\nset named { type inet_service; elements = { 80 }; }\n" +
		"chain c { type filter hook forward priority 0;\ntcp dport @named counter\n")
	for i := range n {
		fmt.Fprintf(&b, "ip saddr 10.0.%d.%d tcp dport { %d, %d-%d } counter drop\n", i/250, i%250, i+1, i+3, i+5)
	}
	b.WriteString("}\n}\n")
	return b.String()
}

// chainOf reads chain c of table t; sets are read inside the calling thread's namespace, which counts.
func chainOf(t *testing.T, fetched *int) []*firewall.Rule {
	t.Helper()
	r := nft.Reader{Inside: func(fn func() error) error { *fetched++; return fn() }}
	tables, problems, err := r.Read()
	if err != nil || len(problems) > 0 {
		t.Fatalf("Read: %v, problems %q", err, problems)
	}
	return table(t, tables, firewall.FamilyIP, "t").Chain("c").Rules
}

// TestSetsWhenAsked checks that of many sets only those are read that a packet needs, and that the rules
// say the same as if all had been read.
func TestSetsWhenAsked(t *testing.T) {
	const rules = 300
	inside(t, func() {
		run(t, manySets(rules), "nft", "-f", "-")
		fetched := 0
		got := chainOf(t, &fetched)
		want := table(t, read(t), firewall.FamilyIP, "t").Chain("c").Rules
		p := web()
		for _, at := range []int{7, 200} {
			p.Src = netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", at))
			for _, port := range []uint16{uint16(at + 1), uint16(at + 2), uint16(at + 4)} {
				p.DstPort = port
				for i := range want {
					same(t, got[i], want[i].Body.Judge(p), p)
				}
			}
		}
		if fetched != 2 {
			t.Errorf("%d sets were read for two rules", fetched)
		}
		for i := range want {
			if got[i].Text() != want[i].Text() {
				t.Errorf("want %s, got %s", want[i].Text(), got[i].Text())
			}
		}
		if fetched > 30 {
			t.Errorf("the namespace was entered %d times for %d rules, one after the other", fetched, rules)
		}
	})
}

func same(t *testing.T, r *firewall.Rule, want firewall.Judgement, p *firewall.Packet) {
	t.Helper()
	if got := r.Body.Judge(p); got.Match != want.Match || got.Verdict != want.Verdict || len(got.Unjudged) > 0 {
		t.Errorf("%s, from %v to port %d: want %+v, got %+v", r.Text(), p.Src, p.DstPort, want, got)
	}
}

// TestFewSets checks that few sets are read with the rules.
func TestFewSets(t *testing.T) {
	inside(t, func() {
		run(t, manySets(20), "nft", "-f", "-")
		fetched := 0
		for _, r := range chainOf(t, &fetched) {
			r.Body.Judge(web())
			if !strings.Contains(r.Written, "tcp dport") {
				t.Errorf("rule %d is not written: %q", r.Number, r.Written)
			}
		}
		if fetched != 0 {
			t.Errorf("%d sets were read after the rules", fetched)
		}
	})
}

// TestSetsAfterChange checks what sets say that are read when the rules have changed: the same if they are
// still there, else nothing.
func TestSetsAfterChange(t *testing.T) {
	const rule = 10 // in the chain, the first has no such set
	packet := func() *firewall.Packet {
		p := web()
		p.Src, p.DstPort = netip.MustParseAddr("10.0.0.9"), 10
		return p
	}
	for name, tt := range map[string]struct {
		change func(handle uint64) string
		want   firewall.Truth
	}{
		"nothing":       {func(uint64) string { return "" }, yes},
		"another table": {func(uint64) string { return "add table ip other" }, yes},
		"another rule":  {func(h uint64) string { return fmt.Sprintf("delete rule ip t c handle %d", h+2) }, yes},
		"the rule": {func(h uint64) string {
			return fmt.Sprintf("delete rule ip t c handle %d", h)
		}, firewall.Maybe},
		"all, with other sets of the same names": {func(uint64) string {
			return "flush ruleset\n" + strings.ReplaceAll(manySets(200), "dport { ", "dport { 5000, ")
		}, firewall.Maybe},
		"the chain, with other sets of the same names": {func(uint64) string {
			return "flush chain ip t c\n" + strings.ReplaceAll(manySets(200), "dport { ", "dport { 5000, ")
		}, firewall.Maybe},
		"everything": {func(uint64) string { return "flush ruleset" }, firewall.Maybe},
	} {
		t.Run(name, func(t *testing.T) {
			inside(t, func() {
				run(t, manySets(200), "nft", "-f", "-")
				fetched := 0
				r := chainOf(t, &fetched)[rule]
				run(t, tt.change(r.Handle), "nft", "-f", "-")
				j := r.Body.Judge(packet())
				if j.Match != tt.want || j.Verdict.Kind != firewall.Drop {
					t.Errorf("judged %+v, want %v", j, tt.want)
				}
				if (tt.want == firewall.Maybe) != strings.Contains(strings.Join(j.Unjudged, ""), "replaced") {
					t.Errorf("doubts %q", j.Unjudged)
				}
				again := fetched
				if r.Body.Judge(packet()); fetched != again {
					t.Error("a set was asked for again")
				}
			})
		})
	}
}

// TestSetsBesideGone checks that a set that is gone costs none of those that are read together with it.
func TestSetsBesideGone(t *testing.T) {
	const gone = 14
	inside(t, func() {
		run(t, manySets(200), "nft", "-f", "-")
		fetched := 0
		rules := chainOf(t, &fetched)
		run(t, fmt.Sprintf("delete rule ip t c handle %d", rules[gone].Handle), "nft", "-f", "-")
		p := web()
		for i := 10; i < 20; i++ {
			p.Src, p.DstPort = netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", i-1)), uint16(i)
			want := yes
			if i == gone {
				want = firewall.Maybe
			}
			if j := rules[i].Body.Judge(p); j.Match != want {
				t.Errorf("rule %d: judged %+v, want %v", i, j, want)
			}
		}
	})
}

// TestSetsUnreachable checks that a namespace that is gone leaves its sets open, and says so.
func TestSetsUnreachable(t *testing.T) {
	inside(t, func() {
		run(t, manySets(200), "nft", "-f", "-")
		r := nft.Reader{Inside: func(func() error) error { return fmt.Errorf("open namespace: gone") }}
		tables, _, err := r.Read()
		labtest.Must(t, err)
		p := web()
		p.Src = netip.MustParseAddr("10.0.0.9")
		j := table(t, tables, firewall.FamilyIP, "t").Chain("c").Rules[10].Body.Judge(p)
		if want := "tcp dport @__set9 (set not read: open namespace: gone)"; j.Match != firewall.Maybe || len(j.Unjudged) != 1 || j.Unjudged[0] != want {
			t.Errorf("judged %+v, want %s", j, want)
		}
	})
}
