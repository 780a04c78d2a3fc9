package firewall

import "net/netip"

// Packet is a packet as it was at a hook, as far as that is known. A match on what is not known must
// be judged Maybe.
type Packet struct {
	Hook Hook
	// Bridge is set where the bridge family's own hooks are meant; BridgeNF where br_netfilter showed
	// a bridged frame to the IP families: then In and Out are the bridge, PhysIn and PhysOut its ports.
	Bridge, BridgeNF bool

	// In and Out are the devices the hook was given: "" if there is none at this hook or, with the
	// index not 0, if the name is not known.
	In, Out           string
	InIndex, OutIndex uint32
	PhysIn, PhysOut   string

	Src, Dst netip.Addr // without zone, IPv4 not mapped
	Proto    uint8      // IPPROTO_*
	// SrcPort and DstPort are valid for TCP, UDP, SCTP and DCCP, in packets that have them.
	SrcPort, DstPort uint16
	// TCPFlags as in the header (RFC 9293, 3.1); valid if HasTCPFlags.
	TCPFlags    uint8
	HasTCPFlags bool
	// ICMPType and ICMPCode are valid if HasICMP.
	ICMPType, ICMPCode uint8
	HasICMP            bool
	// Length is the length of the IP packet in bytes, TTL its hop limit; 0 if not known.
	Length int
	TTL    uint8
	// Fragment is set on fragments after the first.
	Fragment bool
	// Mark is skb->mark; valid if HasMark. Rules of the same hook may have changed it since.
	Mark    uint32
	HasMark bool
	// DstMAC and SrcMAC are nil if not known.
	SrcMAC, DstMAC []byte
	// VLAN is 0 if there is none.
	VLAN uint16

	// CT is the connection tracking entry; nil if not known.
	CT *Conntrack
	// TrackedBefore says that the packet had the entry when it came into the hook; else the hook itself
	// looks it up, and rules before that see none.
	TrackedBefore bool
	// Translated holds the ends of the packet after the translation that the hook itself made; nil if
	// it made none. Src, Dst and the ports are those before.
	Translated *Tuple

	// AddrType says whether addr is of the type on this host ("LOCAL", "BROADCAST", "UNICAST",
	// "MULTICAST", as in iptables -m addrtype); nil if not known. dev limits it to a device, "" to none.
	AddrType func(addr netip.Addr, typ string, dev string) Truth
}

// IsIPv6 reports the packet's version.
func (p *Packet) IsIPv6() bool { return p.Src.Is6() || p.Dst.Is6() }

// CTState is a packet's state in connection tracking.
type CTState string

// The states, with iptables' names.
const (
	CTNew         CTState = "NEW"
	CTEstablished CTState = "ESTABLISHED"
	CTRelated     CTState = "RELATED"
	CTInvalid     CTState = "INVALID"
	CTUntracked   CTState = "UNTRACKED"
)

// Conntrack is what connection tracking knows of a packet.
type Conntrack struct {
	State CTState
	// Reply is set on packets in the reply direction.
	Reply bool
	// Status holds the IPS_* bits (include/uapi/linux/netfilter/nf_conntrack_common.h); valid if
	// HasStatus.
	Status    uint32
	HasStatus bool
	// Orig and Return are the tuples of both directions; invalid addresses are not known.
	Orig, Return Tuple
	// Mark is the connection's mark; valid if HasMark.
	Mark    uint32
	HasMark bool
}

// Tuple is one direction of a connection.
type Tuple struct {
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Proto            uint8
}

// Bits of Conntrack.Status.
const (
	StatusExpected  = 1 << 0
	StatusSeenReply = 1 << 1
	StatusAssured   = 1 << 2
	StatusConfirmed = 1 << 3
	StatusSNAT      = 1 << 4
	StatusDNAT      = 1 << 5
)
