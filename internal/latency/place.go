package latency

import (
	"strings"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// place is where and as what a packet was observed. It is comparable and serves as a map key.
type place struct {
	stage            path.Stage
	action           path.Action
	netns            uint32
	ifindex, in, out uint32
	device           string
	tunnelled        bool
	// same: it is of the same event as the place before, so no time lies between them.
	same bool
}

func placeOf(s *flow.Step, same bool) place {
	return place{
		stage: s.Stage, action: s.Action, netns: s.NetNS, ifindex: s.Ifindex, in: s.In, out: s.Out, device: s.Device,
		tunnelled: s.Tunnelled, same: same,
	}
}

// isHook reports whether the place is a netfilter hook, br_netfilter's included.
func (p *place) isHook() bool { return strings.Contains(string(p.stage), "netfilter/") }

// isBridged reports whether it is one of br_netfilter's.
func (p *place) isBridged() bool { return strings.HasPrefix(string(p.stage), "bridge-netfilter/") }

// enters reports whether a hook begins here.
func (p *place) enters() bool { return p.isHook() && p.action == path.ActionEnter }

// ends reports whether a packet's way ends here: its socket comes next. The INPUT of a bridge or of a
// tunnel's packet is no end.
func (p *place) ends() bool {
	return p.action == path.ActionDeliver ||
		p.stage == path.StageInput && !p.enters() && !p.tunnelled && p.action != path.ActionDrop && p.action != path.ActionReject
}

func (p *place) is(action path.Action) bool { return p.action == action }

// String returns "stage action".
func (p *place) String() string { return string(p.stage) + " " + string(p.action) }

// classifier tells the kind of each interval of a way.
type classifier struct {
	places []place
	// kindOf names the kind of a device, such as "veth"; it may be nil.
	kindOf DeviceKind
	// unknown is set once a kind was asked for that is not known yet.
	unknown bool
	// firstReceive is the index of the first receiving device, lastTransmit that of the last sending
	// one outside of a tunnel: before the one is the sender's stack, after the other the receiver's.
	firstReceive, lastTransmit int
}

func newClassifier(places []place, kindOf DeviceKind) *classifier {
	c := &classifier{places: places, kindOf: kindOf, firstReceive: len(places), lastTransmit: -1}
	for i := range places {
		p := &places[i]
		if p.is(path.ActionReceive) && c.firstReceive == len(places) {
			c.firstReceive = i
		}
		if p.is(path.ActionTransmit) || p.is(path.ActionQueue) {
			c.lastTransmit = i
		}
	}
	return c
}

// kind returns the kind of the interval from place i to the next; "" if it is none because both are of
// one event.
func (c *classifier) kind(i int) path.SegmentKind {
	a, b := &c.places[i], &c.places[i+1]
	switch {
	case b.same:
		return ""
	case a.enters():
		return path.SegmentNetfilter
	case a.is(path.ActionQueue) && b.is(path.ActionTransmit):
		return path.SegmentQdisc
	case c.encapsulates(i):
		return path.SegmentEncapsulation
	case a.is(path.ActionTransmit):
		return c.crossing(a, b)
	case c.decapsulates(i):
		return path.SegmentDecapsulation
	case a.is(path.ActionReceive) && c.isBridging(a, b), a.isBridged():
		return path.SegmentBridge
	case i < c.firstReceive:
		return path.SegmentSender
	case i > c.lastTransmit:
		return path.SegmentReceiver
	}
	return path.SegmentRouting
}

// encapsulates reports whether the outer packet is being made: from the tunnel's device to the outer
// packet's own.
func (c *classifier) encapsulates(i int) bool {
	a, b := &c.places[i], &c.places[i+1]
	if b.is(path.ActionEncapsulate) {
		return true
	}
	return a.tunnelled && b.tunnelled && !a.is(path.ActionTransmit) && !a.is(path.ActionReceive) && !c.received(i)
}

// decapsulates reports whether the outer packet was received and is being opened.
func (c *classifier) decapsulates(i int) bool {
	a, b := &c.places[i], &c.places[i+1]
	if b.is(path.ActionDecapsulate) {
		return true
	}
	return a.tunnelled && b.tunnelled && c.received(i)
}

// received reports whether the tunnel's packet was received by a device before or at i.
func (c *classifier) received(i int) bool {
	for ; i >= 0 && c.places[i].tunnelled; i-- {
		if c.places[i].is(path.ActionReceive) {
			return true
		}
	}
	return false
}

// crossing is the kind of what follows a device's transmission.
func (c *classifier) crossing(a, b *place) path.SegmentKind {
	kind := c.device(a)
	switch {
	case kind == "bridge" && a.netns == b.netns:
		return path.SegmentBridge
	case b.is(path.ActionReceive) && a.tunnelled:
		return path.SegmentWire
	case b.is(path.ActionReceive) && kind == "physical":
		return path.SegmentWire
	case b.is(path.ActionReceive):
		return path.SegmentVeth
	case b.is(path.ActionQueue), b.is(path.ActionTransmit):
		return path.SegmentDevice
	}
	return path.SegmentOther
}

// isBridging reports whether the frame that a received stays on layer 2.
func (c *classifier) isBridging(a, b *place) bool {
	switch {
	case b.isBridged():
		return true
	case b.is(path.ActionReceive) && a.netns == b.netns && c.device(b) == "bridge":
		return true // up to the bridge's own device
	case (b.is(path.ActionQueue) || b.is(path.ActionTransmit)) && a.netns == b.netns:
		return true // without a hook of the IP families between them it was not routed
	}
	return false
}

func (c *classifier) device(p *place) string {
	if c.kindOf == nil || p.ifindex == 0 {
		return ""
	}
	kind, ok := c.kindOf(p.netns, p.ifindex, p.device)
	c.unknown = c.unknown || !ok
	return kind
}

// queue names what packets wait in on an interval of that kind.
func queue(k path.SegmentKind) string {
	switch k {
	case path.SegmentQdisc:
		return "qdisc"
	case path.SegmentVeth:
		return "backlog"
	}
	return ""
}
