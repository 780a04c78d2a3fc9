package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// image is the start of a header as far as it is known.
type image struct {
	val, known [64]byte
}

func (h *image) put(at int, b ...byte) {
	for i, v := range b {
		h.val[at+i], h.known[at+i] = v, 0xff
	}
}

func (h *image) put16(at int, v uint16) { h.put(at, byte(v>>8), byte(v)) }

// Numbers of uapi linux/if_ether.h.
const (
	ethIP   = unix.ETH_P_IP
	ethIPv6 = unix.ETH_P_IPV6
	ethVLAN = unix.ETH_P_8021Q
)

// etherType is skb->protocol; nil for a packet that is not known to be IP.
func etherType(p *firewall.Packet) []byte {
	switch {
	case !p.Src.IsValid() && !p.Dst.IsValid():
		return nil
	case p.IsIPv6():
		return []byte{ethIPv6 >> 8, ethIPv6 & 0xff}
	}
	return []byte{ethIP >> 8, ethIP & 0xff}
}

// linkHeader is the Ethernet header, with the VLAN tag where nft_payload puts it back.
func linkHeader(p *firewall.Packet) (h image) {
	if len(p.DstMAC) == 6 {
		h.put(0, p.DstMAC...)
	}
	if len(p.SrcMAC) == 6 {
		h.put(6, p.SrcMAC...)
	}
	if p.VLAN == 0 {
		h.put(12, etherType(p)...)
		return h
	}
	h.put16(12, ethVLAN)
	h.put(15, byte(p.VLAN))
	h.val[14], h.known[14] = byte(p.VLAN>>8), 0x0f // the priority is not known
	h.put(16, etherType(p)...)
	return h
}

// networkHeader is the IP header (RFC 791, RFC 8200). IPv6 extension headers are taken to be absent.
func networkHeader(p *firewall.Packet) (h image) {
	if !p.Src.IsValid() || !p.Dst.IsValid() {
		return h
	}
	if p.IsIPv6() {
		h.val[0], h.known[0] = 6<<4, 0xf0
		if p.Length >= 40 {
			h.put16(4, uint16(p.Length-40))
		}
		if !p.Fragment {
			h.put(6, p.Proto)
		}
		if p.TTL != 0 {
			h.put(7, p.TTL)
		}
		src, dst := p.Src.As16(), p.Dst.As16()
		h.put(8, src[:]...)
		h.put(24, dst[:]...)
		return h
	}
	h.val[0], h.known[0] = 4<<4, 0xf0
	if p.Length > 0 {
		h.put16(2, uint16(p.Length))
	}
	if !p.Fragment {
		h.known[6], h.known[7] = 0x1f, 0xff // the offset is 0; the flags are not known
	}
	if p.TTL != 0 {
		h.put(8, p.TTL)
	}
	h.put(9, p.Proto)
	if p.Src.Is4() && p.Dst.Is4() {
		src, dst := p.Src.As4(), p.Dst.As4()
		h.put(12, src[:]...)
		h.put(16, dst[:]...)
	}
	return h
}

// hasPorts reports whether a protocol's header begins with both ports.
func hasPorts(proto uint8) bool {
	switch proto {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE:
		return true
	}
	return false
}

// transportHeader is the header behind IP's.
func transportHeader(p *firewall.Packet) (h image) {
	switch {
	case hasPorts(p.Proto):
		h.put16(0, p.SrcPort)
		h.put16(2, p.DstPort)
		if p.Proto == unix.IPPROTO_TCP && p.HasTCPFlags {
			h.put(13, p.TCPFlags)
		}
	case (p.Proto == unix.IPPROTO_ICMP || p.Proto == unix.IPPROTO_ICMPV6) && p.HasICMP:
		h.put(0, p.ICMPType, p.ICMPCode)
	}
	return h
}

// payloadExpr loads bytes of the packet (nft_payload.c).
type payloadExpr struct{ base, offset, length, dst int }

func (e *payloadExpr) eval(m *machine) {
	if m.everything {
		m.forget(e.dst, e.length)
		return
	}
	var h image
	switch e.base {
	case unix.NFT_PAYLOAD_LL_HEADER:
		if m.p.Hook == firewall.Output && m.family != firewall.FamilyBridge {
			m.require(firewall.No) // NFT_BREAK: there is none yet
			return
		}
		if m.p.Hook != firewall.Postrouting || m.family == firewall.FamilyBridge {
			h = linkHeader(m.p)
		}
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		h = networkHeader(m.p)
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		if m.p.Fragment {
			m.require(firewall.No) // NFT_BREAK
			return
		}
		h = transportHeader(m.p)
	}
	if e.offset < 0 || e.length < 0 || e.offset+e.length > len(h.val) {
		m.forget(e.dst, e.length)
		return
	}
	m.store(e.dst, h.val[e.offset:e.offset+e.length], h.known[e.offset:e.offset+e.length])
}

// native32 and native16 are numbers as the kernel keeps them in registers.
func native32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}
