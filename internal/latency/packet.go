package latency

import (
	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// packetKey identifies a packet.
type packetKey struct{ flow, packet int }

// direction is an index: 0 request, 1 reply.
type direction uint8

const (
	request direction = iota
	reply
)

func directionOf(d path.Direction) direction {
	if d == path.Reply {
		return reply
	}
	return request
}

func (d direction) opposite() direction { return d ^ 1 }

// packet is one packet on its way.
type packet struct {
	key    packetKey
	flow   *flowState
	dir    direction
	places []int32
	times  []uint64
	first  uint64
	last   uint64
	branch uint8 // newest sk_buff
	seq    uint32
	ack    uint32
	length uint32 // of the sequence: payload
	hook   wire.Hook

	repeat, dropped, copied, tooLong bool
	ended                            bool // its way is complete
	done                             bool // it was taken

	way  *way
	sums sums
	next *packet // in the queue, or in the list of unused ones
}

// end is the sequence number after the packet's data.
func (p *packet) end() uint32 { return p.seq + p.length }

// add takes one step of the packet.
func (p *packet) add(m *Meter, s *flow.Step) {
	p.repeat = p.repeat || s.Retransmission
	switch {
	case s.Action == path.ActionDrop || s.Action == path.ActionReject:
		p.dropped = p.dropped || !s.Noise
		return
	case s.Branch < p.branch:
		p.copied = true // a clone and the packet itself pass places in turns
		return
	case len(p.places) >= maxPlaces:
		p.tooLong = true
		return
	}
	p.branch = s.Branch
	same := len(p.times) > 0 && p.times[len(p.times)-1] == s.Time && p.hook == s.Hook
	at := m.placeAfter(p, placeOf(s, same))
	if n := len(p.places); n > 0 && p.places[n-1] == at && !same {
		p.times[n-1], p.last = s.Time, s.Time // a driver that was busy is given the packet again
		return
	}
	p.hook = s.Hook
	p.places, p.times = append(p.places, at), append(p.times, s.Time)
	if p.first == 0 {
		p.first = s.Time
	}
	p.last = s.Time
	p.ended = m.places[at].ends()
}

// placeAfter interns the packet's next place. Packets of a flow pass the same places: looking where the
// last one was saves the look-up.
func (m *Meter) placeAfter(p *packet, at place) int32 {
	if usual := p.flow.usual[p.dir]; len(p.places) < len(usual) && m.places[usual[len(p.places)]] == at {
		return usual[len(p.places)]
	}
	return m.place(at)
}

// why says why the packet is no sample, "" if it is one.
func (p *packet) why() string {
	switch {
	case p.dropped:
		return DiscardDropped
	case p.repeat:
		return DiscardRetransmission
	case p.copied:
		return DiscardCopied
	case p.tooLong, len(p.places) < 2:
		return DiscardIncomplete
	}
	return ""
}

// Why samples are left out.
const (
	// DiscardRetransmission: the segment was sent before; its time says more of the timer than of the way.
	DiscardRetransmission = "retransmission"
	// DiscardDropped: the packet did not arrive.
	DiscardDropped = "dropped"
	// DiscardCopied: a bridge flooded it, or something else copied it on its way.
	DiscardCopied = "copied on its way"
	// DiscardIncomplete: it was seen once only, or at more places than are kept.
	DiscardIncomplete = "incomplete"
	// DiscardManyWays: packets took more different ways than are kept.
	DiscardManyWays = "too many different ways"
	// DiscardUnknown: what the devices on the way are was not known yet.
	DiscardUnknown = "devices not known yet"
	// DiscardOtherWay: its way was another than that of most.
	DiscardOtherWay = "took another way"
	// DiscardTooMany: more packets were on their way at once than are kept.
	DiscardTooMany = "too many at once"
	// DiscardUnanswered: no answer to the request was seen.
	DiscardUnanswered = "no answer seen"
	// DiscardUnasked: the answer fits no request that was seen.
	DiscardUnasked = "answer without a request"
	// DiscardUnseen: a round trip of an own probe of which the kernel's part was not seen.
	DiscardUnseen = "not seen in the kernel"
)
