package nft

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// field is a field of a header.
type field struct {
	name           string
	offset, length int
	typ            dataType
}

// payload names the bytes that an expression loads, given the protocols so far.
func (w *writer) payload(e *payloadExpr) *operand {
	proto, fields, l := w.header(e)
	for _, f := range fields {
		whole := f.offset == e.offset && f.length == e.length
		// The start of an address alone is how its prefix is matched.
		start := f.offset == e.offset && e.length < f.length && f.typ.prefixes()
		if !whole && !start {
			continue
		}
		o := &operand{text: proto + " " + f.name, typ: f.typ, n: e.length, layer: l}
		if f.name == "type" && (proto == "ether" || proto == "vlan") {
			o.layer = layerEther
		}
		if start {
			o.width = f.length
		}
		return o
	}
	if parts := w.tiles(e, proto, fields, l); parts != nil {
		return &operand{text: parts[0].text, typ: typeHex, n: e.length, parts: parts}
	}
	base := [...]string{"ll", "nh", "th", "ih"}[min(max(e.base, 0), 3)]
	return &operand{text: fmt.Sprintf("@%s,%d,%d", base, e.offset*8, e.length*8), typ: typeHex, n: e.length}
}

// tiles splits bytes that are several whole fields in a row, as nft and iptables-nft load the ports
// or the addresses at once.
func (w *writer) tiles(e *payloadExpr, proto string, fields []field, l layer) (parts []*operand) {
	at := e.offset
	for at < e.offset+e.length {
		i := slices.IndexFunc(fields, func(f field) bool { return f.offset == at && at+f.length <= e.offset+e.length })
		if i < 0 {
			return nil
		}
		f := fields[i]
		parts = append(parts, &operand{text: proto + " " + f.name, typ: f.typ, n: f.length, layer: l})
		at += f.length
	}
	return parts
}

// header is the protocol to which the bytes belong.
func (w *writer) header(e *payloadExpr) (proto string, fields []field, l layer) {
	switch e.base {
	case unix.NFT_PAYLOAD_LL_HEADER:
		if e.offset >= 14 && w.ctx.ether == ethVLAN {
			return "vlan", []field{{"id", 14, 2, typeVLAN}, {"type", 16, 2, typeEtherType}}, layerNetwork
		}
		return "ether", []field{{"daddr", 0, 6, typeMAC}, {"saddr", 6, 6, typeMAC}, {"type", 12, 2, typeEtherType}}, layerLink
	case unix.NFT_PAYLOAD_NETWORK_HEADER:
		return w.networkHeader()
	case unix.NFT_PAYLOAD_TRANSPORT_HEADER:
		return w.transportHeader()
	}
	return "", nil, layerNone
}

func (w *writer) networkHeader() (string, []field, layer) {
	switch {
	case w.b.family == firewall.FamilyARP || w.ctx.ether == 0x0806:
		return "arp", []field{{"htype", 0, 2, typeInteger}, {"ptype", 2, 2, typeEtherType}, {"hlen", 4, 1, typeInteger},
			{"plen", 5, 1, typeInteger}, {"operation", 6, 2, typeARPOp}, {"saddr ether", 8, 6, typeMAC},
			{"saddr ip", 14, 4, typeIPv4}, {"daddr ether", 18, 6, typeMAC}, {"daddr ip", 24, 4, typeIPv4}}, layerNetwork
	case w.ctx.ether == ethIPv6:
		return "ip6", []field{{"length", 4, 2, typeInteger}, {"nexthdr", 6, 1, typeProto},
			{"hoplimit", 7, 1, typeInteger}, {"saddr", 8, 16, typeIPv6}, {"daddr", 24, 16, typeIPv6},
			{"dscp", 0, 2, typeDSCP}}, layerNetwork
	case w.ctx.ether == ethIP:
		return "ip", []field{{"length", 2, 2, typeInteger}, {"id", 4, 2, typeInteger}, {"frag-off", 6, 2, typeInteger},
			{"ttl", 8, 1, typeInteger}, {"protocol", 9, 1, typeProto}, {"checksum", 10, 2, typeInteger},
			{"saddr", 12, 4, typeIPv4}, {"daddr", 16, 4, typeIPv4}, {"dscp", 1, 1, typeDSCP},
			{bitsVersion, 0, 1, typeHex}}, layerNetwork
	}
	return "", nil, layerNone
}

func (w *writer) transportHeader() (string, []field, layer) {
	ports := []field{{"sport", 0, 2, typePort}, {"dport", 2, 2, typePort}}
	switch w.ctx.l4 {
	case unix.IPPROTO_TCP:
		return "tcp", append(ports, field{"sequence", 4, 4, typeInteger}, field{"ackseq", 8, 4, typeInteger},
			field{bitsOffset, 12, 1, typeHex}, field{"flags", 13, 1, typeTCPFlags}, field{"window", 14, 2, typeInteger},
			field{"checksum", 16, 2, typeInteger}, field{"urgptr", 18, 2, typeInteger}), layerTransport
	case unix.IPPROTO_UDP:
		return "udp", append(ports, field{"length", 4, 2, typeInteger}, field{"checksum", 6, 2, typeInteger}), layerTransport
	case unix.IPPROTO_UDPLITE, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP:
		return protocol(uint8(w.ctx.l4)), ports, layerTransport
	case unix.IPPROTO_ICMP:
		return "icmp", []field{{"type", 0, 1, typeICMP}, {"code", 1, 1, typeICMPCode}, {"id", 4, 2, typeInteger},
			{"sequence", 6, 2, typeInteger}, {"gateway", 4, 4, typeIPv4}, {"mtu", 6, 2, typeInteger}}, layerTransport
	case unix.IPPROTO_ICMPV6:
		return "icmpv6", []field{{"type", 0, 1, typeICMPv6}, {"code", 1, 1, typeICMPv6Code}, {"id", 4, 2, typeInteger},
			{"sequence", 6, 2, typeInteger}, {"mtu", 4, 4, typeInteger}}, layerTransport
	case unix.IPPROTO_AH:
		return "ah", []field{{"nexthdr", 0, 1, typeProto}, {"hdrlength", 1, 1, typeInteger}, {"spi", 4, 4, typeInteger},
			{"sequence", 8, 4, typeInteger}}, layerTransport
	case unix.IPPROTO_ESP:
		return "esp", []field{{"spi", 0, 4, typeInteger}, {"sequence", 4, 4, typeInteger}}, layerTransport
	}
	return "th", ports, layerNone
}

// Names of bytes that hold two fields of four bits.
const (
	bitsVersion = "version|hdrlength"
	bitsOffset  = "doff|reserved"
)

// bitField names a field that is less than a byte, and says by how much its value is shifted.
func bitField(text string, mask []byte) (name string, shift int, ok bool) {
	if len(mask) != 1 {
		return "", 0, false
	}
	switch {
	case text == "ip "+bitsVersion && mask[0] == 0xf0:
		return "ip version", 4, true
	case text == "ip "+bitsVersion && mask[0] == 0x0f:
		return "ip hdrlength", 0, true
	case text == "tcp "+bitsOffset && mask[0] == 0xf0:
		return "tcp doff", 4, true
	case text == "ip dscp" && mask[0] == 0x03:
		return "ip ecn", 0, true
	}
	return "", 0, false
}
