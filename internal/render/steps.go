package render

import (
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// stepKind tells what a step means for the packet.
type stepKind uint8

// The kinds of steps.
const (
	stepPass    stepKind = iota // it went on: sent, received, bridged, forwarded, encapsulated
	stepNAT                     // an address was translated
	stepDeliver                 // a socket took it
	stepRefuse                  // it was answered with a rejection, a reset or an ICMP error
	stepDrop                    // it was discarded, or there was no way on
	stepNote                    // a remark about several packets: sent again, closed, not shown
)

// step is one thing that happened to a packet, as a person sees it.
type step struct {
	// OffsetNS is the time since the flow's first observation, ns.
	OffsetNS int64
	// Device on which it happened, the one it left by if there are two; may be empty.
	Device string
	Text   string
	// Note is detail that is shown if there is room for it.
	Note string
	Kind stepKind
	// Packet is the path.Packet.ID that the step is about; 0 for a note about several.
	Packet int
}

// group is the steps at one place.
type group struct {
	// Section is the part of the exchange: "request", "reply", "request, 2nd attempt", "then".
	Section   string
	Direction path.Direction
	// Where is the place: "container web", "host", "netns X"; empty for notes.
	Where string
	Steps []step
}

// steps compresses the hops of a path to steps grouped by place, in the order in which they
// happened. Packets that neither open, close nor reset the flow, nor were dropped, are only counted
// in a note; with all every packet is shown on its own and nothing is folded.
func steps(p *path.Path, all bool) []group {
	if p == nil {
		return nil
	}
	e := newExchange(p)
	for _, pkt := range inOrder(p.Packets) {
		if all {
			e.show(pkt, string(pkt.Direction)+", packet "+strconv.Itoa(pkt.ID)+": "+noun(p, pkt))
			continue
		}
		e.packet(pkt)
	}
	if !all {
		e.finish()
	}
	return e.groups()
}

// shownPackets selects the packets of a path to show: with all every one, else those that open the
// flow, close or reset it, ICMP errors about it, and every dropped one.
func shownPackets(p *path.Path, all bool) []*path.Packet {
	if p == nil {
		return nil
	}
	var out []*path.Packet
	r := roles{proto: p.Proto}
	for _, pkt := range inOrder(p.Packets) {
		if role := r.of(pkt); all || role != roleData || failed(pkt) {
			out = append(out, pkt)
		}
	}
	return out
}

// inOrder returns the packets by the time they were first seen.
func inOrder(packets []*path.Packet) []*path.Packet {
	out := slices.DeleteFunc(slices.Clone(packets), func(p *path.Packet) bool { return p == nil || len(p.Hops) == 0 })
	slices.SortStableFunc(out, func(a, b *path.Packet) int {
		switch at, bt := a.Hops[0].TimeNS, b.Hops[0].TimeNS; {
		case at < bt:
			return -1
		case at > bt:
			return 1
		}
		return 0
	})
	return out
}

// failed reports whether the packet was discarded, rejected or found no way.
func failed(pkt *path.Packet) bool {
	if isRedirect(pkt) {
		return false
	}
	for i := range pkt.Hops {
		h := &pkt.Hops[i]
		if h.Copy || h.Noise {
			continue
		}
		if h.Action == path.ActionDrop || h.Action == path.ActionReject || h.Error != "" {
			return true
		}
	}
	return false
}

// isRedirect reports whether the packet advises its receiver of a shorter way. A load balancer that sends
// packets back through the device they came by does so, and nothing depends on it.
func isRedirect(pkt *path.Packet) bool {
	return pkt.ICMPError && strings.HasSuffix(icmpText(pkt), "(redirect)")
}

// roles gives the packets of a flow their roles, in order.
type roles struct {
	proto                       path.Proto
	opened, answered, confirmed bool
}

// of returns the role of the next packet.
func (r *roles) of(pkt *path.Packet) role {
	if isRedirect(pkt) {
		return roleData
	}
	if pkt.ICMPError {
		return roleError
	}
	if r.proto != path.TCP {
		return r.datagram(pkt)
	}
	got := tcpRole(pkt.TCPFlags)
	switch {
	case got == roleAnswer:
		r.answered = true
	case got == roleData && r.answered && !r.confirmed && pkt.Direction == path.Request:
		r.confirmed = true
		return roleConfirm
	}
	return got
}

// datagram returns the role of a packet of a protocol without connections: the first one each way
// opens and answers.
func (r *roles) datagram(pkt *path.Packet) role {
	switch {
	case pkt.Direction == path.Request && !r.opened:
		r.opened = true
		return roleOpen
	case pkt.Direction == path.Reply && !r.answered:
		r.answered = true
		return roleAnswer
	}
	return roleData
}
