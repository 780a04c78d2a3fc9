package recording

import (
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// decoder turns bytes into events.
type decoder struct {
	fields  []fieldReader
	event   wire.Event
	tick    uint64
	tuples  slots[wire.Tuple]
	strings slots[string]
}

// fieldReader says what a bit of the mask stands for: a field known here, or its encoding alone.
type fieldReader struct {
	field field // fieldEnd if it is not known here
	kind  kind
}

// slots is the reader's side of a dictionary.
type slots[T any] struct {
	list []T
	next int
	size int
}

// add returns where the value is kept, which is valid until the next add.
func (s *slots[T]) add(v T) *T {
	at := s.next
	if at < len(s.list) {
		s.list[at] = v
	} else {
		s.list = append(s.list, v)
	}
	s.next = (at + 1) % s.size
	return &s.list[at]
}

// get returns an entry, which is valid until the next add. Slots count from 1.
func (s *slots[T]) get(slot uint64) (*T, error) {
	if slot-1 >= uint64(len(s.list)) {
		return new(T), fmt.Errorf("an event names entry %d of a dictionary with %d", slot, len(s.list))
	}
	return &s.list[slot-1], nil
}

// maxFields is how many fields a mask has room for.
const maxFields = 63

func newDecoder(names []string) (*decoder, error) {
	if len(names) > maxFields {
		return nil, fmt.Errorf("its events have %d fields, more than %d", len(names), maxFields)
	}
	d := &decoder{tuples: slots[wire.Tuple]{size: tupleSlots}, strings: slots[string]{size: stringSlots}}
	known, kinds := map[string]field{}, map[string]kind{}
	for k := range kindEnd {
		kinds[k.String()] = k
	}
	for i, f := range fieldTable() {
		known[f.String()] = field(i)
	}
	for _, name := range names {
		_, text, _ := strings.Cut(name, ":")
		k, ok := kinds[text]
		if !ok {
			return nil, fmt.Errorf("its events have a field %q in an encoding that is not known", name)
		}
		f, ok := known[name]
		if !ok {
			f = fieldEnd
		}
		d.fields = append(d.fields, fieldReader{f, k})
	}
	return d, nil
}

// next reads one event or moment from the front of b. An event is in d.event until the next call.
func (d *decoder) next(b []byte) (rest []byte, tick bool, err error) {
	c := cursor{b: b}
	mask := c.uvarint()
	if mask&maskTick != 0 {
		if d.tick += uint64(c.varint()); c.err != nil || mask != maskTick {
			return nil, true, errShort
		}
		return c.b, true, nil
	}
	d.event.Capture = nil // never that of the event before
	for m := mask >> maskShift; m != 0 && c.err == nil; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		if i >= len(d.fields) {
			return nil, false, fmt.Errorf("an event has a field %d, of %d", i, len(d.fields))
		}
		d.field(&c, d.fields[i])
	}
	return c.b, false, c.err
}

// field reads one field.
func (d *decoder) field(c *cursor, f fieldReader) {
	e := &d.event
	switch f.kind {
	case kindUint:
		setNumber(e, f.field, c.uvarint())
	case kindDelta:
		addDelta(e, f.field, uint64(c.varint()))
	case kindTuple:
		setTuple(e, f.field, d.tuple(c))
	case kindString:
		if s := d.string(c); f.field == fieldDev {
			e.Dev = s
		}
	case kindAddr:
		if a := c.addr(); f.field == fieldGateway {
			e.Gateway = a
		}
	case kindBytes:
		if raw := c.lengthAndBytes(); f.field == fieldCapture && c.err == nil {
			e.Capture, c.err = capture(raw)
		}
	}
}

func addDelta(e *wire.Event, f field, n uint64) {
	switch f {
	case fieldTime:
		e.Time += n
	case fieldLocation:
		e.Location += n
	case fieldSkb:
		e.Skb += n
	case fieldHead:
		e.Head += n
	case fieldCT:
		e.CT += n
	case fieldSock:
		e.Sock += n
	}
}

func setTuple(e *wire.Event, f field, t *wire.Tuple) {
	switch f {
	case fieldTuple:
		e.Tuple = *t
	case fieldCTOrig:
		e.CTOrig = *t
	case fieldCTReply:
		e.CTReply = *t
	case fieldOuter:
		e.OuterSrc, e.OuterDst = t.Src, t.Dst
	}
}

func setNumber(e *wire.Event, f field, n uint64) {
	switch f {
	case fieldHook:
		e.Hook = wire.Hook(n)
	case fieldIfindex:
		e.Ifindex = uint32(n)
	case fieldIn:
		e.InIfindex = uint32(n)
	case fieldOut:
		e.OutIfindex = uint32(n)
	case fieldNFHook:
		e.NFHook = uint8(n)
	case fieldNetNS:
		e.NetNS = uint32(n)
	case fieldFlags:
		e.Flags = uint32(n)
	case fieldPktType:
		e.PktType = uint8(n)
	case fieldCTStatus:
		e.CTStatus = uint32(n)
	case fieldCTInfo:
		e.CTInfo = uint8(n)
	case fieldCPU:
		e.CPU = uint16(n)
	case fieldSeq:
		e.Seq = uint32(n)
	case fieldAck:
		e.Ack = uint32(n)
	case fieldIPID:
		e.IPID = uint16(n)
	case fieldLength:
		e.Length = uint32(n)
	case fieldPayload:
		e.Payload = uint16(n)
	case fieldTCPFlags:
		e.TCPFlags = uint8(n)
	case fieldTTL:
		e.TTL = uint8(n)
	default:
		setRareNumber(e, f, n)
	}
}

// setRareNumber is setNumber for fields that few events have.
func setRareNumber(e *wire.Event, f field, n uint64) {
	switch f {
	case fieldReason:
		e.Reason = uint32(n)
	case fieldMark:
		e.Mark = uint32(n)
	case fieldErr:
		e.Err = int32(uint32(n))
	case fieldOldState:
		e.OldState = uint8(n)
	case fieldNewState:
		e.NewState = uint8(n)
	case fieldICMPType:
		e.ICMPType = uint8(n)
	case fieldICMPCode:
		e.ICMPCode = uint8(n)
	case fieldMTU:
		e.MTU = uint32(n)
	case fieldVNI:
		e.VNI = uint32(n)
	case fieldRouteTable:
		e.Table = uint32(n)
	}
}

// tuple reads a tuple, which is valid until the next one.
func (d *decoder) tuple(c *cursor) *wire.Tuple {
	if slot := c.uvarint(); slot != 0 {
		t, err := d.tuples.get(slot)
		c.fail(err)
		return t
	}
	src, dst := c.addr(), c.addr()
	sport, dport := uint16(c.uvarint()), uint16(c.uvarint())
	return d.tuples.add(wire.Tuple{Src: netip.AddrPortFrom(src, sport), Dst: netip.AddrPortFrom(dst, dport), Proto: c.byte()})
}

func (d *decoder) string(c *cursor) string {
	if slot := c.uvarint(); slot != 0 {
		s, err := d.strings.get(slot)
		c.fail(err)
		return *s
	}
	return *d.strings.add(string(c.lengthAndBytes()))
}
