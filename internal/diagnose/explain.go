package diagnose

import "github.com/pathtrace/pathtrace/tracer/path"

// Explain concludes how a flow ended and why. A nil f means that nothing is known but the path; a nil
// or empty p is explained by ExplainNoTraffic. Neither is changed.
func Explain(p *path.Path, f *Facts) path.Verdict {
	if f == nil {
		f = &Facts{}
	}
	if p == nil {
		return ExplainNoTraffic(f)
	}
	a := &analysis{p: p, f: f}
	if !a.seen() {
		return a.finish(a.noTraffic(), end{})
	}
	return a.conclude()
}

// ExplainNoTraffic concludes why nothing of a flow was seen, or why nothing could be sent. A nil f
// means that nothing is known.
func ExplainNoTraffic(f *Facts) path.Verdict {
	if f == nil {
		f = &Facts{}
	}
	a := &analysis{p: &path.Path{Server: f.Dialed}, f: f}
	return a.finish(a.noTraffic(), end{})
}

// seen reports whether anything of the flow was observed.
func (a *analysis) seen() bool {
	if a.p.ServerEstablished != 0 || a.p.ClientEstablished != 0 || a.p.DeliverNetNS != 0 {
		return true
	}
	for _, p := range a.p.Packets {
		if p != nil && firstHop(p) != nil {
			return true
		}
	}
	return false
}

// conclude judges a flow of which something was seen.
func (a *analysis) conclude() path.Verdict {
	s := a.served()
	if a.isForeign(s.netns) {
		if f := a.misdelivered(s); f != nil {
			return a.finish(*f, a.decisive())
		}
	}
	if f := a.takenByStranger(s); f != nil {
		return a.finish(*f, a.decisive())
	}
	if s.ok {
		if e, bad := a.lateFailure(); bad {
			return a.explainEnd(e)
		}
		return a.finish(a.delivered(s), end{})
	}
	return a.explainEnd(a.decisive())
}

// finding is a hypothesis that the facts support.
type finding struct {
	outcome path.Outcome // "" if the end alone decides it
	cause   path.Cause
	says    string // the summary without the outcome in front; it can stand as evidence
	// where is the place, if it is not that of the end.
	where    *path.Where
	evidence []string
	remedy   []string
}

// explainer tests one hypothesis on the end of a flow and returns nil if the facts do not support it.
type explainer func(*analysis, *end) *finding

// explainers lists the hypotheses, the one nearest to the packet first, except that a container that
// does not run precedes all: whatever else is repaired, the flow cannot succeed.
func explainers() []explainer {
	return []explainer{
		explainNotRunning, explainStale, explainTranslatedElsewhere, explainOverlayOutside, explainMasquerade,
		explainReplyUntracked,
		explainDuplicateAddress, explainWrongNeighbour, explainBypassedLink, explainLostSubnet, explainRoutedAway,
		explainSubnetOverlap,
		explainBridgeNetfilter, explainMartian,
		explainConntrack,
		explainRulesMissing, explainNATMissing,
		explainEncryption, explainDecryption, explainFirewallReject, explainFirewallDrop, explainRulesMissingToo,
		explainProgram, explainChecksum,
		explainForwardingOff, explainReversePath, explainNoRoute,
		explainMacvlan, explainSegment, explainVirtualIP, explainOverlayMisrouted, explainOverlayPeer, explainNeighbour,
		explainTooBig, explainTTL, explainLinkDown, explainQueue,
		explainNotPublished, explainPublishedElsewhere, explainNotListening, explainEchoIgnored,
		explainReceiveBuffer, explainAcceptQueue,
		explainNoSharedNetwork,
	}
}

// findings are what explains an end, the cause first; that nothing does, if so.
func (a *analysis) findings(e *end, outcome path.Outcome) []*finding {
	var out []*finding
	for _, explain := range explainers() {
		if f := explain(a, e); f != nil {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return []*finding{a.unexplained(e, outcome)}
	}
	return out
}

// explainEnd finds the cause of a flow that ended at e.
func (a *analysis) explainEnd(e end) path.Verdict {
	outcome := a.outcomeOf(&e)
	found := a.findings(&e, outcome)
	best := found[0]
	for _, f := range found[1:] {
		if f.cause != best.cause {
			best.evidence = append(best.evidence, "also seen: "+f.says)
		}
	}
	if best.outcome == "" {
		best.outcome = outcome
	}
	if best.outcome == path.Refused {
		a.unheard(best)
	}
	return a.finish(*best, e)
}

// finish turns a finding into the verdict.
func (a *analysis) finish(f finding, e end) path.Verdict {
	v := path.Verdict{
		Type: "verdict", Flow: a.p.Flow, Outcome: f.outcome, Cause: f.cause,
		Where: f.where, NAT: a.translations(),
		Complete:   a.f.Complete && a.f.LostEvents == 0,
		LostEvents: a.f.LostEvents,
		Proto:      a.p.Proto,
		Src:        address(a.p.Client), Dst: address(a.p.Server),
		SrcName: a.askerName(), DstName: a.f.Target.Label,
	}
	a.addName(&f)
	v.Summary = oneLine(string(f.outcome) + ": " + f.says + a.doubt(f.outcome))
	v.Evidence, v.Remedy = a.evidence(&e, f), f.remedy
	switch f.outcome {
	case path.Delivered:
		v.Cause, v.Where, v.LatencyNS = "", nil, a.latency()
		v.Warnings = a.warnings()
	case path.NoTraffic:
	default:
		if v.Where == nil {
			v.Where = whereOf(e.at(), e.direction())
		}
	}
	return v
}
