package diagnose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// claim is a socket that has a port which the target is to publish.
type claim struct {
	netns    uint32
	listener *Listener
	port     Published
}

// claims lists the sockets on the hosts that keep a target which does not run from its published
// ports.
func (a *analysis) claims() []claim {
	var out []claim
	t := &a.f.Target
	if !isStopped(t.State) {
		return nil
	}
	for _, ns := range t.HostNetNS {
		for _, p := range t.Published {
			for _, l := range portListeners(a.space(ns), p.Proto, p.HostPort) {
				if p.collides(l) {
					out = append(out, claim{ns, &l, p})
				}
			}
		}
	}
	return out
}

// collides reports whether the port cannot be opened beside a socket that listens: one on every address
// is in the way of any.
func (p Published) collides(l Listener) bool {
	host, addr := p.HostIP.Unmap(), l.Addr.Addr().Unmap()
	switch {
	case l.Addr.Port() != p.HostPort || l.Proto != p.Proto:
		return false
	case !host.IsValid() || addr.IsUnspecified() && addr.Is6():
		return true // such a socket takes IPv4, too, unless it was told not to
	case host.Is4() != addr.Is4():
		return false
	}
	return host.IsUnspecified() || addr.IsUnspecified() || host == addr
}

// cannotStart: the engine could not start the target, because something else has a port that it is to
// publish.
func (a *analysis) cannotStart() *finding {
	t := &a.f.Target
	if !isPortError(t.StartError) || t.State == "restarting" {
		return nil
	}
	f := &finding{
		cause: path.CausePortConflict,
		says: fmt.Sprintf("container %s does not run (%s), since a port that it is to publish is taken",
			t.Container, t.State),
		evidence: []string{"the engine could not start it: " + t.StartError},
		remedy:   []string{"docker ps --format '{{.Names}} {{.Ports}}'"},
	}
	list := a.claims()
	if len(list) == 0 {
		f.remedy = append(f.remedy, "ss -ltunp")
	}
	for i, c := range list {
		if i == 0 {
			f.says = fmt.Sprintf("container %s does not run (%s), since %s has port %d/%s, which it is to publish",
				t.Container, t.State, a.holder(c), c.port.HostPort, c.port.Proto)
			f.where = a.socketIn(c.netns)
		}
		f.evidence = append(f.evidence, a.ownerFact(c.netns, c.listener))
		show := a.commandIn(c.netns, "", "ss -lnp "+ssPort(c.port.Proto, c.port.HostPort))
		if !slices.Contains(f.remedy, show) {
			f.remedy = append(f.remedy, show)
		}
	}
	if r := a.rival(); r != "" {
		f.remedy = append(f.remedy, "docker stop "+quote(r)+"  # or publish another port", "docker start "+quote(t.Container))
		return f
	}
	f.remedy = append(f.remedy, "stop what has the port, or publish another port", "docker start "+quote(t.Container))
	return f
}

// rival returns the running container that publishes a port which the target is to publish, or "".
func (a *analysis) rival() string {
	if list := a.f.Target.Rivals; len(list) > 0 {
		return list[0]
	}
	return ""
}

// holder names who has a port: the container for which the engine holds it, or the process.
func (a *analysis) holder(c claim) string {
	held := c.listener.Process == processProxy || c.listener.Process == processEngine
	if r := a.rival(); r != "" && held {
		return "container " + r
	}
	return a.owner(c.netns, c.listener) + " in " + a.spaceName(c.netns)
}

// takenByStranger explains a request for a container in the host's network that a process of somebody
// else took, or returns nil.
func (a *analysis) takenByStranger(s served) *finding {
	if !s.ok || a.p.Proto == path.ICMP || a.f.Target.Container == "" {
		return nil
	}
	l := a.listenerAt(s.netns, a.p.Target)
	if l == nil || !l.Stranger {
		return nil
	}
	f := a.takenBy(s, l)
	f.cause = path.CausePortConflict
	f.says = fmt.Sprintf("%s in %s has port %d/%s and took the request from %s, not container %s", a.owner(s.netns, l),
		a.spaceName(s.netns), a.p.Target.Port(), a.p.Proto, a.asker(), a.f.Target.Container)
	f.evidence = []string{a.ownerFact(s.netns, l), "container " + a.f.Target.Container + " is in the host's network, where it " +
		"shares the ports with all others"}
	free := "stop what has the port"
	if l.Container != "" {
		free = "docker stop " + quote(l.Container)
	}
	f.remedy = append([]string{a.listOwner(s.netns)}, fmt.Sprintf("let container %s listen on a port of its own: in "+
		"the host's network there is each port once", a.f.Target.Container), free+"  # then "+
		quote(a.f.Target.Container)+" can have port "+fmt.Sprint(a.p.Target.Port()))
	return f
}

// isPortError reports whether the engine says that a port was not to be had: of its own list of
// published ports (libnetwork, portallocator) or by the kernel (EADDRINUSE).
func isPortError(text string) bool {
	return strings.Contains(text, "port is already allocated") || strings.Contains(text, "address already in use")
}

// conflictRemedy is how a container that runs gets its port back from l.
func (a *analysis) conflictRemedy(l *Listener) []string {
	free := "stop what has the port, or publish another port"
	if l.Container != "" {
		free = "docker stop " + quote(l.Container) + "  # or publish another port"
	}
	return []string{free, "docker restart " + quote(a.f.Target.Container)}
}

// conflictWarning tells that something else than the container that is to publish the asked address
// answered on it.
func (a *analysis) conflictWarning() (path.Warning, bool) {
	t := &a.f.Target
	if t.Container == "" || !isStopped(t.State) || !isPortError(t.StartError) || !a.isPublished() {
		return path.Warning{}, false
	}
	w := path.Warning{Cause: path.CausePortConflict}
	w.Summary = fmt.Sprintf("container %s is to publish port %d and does not run: the port was taken",
		t.Container, a.p.Server.Port())
	for _, c := range a.claims() {
		if c.port.HostPort == a.p.Server.Port() {
			w.Summary += " by " + a.holder(c)
			break
		}
	}
	return w, true
}
