package diagnose

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainTTL: a router found the hop limit used up.
func explainTTL(a *analysis, e *end) *finding {
	h, from := a.icmpSeen(e, icmpTimeExceeded)
	if h == nil && from == "" && e.icmp == nil && e.err == nil && isHopLimitDrop(e.drop) {
		h, from = e.drop, a.place(e.drop)
	}
	if h == nil && from == "" || e.hook() != "" {
		return nil
	}
	f := &finding{cause: path.CauseTTLExceeded, where: whereOf(e.at(), e.direction()),
		says: fmt.Sprintf("%s used up its hop limit in %s", a.subject(e), from)}
	f.remedy = []string{
		a.command(a.origin(), "traceroute -n "+text(a.p.Server.Addr())) + "  # a loop repeats addresses",
		a.command(h, "ip route get "+text(a.p.Target.Addr())),
	}
	return f
}

// isHopLimitDrop reports whether a router found the hop limit used up: ip_forward and ip6_forward
// drop with this reason for nothing else.
func isHopLimitDrop(h *path.Hop) bool {
	return h != nil && h.Reason == "IP_INHDR" && (h.Function == "ip_forward" || h.Function == "ip6_forward")
}

// icmpSeen reports whether the packet ended with the ICMP message m: h is the observation of the
// kernel sending it, if it was seen, and from names who sent it; from is empty if there was none.
func (a *analysis) icmpSeen(e *end, m icmpMessage) (h *path.Hop, from string) {
	if a.icmpOf(e.icmp) == m {
		return e.icmp, a.place(e.icmp)
	}
	if e.drop != nil && !fitsICMP(e.drop.Reason, m) {
		return nil, ""
	}
	if e.err != nil {
		if x := icmpHop(e.err); x != nil && a.icmpOf(x) == m {
			if start := firstHop(e.err); start != nil && isLocalStart(start) {
				return start, a.place(start)
			}
			return nil, a.sender(x)
		}
	}
	if a.icmpOfProbe() == m {
		return nil, text(a.f.Probe.From)
	}
	return nil, ""
}

// fitsICMP reports whether a drop with this reason can have gone with the message.
func fitsICMP(reason string, m icmpMessage) bool {
	switch reason {
	case "", "NOT_SPECIFIED":
		return true
	case "IP_INHDR":
		return m == icmpTimeExceeded
	case "PKT_TOO_BIG":
		return m == icmpTooBig
	}
	return false
}

// sender names the host that an ICMP error seen at h comes from.
func (a *analysis) sender(h *path.Hop) string {
	if h.SrcName != "" {
		return bare(h.SrcName, h.SrcAddr)
	}
	if h.SrcAddr.IsValid() {
		return h.SrcAddr.Addr().String()
	}
	if pr := a.f.Probe; pr != nil && pr.From.IsValid() {
		return pr.From.String()
	}
	return "an unknown router"
}
