package diagnose

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// ruling is what the rules of a namespace say of a packet that ended in one of its hooks.
type ruling struct {
	space  *Namespace
	rules  *firewall.Ruleset // those of space that can have discarded it
	packet *firewall.Packet
	// list are the rules and policies that could have discarded the packet, in the kernel's order;
	// growth says how their counters changed.
	list   []firewall.Candidate
	growth []firewall.Growth
	// steps are the rules that surely matched before.
	steps []firewall.Step
	// passed says whether the rules let a packet like this one pass: Maybe if that is left to chance, or
	// to what cannot be judged.
	passed firewall.Truth
	// settled is the one that did, as an index into list; -1 if that cannot be told.
	settled int
	// traced says that the kernel itself named it (--trace-rules).
	traced bool
	// whole says that the list has every rule that there is.
	whole bool
}

// one returns the candidate that discarded the packet, or nil if that cannot be told.
func (r *ruling) one() *firewall.Candidate {
	if r == nil || r.settled < 0 {
		return nil
	}
	return &r.list[r.settled]
}

// owner says whose a candidate is.
func (r *ruling) owner(c *firewall.Candidate) firewall.Owner { return r.space.Rules.OwnerOf(c) }

// ruling asks the rules of the namespace in which a packet ended; nil if they were not read or do not
// apply.
func (a *analysis) ruling(e *end) *ruling {
	h := e.at()
	if h == nil || e.pkt == nil {
		return nil
	}
	if r, ok := a.ruled[h]; ok {
		return r
	}
	if a.ruled == nil {
		a.ruled = map[*path.Hop]*ruling{}
	}
	r := a.askRules(e, h)
	a.ruled[h] = r
	return r
}

func (a *analysis) askRules(e *end, h *path.Hop) *ruling {
	n := a.space(h.NetNS)
	if n.Rules == nil || e.drop != nil && !isNetfilterDrop(e.drop) {
		return nil
	}
	r := &ruling{space: n, rules: n.Rules, settled: -1, whole: len(n.Rules.Problems) == 0}
	if e.drop != nil {
		r.rules = a.reported(n.Rules, h)
	}
	switch stage := e.hook(); {
	case stage != "":
		v := visitOf(e.pkt, stage, h)
		if v.enter != nil || a.walkDevice(r, &v) != firewall.No {
			a.walk(r, a.packet(&v))
		}
	case isBridgeHookDrop(h):
		v := visitOf(e.pkt, path.StageBridge, h)
		if a.walkDevice(r, &v) != firewall.No {
			a.walkBridge(r, e.pkt, h)
		}
	default:
		return nil
	}
	if r.packet == nil {
		return nil
	}
	if e.icmp != nil || a.resetFrom(e) != nil {
		r.list = rejecting(r.list)
	}
	if e.drop != nil && isNFQueue(e.drop.Function) {
		r.list = slices.DeleteFunc(r.list, func(c firewall.Candidate) bool {
			return c.Verdict.Kind != firewall.Queue && c.Verdict.Kind != firewall.Unknown
		})
	}
	if i := tracedIn(r.list, e, h); i >= 0 {
		r.settled, r.traced, r.growth = i, true, make([]firewall.Growth, len(r.list))
		return r
	}
	r.settled, r.growth = firewall.Settle(r.list, n.RulesBefore, n.Rules)
	if r.settled < 0 {
		r.dropStill()
	}
	if !r.whole && r.settled >= 0 && !r.list[r.settled].Sure && !r.growth[r.settled].Grew() {
		r.settled = -1 // it may be one of those that were not read
	}
	return r
}

// walk adds the candidates of one hook.
func (a *analysis) walk(r *ruling, p *firewall.Packet) firewall.Truth {
	if p == nil {
		return firewall.Maybe
	}
	w := r.rules.Walk(p)
	r.packet, r.steps = p, append(r.steps, w.Steps...)
	r.list = append(r.list, firewall.Discarding(w.Candidates)...)
	r.whole, r.passed = r.whole && !w.Bounded, w.Passed
	return w.Passed
}

// walkDevice adds the candidates of the hook of the device itself, which comes before those of IP when a
// packet was received, and after them when it is sent. It is not watched: a packet that was not seen
// entering another hook may have been dropped there.
func (a *analysis) walkDevice(r *ruling, v *visit) firewall.Truth {
	var last *path.Hop
	for i := range v.pkt.Hops {
		if h := &v.pkt.Hops[i]; h != v.end && onPath(h) && hopTime(h) <= hopTime(v.end) {
			last = h
		}
	}
	p := a.packet(v)
	if p == nil || last == nil || !sameSpace(last, v.end) {
		return firewall.Maybe
	}
	p.Hook, p.In, p.Out, p.CT, p.Translated = firewall.Ingress, v.end.Device, "", nil, nil
	if last.Action != path.ActionReceive {
		p.Hook, p.In, p.Out = firewall.Egress, "", v.end.Device
	}
	return a.walk(r, p)
}

