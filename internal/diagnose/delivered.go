package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Names of the processes of a Docker engine that hold published ports on the host.
const (
	processProxy  = "docker-proxy"
	processEngine = "dockerd"
)

// delivered words a success.
func (a *analysis) delivered(s served) finding {
	f := finding{outcome: path.Delivered}
	who := a.target()
	if l := a.sharedListener(s); l != nil {
		f.evidence = []string{a.ownerFact(s.netns, l)}
		if l.Container != "" && l.Container != a.f.Target.Container {
			who = fmt.Sprintf("%s, which shares the network of %s,", l.Container, a.f.Target.Container)
		}
	}
	switch {
	case !s.answered:
		f.says = fmt.Sprintf("%s took the datagram from %s, and no answer came%s",
			who, a.asker(), a.within())
	case a.roundTrip() > 0:
		f.says = fmt.Sprintf("%s answered %s in %s", who, a.asker(), span(a.roundTrip()))
	default:
		f.says = fmt.Sprintf("%s answered %s", who, a.asker())
	}
	return f
}

// sharedListener returns the socket that took the request in a namespace of several containers, where
// the address does not tell which of them it was; nil if there is no doubt, or the process is unknown.
func (a *analysis) sharedListener(s served) *Listener {
	t := &a.f.Target
	if t.Container == "" || !t.HostNetwork && t.Joined == "" && len(t.Sharers) == 0 || a.p.Proto == path.ICMP {
		return nil
	}
	l := a.listenerAt(s.netns, a.p.Target)
	if l == nil || l.Process == "" || l.Process == processProxy {
		return nil
	}
	return l
}

// within says " within 2 s" if it is known how long an answer was waited for.
func (a *analysis) within() string {
	if pr := a.f.Probe; pr != nil && pr.Timeout > 0 {
		return " within " + span(pr.Timeout)
	}
	return " while it was watched"
}

// misdelivered explains a flow that a socket outside the target's namespaces took. It returns nil if
// that socket did not keep it or nothing more is known than for any other flow.
func (a *analysis) misdelivered(s served) *finding {
	if !s.ok && !a.tookIt(s.netns) {
		return nil
	}
	if f := a.takenByDouble(s.netns); f != nil {
		f.outcome = path.Misdelivered
		return f
	}
	if f := a.translatedElsewhere(path.Request); f != nil {
		f.outcome = path.Misdelivered
		f.says += ", and " + a.spaceName(s.netns) + " took it"
		return f
	}
	l := a.listenerAt(s.netns, a.p.Target)
	if l == nil {
		l = a.listenerAt(s.netns, a.p.Server)
	}
	if old := a.staleIn(s.netns); old != nil && (l == nil || l.Process != processProxy) {
		return a.misledBy(old, s, l)
	}
	switch {
	case l == nil || a.f.Target.Container == "" || !a.isPublished() || a.hasDNAT():
		return a.takenBy(s, l)
	case l.Process == processProxy && a.carriesElsewhere(l):
		return a.conflict(s, l)
	case l.Process == processProxy:
		return a.proxied(s)
	case l.Process == processEngine:
		f := a.takenBy(s, l)
		a.heldByEngine(f, s)
		return f
	case l.Process != "":
		return a.conflict(s, l)
	}
	return a.takenBy(s, l)
}

// takenBy says who took a request that was meant for somebody else, and no more. l may be nil.
func (a *analysis) takenBy(s served, l *Listener) *finding {
	who := "a socket"
	switch {
	case a.p.Proto == path.ICMP:
		who = "the network stack"
	case l != nil && l.Process != "":
		who = "process " + a.owner(s.netns, l)
	}
	f := &finding{
		outcome: path.Misdelivered, cause: path.CauseUnexplainedDrop,
		says: fmt.Sprintf("%s in %s took the request from %s, not %s",
			who, a.spaceName(s.netns), a.asker(), a.target()),
		where:  a.socketIn(s.netns),
		remedy: []string{a.listOwner(s.netns)},
	}
	t := &a.f.Target
	if slices.Contains(t.HostNetNS, s.netns) && t.Published != nil && !a.isPublished() && !a.hasDNAT() &&
		t.Container != "" && a.p.Proto != path.ICMP && !a.isTargetAddr(a.p.Server.Addr()) {
		n := a.notPublished(a.p.Server, a.p.Proto)
		f.cause, f.evidence, f.remedy = n.cause, n.evidence, append(f.remedy, n.remedy...)
		f.says += ", which does not publish port " + strconv.Itoa(int(a.p.Server.Port()))
	}
	return f
}

// misledBy explains a request that an old entry of connection tracking led to somebody else. l may be
// nil.
func (a *analysis) misledBy(old *stale, s served, l *Listener) *finding {
	f := a.stale(old)
	f.outcome = path.Misdelivered
	if l != nil {
		f.evidence = append(f.evidence, a.ownerFact(s.netns, l))
		f.says += fmt.Sprintf("; %s in %s took it", a.owner(s.netns, l), a.spaceName(s.netns))
	}
	return f
}

// carriesElsewhere reports whether docker-proxy is known to serve something else than the target.
func (a *analysis) carriesElsewhere(l *Listener) bool {
	return l.Forward.IsValid() && a.f.Target.Networks != nil && !a.isTargetAddr(l.Forward.Addr())
}

