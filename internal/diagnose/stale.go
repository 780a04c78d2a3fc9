package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// stale is an entry of connection tracking that leads a flow elsewhere than the rules would lead it now.
// Rules translate the first packet of a flow only, so the entry is older than the rule.
type stale struct {
	netns uint32
	entry Tracked
	// to is where the rule would lead the request.
	to   netip.AddrPort
	rule *firewall.Rule
}

// staleIn finds such an entry in a namespace, or returns nil.
func (a *analysis) staleIn(ns uint32) *stale {
	entry := a.entryIn(ns)
	if entry == nil {
		return nil
	}
	to, rule := a.leadsNow(ns)
	if rule == nil || entry.ReplySrc == to {
		return nil
	}
	return &stale{netns: ns, entry: *entry, to: to, rule: rule}
}

// entryIn returns the entry by which a namespace knows the request: as the kernel's table has it, or as
// the packets carried it.
func (a *analysis) entryIn(ns uint32) *Tracked {
	for _, t := range a.space(ns).Tracked {
		if t.OrigDst == a.p.Server && t.ReplySrc.IsValid() {
			return &t
		}
	}
	for _, p := range a.packets(path.Request) {
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.NetNS == ns && onPath(h) && h.CT != nil && h.CT.OrigDst == a.p.Server && h.CT.ReplySrc.IsValid() &&
				h.CT.Status&firewall.StatusConfirmed != 0 {
				return &Tracked{Proto: a.p.Proto, OrigSrc: h.CT.OrigSrc, OrigDst: h.CT.OrigDst, ReplySrc: h.CT.ReplySrc,
					ReplyDst: h.CT.ReplyDst, Replied: h.CT.Status&firewall.StatusSeenReply != 0}
			}
		}
	}
	return nil
}

// leadsNow returns the DNAT rule that surely would take the first packet of a flow like this one, and
// where to; nil if there is none or it is not sure.
func (a *analysis) leadsNow(ns uint32) (to netip.AddrPort, rule *firewall.Rule) {
	n := a.space(ns)
	p := a.hostRequest(ns)
	if n.Rules == nil || n.Addrs == nil || p == nil {
		return to, nil
	}
	p.AddrType = a.addrType(ns)
	for _, s := range n.Rules.Walk(p).Steps {
		if s.Rule == nil || s.Verdict.Kind != firewall.DNAT {
			continue
		}
		if ap, err := netip.ParseAddrPort(s.Verdict.Detail); err == nil {
			return ap, s.Rule
		}
		if addr, err := netip.ParseAddr(s.Verdict.Detail); err == nil {
			return netip.AddrPortFrom(addr, a.p.Server.Port()), s.Rule
		}
	}
	return to, nil
}

// explainStale: an old entry kept the request from the translation that it needs, or led it to where the
// target no longer is.
func explainStale(a *analysis, e *end) *finding {
	if e.pkt == nil || e.direction() != path.Request || hookName(e.hook()) == "PREROUTING" {
		return nil
	}
	for i := range e.pkt.Hops {
		if s := a.staleIn(e.pkt.Hops[i].NetNS); s != nil {
			f := a.stale(s)
			f.where = whereOf(e.at(), path.Request)
			return f
		}
	}
	return nil
}

// stale words the finding that an old entry decides where a flow goes.
func (a *analysis) stale(s *stale) *finding {
	at, t := a.spaceName(s.netns), s.entry
	f := &finding{cause: path.CauseConntrackStale, where: a.socketIn(s.netns)}
	if t.ReplySrc == t.OrigDst {
		f.says = fmt.Sprintf("an old connection tracking entry in %s keeps the request from %s from being translated to %s",
			at, a.asker(), s.to)
	} else {
		f.says = fmt.Sprintf("an old connection tracking entry in %s leads the request from %s to %s, new ones go to %s",
			at, a.asker(), t.ReplySrc, s.to)
	}
	replied := "no answer came yet"
	if t.Replied {
		replied = "answers came"
	}
	f.evidence = []string{
		fmt.Sprintf("the entry: %s %s to %s, answered by %s; %s", t.Proto, t.OrigSrc, t.OrigDst, t.ReplySrc, replied),
		fmt.Sprintf("only the first packet of a flow is translated, by the rule %s in chain %s", s.rule.Text(), s.rule.Chain.Name),
	}
	f.remedy = []string{a.commandIn(s.netns, "", fmt.Sprintf("conntrack -D -p %s --orig-src %s --orig-dst %s --orig-port-src %d "+
		"--orig-port-dst %d", t.Proto, t.OrigSrc.Addr(), t.OrigDst.Addr(), t.OrigSrc.Port(), t.OrigDst.Port())) +
		"  # the next packet is then translated"}
	return f
}

// staleWarning tells that an old entry led a flow past its translation, although it was answered.
func (a *analysis) staleWarning() (path.Warning, bool) {
	ns := a.served().netns
	if !a.isForeign(ns) || a.hasDNAT() {
		return path.Warning{}, false
	}
	s := a.staleIn(ns)
	if s == nil {
		return path.Warning{}, false
	}
	return path.Warning{Cause: path.CauseConntrackStale, Summary: a.stale(s).says}, true
}
