package tracer

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// settle says what became of what was too big.
func (s *side) settle(ctx context.Context) error {
	if links := mtu.Links(s.small.seen); len(links) >= len(s.out.Links) {
		s.declare(links)
	}
	if sure, err := s.makeSure(ctx); err != nil || !sure {
		return err
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

// makeSure repeats the last probe that was seen to be dropped, and waits longer for its ICMP error. It
// reports false if the probe passes now.
func (s *side) makeSure(ctx context.Context) (bool, error) {
	if s.out.TooBig == 0 || s.large.answer.Kind != prober.Canceled {
		return true, nil
	}
	s.linger = afterLast
	defer func() { s.linger = afterDrop }()
	var err error
	if s.large, err = s.try(ctx, s.out.TooBig, false); err != nil || !s.large.passed {
		return true, err
	}
	s.out.MTU, s.out.TooBig = 0, 0
	s.out.Notes = append(s.out.Notes, "what did not pass once does later: something other than its size drops packets")
	return false, nil
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
			s.detour(h.NetNS, h.DstAddr.Addr())
		}
	}
}

// detour finds the command that goes round a route whose MTU is the limit: one for the address alone.
func (s *side) detour(netns uint32, to netip.Addr) {
	r, err := s.m.s.t.topo.RouteTo(netns, to)
	if err != nil || r.Local || r.Dev == "" {
		return
	}
	s.m.detours[s.dir] = fmt.Sprintf("%sip route replace %s%s dev %s  # for this destination only, beside the route with MTU %d",
		s.m.space(netns).Enter, to, via(r.Gateway), r.Dev, s.out.MTU)
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
