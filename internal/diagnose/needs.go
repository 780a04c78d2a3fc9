package diagnose

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Want lists which facts would settle the cause of one flow. Namespaces are inode numbers, each named
// once and in ascending order. The target's own namespaces are not listed unless the flow was seen
// there: the caller knows them and may always add them.
type Want struct {
	Links      []uint32
	Neighbours []uint32
	Listeners  []uint32
	// Counters lists namespaces whose counters' growth is wanted. The first reading has to be taken
	// before the flow; without one, leave Namespace.Counters nil.
	Counters []uint32
	Routes   []RouteQuery
	Sysctls  []SysctlQuery
	// Rules lists namespaces whose firewall rules are wanted, RuleCounters those of them whose
	// counters matter: they have to be read after the flow's end, and once before it if possible.
	Rules, RuleCounters []uint32
	LinkWant
	Tracked []TrackedQuery
	// NATPorts is for source translations that may have run out of ports.
	NATPorts []NATPortsQuery
	// Expected lists namespaces whose rules are to be compared with Docker's state, if an engine is
	// there.
	Expected []uint32
}

// RouteQuery asks for one route look-up.
type RouteQuery struct {
	NetNS    uint32
	Dst, Src netip.Addr // Src may be invalid; an unspecified Dst asks for the default route
}

// SysctlQuery asks for one setting, such as "net.ipv4.conf.eth0.rp_filter".
type SysctlQuery struct {
	NetNS uint32
	Name  string
}

// TrackedQuery asks for the entry of connection tracking of one tuple.
type TrackedQuery struct {
	NetNS    uint32
	Proto    path.Proto
	Src, Dst netip.AddrPort
}

// NATPortsQuery asks how many ports of Src are in use by source translation towards Dst.
type NATPortsQuery struct {
	NetNS uint32
	Proto path.Proto
	Src   netip.Addr
	Dst   netip.AddrPort
}

// Needs says which facts should be read for p before Explain is called. A flow that was delivered
// needs only the owner of the socket that took it.
func Needs(p *path.Path) Want {
	var w want
	if p == nil {
		return w.Want
	}
	a := &analysis{p: p, f: &Facts{}}
	w.forRules(p)
	s := a.served()
	w.listeners(s.netns)
	w.expected(a)
	e, late := a.lateFailure()
	// Without the server's socket state a full accept queue is still possible.
	sure := p.Proto != path.TCP || p.ServerEstablished != 0 || p.Midstream
	if s.ok && !late && sure {
		if p.Proto == path.UDP && !s.answered {
			w.routes(s.netns, p.Source.Addr())
		}
		w.forWarnings(a)
		if !a.hasDNAT() {
			w.Rules = append(w.Rules, s.netns) // would they translate it?
			if p.Proto == path.UDP {
				w.tracked(a)
			}
		}
		return w.sorted()
	}
	if !late {
		e = a.decisive()
	}
	w.forEnd(a, &e)
	return w.sorted()
}

// want collects a Want.
type want struct{ Want }

// forEnd adds what may explain why a packet ended at e.
func (w *want) forEnd(a *analysis, e *end) {
	if h := a.reached(e); h != nil {
		w.listeners(h.NetNS)
		w.counters(h.NetNS)
		w.routes(h.NetNS, a.p.Source.Addr())
		if a.p.Proto == path.ICMP {
			w.Sysctls = append(w.Sysctls, SysctlQuery{NetNS: h.NetNS, Name: echoIgnored(a.isV6(h))})
		}
	}
	if h := e.last; h != nil && e.drop == nil && h.Stage == path.StageDevice && h.Action == path.ActionReceive {
		w.routes(h.NetNS, a.p.Source.Addr()) // whether it was meant for the stack there, its links tell
	}
	for _, h := range []*path.Hop{e.drop, e.reset, e.icmp, e.last} {
		if h == nil || h.NetNS == 0 {
			continue
		}
		w.Links = append(w.Links, h.NetNS)
		w.Neighbours = append(w.Neighbours, h.NetNS)
		if h.DstAddr.IsValid() {
			w.Routes = append(w.Routes, RouteQuery{NetNS: h.NetNS, Dst: h.DstAddr.Addr()})
		}
	}
	for _, h := range []*path.Hop{e.reset, e.icmp} {
		if h != nil {
			w.listeners(h.NetNS)
		}
	}
	w.forDrop(e)
	w.forLinks(a, e)
	w.tracked(a)
	w.forEndTranslation(a, e)
	w.forNAT(a)
	w.forDiscovery(a, e)
	w.forEndRules(e)
	if x := a.lostError(e); x != nil {
		w.forEndRules(x) // which rule ate what the sender had to know?
	}
	if x := a.lostRefusal(); x != nil {
		w.forDrop(x)
		w.forLinks(a, x)
		w.forEndRules(x)
	}
}

