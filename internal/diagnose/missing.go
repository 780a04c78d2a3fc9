package diagnose

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// hookPacket is the packet of an observation as the rules of a hook saw it.
func (a *analysis) hookPacket(h *path.Hop, hook firewall.Hook) *firewall.Packet {
	p := &firewall.Packet{
		Hook: hook, In: a.inDevice(h), Out: a.outDeviceOf(h), Proto: protoNumber(a.p.Proto, a.isV6(h)),
		Src: h.SrcAddr.Addr().Unmap(), SrcPort: h.SrcAddr.Port(),
		Dst: h.DstAddr.Addr().Unmap(), DstPort: h.DstAddr.Port(),
		CT: &firewall.Conntrack{State: firewall.CTNew},
	}
	if strings.HasPrefix(string(h.Stage), "bridge-netfilter/") {
		p.In, p.Out = a.bridgeOf(h, p.In), a.bridgeOf(h, p.Out)
	}
	if h.Direction == path.Reply || a.p.Proto == path.TCP && !flagsOf(h.TCPFlags).syn {
		p.CT.State, p.CT.Reply = firewall.CTEstablished, h.Direction == path.Reply
	}
	return p
}

// bridgeOf returns the bridge that a device is a port of, or the device itself: br_netfilter shows
// bridged frames with their bridge as both devices.
func (a *analysis) bridgeOf(h *path.Hop, device string) string {
	if l := a.linkNamed(h.NetNS, device); l != nil && l.Master != 0 {
		if m := a.link(h.NetNS, l.Master); m != nil {
			return m.Name
		}
	}
	if device == h.Device || device == "" {
		return cmp.Or(h.Bridge, device)
	}
	return device
}

func protoNumber(p path.Proto, v6 bool) uint8 {
	switch {
	case p == path.TCP:
		return protoTCP
	case p == path.UDP:
		return protoUDP
	case v6:
		return protoICMPv6
	}
	return protoICMP
}

// missing returns what is known to be missing in a namespace of what is for the packet.
func (a *analysis) missing(ns uint32, p *firewall.Packet) (list []expect.Missing) {
	x := a.space(ns).Expected
	if x == nil || !p.Src.IsValid() || !p.Dst.IsValid() {
		return nil
	}
	for _, m := range x.Missing {
		if m.Covers(p) != firewall.No {
			list = append(list, m)
		}
	}
	return list
}

// stopping returns those of a list whose absence stops packets.
func stopping(list []expect.Missing, cause path.Cause) []expect.Missing {
	var out []expect.Missing
	for _, m := range list {
		if m.Cause == cause && !m.Exposes {
			out = append(out, m)
		}
	}
	return out
}

// explainRulesMissing: the packet was dropped on its way through the host, and Docker's own rule that
// would have let it pass is gone.
func explainRulesMissing(a *analysis, e *end) *finding {
	list := a.forwardMissing(e)
	if len(list) == 0 || a.byOwnRule(e) {
		return nil
	}
	f := &finding{
		cause: path.CauseDockerRulesMissing,
		says: fmt.Sprintf("%s was dropped in the FORWARD hook (netfilter) of %s%s, where Docker's own rules are "+
			"missing: %s", a.subject(e), a.place(e.drop), a.wayThrough(e), list[0].Sentence),
		where: whereOf(e.drop, e.direction()),
	}
	f.where.Stage = e.hook()
	a.explainMissing(f, e.drop.NetNS, list)
	return f
}

// explainRulesMissingToo: a rule of somebody else's dropped the packet, and without it the packet would
// end all the same, since Docker's own rule is gone. It stands behind the explainers of rules.
func explainRulesMissingToo(a *analysis, e *end) *finding {
	list := a.forwardMissing(e)
	if len(list) == 0 || !a.byOwnRule(e) {
		return nil
	}
	f := &finding{
		cause: path.CauseDockerRulesMissing, where: whereOf(e.drop, e.direction()),
		says: fmt.Sprintf("Docker's own rules are missing in %s: %s", a.place(e.drop), list[0].Sentence),
	}
	f.where.Stage = e.hook()
	a.explainMissing(f, e.drop.NetNS, list)
	return f
}

