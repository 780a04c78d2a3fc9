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

// metaOperand names what a meta expression loads (nft's meta.c).
func metaOperand(e *metaExpr) *operand {
	o := &operand{typ: typeHost, n: metaLen(e.key)}
	switch e.key {
	case unix.NFT_META_LEN:
		o.text = "meta length"
	case unix.NFT_META_PROTOCOL:
		o.text, o.typ, o.n, o.layer = "meta protocol", typeEtherType, 2, layerEther
	case unix.NFT_META_PRIORITY:
		o.text, o.typ = "meta priority", typePriority
	case unix.NFT_META_MARK:
		o.text, o.typ = "meta mark", typeMark
	case unix.NFT_META_IIF:
		o.text, o.typ = "iif", typeIfindex
	case unix.NFT_META_OIF:
		o.text, o.typ = "oif", typeIfindex
	case unix.NFT_META_IIFNAME:
		o.text, o.typ = "iifname", typeIfname
	case unix.NFT_META_OIFNAME:
		o.text, o.typ = "oifname", typeIfname
	case unix.NFT_META_BRI_IIFNAME:
		o.text, o.typ = "meta ibrname", typeIfname
	case unix.NFT_META_BRI_OIFNAME:
		o.text, o.typ = "meta obrname", typeIfname
	case unix.NFT_META_SKUID:
		o.text, o.typ = "meta skuid", typeUID
	case unix.NFT_META_SKGID:
		o.text, o.typ = "meta skgid", typeUID
	case unix.NFT_META_NFPROTO:
		o.text, o.typ, o.n, o.layer = "meta nfproto", typeNFProto, 1, layerEther
	case unix.NFT_META_L4PROTO:
		o.text, o.typ, o.n, o.layer = "meta l4proto", typeProto, 1, layerProto
	case unix.NFT_META_PKTTYPE:
		o.text, o.typ, o.n = "meta pkttype", typePktType, 1
	case unix.NFT_META_IIFGROUP:
		o.text = "iifgroup"
	case unix.NFT_META_OIFGROUP:
		o.text = "oifgroup"
	case unix.NFT_META_PRANDOM:
		o.text, o.typ = "meta random", typeInteger
	default:
		o.text, o.typ = "meta "+metaName(e.key), typeHost
		if o.n == ifNameLen {
			o.typ = typeString
		}
	}
	return o
}

// metaName names the keys of which nothing else is known.
func metaName(key int) string {
	switch key {
	case unix.NFT_META_IIFTYPE:
		return "iiftype"
	case unix.NFT_META_OIFTYPE:
		return "oiftype"
	case unix.NFT_META_NFTRACE:
		return "nftrace"
	case unix.NFT_META_RTCLASSID:
		return "rtclassid"
	case unix.NFT_META_SECMARK:
		return "secmark"
	case unix.NFT_META_CPU:
		return "cpu"
	case unix.NFT_META_CGROUP:
		return "cgroup"
	case metaIIFKind:
		return "iifkind"
	case metaOIFKind:
		return "oifkind"
	case metaTimeNS:
		return "time"
	case metaTimeDay:
		return "day"
	case metaTimeHour:
		return "hour"
	case metaSDIF:
		return "sdif"
	case metaSDIFName:
		return "sdifname"
	}
	return fmt.Sprintf("key %d", key)
}

// ctOperand names what a ct expression loads (nft's ct.c).
func ctOperand(e *ctExpr) *operand {
	name, o := "", &operand{typ: typeHost, n: 4}
	switch e.key {
	case unix.NFT_CT_STATE:
		name, o.typ = "state", typeCTState
	case unix.NFT_CT_DIRECTION:
		name, o.typ, o.n = "direction", typeCTDir, 1
	case unix.NFT_CT_STATUS:
		name, o.typ = "status", typeCTStatus
	case unix.NFT_CT_MARK:
		name, o.typ = "mark", typeMark
	case unix.NFT_CT_EXPIRATION:
		name, o.typ = "expiration", typeDuration
	case unix.NFT_CT_HELPER:
		name, o.typ, o.n = "helper", typeString, 16
	case unix.NFT_CT_L3PROTOCOL:
		name, o.typ, o.n = "l3proto", typeNFProto, 1
	case unix.NFT_CT_SRC, unix.NFT_CT_SRC_IP:
		name, o.typ = "ip saddr", typeIPv4
	case unix.NFT_CT_DST, unix.NFT_CT_DST_IP:
		name, o.typ = "ip daddr", typeIPv4
	case unix.NFT_CT_SRC_IP6:
		name, o.typ, o.n = "ip6 saddr", typeIPv6, 16
	case unix.NFT_CT_DST_IP6:
		name, o.typ, o.n = "ip6 daddr", typeIPv6, 16
	case unix.NFT_CT_PROTOCOL:
		name, o.typ, o.n = "protocol", typeProto, 1
	case unix.NFT_CT_PROTO_SRC:
		name, o.typ, o.n = "proto-src", typePort, 2
	case unix.NFT_CT_PROTO_DST:
		name, o.typ, o.n = "proto-dst", typePort, 2
	case unix.NFT_CT_ZONE:
		name, o.n = "zone", 2
	case unix.NFT_CT_BYTES:
		name, o.n = "bytes", 8
	case unix.NFT_CT_PKTS:
		name, o.n = "packets", 8
	case unix.NFT_CT_AVGPKT:
		name, o.n = "avgpkt", 8
	case unix.NFT_CT_LABELS:
		name, o.typ, o.n = "label", typeHex, 16
	case unix.NFT_CT_ID:
		name, o.typ = "id", typeInteger
	default:
		name = fmt.Sprintf("key %d", e.key)
	}
	switch e.dir {
	case 0:
		name = "original " + name
	case 1:
		name = "reply " + name
	}
	o.text = "ct " + name
	return o
}

