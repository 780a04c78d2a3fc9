package path

// Discovery says how a sender learns that its packets are too big.
type Discovery string

// How path MTU discovery goes in one direction.
const (
	// DiscoveryUnneeded: the path carries all that the sender's device lets it send.
	DiscoveryUnneeded Discovery = "unneeded"
	// DiscoveryWorks: an ICMP error with the MTU reached the sender.
	DiscoveryWorks Discovery = "works"
	// DiscoveryFails: packets vanish, and nobody tells the sender.
	DiscoveryFails Discovery = "fails"
	// DiscoveryUnknown: it could not be tried.
	DiscoveryUnknown Discovery = "unknown"
)

// TooBigEnd is what became of a packet that was too big.
type TooBigEnd string

// The ends of a packet that was too big.
const (
	// TooBigRefused: the sender's own kernel did not send it, and knows the MTU.
	TooBigRefused TooBigEnd = "refused"
	// TooBigAnswered: a router dropped it, and its ICMP error reached the sender.
	TooBigAnswered TooBigEnd = "icmp-error"
	// TooBigUnanswered: a router dropped it and sent an ICMP error that did not reach the sender.
	TooBigUnanswered TooBigEnd = "icmp-error-lost"
	// TooBigSilent: a device dropped it without a word.
	TooBigSilent TooBigEnd = "silent-drop"
	// TooBigUnseen: it left the last place that can be seen, and never arrived.
	TooBigUnseen TooBigEnd = "unseen"
)

// MTU is what was found out about the sizes that one direction of a path carries. Sizes are in bytes
// from the IP header on.
type MTU struct {
	Type      string    `json:"type"` // always "mtu"
	Direction Direction `json:"direction"`
	// Proto is that of the probes, Src and Dst are their ends as the sender used them.
	Proto   Proto  `json:"proto"`
	Src     string `json:"src"`
	Dst     string `json:"dst"`
	SrcName string `json:"src_name,omitempty"`
	DstName string `json:"dst_name,omitempty"`
	// MTU is the largest packet that was seen to pass, whole; 0 if that could not be found.
	MTU int `json:"mtu"`
	// TooBig is the smallest that did not; 0 if the sender's device sends nothing larger than MTU.
	TooBig int `json:"too_big,omitempty"`
	// SenderMTU is that of the device that the sender sends by, Declared the least that the links of
	// the path declare, less what tunnels add.
	SenderMTU int `json:"sender_mtu"`
	Declared  int `json:"declared,omitempty"`
	// TCPPacket is the largest packet that TCP itself sends here on such a connection, by the MSS of
	// both sides; 0 if unknown.
	TCPPacket int `json:"tcp_packet,omitempty"`
	// CachedMTU is what an exception in the sender's route cache says, which lasts for
	// CachedSeconds; 0 without one. RouteMTU and RouteAdvMSS are what its route says.
	CachedMTU     int `json:"cached_mtu,omitempty"`
	CachedSeconds int `json:"cached_seconds,omitempty"`
	RouteMTU      int `json:"route_mtu,omitempty"`
	RouteAdvMSS   int `json:"route_advmss,omitempty"`

	Discovery Discovery `json:"discovery"`
	Links     []MTULink `json:"links"`
	// Bridges pass the packets on between their ports: what they declare binds only what their own
	// namespace sends, and where br_netfilter cuts packets.
	Bridges []MTUBridge `json:"bridges,omitempty"`
	// Networks are the Docker networks of the path.
	Networks []MTUNetwork `json:"networks,omitempty"`
	End      *MTUEnd      `json:"end,omitempty"`
	// FragmentsAbove is the size above which packets pass in fragments only, cut at Fragmented: those of
	// a tunnel that may be cut; 0 if none are.
	FragmentsAbove int    `json:"fragments_above,omitempty"`
	Fragmented     *Where `json:"fragmented,omitempty"`
	// LimitRoute names the route that is the limit, where no device is.
	LimitRoute string `json:"limit_route,omitempty"`
	// Probes counts the sizes that were tried.
	Probes int `json:"probes"`
	// Notes are sentences on what else was seen.
	Notes []string `json:"notes,omitempty"`
}

