package diagnose

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// phase is the part of an exchange that a packet belongs to.
type phase uint8

const (
	phaseRequest phase = iota
	phaseReply
	phaseAck  // the last packet of the TCP handshake
	phaseData // after the TCP handshake
)

// end is how far one packet came. A hop is nil if there was no such observation; all of them are on
// the packet's own path.
type end struct {
	pkt     *path.Packet
	phase   phase
	drop    *path.Hop // the kernel discarded it
	reset   *path.Hop // the kernel answered it with an RST
	icmp    *path.Hop // the kernel answered it with an ICMP error
	deliver *path.Hop // a socket took it
	last    *path.Hop // last observation that is not a drop or an answer
	// held is the netfilter hook that the packet entered and did not leave; "" if none.
	held path.Stage
	// rst and err are the reset and the ICMP error that travelled back to the asker.
	rst, err *path.Packet
}

// endOf reads how far a packet came.
func (a *analysis) endOf(p *path.Packet, ph phase) end {
	e := end{pkt: p, phase: ph}
	for i := range p.Hops {
		h := &p.Hops[i]
		if !onPath(h) || isForOther(p, i) {
			continue
		}
		switch {
		case h.Action == path.ActionDrop:
			if e.deliver == nil && !a.isBystander(h) {
				e.drop = h
			}
		case h.Action == path.ActionReset:
			e.reset = h
		case h.Action == path.ActionReject, h.ICMP != "" && !p.ICMPError:
			if a.icmpOf(h).isError() || h.Action == path.ActionReject && h.ICMP == "" {
				e.icmp = h
			}
		default:
			e.see(h)
		}
	}
	return e
}

// isForOther reports whether the hop is a device's receipt of a frame that its namespace then discarded,
// since it carries another MAC address: the packet did not come there.
func isForOther(p *path.Packet, i int) bool {
	h := &p.Hops[i]
	if h.Stage != path.StageDevice || h.Action != path.ActionReceive {
		return false
	}
	for j := i + 1; j < len(p.Hops); j++ {
		d := &p.Hops[j]
		if d.NetNS == h.NetNS && d.Device == h.Device {
			return d.Action == path.ActionDrop && d.Noise && isOtherHost(d)
		}
	}
	return false
}

// isOtherHost reports whether a frame was discarded for its MAC address. Kernels without drop reasons
// (before 5.17) give the function only.
func isOtherHost(h *path.Hop) bool {
	switch h.Function {
	case "ip_rcv_core", "ip6_rcv_core", "ipv6_rcv":
		return h.Reason == "OTHERHOST" || h.Reason == ""
	}
	return h.Reason == "OTHERHOST"
}

// see takes in an observation on the packet's way.
func (e *end) see(h *path.Hop) {
	if e.drop != nil && isLookup(h) {
		return // not the packet itself: somebody asks for the same route
	}
	if e.drop != nil {
		// It went on: what was dropped was not this packet but an earlier form of it.
		e.drop = nil
	}
	if h.Action == path.ActionDeliver {
		e.deliver = h
	}
	if isLookup(h) && e.held != "" && sameSpace(h, e.last) {
		return // made by a rule, or on behalf of one: the packet is still in the hook
	}
	e.held = ""
	if h.Action == path.ActionEnter && isNetfilter(h.Stage) {
		e.held = h.Stage
	}
	e.last = h
}

// isBystander reports whether the drop is that of a frame flooded to a container it is not meant for.
func (a *analysis) isBystander(h *path.Hop) bool {
	return h.Reason == "OTHERHOST" && len(a.f.Target.NetNS) > 0 &&
		!slices.Contains(a.f.Target.NetNS, h.NetNS)
}

// hook returns the netfilter hook at which the packet ended, or "".
func (e *end) hook() path.Stage {
	switch {
	case e.drop != nil && isNetfilter(e.drop.Stage):
		return e.drop.Stage
	case e.held == "" || e.last == nil:
		return ""
	case e.drop != nil && !sameSpace(e.drop, e.last):
		return ""
	case e.drop != nil && !isNetfilterDrop(e.drop):
		return ""
	}
	return e.held
}

// sameSpace reports whether two observations may be of one namespace; 0 is unknown.
func sameSpace(x, y *path.Hop) bool {
	return x.NetNS == 0 || y.NetNS == 0 || x.NetNS == y.NetNS
}

// at returns the hop that best names the place of the end, or nil.
func (e *end) at() *path.Hop {
	switch {
	case e.drop != nil:
		return e.drop
	case e.reset != nil:
		return e.reset
	case e.icmp != nil:
		return e.icmp
	}
	return e.last
}

// answered reports whether something came back that refuses the packet.
func (e *end) answered() bool {
	return e.reset != nil || e.icmp != nil && e.icmp.Outer == nil || e.rst != nil || e.err != nil
}

// direction returns the direction of the packet that ended.
func (e *end) direction() path.Direction {
	if e.pkt == nil {
		return path.Request
	}
	return e.pkt.Direction
}

// decisive returns the end of the packet that decides an exchange that did not succeed: of the phase
// that came farthest, the last attempt that is known to have ended somewhere.
func (a *analysis) decisive() end {
	pool, ph := a.farthest()
	var best end
	for _, p := range pool {
		e := a.endOf(p, ph)
		if best.pkt == nil || e.beats(&best) {
			best = e
		}
	}
	if best.pkt != nil && best.direction() == path.Request {
		best.rst = first(a.resets(path.Reply))
		best.err = first(a.icmpErrors(path.Reply))
	}
	return best
}

// beats reports whether e, a later attempt than b, says more about where the flow ends.
func (e *end) beats(b *end) bool {
	known := e.drop != nil || e.reset != nil || e.icmp != nil
	was := b.drop != nil || b.reset != nil || b.icmp != nil
	if known {
		return true
	}
	return len(e.pkt.Hops) > len(b.pkt.Hops) || !was && len(e.pkt.Hops) == len(b.pkt.Hops) &&
		e.deliver != nil && b.deliver == nil
}

func first(list []*path.Packet) *path.Packet {
	for _, p := range list {
		if firstHop(p) != nil {
			return p
		}
	}
	return nil
}

// farthest returns the packets of the phase that the exchange reached.
func (a *analysis) farthest() ([]*path.Packet, phase) {
	requests, replies := a.packets(path.Request), a.packets(path.Reply)
	if a.p.Proto == path.TCP && len(replies) > 0 {
		if acks := handshakeAcks(requests, replies); len(acks) > 0 {
			return acks, phaseAck
		}
	}
	if len(replies) > 0 {
		return replies, phaseReply
	}
	return requests, phaseRequest
}

// handshakeAcks returns the requests that acknowledge a SYN-ACK.
func handshakeAcks(requests, replies []*path.Packet) []*path.Packet {
	opened := false
	for _, p := range replies {
		fl := flagsOf(p.TCPFlags)
		opened = opened || fl.syn && fl.ack
	}
	if !opened {
		return nil
	}
	var out []*path.Packet
	for _, p := range requests {
		if fl := flagsOf(p.TCPFlags); fl.ack && !fl.syn {
			out = append(out, p)
		}
	}
	return out
}