// fibOperand names what a fib expression loads (nft's fib.c).
func fibOperand(e *fibExpr) *operand {
	text := "fib"
	for _, f := range []struct {
		bit  uint32
		name string
	}{
		{unix.NFTA_FIB_F_SADDR, "saddr"}, {unix.NFTA_FIB_F_DADDR, "daddr"}, {unix.NFTA_FIB_F_MARK, "mark"},
		{unix.NFTA_FIB_F_IIF, "iif"}, {unix.NFTA_FIB_F_OIF, "oif"},
	} {
		if e.flags&f.bit == 0 {
			continue
		}
		if text != "fib" {
			text += " ."
		}
		text += " " + f.name
	}
	o := &operand{n: 4}
	switch e.result {
	case unix.NFT_FIB_RESULT_OIF:
		o.text, o.typ = text+" oif", typeIfindex
	case unix.NFT_FIB_RESULT_OIFNAME:
		o.text, o.typ, o.n = text+" oifname", typeIfname, ifNameLen
	default:
		o.text, o.typ = text+" type", typeAddrType
	}
	if e.flags&unix.NFTA_FIB_F_PRESENT != 0 {
		o.typ, o.n = typeBool, 1
	}
	return o
}

// loadOperand names what the expressions load of which nothing is known.
func (w *writer) loadOperand(e *loadExpr) *operand {
	o := &operand{text: e.name, typ: typeHex, n: 4}
	switch e.name {
	case "numgen":
		mode := "inc"
		if e.a.U32(unix.NFTA_NG_TYPE) == unix.NFT_NG_RANDOM {
			mode = "random"
		}
		o.text, o.typ = fmt.Sprintf("numgen %s mod %d", mode, e.a.U32(unix.NFTA_NG_MODULUS)), typeHost
		if offset := e.a.U32(unix.NFTA_NG_OFFSET); offset != 0 {
			o.text += fmt.Sprintf(" offset %d", offset)
		}
	case "socket":
		key := [...]string{"transparent", "mark", "wildcard", "cgroupv2"}[min(e.a.U32(1), 3)]
		o.text, o.typ, o.n = "socket "+key, typeHost, 1
		if key == "mark" {
			o.typ, o.n = typeMark, 4
		}
	case "rt":
		key := [...]string{"classid", "nexthop", "nexthop", "mtu", "ipsec"}[min(e.a.U32(unix.NFTA_RT_KEY), 4)]
		o.text, o.typ = "rt "+key, typeHost
	case "hash":
		o.typ = typeHost
		o.text = fmt.Sprintf("symhash mod %d", e.a.U32(unix.NFTA_HASH_MODULUS))
		if e.a.U32(unix.NFTA_HASH_TYPE) == unix.NFT_HASH_JENKINS {
			at, _ := register(e.a.U32(unix.NFTA_HASH_SREG), 0)
			o.text = fmt.Sprintf("jhash %s mod %d", w.operand(at).text, e.a.U32(unix.NFTA_HASH_MODULUS))
		}
	case "exthdr":
		exthdr(e, o)
	}
	return o
}

// exthdr names an IPv6 extension header or an option of TCP (nft's exthdr.c, tcpopt.c).
func exthdr(e *loadExpr, o *operand) {
	const opTCP = 1
	o.n = int(min(e.a.U32(unix.NFTA_EXTHDR_LEN), 16))
	o.typ = typeInteger
	kind := e.a.U8(unix.NFTA_EXTHDR_TYPE)
	present := e.a.U32(unix.NFTA_EXTHDR_FLAGS)&unix.NFT_EXTHDR_F_PRESENT != 0
	if present {
		o.typ, o.n = typeBool, 1
	}
	if e.a.U32(unix.NFTA_EXTHDR_OP) == opTCP {
		const timestamp = 8
		name := fmt.Sprint(kind)
		if kind == timestamp {
			name = "timestamp"
		} else if all := []string{"eol", "nop", "maxseg", "window", "sack-perm", "sack"}; int(kind) < len(all) {
			name = all[kind]
		}
		o.text = "tcp option " + name
		if name == "maxseg" && !present {
			o.text += " size"
		}
		return
	}
	name := fmt.Sprint(kind)
	switch kind {
	case unix.IPPROTO_HOPOPTS:
		name = "hbh"
	case unix.IPPROTO_ROUTING:
		name = "rt"
	case unix.IPPROTO_FRAGMENT:
		name = "frag"
	case unix.IPPROTO_DSTOPTS:
		name = "dst"
	}
	o.text = "exthdr " + name
}
