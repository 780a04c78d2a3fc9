package recording

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// errShort is an event that ends before its last field.
var errShort = errors.New("an event is cut off")

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
	kind  string
}

// slots is the reader's side of a dictionary.
type slots[T any] struct {
	list []T
	next int
	size int
}

func (s *slots[T]) add(v T) {
	if s.next < len(s.list) {
		s.list[s.next] = v
	} else {
		s.list = append(s.list, v)
	}
	s.next = (s.next + 1) % s.size
}

func (s *slots[T]) get(slot uint64) (v T, err error) {
	if slot > uint64(len(s.list)) {
		return v, fmt.Errorf("an event names entry %d of a dictionary with %d", slot, len(s.list))
	}
	return s.list[slot-1], nil
}

// maxFields is how many fields a mask has room for.
const maxFields = 63

func newDecoder(names []string) (*decoder, error) {
	if len(names) > maxFields {
		return nil, fmt.Errorf("its events have %d fields, more than %d", len(names), maxFields)
	}
	d := &decoder{tuples: slots[wire.Tuple]{size: tupleSlots}, strings: slots[string]{size: stringSlots}}
	known := map[string]field{}
	for i, f := range fieldTable() {
		known[f[0]+":"+f[1]] = field(i)
	}
	for _, name := range names {
		_, kind, _ := strings.Cut(name, ":")
		switch kind {
		case kindUint, kindDelta, kindTuple, kindString, kindAddr, kindBytes:
		default:
			return nil, fmt.Errorf("its events have a field %q in an encoding that is not known", name)
		}
		f, ok := known[name]
		if !ok {
			f = fieldEnd
		}
		d.fields = append(d.fields, fieldReader{f, kind})
	}
	return d, nil
}

// next reads one event or moment from the front of b. An event is in d.event until the next call.
func (d *decoder) next(b []byte) (rest []byte, tick bool, err error) {
	mask, b, err := uvarint(b)
	if err != nil {
		return nil, false, err
	}
	if mask&maskTick != 0 {
		var delta int64
		if delta, b, err = varint(b); err != nil || mask != maskTick {
			return nil, true, errShort
		}
		d.tick += uint64(delta)
		return b, true, nil
	}
	d.event.Capture = nil // never that of the event before
	for m := mask >> maskShift; m != 0; m &= m - 1 {
		i := bits.TrailingZeros64(m)
		if i >= len(d.fields) {
			return nil, false, fmt.Errorf("an event has a field %d, of %d", i, len(d.fields))
		}
		if b, err = d.field(b, d.fields[i]); err != nil {
			return nil, false, err
		}
	}
	return b, false, nil
}

// field reads one field.
func (d *decoder) field(b []byte, f fieldReader) ([]byte, error) {
	e := &d.event
	switch f.kind {
	case kindUint:
		n, b, err := uvarint(b)
		if err != nil {
			return nil, err
		}
		setNumber(e, f.field, n)
		return b, nil
	case kindDelta:
		n, b, err := varint(b)
		if err != nil {
			return nil, err
		}
		addDelta(e, f.field, uint64(n))
		return b, nil
	case kindTuple:
		t, b, err := d.tuple(b)
		if err != nil {
			return nil, err
		}
		setTuple(e, f.field, t)
		return b, nil
	case kindString:
		s, b, err := d.string(b)
		if err == nil && f.field == fieldDev {
			e.Dev = s
		}
		return b, err
	case kindAddr:
		a, b, err := addr(b)
		if err == nil && f.field == fieldGateway {
			e.Gateway = a
		}
		return b, err
	}
	raw, b, err := lengthAndBytes(b)
	if err == nil && f.field == fieldCapture {
		e.Capture, err = capture(raw)
	}
	return b, err
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

func setTuple(e *wire.Event, f field, t wire.Tuple) {
	switch f {
	case fieldTuple:
		e.Tuple = t
	case fieldCTOrig:
		e.CTOrig = t
	case fieldCTReply:
		e.CTReply = t
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

func (d *decoder) tuple(b []byte) (t wire.Tuple, rest []byte, err error) {
	slot, b, err := uvarint(b)
	if err != nil {
		return t, nil, err
	}
	if slot != 0 {
		t, err = d.tuples.get(slot)
		return t, b, err
	}
	src, b, err := addr(b)
	if err != nil {
		return t, nil, err
	}
	dst, b, err := addr(b)
	if err != nil {
		return t, nil, err
	}
	sport, b, err := uvarint(b)
	if err != nil {
		return t, nil, err
	}
	dport, b, err := uvarint(b)
	if err != nil || len(b) == 0 {
		return t, nil, errShort
	}
	t = wire.Tuple{Src: addrPort(src, sport), Dst: addrPort(dst, dport), Proto: b[0]}
	d.tuples.add(t)
	return t, b[1:], nil
}

// addrPort is the zero AddrPort, as in an event, where neither is known.
func addrPort(a netip.Addr, port uint64) netip.AddrPort {
	return netip.AddrPortFrom(a, uint16(port))
}

func (d *decoder) string(b []byte) (s string, rest []byte, err error) {
	slot, b, err := uvarint(b)
	if err != nil {
		return "", nil, err
	}
	if slot != 0 {
		s, err = d.strings.get(slot)
		return s, b, err
	}
	raw, b, err := lengthAndBytes(b)
	if err != nil {
		return "", nil, err
	}
	s = string(raw)
	d.strings.add(s)
	return s, b, nil
}

func addr(b []byte) (a netip.Addr, rest []byte, err error) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return a, nil, errShort
	}
	n := int(b[0])
	raw, b := b[1:1+n], b[1+n:]
	switch n {
	case 0:
		return a, b, nil
	case 4:
		return netip.AddrFrom4([4]byte(raw)), b, nil
	case 16:
		return netip.AddrFrom16([16]byte(raw)), b, nil
	}
	return a, nil, fmt.Errorf("an event has an address of %d bytes", n)
}

func lengthAndBytes(b []byte) (raw, rest []byte, err error) {
	n, b, err := uvarint(b)
	if err != nil || n > uint64(len(b)) {
		return nil, nil, errShort
	}
	return b[:n], b[n:], nil
}

func uvarint(b []byte) (uint64, []byte, error) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:], nil
	}
	n, size := binary.Uvarint(b)
	if size <= 0 {
		return 0, nil, errShort
	}
	return n, b[size:], nil
}

func varint(b []byte) (int64, []byte, error) {
	n, size := binary.Varint(b)
	if size <= 0 {
		return 0, nil, errShort
	}
	return n, b[size:], nil
}
