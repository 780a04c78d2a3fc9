package diagnose

import (
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// served says whether a socket took the request and, where the protocol demands it, whether its
// answer reached the asker.
type served struct {
	ok       bool
	answered bool   // an answer reached the asker
	netns    uint32 // whose socket took it; 0 if not seen
}

// served judges the flow as a whole.
func (a *analysis) served() served {
	if a.p.Proto == path.TCP {
		return a.servedTCP()
	}
	s := served{netns: a.p.DeliverNetNS, answered: a.replyArrived()}
	if s.netns == 0 {
		s.netns = a.deliveredIn()
	}
	s.ok = s.answered
	if a.p.Proto == path.UDP {
		// A datagram is delivered when the socket has it; a service need not answer. But an
		// answer that was seen and did not arrive is a failure.
		s.ok = s.ok || s.netns != 0 && len(a.packets(path.Reply)) == 0
	}
	return s
}

func (a *analysis) servedTCP() served {
	s := served{netns: a.p.ServerNetNS}
	if s.netns == 0 {
		s.netns = a.p.DeliverNetNS
	}
	switch {
	case a.p.ServerEstablished != 0:
		// The child socket becomes established by the asker's ACK of the SYN-ACK.
		s.ok = true
	case a.p.Midstream:
		s.ok = a.replyArrived() && a.anyPassed(a.packets(path.Request))
	default:
		s.ok = a.handshakeDone() && a.overflow() == nil
	}
	s.answered = s.ok
	return s
}

// handshakeDone reports whether the asker got the SYN-ACK and its ACK was not stopped.
func (a *analysis) handshakeDone() bool {
	acks := handshakeAcks(a.packets(path.Request), a.packets(path.Reply))
	if len(acks) > 0 {
		return a.anyPassed(acks)
	}
	pr := a.f.Probe
	return a.p.ClientEstablished != 0 || pr != nil && pr.Kind == ProbeConnected
}

// anyPassed reports whether one of the packets was not stopped anywhere.
func (a *analysis) anyPassed(list []*path.Packet) bool {
	for _, p := range list {
		if e := a.endOf(p, phaseData); e.passed() {
			return true
		}
	}
	return false
}

// passed reports whether nothing is known to have stopped the packet.
func (e *end) passed() bool {
	return e.drop == nil && e.reset == nil && e.icmp == nil && e.held == "" && e.last != nil &&
		!(isLookup(e.last) && e.last.Error != "" && e.last.Direction == e.direction())
}

// replyArrived reports whether an answer reached the asker.
func (a *analysis) replyArrived() bool {
	if pr := a.f.Probe; pr != nil && (pr.Kind == ProbeAnswered || pr.Kind == ProbeConnected) {
		return true
	}
	return a.lastArrival() != nil
}

// lastArrival returns the last observation of the latest reply that reached the asker, or nil.
func (a *analysis) lastArrival() *path.Hop {
	var latest *path.Hop
	for _, p := range a.packets(path.Reply) {
		e := a.endOf(p, phaseReply)
		if a.arrived(&e) && hopTime(e.last) >= hopTime(latest) {
			latest = e.last
		}
	}
	return latest
}

// arrived reports whether a reply came to where the request was first seen: to the asker's socket or
// namespace, or out of the device that the request came in by.
func (a *analysis) arrived(e *end) bool {
	if !e.passed() {
		return false
	}
	if e.deliver != nil {
		return true
	}
	origin := a.origin()
	if slices.Contains(a.f.Source.NetNS, e.last.NetNS) || origin != nil && isLocalStart(origin) &&
		origin.NetNS == e.last.NetNS {
		return a.tookIn(e)
	}
	if origin == nil {
		return len(a.f.Source.NetNS) == 0
	}
	return !isLocalStart(origin) && origin.NetNS == e.last.NetNS && e.last.Action == path.ActionTransmit
}

// tookIn reports whether a packet that ended in the namespace it is meant for was handed to the local
// stack there. Where hooks report, passing INPUT is the proof; the asker may be a router at the same
// time.
func (a *analysis) tookIn(e *end) bool {
	h := e.last
	switch h.Stage {
	case path.StageInput, path.StageTCP, path.StageUDP, path.StageICMP, path.StageSocket:
		return true
	}
	if h.Action != path.ActionReceive || a.hooked(h.NetNS) {
		return false
	}
	return !h.Fragment || reassembled(e.pkt, h)
}

// hooked reports whether the netfilter hooks that a received packet meets were seen to report in a
// namespace. Others tell nothing about those: AppArmor and SELinux watch what is sent in every
// namespace, and a hook that nobody watches is not entered.
func (a *analysis) hooked(ns uint32) bool {
	for _, p := range a.p.Packets {
		if p == nil {
			continue
		}
		for i := range p.Hops {
			h := &p.Hops[i]
			incoming := h.Stage == path.StagePrerouting || h.Stage == path.StageInput
			if h.NetNS == ns && incoming && h.Action != path.ActionDrop {
				return true
			}
		}
	}
	return false
}

// reassembled reports whether the fragments of a packet became one again in the namespace that received
// them at h: all that were sent last came, or they were freed with the whole, when it was read, while
// those that wait for another one are dropped one by one. Newer kernels say nothing of the former.
func reassembled(p *path.Packet, h *path.Hop) bool {
	for i := range p.Hops {
		if o := &p.Hops[i]; o.NetNS == h.NetNS && o.Fragment && o.Noise && o.Action == path.ActionDrop {
			return true
		}
	}
	var sender *path.Hop // of the first fragment that was received
	for i := range p.Hops {
		o := &p.Hops[i]
		if sameFragments(o, h) {
			break
		}
		if o.Fragment && o.Action == path.ActionTransmit {
			sender = o
		}
	}
	if sender == nil {
		return false
	}
	came := fragmentBytes(p, h)
	return came > 0 && came == fragmentBytes(p, sender)
}

// sameFragments reports whether both are fragments of a packet at one place.
func sameFragments(a, b *path.Hop) bool {
	return a.Fragment && b.Fragment && !a.Copy && !b.Copy && a.Action == b.Action && a.NetNS == b.NetNS && a.Ifindex == b.Ifindex
}

// fragmentBytes returns the length of all fragments of a packet at the place of h, headers included.
func fragmentBytes(p *path.Packet, h *path.Hop) int {
	sum := 0
	for i := range p.Hops {
		if o := &p.Hops[i]; sameFragments(o, h) {
			sum += o.Length
		}
	}
	return sum
}

// origin returns the first observation of the first request, or nil.
func (a *analysis) origin() *path.Hop {
	for _, p := range a.packets(path.Request) {
		if h := firstHop(p); h != nil {
			return h
		}
	}
	return nil
}

// deliveredIn returns the namespace whose socket took a request, or 0.
func (a *analysis) deliveredIn() uint32 {
	for _, p := range a.packets(path.Request) {
		if e := a.endOf(p, phaseRequest); e.deliver != nil {
			return e.deliver.NetNS
		}
	}
	return 0
}

// outcomeOf returns how a flow ended whose decisive packet ended at e.
func (a *analysis) outcomeOf(e *end) path.Outcome {
	if e.direction() == path.Request && e.phase != phaseData {
		if e.drop != nil && isNeighbourDrop(e.drop) || a.gaveUpAsking(e) {
			return path.Dropped
		}
		if a.answered(e) || a.probeRefused() {
			return path.Refused
		}
	}
	if e.drop != nil || e.reset != nil || e.icmp != nil {
		return path.Dropped
	}
	return path.Lost
}

// answered reports whether the packet got a refusal: from where it ended, or one that came back and
// that does not contradict where it ended. A reset of another attempt does.
func (a *analysis) answered(e *end) bool {
	switch {
	case e.reset != nil, e.icmp != nil && e.icmp.Outer == nil:
		return true
	case e.drop == nil:
		return e.answered()
	case e.rst != nil && (isNoSocket(e.drop) || a.resetFrom(e) != nil):
		return true
	case e.err != nil:
		h := firstHop(e.err)
		return fitsICMP(e.drop.Reason, a.icmpOf(icmpHop(e.err))) || h.NetNS != 0 && h.NetNS == e.drop.NetNS
	}
	return false
}

// probeRefused reports whether the probe itself got a refusal.
func (a *analysis) probeRefused() bool {
	pr := a.f.Probe
	return pr != nil && (pr.Kind == ProbeRefused || a.icmpOfProbe().isError())
}
