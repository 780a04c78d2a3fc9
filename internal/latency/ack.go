package latency

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Delayed acknowledgements: Linux holds them back for 40 ms or more (TCP_DELACK_MIN, include/net/tcp.h);
// what is sent at once takes microseconds.
const delayedAck = 5_000_000

// maxUnacked bounds the arrivals of a flow that wait for an acknowledgement.
const maxUnacked = 64

// arrived notes data that arrived, and what the packet acknowledges.
func (f *flowState) arrived(p *packet) {
	if f.proto != path.TCP {
		return
	}
	f.acked(p.dir, p.ack)
	if list := f.unacked[p.dir]; len(list) < maxUnacked && !p.dropped {
		f.unacked[p.dir] = append(list, arrival{p.end(), p.last})
	}
}

// acked forgets the data that a packet of direction d acknowledges and returns when the oldest of it
// had arrived, 0 if there is none.
func (f *flowState) acked(d direction, ack uint32) (at uint64) {
	list := f.unacked[d.opposite()]
	n := 0
	for n < len(list) && int32(ack-list[n].end) >= 0 {
		n++
	}
	if n > 0 {
		at = list[0].at
		f.unacked[d.opposite()] = slices.Delete(list, 0, n)
	}
	return at
}

// noteAck takes the first step of a packet without data.
func (f *flowState) noteAck(d direction, s *flow.Step) {
	if s.Packet <= f.lastAck[d] {
		return
	}
	f.lastAck[d] = s.Packet
	at := f.acked(d, s.Ack)
	if at == 0 || s.Time < at+delayedAck {
		return
	}
	if f.target.delayed == nil {
		f.target.delayed = newHistogram(fine)
	}
	f.target.delayed.Record(int64(s.Time - at))
}
