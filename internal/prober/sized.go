package prober

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Sizes of headers without options, bytes.
const (
	sizeIPv4, sizeIPv6 = 20, 40
	sizeTCP, sizeUDP   = 20, 8
)

// Flags of a TCP header (RFC 9293, 3.1).
const (
	tcpFIN, tcpSYN, tcpRST, tcpACK = 0x01, 0x02, 0x04, 0x10
)

// MaxSize is the largest packet that an IPv4 header can describe, bytes.
const MaxSize = 65535

// Sized is a probe of an exact size, made whole in user space, so that neither segmentation offload
// nor the kernel's idea of the path MTU changes it.
//
// A TCP probe repeats bytes just before Seq, which the other side must have acknowledged long ago: it
// answers with an acknowledgement and gives nothing to its application (RFC 9293, 3.10.7.4).
type Sized struct {
	Proto    path.Proto
	Src, Dst netip.AddrPort // of an echo, Src has the identifier as its port
	// Size is from the IP header on, bytes.
	Size int
	// Fragment allows routers to cut the packet (IPv4 only); else DF is set.
	Fragment bool
	// Unasked makes an echo a reply that nobody asked for, from the side that was asked before: it is
	// part of the same exchange for every firewall on the way, and nobody answers it.
	Unasked bool
	// ID is the IPv4 identification and the sequence number of an echo.
	ID uint16
	// Seq and Ack are what the sender's next segment would carry (TCP).
	Seq, Ack uint32
}

// MinSize is the size of a probe that carries one byte.
func MinSize(proto path.Proto, v6 bool) int {
	n := sizeIPv4 + sizeUDP + 1 // an echo header has eight bytes, too
	if proto == path.TCP {
		n = sizeIPv4 + sizeTCP + 1
	}
	if v6 {
		n += sizeIPv6 - sizeIPv4
	}
	return n
}

// FirstSeq is the sequence number of the segment itself (TCP).
func (s Sized) FirstSeq() uint32 { return s.Seq - uint32(s.Size-s.ipSize()-sizeTCP) }

func (s Sized) v6() bool { return s.Dst.Addr().Is6() }

func (s Sized) ipSize() int {
	if s.v6() {
		return sizeIPv6
	}
	return sizeIPv4
}

// protocol is the number of the IP protocol.
func (s Sized) protocol() uint8 {
	switch {
	case s.Proto == path.TCP:
		return unix.IPPROTO_TCP
	case s.Proto == path.UDP:
		return unix.IPPROTO_UDP
	case s.v6():
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// Bytes returns the packet from the IP header on.
func (s Sized) Bytes() ([]byte, error) {
	if low := MinSize(s.Proto, s.v6()); s.Size < low || s.Size > MaxSize {
		return nil, fmt.Errorf("make probe of %d bytes: give a size from %d to %d", s.Size, low, MaxSize)
	}
	b := make([]byte, s.Size)
	payload := b[s.ipSize():]
	switch s.Proto {
	case path.TCP:
		s.putTCP(payload)
	case path.UDP:
		s.putUDP(payload)
	default:
		s.putEcho(payload)
	}
	s.putIP(b)
	return b, nil
}

func (s Sized) putIP(b []byte) {
	const hopLimit, dontFragment = 64, 0x40
	if s.v6() {
		b[0] = 6 << 4
		binary.BigEndian.PutUint16(b[4:], uint16(s.Size-sizeIPv6))
		b[6], b[7] = s.protocol(), hopLimit
		copy(b[8:], s.Src.Addr().AsSlice())
		copy(b[24:], s.Dst.Addr().AsSlice())
		return
	}
	b[0] = 4<<4 | sizeIPv4/4
	binary.BigEndian.PutUint16(b[2:], uint16(s.Size))
	binary.BigEndian.PutUint16(b[4:], s.ID)
	if !s.Fragment {
		b[6] = dontFragment
	}
	b[8], b[9] = hopLimit, s.protocol()
	copy(b[12:], s.Src.Addr().AsSlice())
	copy(b[16:], s.Dst.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b[:sizeIPv4]))
}

func (s Sized) putTCP(b []byte) {
	const window = 0xffff
	binary.BigEndian.PutUint16(b, s.Src.Port())
	binary.BigEndian.PutUint16(b[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(b[4:], s.FirstSeq())
	binary.BigEndian.PutUint32(b[8:], s.Ack)
	b[12], b[13] = sizeTCP/4<<4, tcpACK
	binary.BigEndian.PutUint16(b[14:], window)
	binary.BigEndian.PutUint16(b[16:], s.checksum(b))
}

func (s Sized) putUDP(b []byte) {
	binary.BigEndian.PutUint16(b, s.Src.Port())
	binary.BigEndian.PutUint16(b[2:], s.Dst.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	sum := s.checksum(b)
	if sum == 0 {
		sum = 0xffff // 0 means none (RFC 768)
	}
	binary.BigEndian.PutUint16(b[6:], sum)
}

func (s Sized) putEcho(b []byte) {
	b[0] = s.echoType()
	binary.BigEndian.PutUint16(b[4:], s.Src.Port())
	binary.BigEndian.PutUint16(b[6:], s.ID)
	sum := checksum(b)
	if s.v6() {
		sum = s.checksum(b)
	}
	binary.BigEndian.PutUint16(b[2:], sum)
}

func (s Sized) echoType() byte {
	switch {
	case s.v6() && s.Unasked:
		return echoReply6
	case s.v6():
		return echoRequest6
	case s.Unasked:
		return echoReply4
	}
	return echoRequest4
}

// checksum is that of a transport header, with the pseudo header of RFC 9293, 3.1 or RFC 8200, 8.1.
func (s Sized) checksum(b []byte) uint16 {
	pseudo := append(s.Src.Addr().AsSlice(), s.Dst.Addr().AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)))
	pseudo = append(pseudo, 0, 0, 0, s.protocol())
	return checksum(append(pseudo, b...))
}
