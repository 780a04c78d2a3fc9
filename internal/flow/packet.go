package flow

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// fingerprint is what stays the same of a packet while its addresses are translated.
type fingerprint struct {
	seq, ack       uint32 // TCP; ICMP echo: seq
	length         uint32 // for padding only
	ipid           uint16
	payload        uint16
	proto          uint8
	tcpFlags       uint8
	icmpType, code uint8 // ICMP
	icmpError      bool
	fragment       bool
	truncated      bool
}

// isTruncated reports whether ports may be missing. An ICMP error quotes them in any case.
func isTruncated(e *wire.Event) bool {
	return e.Has(wire.FlagTruncated) && !e.Has(wire.FlagICMPError)
}

func fingerprintOf(e *wire.Event) fingerprint {
	fp := fingerprint{
		seq: e.Seq, ack: e.Ack, length: e.Length, ipid: e.IPID, payload: e.Payload,
		proto: e.Tuple.Proto, tcpFlags: e.TCPFlags & 0x3f,
		icmpError: e.Has(wire.FlagICMPError), fragment: e.Has(wire.FlagFragment), truncated: isTruncated(e),
	}
	if e.Hook != wire.ICMPSend && (fp.icmpError || isEcho(fp.proto)) {
		fp.icmpType, fp.code = e.ICMPType, e.ICMPCode
	}
	if e.Hook == wire.ICMPSend && isEcho(fp.proto) {
		fp.icmpType = echoType(&e.Tuple) // the event's type is that of the error being sent
	}
	return fp
}

// echoType tells the type of an echo packet from the side on which its tuple has the identifier.
func echoType(t *wire.Tuple) uint8 {
	asks := t.Src.Port() != 0
	switch {
	case t.Proto == wire.ProtoICMP && asks:
		return 8
	case t.Proto == wire.ProtoICMP:
		return 0
	case asks:
		return 128
	}
	return 129
}

// fits reports whether both can be fingerprints of one packet.
func (a *fingerprint) fits(b *fingerprint) bool {
	if a.proto != b.proto || a.icmpError != b.icmpError {
		return false
	}
	if a.fragment || b.fragment || a.truncated || b.truncated {
		return a.ipid == b.ipid && (a.ipid != 0 || a.truncated || b.truncated)
	}
	if a.ipid != b.ipid {
		return false // a retransmission has another one, if any
	}
	if a.icmpError {
		return a.icmpType == b.icmpType && a.code == b.code && a.seq == b.seq
	}
	if a.payload != b.payload && !a.padded(b) {
		return false
	}
	switch {
	case a.proto == wire.ProtoTCP:
		return a.seq == b.seq && a.ack == b.ack && a.tcpFlags == b.tcpFlags
	case isEcho(a.proto):
		return a.seq == b.seq && a.icmpType == b.icmpType
	}
	return true
}

// padded reports whether one is the other with the padding of a minimal Ethernet frame: 46 bytes,
// which the IP layer trims off only after the device was passed.
func (a *fingerprint) padded(b *fingerprint) bool {
	const minimal = 46
	return max(a.length, b.length) == minimal
}

// strong reports whether equal fingerprints mean the same packet beyond doubt.
func (a *fingerprint) strong() bool {
	return a.proto == wire.ProtoTCP && (a.seq != 0 || a.ack != 0) && !a.truncated
}

// repeats reports whether a packet with fingerprint a carries again what one with b carried.
func (a *fingerprint) repeats(b *fingerprint) bool {
	const moves = wire.SYN | wire.FIN
	return a.proto == wire.ProtoTCP && !a.icmpError && !b.icmpError && !a.fragment && !b.fragment &&
		a.seq == b.seq && a.payload == b.payload && a.tcpFlags&moves == b.tcpFlags&moves &&
		(a.payload > 0 || a.tcpFlags&moves != 0) && a.tcpFlags&wire.RST == 0
}

// branch is one sk_buff of a packet: clones and copies go their own ways.
type branch struct {
	skb, head uint64
	last      uint64 // time of the last observation
	netns     uint32 // of the last observation
	openNS    uint32
	decrypted uint32 // namespace in which IPsec decrypted it last
	openIn    uint32 // devices of the open hook
	openOut   uint32
	ends      uint8 // index into flow.ends
	ttl       uint8
	hook      wire.Hook // of the last observation
	stage     stageID   // of the last observation
	openStage stageID
	open      bool // a netfilter hook was entered and not left
	tunnelled bool // inside VXLAN
	bridged   bool // the last netfilter hook was br_netfilter's
	freed     bool // dropped: its address may be another packet's now
	input     bool // the last netfilter hook passed was INPUT
	outer     *extra
}

// packet is the state of one packet.
type packet struct {
	flow     *flow
	id       int
	gen      uint32 // counts uses of this memory
	dir      direction
	kept     bool // it is in flow.packets
	repeat   bool // a retransmission
	dropped  bool // a drop that is neither noise nor a copy's
	split    bool // seen as fragments
	fp       fingerprint
	mtu      uint32 // that an ICMP error tells
	first    uint64
	last     uint64
	branches []branch
	carried  uint32  // bits of flow.ends that the packet carried
	places   []place // at which it was seen
	hops     []hop
	omitted  int

	older, newer *packet // light packets of the flow; of free memory, older is the next
	light        link[packet]
}

const (
	maxBranches = 16
	maxPlaces   = 128 // of a kept packet; a light one keeps fewer
	lightPlaces = 48
)

