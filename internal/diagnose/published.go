package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainNotPublished: the host answered a request for the target that no published port takes over.
func explainNotPublished(a *analysis, e *end) *finding {
	h := a.closedPort(e)
	t := &a.f.Target
	if h == nil || t.Container == "" || t.Published == nil ||
		!slices.Contains(t.HostNetNS, h.NetNS) || slices.Contains(t.NetNS, h.NetNS) || a.hasDNAT() ||
		a.isPublished() || a.isTargetAddr(a.p.Server.Addr()) {
		return nil
	}
	f := a.notPublished(a.p.Server, a.p.Proto)
	f.where = mergeWhere(h, e)
	f.evidence = append([]string{fmt.Sprintf("%s itself answered with %s: nothing there listens on "+
		"port %d, and no DNAT took the request", a.place(h), a.answerName(h), a.p.Server.Port())},
		f.evidence...)
	return f
}

// explainPublishedElsewhere: a container publishes the port that was asked for, on another address of
// the host.
func explainPublishedElsewhere(a *analysis, e *end) *finding {
	h := a.closedPort(e)
	if h == nil || a.f.Target.Container != "" || a.hasDNAT() || !slices.Contains(a.f.Target.HostNetNS, h.NetNS) {
		return nil
	}
	var names, evidence []string
	addr := a.p.Server.Addr().Unmap()
	otherFamily := true // is all that keeps them apart
	var inside uint16   // the container's own port, of the one that is named first
	for _, p := range a.f.Publications {
		if p.HostPort != a.p.Server.Port() || p.Proto != a.p.Proto || p.takes(a.p.Server, a.p.Proto) {
			continue
		}
		evidence = append(evidence, "container "+p.Container+" publishes "+p.String())
		otherFamily = otherFamily && p.HostIP.IsUnspecified() && p.HostIP.Is4() != addr.Is4()
		if len(names) == 0 {
			inside = p.ContainerPort
		}
		if !slices.Contains(names, p.Container) {
			names = append(names, p.Container)
		}
	}
	if len(names) == 0 {
		return nil
	}
	again := fmt.Sprintf("create the container again with -p %s  # its writable layer is lost",
		portOption(netip.AddrPortFrom(addr, a.p.Server.Port()), inside, a.p.Proto))
	if otherFamily {
		again = "ask for an IPv6 address of the host"
		if addr.Is6() {
			again = "ask for an IPv4 address of the host"
		}
	}
	return &finding{
		cause: path.CauseNotPublished, where: mergeWhere(h, e), evidence: evidence,
		says: fmt.Sprintf("container %s publishes port %d/%s, but not on %s", names[0], a.p.Server.Port(), a.p.Proto,
			a.p.Server.Addr()),
		remedy: []string{"docker port " + quote(names[0]), again},
	}
}

// publishedHere says what the containers of a host publish there, where nothing listens on what was
// asked for.
func (a *analysis) publishedHere(ns uint32) []string {
	const few = 4
	var list []string
	for _, p := range a.f.Publications {
		if p.Proto == a.p.Proto {
			list = append(list, p.String()+" by "+p.Container)
		}
	}
	switch {
	case a.f.Publications == nil || !slices.Contains(a.f.Target.HostNetNS, ns):
		return nil
	case len(list) == 0:
		return []string{"no container publishes a port of this protocol there"}
	case len(list) > few:
		list = append(list[:few:few], fmt.Sprintf("%d more", len(list)-few))
	}
	return []string{"published there: " + strings.Join(list, ", ")}
}

// notPublished words the finding that the target does not publish ap.
func (a *analysis) notPublished(ap netip.AddrPort, proto path.Proto) *finding {
	t := &a.f.Target
	asked := fmt.Sprintf("%d/%s", ap.Port(), proto)
	f := &finding{cause: path.CauseNotPublished}
	f.says = fmt.Sprintf("port %s is not published by container %s", asked, t.Container)
	if ap.Addr().IsValid() {
		f.says += " on " + ap.Addr().String()
	}
	for _, p := range t.Published {
		f.evidence = append(f.evidence, "container "+t.Container+" publishes "+p.String())
	}
	if len(t.Published) == 0 {
		f.evidence = append(f.evidence, "container "+t.Container+" publishes no port")
	}
	inside, others := a.likelyPort(ap.Port(), proto)
	again := fmt.Sprintf("create the container again with -p %s  # its writable layer is lost",
		portOption(netip.AddrPortFrom(netip.Addr{}, ap.Port()), inside, proto))
	if others != "" {
		again += fmt.Sprintf("; it listens on %s, too", others)
	}
	f.remedy = []string{"docker port " + quote(t.Container), again}
	return f
}

// portOption writes what -p is to say; port is the container's.
func portOption(host netip.AddrPort, port uint16, proto path.Proto) string {
	outside := strconv.Itoa(int(host.Port()))
	if host.Addr().IsValid() {
		outside = host.String()
	}
	return fmt.Sprintf("%s:%d/%s", outside, port, proto)
}

// likelyPort returns the port of the target that a request for a port which it does not publish is for:
// the same, unless the target listens on others only; then the first of them, and which others there are.
func (a *analysis) likelyPort(asked uint16, proto path.Proto) (port uint16, others string) {
	var ports []uint16
	for _, ns := range a.f.Target.NetNS {
		for _, l := range a.space(ns).Listeners {
			if p := l.Addr.Port(); l.Proto == proto && !l.Addr.Addr().Unmap().IsLoopback() && !slices.Contains(ports, p) {
				ports = append(ports, p)
			}
		}
	}
	if len(ports) == 0 || slices.Contains(ports, asked) {
		return asked, ""
	}
	slices.Sort(ports)
	var list []string
	for _, p := range ports[1:] {
		list = append(list, strconv.Itoa(int(p)))
	}
	return ports[0], strings.Join(list, ", ")
}

// String writes a published port as docker does: "0.0.0.0:8080 -> 80/tcp".
func (p Published) String() string {
	ip := "0.0.0.0"
	if p.HostIP.IsValid() {
		ip = p.HostIP.String()
	}
	if strings.Contains(ip, ":") {
		ip = "[" + ip + "]"
	}
	return fmt.Sprintf("%s:%d -> %d/%s", ip, p.HostPort, p.ContainerPort, p.Proto)
}

// takes reports whether the published port is for a request to ap.
func (p Published) takes(ap netip.AddrPort, proto path.Proto) bool {
	anyAddr := !p.HostIP.IsValid() || !ap.Addr().IsValid() ||
		p.HostIP.IsUnspecified() && p.HostIP.Is4() == ap.Addr().Unmap().Is4()
	return p.HostPort == ap.Port() && p.Proto == proto &&
		(anyAddr || p.HostIP.Unmap() == ap.Addr().Unmap())
}

// isPublished reports whether the target publishes what the client asked for.
func (a *analysis) isPublished() bool { return a.publishedTo() != 0 }

// publishedTo returns the container port that the asked port is published for; 0 if it is not.
func (a *analysis) publishedTo() uint16 { return a.publication().ContainerPort }

// publication returns the published port that the asked port is; the zero value if it is none.
func (a *analysis) publication() Published {
	for _, p := range a.f.Target.Published {
		if p.takes(a.p.Server, a.p.Proto) {
			return p
		}
	}
	return Published{}
}

// isTargetAddr reports whether addr is known to be the target's own on one of its networks.
func (a *analysis) isTargetAddr(addr netip.Addr) bool {
	for _, n := range a.f.Target.Networks {
		for _, x := range n.Addrs {
			if x.Unmap() == addr.Unmap() {
				return true
			}
		}
	}
	return false
}
