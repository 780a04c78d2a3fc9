package tracer

import (
	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/topo"
)

// readTracked reads the connection tracking entries of a flow, and the use of ports if that is asked.
func (s *session) readTracked(f *diagnose.Facts, want diagnose.Want) {
	for _, q := range want.Tracked {
		proto := protoNumber(q.Proto, q.Dst.Addr())
		c, err := s.t.topo.Conntrack(q.NetNS, proto, topo.Tuple{Src: q.Src, Dst: q.Dst})
		if err != nil {
			continue
		}
		ns := s.fact(f, q.NetNS)
		ns.Tracked = append(ns.Tracked, diagnose.Tracked{
			Proto: q.Proto, OrigSrc: c.Orig.Src, OrigDst: c.Orig.Dst,
			ReplySrc: c.Reply.Src, ReplyDst: c.Reply.Dst, Replied: c.Replied,
		})
	}
	for _, q := range want.NATPorts {
		n, err := s.t.topo.CountConntrack(q.NetNS, protoNumber(q.Proto, q.Src), q.Dst, q.Src)
		if err == nil {
			s.fact(f, q.NetNS).NATPorts = n
		}
	}
}