// skbRef leads from the address of an sk_buff to its packet.
type skbRef struct {
	packet *packet
	branch uint8
}

// addBranch makes the event's sk_buff lead to a branch of the packet, new if need be, and returns its
// index. What the packet looks like is taken over from the branch seen last.
func (t *Tracker) addBranch(p *packet, e *wire.Event) uint8 {
	for i := range p.branches {
		if p.branches[i].skb == e.Skb && !p.branches[i].freed {
			t.skbs[e.Skb] = skbRef{p, uint8(i)}
			return uint8(i)
		}
	}
	var b branch
	if len(p.branches) > 0 {
		b = p.branches[p.latest()]
		b.freed = false
	}
	b.skb, b.head = e.Skb, e.Head
	if len(p.branches) < maxBranches {
		p.branches = append(p.branches, b)
	} else {
		t.forgetSkb(p, p.branches[maxBranches-1].skb)
		p.branches[maxBranches-1] = b
	}
	index := uint8(len(p.branches) - 1)
	t.skbs[e.Skb] = skbRef{p, index}
	return index
}

// latest returns the index of the branch that was seen last.
func (p *packet) latest() int {
	latest := 0
	for i := range p.branches {
		if p.branches[i].last > p.branches[latest].last {
			latest = i
		}
	}
	return latest
}

// isFreed reports whether every known sk_buff of the packet was dropped.
func (p *packet) isFreed() bool {
	for i := range p.branches {
		if !p.branches[i].freed {
			return false
		}
	}
	return true
}

// hasHead reports whether e's sk_buff shares its data with one of the packet's.
func (p *packet) hasHead(e *wire.Event) bool {
	for i := range p.branches {
		if e.Head != 0 && p.branches[i].head == e.Head {
			return true
		}
	}
	return false
}

// place is a hash of where an sk_buff was seen; 0 for observations that can repeat. The lower half
// is of the sk_buff's address.
type place uint64

// anySkb is the part of a place that is the same for all sk_buffs.
func (pl place) anySkb() uint32 { return uint32(pl >> 32) }

// placeOf returns the place of an observation. The hop limit is part of it: a packet in a routing
// loop passes places again, with a lower one.
func placeOf(e *wire.Event) place {
	switch e.Hook {
	case wire.DevQueue, wire.DevXmit, wire.DevReceive, wire.NetfilterEnter, wire.NetfilterLeave:
	default:
		return 0
	}
	skb := uint32(e.Skb * 0x9e3779b97f4a7c15 >> 32)
	fragment := uint32(0) // fragments of one packet all pass the same places
	if e.Has(wire.FlagFragment) {
		fragment = skb | 1
	}
	h := uint64(e.Hook)<<8 | uint64(e.NFHook)<<4 | uint64(e.TTL)<<16 | uint64(e.Flags&(wire.FlagEncapsulated|wire.FlagBridgeNF))<<24
	for _, v := range [...]uint32{e.NetNS, e.Ifindex, e.InIfindex, e.OutIfindex, fragment} {
		h = (h ^ uint64(v)) * 0x9e3779b97f4a7c15
		h ^= h >> 29
	}
	return place(uint64(uint32(h>>16)|1)<<32 | uint64(skb))
}

// skbWasAt reports whether the very sk_buff was already seen at that place.
func (p *packet) skbWasAt(at place) bool {
	return at != 0 && slices.Contains(p.places, at)
}

// wasAt reports whether any sk_buff of the packet was already seen at that place.
func (p *packet) wasAt(at place) bool {
	for _, v := range p.places {
		if at != 0 && v.anySkb() == at.anySkb() {
			return true
		}
	}
	return false
}

// isClone reports whether e, at a place that the packet passed already, is of a clone of it: where a
// bridge floods a frame, br_netfilter's hooks have the same devices for each port, and the clones pass
// them one after the other. Shared data alone does not tell: TCP sends clones of one segment again and
// again, and memory that is free is used for the next packet at once.
func (p *packet) isClone(e *wire.Event) bool {
	hook := e.Hook == wire.NetfilterEnter || e.Hook == wire.NetfilterLeave
	return hook && e.Has(wire.FlagBridgeNF) && p.hasHead(e) && e.Time <= p.last+uint64(sameMoment)
}

func (p *packet) addPlace(at place) {
	limit := lightPlaces
	if p.kept {
		limit = maxPlaces
	}
	if at != 0 && len(p.places) < limit {
		p.places = append(p.places, at)
	}
}

// public returns the packet without its hops.
func (p *packet) public() path.Packet {
	out := path.Packet{
		ID: p.id, Direction: p.dir.public(), Retransmission: p.repeat, ICMPError: p.fp.icmpError,
		Length: int(p.fp.length), OmittedHops: p.omitted, Ident: uint32(p.fp.ipid),
	}
	if isEcho(p.fp.proto) && !p.fp.icmpError {
		out.Ident = p.fp.seq
	}
	if p.fp.proto == wire.ProtoTCP && !p.fp.icmpError {
		out.Seq, out.Ack = p.fp.seq, p.fp.ack
		out.TCPFlags = wire.TCPFlagString(p.fp.tcpFlags)
	}
	return out
}

// v6 reports whether the packet is an IPv6 one.
func (p *packet) v6() bool {
	return len(p.flow.ends) > 0 && p.flow.ends[0].tuple.Dst.Addr().Is6()
}
