package nft

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/ipset"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// TestUnknownExpression checks that a rule with an expression of a newer kernel is not lost: it may
// match, its other parts are judged, and it is told once.
func TestUnknownExpression(t *testing.T) {
	r := &ruleset{byKey: map[tableKey]*firewall.Table{}, chains: map[*firewall.Table]map[string]*firewall.Chain{},
		unknown: map[string]bool{}, ipsets: ipset.New(), bodies: map[ruleKey]*body{}, handles: map[tableKey]uint64{}}
	parsed := func(b []byte) nfnl.Attrs {
		a, err := nfnl.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(r.addTable(unix.NFPROTO_INET, parsed(nfnl.Attribute(nil, unix.NFTA_TABLE_NAME, "t"))))
	must(r.addChain(unix.NFPROTO_INET, parsed(nfnl.Attribute(nfnl.Attribute(nil, unix.NFTA_CHAIN_TABLE, "t"), unix.NFTA_CHAIN_NAME, "c"))))
	drop := expression("immediate", nest(1, be32(0)), nest(2, nest(2, nest(1, be32(0)))))
	rule := nfnl.Attribute(nfnl.Attribute(nil, unix.NFTA_RULE_TABLE, "t"), unix.NFTA_RULE_CHAIN, "c")
	rule = append(rule, nest(unix.NFTA_RULE_EXPRESSIONS, expression("quantum", nest(1, be32(1))), drop)...)
	must(r.addRule(unix.NFPROTO_INET, parsed(rule)))
	must(r.addRule(unix.NFPROTO_INET, parsed(rule)))

	want := []string{`rule 1 of chain c in table inet t uses the expression "quantum", which cannot be judged`}
	if !slices.Equal(r.problems, want) {
		t.Errorf("problems %q", r.problems)
	}
	got := r.tables[0].Chains[0].Rules[1]
	if got.Text() != "quantum [not decoded] drop" || got.Number != 2 {
		t.Errorf("rule %d is %q", got.Number, got.Text())
	}
	j := got.Body.Judge(&firewall.Packet{})
	if j.Match != firewall.Maybe || j.Verdict.Kind != firewall.Drop || len(j.Unjudged) != 1 {
		t.Errorf("judged %+v", j)
	}
	if err := r.addRule(unix.NFPROTO_IPV4, parsed(rule)); err == nil {
		t.Error("a rule of a table that is not there is no sign of a change")
	}
}
