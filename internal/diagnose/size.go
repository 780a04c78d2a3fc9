package diagnose

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainTooBig: the packet is larger than a link's MTU and may not be fragmented.
func explainTooBig(a *analysis, e *end) *finding {
	if f := a.tooBigForLink(e); f != nil {
		return f
	}
	h, from := a.icmpSeen(e, icmpTooBig)
	dropped := e.drop != nil && e.drop.Reason == "PKT_TOO_BIG"
	if !dropped && from == "" {
		return nil
	}
	at := e.at()
	if h != nil {
		at = h
	}
	if dropped {
		at, from = e.drop, a.place(e.drop)
	}
	link, mtu := a.narrowLink(e, at)
	f := &finding{cause: path.CausePacketTooBig, where: whereOf(at, e.direction())}
	f.says = fmt.Sprintf("%s is too big for %s", a.subject(e), limit(link, mtu))
	if from != "" {
		f.says += " at " + from
	}
	if e.pkt != nil && e.pkt.Length > 0 {
		f.evidence = append(f.evidence, fmt.Sprintf("the packet has %d bytes from the IP header on, and "+
			"may not be fragmented", e.pkt.Length))
	}
	if x := a.lostError(e); x != nil {
		a.blackhole(f, x)
	}
	if mtu > 0 {
		f.remedy = append(f.remedy, fmt.Sprintf("give the Docker network an MTU of %d: docker network create "+
			"--opt com.docker.network.driver.mtu=%[1]d NAME (a new network; connect the containers to it)",
			mtu))
	}
	if link != "" {
		f.remedy = append(f.remedy, a.command(at, "ip -d link show "+quote(string(link))))
	}
	return f
}

// tooBigForLink explains a frame that a bridge or veth device discarded since it is larger than the
// next device's MTU (is_skb_forwardable in net/core/dev.c). At layer 2 nobody sends an ICMP error.
func (a *analysis) tooBigForLink(e *end) *finding {
	h := e.drop
	if h == nil || e.pkt == nil || hasReason(h) && h.Reason != "PKT_TOO_BIG" {
		return nil
	}
	l, ns := a.deviceOf(h), h.NetNS
	switch h.Function {
	case "br_dev_queue_push_xmit", "br_forward_finish":
	case "__dev_forward_skb", "__dev_forward_skb2", "veth_forward_skb", "veth_xmit":
		if l == nil {
			return nil
		}
		l, ns = a.link(l.PeerNetNS, l.PeerIndex), l.PeerNetNS
	default:
		return nil
	}
	if l == nil || l.MTU == 0 || e.pkt.Length <= int(l.MTU) {
		return nil
	}
	at := &path.Hop{NetNS: ns}
	f := &finding{cause: path.CauseMTUBlackhole, where: whereOf(h, e.direction()),
		says: fmt.Sprintf("%s is too big for %s in %s (MTU %d), and the sender is not told: between the devices of one"+
			" link nobody sends an ICMP error", a.subject(e), l.Name, a.place(at), l.MTU),
		evidence: []string{fmt.Sprintf("the packet has %d bytes from the IP header on", e.pkt.Length)},
		remedy:   []string{a.commandIn(ns, a.spaceContainer(ns), "ip -d link show "+quote(l.Name))}}
	if s := firstHop(e.pkt); s != nil && s.Device != "" {
		f.remedy = append(f.remedy, a.command(s, fmt.Sprintf("ip link set %s mtu %d", quote(s.Device), l.MTU))+
			"  # all devices of a link need the same MTU; lasts until the container is restarted")
	}
	return f
}

func limit(link device, mtu uint32) string {
	switch {
	case link != "" && mtu > 0:
		return fmt.Sprintf("%s (MTU %d)", link, mtu)
	case link != "":
		return string(link)
	case mtu > 0:
		return fmt.Sprintf("a link with MTU %d", mtu)
	}
	return "a link"
}

// narrowLink returns the device that limits the packet at h and its MTU, as far as they are known.
func (a *analysis) narrowLink(e *end, h *path.Hop) (device, uint32) {
	mtu := a.reportedMTU(e)
	if h == nil {
		return "", mtu
	}
	name := a.routedTo(e, h)
	if l := a.linkNamed(h.NetNS, string(name)); l != nil && l.MTU > 0 && mtu == 0 {
		mtu = l.MTU
	}
	if name == "" && mtu > 0 {
		name = a.onlyLinkOf(h.NetNS, mtu)
	}
	return name, mtu
}

// onlyLinkOf returns the device of a namespace with that MTU if there is exactly one.
func (a *analysis) onlyLinkOf(ns, mtu uint32) device {
	var found device
	for _, l := range a.space(ns).Links {
		if l.MTU != mtu {
			continue
		}
		if found != "" {
			return ""
		}
		found = device(l.Name)
	}
	return found
}

// reportedMTU returns the MTU that an ICMP error named; 0 if none did.
func (a *analysis) reportedMTU(e *end) uint32 {
	if e.icmp != nil && e.icmp.MTU > 0 {
		return e.icmp.MTU
	}
	for _, p := range a.icmpErrors(e.direction().Opposite()) {
		if h := icmpHop(p); h.MTU > 0 {
			return h.MTU
		}
	}
	if a.icmpOfProbe() == icmpTooBig {
		return a.f.Probe.MTU
	}
	return 0
}

// blackhole says what dropped the ICMP error that the sender would have needed.
func (a *analysis) blackhole(f *finding, x *end) {
	of := &finding{where: whereOf(x.drop, x.direction())}
	by := ""
	if isNetfilterDrop(x.drop) {
		by = a.byRule(x, of, a.ruling(x))
	}
	f.cause, f.outcome = path.CauseMTUBlackhole, path.Dropped // nothing came back
	f.says += fmt.Sprintf(", and the ICMP error that says so was dropped%s in %s", by, a.place(x.drop))
	f.evidence = append(f.evidence, fmt.Sprintf("the ICMP error was dropped in %s%s%s",
		a.place(x.drop), onDevice(x.drop), byFunction(x.drop)))
	if rule := of.where.Rule; rule != nil && f.where != nil {
		f.where.Rule = rule
		f.evidence = append(f.evidence, of.evidence...)
		f.remedy = append(f.remedy, of.remedy...)
	}
}

// lostError returns the end of the ICMP errors that answered the packet, if each of them was dropped.
func (a *analysis) lostError(e *end) *end {
	if a.icmpOfProbe() == icmpTooBig {
		return nil
	}
	var lost *end
	for _, p := range a.icmpErrors(e.direction().Opposite()) {
		x := a.endOf(p, phaseReply)
		if x.drop == nil {
			return nil
		}
		lost = &x
	}
	return lost
}
