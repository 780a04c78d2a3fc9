package nft

import (
	"encoding/binary"
	encodinghex "encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dataType is how nft writes values; its datatype.c and those of the protocols have the same ones.
type dataType uint8

const (
	typeHex     dataType = iota
	typeInteger          // of the network
	typeHost             // an integer of the host
	typeIPv4
	typeIPv6
	typeMAC
	typePort
	typeProto
	typeEtherType
	typeMark
	typeIfname
	typeIfindex
	typeCTState
	typeCTStatus
	typeCTDir
	typeICMP
	typeICMPv6
	typeICMPCode
	typeICMPv6Code
	typeTCPFlags
	typePktType
	typeNFProto
	typeAddrType
	typeDSCP
	typeString
	typeBool
	typeUID
	typeARPOp
	typePriority
	typeDuration // in milliseconds
	typeVLAN     // the lower 12 bits
)

// host reports whether values are numbers in the host's byte order.
func (t dataType) host() bool {
	switch t {
	case typeHost, typeMark, typeIfindex, typeCTState, typeCTStatus, typeAddrType, typeUID, typePriority, typeDuration:
		return true
	}
	return false
}

// bitmask reports whether values are sets of flags.
func (t dataType) bitmask() bool {
	return t == typeCTState || t == typeCTStatus || t == typeTCPFlags
}

// prefixes reports whether ranges are written as prefixes where they can be.
func (t dataType) prefixes() bool { return t == typeIPv4 || t == typeIPv6 }

// size is the length of a value; 0 if it differs.
func (t dataType) size() int {
	switch t {
	case typeIPv4, typeMark, typeIfindex, typeCTState, typeCTStatus, typeAddrType, typeUID, typeHost:
		return 4
	case typeIPv6, typeIfname:
		return 16
	case typeMAC:
		return 6
	case typePort, typeEtherType, typeARPOp:
		return 2
	case typeProto, typeCTDir, typeICMP, typeICMPv6, typeICMPCode, typeICMPv6Code, typeTCPFlags, typePktType,
		typeNFProto, typeDSCP, typeBool:
		return 1
	}
	return 0
}

// typesByNumber splits nft's number of a set's type (enum datatypes of its datatype.h), which has six
// bits for each part of a concatenation.
func typesByNumber(n uint32) []dataType {
	var types []dataType
	for ; n != 0; n >>= 6 {
		types = append([]dataType{typeByNumber(n & 0x3f)}, types...)
	}
	return types
}

func typeByNumber(n uint32) dataType {
	switch n {
	case 4:
		return typeInteger
	case 5:
		return typeString
	case 7:
		return typeIPv4
	case 8:
		return typeIPv6
	case 9:
		return typeMAC
	case 10:
		return typeEtherType
	case 11:
		return typeARPOp
	case 12:
		return typeProto
	case 13:
		return typePort
	case 14:
		return typeICMP
	case 15:
		return typeTCPFlags
	case 19:
		return typeMark
	case 20:
		return typeIfindex
	case 26:
		return typeCTState
	case 27:
		return typeCTDir
	case 28:
		return typeCTStatus
	case 29:
		return typeICMPv6
	case 41:
		return typeIfname
	}
	return typeHex
}

// value writes a value of an operand's type.
func (w *writer) value(o *operand, b []byte) string {
	if o.typ.host() && o.big {
		b = swapped(b, len(b))
	}
	switch o.typ {
	case typeIPv4, typeIPv6:
		if a, ok := netip.AddrFromSlice(b); ok {
			return a.String()
		}
	case typeMAC:
		return net.HardwareAddr(b).String()
	case typePort, typeInteger, typeVLAN:
		return decimal(bigEndian(b))
	case typeHost, typeUID:
		return decimal(number(b))
	case typeDSCP:
		return dscp(b)
	case typePriority:
		return fmt.Sprintf("%x:%x", number(b)>>16, number(b)&0xffff)
	case typeDuration:
		return duration(number(b))
	case typeMark:
		return fmt.Sprintf("0x%08x", number(b))
	case typeIfname, typeString:
		return quoted(ifname(b))
	case typeIfindex:
		if name := w.links.name(uint32(number(b))); name != "" {
			return quoted(name)
		}
		return decimal(number(b))
	case typeBool:
		return [...]string{"missing", "exists"}[min(number(b), 1)]
	default:
		return symbol(o.typ, b)
	}
	return hex(b)
}

// ifname is a device's name, with a star if it is only the start of one.
func ifname(b []byte) string {
	if len(b) > 0 && len(b) < ifNameLen && b[len(b)-1] != 0 {
		return string(b) + "*"
	}
	return unix.ByteSliceToString(b)
}

func quoted(s string) string  { return `"` + s + `"` }
func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
func hex(b []byte) string     { return "0x" + encodinghex.EncodeToString(b) }
func bigEndian(b []byte) (n uint64) {
	for _, v := range b {
		n = n<<8 | uint64(v)
	}
	return n
}

// number reads a number of the host.
func number(b []byte) uint64 {
	switch len(b) {
	case 1:
		return uint64(b[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(b))
	case 4:
		return uint64(binary.NativeEndian.Uint32(b))
	case 8:
		return binary.NativeEndian.Uint64(b)
	}
	return bigEndian(b)
}

// symbol writes a value that has a name.
func symbol(t dataType, b []byte) string {
	n := number(b)
	switch t {
	case typeCTState:
		return flags(n, []flag{{stateInvalid, "invalid"}, {stateNew, "new"}, {stateEstablished, "established"},
			{stateRelated, "related"}, {stateUntracked, "untracked"}})
	case typeCTStatus:
		return flags(n, []flag{{1, "expected"}, {2, "seen-reply"}, {4, "assured"}, {8, "confirmed"},
			{16, "snat"}, {32, "dnat"}, {512, "dying"}})
	case typeTCPFlags:
		return flags(n, []flag{{1, "fin"}, {2, "syn"}, {4, "rst"}, {8, "psh"}, {16, "ack"}, {32, "urg"},
			{64, "ecn"}, {128, "cwr"}})
	case typeEtherType, typeARPOp:
		n = bigEndian(b)
	}
	if name := names(t, n); name != "" {
		return name
	}
	if t == typeHex {
		return hex(b)
	}
	if t == typeEtherType {
		return fmt.Sprintf("0x%04x", n)
	}
	return decimal(n)
}

type flag struct {
	bit  uint64
	name string
}

// flags names the bits of n.
func flags(n uint64, all []flag) string {
	var set []string
	for _, f := range all {
		if n&f.bit != 0 {
			set = append(set, f.name)
			n &^= f.bit
		}
	}
	if n != 0 || len(set) == 0 {
		set = append(set, fmt.Sprintf("0x%x", n))
	}
	return strings.Join(set, ",")
}

// names are the symbols of nft's tables and of /etc/protocols, "" for numbers without one.
func names(t dataType, n uint64) string {
	table := map[uint64]string{}
	switch t {
	case typeProto:
		return protocol(uint8(n))
	case typeEtherType:
		table = map[uint64]string{ethIP: "ip", ethIPv6: "ip6", 0x0806: "arp", ethVLAN: "8021q", 0x88a8: "8021ad"}
	case typeCTDir:
		table = map[uint64]string{0: "original", 1: "reply"}
	case typePktType:
		table = map[uint64]string{0: "host", 1: "broadcast", 2: "multicast", 3: "other"}
	case typeNFProto:
		table = map[uint64]string{2: "ipv4", 10: "ipv6"}
	case typeAddrType:
		return addressType(n)
	case typeICMP:
		table = map[uint64]string{0: "echo-reply", 3: "destination-unreachable", 4: "source-quench", 5: "redirect",
			8: "echo-request", 9: "router-advertisement", 10: "router-solicitation", 11: "time-exceeded",
			12: "parameter-problem", 13: "timestamp-request", 14: "timestamp-reply", 15: "info-request",
			16: "info-reply", 17: "address-mask-request", 18: "address-mask-reply"}
	case typeICMPv6:
		table = map[uint64]string{1: "destination-unreachable", 2: "packet-too-big", 3: "time-exceeded",
			4: "parameter-problem", 128: "echo-request", 129: "echo-reply", 130: "mld-listener-query",
			131: "mld-listener-report", 132: "mld-listener-done", 133: "nd-router-solicit",
			134: "nd-router-advert", 135: "nd-neighbor-solicit", 136: "nd-neighbor-advert", 137: "nd-redirect",
			138: "router-renumbering", 141: "ind-neighbor-solicit", 142: "ind-neighbor-advert",
			143: "mld2-listener-report"}
	case typeICMPCode:
		table = map[uint64]string{0: "net-unreachable", 1: "host-unreachable", 2: "prot-unreachable",
			3: "port-unreachable", 4: "frag-needed", 9: "net-prohibited", 10: "host-prohibited",
			13: "admin-prohibited"}
	case typeICMPv6Code:
		table = map[uint64]string{0: "no-route", 1: "admin-prohibited", 3: "addr-unreachable",
			4: "port-unreachable", 5: "policy-fail", 6: "reject-route"}
	case typeARPOp:
		table = map[uint64]string{1: "request", 2: "reply", 3: "rrequest", 4: "rreply"}
	}
	return table[n]
}

func addressType(n uint64) string {
	if all := addressTypes(); n < uint64(len(all)) {
		return strings.ToLower(all[n])
	}
	return ""
}

// protocol names a transport protocol as Debian's /etc/protocols does; "" if it has no name.
func protocol(n uint8) string {
	switch n {
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_IGMP:
		return "igmp"
	case unix.IPPROTO_IPIP:
		return "ipencap"
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_DCCP:
		return "dccp"
	case unix.IPPROTO_IPV6:
		return "ipv6"
	case unix.IPPROTO_GRE:
		return "gre"
	case unix.IPPROTO_ESP:
		return "esp"
	case unix.IPPROTO_AH:
		return "ah"
	case unix.IPPROTO_ICMPV6:
		return "ipv6-icmp"
	case 89:
		return "ospf"
	case 103:
		return "pim"
	case 108:
		return "ipcomp"
	case 112:
		return "vrrp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_UDPLITE:
		return "udplite"
	}
	return ""
}

// dscp names the differentiated services codepoint in the upper six bits (nft's dscp_type).
func dscp(b []byte) string {
	n := bigEndian(b)
	if len(b) == 2 {
		n = n >> 6 & 0x3f
	} else {
		n >>= 2
	}
	switch {
	case n == 46:
		return "ef"
	case n == 44:
		return "va"
	case n&7 == 0:
		return "cs" + decimal(n>>3)
	case n >= 10 && n <= 38 && n&1 == 0:
		return "af" + decimal(n>>3) + decimal(n>>1&3)
	}
	return fmt.Sprintf("0x%02x", n)
}
