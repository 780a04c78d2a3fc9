package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// portListeners returns the listeners of a namespace on a port, whatever their address, each address
// once: sockets may share one (SO_REUSEPORT), and the first whose process is known stands for all.
func portListeners(n *Namespace, proto path.Proto, port uint16) []Listener {
	var out []Listener
next:
	for _, l := range n.Listeners {
		if l.Proto != proto || l.Addr.Port() != port {
			continue
		}
		for i := range out {
			if out[i].Addr == l.Addr {
				if out[i].Process == "" {
					out[i] = l
				}
				continue next
			}
		}
		out = append(out, l)
	}
	return out
}

// listenerAt returns the listener of a namespace that takes requests to ap, or nil.
func (a *analysis) listenerAt(ns uint32, ap netip.AddrPort) *Listener {
	var wild *Listener
	for _, l := range portListeners(a.space(ns), a.p.Proto, ap.Port()) {
		switch {
		case l.Addr.Addr().Unmap() == ap.Addr().Unmap():
			return &l
		case l.takesAll(ap.Addr()):
			wild = &l
		}
	}
	return wild
}

// takesAll reports whether a socket takes requests to every address of the family of addr. One on the
// unspecified IPv6 address takes IPv4 as well, unless it was told not to (IPV6_V6ONLY).
func (l *Listener) takesAll(addr netip.Addr) bool {
	on := l.Addr.Addr()
	return on.IsUnspecified() && (on.Is4() == addr.Unmap().Is4() || on.Is6() && !l.V6Only)
}

// explainNotListening: the target's own stack answered that the port is closed.
func explainNotListening(a *analysis, e *end) *finding {
	h := a.closedPort(e)
	if h == nil || a.isForeign(h.NetNS) || a.f.Target.Container != "" &&
		len(a.f.Target.NetNS) == 0 && slices.Contains(a.f.Target.HostNetNS, h.NetNS) {
		return nil
	}
	ap := h.DstAddr
	if !ap.IsValid() {
		ap = a.p.Target
	}
	if a.listenerAt(h.NetNS, ap) != nil {
		return nil
	}
	at := a.place(h)
	f := &finding{
		cause:    path.CauseNotListening,
		says:     fmt.Sprintf("nothing listens on port %d in %s", ap.Port(), at),
		where:    mergeWhere(h, e),
		evidence: []string{fmt.Sprintf("%s answered the request with %s", at, a.answerName(h))},
		remedy: []string{a.command(h, listCommand(a.p.Proto)),
			fmt.Sprintf("start the service so that it listens on port %d, or ask for the port it "+
				"listens on", ap.Port())},
	}
	if h.Container != "" {
		f.remedy = append(f.remedy, "docker logs --tail 50 "+quote(h.Container))
	}
	others := portListeners(a.space(h.NetNS), a.p.Proto, ap.Port())
	for _, l := range others {
		f.evidence = append(f.evidence, fmt.Sprintf("%s listens on %s only", process(l), l.Addr))
	}
	if len(others) == 0 {
		f.evidence = append(append(f.evidence, a.listensElsewhere(h.NetNS)...), a.publishedHere(h.NetNS)...)
	}
	if len(others) > 0 && allLoopback(others) && !ap.Addr().IsLoopback() {
		f.cause = path.CauseListeningOnLoopback
		f.says = fmt.Sprintf("%s listens on %s only in %s, not on %s",
			process(others[0]), others[0].Addr, at, ap.Addr())
		f.remedy[1] = fmt.Sprintf("let the service listen on 0.0.0.0:%d or [::]:%[1]d", ap.Port())
	}
	return f
}

// listensElsewhere says on which other ports a namespace takes requests of the flow's protocol. Docker's
// own DNS server in a container is none of its services.
func (a *analysis) listensElsewhere(ns uint32) []string {
	const few = 4
	var list []string
	for _, l := range a.space(ns).Listeners {
		at := l.Addr.String()
		if l.Proto == a.p.Proto && l.Addr.Addr() != dockerDNS() && !slices.Contains(list, at) {
			list = append(list, at)
		}
	}
	switch {
	case len(list) == 0 || slices.Contains(a.f.Target.HostNetNS, ns):
		return nil
	case len(list) > few:
		list = append(list[:few:few], fmt.Sprintf("%d more", len(list)-few))
	}
	return []string{fmt.Sprintf("%s does listen on %s", a.spaceName(ns), strings.Join(list, ", "))}
}

