package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// statusDstNAT is IPS_DST_NAT of enum ip_conntrack_status (uapi nf_conntrack_common.h).
const statusDstNAT = 1 << 5

// Offsets of the addresses in the network header and of the destination port in the transport header.
const (
	v4Src, v4Dst = 12, 16
	v6Src, v6Dst = 8, 24
	dstPort      = 2
)

// expressions returns the rule as nf_tables evaluates it: the matches, a counter, the action.
func (r Rule) expressions() ([]expr.Any, error) {
	var e []expr.Any
	if r.In != "" {
		e = append(e, metaEqual(expr.MetaKeyIIFNAME, ifname(r.In))...)
	}
	if r.Out != "" {
		e = append(e, metaEqual(expr.MetaKeyOIFNAME, ifname(r.Out))...)
	}
	e = append(e, prefixMatch(r.Src, v4Src, v6Src)...)
	e = append(e, prefixMatch(r.Dst, v4Dst, v6Dst)...)
	proto, err := protocolMatch(r.Proto)
	if err != nil {
		return nil, err
	}
	e = append(e, proto...)
	if r.DstPort != 0 {
		e = append(e, &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: dstPort, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, r.DstPort)})
	}
	if r.Translated {
		e = append(e, &expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(statusDstNAT), Xor: make([]byte, 4)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)})
	}
	action, err := r.action()
	return append(append(e, &expr.Counter{}), action...), err
}

func (r Rule) action() ([]expr.Any, error) {
	switch r.Action {
	case Drop:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, nil
	case Accept:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}, nil
	case Reject:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}}, nil
	case RejectAdmin:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}, nil
	case RejectReset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}, nil
	case Masquerade:
		return []expr.Any{&expr.Masq{}}, nil
	case DNAT:
		return r.dnat(), nil
	}
	return nil, fmt.Errorf("build rule: unknown action %d", r.Action)
}

func (r Rule) dnat() []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if r.To.Addr().Is6() {
		family = unix.NFPROTO_IPV6
	}
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: family, RegAddrMin: 1}
	e := []expr.Any{&expr.Immediate{Register: 1, Data: r.To.Addr().AsSlice()}}
	if r.To.Port() != 0 {
		e = append(e, &expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, r.To.Port())})
		nat.RegProtoMin = 2
	}
	return append(e, nat)
}

// protocolMatch matches a transport protocol; ICMP means ICMP and ICMPv6.
func protocolMatch(p path.Proto) ([]expr.Any, error) {
	switch p {
	case "":
		return nil, nil
	case path.TCP:
		return metaEqual(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_TCP}), nil
	case path.UDP:
		return metaEqual(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_UDP}), nil
	case path.ICMP:
		return nil, fmt.Errorf("build rule: protocol icmp is two numbers: match by address")
	}
	return nil, fmt.Errorf("build rule: unknown protocol %q", p)
}

// prefixMatch compares the family and then the address at the offset for that family.
func prefixMatch(p netip.Prefix, offset4, offset6 uint32) []expr.Any {
	if !p.IsValid() {
		return nil
	}
	family, offset := byte(unix.NFPROTO_IPV4), offset4
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, offset6
	}
	size := uint32(p.Addr().BitLen() / 8)
	return append(metaEqual(expr.MetaKeyNFPROTO, []byte{family}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen()), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

func metaEqual(key expr.MetaKey, value []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value}}
}

// ifname pads a device name to the size that the kernel compares.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
