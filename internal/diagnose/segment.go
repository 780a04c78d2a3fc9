package diagnose

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// plug is a device with what it is plugged into: a container's device leads to a port of a bridge, a
// bridge is one itself.
type plug struct {
	ns     uint32 // of the device
	dev    *Link
	host   uint32 // the namespace of port and bridge; 0 if the device leads nowhere known
	port   *Link  // the bridge's end; nil if dev is the bridge
	bridge *Link  // nil if the port is none of a bridge
}

// plugOf follows a device to its bridge.
func (a *analysis) plugOf(ns uint32, dev *Link) plug {
	p := plug{ns: ns, dev: dev}
	switch {
	case dev == nil:
	case dev.Kind == "bridge":
		p.host, p.bridge = ns, dev
	case dev.Master != 0:
		p.host, p.port, p.bridge = ns, dev, a.link(ns, dev.Master)
	case dev.Kind == "veth" && dev.PeerNetNS != 0:
		if p.port = a.link(dev.PeerNetNS, dev.PeerIndex); p.port != nil {
			p.host, p.bridge = dev.PeerNetNS, a.link(dev.PeerNetNS, p.port.Master)
		}
	}
	return p
}

// fault is what keeps frames from getting from one device to another.
type fault struct {
	cause    path.Cause
	ns       uint32
	dev      *Link
	says     string // "vethW in host is down"
	evidence []string
	remedy   []string
}

// frame is what has to get over a bridge.
type frame uint8

const (
	frameKnown    frame = iota // for a MAC address that the bridge may have learned
	frameUnknown               // for one that it has not: no port was left to send it to
	frameQuestion              // to all: who has an IPv4 address?
)

// floodFault reports a port that does not get what the bridge sends to all ports.
func (a *analysis) floodFault(to plug, f frame) *fault {
	if to.port == nil || to.port.Port == nil {
		return nil
	}
	what, setting := "", ""
	switch {
	case f == frameQuestion && !to.port.Port.BroadcastFlood:
		what, setting = "broadcasts, ARP questions among them", "bcast_flood"
	case f == frameUnknown && !to.port.Port.Flood:
		what, setting = "frames for MAC addresses that the bridge has not learned", "flood"
	default:
		return nil
	}
	return &fault{
		cause: path.CauseBridgePortBlocked, ns: to.host, dev: to.port,
		says:   fmt.Sprintf("bridge port %s in %s gets no %s", to.port.Name, a.spaceName(to.host), what),
		remedy: []string{a.commandIn(to.host, "", "bridge link set dev "+quote(to.port.Name)+" "+setting+" on")},
	}
}

// segmentFault finds what keeps the frames of one plug from another that should be on the same
// bridge, in the order of their way; nil if nothing is known to be wrong, or if the two are known to
// be on different bridges: nothing says then that they should not be.
func (a *analysis) segmentFault(from, to plug, f frame) *fault {
	if from.host == 0 || from.host != to.host {
		return nil
	}
	bridge := from.bridge
	if bridge == nil {
		bridge = to.bridge
	}
	if bridge == nil || to.bridge != nil && to.bridge.Index != bridge.Index {
		return nil
	}
	checks := []func() *fault{
		func() *fault { return a.downFault(from.ns, from.dev, from) },
		func() *fault { return a.portFault(from, bridge) },
		func() *fault { return a.downFault(from.host, bridge, plug{}) },
		func() *fault { return a.isolationFault(from, to) },
		func() *fault { return a.portFault(to, bridge) },
		func() *fault { return a.floodFault(to, f) },
		func() *fault { return a.downFault(to.ns, to.dev, to) },
	}
	for _, check := range checks {
		if f := check(); f != nil {
			return f
		}
	}
	return nil
}

// downFault reports a device that is set down. One that only lacks a carrier is the victim of its
// other end, which is looked at by itself.
func (a *analysis) downFault(ns uint32, l *Link, p plug) *fault {
	if l == nil || l.Up && (l.Carrier || l.Kind == "bridge" || p.port != nil) {
		return nil
	}
	at := &path.Hop{NetNS: ns}
	state := "is down"
	if l.Up {
		state = "has no carrier, its other end is down"
	}
	return &fault{
		cause: path.CauseLinkDown, ns: ns, dev: l,
		says: fmt.Sprintf("%s in %s %s", l.Name, a.place(at), state),
		evidence: []string{fmt.Sprintf("device %s in %s is up: %t, carrier: %t",
			l.Name, a.place(at), l.Up, l.Carrier)},
		remedy: a.raise(at, l),
	}
}

// portFault reports a port that is down, is none of the bridge, or may not forward.
func (a *analysis) portFault(p plug, bridge *Link) *fault {
	if p.port == nil {
		return nil
	}
	if !p.port.Up {
		return a.downFault(p.host, p.port, plug{})
	}
	at := a.spaceName(p.host)
	if p.bridge == nil {
		return &fault{
			cause: path.CauseNotBridged, ns: p.host, dev: p.port,
			says: fmt.Sprintf("%s in %s, which leads to %s, is not a port of bridge %s", p.port.Name, at,
				a.spaceName(p.ns), bridge.Name),
			remedy: []string{a.commandIn(p.host, "", "ip link set "+quote(p.port.Name)+" master "+
				quote(bridge.Name))},
		}
	}
	s := p.port.Port
	if s == nil || !isBlocked(s.State) {
		return nil
	}
	return &fault{
		cause: path.CauseBridgePortBlocked, ns: p.host, dev: p.port,
		says: fmt.Sprintf("port %s of bridge %s in %s does not forward, its spanning tree state is %s",
			p.port.Name, bridge.Name, at, s.State),
		remedy: []string{
			a.commandIn(p.host, "", "bridge -d link show dev "+quote(p.port.Name)),
			a.commandIn(p.host, "", "ip link set "+quote(bridge.Name)+" type bridge stp_state 0") +
				"  # for a bridge without loops only",
		},
	}
}

// isBlocked reports whether a spanning tree state keeps frames back. A disabled port is one that is
// down.
func isBlocked(state string) bool {
	return state == "listening" || state == "learning" || state == "blocking"
}

// isolationFault reports two ports that may not exchange frames.
func (a *analysis) isolationFault(from, to plug) *fault {
	if from.port == nil || to.port == nil || from.port.Port == nil || to.port.Port == nil {
		return nil
	}
	x, y := from.port, to.port
	at := a.spaceName(from.host)
	f := &fault{cause: path.CauseBridgePortBlocked, ns: from.host, dev: y}
	set := func(setting string) []string {
		return []string{a.commandIn(from.host, "", "bridge link set dev "+quote(f.dev.Name)+" "+setting)}
	}
	switch {
	case x.Index == y.Index && !x.Port.Hairpin:
		f.says = fmt.Sprintf("bridge port %s in %s may not send a frame back out of itself (hairpin is off)",
			x.Name, at)
		f.remedy = set("hairpin on")
	case x.Index != y.Index && x.Port.Isolated && y.Port.Isolated:
		f.says = fmt.Sprintf("bridge ports %s and %s in %s are both isolated", x.Name, y.Name, at)
		f.remedy = set("isolated off")
	case x.Port.Locked:
		f.dev = x
		f.says = fmt.Sprintf("bridge port %s in %s is locked: it takes frames of entered senders only",
			x.Name, at)
		f.remedy = set("locked off")
	default:
		return nil
	}
	return f
}
