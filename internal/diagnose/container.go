package diagnose

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainNotRunning: the engine says that the target does not run, and the packet did not reach it.
func explainNotRunning(a *analysis, e *end) *finding {
	if e.pkt != nil && (e.direction() != path.Request || e.phase != phaseRequest) {
		return nil
	}
	t := &a.f.Target
	if t.Container == "" || !isStopped(t.State) || a.p.DeliverNetNS != 0 || a.p.ServerEstablished != 0 {
		return nil
	}
	if e.pkt != nil && len(t.NetNS) > 0 && visits(e.pkt, t.NetNS) {
		return nil // it ran when the packet came
	}
	if f := a.cannotStart(); f != nil {
		return f
	}
	f := &finding{
		cause: path.CauseContainerNotRunning,
		says:  fmt.Sprintf("container %s does not run (%s)", t.Container, t.State),
	}
	if t.State == "restarting" {
		f.says = fmt.Sprintf("container %s does not run, it ends and is restarted again and again",
			t.Container)
	}
	f.evidence = a.whyStopped()
	f.remedy = []string{"docker start " + quote(t.Container)}
	switch {
	case t.State == "restarting":
		f.remedy = []string{"docker logs --tail 50 " + quote(t.Container)}
	case t.State == "exited" || t.State == "dead":
		f.remedy = append([]string{"docker logs --tail 50 " + quote(t.Container)}, f.remedy...)
	}
	return f
}

// whyStopped says what the engine knows of the end of the target.
func (a *analysis) whyStopped() []string {
	t := &a.f.Target
	var out []string
	if t.StartError != "" {
		out = append(out, "the engine could not start it: "+t.StartError)
	}
	if t.OOMKilled {
		out = append(out, "the kernel ended it for want of memory")
	}
	if t.ExitCode != 0 && (t.State == "exited" || t.State == "dead" || t.State == "restarting") {
		out = append(out, fmt.Sprintf("its process ended with exit status %d", t.ExitCode))
	}
	for _, c := range a.claims() {
		out = append(out, a.ownerFact(c.netns, c.listener)+", a port that container "+t.Container+" is to publish")
	}
	return out
}

// isStopped reports whether a container in this state has no process and no network.
func isStopped(state string) bool {
	switch state {
	case "exited", "created", "dead", "removing", "restarting":
		return true
	}
	return false
}

// explainNoSharedNetwork: asker and target are containers without a common network, and the asker used
// the target's own address.
func explainNoSharedNetwork(a *analysis, e *end) *finding {
	if e.phase == phaseData || e.phase == phaseAck || !a.sharesNothing() {
		return nil
	}
	t, s := &a.f.Target, &a.f.Source
	if a.isPublished() || e.pkt != nil && len(t.Networks) > 0 && !a.isTargetAddr(a.p.Server.Addr()) {
		return nil
	}
	f := &finding{cause: path.CauseNoSharedNetwork,
		says: fmt.Sprintf("containers %s and %s share no network", s.Container, t.Container),
		evidence: []string{
			fmt.Sprintf("container %s is on %s", s.Container, networkNames(s.Networks)),
			fmt.Sprintf("container %s is on %s", t.Container, networkNames(t.Networks)),
		},
	}
	from, to := s, t
	if len(t.Networks) == 0 {
		from, to = t, s
	}
	if len(to.Networks) > 0 {
		f.remedy = []string{fmt.Sprintf("docker network connect %s %s  # gives %[2]s one more interface, "+
			"at once", quote(to.Networks[0].Name), quote(from.Container))}
	} else {
		f.remedy = []string{fmt.Sprintf("docker network create shared && docker network connect shared "+
			"%s && docker network connect shared %s", quote(s.Container), quote(t.Container))}
	}
	return f
}

// sharesNothing reports whether both ends are containers whose networks are known and have none in
// common. A container in the host's namespace has the host's networks.
func (a *analysis) sharesNothing() bool {
	t, s := &a.f.Target, &a.f.Source
	if t.Container == "" || s.Container == "" || t.Networks == nil || s.Networks == nil ||
		t.PortKind == PortHost || t.Container == s.Container {
		return false
	}
	for _, ns := range s.NetNS {
		if slices.Contains(t.NetNS, ns) {
			return false
		}
	}
	for _, x := range s.Networks {
		for _, y := range t.Networks {
			if x.Name == y.Name || x.Name == "host" || y.Name == "host" {
				return false
			}
		}
	}
	return true
}

func networkNames(list []Network) string {
	switch len(list) {
	case 0:
		return "no network"
	case 1:
		return "network " + list[0].Name
	}
	s := "networks " + list[0].Name
	for i, n := range list[1:] {
		if i == len(list)-2 {
			s += " and " + n.Name
		} else {
			s += ", " + n.Name
		}
	}
	return s
}

