package path

// Direction tells whether a packet travels from the asker to the target or back.
type Direction string

// The two directions of a flow. The zero value means unknown.
const (
	Request Direction = "request"
	Reply   Direction = "reply"
)

// Opposite returns the other direction, or the zero value for an unknown one.
func (d Direction) Opposite() Direction {
	switch d {
	case Request:
		return Reply
	case Reply:
		return Request
	}
	return ""
}

// Stage is the part of the network stack in which something was observed.
type Stage string

// The stages, in about the order in which a packet meets them.
const (
	StageSocket    Stage = "socket"
	StageRoute     Stage = "route"
	StageNeighbour Stage = "neighbour"
	StageQdisc     Stage = "qdisc"
	StageDevice    Stage = "device"
	StageBridge    Stage = "bridge"
	StageVXLAN     Stage = "vxlan"
	StageXfrm      Stage = "xfrm"
	StageFragment  Stage = "fragment"
	StageTCP       Stage = "tcp"
	StageUDP       Stage = "udp"
	StageICMP      Stage = "icmp"

	StagePrerouting  Stage = "netfilter/prerouting"
	StageInput       Stage = "netfilter/input"
	StageForward     Stage = "netfilter/forward"
	StageOutput      Stage = "netfilter/output"
	StagePostrouting Stage = "netfilter/postrouting"

	// The same hooks, entered by br_netfilter for bridged frames.
	StageBridgePrerouting  Stage = "bridge-netfilter/prerouting"
	StageBridgeInput       Stage = "bridge-netfilter/input"
	StageBridgeForward     Stage = "bridge-netfilter/forward"
	StageBridgeOutput      Stage = "bridge-netfilter/output"
	StageBridgePostrouting Stage = "bridge-netfilter/postrouting"
)

// Action is what happened to the packet at a stage.
type Action string

// The actions.
const (
	ActionSend        Action = "send"
	ActionQueue       Action = "queue"
	ActionTransmit    Action = "transmit"
	ActionReceive     Action = "receive"
	ActionEnter       Action = "enter"
	ActionLeave       Action = "leave"
	ActionDNAT        Action = "dnat"
	ActionSNAT        Action = "snat"
	ActionMasquerade  Action = "masquerade"
	ActionEncapsulate Action = "encapsulate"
	ActionDecapsulate Action = "decapsulate"
	ActionFragment    Action = "fragment"
	ActionDeliver     Action = "deliver"
	ActionDrop        Action = "drop"
	ActionReject      Action = "reject"
	ActionReset       Action = "reset"
)

// Outcome is how a flow ended.
type Outcome string

// The outcomes.
const (
	// Delivered: the target's socket took the request and, for TCP, its answer reached the asker.
	Delivered Outcome = "delivered"
	// Refused: an RST, an ICMP error or a REJECT came back.
	Refused Outcome = "refused"
	// Dropped: the kernel discarded it at a known place.
	Dropped Outcome = "dropped"
	// Lost: it left the last place that can be seen and nothing came back.
	Lost Outcome = "lost"
	// Misdelivered: a socket or endpoint other than the target's took it.
	Misdelivered Outcome = "misdelivered"
	// NoTraffic: no packet of the flow was seen.
	NoTraffic Outcome = "no-traffic"
)

// Cause is why a flow was not delivered. Each has a page under docs/causes.
type Cause string

// The causes that can be concluded so far; the list grows with the explainers.
const (
	CauseFirewallDrop         Cause = "firewall-drop"
	CauseFirewallReject       Cause = "firewall-reject"
	CauseFirewallPolicy       Cause = "firewall-policy"
	CauseNetworkIsolation     Cause = "network-isolation"
	CauseDirectAccessBlocked  Cause = "direct-access-blocked"
	CauseBridgeFilter         Cause = "bridge-filter"
	CauseReversePathFilter    Cause = "reverse-path-filter"
	CauseNoRoute              Cause = "no-route"
	CauseNeighbourUnresolved  Cause = "neighbour-unresolved"
	CauseLinkDown             Cause = "link-down"
	CauseNotListening         Cause = "not-listening"
	CauseListeningOnLoopback  Cause = "listening-on-loopback"
	CauseNotPublished         Cause = "not-published"
	CauseNATMissing           Cause = "nat-missing"
	CauseMasqueradeMissing    Cause = "masquerade-missing"
	CauseDockerRulesMissing   Cause = "docker-rules-missing"
	CauseContainerNotRunning  Cause = "container-not-running"
	CauseContainerPaused      Cause = "container-paused"
	CauseNoSharedNetwork      Cause = "no-shared-network"
	CauseAcceptQueueFull      Cause = "accept-queue-full"
	CauseReceiveBufferFull    Cause = "receive-buffer-full"
	CausePacketTooBig         Cause = "packet-too-big"
	CauseMTUBlackhole         Cause = "mtu-blackhole"
	CauseTTLExceeded          Cause = "ttl-exceeded"
	CauseForwardingOff        Cause = "forwarding-off"
	CauseNotBridged           Cause = "not-bridged"
	CauseBridgePortBlocked    Cause = "bridge-port-blocked"
	CauseBridgeNetfilterOff   Cause = "bridge-netfilter-off"
	CauseWrongNeighbour       Cause = "wrong-neighbour"
	CauseDuplicateAddress     Cause = "duplicate-address"
	CauseSubnetOverlap        Cause = "subnet-overlap"
	CauseMartianSource        Cause = "martian-source"
	CauseMacvlanHostIsolation Cause = "macvlan-host-isolation"
	CauseTCDrop               Cause = "tc-drop"
	CauseQueueOverlimit       Cause = "queue-overlimit"
	CauseChecksumInvalid      Cause = "checksum-invalid"

	CausePortConflict     Cause = "port-conflict"
	CauseConntrackFull    Cause = "conntrack-full"
	CauseConntrackInvalid Cause = "conntrack-invalid"
	CauseConntrackStale   Cause = "conntrack-stale"
	CauseNATExhausted     Cause = "nat-exhausted"
	CauseNameNotResolved  Cause = "name-not-resolved"

	CauseOverlayPeerUnreachable Cause = "overlay-peer-unreachable"
	CauseOverlayMisrouted       Cause = "overlay-misrouted"
	CauseEncryptionFailed       Cause = "encryption-failed"

	CauseLostInTransit   Cause = "lost-in-transit"
	CauseUnexplainedDrop Cause = "unexplained-drop"
)

// Proto is the transport protocol of a flow.
type Proto string

// The protocols that are followed. ICMP stands for ICMP and ICMPv6 echo.
const (
	TCP  Proto = "tcp"
	UDP  Proto = "udp"
	ICMP Proto = "icmp"
)
