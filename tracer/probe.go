package tracer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// settle is how long packets that belong to a probe's end (the FIN exchange, a last ACK) are waited
// for once its result is known.
const settle = 60 * time.Millisecond

// after is how long an answer is waited for once a packet of the probe was dropped: what was dropped may
// have been a clone, and the packet itself may have arrived.
const after = 150 * time.Millisecond

// slow is after what time people want to hear that something is still going on.
const slow = 2 * time.Second

// runProbe sends one probe from the source and follows exactly that.
func (t *Tracer) runProbe(ctx context.Context) (Result, error) {
	s, err := t.newSession()
	if err != nil {
		return Result{}, err
	}
	dialed, err := t.names.Dial(t.source, t.target)
	var none *target.DialError
	if errors.As(err, &none) {
		s.start()
		s.noTraffic(none)
		return s.close()
	}
	if err != nil {
		return Result{}, err
	}
	if dialed.Note != "" {
		t.cfg.OnNote(dialed.Note)
	}
	return s.sendProbe(ctx, dialed)
}

func (s *session) sendProbe(ctx context.Context, dialed target.Dialed) (Result, error) {
	t := s.t
	s.dialed = dialed
	p, err := prober.Open(prober.Config{
		NetNSPath: t.source.NetNSPath, Proto: t.target.Proto, Bind: t.source.Bind,
		Dst: dialed.AddrPort, Timeout: t.cfg.Timeout,
	})
	var route *prober.RouteError
	if errors.As(err, &route) {
		s.probe = probeFact(route.Result(), t.cfg.Timeout)
		s.start()
		s.noTraffic(nil)
		return s.close()
	}
	if err != nil {
		return Result{}, err
	}
	defer p.Close()
	s.local = p.Local()
	if err := s.followProbe(s.local, dialed.AddrPort); err != nil {
		return Result{}, err
	}
	s.start()
	s.lookUpName(ctx)
	s.rules.prepare(s.firewalled(), rulesFirst)
	result := s.send(ctx, p)
	s.probe = probeFact(result, t.cfg.Timeout)
	if result.Kind == prober.Connected || result.Kind == prober.Answered {
		time.Sleep(settle)
	} else {
		time.Sleep(settle / 3)
	}
	s.collector.finish()
	if result.Kind == prober.NamespaceVanished {
		t.cfg.OnNote(fmt.Sprintf("the namespace of %s vanished while the probe was on its way", t.source.Label))
	}
	if s.decided == 0 {
		s.noTraffic(nil)
	}
	return s.close()
}

// send sends the probe, and says so if its answer takes long. It does not wait for an answer to what
// was dropped.
func (s *session) send(ctx context.Context, p *prober.Probe) prober.Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.giveUp(ctx, cancel)
	if s.t.cfg.Timeout > slow {
		say := time.AfterFunc(slow, func() {
			s.t.cfg.OnNote(fmt.Sprintf("no answer yet; waiting up to %v", s.t.cfg.Timeout))
		})
		defer say.Stop()
	}
	return p.Send(ctx)
}

// giveUp cancels the waiting for an answer a moment after a packet of the probe was dropped, unless
// the rules that dropped it may let the next one pass.
func (s *session) giveUp(ctx context.Context, cancel func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.dropped:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(after):
		}
		mayPass := make(chan bool, 1)
		s.collector.asked <- func(t *flow.Tracker) {
			s.rec.mark(typePeek)
			mayPass <- s.mayPass(t.Peek())
		}
		select {
		case <-ctx.Done():
			return
		case may := <-mayPass:
			if !may {
				cancel()
				return
			}
		}
	}
}

// mayPass reports whether one of the flows ended in rules that may let the same packet pass.
func (s *session) mayPass(flows []*path.Path) bool {
	for _, p := range flows {
		annotate(s.naming, p)
		f := &diagnose.Facts{
			Namespaces: map[uint32]*diagnose.Namespace{}, NFTDropsInPlace: s.nftInPlace,
		}
		want := diagnose.Needs(p)
		for _, inode := range want.RuleCounters {
			s.readLinks(s.fact(f, inode), inode)
		}
		s.readRules(f, want, p)
		if diagnose.MayPass(p, f) {
			return true
		}
	}
	return false
}

// noteDrop ends the waiting for an answer if the probe's packet was dropped, unless for want of room:
// the next one, which TCP sends by itself, may find some.
func (s *session) noteDrop(_ *path.Path, _ *path.Packet, h *path.Hop) {
	if h.Action != path.ActionDrop || h.Copy || h.Noise || h.Stage == path.StageQdisc || isCongestion(h.Reason) {
		return
	}
	select {
	case s.dropped <- struct{}{}:
	default:
	}
}

// isCongestion reports whether a reason of the kernel's is that a queue or buffer was full, or that
// something had to be waited for.
func isCongestion(reason string) bool {
	for _, part := range []string{"BACKLOG", "RCVBUFF", "FULL", "OVERLIMIT", "NOMEM", "PROTO_MEM", "MEMORY"} {
		if strings.Contains(reason, part) {
			return true
		}
	}
	return false
}

// followProbe sets the filter to the probe's 5-tuple and the route look-ups between its ends.
func (s *session) followProbe(local, dst netip.AddrPort) error {
	dst = netip.AddrPortFrom(dst.Addr().WithZone(""), dst.Port())
	tuple := wire.Tuple{Src: local, Dst: dst, Proto: protoNumber(s.t.target.Proto, dst.Addr())}
	if s.t.target.Proto == path.ICMP {
		tuple.Dst = netip.AddrPortFrom(dst.Addr(), 0)
	}
	if err := s.t.set.Follow(tuple); err != nil {
		return err
	}
	s.endpoints.add([]target.Endpoint{{AddrPort: tuple.Dst, Proto: s.t.target.Proto}})
	for _, a := range append(s.targetAddrs(), local.Addr(), dst.Addr()) {
		if err := s.t.set.WatchAddr(a); err != nil {
			return err
		}
	}
	return nil
}

// targetAddrs are the addresses between which route look-ups are of interest: those of the probe's
// target behind translation.
func (s *session) targetAddrs() []netip.Addr {
	var list []netip.Addr
	for _, c := range s.t.target.Containers {
		list = append(list, c.Addrs()...)
	}
	return list
}

// probeFact says what became of the probe in the words of package diagnose.
func probeFact(r prober.Result, timeout time.Duration) *diagnose.Probe {
	p := &diagnose.Probe{RoundTrip: r.RTT, Timeout: timeout}
	if r.Kind == prober.Canceled {
		p.Timeout = r.RTT // somebody did not want to wait longer
	}
	switch r.Kind {
	case prober.Connected:
		p.Kind = diagnose.ProbeConnected
	case prober.Answered:
		p.Kind = diagnose.ProbeAnswered
	case prober.Refused:
		p.Kind = diagnose.ProbeRefused
	case prober.ICMPError:
		p.Kind = diagnose.ProbeICMPError
		p.ICMPType, p.ICMPCode, p.MTU, p.From = r.ICMP.Type, r.ICMP.Code, r.ICMP.MTU, r.ICMP.Origin
	case prober.Unreachable:
		p.Kind = diagnose.ProbeLocalError
		p.Errno = errnoName(r.Errno)
	case prober.Silent, prober.NamespaceVanished, prober.Canceled:
		p.Kind = diagnose.ProbeSilence
	}
	return p
}
