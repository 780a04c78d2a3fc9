package pcapng

import (
	"encoding/binary"
	"net/netip"
)

// IP protocol numbers.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// Header is what is known of a packet of which there are no bytes.
type Header struct {
	Src, Dst netip.AddrPort
	Proto    uint8 // IP protocol number
	TTL      uint8
	Length   int // of the whole packet, from the IP header on
	// TCP only.
	Seq, Ack uint32
	Flags    uint8
	// ICMP only. ID is the identifier of an echo, MTU that of an error; both 0 if there is none.
	Type, Code uint8
	ID         uint16
	MTU        uint32
}

// Sizes of headers without options.
const (
	sizeIPv4 = 20
	sizeIPv6 = 40
	sizeTCP  = 20
	sizeUDP  = 8
	sizeICMP = 8
)

// Bytes returns an IP header and a transport header that say what h says. What h does not tell has a
// plain value: no options, no identification, a TCP window of 65,535 bytes, no transport checksum.
func (h Header) Bytes() []byte {
	var t []byte
	switch h.Proto {
	case protoTCP:
		t = h.tcp()
	case protoICMP, protoICMPv6:
		t = h.icmp()
	case protoUDP:
		t = h.udp()
	}
	if h.isIPv4() {
		return append(h.ipv4(len(t)), t...)
	}
	return append(h.ipv6(len(t)), t...)
}

// isIPv4 reports the version: addresses that are not known count as IPv6's.
func (h Header) isIPv4() bool { return h.Src.Addr().Unmap().Is4() && h.Dst.Addr().Unmap().Is4() }

// whole is the length of the packet: no less than its headers, no more than the field holds.
func (h Header) whole(headers int) uint16 { return uint16(min(max(h.Length, headers), 65535)) }

func (h Header) ipv4(transport int) []byte {
	b := make([]byte, sizeIPv4)
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], h.whole(sizeIPv4+transport))
	b[8], b[9] = h.TTL, h.Proto
	src, dst := h.Src.Addr().Unmap().As4(), h.Dst.Addr().Unmap().As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], checksum(b))
	return b
}

func (h Header) ipv6(transport int) []byte {
	b := make([]byte, sizeIPv6)
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], h.whole(sizeIPv6+transport)-sizeIPv6)
	b[6], b[7] = h.Proto, h.TTL
	src, dst := as16(h.Src.Addr()), as16(h.Dst.Addr())
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	return b
}

// as16 is the unspecified address for one that is not known.
func as16(a netip.Addr) (b [16]byte) {
	if a.IsValid() {
		b = a.As16()
	}
	return b
}

func (h Header) ports(size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint16(b, h.Src.Port())
	binary.BigEndian.PutUint16(b[2:], h.Dst.Port())
	return b
}

func (h Header) tcp() []byte {
	b := h.ports(sizeTCP)
	binary.BigEndian.PutUint32(b[4:], h.Seq)
	binary.BigEndian.PutUint32(b[8:], h.Ack)
	b[12], b[13] = sizeTCP/4<<4, h.Flags
	binary.BigEndian.PutUint16(b[14:], 65535)
	return b
}

func (h Header) udp() []byte {
	b := h.ports(sizeUDP)
	ip := sizeIPv6
	if h.isIPv4() {
		ip = sizeIPv4
	} else {
		binary.BigEndian.PutUint16(b[6:], 0xffff) // over IPv6 there is always one (RFC 8200, 8.1)
	}
	binary.BigEndian.PutUint16(b[4:], h.whole(ip+sizeUDP)-uint16(ip))
	return b
}

func (h Header) icmp() []byte {
	b := make([]byte, sizeICMP)
	b[0], b[1] = h.Type, h.Code
	binary.BigEndian.PutUint32(b[4:], h.MTU)
	if h.ID != 0 {
		binary.BigEndian.PutUint16(b[4:], h.ID)
	}
	return b
}

// checksum is that of the Internet (RFC 1071) over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
