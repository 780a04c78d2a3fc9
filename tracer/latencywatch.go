package tracer

import (
	"context"
	"fmt"
	"time"
)

// watchTargets times the live traffic to the targets.
func (l *LatencyTracer) watchTargets(ctx context.Context, s *session) error {
	for ep := range s.endpoints.set {
		if err := l.t.set.Watch(ep); err != nil {
			return err
		}
	}
	changed := make(chan struct{}, 1)
	defer l.t.engines.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	})()
	l.start(s)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			l.follow(ctx, s)
		case <-silence.C:
			if s.collector.events.Load() == 0 {
				l.t.cfg.OnNote(fmt.Sprintf("no traffic to %s yet; to send requests, run: pathtrace latency --from SOURCE --to %s "+
					"(SOURCE: a container, a namespace, host)", l.cfg.Target, l.cfg.Target))
			}
		case now := <-look.C:
			l.meter.Advance(monotonic())
			s.unfollowEnded(now)
			if l.reached() {
				return nil
			}
		}
	}
}

// reached reports whether every target has its count of round trips.
func (l *LatencyTracer) reached() bool {
	if l.cfg.Count <= 0 {
		return false
	}
	for i := range l.targets {
		if l.meter.RoundTrips(i) < uint64(l.cfg.Count) {
			return false
		}
	}
	return true
}

// follow adapts the filter to the targets as they are now.
func (l *LatencyTracer) follow(ctx context.Context, s *session) {
	for i := range l.targets {
		now, err := l.t.names.Target(ctx, l.targets[i].name, l.cfg.Proto)
		if err != nil {
			continue // gone for the moment; what is watched stays watched
		}
		s.endpoints.add(now.Endpoints)
		for _, ep := range l.targets[i].endpoints.add(now.Endpoints) {
			if err := l.t.set.Watch(ep); err != nil {
				l.t.cfg.OnNote(fmt.Sprintf("cannot watch the new address %s: %v", ep.Addr, err))
			}
		}
		for _, inode := range now.NetNS {
			l.newNamespace(inode)
		}
	}
}
