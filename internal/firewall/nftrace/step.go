package nftrace

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// Kind says what a step tells.
type Kind uint8

// The kinds of steps (enum nft_trace_types).
const (
	Policy Kind = unix.NFT_TRACETYPE_POLICY // a base chain ended with its policy
	Return Kind = unix.NFT_TRACETYPE_RETURN // a chain ended without a verdict
	Rule   Kind = unix.NFT_TRACETYPE_RULE   // a rule matched
)

// Step is one trace message: a rule that matched, or the end of a chain.
type Step struct {
	// Packet is the same for all steps of one packet in this namespace.
	Packet       uint32
	Kind         Kind
	Family       firewall.Family
	Table, Chain string
	Handle       uint64 // of the rule
	Verdict      firewall.Verdict
	// In and Out are the packet's devices, by index; 0 if there is none.
	In, Out uint32
	Header  Header
}

// Header is what is read of the packet's own headers, which the kernel sends with the first step of
// each chain; Proto is 0 without.
type Header struct {
	Src, Dst netip.AddrPort
	Proto    uint8
	// ID is the identification of IPv4 (RFC 791); Seq is TCP's sequence number.
	ID  uint16
	Seq uint32
}

// decode reads the body of an NFT_MSG_TRACE message, behind struct nfgenmsg.
func decode(data []byte) (Step, error) {
	if len(data) < 4 {
		return Step{}, fmt.Errorf("decode trace message: %d bytes", len(data))
	}
	s := Step{Family: nfnl.Family(data[0])}
	ad, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return Step{}, fmt.Errorf("decode trace message: %w", err)
	}
	ad.ByteOrder = binary.BigEndian
	var network, transport []byte
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_TRACE_ID:
			s.Packet = ad.Uint32()
		case unix.NFTA_TRACE_TYPE:
			s.Kind = Kind(ad.Uint32())
		case unix.NFTA_TRACE_TABLE:
			s.Table = ad.String()
		case unix.NFTA_TRACE_CHAIN:
			s.Chain = ad.String()
		case unix.NFTA_TRACE_RULE_HANDLE:
			s.Handle = ad.Uint64()
		case unix.NFTA_TRACE_VERDICT:
			ad.Nested(s.verdict)
		case unix.NFTA_TRACE_POLICY:
			s.Verdict.Kind = verdictOf(int32(ad.Uint32()))
		case unix.NFTA_TRACE_IIF:
			s.In = ad.Uint32()
		case unix.NFTA_TRACE_OIF:
			s.Out = ad.Uint32()
		case unix.NFTA_TRACE_NETWORK_HEADER:
			network = ad.Bytes()
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			transport = ad.Bytes()
		}
	}
	if err := ad.Err(); err != nil {
		return Step{}, fmt.Errorf("decode trace message: %w", err)
	}
	s.Header = header(network, transport)
	return s, nil
}

func (s *Step) verdict(ad *netlink.AttributeDecoder) error {
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			s.Verdict.Kind = verdictOf(int32(ad.Uint32()))
		case unix.NFTA_VERDICT_CHAIN:
			s.Verdict.Chain = ad.String()
		}
	}
	return ad.Err()
}

// verdictOf translates NF_* and NFT_* (include/uapi/linux/netfilter.h, netfilter/nf_tables.h).
func verdictOf(code int32) firewall.VerdictKind {
	switch code {
	case unix.NFT_CONTINUE, unix.NFT_BREAK:
		return firewall.Continue
	case unix.NFT_JUMP:
		return firewall.Jump
	case unix.NFT_GOTO:
		return firewall.Goto
	case unix.NFT_RETURN:
		return firewall.Return
	}
	switch code & 0xff { // a queue's number is above
	case 0:
		return firewall.Drop
	case 1:
		return firewall.Accept
	case 2:
		return firewall.Stolen
	case 3:
		return firewall.Queue
	}
	return firewall.Unknown
}

// header reads as much of the headers as there is; the kernel cuts them at 40 and 20 bytes.
func header(network, transport []byte) Header {
	var h Header
	var src, dst netip.Addr
	switch {
	case len(network) >= 20 && network[0]>>4 == 4:
		src, _ = netip.AddrFromSlice(network[12:16])
		dst, _ = netip.AddrFromSlice(network[16:20])
		h.Proto, h.ID = network[9], binary.BigEndian.Uint16(network[4:])
	case len(network) >= 40 && network[0]>>4 == 6:
		src, _ = netip.AddrFromSlice(network[8:24])
		dst, _ = netip.AddrFromSlice(network[24:40])
		h.Proto = network[6]
	default:
		return h
	}
	var ports [2]uint16
	if len(transport) >= 4 && (h.Proto == unix.IPPROTO_TCP || h.Proto == unix.IPPROTO_UDP) {
		ports = [2]uint16{binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])}
	}
	if len(transport) >= 8 && h.Proto == unix.IPPROTO_TCP {
		h.Seq = binary.BigEndian.Uint32(transport[4:])
	}
	h.Src, h.Dst = netip.AddrPortFrom(src, ports[0]), netip.AddrPortFrom(dst, ports[1])
	return h
}