// MTULink is one device that the packets of a path pass.
type MTULink struct {
	Host       string `json:"host,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	NetNS      uint32 `json:"netns,omitempty"` // inode number
	Container  string `json:"container,omitempty"`
	Network    string `json:"network,omitempty"` // Docker network
	Device     string `json:"device"`
	DeviceKind string `json:"device_kind,omitempty"`
	// MTU is what the device declares, Overhead what tunnels have added to the packet there; Carries
	// is what that leaves for it.
	MTU      int    `json:"mtu"`
	Overhead int    `json:"overhead,omitempty"`
	Carries  int    `json:"carries"`
	Outer    *Outer `json:"outer,omitempty"`
	// Limit marks the device at which what is too big ends.
	Limit bool `json:"limit,omitempty"`
	// GSOMaxSize and GSOMaxSegments bound what the kernel hands to the device in one piece, to be cut
	// later; one segment means that nothing is. 0 if not known.
	GSOMaxSize     int `json:"gso_max_size,omitempty"`
	GSOMaxSegments int `json:"gso_max_segments,omitempty"`
	GROMaxSize     int `json:"gro_max_size,omitempty"`

	Ifindex uint32 `json:"-"`
}

// MTUBridge is a bridge between two devices of a path.
type MTUBridge struct {
	Host      string `json:"host,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	NetNS     uint32 `json:"netns,omitempty"` // inode number
	Device    string `json:"device"`
	MTU       int    `json:"mtu"`
}

// MTUNetwork is a Docker network of a path.
type MTUNetwork struct {
	Network string `json:"network"`
	Driver  string `json:"driver"`
	// MTU is its option com.docker.network.driver.mtu; 0 if that is not set.
	MTU int `json:"mtu,omitempty"`
}

// MTUEnd is where the smallest packet that was too big ended.
type MTUEnd struct {
	Kind TooBigEnd `json:"kind"`
	// Where it was dropped, or seen last if Kind is unseen.
	Where *Where `json:"where,omitempty"`
	// NextHopMTU is what the ICMP error said, From who sent it; empty without an error.
	NextHopMTU int    `json:"next_hop_mtu,omitempty"`
	From       string `json:"from,omitempty"`
	// Lost is where the ICMP error was dropped, if its end was seen; its rule is named if it can be told.
	Lost *Where `json:"lost,omitempty"`
	// Fragmented says where a packet of that size is cut that may be; empty if nowhere. FragmentsPass
	// tells whether its parts arrived.
	Fragmented    *Where `json:"fragmented,omitempty"`
	FragmentsPass bool   `json:"fragments_pass,omitempty"`
}

// MTUWatch is what was seen of live traffic with `pathtrace mtu --watch`.
type MTUWatch struct {
	Type string `json:"type"` // always "mtu_watch"
	// Seconds is how long, Packets how many were handed to the device that saw most of them.
	Seconds float64 `json:"seconds"`
	Packets uint64  `json:"packets"`
	// TooBig were dropped for their size, Fragments are parts of packets; of all devices.
	TooBig    uint64 `json:"too_big"`
	Fragments uint64 `json:"fragments"`
	// Errors are ICMP errors about size that were seen to leave a device, LostErrors those that were dropped.
	Errors     uint64 `json:"icmp_errors"`
	LostErrors uint64 `json:"icmp_errors_lost"`
	// Segments are TCP segments with data, Repeated those that carried again what was sent before.
	Segments uint64          `json:"segments"`
	Repeated uint64          `json:"repeated"`
	Places   []MTUWatchPlace `json:"places"`
	Notes    []string        `json:"notes,omitempty"`
}

// MTUWatchPlace is a device at which packets were dropped for their size, or left as fragments.
type MTUWatchPlace struct {
	Namespace string `json:"namespace,omitempty"`
	NetNS     uint32 `json:"netns,omitempty"`
	Container string `json:"container,omitempty"`
	Device    string `json:"device"`
	MTU       int    `json:"mtu,omitempty"`
	Packets   uint64 `json:"packets"`
	Fragments uint64 `json:"fragments"`
	TooBig    uint64 `json:"too_big"`
	// Smallest is the smallest that was too big, bytes; Function and Reason say what dropped it.
	Smallest int    `json:"smallest,omitempty"`
	Function string `json:"function,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Src and Dst are the ends of one of them, with their names.
	Src     string `json:"src,omitempty"`
	Dst     string `json:"dst,omitempty"`
	SrcName string `json:"src_name,omitempty"`
	DstName string `json:"dst_name,omitempty"`
}
