package wire

import (
	"encoding/binary"
	"net/netip"
)

// RedactCapture takes out of what was captured whatever tells who sends to whom: payload, hardware
// addresses, options, checksums. IP addresses become what addr makes of them, which has to be of the same
// family; what it returns else is left out. Headers that are not there whole are left out.
func (e *Event) RedactCapture(addr func(netip.Addr) netip.Addr) {
	if e.Capture == nil {
		return
	}
	c := *e.Capture
	c.Bytes = append([]byte(nil), c.Bytes...)
	e.Capture = &c
	whole := e.walkHeaders(func(kind headerKind, b []byte) { redactHeader(kind, b, addr) })
	c.Bytes = c.Bytes[:whole]
	c.Link = min(c.Link, uint16(whole))
}

const (
	optNoOperation = 1 // of IPv4 (RFC 791) and TCP (RFC 9293)
	optIPv6Pad1    = 0 // RFC 8200, 4.2
)

func redactHeader(kind headerKind, b []byte, addr func(netip.Addr) netip.Addr) {
	switch kind {
	case headerEthernet:
		clear(b[:min(macAddresses, len(b))]) // a recording may say anything
	case headerIPv4:
		src, dst := netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
		put(b[12:16], addr(src).Unmap())
		put(b[16:20], addr(dst).Unmap())
		fill(b[20:], optNoOperation)
		binary.BigEndian.PutUint16(b[10:], 0)
		binary.BigEndian.PutUint16(b[10:], checksum(b))
	case headerIPv6:
		src, dst := netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
		put(b[8:24], addr(src))
		put(b[24:40], addr(dst))
	case headerExtension:
		fill(b[2:], optIPv6Pad1)
	case headerTCP:
		binary.BigEndian.PutUint16(b[16:], 0)
		fill(b[20:], optNoOperation)
	case headerUDP:
		binary.BigEndian.PutUint16(b[6:], 0)
	case headerICMP:
		clear(b[2:4])
		if b[0] == icmpRedirect && b[1] <= icmpRedirectCodes {
			clear(b[4:8]) // the gateway
		}
	}
}

// ICMP redirects name a gateway (RFC 792); in ICMPv6 no message in use has that number.
const (
	icmpRedirect      = 5
	icmpRedirectCodes = 3
)

// put overwrites an address; one of another family leaves zeros.
func put(b []byte, a netip.Addr) {
	clear(b)
	if raw := a.AsSlice(); len(raw) == len(b) {
		copy(b, raw)
	}
}

func fill(b []byte, with byte) {
	for i := range b {
		b[i] = with
	}
}

// checksum is that of the Internet (RFC 1071) over an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