// noTraffic explains that nothing of the flow was seen.
func (a *analysis) noTraffic() finding {
	e := end{}
	for _, explain := range []func(*analysis, *end) *finding{
		explainNotRunning, explainLocalError, explainProbeRefused, explainNoSharedNetwork, explainAskedPort,
	} {
		if f := explain(a, &e); f != nil {
			if f.outcome == "" {
				f.outcome = path.NoTraffic
			}
			return *f
		}
	}
	return a.silence()
}

// explainLocalError: the probe's own kernel refused to send it.
func explainLocalError(a *analysis, _ *end) *finding {
	pr := a.f.Probe
	if pr == nil || pr.Kind != ProbeLocalError {
		return nil
	}
	h := &path.Hop{Container: a.f.Source.Container}
	if len(a.f.Source.NetNS) > 0 {
		h.NetNS = a.f.Source.NetNS[0]
	}
	f := &finding{where: &path.Where{Container: h.Container, Namespace: a.space(h.NetNS).Name,
		Stage: path.StageRoute, Direction: path.Request}}
	dst := a.p.Server.Addr()
	f.evidence = []string{fmt.Sprintf("sending from %s failed with %s", a.asker(), pr.Errno)}
	if down := a.sourceUnplugged(h, dst); down != nil && pr.Errno == "ENETUNREACH" {
		down.evidence = append(f.evidence, down.evidence...)
		return down
	}
	if outside := explainOverlayOutside(a, &end{}); outside != nil {
		outside.evidence, outside.where = append(f.evidence, outside.evidence...), f.where
		return outside
	}
	if internal := a.onlyInternal(); internal != "" && pr.Errno == "ENETUNREACH" {
		return a.cannotLeave(f, internal)
	}
	a.wordLocalError(f, h, dst)
	return f
}

// wordLocalError says what an error of sending from h to dst means.
func (a *analysis) wordLocalError(f *finding, h *path.Hop, dst netip.Addr) {
	switch pr := a.f.Probe; {
	case pr.Errno == "EADDRNOTAVAIL" && dst.Is6() && !a.hasAddress6(h.NetNS):
		f.cause = path.CauseNoRoute
		f.says = fmt.Sprintf("nothing could be sent to %s, since %s has no IPv6 address", a.target(), a.asker())
		f.remedy = []string{a.command(h, "ip -6 address")}
		a.lacksFamily(f, dst)
	case pr.Errno == "ENETUNREACH", pr.Errno == "EHOSTUNREACH" && a.routeFails(h.NetNS, dst):
		f.cause = path.CauseNoRoute
		f.says = fmt.Sprintf("nothing could be sent, since %s has no route to %s", a.asker(), a.target())
		f.remedy = a.routeRemedy(&noRoute{h: h, dst: dst})
		a.lacksFamily(f, dst)
	case pr.Errno == "EHOSTUNREACH" && (pr.RoundTrip >= arpGivesUp || a.unresolved(h.NetNS, dst)):
		f.cause = path.CauseNeighbourUnresolved
		f.where.Stage = path.StageNeighbour
		f.says = fmt.Sprintf("nothing could be sent from %s: nobody answered ARP or neighbour discovery"+
			" for the next hop to %s", a.asker(), a.target())
		f.remedy = []string{a.command(h, "ip neigh")}
	default:
		f.cause = path.CauseUnexplainedDrop
		f.where.Stage = path.StageSocket
		f.says = fmt.Sprintf("nothing could be sent from %s to %s: the kernel answered %s",
			a.asker(), a.target(), pr.Errno)
		f.remedy = []string{a.command(h, "ip route"), a.command(h, "ip rule")}
	}
}

// hasAddress6 reports whether a namespace may have an IPv6 address beside its loopback's.
func (a *analysis) hasAddress6(ns uint32) bool {
	links := a.space(ns).Links
	for i := range links {
		for _, p := range links[i].Addrs {
			if p.Addr().Is6() && !p.Addr().IsLoopback() {
				return true
			}
		}
	}
	return len(links) == 0
}

// networkToJoin names a network by which another container can reach an end: one of its own, or the default
// bridge, which every host has.
func networkToJoin(e *Endpoint) string {
	for _, n := range e.Networks {
		if n.Name != "none" && n.Name != "host" {
			return n.Name
		}
	}
	return "bridge"
}

