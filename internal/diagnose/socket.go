package diagnose

import (
	"fmt"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainReceiveBuffer: the socket had no room for the packet.
func explainReceiveBuffer(a *analysis, e *end) *finding {
	h := e.drop
	counters := []string{"UdpRcvbufErrors", "Udp6RcvbufErrors"}
	sure := h != nil && h.Reason == "SOCKET_RCVBUFF"
	switch {
	case sure:
	case a.p.Proto != path.UDP, h != nil && !isUDPQueue(h):
		return nil
	case h == nil:
		if h = a.reached(e); h == nil || h == e.deliver || e.answered() {
			return nil
		}
	}
	grew := a.grew(h.NetNS, counters...) > 0
	if !sure && !grew {
		return nil
	}
	f := &finding{
		outcome: path.Dropped, cause: path.CauseReceiveBufferFull,
		says: fmt.Sprintf("%s was dropped in %s: the receive buffer of the socket is full",
			a.subject(e), a.place(h)),
		where: whereOf(h, e.direction()),
		remedy: []string{
			a.command(h, "ss -m "+ssPort(a.p.Proto, h.DstAddr.Port())) +
				"  # skmem: r is used, rb is the limit",
			"the program reads too slowly: find out what holds it up, or let it ask for a larger buffer " +
				"(SO_RCVBUF, limited by sysctl net.core.rmem_max)",
		},
	}
	if grew {
		f.evidence = append(f.evidence, fmt.Sprintf("UdpRcvbufErrors grew in %s during the flow", a.place(h)))
	}
	if l := a.listenerAt(h.NetNS, h.DstAddr); l != nil && l.QueueMax > 0 {
		f.evidence = append(f.evidence, fmt.Sprintf("%d bytes wait in the socket of %s, its limit is %d",
			l.Queue, process(*l), l.QueueMax))
	}
	f.evidence = append(f.evidence, a.pausedFact()...)
	return f
}

// isUDPQueue reports whether an older kernel, without a reason, dropped a datagram on its way into a
// socket's queue.
func isUDPQueue(h *path.Hop) bool {
	switch h.Function {
	case "udp_queue_rcv_one_skb", "__udp_queue_rcv_skb", "udpv6_queue_rcv_one_skb",
		"__udpv6_queue_rcv_skb", "__udp_enqueue_schedule_skb":
		return !hasReason(h) || h.Reason == "PROTO_MEM"
	}
	return false
}

// explainAcceptQueue: the listening socket had no room for another connection. The kernel reports no
// drop for it (tcp_conn_request, tcp_v4_syn_recv_sock): the socket's queue and a counter tell.
func explainAcceptQueue(a *analysis, e *end) *finding {
	if a.p.Proto != path.TCP || e.drop != nil || e.reset != nil || e.icmp != nil || e.rst != nil {
		return nil
	}
	switch e.phase {
	case phaseRequest:
		if fl := flagsOf(pktFlags(e)); !fl.syn || a.reached(e) == nil {
			return nil
		}
	case phaseAck, phaseReply:
		if a.p.ServerEstablished != 0 || a.p.Midstream || !a.handshakeDone() {
			return nil
		}
	default:
		return nil
	}
	return a.overflow()
}

func pktFlags(e *end) string {
	if e.pkt == nil {
		return ""
	}
	return e.pkt.TCPFlags
}

// overflow tells from facts whether the accept queue of the target's listener is full, or nil.
func (a *analysis) overflow() *finding {
	for _, ns := range a.listeningSpaces() {
		l := a.listenerAt(ns, a.p.Target)
		if a.space(ns).Listeners != nil && l == nil {
			continue
		}
		full := l != nil && l.QueueMax > 0 && l.Queue > l.QueueMax
		grew := a.grew(ns, "TcpExtListenOverflows") > 0
		if !full && !grew {
			continue
		}
		return a.queueFull(ns, l, full, grew)
	}
	return nil
}

// listeningSpaces are the namespaces in which the target's listener may be.
func (a *analysis) listeningSpaces() []uint32 {
	if len(a.f.Target.NetNS) > 0 && (a.f.Target.Container != "" || !a.hasDNAT()) {
		return a.f.Target.NetNS
	}
	var out []uint32
	for _, p := range a.packets(path.Request) {
		e := a.endOf(p, phaseRequest)
		if h := a.reached(&e); h != nil && !slices.Contains(out, h.NetNS) {
			out = append(out, h.NetNS)
		}
	}
	return out
}

func (a *analysis) queueFull(ns uint32, l *Listener, full, grew bool) *finding {
	at := a.spaceName(ns)
	f := &finding{
		outcome: path.Dropped, cause: path.CauseAcceptQueueFull,
		says: fmt.Sprintf("the kernel dropped the connection from %s in %s: the accept queue of port %d"+
			" is full", a.asker(), at, a.p.Target.Port()),
		where: &path.Where{Namespace: a.spaceLabel(ns), Container: a.spaceContainer(ns),
			Stage: path.StageTCP, Direction: path.Request},
		remedy: []string{
			a.commandIn(ns, "", "ss -ltn "+fmt.Sprintf("sport = :%d", a.p.Target.Port())) +
				"  # Recv-Q above Send-Q: full",
			"the program does not accept fast enough: find out what holds it up, or let it listen with a " +
				"larger backlog (limited by sysctl net.core.somaxconn in its namespace)",
		},
	}
	if full {
		f.evidence = append(f.evidence, fmt.Sprintf("%d connections wait for %s to accept them, its "+
			"backlog is %d", l.Queue, process(*l), l.QueueMax))
	}
	if grew {
		f.evidence = append(f.evidence, fmt.Sprintf("TcpExtListenOverflows grew by %d in %s during the "+
			"flow", a.space(ns).Counters["TcpExtListenOverflows"], at))
	}
	f.evidence = append(f.evidence, a.pausedFact()...)
	return f
}

// pausedFact says that the target is paused, if it is.
func (a *analysis) pausedFact() []string {
	if a.f.Target.State != "paused" {
		return nil
	}
	return []string{"container " + a.f.Target.Container + " is paused"}
}
