package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// fullTable is how much of the connection tracking table, in percent, has to be in use for a refusal of
// a new entry to be put down to it. Entries end while the facts are read.
const fullTable = 90

// explainConntrack: connection tracking or translation itself discarded the packet, not a rule. The
// kernel reports the same function for those as for legacy rules; its counters tell.
func explainConntrack(a *analysis, e *end) *finding {
	hook := hookName(e.hook())
	if e.drop == nil || !isNetfilterDrop(e.drop) || isRuleFunction(e.drop.Function) || e.drop.Outer != nil {
		return nil
	}
	if r := a.ruling(e); r != nil && r.certain() {
		return nil // a rule of the legacy tables
	}
	switch hook {
	case "PREROUTING", "OUTPUT":
		if f := a.tableFull(e); f != nil {
			return f
		}
		return a.refusedAsInvalid(e)
	case "POSTROUTING":
		return a.portsExhausted(e)
	}
	return nil
}

// tableFull: no entry could be made (nf_conntrack_in counts a drop, and so does early_drop when it
// could make room).
func (a *analysis) tableFull(e *end) *finding {
	ns := e.drop.NetNS
	count, ok1 := a.sysctl(ns, "net.netfilter.nf_conntrack_count")
	limit, ok2 := a.sysctl(ns, "net.netfilter.nf_conntrack_max")
	drops, early := a.grew(ns, "nf_conntrack_drop"), a.grew(ns, "nf_conntrack_early_drop")
	if !ok1 || !ok2 || limit == 0 || count < limit*fullTable/100 || drops == 0 {
		return nil
	}
	f := a.conntrackFinding(e, path.CauseConntrackFull)
	f.says = fmt.Sprintf("%s was dropped in the %s hook (netfilter) of %s: the connection tracking table is full, "+
		"%d of %d entries", a.subject(e), hookName(e.hook()), a.place(e.drop), count, limit)
	f.evidence = []string{fmt.Sprintf("nf_conntrack_count is %d, nf_conntrack_max is %d", count, limit),
		fmt.Sprintf("connection tracking in %s refused %s during the flow", a.place(e.drop), path.FormatCount(drops, "packet"))}
	if early > 0 {
		f.evidence = append(f.evidence, path.FormatCount(early, "older connection")+" gave way to new ones")
	}
	f.remedy = []string{
		fmt.Sprintf("sysctl -w net.netfilter.nf_conntrack_max=%d  # on the host; about 320 bytes of memory an entry",
			limit*2),
		a.command(e.drop, "conntrack -L") + "  # what fills it: many entries of one source are a scan or a leak",
		"sysctl net.netfilter.nf_conntrack_tcp_timeout_established  # 5 days by default: idle entries stay that long",
	}
	return f
}

// refusedAsInvalid: connection tracking discarded the packet as one that fits no connection.
func (a *analysis) refusedAsInvalid(e *end) *finding {
	ns := e.drop.NetNS
	if a.grew(ns, "nf_conntrack_drop") == 0 || a.grew(ns, "nf_conntrack_invalid") == 0 {
		return nil
	}
	f := a.conntrackFinding(e, path.CauseConntrackInvalid)
	f.says = fmt.Sprintf("%s was dropped in the %s hook (netfilter) of %s: connection tracking refused it as invalid",
		a.subject(e), hookName(e.hook()), a.place(e.drop))
	f.evidence = []string{fmt.Sprintf("connection tracking in %s called %s invalid during the flow",
		a.place(e.drop), path.FormatCount(a.grew(ns, "nf_conntrack_invalid"), "packet"))}
	f.remedy = []string{
		a.command(e.drop, "conntrack -L -p "+string(a.p.Proto)+" --orig-dst "+a.p.Server.Addr().String()),
		"sysctl -w net.netfilter.nf_conntrack_log_invalid=255  # the kernel's log then says why",
	}
	return f
}

// asksForInvalid reports whether a rule takes the packet only because connection tracking calls it
// invalid: it would not take it as part of a connection or as the first packet of one.
func asksForInvalid(p *firewall.Packet, c *firewall.Candidate) bool {
	if c.IsPolicy() {
		return false
	}
	as := func(s firewall.CTState) firewall.Truth {
		q := *p
		q.CT = &firewall.Conntrack{State: s}
		return c.Rule.Body.Judge(&q).Match
	}
	return as(firewall.CTInvalid) != firewall.No && as(firewall.CTNew) == firewall.No && as(firewall.CTEstablished) == firewall.No
}

// portsExhausted: the source translation chose a port that another connection to the same end has,
// because it found no other, and the entry could not be inserted (__nf_conntrack_confirm).
func (a *analysis) portsExhausted(e *end) *finding {
	ns, t := e.drop.NetNS, a.sourceNAT()
	failed := a.grew(ns, "nf_conntrack_insert_failed")
	if t == nil || failed == 0 {
		return nil
	}
	to, err := netip.ParseAddrPort(t.To)
	if err != nil {
		return nil
	}
	f := a.conntrackFinding(e, path.CauseNATExhausted)
	f.says = fmt.Sprintf("%s was dropped in the POSTROUTING hook (netfilter) of %s: the source translation to %s found "+
		"no free port towards %s", a.subject(e), a.place(e.drop), to.Addr(), a.p.Target)
	f.evidence = []string{fmt.Sprintf("%s could not be entered into the connection tracking table of %s during "+
		"the flow, since others have the same addresses and ports", path.FormatCount(failed, "connection"), a.place(e.drop))}
	if n := a.space(ns).NATPorts; n > 0 {
		f.evidence = append(f.evidence, fmt.Sprintf("%s of %s in use towards %s", path.FormatCount(n, "port"), to.Addr(), a.p.Target))
	}
	f.remedy = []string{
		a.command(e.drop, fmt.Sprintf("conntrack -L -p %s --reply-src %s --reply-dst %s", a.p.Proto, a.p.Target.Addr(), to.Addr())),
		a.command(e.drop, "iptables -t nat -L POSTROUTING -vn --line-numbers") + "  # --to-ports narrows the choice",
		"let the clients keep connections open, or translate to more than one address",
	}
	return f
}

func (a *analysis) conntrackFinding(e *end, cause path.Cause) *finding {
	f := &finding{cause: cause, where: whereOf(e.drop, e.direction())}
	f.where.Stage = e.hook()
	return f
}
