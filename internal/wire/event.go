package wire

import "net/netip"

// Hook says which kind of hook made an observation. The values are those of enum hook in event.h.
type Hook uint8

// The hooks.
const (
	HookUnknown     Hook = iota
	DevQueue             // net_dev_queue: handed to a device's queueing discipline
	DevXmit              // net_dev_start_xmit: handed to the driver
	DevReceive           // netif_receive_skb: a device received it
	Drop                 // kfree_skb: discarded, see Reason and Location
	NetfilterEnter       // before the first function of a netfilter hook
	NetfilterLeave       // after the last function of a netfilter hook (absent if the hook kept it)
	TCPState             // inet_sock_set_state: a socket of the flow became ESTABLISHED or closed; no skb
	TCPReset             // tcp_send_reset: the stack answers this packet with an RST
	ICMPSend             // icmp_send: the stack answers this packet with an ICMP error
	TCPRetransmit        // tcp_retransmit_skb: the socket repeats a segment
	RouteLookup          // fib_table_lookup, fib6_table_lookup: no skb
	SocketRead           // skb_copy_datagram_iovec: the application read it
	SocketDataReady      // sk_data_ready: it was queued to a socket
	hookEnd
)

// Netfilter hook numbers (include/uapi/linux/netfilter.h), valid in Event.NFHook for
// NetfilterEnter and NetfilterLeave.
const (
	NFPrerouting = iota
	NFInput
	NFForward
	NFOutput
	NFPostrouting
)

// TCP flag bits as in the header's 14th byte.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
)

// IP protocol numbers.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// Tuple names the ends of a packet. It is comparable and serves as a map key.
//
// ICMP echo: a request has the echo identifier as source port and destination port 0, a reply the
// other way round, so that Inverse works as for TCP and UDP.
type Tuple struct {
	Src, Dst netip.AddrPort // never IPv4-mapped
	Proto    uint8          // IP protocol number
}

// Inverse returns the tuple of the opposite direction.
func (t Tuple) Inverse() Tuple { return Tuple{Src: t.Dst, Dst: t.Src, Proto: t.Proto} }

// IsValid reports whether t holds addresses.
func (t Tuple) IsValid() bool { return t.Src.Addr().IsValid() && t.Dst.Addr().IsValid() }

// Flags of an Event.
const (
	// FlagICMPError: the packet is an ICMP error; Tuple is that of the packet it quotes, so the
	// error itself travels in the opposite direction of Tuple. OuterSrc/OuterDst are its own ends.
	FlagICMPError = 1 << iota
	// FlagEncapsulated: the packet is inside VXLAN; Tuple is the inner one, Outer* the outer one.
	FlagEncapsulated
	// FlagFragment: an IP fragment; later fragments carry the tuple of the first.
	FlagFragment
	// FlagTruncated: the transport header was not in the linear part, ports may be missing.
	FlagTruncated
	// FlagTracked: Tuple was not in the filter, the packet was recognised by its identity or its
	// connection-tracking entry.
	FlagTracked
	// FlagBridgeNF: br_netfilter state is attached to the packet.
	FlagBridgeNF
	// FlagVLAN: a VLAN tag was present, in the packet or beside it.
	FlagVLAN
	// FlagGSO: a segmentation-offload packet, Length is that of the whole.
	FlagGSO
	// FlagCloned: the skb shares its data with a clone.
	FlagCloned
	// FlagInHook: the drop happened inside the netfilter hook NFHook, between InIfindex and OutIfindex.
	FlagInHook
	// FlagIPVS: IPVS has sent the packet to another address. One that enters OUTPUT with it was sent on
	// from inside a hook.
	FlagIPVS
	// FlagEncrypts: IPsec will encrypt the packet before it leaves; Reason is the SPI.
	FlagEncrypts
	// FlagDecrypted: IPsec decrypted the packet in this namespace; Reason is the SPI.
	FlagDecrypted
)

// Event is one observation, decoded. Fields say when they are valid; else they are zero.
type Event struct {
	Time     uint64 // CLOCK_MONOTONIC, ns
	Skb      uint64 // address of the sk_buff; 0 for TCPState, RouteLookup, SocketDataReady without a packet
	Head     uint64 // skb->head: equal for clones of one packet
	Location uint64 // Drop: return address; Netfilter*: state->okfn, the continuation
	Sock     uint64 // address of the socket the observation is about, or 0
	CT       uint64 // address of the conntrack entry, or 0
	CTOrig   Tuple  // original tuple of CT; valid iff CT != 0
	CTReply  Tuple  // reply tuple of CT; valid iff CT != 0
	CTStatus uint32 // IPS_* bits of CT
	CTInfo   uint8  // enum ip_conntrack_info of the packet; valid iff CT != 0

	Tuple    Tuple          // the packet's ends as carried here (see FlagICMPError, FlagEncapsulated)
	OuterSrc netip.AddrPort // tunnel or ICMP-error ends
	OuterDst netip.AddrPort
	VNI      uint32 // valid iff FlagEncapsulated

	NetNS      uint32 // inode number of the namespace of the observation; 0 if unknown
	Ifindex    uint32 // of skb->dev, in NetNS; 0 if none
	InIfindex  uint32 // Netfilter*: state->in; Receive: skb_iif
	OutIfindex uint32 // Netfilter*: state->out
	Dev        string // name of Ifindex at that moment

	Length   uint32 // bytes from the (inner) IP header on
	Seq, Ack uint32 // TCP: sequence numbers; ICMP echo: Seq is the echo sequence
	IPID     uint16 // IPv4 identification; IPv6: low half of the fragment identification
	Payload  uint16 // bytes of transport payload, saturating at 65535
	TCPFlags uint8
	TTL      uint8 // or hop limit
	ICMPType uint8 // of the packet itself, or of the error being sent (ICMPSend)
	ICMPCode uint8
	MTU      uint32 // ICMP "too big": next-hop MTU

	Reason uint32 // Drop: enum skb_drop_reason; TCPReset: enum sk_rst_reason
	Mark   uint32 // skb->mark
	Err    int32  // RouteLookup: 0 or -errno; TCPRetransmit: error of the attempt

	Hook     Hook
	NFHook   uint8  // NFPrerouting … NFPostrouting; valid for Netfilter*
	OldState uint8  // TCPState: state before
	NewState uint8  // TCPState: state after (1 = ESTABLISHED, 7 = CLOSE)
	CPU      uint16 // processor of the observation
	PktType  uint8  // skb->pkt_type: 0 host, 1 broadcast, 2 multicast, 3 other host, 4 outgoing
	Flags    uint32

	// RouteLookup only: the chosen device is Ifindex, the next hop Gateway (invalid if on-link),
	// the table Table (254 main, 255 local).
	Gateway netip.Addr
	Table   uint32

	// Capture is the packet's first bytes, nil if none were asked for or the hook has no packet.
	Capture *Capture
}

// Has reports whether all bits of flag are set.
func (e *Event) Has(flag uint32) bool { return e.Flags&flag == flag }
