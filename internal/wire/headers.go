package wire

import "encoding/binary"

// EtherTypes (IEEE 802).
const (
	typeIPv4   = 0x0800
	typeIPv6   = 0x86dd
	type8021Q  = 0x8100
	type8021AD = 0x88a8
)

// IPv6 extension headers (RFC 8200, 4; AH: RFC 4302).
const (
	protoHopByHop    = 0
	protoRouting     = 43
	protoFragment    = 44
	protoAH          = 51
	protoDestOptions = 60
)

const (
	udpHeader   = 8
	icmpHeader  = 8
	vxlanHeader = 8 // RFC 7348, 5
)

// TrimToHeaders cuts what was captured behind the last header: the transport header, that of the packet
// inside VXLAN, or that of the packet which an ICMP error quotes. Of what it cannot follow, nothing
// behind the last header it knows is kept.
func (e *Event) TrimToHeaders() {
	if e.Capture != nil {
		e.walkHeaders(func(headerKind, []byte) {})
	}
}

// walkHeaders cuts behind the last header, and shows each that is there whole. It returns where the last of
// these ends.
func (e *Event) walkHeaders(see func(headerKind, []byte)) int {
	h := headers{b: e.Capture.Bytes, vxlan: e.Has(FlagEncapsulated), quotes: e.Has(FlagICMPError), see: see}
	if link := int(e.Capture.Link); link > 0 {
		h.pass(headerEthernet, link)
	}
	h.network()
	e.Capture.Bytes = h.b[:min(h.at, len(h.b))]
	return h.whole
}

// headerKind says what a header is.
type headerKind uint8

const (
	headerEthernet headerKind = iota
	headerIPv4
	headerIPv6
	headerExtension
	headerTCP
	headerUDP
	headerICMP
)

// Trim cuts what was captured to n bytes.
func (e *Event) Trim(n int) {
	if c := e.Capture; c != nil && len(c.Bytes) > n {
		c.Bytes = c.Bytes[:n]
		c.Link = min(c.Link, uint16(n))
	}
}

// headers finds where the headers of a packet end.
type headers struct {
	b             []byte
	at            int  // where they end so far
	vxlan, quotes bool // a packet inside is still to come
	see           func(headerKind, []byte)
	whole         int // where the last header ends that see was shown
}

// pass goes behind a header of n bytes.
func (h *headers) pass(kind headerKind, n int) {
	if h.have(n) {
		h.see(kind, h.b[h.at:h.at+n])
		h.whole = h.at + n
	}
	h.at += n
}

// have reports whether n bytes follow.
func (h *headers) have(n int) bool { return h.at+n <= len(h.b) }

func (h *headers) network() {
	if !h.have(1) {
		return
	}
	switch h.b[h.at] >> 4 {
	case 4:
		h.ipv4()
	case 6:
		h.ipv6()
	}
}

func (h *headers) ipv4() {
	const least = 20
	if !h.have(least) {
		return
	}
	ip := h.b[h.at:]
	h.pass(headerIPv4, max(int(ip[0]&15)*4, least))
	if binary.BigEndian.Uint16(ip[6:])&0x1fff == 0 { // later fragments have no transport header
		h.transport(ip[9])
	}
}

func (h *headers) ipv6() {
	const fixed = 40
	if !h.have(fixed) {
		return
	}
	next := h.b[h.at+6]
	h.pass(headerIPv6, fixed)
	for h.have(8) {
		ext := h.b[h.at:]
		switch next {
		case protoHopByHop, protoRouting, protoDestOptions:
			h.pass(headerExtension, (int(ext[1])+1)*8)
		case protoAH:
			h.pass(headerExtension, (int(ext[1])+2)*4)
		case protoFragment:
			h.at += 8
			if binary.BigEndian.Uint16(ext[2:])&^7 != 0 {
				return
			}
		default:
			h.transport(next)
			return
		}
		next = ext[0]
	}
}

func (h *headers) transport(proto uint8) {
	switch proto {
	case ProtoTCP:
		const least, offset = 20, 12
		if h.have(offset + 1) {
			h.pass(headerTCP, max(int(h.b[h.at+offset]>>4)*4, least))
		}
	case ProtoUDP:
		h.pass(headerUDP, udpHeader)
		if h.vxlan {
			h.vxlan = false
			h.inner()
		}
	case ProtoICMP, ProtoICMPv6:
		h.pass(headerICMP, icmpHeader)
		if h.quotes {
			h.quotes = false
			h.network()
		}
	}
}

// inner goes on into the frame inside a VXLAN packet.
func (h *headers) inner() {
	h.at += vxlanHeader
	h.ether()
	h.network()
}

// ether passes an Ethernet header with its tags.
func (h *headers) ether() {
	n := macAddresses
	for h.have(n + 2) {
		if t := binary.BigEndian.Uint16(h.b[h.at+n:]); t != type8021Q && t != type8021AD {
			break
		}
		n += vlanTag
	}
	h.pass(headerEthernet, n+2)
}