// lacksFamily adds that the source's networks give it no address with which it could reach dst.
func (a *analysis) lacksFamily(f *finding, dst netip.Addr) {
	s := &a.f.Source
	if s.Container == "" || s.HostNetwork || len(s.Networks) == 0 {
		return
	}
	family, option := "IPv4", ""
	if dst.Is6() {
		family, option = "IPv6", " --ipv6"
	}
	for _, n := range s.Networks {
		if n.Name == "none" {
			f.evidence = append(f.evidence, fmt.Sprintf("container %s is on network none: it has nothing but a loopback device", s.Container))
			f.remedy = []string{
				"docker network disconnect none " + quote(s.Container) + "  # which allows no other network beside it",
				"docker network connect " + quote(networkToJoin(&a.f.Target)) + " " + quote(s.Container),
			}
			return
		}
		for _, addr := range n.Addrs {
			if addr.Is6() == dst.Is6() {
				return
			}
		}
	}
	f.evidence = append(f.evidence, fmt.Sprintf("container %s is on %s and has no %s address", s.Container, networkNames(s.Networks), family))
	f.remedy = append(f.remedy, fmt.Sprintf("docker network create%s with-%s && docker network connect with-%[2]s %s  # a network with %s",
		option, strings.ToLower(family), quote(s.Container), family))
}

// cannotLeave completes the finding about a source whose networks are internal.
func (a *analysis) cannotLeave(f *finding, networks string) *finding {
	f.cause = path.CauseNetworkIsolation
	f.says = fmt.Sprintf("nothing could be sent, since %s is on no other network than %s, which is internal",
		a.asker(), networks)
	f.evidence = append(f.evidence, fmt.Sprintf("%s has no route to %s", a.asker(), a.target()))
	f.remedy = []string{fmt.Sprintf("docker network connect bridge %s  # a second network, which leads out of the host",
		quote(a.f.Source.Container))}
	return f
}

// onlyInternal names the networks of the source if all of them are internal: newer engines give a
// container on such networks no default route.
func (a *analysis) onlyInternal() string {
	var names []string
	for _, n := range a.f.Source.Networks {
		if !n.Internal {
			return ""
		}
		names = append(names, n.Name)
	}
	return strings.Join(names, ", ")
}

// routeFails reports whether the look-up of a route to dst is known to fail.
func (a *analysis) routeFails(ns uint32, dst netip.Addr) bool {
	for _, r := range a.space(ns).Routes {
		if r.Dst == dst && r.Err != "" {
			return true
		}
	}
	return false
}

// unresolved reports whether dst, or the gateway to it, is known not to have answered.
func (a *analysis) unresolved(ns uint32, dst netip.Addr) bool {
	n := a.neighbour(ns, dst)
	for _, r := range a.space(ns).Routes {
		if r.Dst == dst && r.Gateway.IsValid() {
			n = a.neighbour(ns, r.Gateway)
		}
	}
	return n != nil && isUnresolved(n.State)
}

// explainProbeRefused: the probe was answered although nothing of it was seen on the way.
func explainProbeRefused(a *analysis, _ *end) *finding {
	if !a.probeRefused() {
		return nil
	}
	with := "a reset"
	if m := a.icmpOfProbe(); m.isError() {
		with = "an ICMP error (" + m.meaning() + ")"
	}
	return &finding{outcome: path.Refused, cause: path.CauseUnexplainedDrop,
		where: &path.Where{Container: a.f.Source.Container, Stage: path.StageSocket,
			Direction: path.Reply},
		says: fmt.Sprintf("%s got %s, and no packet of the flow was seen on its way", a.asker(), with)}
}

// explainAskedPort: traffic to a host port was waited for that the target does not publish.
func explainAskedPort(a *analysis, _ *end) *finding {
	t := &a.f.Target
	if t.Container == "" || t.Published == nil || t.PortKind != PortHost || t.Port == 0 {
		return nil
	}
	proto := a.p.Proto
	if proto == "" {
		proto = path.TCP
	}
	asked := netip.AddrPortFrom(netip.Addr{}, t.Port)
	for _, p := range t.Published {
		if p.takes(asked, proto) {
			return nil
		}
	}
	return a.notPublished(asked, proto)
}

// silence words a trace in which nothing was seen and nothing is known to be wrong.
func (a *analysis) silence() finding {
	f := finding{outcome: path.NoTraffic}
	pr := a.f.Probe
	switch {
	case pr != nil && (pr.Kind == ProbeConnected || pr.Kind == ProbeAnswered):
		f.says = fmt.Sprintf("%s answered %s, but no packet of the flow was seen by the hooks",
			a.target(), a.asker())
		f.remedy = []string{"pathtrace hooks  # shows which hooks this kernel offers"}
	case pr != nil && pr.Kind != ProbeNone:
		f.says = fmt.Sprintf("the probe from %s to %s was not seen anywhere", a.asker(), a.target())
		f.remedy = []string{"pathtrace hooks  # shows which hooks this kernel offers"}
	case a.f.Waited > 0:
		f.says = fmt.Sprintf("no packet to %s was seen in %s", a.target(), span(a.f.Waited))
	default:
		f.says = fmt.Sprintf("no packet to %s was seen", a.target())
	}
	return f
}