// forEndTranslation adds what tells why a request was not translated, or could not be.
func (w *want) forEndTranslation(a *analysis, e *end) {
	if h := a.reached(e); h != nil && !a.hasDNAT() {
		w.Rules = append(w.Rules, h.NetNS)
	}
	if t := a.sourceNAT(); t != nil && e.drop != nil && hookName(e.hook()) == "POSTROUTING" {
		if src, err := netip.ParseAddrPort(t.To); err == nil {
			w.NATPorts = append(w.NATPorts,
				NATPortsQuery{NetNS: e.drop.NetNS, Proto: a.p.Proto, Src: src.Addr(), Dst: a.p.Target})
		}
	}
}

// forDrop adds what the reason of a drop asks for.
func (w *want) forDrop(e *end) {
	h := e.drop
	if h == nil || h.NetNS == 0 {
		return
	}
	sysctl := func(names ...string) {
		for _, n := range names {
			if !strings.Contains(n, "..") { // the device is not known
				w.Sysctls = append(w.Sysctls, SysctlQuery{NetNS: h.NetNS, Name: n})
			}
		}
	}
	switch {
	case h.Reason == "IP_RPFILTER":
		sysctl("net.ipv4.conf."+h.Device+".rp_filter", "net.ipv4.conf.all.rp_filter")
	case h.Function == "ip_error":
		sysctl("net.ipv4.conf."+h.Device+".forwarding", "net.ipv4.ip_forward")
	case h.Function == "ip6_forward":
		sysctl("net.ipv6.conf."+h.Device+".forwarding", "net.ipv6.conf.all.forwarding")
	case e.hook() != "" && !isRuleFunction(h.Function):
		sysctl("net.netfilter.nf_conntrack_count", "net.netfilter.nf_conntrack_max")
		w.counters(h.NetNS)
	case h.Reason == "SOCKET_RCVBUFF", isUDPQueue(h), isNoSocket(h):
		w.listeners(h.NetNS)
		w.counters(h.NetNS)
	}
}

// tracked asks for the entries of the flow in each namespace the request came through, by the
// addresses it had when it came there.
func (w *want) tracked(a *analysis) {
	if a.p.Proto == path.ICMP {
		return
	}
	for _, p := range a.packets(path.Request) {
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.NetNS == 0 || !onPath(h) || !h.SrcAddr.IsValid() || !h.DstAddr.IsValid() ||
				slices.ContainsFunc(w.Tracked, func(q TrackedQuery) bool { return q.NetNS == h.NetNS }) {
				continue
			}
			src, dst := h.SrcAddr, h.DstAddr
			if h.PrevSrcAddr.IsValid() {
				src = h.PrevSrcAddr
			}
			if h.PrevDstAddr.IsValid() {
				dst = h.PrevDstAddr
			}
			w.Tracked = append(w.Tracked, TrackedQuery{NetNS: h.NetNS, Proto: a.p.Proto, Src: src, Dst: dst})
		}
	}
}

func (w *want) listeners(ns uint32) { w.Listeners = append(w.Listeners, ns) }

func (w *want) counters(ns uint32) { w.Counters = append(w.Counters, ns) }

// routes asks for the route back to dst and for the default route of its family.
func (w *want) routes(ns uint32, dst netip.Addr) {
	if ns == 0 || !dst.IsValid() {
		return
	}
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	def := any4
	if dst.Is6() {
		def = any6
	}
	w.Routes = append(w.Routes, RouteQuery{NetNS: ns, Dst: dst}, RouteQuery{NetNS: ns, Dst: def})
}

// sorted returns the result with each item once, in order, and without unknown namespaces.
func (w *want) sorted() Want {
	spaces := func(list []uint32) []uint32 {
		list = slices.DeleteFunc(list, func(ns uint32) bool { return ns == 0 })
		slices.Sort(list)
		return slices.Compact(list)
	}
	w.Links, w.Neighbours = spaces(w.Links), spaces(w.Neighbours)
	w.Listeners, w.Counters = spaces(w.Listeners), spaces(w.Counters)
	w.Rules, w.RuleCounters = spaces(w.Rules), spaces(w.RuleCounters)
	w.Expected = spaces(w.Expected)
	slices.SortFunc(w.Routes, func(x, y RouteQuery) int {
		if x.NetNS != y.NetNS {
			return int(int64(x.NetNS) - int64(y.NetNS))
		}
		return x.Dst.Compare(y.Dst)
	})
	w.Routes = slices.Compact(w.Routes)
	slices.SortFunc(w.Sysctls, func(x, y SysctlQuery) int {
		if x.NetNS != y.NetNS {
			return int(int64(x.NetNS) - int64(y.NetNS))
		}
		return strings.Compare(x.Name, y.Name)
	})
	w.Sysctls = slices.Compact(w.Sysctls)
	w.LinkWant.sort()
	return w.Want
}

// sourceNAT returns the translation of the request's source, nil if there was none.
func (a *analysis) sourceNAT() *path.Translation {
	for i := range a.p.NAT {
		t := &a.p.NAT[i]
		if t.Direction == path.Request && (t.Kind == path.ActionSNAT || t.Kind == path.ActionMasquerade) {
			return t
		}
	}
	return nil
}
