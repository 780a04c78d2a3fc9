package path

import "net/netip"

// Outer is the encapsulating header of a packet seen inside a tunnel.
type Outer struct {
	// Src and Dst are the tunnel endpoints as "addr:port".
	Src string `json:"src"`
	Dst string `json:"dst"`
	// VNI is the VXLAN network identifier (RFC 7348), 24 bits.
	VNI uint32 `json:"vni"`
}

// Hop is one observation of one packet. The fields with a JSON tag are the contract; those marked
// "-" carry the same facts in a form that programs can compare.
type Hop struct {
	Type      string    `json:"type"` // always "hop"
	Flow      int       `json:"flow"`
	Packet    int       `json:"packet"` // unique per packet of the flow
	Direction Direction `json:"direction"`
	// TimeNS is monotonic, from the flow's first observation, in nanoseconds.
	TimeNS int64 `json:"time_ns"`
	// Host is the name of the host; Namespace the name of the network namespace on it.
	Host       string `json:"host,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	NetNS      uint32 `json:"netns,omitempty"` // inode number
	Container  string `json:"container,omitempty"`
	Network    string `json:"network,omitempty"` // Docker network of the device
	Device     string `json:"device,omitempty"`
	DeviceKind string `json:"device_kind,omitempty"`
	Stage      Stage  `json:"stage"`
	Action     Action `json:"action"`
	// Src and Dst are "addr:port" as the packet carries them here (after the action); ICMP has no port.
	Src      string `json:"src,omitempty"`
	Dst      string `json:"dst,omitempty"`
	SrcName  string `json:"src_name,omitempty"`
	DstName  string `json:"dst_name,omitempty"`
	Length   int    `json:"length,omitempty"` // bytes from the IP header on
	TCPFlags string `json:"tcp_flags,omitempty"`
	Outer    *Outer `json:"outer,omitempty"`
	// Reason and Function are set on drops: the kernel's drop reason without its SKB_DROP_REASON_
	// prefix and the kernel function that dropped it.
	Reason   string `json:"reason,omitempty"`
	Function string `json:"function,omitempty"`

	// Additions to the first contract.

	// Project and Service are the Docker Compose labels of Container.
	Project string `json:"project,omitempty"`
	Service string `json:"service,omitempty"`
	// Hook is the name of the hook that made the observation, as `pathtrace hooks` lists it.
	Hook string `json:"hook,omitempty"`
	// Retransmission marks a packet that repeats an earlier one of the flow.
	Retransmission bool `json:"retransmission,omitempty"`
	// Copy marks a clone of the packet (a flooded frame, a packet socket) that is not on its path.
	Copy bool `json:"copy,omitempty"`
	// ICMP describes an ICMP message: "type 3 code 13 (administratively prohibited)". It is set on
	// ICMP errors that quote the flow and on observations of the kernel sending one.
	ICMP string `json:"icmp,omitempty"`
	// PrevSrc and PrevDst are the addresses before a translation (dnat, snat, masquerade).
	PrevSrc string `json:"prev_src,omitempty"`
	PrevDst string `json:"prev_dst,omitempty"`
	// InDevice and OutDevice are the devices a netfilter hook was given.
	InDevice  string `json:"in_device,omitempty"`
	OutDevice string `json:"out_device,omitempty"`
	// Gateway is the next hop that a route look-up chose; Error its error, such as "no route".
	Gateway string `json:"gateway,omitempty"`
	Error   string `json:"error,omitempty"`
	// SPI names the IPsec state that encrypts or decrypts (stage xfrm); 0 if there is none (addition).
	SPI uint32 `json:"spi,omitempty"`
	// DeviceMTU is the MTU of Device in bytes, as it is when the flow is reported; 0 if unknown.
	DeviceMTU uint32 `json:"device_mtu,omitempty"`
	// Rules are the steps through the rules of a netfilter hook, with --trace-rules, on the hop that
	// entered it.
	Rules []RuleStep `json:"rules,omitempty"`

	Time        uint64         `json:"-"` // CLOCK_MONOTONIC, ns
	Ifindex     uint32         `json:"-"`
	InIfindex   uint32         `json:"-"`
	OutIfindex  uint32         `json:"-"`
	SrcAddr     netip.AddrPort `json:"-"`
	DstAddr     netip.AddrPort `json:"-"`
	PrevSrcAddr netip.AddrPort `json:"-"`
	PrevDstAddr netip.AddrPort `json:"-"`
	// ICMPType and ICMPCode are valid iff ICMP is not empty.
	ICMPType uint8 `json:"-"`
	ICMPCode uint8 `json:"-"`
	// MTU is the next-hop MTU an ICMP "packet too big" carries, bytes; 0 if none.
	MTU uint32 `json:"-"`
	// Bridge is the name of the bridge that Device is a port of.
	Bridge string `json:"-"`
	// GatewayAddr is the next hop of a route look-up; invalid if on-link.
	GatewayAddr netip.Addr `json:"-"`
	// Mark is skb->mark, TTL the hop limit; valid if HasMark.
	Mark    uint32 `json:"-"`
	TTL     uint8  `json:"-"`
	HasMark bool   `json:"-"`
	// CT is the packet's connection tracking entry; nil if it has none or it was not seen.
	CT *Conntrack `json:"-"`
	// Capture is what was copied of the packet here; nil if nothing was, or could be.
	Capture *Capture `json:"-"`
	// Noise marks a drop that every healthy flow has (a flooded copy at a bystander, a queue purge).
	Noise bool `json:"-"`
	// Fragment tells that it was a fragment of the packet that was observed.
	Fragment bool `json:"-"`
}

// Capture is the first bytes of a packet as they were in the kernel's buffer. Checksums that a device
// was to fill in are not filled in.
type Capture struct {
	// Bytes begin with the link-layer header if Link is not 0, else with the IP header.
	Bytes []byte
	// Length is that of the whole packet in bytes, counted like Bytes; more than 65,535 before
	// segmentation.
	Length uint32
	// Link is the length of the Ethernet header with its tags; 0 for none.
	Link uint16
}

// Conntrack is what connection tracking says of a packet.
type Conntrack struct {
	// Info is enum ip_conntrack_info: direction and state. Status holds the IPS_* bits. Both are of
	// include/uapi/linux/netfilter/nf_conntrack_common.h.
	Info   uint8
	Status uint32
	// The tuples of both directions. ICMP has its echo identifier as the port of the asking side.
	OrigSrc, OrigDst, ReplySrc, ReplyDst netip.AddrPort
}

// RuleStep is one step of a packet through the rules of a hook.
type RuleStep struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	// Number, Handle, Text and Owner are those of the rule that matched; the end of a chain has none,
	// and a rule that is gone by now only its handle.
	Number int    `json:"number,omitempty"`
	Handle uint64 `json:"handle,omitempty"`
	Text   string `json:"text,omitempty"`
	Owner  string `json:"owner,omitempty"`
	// Verdict is what happened: "accept", "drop", "jump DOCKER", "policy drop", "end of chain".
	Verdict string `json:"verdict"`
}

// Packet is one packet of a flow with everything that was seen of it, in time order.
type Packet struct {
	ID             int
	Direction      Direction
	Retransmission bool
	// ICMPError marks an ICMP error that quotes the flow; its Direction is that of the error itself.
	ICMPError bool
	// TCPFlags as in Hop; Seq and Ack are valid for TCP only.
	TCPFlags string
	Seq, Ack uint32
	// Ident tells the packet from others like it wherever it goes: the IP identification, or the
	// sequence number of an ICMP echo; 0 if it has none.
	Ident  uint32
	Length int
	Hops   []Hop
	// OmittedHops counts hops that were not kept because the packet had too many.
	OmittedHops int
}

// Path is one flow: a request and its reply, followed through every translation.
type Path struct {
	Flow  int
	Proto Proto
	// Client and Server are the ends as the first request carried them; Server is what the client
	// asked for. Port 0 for ICMP.
	Client, Server netip.AddrPort
	// Target is the server's address after all translations seen, and Source the client's, as the
	// target saw it. Equal to Server and Client without NAT.
	Source, Target netip.AddrPort
	Packets        []*Packet
	// OmittedPackets counts packets of the flow that were seen and not kept (a stated limit).
	OmittedPackets int
	// Start is CLOCK_MONOTONIC of the first observation, End of the last, ns.
	Start, End uint64
	// Epoch is what to add to the times to get the time of day, ns, where it is not Meta.Epoch: the clock
	// of a flow over several hosts is that of one of them.
	Epoch int64
	// Midstream: the flow's opening packets were not seen, it existed before the trace.
	Midstream bool

	// Socket states seen (TCP): the target's child socket and the asker's socket became ESTABLISHED.
	// The *NetNS say in which namespace, inode number; 0 if not seen.
	ServerEstablished, ClientEstablished uint64 // time, 0 if not
	ServerNetNS, ClientNetNS             uint32
	// DeliverNetNS is the namespace whose socket took the request; 0 if not seen.
	DeliverNetNS uint32
	// Closed: both FINs or a reset were seen.
	Closed bool
	// NAT lists the translations in the order in which they were first seen.
	NAT []Translation
}

// Translation is one address translation of a flow.
type Translation struct {
	Kind      Action    `json:"kind"` // dnat, snat or masquerade
	Direction Direction `json:"direction"`
	From      string    `json:"from"` // "addr:port" before
	To        string    `json:"to"`   // "addr:port" after
	Namespace string    `json:"namespace,omitempty"`
	NetNS     uint32    `json:"netns,omitempty"`
	Stage     Stage     `json:"stage"`
	// By says what translated if that was not a NAT rule: IPVS, or empty (addition).
	By string `json:"by,omitempty"`
	// Rule made the translation; nil if that is not sure (addition).
	Rule *Rule `json:"rule,omitempty"`
}

// IPVS is the kernel's load balancer, with which Swarm and kube-proxy spread a service over its servers.
const IPVS = "ipvs"

// Rule is a firewall rule as its owner wrote it.
type Rule struct {
	Family string `json:"family"`
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	Number int    `json:"number"`
	Handle uint64 `json:"handle,omitempty"`
	Text   string `json:"text"`
	Owner  string `json:"owner"`
}

// Where is the place at which a flow ended.
type Where struct {
	Host      string `json:"host,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Container string `json:"container,omitempty"`
	Device    string `json:"device,omitempty"`
	Stage     Stage  `json:"stage,omitempty"`
	Function  string `json:"function,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Rule      *Rule  `json:"rule,omitempty"`
	// Direction of the packet that ended there (addition).
	Direction Direction `json:"direction,omitempty"`
}

// Latency of a delivered flow in nanoseconds; a part that was not seen is 0 and absent.
type Latency struct {
	Request   int64 `json:"request,omitempty"`
	Reply     int64 `json:"reply,omitempty"`
	RoundTrip int64 `json:"round_trip,omitempty"`
}

// Warning is something wrong on the way that did not stop the flow.
type Warning struct {
	Cause   Cause  `json:"cause"`
	Summary string `json:"summary"`
}

// Verdict is the conclusion about one flow.
type Verdict struct {
	Type    string  `json:"type"` // always "verdict"
	Flow    int     `json:"flow"`
	Outcome Outcome `json:"outcome"`
	Cause   Cause   `json:"cause,omitempty"`
	// Summary is one sentence.
	Summary string `json:"summary"`
	Where   *Where `json:"where,omitempty"`
	// Evidence lists facts that were observed, in the order of the packet's way.
	Evidence []string `json:"evidence,omitempty"`
	// Remedy lists commands or steps.
	Remedy    []string      `json:"remedy,omitempty"`
	LatencyNS *Latency      `json:"latency_ns,omitempty"`
	NAT       []Translation `json:"nat,omitempty"`
	Warnings  []Warning     `json:"warnings,omitempty"`
	// Complete is false if anything of the trace was lost; LostEvents says how many observations.
	Complete   bool   `json:"complete"`
	LostEvents uint64 `json:"lost_events"`

	// Additions to the first contract.

	Proto Proto `json:"proto,omitempty"`
	// Src and Dst are the ends as the client used them, with their names.
	Src     string `json:"src,omitempty"`
	Dst     string `json:"dst,omitempty"`
	SrcName string `json:"src_name,omitempty"`
	DstName string `json:"dst_name,omitempty"`
	// Hosts says of each host that was watched, if there were several, what it contributed.
	Hosts []HostView `json:"hosts,omitempty"`
}

// HostView is what one of several hosts contributed to a verdict.
type HostView struct {
	Host string `json:"host"`
	// Packets counts the packets of the flow that were seen there.
	Packets int `json:"packets"`
	// Problem is why the host could not be watched, or not to the end.
	Problem string `json:"problem,omitempty"`
	// Clock is which clock the times of its hops were brought in line by: "reference" (the others were
	// brought in line with this one), "packets" (packets that crossed in both directions), "kernel" (it is
	// the reference's) or "wall" (the hosts' own wall clocks); absent if nothing was seen.
	Clock string `json:"clock,omitempty"`
	// ClockOffsetNS is by how much its wall clock is ahead of the reference host's, ns; ClockErrorNS
	// bounds the error, with Clock "packets".
	ClockOffsetNS int64 `json:"clock_offset_ns,omitempty"`
	ClockErrorNS  int64 `json:"clock_error_ns,omitempty"`
}

// Meta describes a trace; it is the first JSON object.
type Meta struct {
	Type    string   `json:"type"` // always "meta"
	Schema  int      `json:"schema"`
	Version string   `json:"version"`
	Kernel  string   `json:"kernel"`
	Hooks   []string `json:"hooks"`
	Target  string   `json:"target"`
	Source  string   `json:"source,omitempty"`
	Started string   `json:"started"` // RFC 3339 with nanoseconds
	// Epoch is CLOCK_REALTIME less CLOCK_MONOTONIC at the start, ns: what to add to Hop.Time to get
	// the time of day.
	Epoch int64 `json:"-"`

	// Additions to the first contract.

	// Hosts are the hosts that take part, if several do.
	Hosts []string `json:"hosts,omitempty"`
}

// Stats closes a trace; it is the last JSON object.
type Stats struct {
	Type       string            `json:"type"` // always "stats"
	Packets    uint64            `json:"packets"`
	Events     uint64            `json:"events"`
	LostEvents uint64            `json:"lost_events"`
	Hooks      map[string]uint64 `json:"hooks"` // observations per hook
	WallNS     int64             `json:"wall_ns"`
	CPUNS      int64             `json:"cpu_ns"`

	// Additions to the first contract.

	Flows    map[Outcome]int   `json:"flows,omitempty"`
	Lost     map[string]uint64 `json:"lost,omitempty"`    // per hook or map, what was lost and where
	Skipped  []string          `json:"skipped,omitempty"` // namespaces or hooks that could not be used, with why
	Warnings []string          `json:"warnings,omitempty"`
	// Findings counts what doctor found, per severity.
	Findings map[Severity]int `json:"findings,omitempty"`
}

// Schema is the version of the JSON contract.
const Schema = 1
