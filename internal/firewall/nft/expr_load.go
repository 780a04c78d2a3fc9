package nft

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// metaExpr loads what the kernel knows beside the headers (nft_meta.c).
type metaExpr struct{ key, dst int }

// ifNameLen is IFNAMSIZ.
const ifNameLen = 16

func (e *metaExpr) eval(m *machine) {
	p := m.p
	m.forget(e.dst, metaLen(e.key))
	if m.everything {
		return
	}
	switch e.key {
	case unix.NFT_META_LEN:
		if p.Length > 0 {
			m.host32(e.dst, uint32(p.Length))
		}
	case unix.NFT_META_PROTOCOL:
		if t := etherType(p); t != nil {
			m.set(e.dst, t)
		}
	case unix.NFT_META_MARK:
		if p.HasMark {
			m.host32(e.dst, p.Mark)
		}
	case unix.NFT_META_IIF:
		m.index(e.dst, p.In, p.InIndex)
	case unix.NFT_META_OIF:
		m.index(e.dst, p.Out, p.OutIndex)
	case unix.NFT_META_IIFNAME:
		m.device(e.dst, p.In, p.InIndex)
	case unix.NFT_META_OIFNAME:
		m.device(e.dst, p.Out, p.OutIndex)
	case unix.NFT_META_NFPROTO:
		m.set(e.dst, []byte{nfproto(m)})
	case unix.NFT_META_L4PROTO:
		if p.Proto != 0 {
			m.set(e.dst, []byte{p.Proto})
		}
	case unix.NFT_META_PKTTYPE:
		if t, ok := packetType(p); ok {
			m.set(e.dst, []byte{t})
		}
	}
}

// metaLen is the size of what a key loads.
func metaLen(key int) int {
	switch key {
	case unix.NFT_META_IIFNAME, unix.NFT_META_OIFNAME, unix.NFT_META_BRI_IIFNAME, unix.NFT_META_BRI_OIFNAME,
		metaIIFKind, metaOIFKind, metaSDIFName:
		return ifNameLen
	case metaTimeNS:
		return 8
	}
	return 4
}

// Keys of uapi enum nft_meta_keys that x/sys does not have.
const (
	metaIIFKind  = 26
	metaOIFKind  = 27
	metaTimeNS   = 30
	metaTimeDay  = 31
	metaTimeHour = 32
	metaSDIF     = 33
	metaSDIFName = 34
)

// index loads a device's number: 0 where the hook has no device.
func (m *machine) index(dst int, name string, index uint32) {
	if index != 0 || name == "" {
		m.host32(dst, index)
	}
}

// device loads a device's name: none where the hook has no device.
func (m *machine) device(dst int, name string, index uint32) {
	if len(name) >= ifNameLen || name == "" && index != 0 {
		return
	}
	var b [ifNameLen]byte
	copy(b[:], name)
	m.set(dst, b[:])
}

