package recording

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// encoder turns events into bytes. Each is the difference to the one before.
type encoder struct {
	last    wire.Event
	tick    uint64
	tuples  ring[wire.Tuple]
	strings ring[string]
}

// ring is the writer's side of a dictionary.
type ring[T comparable] struct {
	slots []T
	place map[T]int
	next  int
	size  int
}

func newRing[T comparable](size int) ring[T] {
	return ring[T]{slots: make([]T, 0, min(size, 64)), place: map[T]int{}, size: size}
}

// put returns the slot of a value, from 1; 0 if it is new and took the next slot.
func (r *ring[T]) put(v T) int {
	if i, ok := r.place[v]; ok {
		return i + 1
	}
	if r.next < len(r.slots) {
		delete(r.place, r.slots[r.next])
		r.slots[r.next] = v
	} else {
		r.slots = append(r.slots, v)
	}
	r.place[v] = r.next
	r.next = (r.next + 1) % r.size
	return 0
}

func newEncoder() *encoder {
	return &encoder{tuples: newRing[wire.Tuple](tupleSlots), strings: newRing[string](stringSlots)}
}

// appendTick appends a moment.
func (c *encoder) appendTick(b []byte, now uint64) []byte {
	b = binary.AppendUvarint(b, maskTick)
	b = appendDelta(b, now, c.tick)
	c.tick = now
	return b
}

// appendEvent appends an event.
func (c *encoder) appendEvent(b []byte, e *wire.Event) []byte {
	mask := c.changes(e)
	b = binary.AppendUvarint(b, mask<<maskShift)
	for m := mask; m != 0; m &= m - 1 {
		b = c.appendField(b, field(bits.TrailingZeros64(m)), e)
	}
	c.last = *e
	return b
}

// changes is the mask of the fields that differ from the last event's.
func (c *encoder) changes(e *wire.Event) uint64 {
	l := &c.last
	var m uint64
	set := func(f field, differs bool) {
		if differs {
			m |= 1 << f
		}
	}
	set(fieldTime, e.Time != l.Time)
	set(fieldHook, e.Hook != l.Hook)
	set(fieldIfindex, e.Ifindex != l.Ifindex)
	set(fieldDev, e.Dev != l.Dev)
	set(fieldIn, e.InIfindex != l.InIfindex)
	set(fieldOut, e.OutIfindex != l.OutIfindex)
	set(fieldNFHook, e.NFHook != l.NFHook)
	set(fieldNetNS, e.NetNS != l.NetNS)
	set(fieldLocation, e.Location != l.Location)
	set(fieldSkb, e.Skb != l.Skb)
	set(fieldHead, e.Head != l.Head)
	set(fieldTuple, e.Tuple != l.Tuple)
	set(fieldFlags, e.Flags != l.Flags)
	set(fieldPktType, e.PktType != l.PktType)
	set(fieldCT, e.CT != l.CT)
	set(fieldCTOrig, e.CTOrig != l.CTOrig)
	set(fieldCTReply, e.CTReply != l.CTReply)
	set(fieldCTStatus, e.CTStatus != l.CTStatus)
	set(fieldCTInfo, e.CTInfo != l.CTInfo)
	set(fieldCPU, e.CPU != l.CPU)
	set(fieldSock, e.Sock != l.Sock)
	set(fieldSeq, e.Seq != l.Seq)
	set(fieldAck, e.Ack != l.Ack)
	set(fieldIPID, e.IPID != l.IPID)
	set(fieldLength, e.Length != l.Length)
	set(fieldPayload, e.Payload != l.Payload)
	set(fieldTCPFlags, e.TCPFlags != l.TCPFlags)
	set(fieldTTL, e.TTL != l.TTL)
	set(fieldReason, e.Reason != l.Reason)
	set(fieldMark, e.Mark != l.Mark)
	set(fieldErr, e.Err != l.Err)
	set(fieldOldState, e.OldState != l.OldState)
	set(fieldNewState, e.NewState != l.NewState)
	set(fieldICMPType, e.ICMPType != l.ICMPType)
	set(fieldICMPCode, e.ICMPCode != l.ICMPCode)
	set(fieldMTU, e.MTU != l.MTU)
	set(fieldOuter, e.OuterSrc != l.OuterSrc || e.OuterDst != l.OuterDst)
	set(fieldVNI, e.VNI != l.VNI)
	set(fieldGateway, e.Gateway != l.Gateway)
	set(fieldRouteTable, e.Table != l.Table)
	set(fieldCapture, e.Capture != nil)
	return m
}

