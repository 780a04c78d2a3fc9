package tracer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/tracer/path"
)

const (
	// attempts is how often a probe of one size is sent before silence counts.
	attempts = 3
	// leastWait and mostWait bound the wait for the answer to one probe.
	leastWait, mostWait = 150 * time.Millisecond, time.Second
	// afterDrop is how long the ICMP error is waited for once a probe was seen to be dropped.
	afterDrop = 40 * time.Millisecond
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

// measure finds the sizes that pass in both directions.
func (m *measurement) measure(ctx context.Context, p *path.Path) ([]path.MTU, error) {
	var out []path.MTU
	for _, dir := range []path.Direction{path.Request, path.Reply} {
		s, err := m.side(dir, p)
		if err != nil {
			return nil, err
		}
		if s == nil { // the other end is not ours
			back, err := m.byEcho(ctx, &out[0])
			if err != nil {
				return nil, err
			}
			return append(out, back...), nil
		}
		err = s.measure(ctx)
		s.packets.Close()
		if err != nil {
			return nil, err
		}
		out = append(out, s.out)
	}
	return out, nil
}

// side prepares to send from one end; nil if that end is in none of our namespaces.
func (m *measurement) side(dir path.Direction, p *path.Path) (*side, error) {
	t := m.s.t
	s := &side{m: m, dir: dir, netns: t.source.NetNS, src: m.s.local, dst: m.s.dialed.AddrPort}
	if s.netns == 0 {
		s.netns = t.topo.Self()
	}
	if p != nil {
		s.peer = farEnd(p)
	}
	if dir == path.Reply {
		if p == nil || s.peer == 0 || !p.Target.IsValid() || !p.Source.IsValid() {
			return nil, nil
		}
		s.netns, s.peer, s.src, s.dst = s.peer, s.netns, p.Target, p.Source
	}
	if t.target.Proto == path.ICMP {
		s.src = netip.AddrPortFrom(s.src.Addr(), m.s.local.Port())
	}
	err := t.topo.InNamespace(s.netns, func() (err error) {
		s.packets, err = prober.OpenPackets(t.target.Proto, s.src.Addr(), s.dst.Addr())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("send from %s: %w", t.labels.namespace(s.netns), err)
	}
	s.describe()
	return s, nil
}

// farEnd is the namespace whose socket took the request, 0 if that was not seen.
func farEnd(p *path.Path) uint32 {
	if p.ServerNetNS != 0 {
		return p.ServerNetNS
	}
	return p.DeliverNetNS
}

// describe reads what the sender's namespace says of the way.
func (s *side) describe() {
	t := s.m.s.t
	s.out = path.MTU{Type: "mtu", Direction: s.dir, Proto: t.target.Proto, Src: s.src.String(), Dst: s.dst.String(),
		SrcName: t.labels.namespace(s.netns), DstName: t.labels.addrIn(s.netns, s.dst.Addr())}
	if s.peer != 0 {
		s.out.DstName = t.labels.namespace(s.peer)
	}
	r, err := t.topo.RouteMTU(s.netns, s.dst.Addr(), s.src.Addr())
	if err != nil {
		t.cfg.Log.Debug("read route", "error", err)
	}
	s.out.SenderMTU = min(int(r.DeviceMTU), prober.MaxSize)
	s.out.RouteAdvMSS = int(r.AdvMSS)
	if r.Cached {
		s.out.CachedMTU, s.out.CachedSeconds = int(r.MTU), int(r.Expires/time.Second)
	} else {
		s.out.RouteMTU = int(r.MTU)
	}
	s.readSegments()
	if r, err := t.topo.RouteTo(s.netns, s.dst.Addr()); err == nil && !r.Local && r.Dev != "" {
		s.m.routes[s.dir] = s.dst.Addr().String() + via(r.Gateway) + " dev " + r.Dev
	}
}

func via(gateway netip.Addr) string {
	if !gateway.IsValid() {
		return ""
	}
	return " via " + gateway.String()
}

// readSegments reads how large TCP's own segments are.
func (s *side) readSegments() {
	m := s.m
	if m.conn == nil {
		return
	}
	if s.dir == path.Request {
		if x, err := m.conn.Segments(); err == nil {
			s.out.TCPPacket = x.Packet
		}
		return
	}
	if x, err := m.s.t.topo.SocketMSS(s.netns, s.src, s.dst); err == nil {
		s.out.TCPPacket = int(x.MSS) + prober.TCPHeaders(s.src.Addr().Is6(), x.Timestamps)
	}
}

// measure finds what passes from this end.
func (s *side) measure(ctx context.Context) error {
	least := mtu.Small
	first, err := s.try(ctx, least, false)
	if err != nil {
		return err
	}
	s.out.Links = mtu.Links(first.seen)
	s.offloads()
	s.out.Declared = mtu.Declared(s.out.Links)
	s.out.Discovery = path.DiscoveryUnknown
	if !first.passed || s.out.SenderMTU <= least {
		s.out.Notes = append(s.out.Notes, "probes of a small size are not answered either: what passes cannot be told")
		return nil
	}
	s.small = first
	search := mtu.NewSearch(least, s.out.SenderMTU, mtu.Bounds(&s.out))
	for size, ok := search.Next(); ok; size, ok = search.Next() {
		x, err := s.try(ctx, size, false)
		if err != nil {
			return err
		}
		search.Record(size, x.passed)
		if x.passed {
			s.small = x
			continue
		}
		s.large = x
		if n := int(x.answer.ICMP.MTU); n > 0 {
			search.Hint(n)
		}
	}
	s.out.MTU, s.out.TooBig, s.out.Probes = search.Passes(), search.Fails(), search.Probes()
	if s.out.TooBig > 0 {
		// Silence may also have been loss: what passed before must pass still.
		if again, err := s.try(ctx, s.out.MTU, false); err != nil || !again.passed {
			s.out.MTU, s.out.TooBig = 0, 0
			s.out.Notes = append(s.out.Notes, "what passed once does not pass always: the path loses packets of any size")
			return err
		}
	}
	return s.settle(ctx)
}

// settle says what became of what was too big.
func (s *side) settle(ctx context.Context) error {
	if links := mtu.Links(s.small.seen); len(links) >= len(s.out.Links) {
		s.out.Links = links
		s.offloads()
		s.out.Declared = mtu.Declared(links)
	}
	fate := s.fate(ctx)
	mtu.Settle(&s.out, fate)
	if err := s.cutOnTheWay(ctx); s.out.TooBig == 0 || err != nil {
		return err
	}
	s.limitingRoute()
	if lost := fate.Lost(); lost != nil && s.out.End.Lost != nil {
		s.m.findRule(ctx, lost, s.out.End)
	}
	if s.dst.Addr().Is6() {
		return nil // routers do not cut, and these probes cannot be cut by the sender
	}
	cut, err := s.try(ctx, s.out.TooBig, true)
	if err != nil {
		return err
	}
	s.out.End.Fragmented, s.out.End.FragmentsPass = mtu.Cut(cut.seen), cut.passed
	return nil
}

// cutOnTheWay says from which size on packets pass in fragments only, if they do.
func (s *side) cutOnTheWay(ctx context.Context) error {
	if s.out.Fragmented = mtu.Cut(s.small.seen); s.out.Fragmented == nil {
		return nil
	}
	search := mtu.NewSearch(mtu.Small, s.out.MTU, mtu.Bounds(&s.out))
	for size, ok := search.Next(); ok; size, ok = search.Next() {
		x, err := s.try(ctx, size, false)
		if err != nil {
			return err
		}
		search.Record(size, mtu.Cut(x.seen) == nil)
	}
	s.out.FragmentsAbove = search.Passes()
	return nil
}

// limitingRoute looks for the route that is the limit where no device is.
func (s *side) limitingRoute() {
	x := s.large.seen
	if x == nil || slices.ContainsFunc(s.out.Links, func(l path.MTULink) bool { return l.Limit }) {
		return
	}
	for i := range x.Hops {
		h := &x.Hops[i]
		if h.Action != path.ActionDrop || h.Copy || !h.DstAddr.IsValid() {
			continue
		}
		t := s.m.s.t
		r, err := t.topo.RouteMTU(h.NetNS, h.DstAddr.Addr(), netip.Addr{})
		if err == nil && int(r.MTU) == s.out.MTU {
			s.out.LimitRoute = fmt.Sprintf("the route to %s in %s", h.DstAddr.Addr(), t.labels.namespace(h.NetNS))
		}
	}
}

// toldByRoute reports whether the sender's route cache has learned the MTU from the probe: what a
// tunnel device of the sender's own namespace refuses is told that way (skb_tunnel_check_pmtu).
func (s *side) toldByRoute() (mtu int, ok bool) {
	r, err := s.m.s.t.topo.RouteMTU(s.netns, s.dst.Addr(), s.src.Addr())
	if err != nil || !r.Cached || s.out.CachedMTU != 0 || int(r.MTU) > s.out.MTU {
		return 0, false
	}
	return int(r.MTU), true
}

// fate collects what was seen of the smallest packet that did not pass.
func (s *side) fate(ctx context.Context) *mtu.Fate {
	x := s.large
	f := &mtu.Fate{Packet: x.seen}
	switch {
	case x.answer.Kind == prober.ICMPError && x.answer.TooBig():
		f.Told, f.NextHopMTU = true, int(x.answer.ICMP.MTU)
		f.From = s.m.s.t.labels.addrIn(s.netns, x.answer.ICMP.Origin)
		if f.From == "" {
			f.From = x.answer.ICMP.Origin.String()
		}
	case x.answer.TooBig():
		f.Refused = true
	}
	if n, ok := s.toldByRoute(); ok && !f.Told {
		f.Refused, f.NextHopMTU = true, n
	}
	if p := s.m.peek(ctx); p != nil {
		for _, packet := range p.Packets {
			if packet.ICMPError && packet.Direction != s.dir && startOf(packet) >= x.since && len(packet.Hops) > 0 {
				f.Errors = append(f.Errors, packet)
			}
		}
	}
	return f
}

func startOf(p *path.Packet) uint64 {
	if len(p.Hops) == 0 {
		return 0
	}
	return p.Hops[0].Time
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
		seen := *x
		if s.m.look(ctx, s, &seen); seen.dropped() || s.took(&seen) {
			select {
			case <-ctx.Done():
			case <-time.After(afterDrop):
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
	if x.seen == nil || s.peer == 0 || x.dropped() && s.out.Proto != path.TCP {
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

// offloads adds to the links what they take in one piece.
func (s *side) offloads() {
	for i := range s.out.Links {
		l := &s.out.Links[i]
		if o, err := s.m.s.t.topo.Offload(l.NetNS, l.Ifindex); err == nil {
			l.GSOMaxSize, l.GSOMaxSegments, l.GROMaxSize = int(o.GSOMaxSize), int(o.GSOMaxSegments), int(o.GROMaxSize)
		}
	}
}
