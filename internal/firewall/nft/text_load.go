package nft

import (
	"fmt"

	"golang.org/x/sys/unix"
)

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
