package flow

import (
	"time"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// tupleRef leads from a canonical tuple to its flow.
type tupleRef struct {
	flow *flow
	// swapped is what canonical reports for the tuple of a request.
	swapped bool
}

// canonical returns the one of t and its inverse that stands for both, and whether it is the
// inverse.
func canonical(t wire.Tuple) (wire.Tuple, bool) {
	c := t.Src.Addr().Compare(t.Dst.Addr())
	if c > 0 || c == 0 && t.Src.Port() > t.Dst.Port() {
		return t.Inverse(), true
	}
	return t, false
}

// packetGap is the longest time between two observations of a packet: a neighbour look-up takes
// three seconds.
const packetGap = uint64(6 * time.Second)

// known returns the flow of a tuple and the direction in which the tuple reads.
func (t *Tracker) known(tuple wire.Tuple) (*flow, direction) {
	c, swapped := canonical(tuple)
	ref, ok := t.tuples[c]
	if !ok {
		return nil, request
	}
	if ref.swapped == swapped {
		return ref.flow, request
	}
	return ref.flow, reply
}

// alias makes tuple, which reads in direction d, lead to f, unless it leads to another flow that
// is not finished.
func (t *Tracker) alias(f *flow, tuple wire.Tuple, d direction) {
	c, swapped := canonical(tuple)
	if ref, ok := t.tuples[c]; ok && (ref.flow == f || ref.flow.state != lingering) {
		return
	}
	if len(f.keys) >= maxKeys {
		return
	}
	t.tuples[c] = tupleRef{flow: f, swapped: swapped != (d == reply)}
	f.keys = append(f.keys, c)
}

// lookup returns the flow that a packet belongs to by its addresses and the packet's direction.
// The conntrack entry counts where the tuple is not known; the tuple is then known from now on.
func (t *Tracker) lookup(e *wire.Event) (*flow, direction) {
	f, d := t.known(e.Tuple)
	if f == nil && e.CT != 0 {
		if f, d = t.byConntrack(e); f != nil && f.state != lingering {
			t.alias(f, e.Tuple, d)
		}
	}
	if e.Has(wire.FlagICMPError) {
		d = d.opposite() // the tuple is the quoted packet's
	}
	return f, d
}

// byConntrack returns the flow of a packet's conntrack entry and the direction in which its tuple
// reads.
func (t *Tracker) byConntrack(e *wire.Event) (*flow, direction) {
	f, d := t.known(e.CTOrig)
	if f == nil {
		if f, d = t.known(e.CTReply); f == nil {
			return nil, request
		}
		d = d.opposite()
	}
	if isReplyInfo(e.CTInfo) != e.Has(wire.FlagICMPError) {
		d = d.opposite()
	}
	return f, d
}

// isReplyInfo reports whether an enum ip_conntrack_info value is that of a packet in the reply
// direction (IP_CT_IS_REPLY and above, include/uapi/linux/netfilter/nf_conntrack_common.h).
func isReplyInfo(info uint8) bool { return info >= 3 && info < 7 }

// bySkb returns the packet that the event's sk_buff carries, if it still does.
func (t *Tracker) bySkb(e *wire.Event, fp *fingerprint, at place) (*packet, uint8) {
	ref, ok := t.skbs[e.Skb]
	if !ok {
		return nil, 0
	}
	p := ref.packet
	b := &p.branches[ref.branch]
	switch {
	case b.freed, b.skb != e.Skb, e.Time > p.last+packetGap && e.Hook != wire.SocketRead, !p.fp.fits(fp), rises(e.TTL, b.ttl), isBirth(e):
		return nil, 0
	case p.flow.state == lingering:
		return nil, 0
	}
	if p.skbWasAt(at) && !isRequeue(b, e) {
		return nil, 0
	}
	if !t.sameEnds(p, b, e) && !t.mayTranslate(p, b, e, fp) {
		return nil, 0
	}
	return p, ref.branch
}

// rises reports whether a hop limit is greater than before, which no packet's ever is.
func rises(ttl, before uint8) bool { return ttl > before && before != 0 }

// isBirth reports whether the event is the first that a locally made packet can have.
func isBirth(e *wire.Event) bool {
	return e.Hook == wire.NetfilterEnter && e.NFHook == wire.NFOutput &&
		e.Flags&(wire.FlagEncapsulated|wire.FlagBridgeNF|wire.FlagIPVS) == 0
}

// isRequeue reports whether a packet may pass a place again: a driver that was busy is given it once
// more, or IPVS sends it on through OUTPUT from inside of OUTPUT.
func isRequeue(b *branch, e *wire.Event) bool {
	return e.Hook == wire.DevXmit && b.hook == wire.DevXmit ||
		e.Has(wire.FlagIPVS) && e.Hook == wire.NetfilterEnter && b.hook == wire.NetfilterEnter
}

// endsOf returns the tuple that the packet itself carries: for an ICMP error not the quoted one.
func endsOf(e *wire.Event) wire.Tuple {
	if !e.Has(wire.FlagICMPError) {
		return e.Tuple
	}
	proto := uint8(wire.ProtoICMP)
	if e.OuterSrc.Addr().Is6() {
		proto = wire.ProtoICMPv6
	}
	return wire.Tuple{Src: e.OuterSrc, Dst: e.OuterDst, Proto: proto}
}

func (t *Tracker) sameEnds(p *packet, b *branch, e *wire.Event) bool {
	return b.ends < noEnds && p.flow.ends[b.ends].tuple == endsOf(e)
}

// mayTranslate reports whether a packet with other addresses in the same sk_buff can be the same
// packet, translated. A fingerprint that says little needs a place where translation happens.
func (t *Tracker) mayTranslate(p *packet, b *branch, e *wire.Event, fp *fingerprint) bool {
	if fp.truncated || p.fp.truncated {
		return b.ends < noEnds && sameAddrs(p.flow.ends[b.ends].tuple, endsOf(e)) // the ports may be missing
	}
	f, d := t.known(e.Tuple)
	if e.Has(wire.FlagICMPError) {
		d = d.opposite()
	}
	if f == p.flow {
		return d == p.dir
	}
	if f != nil && f.state != lingering && !fp.strong() {
		return false
	}
	if moves := b.netns != e.NetNS && b.netns != 0 && e.NetNS != 0; moves && e.Hook != wire.DevReceive && e.Hook != wire.Drop &&
		b.tunnelled == e.Has(wire.FlagEncapsulated) {
		return false // only a device carries a packet into another namespace
	}
	if fp.strong() || b.open && b.openNS == e.NetNS {
		return true
	}
	if byCT, d := t.byConntrack(e); e.CT != 0 && byCT == p.flow && (d == p.dir) != e.Has(wire.FlagICMPError) {
		return true
	}
	_, hooked := t.hooked[e.NetNS]
	return !hooked
}

func sameAddrs(a, b wire.Tuple) bool {
	return a.Src.Addr() == b.Src.Addr() && a.Dst.Addr() == b.Dst.Addr()
}

// byFingerprint returns the recent packet of f that e, in another sk_buff, belongs to.
func (t *Tracker) byFingerprint(f *flow, d direction, e *wire.Event, fp *fingerprint, at place) *packet {
	if isBirth(e) && !fp.fragment {
		return nil
	}
	var best *packet
	var bestScore score
	consider := func(p *packet) {
		if p.dir != d || e.Time > p.last+packetGap || !p.fp.fits(fp) || p.wasAt(at) && !p.isClone(e) {
			return
		}
		if s := p.score(e); s > bestScore || s == bestScore && s > scoreNone && p.precedes(best, s, fp) {
			best, bestScore = p, s
		}
	}
	for i, n := len(f.packets)-1, 0; i >= 0 && n < maxScan; i, n = i-1, n+1 {
		consider(f.packets[i])
	}
	for p, n := f.light, 0; p != nil && n < maxScan; p, n = p.older, n+1 {
		consider(p)
	}
	return best
}

// maxScan bounds how many recent packets of a flow are compared.
const maxScan = 48

// score says how well an event in an unknown sk_buff fits a packet whose fingerprint is equal.
type score uint8

const (
	scoreNone  score = iota
	scoreAlike       // nothing but the fingerprint tells
	scoreSent        // and the packet was transmitted last, as one that is received must have been
	scoreData        // they share their data
)

// score returns how well e fits the packet.
func (p *packet) score(e *wire.Event) score {
	freed := p.isFreed() // its memory may soon be another's
	if p.hasHead(e) && !(freed && e.Time > p.last+uint64(sameMoment)) {
		return scoreData
	}
	if freed || rises(e.TTL, p.lowestTTL()) {
		return scoreNone
	}
	if e.Hook == wire.DevReceive && p.branches[p.latest()].hook == wire.DevXmit {
		return scoreSent
	}
	return scoreAlike
}

// precedes reports whether an event that fits p as well as q is p's.
func (p *packet) precedes(q *packet, s score, fp *fingerprint) bool {
	if s == scoreData {
		return p.last > q.last // a clone is seen when what it was made of was
	}
	// Packets that look alike pass a place in the order in which they were sent. TCP sends one again only
	// when the first seems to be lost.
	return !fp.strong() && p.id < q.id
}

func (p *packet) lowestTTL() uint8 {
	lowest := uint8(255)
	for i := range p.branches {
		if ttl := p.branches[i].ttl; ttl != 0 {
			lowest = min(lowest, ttl)
		}
	}
	return lowest
}
