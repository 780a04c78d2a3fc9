package render

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/pcapng"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// sighting is one observation of a packet, with the hops that were made of it.
type sighting struct {
	packet *path.Packet
	hop    *path.Hop
	index  int         // of hop in packet
	more   []*path.Hop // further hops of the same event
	notes  []string    // further comments
}

// sameEvent reports whether a hop, the next of the packet, was made of the same event.
func (s *sighting) sameEvent(h *path.Hop) bool {
	return h.Time == s.hop.Time && h.Hook == s.hop.Hook && h.Capture == s.hop.Capture && h.NetNS == s.hop.NetNS
}

// comment says which packet it is, and what happened to it here.
func (s *sighting) comment(p *path.Path) string {
	title := fmt.Sprintf("%s %s", s.packet.Direction, noun(p, s.packet))
	if s.packet.Retransmission {
		title += ", sent again"
	}
	var before *path.Hop
	if s.index > 0 {
		before = &s.packet.Hops[s.index-1]
	}
	var steps []string
	for _, h := range append([]*path.Hop{s.hop}, s.more...) {
		steps = append(steps, hookText(h)+colon(hopRest(p, s.packet, before, h, false)))
		before = h
	}
	return clean(fmt.Sprintf("%s (flow %d, packet %d): %s", title, p.Flow, s.packet.ID, strings.Join(steps, "; ")))
}

// frame is the bytes of a sighting.
type frame struct {
	bytes  []byte
	length uint32 // of the whole packet
	link   pcapng.LinkType
	note   string // where they come from, if not from here
}

// data returns the bytes that were copied here; else those of another observation of the packet with the
// same ends; else headers made of what is known.
func (s *sighting) data(p *path.Path) frame {
	if c := s.hop.Capture; c != nil && len(c.Bytes) > 0 {
		if c.Link > 0 {
			return frame{bytes: c.Bytes, length: c.Length, link: pcapng.LinkEthernet}
		}
		return frame{bytes: c.Bytes, length: c.Length, link: pcapng.LinkRaw}
	}
	if c := s.borrow(); c != nil {
		return frame{
			bytes: c.Bytes[c.Link:], length: c.Length - uint32(c.Link), link: pcapng.LinkRaw,
			note: "this hook is given no bytes: they are those of the packet's nearest observation with the same addresses",
		}
	}
	h := s.header(p)
	return frame{
		bytes: h.Bytes(), length: uint32(max(h.Length, 0)), link: pcapng.LinkRaw,
		note: "headers rebuilt from what is known of the packet: none of its bytes were kept here",
	}
}

// borrow returns the nearest capture of the packet with the same ends, the ones before the hop first;
// nil if there is none.
func (s *sighting) borrow() *path.Capture {
	for i := s.index - 1; i >= 0; i-- {
		if c := s.lends(i); c != nil {
			return c
		}
	}
	for i := s.index + 1; i < len(s.packet.Hops); i++ {
		if c := s.lends(i); c != nil {
			return c
		}
	}
	return nil
}

func (s *sighting) lends(i int) *path.Capture {
	h := &s.packet.Hops[i]
	same := h.SrcAddr == s.hop.SrcAddr && h.DstAddr == s.hop.DstAddr && (h.Outer == nil) == (s.hop.Outer == nil)
	if c := h.Capture; same && c != nil && len(c.Bytes) > int(c.Link) {
		return c
	}
	return nil
}

// header collects what is known of the packet at the hop.
func (s *sighting) header(p *path.Path) pcapng.Header {
	h := pcapng.Header{
		Src: s.hop.SrcAddr, Dst: s.hop.DstAddr, TTL: s.hopLimit(), Length: s.hop.Length,
		Seq: s.packet.Seq, Ack: s.packet.Ack, Flags: tcpBits(s.packet.TCPFlags),
	}
	if !h.Src.IsValid() || !h.Dst.IsValid() {
		h.Src, h.Dst = knownEnds(p, s.packet)
	}
	v6 := h.Src.Addr().Unmap().Is6()
	switch {
	case s.packet.ICMPError:
		h.Type, h.Code, h.MTU = s.hop.ICMPType, s.hop.ICMPCode, s.hop.MTU
		h.Proto = icmpProto(v6)
	case p.Proto == path.ICMP:
		h.Proto, h.Type = icmpProto(v6), echoType(v6, s.packet.Direction)
	case p.Proto == path.UDP:
		h.Proto = 17
	default:
		h.Proto = 6
	}
	return h
}

// hopLimit is that of the hop, or of the nearest one that tells it.
func (s *sighting) hopLimit() uint8 {
	for i := s.index; i >= 0; i-- {
		if h := &s.packet.Hops[i]; h.HasMark {
			return h.TTL
		}
	}
	for i := s.index; i < len(s.packet.Hops); i++ {
		if h := &s.packet.Hops[i]; h.HasMark {
			return h.TTL
		}
	}
	const usual = 64 // RFC 1700; Linux' default
	return usual
}

// knownEnds are those of the flow, for a hop that has none.
func knownEnds(p *path.Path, pkt *path.Packet) (src, dst netip.AddrPort) {
	if pkt.Direction == path.Reply {
		return p.Server, p.Client
	}
	return p.Client, p.Server
}

func icmpProto(v6 bool) uint8 {
	if v6 {
		return 58
	}
	return 1
}

// echoType is the ICMP type of an echo (RFC 792, RFC 4443).
func echoType(v6 bool, d path.Direction) uint8 {
	switch {
	case v6 && d == path.Reply:
		return 129
	case v6:
		return 128
	case d == path.Reply:
		return 0
	}
	return 8
}

// tcpBits turns flags as letters into the header's bits.
func tcpBits(flags string) (bits uint8) {
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if hasFlag(flags, name) {
			bits |= 1 << i
		}
	}
	return bits
}