// forwardMissing returns which of Docker's rules would have let pass a packet that was dropped in the
// FORWARD hook.
func (a *analysis) forwardMissing(e *end) []expect.Missing {
	if e.drop == nil || e.pkt == nil || hookName(e.hook()) != "FORWARD" || !isNetfilterDrop(e.drop) {
		return nil
	}
	return stopping(a.missing(e.drop.NetNS, a.hookPacket(a.atHook(e), firewall.Forward)), path.CauseDockerRulesMissing)
}

// atHook returns the observation of the hook that dropped the packet that knows most of it.
func (a *analysis) atHook(e *end) *path.Hop {
	at := *e.drop
	for i := range e.pkt.Hops {
		h := &e.pkt.Hops[i]
		if !onPath(h) || h.Stage != e.hook() || !sameSpace(h, e.drop) {
			continue
		}
		at.InDevice, at.OutDevice = cmp.Or(at.InDevice, a.inDevice(h)), cmp.Or(at.OutDevice, a.outDeviceOf(h))
		if !at.SrcAddr.IsValid() {
			at.SrcAddr, at.DstAddr = h.SrcAddr, h.DstAddr
		}
		at.Stage, at.Bridge = h.Stage, cmp.Or(at.Bridge, h.Bridge)
	}
	at.Direction, at.TCPFlags = e.direction(), e.pkt.TCPFlags
	return &at
}

// explainNATMissing: the request for a published port stayed on the host, since no DNAT rule took it.
func explainNATMissing(a *analysis, e *end) *finding {
	h := e.at()
	if h == nil || e.direction() != path.Request || a.hasDNAT() {
		return nil
	}
	if hook := e.hook(); hook != "" && hookName(hook) != "INPUT" {
		return nil
	}
	list := a.dnatMissing(h.NetNS)
	if len(list) == 0 {
		return nil
	}
	f := &finding{
		cause: path.CauseNATMissing,
		says: fmt.Sprintf("%s for port %d, which %s publishes, stayed in %s: %s", a.subject(e), a.p.Server.Port(),
			a.publisher(list), a.place(h), list[0].Sentence),
		where: whereOf(h, path.Request),
	}
	a.explainMissing(f, h.NetNS, list)
	return f
}

// publisher names the container whose port is not translated.
func (a *analysis) publisher(list []expect.Missing) string {
	for _, m := range list {
		if m.Container != "" {
			return m.Container
		}
	}
	return a.target()
}

// dnatMissing returns which of the rules that should have translated the request are missing in a
// namespace.
func (a *analysis) dnatMissing(ns uint32) []expect.Missing {
	p := a.hostRequest(ns)
	if p == nil || !a.publishedIn(ns) {
		return nil
	}
	return stopping(a.missing(ns, p), path.CauseNATMissing)
}

// publishedIn reports whether the port asked for is published by the target, or the lost rule itself
// says that some container publishes it.
func (a *analysis) publishedIn(ns uint32) bool {
	if a.isPublished() {
		return true
	}
	if x := a.space(ns).Expected; x != nil && a.f.Target.Container == "" {
		for _, m := range x.Missing {
			port := m.Port
			if m.Purpose == expect.Publish && (Published{HostIP: port.HostIP, HostPort: port.HostPort,
				Proto: path.Proto(port.Proto)}).takes(a.p.Server, a.p.Proto) {
				return true
			}
		}
	}
	return false
}

