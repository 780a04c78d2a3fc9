package diagnose

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// isInputRoute reports whether a packet was dropped where an arriving packet is routed: its source or
// destination was not accepted there. Before Linux 6.14 only the reverse path filter has a reason.
func isInputRoute(h *path.Hop) bool {
	switch h.Reason {
	case "IP_RPFILTER", "IP_LOCAL_SOURCE", "IP_INVALID_SOURCE", "IP_INVALID_DEST", "IP_LOCALNET":
		return true
	case "", "NOT_SPECIFIED":
		return strings.HasPrefix(h.Function, "ip_rcv_finish") || strings.HasPrefix(h.Function, "ip_route_input")
	}
	return false
}

// explainMartian: an address of the packet is not valid where it came in, or may not leave there.
func explainMartian(a *analysis, e *end) *finding {
	if h := a.looped(e); h != nil {
		return a.loopbackLeaves(e, h)
	}
	h := e.drop
	if h == nil || !isInputRoute(h) {
		return nil
	}
	src, dst := h.SrcAddr.Addr(), h.DstAddr.Addr()
	why, remedy := "", []string{a.command(h, "ip -br address")}
	reason := h.Reason
	known := hasReason(h)
	switch {
	case reason == "IP_LOCAL_SOURCE" || !known && a.carriedBy(h.NetNS, src) != nil:
		why = fmt.Sprintf("its source address %s is one of %s's own", text(src), a.place(h))
		remedy = append(remedy, "find out who else uses "+text(src)+": an address belongs to one machine")
	case reason == "IP_LOCALNET" || !known && (src.IsLoopback() || dst.IsLoopback()):
		lo := src
		if !src.IsLoopback() {
			lo = dst
		}
		why = fmt.Sprintf("loopback address %s is not accepted from a device", text(lo))
		remedy = a.allowLoopback(h, h.Device)
	case reason == "IP_INVALID_SOURCE" || !known && (src.IsMulticast() || src.IsUnspecified()):
		why = fmt.Sprintf("%s is no address that a packet can come from", text(src))
	case reason == "IP_INVALID_DEST":
		why = fmt.Sprintf("%s is no address that a packet can be sent to", text(dst))
	default:
		return nil
	}
	return &finding{cause: path.CauseMartianSource, where: whereOf(h, e.direction()), remedy: remedy,
		says:     fmt.Sprintf("%s was dropped in %s%s: %s", a.subject(e), a.place(h), onDevice(h), why),
		evidence: a.localnetFacts(h.NetNS, h.Device, src.IsLoopback() || dst.IsLoopback())}
}

// looped returns where a packet with a loopback address as its source was translated to go to another
// machine and did not leave: the kernel finds no route for such a packet (ip_route_output_key_hash_rcu).
func (a *analysis) looped(e *end) *path.Hop {
	if e.hook() != path.StageOutput {
		return nil
	}
	h := e.drop
	if h == nil {
		h = e.last
	}
	src, dst := h.SrcAddr.Addr(), h.DstAddr.Addr()
	if a.p.Target.IsValid() && dst.IsLoopback() {
		dst = a.p.Target.Addr()
	}
	if !src.IsLoopback() || !dst.IsValid() || dst.IsLoopback() || !a.hasDNAT() {
		return nil
	}
	return h
}

// loopbackLeaves explains a packet that looped found; the setting has to be known to be off.
func (a *analysis) loopbackLeaves(e *end, h *path.Hop) *finding {
	dev := ""
	for _, r := range a.space(h.NetNS).Table {
		if l := a.link(h.NetNS, r.Ifindex); l != nil && r.Dst.Bits() > 0 && r.Dst.Contains(a.p.Target.Addr()) {
			dev = l.Name
		}
	}
	if on, ok := a.sysctl(h.NetNS, "net.ipv4.conf.all.route_localnet"); !ok || on != 0 {
		return nil
	}
	if on, ok := a.sysctl(h.NetNS, "net.ipv4.conf."+dev+".route_localnet"); ok && on != 0 {
		return nil
	}
	f := &finding{cause: path.CauseMartianSource, where: whereOf(h, e.direction()),
		says: fmt.Sprintf("%s was translated to %s and may not leave %s with the loopback address %s as its source",
			a.subject(e), a.p.Target, a.place(h), h.SrcAddr.Addr()),
		evidence: a.localnetFacts(h.NetNS, dev, true),
		remedy:   a.allowLoopback(h, dev)}
	f.where.Stage = path.StageOutput
	return f
}

// localnetFacts says how the setting that routes loopback addresses is set.
func (a *analysis) localnetFacts(ns uint32, dev string, matters bool) []string {
	var out []string
	for _, name := range []string{"net.ipv4.conf." + dev + ".route_localnet", "net.ipv4.conf.all.route_localnet"} {
		if n, ok := a.sysctl(ns, name); ok && matters {
			out = append(out, fmt.Sprintf("%s is %d in %s", name, n, a.spaceName(ns)))
		}
	}
	return out
}

func (a *analysis) allowLoopback(h *path.Hop, dev string) []string {
	if dev == "" {
		dev = "all"
	}
	return []string{a.command(h, "sysctl -w net.ipv4.conf."+dev+".route_localnet=1") +
		"  # also lets others on that link reach services on 127.0.0.1, unless a rule forbids it"}
}

// carriedBy returns the device of a namespace that has an address, or nil.
func (a *analysis) carriedBy(ns uint32, addr netip.Addr) *Link {
	links := a.space(ns).Links
	for i := range links {
		if links[i].carries(addr) {
			return &links[i]
		}
	}
	return nil
}
