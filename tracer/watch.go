package tracer

import (
	"context"
	"fmt"
	"time"

	"github.com/pathtrace/pathtrace/internal/topo"
)

// patience is after what time without any traffic the user is told what to try.
const patience = 3 * time.Second

// runWatch sends nothing and reports the live traffic to the target.
func (t *Tracer) runWatch(ctx context.Context) (Result, error) {
	s, err := t.newSession()
	if err != nil {
		return Result{}, err
	}
	for ep := range s.endpoints.set {
		if err := t.set.Watch(ep); err != nil {
			return Result{}, err
		}
	}
	if t.cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.cfg.Duration)
		defer cancel()
	}
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default: // one is waiting already
		}
	}
	defer t.engines.OnChange(notify)()
	defer t.topo.OnChange(func(c topo.Change) { s.namespaceChanged(c); notify() })()
	s.start()
	s.rules.prepare(s.firewalled(), 0)
	s.watch(ctx, changed)
	s.collector.finish()
	if s.decided == 0 {
		s.noTraffic(nil)
	}
	return s.close()
}

// watch waits for the end of the trace and follows what changes meanwhile.
func (s *session) watch(ctx context.Context, changed <-chan struct{}) {
	silence := time.NewTimer(patience)
	defer silence.Stop()
	sampling := time.NewTicker(sampleEvery)
	defer sampling.Stop()
	said := len(s.t.engines.Problems())
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.reached:
			return
		case <-silence.C:
			if s.collector.events.Load() == 0 && !s.t.cfg.share.Probed {
				s.t.cfg.OnNote(s.hint())
			}
		case <-sampling.C:
			s.sampleCounters()
			s.unfollowEnded(time.Now())
		case <-changed:
			s.follow(ctx)
			problems := s.t.engines.Problems()
			for _, problem := range problems[said:] {
				s.t.cfg.OnNote(problem)
			}
			said = len(problems)
		}
	}
}

// follow adapts the filter to the target as it is now: a container that started, restarted or was
// connected to a network has new addresses and a new namespace.
func (s *session) follow(ctx context.Context) {
	now, err := s.t.findTarget(ctx)
	if err != nil {
		return // gone for the moment; what is watched stays watched
	}
	for _, ep := range s.endpoints.add(now.Endpoints) {
		if err := s.t.set.Watch(ep); err != nil {
			s.t.cfg.OnNote(fmt.Sprintf("cannot watch the new address %s: %v", ep.Addr, err))
		}
	}
	s.unwatch(now.Endpoints)
	s.t.mu.Lock()
	s.t.target = now
	s.t.mu.Unlock()
	if !s.t.set.NeedsNetNS() {
		return
	}
	for _, inode := range targetNamespaces(&now) {
		if !s.t.set.Attached(inode) {
			s.t.attachNetNS(inode)
		}
	}
}

// hint says what to try when nothing comes.
func (s *session) hint() string {
	return fmt.Sprintf("no traffic to %s yet; to send a probe, run: pathtrace --from SOURCE --to %s "+
		"(SOURCE: a container, a namespace, host)", s.t.cfg.Target, s.t.cfg.Target)
}