// hostRequest is the request as DNAT rules of a namespace saw it, or should have seen it; nil if it
// was not seen there.
func (a *analysis) hostRequest(ns uint32) *firewall.Packet {
	for _, p := range a.packets(path.Request) {
		for i := range p.Hops {
			h := &p.Hops[i]
			if h.NetNS != ns || ns == 0 || !onPath(h) {
				continue
			}
			hook := firewall.Prerouting
			if isLocalStart(h) && h.Stage != path.StagePostrouting {
				hook = firewall.Output
			}
			fp := a.hookPacket(h, hook)
			fp.Dst, fp.DstPort = a.p.Server.Addr().Unmap(), a.p.Server.Port()
			fp.Src = a.p.Client.Addr().Unmap()
			fp.CT.State = firewall.CTNew
			if fp.Out = ""; hook == firewall.Prerouting && fp.In == "" {
				fp.In = h.Device
			}
			fp.In = a.bridgeOf(h, fp.In)
			return fp
		}
	}
	return nil
}

// heldByEngine explains a request that dockerd's own socket took: it only keeps others from the port.
func (a *analysis) heldByEngine(f *finding, s served) {
	list := a.dnatMissing(s.netns)
	if k := a.keptFromDNAT(s.netns); k != nil && len(list) == 0 {
		f.cause = path.CauseNATMissing
		f.says += ": " + k.why() + ", so Docker's DNAT rule does not see it"
		a.addKept(f, k)
		return
	}
	if a.space(s.netns).Expected != nil && len(list) == 0 {
		f.evidence = append(f.evidence, "Docker's DNAT rule for it is there: something kept the request from it, such "+
			"as a rule in the raw table that turns tracking off")
		f.remedy = []string{a.commandIn(s.netns, "", "iptables -t raw -S PREROUTING"),
			a.commandIn(s.netns, "", "iptables -t nat -L DOCKER -vn --line-numbers")}
		return
	}
	f.cause = path.CauseNATMissing
	f.says = fmt.Sprintf("dockerd in %s only holds the published port %d and never answers on it,"+
		" and no DNAT rule took the request to %s", a.spaceName(s.netns), a.p.Server.Port(), a.target())
	f.remedy = a.restoreRules(s.netns)
	if len(list) > 0 {
		a.explainMissing(f, s.netns, list)
	}
}

// explainMasquerade: the request left the host with the container's private address, and no answer
// came back from where that address means nothing, or something else.
func explainMasquerade(a *analysis, e *end) *finding {
	if !a.answerAstray(e) {
		return nil
	}
	h, n := a.leftPrivate()
	if h == nil {
		return nil
	}
	out := a.hookPacket(h, firewall.Postrouting)
	out.In, out.Out = n.Bridge, h.Device
	list := stopping(a.missing(h.NetNS, out), path.CauseMasqueradeMissing)
	f := &finding{cause: path.CauseMasqueradeMissing, where: whereOf(h, path.Request)}
	if a.wayBackFails(e) != nil {
		f.outcome = path.Lost // whatever was answered: it did not leave
	}
	f.where.Stage = path.StagePostrouting
	left := fmt.Sprintf("the request from %s left %s through %s with the private address %s, to which no "+
		"answer finds back", a.asker(), a.place(h), h.Device, h.SrcAddr.Addr())
	f.evidence = []string{fmt.Sprintf("%s in %s sent it as %s to %s", h.Device, a.place(h), address(h.SrcAddr),
		address(h.DstAddr))}
	switch {
	case len(list) > 0:
		f.says = left + ": " + list[0].Sentence
		a.explainMissing(f, h.NetNS, list)
	case !n.Masquerade:
		f.says = fmt.Sprintf("%s: network %s was made without masquerading", left, n.Name)
		f.remedy = []string{
			"docker network inspect -f '{{json .Options}}' " + quote(n.Name) + "  # enable_ip_masquerade is false",
			"make the network anew without that option, or give the other hosts a route to its subnet",
		}
	case !a.unmasked(f, h, n, left):
		return nil
	}
	return f
}

