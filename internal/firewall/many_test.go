package firewall_test

import (
	"fmt"
	"slices"
	"testing"

	fw "github.com/pathtrace/pathtrace/internal/firewall"
)

// countedBody counts how often it is asked what it can do.
type countedBody struct {
	body
	asked *int
}

func (b countedBody) Verdicts() []fw.Verdict {
	*b.asked++
	return b.body.Verdicts()
}

// TestOwnersOfMany checks that finding owners asks each of many rules a few times, not each for each.
func TestOwnersOfMany(t *testing.T) {
	const many = 1000
	asked := 0
	list := make([]body, many)
	set := rules(build(filter, base("FORWARD", fw.Forward, 0, fw.Drop, list...),
		chain("DOCKER-USER", yes(to("mine"))), chain("mine", list...)))
	for _, c := range set.Tables[0].Chains {
		for _, r := range c.Rules {
			r.Body = countedBody{r.Body.(body), &asked}
		}
	}
	policy := &fw.Candidate{Chain: set.Tables[0].Chains[0]}
	if got := set.OwnerOf(policy); got != fw.OwnerUser {
		t.Errorf("policy: owner %s", got)
	}
	for _, r := range set.Tables[0].Chain("mine").Rules {
		if got := set.Owner(r); got != fw.OwnerDockerUser {
			t.Fatalf("rule %d: owner %s", r.Number, got)
		}
	}
	if asked > 10*many {
		t.Errorf("%d rules were asked %d times", 2*many, asked)
	}
}

// TestWalkManyDoubts checks that many rules that cannot be judged are all candidates, and that each names
// its own doubt and not all of them.
func TestWalkManyDoubts(t *testing.T) {
	const many = 1000
	var list []body
	for i := range many {
		list = append(list, maybe(drop, fmt.Sprintf("-m limit --limit %d/minute", i+1)))
	}
	w := rules(build(filter, base("FORWARD", fw.Forward, 0, fw.Accept, list...))).Walk(packet())
	if len(w.Candidates) != many || w.Bounded {
		t.Fatalf("%d candidates, bounded %v", len(w.Candidates), w.Bounded)
	}
	named := 0
	for i, c := range w.Candidates {
		if c.Unjudged[0] != list[i].unjudged[0] {
			t.Errorf("candidate %d: %q", i, c.Unjudged)
		}
		named += len(c.Unjudged)
	}
	if named > 10*many {
		t.Errorf("%d candidates name %d doubts", many, named)
	}
	if last := w.Candidates[many-1].Unjudged; !slices.Contains(last, "more of that kind") {
		t.Errorf("nothing says that there are more: %q", last)
	}
}
