package diagnose

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// tracedIn finds the candidate at which the kernel's own trace of the packet that ended at h ends; -1
// if it was not traced, or not to such an end.
func tracedIn(list []firewall.Candidate, e *end, h *path.Hop) int {
	last := lastTraced(e.pkt, e.hook(), h)
	if last == nil || !strings.HasSuffix(last.Verdict, "drop") {
		return -1 // a rule that rejects is traced as one that drops
	}
	for i := range list {
		c := &list[i]
		t := c.Chain.Table
		if t.Backend == firewall.IptablesLegacy || string(t.Family) != last.Family || t.Name != last.Table ||
			c.Chain.Name != last.Chain {
			continue
		}
		if c.IsPolicy() && last.Handle == 0 || !c.IsPolicy() && c.Rule.Handle == last.Handle {
			return i
		}
	}
	return -1
}

// lastTraced is the last rule that the packet is known to have passed in the hook where it ended.
func lastTraced(p *path.Packet, hook path.Stage, h *path.Hop) *path.RuleStep {
	var last *path.RuleStep
	for i := range p.Hops {
		q := &p.Hops[i]
		if n := len(q.Rules); n > 0 && q.Stage == hook && sameSpace(q, h) && hopTime(q) <= hopTime(h) {
			last = &q.Rules[n-1]
		}
	}
	return last
}