// unmasked words that a network is not masqueraded although it was not made so: its engine makes no
// rules for the family, or the network is routed. It returns false if neither is the case.
func (a *analysis) unmasked(f *finding, h *path.Hop, n *expect.Network, left string) bool {
	v6, mode, subnet := a.isV6(h), n.Mode4, n.SubnetOf(h.SrcAddr.Addr())
	if v6 {
		mode = n.Mode6
	}
	route := fmt.Sprintf("ip route add %s via %s  # on the other hosts: then answers find back", subnet,
		cmp.Or(a.addrOf(h.NetNS, h.Device, v6), "THIS_HOST"))
	switch {
	case mode == expect.Routed:
		f.says = fmt.Sprintf("%s: network %s is routed (gateway_mode=routed), so the others need a route to %s", left, n.Name, subnet)
		f.remedy = []string{route}
	case v6 && a.space(h.NetNS).Expected.NoIPv6:
		f.says = left + ": the engine makes no rules for IPv6 (ip6tables is off), so nothing masquerades network " + n.Name
		f.remedy = []string{`set "ip6tables": true and "experimental": true in /etc/docker/daemon.json and restart docker` +
			"  # the default from Docker 27 on", route}
	default:
		return a.exempted(f, h, left)
	}
	return true
}

// exempted words that a rule kept the request from the MASQUERADE rule that is there.
func (a *analysis) exempted(f *finding, h *path.Hop, left string) bool {
	k := a.keptFromSNAT(h.NetNS)
	if k == nil {
		return false
	}
	f.says = left + ": " + k.why() + ", so the network's MASQUERADE rule does not see it"
	a.addKept(f, k)
	return true
}

// addrOf returns an address of a device, "" if none is known.
func (a *analysis) addrOf(ns uint32, device string, v6 bool) string {
	l := a.linkNamed(ns, device)
	if l == nil {
		return ""
	}
	for _, p := range l.Addrs {
		if p.Addr().Is6() == v6 && p.Addr().IsGlobalUnicast() {
			return p.Addr().String()
		}
	}
	return ""
}

// answerAstray reports whether the end is one that a wrong source address explains: nothing came
// back, the answer ended on its way, or the source was not accepted.
func (a *analysis) answerAstray(e *end) bool {
	switch {
	case e.pkt == nil:
		return false
	case e.direction() == path.Reply || e.phase == phaseAck || a.wayBackFails(e) != nil || a.lostRefusal() != nil:
		return true
	case e.drop != nil:
		return e.drop.Reason == "IP_RPFILTER" || strings.HasPrefix(e.drop.Reason, "IP_LOCAL_SOURCE") ||
			strings.HasPrefix(e.drop.Reason, "IP_INVALID_SOURCE")
	}
	return e.reset == nil && e.icmp == nil && e.held == "" && a.outcomeOf(e) == path.Lost
}

// leftPrivate returns the observation of the request leaving a host with an address of one of its
// Docker networks, and that network.
func (a *analysis) leftPrivate() (*path.Hop, *expect.Network) {
	for _, p := range a.packets(path.Request) {
		for i := range p.Hops {
			h := &p.Hops[i]
			x := a.space(h.NetNS).Expected
			if x == nil || !onPath(h) || h.Action != path.ActionTransmit || h.Outer != nil || !isWayOut(h) {
				continue
			}
			if n := networkOf(x.Networks, h.SrcAddr.Addr()); n != nil && !n.Internal &&
				networkOf(x.Networks, h.DstAddr.Addr()) == nil && h.Device != n.Bridge {
				return h, n
			}
		}
	}
	return nil, nil
}

// isWayOut reports whether the device of an observation is neither a bridge of the host nor a port of
// one, nor the host's own loopback.
func isWayOut(h *path.Hop) bool {
	return h.Device != "" && h.Bridge == "" && h.Network == "" && h.DeviceKind != "bridge" &&
		h.DeviceKind != "loopback" && h.Device != "lo"
}

// networkOf returns the network whose subnet holds addr, or nil.
func networkOf(list []expect.Network, addr netip.Addr) *expect.Network {
	for i := range list {
		if list[i].SubnetOf(addr).IsValid() {
			return &list[i]
		}
	}
	return nil
}
