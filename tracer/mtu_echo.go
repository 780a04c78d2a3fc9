package tracer

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// byEcho measures the way back from an end that is not ours, by the replies to echoes of sizes that are
// known to get there: those that come whole, and those that come in fragments or not at all. It
// returns nothing if echoes are not answered.
func (m *measurement) byEcho(ctx context.Context, there *path.MTU) ([]path.MTU, error) {
	if there.MTU <= mtu.Small {
		return nil, nil
	}
	s, err := m.echoSide()
	if err != nil {
		return nil, err
	}
	defer s.packets.Close()
	x, err := s.echo(ctx, mtu.Small)
	if err != nil || !x.Passed() {
		return nil, err
	}
	fragment := 0
	search := mtu.NewSearch(mtu.Small, there.MTU, mtu.Bounds(there))
	for size, ok := search.Next(); ok; size, ok = search.Next() {
		x, err := s.echo(ctx, size)
		if err != nil {
			return nil, err
		}
		whole := x.Kind == prober.Answered && x.Fragment == 0
		if x.Fragment > 0 {
			fragment = max(fragment, x.Fragment)
			search.Hint(x.Fragment)
		}
		search.Record(size, whole)
	}
	out := path.MTU{
		Type: "mtu", Direction: path.Reply, Proto: path.ICMP, Src: s.dst.Addr().String(), Dst: s.src.Addr().String(),
		SrcName: there.DstName, DstName: there.SrcName, MTU: search.Passes(), TooBig: search.Fails(), Probes: search.Probes(),
		Discovery: path.DiscoveryUnknown, Links: []path.MTULink{},
	}
	out.Notes = append(out.Notes, fmt.Sprintf("%s is in none of the namespaces here: what comes back was measured by the echo replies of %s",
		there.DstName, s.dst.Addr()))
	switch {
	case out.TooBig == 0:
		out.Notes = append(out.Notes, "echoes no larger than what gets there can be answered: more may come back")
	case fragment > 0:
		out.Notes = append(out.Notes, fmt.Sprintf("larger replies, which may be cut, come in fragments of up to %d bytes", fragment))
	default:
		out.Notes = append(out.Notes, "larger replies do not come back, although the echoes get there")
	}
	return []path.MTU{out}, nil
}

// echoSide prepares to send echoes from the source.
func (m *measurement) echoSide() (*side, error) {
	t := m.s.t
	s := &side{m: m, dir: path.Request, netns: t.source.NetNS, src: m.s.local, dst: netip.AddrPortFrom(m.s.dialed.AddrPort.Addr(), 0)}
	if s.netns == 0 {
		s.netns = t.topo.Self()
	}
	err := t.topo.InNamespace(s.netns, func() (err error) {
		s.packets, err = prober.OpenPackets(path.ICMP, s.src.Addr(), s.dst.Addr())
		return err
	})
	return s, err
}

// echo sends an echo of one size, again if nothing comes back.
func (s *side) echo(ctx context.Context, size int) (prober.Answer, error) {
	var a prober.Answer
	for range attempts {
		s.m.serial++
		var err error
		a, err = s.packets.Exchange(ctx, prober.Sized{
			Proto: path.ICMP, Src: s.src, Dst: s.dst, Size: size, ID: s.m.serial,
		}, s.patience())
		if err != nil || a.Kind != prober.Silent {
			return a, err
		}
	}
	return a, ctx.Err()
}
