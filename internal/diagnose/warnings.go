package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// warnings lists what was wrong on the way of a flow that was delivered all the same.
func (a *analysis) warnings() []path.Warning {
	var out []path.Warning
	add := func(w path.Warning) {
		w.Summary = oneLine(w.Summary)
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	for _, p := range a.p.Packets {
		if w, ok := a.dropWarning(p); ok {
			add(w)
		}
	}
	if w, ok := a.proxyWarning(); ok {
		add(w)
	}
	for _, w := range a.missingWarnings() {
		add(w)
	}
	for _, warn := range []func() (path.Warning, bool){
		a.noAnswerWarning, a.duplicateWarning, a.conflictWarning, a.staleWarning,
	} {
		if w, ok := warn(); ok {
			add(w)
		}
	}
	if n := a.nameProblem(); n != nil {
		add(path.Warning{Cause: path.CauseNameNotResolved, Summary: n.says})
	}
	if a.f.Target.State == "paused" && a.f.Target.Container != "" {
		add(path.Warning{Cause: path.CauseContainerPaused, Summary: fmt.Sprintf("container %s is paused: "+
			"its kernel side takes requests, its processes do not answer", a.f.Target.Container)})
	}
	return out
}

// dropWarning names the drop of a packet whose loss a retransmission made up for.
func (a *analysis) dropWarning(p *path.Packet) (path.Warning, bool) {
	if p == nil || p.ICMPError || a.p.Proto == path.TCP && flagsOf(p.TCPFlags).rst {
		return path.Warning{}, false
	}
	e := a.endOf(p, a.phaseOf(p))
	if e.drop == nil || !a.mattered(&e) {
		return path.Warning{}, false
	}
	f := a.findings(&e, path.Dropped)[0]
	return path.Warning{Cause: f.cause, Summary: oneLine(f.says + "; a later one got through")}, true
}

// mattered reports whether the drop cost the flow something: pure acknowledgements, segments that TCP
// itself has no use for and what comes after a reset are dropped in healthy connections.
func (a *analysis) mattered(e *end) bool {
	if a.p.Proto != path.TCP {
		return true
	}
	switch {
	case strings.HasPrefix(e.drop.Reason, "TCP_"):
		return false
	case flagsOf(e.pkt.TCPFlags).syn:
		return !a.isSurplus(e)
	}
	return carriesData(e.pkt) && !a.closedBefore(e.drop)
}

// isSurplus reports whether a socket dropped a SYN or SYN-ACK that it had from another attempt, which came
// there at last: it waited for a MAC address, say, while it was sent again.
func (a *analysis) isSurplus(e *end) bool {
	if e.drop.Stage != path.StageTCP {
		return false
	}
	for _, q := range a.packets(e.direction()) {
		if q == e.pkt || q.Seq != e.pkt.Seq || q.TCPFlags != e.pkt.TCPFlags {
			continue
		}
		if o := a.endOf(q, e.phase); o.passed() && o.last.NetNS == e.drop.NetNS {
			return true
		}
	}
	return false
}

// phaseOf returns the phase that a packet of a delivered flow belongs to.
func (a *analysis) phaseOf(p *path.Packet) phase {
	switch {
	case a.p.Proto == path.TCP && !flagsOf(p.TCPFlags).syn:
		return phaseData
	case p.Direction == path.Reply:
		return phaseReply
	}
	return phaseRequest
}

// cameRouted reports whether the request is known to have entered the namespace by a device that is
// neither a bridge nor a port of one, or to have been made there.
func (a *analysis) cameRouted(ns uint32) bool {
	known := false
	for _, p := range a.packets(path.Request) {
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.NetNS != ns || !onPath(h) {
				continue
			}
			if h.Bridge != "" || h.DeviceKind == "bridge" {
				return false
			}
			known = known || h.DeviceKind != "" || isLocalStart(h)
		}
	}
	return known
}

// noAnswerWarning tells why a datagram that was delivered can get no answer.
func (a *analysis) noAnswerWarning() (path.Warning, bool) {
	if a.p.Proto != path.UDP || a.replyArrived() || !a.p.Source.IsValid() {
		return path.Warning{}, false
	}
	ns := a.p.DeliverNetNS
	for _, r := range a.space(ns).Routes {
		if r.Dst == a.p.Source.Addr() && isNoRouteError(r.Err) {
			return path.Warning{Cause: path.CauseNoRoute, Summary: fmt.Sprintf("%s has no route to %s, so"+
				" it cannot answer", a.spaceName(ns), r.Dst)}, true
		}
	}
	return path.Warning{}, false
}
