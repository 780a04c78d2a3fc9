package diagnose

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// unexplained words an end that no explainer claims: what was seen, and no more.
func (a *analysis) unexplained(e *end, outcome path.Outcome) *finding {
	switch outcome {
	case path.Refused:
		return a.unexplainedRefusal(e)
	case path.Dropped:
		return a.unexplainedDrop(e)
	}
	return a.lost(e)
}

func (a *analysis) unexplainedDrop(e *end) *finding {
	f := &finding{cause: path.CauseUnexplainedDrop, where: whereOf(e.at(), e.direction())}
	h := e.drop
	if e.reset != nil {
		f.where = mergeWhere(e.reset, e)
		f.says = fmt.Sprintf("%s was answered with a reset in %s, which knows no such connection",
			a.subject(e), a.place(e.reset))
		return f
	}
	if h == nil {
		f.says = fmt.Sprintf("%s was refused in %s with an ICMP error (%s)", a.subject(e),
			a.place(e.icmp), a.icmpOf(e.icmp).meaning())
		return f
	}
	f.says = fmt.Sprintf("%s was dropped in %s%s%s", a.subject(e), a.place(h), onDevice(h), byFunction(h))
	if hook := e.hook(); hook != "" {
		f.where.Stage = hook
		f.says = fmt.Sprintf("%s was dropped in the %s hook (netfilter) of %s%s", a.subject(e),
			hookName(hook), a.place(h), byFunction(h))
		if isNetfilterDrop(h) {
			f.evidence = []string{"a rule of the legacy tables, connection tracking and NAT all drop " +
				"packets there"}
		}
		f.remedy = a.listRules(hook, h)
	}
	return f
}

func (a *analysis) unexplainedRefusal(e *end) *finding {
	f := &finding{cause: path.CauseUnexplainedDrop}
	switch {
	case e.reset != nil:
		f.where = mergeWhere(e.reset, e)
		f.says = fmt.Sprintf("%s answered %s with a reset", a.place(e.reset), a.subject(e))
		a.explainReset(f, e.reset)
	case e.icmp != nil:
		f.where = mergeWhere(e.icmp, e)
		f.says = fmt.Sprintf("%s answered %s with an ICMP error (%s)", a.place(e.icmp), a.subject(e),
			a.icmpOf(e.icmp).meaning())
		a.explainReset(f, e.icmp)
	case e.rst != nil:
		h := firstHop(e.rst)
		f.where = whereOf(h, path.Reply)
		f.says = fmt.Sprintf("a reset came back to %s, first seen in %s%s", a.asker(), a.place(h), onDevice(h))
	case e.err != nil:
		h := icmpHop(e.err)
		f.where = whereOf(h, path.Reply)
		f.says = fmt.Sprintf("%s sent an ICMP error (%s) back to %s", a.sender(h),
			a.icmpOf(h).meaning(), a.asker())
	case a.icmpOfProbe().isError():
		f.says = fmt.Sprintf("%s got an ICMP error (%s), and where it came from was not seen", a.asker(),
			a.icmpOfProbe().meaning())
	default:
		f.says = fmt.Sprintf("%s got a reset, and where it came from was not seen", a.asker())
	}
	return f
}

// explainReset adds whose answer a refusal was, if it was not the target's, or what speaks against
// the obvious cause.
func (a *analysis) explainReset(f *finding, h *path.Hop) {
	if m := a.icmpOf(h); m.isError() && m != icmpPortUnreachable {
		return // a router's answer, not an end's
	}
	if a.isForeign(h.NetNS) {
		f.says += ", not " + a.target()
		return
	}
	if l := a.listenerAt(h.NetNS, h.DstAddr); l != nil {
		f.evidence = append(f.evidence, fmt.Sprintf("%s listens on %s in %s now", process(*l), l.Addr,
			a.place(h)))
	}
}

// lost words a flow of which nothing is known after a certain place.
func (a *analysis) lost(e *end) *finding {
	f := &finding{outcome: path.Lost, cause: path.CauseLostInTransit,
		where: whereOf(e.at(), e.direction())}
	if h := a.reached(e); h != nil {
		f.says = fmt.Sprintf("%s reached %s, and no answer was seen%s", a.subject(e), a.place(h), a.within())
		return f
	}
	f.says = fmt.Sprintf("%s %s, and nothing came back%s", a.subject(e), a.lastSeen(e), a.within())
	switch {
	case e.phase == phaseReply && e.passed() && a.arrived(e):
		f.says = fmt.Sprintf("%s reached %s, and the connection was not seen to come about", a.subject(e),
			a.asker())
	case e.phase == phaseReply:
		f.says = fmt.Sprintf("%s %s, and was not seen to reach %s", a.subject(e), a.lastSeen(e), a.asker())
	}
	if e.held != "" {
		f.where.Stage = e.held
	}
	return f
}

// lastSeen says where the packet was seen last, as the predicate of a sentence.
func (a *analysis) lastSeen(e *end) string {
	h := e.last
	if h == nil {
		return "was not seen on its way"
	}
	at := a.place(h)
	switch {
	case e.held != "":
		return fmt.Sprintf("entered the %s hook (netfilter) of %s and was not seen to leave it",
			hookName(e.held), at)
	case h.Action == path.ActionTransmit && h.Device != "":
		return fmt.Sprintf("left %s through %s", at, h.Device)
	case h.Action == path.ActionQueue && h.Device != "":
		return fmt.Sprintf("was last seen waiting to leave %s through %s", at, h.Device)
	case h.Action == path.ActionEncapsulate && h.Outer != nil:
		return fmt.Sprintf("was sent from %s through the tunnel to %s", at, h.Outer.Dst)
	case isNetfilter(h.Stage):
		return fmt.Sprintf("was last seen passing the %s hook (netfilter) of %s", hookName(h.Stage), at)
	}
	return fmt.Sprintf("was last seen in %s%s", at, onDevice(h))
}
