package nft

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

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
	var table map[uint64]string
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
