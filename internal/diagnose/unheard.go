package diagnose

import "github.com/pathtrace/pathtrace/tracer/path"

// lostRefusal returns the end of the refusal of a request, an RST or an ICMP error, if none that was sent
// came to the asker; nil if one may have.
func (a *analysis) lostRefusal() *end {
	pr := a.f.Probe
	if pr != nil && pr.Kind != ProbeSilence {
		return nil
	}
	var lost *end
	for _, p := range append(a.resets(path.Reply), a.icmpErrors(path.Reply)...) {
		x := a.endOf(p, phaseReply)
		if pr == nil && (x.drop == nil || a.isAsker(x.drop) && !isNetfilterDrop(x.drop)) {
			return nil // the stack there drops what it has read
		}
		lost = &x
	}
	return lost
}

// isAsker reports whether an observation is of the namespace in which the request was made.
func (a *analysis) isAsker(h *path.Hop) bool {
	o := a.origin()
	return o != nil && isLocalStart(o) && o.NetNS == h.NetNS
}

// unheard says of a refusal that the asker did not get it, and why.
func (a *analysis) unheard(f *finding) {
	x := a.lostRefusal()
	if x == nil {
		return
	}
	f.outcome = path.Dropped
	g := a.findings(x, a.outcomeOf(x))[0]
	if g.cause == f.cause {
		return // which says so
	}
	f.says += ", and " + a.asker() + " was not told: " + g.says
	if g.where != nil && g.where.Rule != nil {
		f.evidence = append(f.evidence, "the rule that kept "+a.asker()+" from being told: "+g.where.Rule.Text)
	}
	f.evidence, f.remedy = append(f.evidence, g.evidence...), append(f.remedy, g.remedy...)
}