// conflict explains a request to a published port that another process has.
func (a *analysis) conflict(s served, l *Listener) *finding {
	port := a.p.Server.Port()
	f := &finding{
		outcome: path.Misdelivered, cause: path.CausePortConflict, where: a.socketIn(s.netns),
		says: fmt.Sprintf("%s in %s has port %d/%s and took the request from %s; container %s publishes it, too",
			a.owner(s.netns, l), a.spaceName(s.netns), port, a.p.Proto, a.asker(), a.f.Target.Container),
		evidence: []string{a.ownerFact(s.netns, l), "container " + a.f.Target.Container + " publishes " +
			a.publication().String()},
		remedy: append([]string{a.listOwner(s.netns)}, a.conflictRemedy(l)...),
	}
	if l.Process == processProxy {
		f.evidence = append(f.evidence, fmt.Sprintf("docker-proxy carries connections to %s, which is not an "+
			"address of container %s", l.Forward, a.f.Target.Container))
	}
	return f
}

// socketIn is the place of a socket that took a request.
func (a *analysis) socketIn(ns uint32) *path.Where {
	return &path.Where{Namespace: a.spaceLabel(ns), Container: a.spaceContainer(ns),
		Stage: path.StageSocket, Direction: path.Request}
}

// listOwner is the command that shows who has the port that the request came to there.
func (a *analysis) listOwner(ns uint32) string {
	port := a.p.Server.Port()
	if a.hasDNAT() && a.p.Target.IsValid() {
		port = a.p.Target.Port()
	}
	return a.commandIn(ns, "", "ss -lnp "+ssPort(a.p.Proto, port))
}

// tookIt reports whether a socket of the namespace is known to have taken the request.
func (a *analysis) tookIt(ns uint32) bool {
	if a.p.Proto == path.TCP {
		return a.p.ServerNetNS == ns && a.p.ServerEstablished != 0
	}
	return a.p.DeliverNetNS == ns
}

// proxied explains a flow that Docker's userland proxy took for the target.
func (a *analysis) proxied(s served) *finding {
	if f := a.proxyRefused(); f != nil {
		return f
	}
	if !s.ok {
		return nil
	}
	if ns, ok := a.nobodyListens(a.publishedTo()); ok && a.p.Proto == path.UDP && !s.answered {
		port := a.publishedTo()
		return &finding{
			outcome: path.Lost, cause: path.CauseNotListening,
			says: fmt.Sprintf("docker-proxy in %s took the datagram for %s, but nothing listens on port %d in %s",
				a.spaceName(s.netns), a.target(), port, a.spaceName(ns)),
			where:  a.socketIn(s.netns),
			remedy: []string{a.commandIn(ns, a.targetContainer(), listCommand(a.p.Proto))},
		}
	}
	f := a.delivered(s)
	f.says += ", through docker-proxy"
	f.evidence = []string{fmt.Sprintf("docker-proxy in %s took the request on %s and carries it to %s "+
		"over a connection of its own", a.spaceName(s.netns), address(a.p.Server), a.target())}
	return &f
}

// proxyRefused explains a connection that docker-proxy took and then had to reset.
func (a *analysis) proxyRefused() *finding {
	rst := first(a.resets(path.Reply))
	if a.p.Proto != path.TCP || rst == nil || a.repliedData() {
		return nil
	}
	port := a.publishedTo()
	f := &finding{
		outcome: path.Refused, cause: path.CauseUnexplainedDrop,
		says:   fmt.Sprintf("docker-proxy took the connection for %s and then reset it", a.target()),
		where:  whereOf(firstHop(rst), path.Reply),
		remedy: []string{"docker logs --tail 50 " + quote(a.f.Target.Container)},
	}
	if ns, ok := a.nobodyListens(port); ok {
		f.cause = path.CauseNotListening
		f.says += fmt.Sprintf(", since nothing listens on port %d in %s", port, a.spaceName(ns))
		f.remedy = []string{a.commandIn(ns, a.targetContainer(), listCommand(a.p.Proto))}
	}
	return f
}

// repliedData reports whether the server sent data.
func (a *analysis) repliedData() bool {
	for _, p := range a.packets(path.Reply) {
		if !flagsOf(p.TCPFlags).syn && carriesData(p) {
			return true
		}
	}
	return false
}

// nobodyListens returns the target's namespace if its listeners are known and none has the port.
func (a *analysis) nobodyListens(port uint16) (uint32, bool) {
	if port == 0 || len(a.f.Target.NetNS) == 0 {
		return 0, false
	}
	for _, ns := range a.f.Target.NetNS {
		n := a.space(ns)
		if n.Listeners == nil || len(portListeners(n, a.p.Proto, port)) > 0 {
			return 0, false
		}
	}
	return a.f.Target.NetNS[0], true
}

// hasDNAT reports whether the request's destination was translated.
func (a *analysis) hasDNAT() bool {
	for _, t := range a.p.NAT {
		if t.Kind == path.ActionDNAT {
			return true
		}
	}
	return a.p.Target.IsValid() && a.p.Server.IsValid() && a.p.Target != a.p.Server
}

// roundTrip returns the time from the request to the arrival of its answer; 0 if unknown.
func (a *analysis) roundTrip() time.Duration {
	if l := a.latency(); l != nil && l.RoundTrip > 0 {
		return time.Duration(l.RoundTrip)
	}
	if pr := a.f.Probe; pr != nil && (pr.Kind == ProbeConnected || pr.Kind == ProbeAnswered) {
		return pr.RoundTrip
	}
	return 0
}

// address writes an end of the flow, without the port if there is none; "" if it is not known.
func address(ap netip.AddrPort) string {
	switch {
	case !ap.IsValid():
		return ""
	case ap.Port() == 0:
		return ap.Addr().String()
	}
	return ap.String()
}
