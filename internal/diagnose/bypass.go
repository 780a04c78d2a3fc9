package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainBypassedLink: the device by whose subnet the packet had to leave is down. Its routes went
// with it, so the packet was sent another way or had none; whatever happened to it there is no more
// than a consequence.
func explainBypassedLink(a *analysis, e *end) *finding {
	if e.pkt == nil || e.deliver != nil || e.reset != nil {
		return nil
	}
	for i := range e.pkt.Hops {
		h := &e.pkt.Hops[i]
		if !onPath(h) || !h.DstAddr.IsValid() || h.NetNS == 0 {
			continue
		}
		l := a.downRoute(h.NetNS, h.DstAddr.Addr())
		out := a.outDevice(e, h)
		if port := a.port(h); port != nil && l != nil && port.Master == l.Index {
			return nil // on the bridge itself, where nothing is routed
		}
		if l == nil || string(out) == l.Name || !a.left(e, h) {
			continue
		}
		at := *h
		at.Device, at.Stage, at.Function, at.Reason = l.Name, path.StageRoute, "", ""
		f := a.bypassed(&at, e, l, h.DstAddr.Addr())
		if out != "" && a.outDeviceOf(h) == string(out) {
			f.evidence = append(f.evidence, fmt.Sprintf("%s was to leave %s by %s instead", a.subject(e), a.place(h), out))
		}
		return f
	}
	return nil
}

// left reports whether the packet was routed in the namespace of h with the destination that it has
// there: it ended there, or it went on elsewhere with the same.
func (a *analysis) left(e *end, h *path.Hop) bool {
	at := e.at()
	return at != nil && at.DstAddr == h.DstAddr
}

// downRoute returns the device of a namespace that is set down and whose subnet has the address, if no
// other device has a subnet for it; nil if there is none.
func (a *analysis) downRoute(ns uint32, addr netip.Addr) *Link {
	var down *Link
	links := a.space(ns).Links
	for i := range links {
		l := &links[i]
		for _, p := range l.Addrs {
			if p.IsSingleIP() || !p.Contains(addr) {
				continue
			}
			if l.Up || p.Addr() == addr {
				return nil
			}
			down = l
		}
	}
	if down == nil {
		return a.downBridgeOf(ns, addr)
	}
	return down
}

// downBridgeOf returns the bridge of a namespace that is set down and that the address is on: that of
// the device that has it, or of a Docker network. A device that is down keeps no IPv6 addresses.
func (a *analysis) downBridgeOf(ns uint32, addr netip.Addr) *Link {
	for _, p := range a.plugsOf(addr) {
		if p.host == ns && p.port != nil && p.bridge != nil && !p.bridge.Up {
			return p.bridge
		}
	}
	for _, s := range a.f.Subnets {
		if s.Prefix.Contains(addr) && slices.Contains(s.HostNetNS, ns) {
			if l := a.linkNamed(ns, s.Bridge); l != nil && !l.Up {
				return l
			}
		}
	}
	return nil
}

// bypassed words the finding that device l at h is down and that addr is reached by it.
func (a *analysis) bypassed(h *path.Hop, e *end, l *Link, addr netip.Addr) *finding {
	return &finding{
		cause: path.CauseLinkDown, where: whereOf(h, e.direction()),
		says: fmt.Sprintf("%s has no way to %s, since %s in %s, by which it is reached, is down",
			a.subject(e), addr, l.Name, a.place(h)),
		evidence: []string{fmt.Sprintf("device %s in %s is up: %t; its routes went with it", l.Name, a.place(h), l.Up)},
		remedy:   a.raise(h, l),
	}
}

// onlyLinkDown returns the device of a namespace that is set down if every device with an address,
// loopback aside, is: then the routes are gone with it.
func (a *analysis) onlyLinkDown(ns uint32) *Link {
	var down *Link
	links := a.space(ns).Links
	for i := range links {
		l := &links[i]
		switch {
		case l.Kind == "loopback" || len(l.Addrs) == 0:
		case l.Up:
			return nil
		case down == nil:
			down = l
		}
	}
	return down
}

// sourceUnplugged explains that nothing could be sent because the asker's device is down.
func (a *analysis) sourceUnplugged(h *path.Hop, dst netip.Addr) *finding {
	l := a.downRoute(h.NetNS, dst)
	if l == nil {
		l = a.onlyLinkDown(h.NetNS)
	}
	if l == nil {
		return nil
	}
	at := &path.Hop{NetNS: h.NetNS, Container: h.Container, Namespace: a.space(h.NetNS).Name, Device: l.Name,
		Stage: path.StageRoute}
	f := a.bypassed(at, &end{}, l, dst)
	f.outcome = path.NoTraffic
	f.says = fmt.Sprintf("nothing could be sent, since %s of %s is down, and its routes went with it", l.Name,
		a.asker())
	return f
}