// isDeviceHook reports whether the rule or policy that discarded the packet is of a device's own hook.
func (r *ruling) isDeviceHook() bool {
	c := r.one()
	return c != nil && (c.Base.Hook == firewall.Ingress || c.Base.Hook == firewall.Egress)
}

// isBridgeHookDrop reports whether a hook of the bridge family discarded the packet. Those hooks are
// not watched: what is dropped in none of the IP families' hooks on a bridge port was dropped there.
func isBridgeHookDrop(h *path.Hop) bool {
	return h.Action == path.ActionDrop && h.Stage == path.StageBridge && isNetfilterDrop(h)
}

// walkBridge adds the candidates of the bridge family's hooks, as the packet passes them.
func (a *analysis) walkBridge(r *ruling, pkt *path.Packet, h *path.Hop) {
	v := visitOf(pkt, path.StageBridge, h)
	in := ""
	for i := range pkt.Hops {
		if q := &pkt.Hops[i]; q.NetNS == h.NetNS && q.Action == path.ActionReceive && hopTime(q) <= hopTime(h) {
			in = q.Device
		}
	}
	hooks := []firewall.Hook{firewall.Prerouting, firewall.Input, firewall.Forward, firewall.Postrouting}
	switch {
	case in == "":
		hooks = []firewall.Hook{firewall.Output, firewall.Postrouting}
	case h.Device != in: // the bridge had chosen the port to leave by
		hooks = []firewall.Hook{firewall.Forward, firewall.Postrouting}
	}
	for _, hook := range hooks {
		p := a.packet(&v)
		if p == nil {
			return
		}
		p.Bridge, p.Hook, p.In, p.Out = true, hook, in, ""
		if h.Device != in {
			p.Out = h.Device
		}
		if hook == firewall.Postrouting {
			p.In = ""
		}
		if a.walk(r, p) == firewall.No && hook != firewall.Input {
			return
		}
	}
}

// reported returns the tables that the kernel's own report leaves: rules of nf_tables and of the legacy
// tables discard in functions of their own, so those of the others let the packet pass.
func (a *analysis) reported(set *firewall.Ruleset, h *path.Hop) *firewall.Ruleset {
	switch {
	case h.Function == "nft_do_chain":
		return set.Of(firewall.NFTables, firewall.IptablesNFT)
	case h.Function == "ipt_do_table", h.Function == "ip6t_do_table",
		h.Function == "nf_hook_slow" && a.f.NFTDropsInPlace:
		return set.Of(firewall.IptablesLegacy)
	}
	return set
}

// rejecting returns the candidates that can have sent a refusal.
func rejecting(list []firewall.Candidate) []firewall.Candidate {
	return slices.DeleteFunc(list, func(c firewall.Candidate) bool {
		return c.Verdict.Kind != firewall.Reject && c.Verdict.Kind != firewall.Unknown
	})
}

// byOwnRule reports whether a rule which is not Docker's dropped the packet, or may have: then that
// rule is the cause, whatever else is missing.
func (a *analysis) byOwnRule(e *end) bool {
	r := a.ruling(e)
	own := func(c firewall.Candidate) bool { return !c.IsPolicy() && r.owner(&c) != firewall.OwnerDocker }
	if c := r.one(); c != nil {
		return own(*c)
	}
	return r != nil && slices.ContainsFunc(r.list, own)
}

// dropStill takes out the candidates whose counters are known not to have grown.
func (r *ruling) dropStill() {
	var list []firewall.Candidate
	var growth []firewall.Growth
	for i, g := range r.growth {
		if !g.Known || g.Grew() {
			list, growth = append(list, r.list[i]), append(growth, g)
		}
	}
	r.list, r.growth = list, growth
}

// certain reports whether it is beyond doubt that a rule or policy discarded the packet, also where
// the kernel's report would allow something else.
func (r *ruling) certain() bool {
	c := r.one()
	return c != nil && (c.Sure || r.traced || r.growth[r.settled].Grew())
}

// MayPass reports whether the same packet, sent again, may pass the rules that dropped it: those that
// drop a share of packets, or whose matches cannot be judged.
func MayPass(p *path.Path, f *Facts) bool {
	a := &analysis{p: p, f: f}
	e := a.decisive()
	if e.pkt == nil || e.drop == nil {
		return false
	}
	r := a.ruling(&e)
	return r != nil && len(r.list) > 0 && r.passed != firewall.No
}
