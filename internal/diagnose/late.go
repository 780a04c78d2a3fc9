package diagnose

import "github.com/pathtrace/pathtrace/tracer/path"

// lateFailure returns the end of a packet that was stopped after the flow had worked, if nothing that
// came after it made up for it.
func (a *analysis) lateFailure() (end, bool) {
	var worst end
	for _, p := range a.p.Packets {
		if p == nil || p.ICMPError {
			continue
		}
		e := a.endOf(p, a.phaseOf(p))
		if a.isLoss(&e) && !a.recovered(&e) {
			worst = e
		}
	}
	return worst, worst.pkt != nil
}

// isLoss reports whether the end of this packet is one that matters after the flow has worked.
func (a *analysis) isLoss(e *end) bool {
	if a.p.Proto != path.TCP {
		return e.drop != nil || e.reset != nil || e.icmp != nil
	}
	fl := flagsOf(e.pkt.TCPFlags)
	return e.drop != nil && e.reset == nil && !fl.syn && !fl.rst && carriesData(e.pkt) && !a.closedBefore(e.drop)
}

// closedBefore reports whether a reset had ended the connection before h.
func (a *analysis) closedBefore(h *path.Hop) bool {
	for _, dir := range []path.Direction{path.Request, path.Reply} {
		for _, p := range a.resets(dir) {
			if r := firstHop(p); r != nil && hopTime(r) <= hopTime(h) {
				return true
			}
		}
	}
	return false
}

// recovered reports whether something after e succeeded that makes up for it: for TCP the same bytes
// got through, else a later packet of that direction, or an answer to it, arrived.
func (a *analysis) recovered(e *end) bool {
	when := hopTime(e.at())
	for _, q := range a.p.Packets {
		if q == nil || q == e.pkt || q.ICMPError {
			continue
		}
		later := a.endOf(q, phaseData)
		if !later.passed() || hopTime(later.last) <= when {
			continue
		}
		if a.p.Proto == path.TCP {
			if repeats(q, e.pkt) || acknowledges(q, e.pkt) {
				return true
			}
		} else if a.supersedes(&later, e) {
			return true
		}
	}
	return false
}

// repeats reports whether q carries the first byte of p again, in the same direction.
func repeats(q, p *path.Packet) bool {
	return q.Direction == p.Direction && int32(q.Seq-p.Seq) <= 0 &&
		(q.Seq == p.Seq || q.Retransmission) && carriesData(q)
}

// acknowledges reports whether q, of the other direction, acknowledges the first byte of p.
func acknowledges(q, p *path.Packet) bool {
	return q.Direction == p.Direction.Opposite() && flagsOf(q.TCPFlags).ack &&
		int32(q.Ack-p.Seq) > 0
}

// supersedes reports whether a later packet of a connectionless flow shows that it works again.
func (a *analysis) supersedes(later, e *end) bool {
	if later.pkt.Direction == path.Reply {
		return a.arrived(later)
	}
	return e.direction() == path.Request && later.deliver != nil
}