func (c *encoder) appendField(b []byte, f field, e *wire.Event) []byte {
	switch f {
	case fieldTime:
		return appendDelta(b, e.Time, c.last.Time)
	case fieldLocation:
		return appendDelta(b, e.Location, c.last.Location)
	case fieldSkb:
		return appendDelta(b, e.Skb, c.last.Skb)
	case fieldHead:
		return appendDelta(b, e.Head, c.last.Head)
	case fieldCT:
		return appendDelta(b, e.CT, c.last.CT)
	case fieldSock:
		return appendDelta(b, e.Sock, c.last.Sock)
	case fieldTuple:
		return c.appendTuple(b, e.Tuple)
	case fieldCTOrig:
		return c.appendTuple(b, e.CTOrig)
	case fieldCTReply:
		return c.appendTuple(b, e.CTReply)
	case fieldOuter:
		return c.appendTuple(b, outer(e))
	case fieldDev:
		return c.appendString(b, e.Dev)
	case fieldGateway:
		return appendAddr(b, e.Gateway)
	case fieldCapture:
		return appendCapture(b, e.Capture)
	}
	return binary.AppendUvarint(b, number(f, e))
}

// number is the value of a field that is an unsigned number.
func number(f field, e *wire.Event) uint64 {
	switch f {
	case fieldHook:
		return uint64(e.Hook)
	case fieldIfindex:
		return uint64(e.Ifindex)
	case fieldIn:
		return uint64(e.InIfindex)
	case fieldOut:
		return uint64(e.OutIfindex)
	case fieldNFHook:
		return uint64(e.NFHook)
	case fieldNetNS:
		return uint64(e.NetNS)
	case fieldFlags:
		return uint64(e.Flags)
	case fieldPktType:
		return uint64(e.PktType)
	case fieldCTStatus:
		return uint64(e.CTStatus)
	case fieldCTInfo:
		return uint64(e.CTInfo)
	case fieldCPU:
		return uint64(e.CPU)
	case fieldSeq:
		return uint64(e.Seq)
	case fieldAck:
		return uint64(e.Ack)
	case fieldIPID:
		return uint64(e.IPID)
	case fieldLength:
		return uint64(e.Length)
	case fieldPayload:
		return uint64(e.Payload)
	case fieldTCPFlags:
		return uint64(e.TCPFlags)
	case fieldTTL:
		return uint64(e.TTL)
	}
	return rareNumber(f, e)
}

// rareNumber is number for fields that few events have.
func rareNumber(f field, e *wire.Event) uint64 {
	switch f {
	case fieldReason:
		return uint64(e.Reason)
	case fieldMark:
		return uint64(e.Mark)
	case fieldErr:
		return uint64(uint32(e.Err))
	case fieldOldState:
		return uint64(e.OldState)
	case fieldNewState:
		return uint64(e.NewState)
	case fieldICMPType:
		return uint64(e.ICMPType)
	case fieldICMPCode:
		return uint64(e.ICMPCode)
	case fieldMTU:
		return uint64(e.MTU)
	case fieldVNI:
		return uint64(e.VNI)
	case fieldRouteTable:
		return uint64(e.Table)
	}
	return 0
}

func appendDelta(b []byte, now, before uint64) []byte {
	return binary.AppendVarint(b, int64(now-before))
}

// appendTuple appends a slot of the dictionary, or 0 and the tuple: both addresses, ports, protocol.
func (c *encoder) appendTuple(b []byte, t wire.Tuple) []byte {
	slot := c.tuples.put(t)
	b = binary.AppendUvarint(b, uint64(slot))
	if slot != 0 {
		return b
	}
	b = appendAddr(b, t.Src.Addr())
	b = appendAddr(b, t.Dst.Addr())
	b = binary.AppendUvarint(b, uint64(t.Src.Port()))
	b = binary.AppendUvarint(b, uint64(t.Dst.Port()))
	return append(b, t.Proto)
}

// appendString appends a slot of the dictionary, or 0, the length and the bytes.
func (c *encoder) appendString(b []byte, s string) []byte {
	slot := c.strings.put(s)
	b = binary.AppendUvarint(b, uint64(slot))
	if slot != 0 {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	raw := cleanAddr(a).AsSlice()
	b = append(b, byte(len(raw)))
	return append(b, raw...)
}
