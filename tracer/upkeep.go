package tracer

import (
	"cmp"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// unfollowAfter is when the tuples of a flow that was decided before it was over are let go: its last
// packets, which put them back, are not expected to be seen as a flow of their own until then.
const unfollowAfter = 15 * time.Second

// endedFlow is what is to be taken out of the filter some time after a flow was decided.
type endedFlow struct {
	at     time.Time
	tuples []wire.Tuple
}

// unfollow takes the tuples that translation added to the filter out of it, once a watched flow is
// over: the table would fill. It runs in the collector's goroutine.
func (s *session) unfollow(p *path.Path) {
	if s.t.cfg.Source != "" || len(p.NAT) == 0 {
		return
	}
	tuples := translated(p)
	if p.Closed {
		s.drop(tuples)
		return
	}
	s.endedMu.Lock()
	defer s.endedMu.Unlock()
	s.ended = append(s.ended, endedFlow{time.Now().Add(unfollowAfter), tuples})
}

// unfollowEnded is unfollow for the flows whose time has come.
func (s *session) unfollowEnded(now time.Time) {
	s.endedMu.Lock()
	n := 0
	for n < len(s.ended) && s.ended[n].at.Before(now) {
		n++
	}
	due := s.ended[:n:n]
	s.ended = s.ended[n:]
	s.endedMu.Unlock()
	for _, e := range due {
		s.drop(e.tuples)
	}
}

func (s *session) drop(tuples []wire.Tuple) {
	for _, t := range tuples {
		if err := s.t.set.Unfollow(t); err != nil {
			s.t.cfg.Log.Debug("unfollow", "tuple", t, "error", err)
		}
	}
}

// translated lists the tuples that translations of a flow produced, each in one direction.
func translated(p *path.Path) []wire.Tuple {
	var out []wire.Tuple
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			h := &packet.Hops[i]
			if !h.PrevSrcAddr.IsValid() && !h.PrevDstAddr.IsValid() {
				continue
			}
			t := wire.Tuple{Src: h.SrcAddr, Dst: h.DstAddr, Proto: protoNumber(p.Proto, h.DstAddr.Addr())}
			if !slices.Contains(out, t) && !slices.Contains(out, t.Inverse()) {
				out = append(out, t)
			}
		}
	}
	return out
}

// namespaceChanged lets go of a namespace that is gone: our links in its hooks keep it, and the other
// ends of its devices, alive.
func (s *session) namespaceChanged(c topo.Change) {
	if c.Kind != topo.NamespaceGone {
		return
	}
	s.readings.forget(c.NetNS.Inode)
	if err := s.t.set.DetachNetNS(c.NetNS.Inode); err != nil {
		s.t.cfg.Log.Debug("detach", "namespace", c.NetNS.Name, "error", err)
	}
}

// unwatch takes out of the filter what is no longer the target's: its old address may be given to
// another container.
func (s *session) unwatch(now []target.Endpoint) {
	gone := s.endpoints.remove(now)
	for _, ep := range gone {
		err := s.t.set.Unwatch(ep)
		if !slices.ContainsFunc(now, func(e target.Endpoint) bool { return e.AddrPort.Addr() == ep.Addr.Addr() }) {
			err = cmp.Or(err, s.t.set.UnwatchAddr(ep.Addr.Addr()))
		}
		if err != nil {
			s.t.cfg.Log.Debug("unwatch", "address", ep.Addr, "error", err)
		}
	}
}
