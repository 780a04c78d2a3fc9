package tracer

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/tracer/path"
)

const (
	// attempts is how often a probe of one size is sent before silence counts.
	attempts = 3
	// leastWait and mostWait bound the wait for the answer to one probe.
	leastWait, mostWait = 150 * time.Millisecond, time.Second
	// afterDrop is how long the ICMP error is waited for once a probe was seen to be dropped, and
	// afterLast for the last such probe: that its sender is not told has to be sure.
	afterDrop, afterLast = 40 * time.Millisecond, 600 * time.Millisecond
	// eventsLate is how long an observation takes to be known here.
	eventsLate = 30 * time.Millisecond
)

// side is one end of the path, from which probes are sent to the other.
type side struct {
	m       *measurement
	dir     path.Direction
	netns   uint32
	peer    uint32 // namespace of the other end, 0 if it is not known
	src     netip.AddrPort
	dst     netip.AddrPort
	packets *prober.Packets
	out     path.MTU
	linger  time.Duration // how long the ICMP error is waited for
	// small and large are the last probe of the largest size that passed and of the smallest that did not.
	small, large trial
}

// trial is one probe with what became of it.
type trial struct {
	probe  prober.Sized
	since  uint64 // CLOCK_MONOTONIC before it was sent, ns
	answer prober.Answer
	passed bool
	seen   *path.Packet
}

// try sends a probe of one size, again if nothing is seen or heard of it, and says what became of it.
func (s *side) try(ctx context.Context, size int, fragment bool) (trial, error) {
	var x trial
	for range attempts {
		var err error
		if x, err = s.send(ctx, size, fragment); err != nil {
			return x, err
		}
		if x.passed || x.answer.TooBig() || x.dropped() || ctx.Err() != nil {
			break
		}
	}
	return x, ctx.Err()
}

// send sends one probe.
func (s *side) send(ctx context.Context, size int, fragment bool) (trial, error) {
	m := s.m
	m.serial++
	x := trial{since: monotonic(), probe: prober.Sized{
		Proto: s.out.Proto, Src: s.src, Dst: s.dst, Size: size, Fragment: fragment, ID: m.serial,
		Unasked: s.dir == path.Reply,
	}}
	if m.conn != nil {
		now, err := m.conn.Sequence()
		if err != nil {
			return x, err
		}
		x.probe.Seq, x.probe.Ack = now.Next, now.Expected
		if s.dir == path.Reply {
			x.probe.Seq, x.probe.Ack = now.Expected, now.Next
		}
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go s.cutShort(waiting, cancel, &x, done)
	answer, err := s.packets.Exchange(waiting, x.probe, s.patience())
	cancel()
	<-done
	if err != nil {
		return x, err
	}
	x.answer, x.passed = answer, answer.Passed()
	m.observe(ctx, s, &x)
	return x, nil
}

// patience is how long an answer is waited for.
func (s *side) patience() time.Duration {
	return min(max(8*s.m.opened, leastWait), mostWait)
}

// cutShort ends the waiting for an answer a moment after the probe was seen to end.
func (s *side) cutShort(ctx context.Context, cancel func(), x *trial, done chan<- struct{}) {
	defer close(done)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.m.signs:
		}
		seen := *x // the sender writes to x
		if s.m.look(ctx, s, &seen); seen.dropped() || s.took(&seen) {
			select {
			case <-ctx.Done():
			case <-time.After(s.linger):
				cancel()
			}
			return
		}
	}
}

// observe looks for what was seen of the probe once its events are there.
func (m *measurement) observe(ctx context.Context, s *side, x *trial) {
	select {
	case <-time.After(eventsLate):
	case <-ctx.Done():
		return
	}
	m.look(ctx, s, x)
	x.passed = x.passed || s.took(x)
}

// look finds the probe's packet in the flow.
func (m *measurement) look(ctx context.Context, s *side, x *trial) {
	p := m.peek(ctx)
	if p == nil {
		return
	}
	for _, packet := range p.Packets {
		if packet.Direction == s.dir && !packet.ICMPError && startOf(packet) >= x.since && packet.Length == x.probe.Size &&
			(s.out.Proto != path.TCP || packet.Seq == x.probe.FirstSeq()) {
			x.seen = packet
		}
	}
}

// took reports whether the other end was seen to take the probe.
func (s *side) took(x *trial) bool {
	if x.seen == nil || s.peer == 0 {
		return false
	}
	if s.isWhole(x) {
		return true
	}
	if x.dropped() && s.out.Proto != path.TCP {
		return false
	}
	for i := range x.seen.Hops {
		h := &x.seen.Hops[i]
		if h.NetNS == s.peer && s.peer != s.netns && !x.probe.Fragment && !h.Copy && h.Stage == path.StageDevice &&
			h.Action == path.ActionReceive {
			return true
		}
		if h.NetNS == s.peer && h.Action == path.ActionDeliver {
			return true
		}
	}
	return false
}

// isWhole reports whether the probe was seen in the other end's namespace behind the place where fragments
// are put together (ip_local_deliver, ip6_input): what becomes of it there has nothing to do with its size.
func (s *side) isWhole(x *trial) bool {
	return s.peer != s.netns && slices.ContainsFunc(x.seen.Hops, func(h path.Hop) bool {
		switch {
		case h.NetNS != s.peer: // what was put together again may be a copy, and is there all the same
			return false
		case h.Stage == path.StageInput:
			return true
		}
		atSocket := h.Stage == path.StageTCP || h.Stage == path.StageUDP || h.Stage == path.StageICMP
		return atSocket && (h.Action == path.ActionDrop || h.Action == path.ActionDeliver)
	})
}

// dropped reports whether the probe was seen to be dropped on its way.
func (x *trial) dropped() bool {
	if x.seen == nil {
		return false
	}
	for i := range x.seen.Hops {
		if h := &x.seen.Hops[i]; h.Action == path.ActionDrop && !h.Copy && !h.Noise && !isCongestion(h.Reason) {
			return true
		}
	}
	return false
}
