package nft

import (
	"encoding/binary"
	encodinghex "encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strconv"

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