func process(l Listener) string {
	if l.Process == "" {
		return "a process"
	}
	return l.Process
}

// owner names the process of a listener, with its container where that is not the namespace's own.
func (a *analysis) owner(ns uint32, l *Listener) string {
	if l.Container == "" || l.Container == a.spaceContainer(ns) {
		return process(*l)
	}
	return process(*l) + " of container " + l.Container
}

// ownerFact says who listens where.
func (a *analysis) ownerFact(ns uint32, l *Listener) string {
	pid := ""
	if l.PID > 0 {
		pid = fmt.Sprintf(" (process %d)", l.PID)
	}
	return fmt.Sprintf("%s%s listens on %s in %s", a.owner(ns, l), pid, l.Addr, a.spaceName(ns))
}

func allLoopback(list []Listener) bool {
	for _, l := range list {
		if !l.Addr.Addr().Unmap().IsLoopback() {
			return false
		}
	}
	return true
}

// closedPort returns the observation that a stack answered the request because no socket takes it, or
// nil. An answer from inside a netfilter hook is a firewall's.
func (a *analysis) closedPort(e *end) *path.Hop {
	if e.direction() != path.Request || e.phase != phaseRequest || e.hook() != "" || e.held != "" {
		return nil
	}
	if e.drop != nil && (e.drop.Outer != nil || !fitsClosedPort(e.drop)) {
		return nil // not in a tunnel: there the port is the tunnel's
	}
	switch {
	case e.reset != nil && a.p.Proto == path.TCP:
		if fl := flagsOf(e.pkt.TCPFlags); !fl.syn || fl.ack || !fitsClosedPort(e.reset) {
			return nil
		}
		return e.reset
	case e.icmp != nil && a.p.Proto == path.UDP && a.icmpOf(e.icmp) == icmpPortUnreachable:
		return e.icmp
	case e.drop != nil && isNoSocket(e.drop) && a.cameBack(e):
		return e.drop
	}
	return nil
}

// isNoSocket reports whether a packet was dropped for want of a socket. Kernels without drop reasons
// (before 5.17) give the function only, which drops what is malformed as well: a refusal beside it, which
// the callers look for, tells them apart.
func isNoSocket(h *path.Hop) bool {
	if hasReason(h) {
		return h.Reason == "NO_SOCKET"
	}
	switch h.Function {
	case "tcp_v4_rcv", "tcp_v6_rcv", "udp_rcv", "udpv6_rcv", "__udp4_lib_rcv", "__udp6_lib_rcv":
		return true
	}
	return false
}

// cameBack reports whether the refusal itself was seen on its way, or by the probe.
func (a *analysis) cameBack(e *end) bool { return e.answered() || a.probeRefused() }

// fitsClosedPort reports whether the reason of a drop or reset, if there is one, is that of a closed port.
func fitsClosedPort(h *path.Hop) bool { return !hasReason(h) || h.Reason == "NO_SOCKET" }

func (a *analysis) answerName(h *path.Hop) string {
	if a.p.Proto == path.TCP {
		return "a reset"
	}
	if m := a.icmpOf(h); m.isError() {
		return "an ICMP error (" + m.meaning() + ")"
	}
	return "a refusal"
}

// mergeWhere is the place of h, with the kernel's function and reason of the drop that went with it.
func mergeWhere(h *path.Hop, e *end) *path.Where {
	w := whereOf(h, e.direction())
	if e.drop != nil && sameSpace(h, e.drop) {
		w.Function, w.Reason = e.drop.Function, e.drop.Reason
		if w.Device == "" {
			w.Device = e.drop.Device
		}
	}
	return w
}

// listCommand lists the listening sockets of a protocol.
func listCommand(proto path.Proto) string {
	if proto == path.UDP {
		return "ss -lunp"
	}
	return "ss -ltnp"
}

// ssPort is the filter of ss for a local port.
func ssPort(proto path.Proto, port uint16) string {
	flag := "-t"
	if proto == path.UDP {
		flag = "-u"
	}
	return fmt.Sprintf("%s sport = :%d", flag, port)
}

// restoreRules is the remedy for Docker rules that are gone.
func (a *analysis) restoreRules(ns uint32) []string {
	return []string{
		a.commandIn(ns, "", "iptables -t nat -L DOCKER -vn --line-numbers"),
		"systemctl restart docker  # puts Docker's rules back; restarts the containers unless live-restore is on",
	}
}
