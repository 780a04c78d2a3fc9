package wire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The lengths of a record in bytes, EVENT_* of bpf/include/event.h: what only some hooks know comes
// last, and is left out by those that do not.
const (
	SizePlain   = 200 // up to here every hook's
	SizeTracked = 296 // with connection tracking
	Size        = 320 // whole, sizeof(struct event)
)

// Offsets of struct event's fields; a test holds them to the BTF of the compiled objects.
const (
	offTime     = 0
	offSkb      = 8
	offHead     = 16
	offLocation = 24
	offSock     = 32
	offPacket   = 40
	offDev      = 152
	offNetNS    = 168
	offIfindex  = 172
	offIn       = 176
	offOut      = 180
	offReason   = 184
	offMark     = 188
	offCPU      = 192
	offHook     = 194
	offNFHook   = 195
	offOldState = 196
	offNewState = 197
	offPktType  = 198
	offCTInfo   = 199
	offCT       = SizePlain
	offCTOrig   = 208
	offCTReply  = 248
	offCTStatus = 288
	offGateway  = SizeTracked
	offTable    = 312
	offErr      = 316
	lenDev      = 16
	pktTuple    = 0
	pktOuter    = 40
	pktVNI      = 80
	pktFlags    = 84
	pktLength   = 88
	pktSeq      = 92
	pktAck      = 96
	pktMTU      = 100
	pktIPID     = 104
	pktPayload  = 106
	pktTCPFlags = 108
	pktTTL      = 109
	pktICMPType = 110
	pktICMPCode = 111
	tupleDaddr  = 16
	tupleSport  = 32
	tupleDport  = 34
	tupleProto  = 36
	addrSize    = 16
)

// Decode fills e from a record. It keeps nothing of record. The error says what is wrong with the
// record; e is then not valid.
func Decode(record []byte, e *Event) error {
	var d Decoder
	return d.Decode(record, e)
}

// A Decoder decodes many records. It keeps the names of the devices that it met last: they are most of what
// decoding allocates. The zero value is ready to use.
type Decoder struct {
	devices [16]string
	next    int // to be replaced
}

// device returns a name, which ends with a zero byte unless it fills b.
func (d *Decoder) device(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	for i := range d.devices {
		if d.devices[i] == string(b) {
			return d.devices[i]
		}
	}
	d.next = (d.next + 1) % len(d.devices)
	d.devices[d.next] = string(b)
	return d.devices[d.next]
}

// Decode is the function Decode.
func (d *Decoder) Decode(record []byte, e *Event) error {
	whole := record
	captured := len(record) > Size && record[offHook]&hookCaptured != 0
	if captured {
		record = record[:Size]
	}
	if n := len(record); n != SizePlain && n != SizeTracked && n != Size {
		return fmt.Errorf("decode event: %d bytes, want %d, %d or %d", n, SizePlain, SizeTracked, Size)
	}
	hook := Hook(record[offHook])
	if captured {
		hook &^= hookCaptured
	}
	if hook == HookUnknown || hook >= hookEnd {
		return fmt.Errorf("decode event: unknown hook %d", hook)
	}
	*e = Event{
		Time:       u64(record[offTime:]),
		Skb:        u64(record[offSkb:]),
		Head:       u64(record[offHead:]),
		Location:   u64(record[offLocation:]),
		Sock:       u64(record[offSock:]),
		NetNS:      u32(record[offNetNS:]),
		Ifindex:    u32(record[offIfindex:]),
		InIfindex:  u32(record[offIn:]),
		OutIfindex: u32(record[offOut:]),
		Reason:     u32(record[offReason:]),
		Mark:       u32(record[offMark:]),
		Dev:        d.device(record[offDev : offDev+lenDev]),
		CPU:        u16(record[offCPU:]),
		Hook:       hook,
		NFHook:     record[offNFHook],
		OldState:   record[offOldState],
		NewState:   record[offNewState],
		PktType:    record[offPktType],
		CTInfo:     record[offCTInfo],
	}
	decodePacket(record[offPacket:offDev], e)
	if len(record) > SizePlain {
		decodeConntrack(record, e)
	}
	if len(record) > SizeTracked {
		e.Table, e.Err = u32(record[offTable:]), int32(u32(record[offErr:]))
		e.Gateway = validAddr(record[offGateway:])
	}
	if captured {
		return decodeCapture(whole[Size:], e)
	}
	return nil
}

// decodeConntrack reads the entry, whose address is 0 if there is none.
func decodeConntrack(record []byte, e *Event) {
	if e.CT = u64(record[offCT:]); e.CT == 0 {
		return
	}
	e.CTStatus = u32(record[offCTStatus:])
	e.CTOrig = decodeTuple(record[offCTOrig:])
	e.CTReply = decodeTuple(record[offCTReply:])
}

func decodePacket(p []byte, e *Event) {
	e.Tuple = decodeTuple(p[pktTuple:])
	e.VNI = u32(p[pktVNI:])
	e.Flags = u32(p[pktFlags:])
	e.Length = u32(p[pktLength:])
	e.Seq = u32(p[pktSeq:])
	e.Ack = u32(p[pktAck:])
	e.MTU = u32(p[pktMTU:])
	e.IPID = u16(p[pktIPID:])
	e.Payload = u16(p[pktPayload:])
	e.TCPFlags = p[pktTCPFlags]
	e.TTL = p[pktTTL]
	e.ICMPType = p[pktICMPType]
	e.ICMPCode = p[pktICMPCode]
	if e.Flags&(FlagICMPError|FlagEncapsulated) != 0 {
		outer := decodeTuple(p[pktOuter:])
		e.OuterSrc, e.OuterDst = outer.Src, outer.Dst
	}
}

func decodeTuple(b []byte) Tuple {
	return Tuple{
		Src:   netip.AddrPortFrom(addr(b), u16(b[tupleSport:])),
		Dst:   netip.AddrPortFrom(addr(b[tupleDaddr:]), u16(b[tupleDport:])),
		Proto: b[tupleProto],
	}
}

func addr(b []byte) netip.Addr {
	return netip.AddrFrom16([addrSize]byte(b[:addrSize])).Unmap()
}

// validAddr returns the zero Addr for an all-zero address.
func validAddr(b []byte) netip.Addr {
	if a := addr(b); a != netip.IPv6Unspecified() {
		return a
	}
	return netip.Addr{}
}

// Host byte order: the record is written by the same machine, or one of the same order.
func u16(b []byte) uint16 { return binary.NativeEndian.Uint16(b) }
func u32(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }
func u64(b []byte) uint64 { return binary.NativeEndian.Uint64(b) }
