package tracer

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/tracer/path"
)

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
	s := &side{m: m, dir: dir, linger: afterDrop, netns: t.source.NetNS, src: m.s.local, dst: m.s.dialed.AddrPort}
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

// progress says how far the search is.
func (s *side) progress(search *mtu.Search) {
	text := fmt.Sprintf("%s: %d bytes pass", s.dir, search.Passes())
	if n := search.Fails(); n > 0 {
		text += fmt.Sprintf(", %d do not", n)
	}
	s.m.s.t.cfg.OnProgress(text)
}

// measure finds what passes from this end.
func (s *side) measure(ctx context.Context) error {
	least := mtu.Small
	first, err := s.try(ctx, least, false)
	if err != nil {
		return err
	}
	s.declare(mtu.Links(first.seen))
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
		s.progress(search)
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