// nfproto is the family of the hook: that of the packet for tables of ip, ip6 and inet.
func nfproto(m *machine) uint8 {
	switch {
	case m.family == firewall.FamilyBridge:
		return unix.NFPROTO_BRIDGE
	case m.family == firewall.FamilyNetdev:
		return unix.NFPROTO_NETDEV
	case m.p.IsIPv6():
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

// packetType is skb->pkt_type as eth_type_trans sets it; whether a unicast frame is for this host or
// another cannot be told.
func packetType(p *firewall.Packet) (uint8, bool) {
	if len(p.DstMAC) != 6 || p.Hook == firewall.Output || p.Hook == firewall.Postrouting {
		return 0, false
	}
	if string(p.DstMAC) == "\xff\xff\xff\xff\xff\xff" {
		return unix.PACKET_BROADCAST, true
	}
	return unix.PACKET_MULTICAST, p.DstMAC[0]&1 != 0
}

// ctExpr loads what connection tracking knows (nft_ct.c).
type ctExpr struct {
	key, dst int
	dir      int // IP_CT_DIR_*, -1 if none is given
}

// The bits of `ct state` (NF_CT_STATE_BIT and its neighbours).
const (
	stateInvalid     = 1 << 0
	stateEstablished = 1 << 1
	stateRelated     = 1 << 2
	stateNew         = 1 << 3
	stateUntracked   = 1 << 6
)

func stateBit(s firewall.CTState) uint32 {
	switch s {
	case firewall.CTInvalid:
		return stateInvalid
	case firewall.CTEstablished:
		return stateEstablished
	case firewall.CTRelated:
		return stateRelated
	case firewall.CTNew:
		return stateNew
	case firewall.CTUntracked:
		return stateUntracked
	}
	return 0
}

func (e *ctExpr) eval(m *machine) {
	m.forget(e.dst, 16)
	ct := m.p.CT
	if ct == nil || m.everything {
		return
	}
	if e.key == unix.NFT_CT_STATE {
		if bit := stateBit(ct.State); bit != 0 {
			m.host32(e.dst, bit)
		}
		return
	}
	if ct.State == firewall.CTInvalid || ct.State == firewall.CTUntracked {
		m.require(firewall.No) // NFT_BREAK: there is no entry
		return
	}
	switch e.key {
	case unix.NFT_CT_DIRECTION:
		var reply byte
		if ct.Reply {
			reply = 1
		}
		m.set(e.dst, []byte{reply})
	case unix.NFT_CT_STATUS:
		if ct.HasStatus {
			m.host32(e.dst, ct.Status)
		}
	case unix.NFT_CT_MARK:
		if ct.HasMark {
			m.host32(e.dst, ct.Mark)
		}
	case unix.NFT_CT_L3PROTOCOL:
		m.set(e.dst, []byte{nfproto(&machine{p: m.p})})
	default:
		e.tuple(m, ct)
	}
}

// tuple loads a part of one direction's tuple.
func (e *ctExpr) tuple(m *machine, ct *firewall.Conntrack) {
	t := ct.Orig
	if e.dir == 1 {
		t = ct.Return
	}
	if !t.Src.IsValid() || !t.Dst.IsValid() {
		return
	}
	switch e.key {
	case unix.NFT_CT_SRC, unix.NFT_CT_SRC_IP, unix.NFT_CT_SRC_IP6:
		m.address(e.dst, t.Src)
	case unix.NFT_CT_DST, unix.NFT_CT_DST_IP, unix.NFT_CT_DST_IP6:
		m.address(e.dst, t.Dst)
	case unix.NFT_CT_PROTOCOL:
		m.set(e.dst, []byte{t.Proto})
	case unix.NFT_CT_PROTO_SRC:
		m.set(e.dst, binary.BigEndian.AppendUint16(nil, t.SrcPort))
	case unix.NFT_CT_PROTO_DST:
		m.set(e.dst, binary.BigEndian.AppendUint16(nil, t.DstPort))
	}
}

func (m *machine) address(dst int, a netip.Addr) { m.set(dst, a.AsSlice()) }

// fibExpr looks an address up in the routing tables (nft_fib.c).
type fibExpr struct {
	dst           int
	result, flags uint32
}

// addressTypes are the names of RTN_* (uapi linux/rtnetlink.h).
func addressTypes() []string {
	return []string{"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE",
		"UNREACHABLE", "PROHIBIT"}
}

func (e *fibExpr) eval(m *machine) {
	length := 4
	if e.result == unix.NFT_FIB_RESULT_OIFNAME && e.flags&unix.NFTA_FIB_F_PRESENT == 0 {
		length = ifNameLen
	}
	m.forget(e.dst, length)
	p := m.p
	if m.everything || e.result != unix.NFT_FIB_RESULT_ADDRTYPE || p.AddrType == nil {
		return
	}
	addr, dev := p.Dst, ""
	if e.flags&unix.NFTA_FIB_F_SADDR != 0 {
		addr = p.Src
	}
	switch {
	case e.flags&unix.NFTA_FIB_F_IIF != 0:
		dev = p.In
	case e.flags&unix.NFTA_FIB_F_OIF != 0:
		dev = p.Out
	}
	if !addr.IsValid() {
		return
	}
	m.fibAt = e.dst
	m.fib = func(typ uint32) firewall.Truth {
		names := addressTypes()
		if int(typ) >= len(names) {
			return firewall.Maybe
		}
		return p.AddrType(addr, names[typ], dev)
	}
}
