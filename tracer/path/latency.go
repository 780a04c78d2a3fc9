package path

// SegmentKind says which part of its way a packet spent a time in.
type SegmentKind string

// The kinds, in about the order in which a request meets them.
const (
	// SegmentSender is the sender's stack: from the write, or the first hook, to its device.
	SegmentSender SegmentKind = "sender-stack"
	// SegmentNetfilter is the inside of netfilter hooks: rules, connection tracking, translation.
	SegmentNetfilter SegmentKind = "netfilter"
	// SegmentRouting is what a host that forwards does outside of hooks: route, neighbour, device.
	SegmentRouting SegmentKind = "routing"
	// SegmentQdisc is waiting in a queueing discipline.
	SegmentQdisc SegmentKind = "qdisc"
	// SegmentVeth is the crossing of a veth pair, a loopback or another device without hardware.
	SegmentVeth SegmentKind = "veth"
	// SegmentBacklog is what such a crossing took beyond the least it ever took: waiting in the
	// backlog of the receiving processor.
	SegmentBacklog SegmentKind = "backlog"
	// SegmentBridge is a bridge: from a port to a port, or to and from the bridge's own device.
	SegmentBridge SegmentKind = "bridge"
	// SegmentEncapsulation is the making of the outer packet, up to its device.
	SegmentEncapsulation SegmentKind = "encapsulation"
	// SegmentWire is between a device and that of another host.
	SegmentWire SegmentKind = "wire"
	// SegmentDecapsulation is from the outer packet's device to the tunnel's.
	SegmentDecapsulation SegmentKind = "decapsulation"
	// SegmentReceiver is the receiver's stack, from its device to the last hook.
	SegmentReceiver SegmentKind = "receiver-stack"
	// SegmentWakeUp is from the last hook to the asker's read: its socket, and waking it. Of own requests.
	SegmentWakeUp SegmentKind = "wake-up"
	// SegmentApplication is from the request taken to the answer sent, with the socket's own part.
	SegmentApplication SegmentKind = "application"
	// SegmentDevice is between devices stacked on each other (VLAN, bond, macvlan, …).
	SegmentDevice SegmentKind = "device"
	// SegmentOther fits none of these.
	SegmentOther SegmentKind = "other"
	// SegmentOwn is the time that pathtrace's own observations took, taken out of all others.
	SegmentOwn SegmentKind = "pathtrace"
)

// SegmentKinds lists the kinds in their order.
func SegmentKinds() []SegmentKind {
	return []SegmentKind{
		SegmentSender, SegmentNetfilter, SegmentRouting, SegmentQdisc, SegmentVeth, SegmentBacklog, SegmentBridge,
		SegmentEncapsulation, SegmentWire, SegmentDecapsulation, SegmentReceiver, SegmentWakeUp, SegmentApplication,
		SegmentDevice, SegmentOther, SegmentOwn,
	}
}

// Distribution is what many measured times came to, in nanoseconds.
type Distribution struct {
	Count uint64 `json:"count"`
	Min   int64  `json:"min_ns"`
	P50   int64  `json:"p50_ns"`
	P90   int64  `json:"p90_ns"`
	P99   int64  `json:"p99_ns"`
	P999  int64  `json:"p99_9_ns"`
	Max   int64  `json:"max_ns"`
}

// Segment is one part of the way between two neighbouring observations, over many packets.
type Segment struct {
	Type   string `json:"type"` // always "segment"
	Target string `json:"target"`
	// Position counts along the way: the request, the application, the reply.
	Position  int         `json:"position"`
	Direction Direction   `json:"direction,omitempty"` // absent for the application
	Kind      SegmentKind `json:"kind"`
	// From and To are the observations at both ends, as "stage action".
	From string `json:"from"`
	To   string `json:"to"`
	// Stage is the netfilter hook, of kind netfilter.
	Stage     Stage  `json:"stage,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	NetNS     uint32 `json:"netns,omitempty"` // inode number
	Container string `json:"container,omitempty"`
	Network   string `json:"network,omitempty"`
	// Device is that of the first end; ToDevice and ToNamespace are set where the second is elsewhere.
	Device      string `json:"device,omitempty"`
	ToDevice    string `json:"to_device,omitempty"`
	ToNamespace string `json:"to_namespace,omitempty"`
	// Queue is what packets wait in here: "qdisc" or "backlog"; absent where they do not.
	Queue        string       `json:"queue,omitempty"`
	Distribution Distribution `json:"distribution"`
}

// KindShare is what all segments of one kind take together.
type KindShare struct {
	Kind SegmentKind `json:"kind"`
	// Segments counts the places of this kind on the way there and back.
	Segments int `json:"segments"`
	// Typical is the mean over the round trips around the median, within a twentieth of all to each side:
	// the kinds add up to such a round trip. 0 without round trips.
	Typical int64 `json:"typical_ns"`
	// RoundTrip is the sum over one round trip; Request and Reply that of each way.
	RoundTrip *Distribution `json:"round_trip,omitempty"`
	Request   *Distribution `json:"request,omitempty"`
	Reply     *Distribution `json:"reply,omitempty"`
}

// OwnCost is what measuring itself took.
type OwnCost struct {
	// PerObservation is the mean time of one observation, measured at the start, ns.
	PerObservation int64 `json:"per_observation_ns"`
	// Method says how it was measured.
	Method string `json:"method"`
	// Observations counts those of one round trip.
	Observations int `json:"observations"`
}

// ClockCheck compares the sum of the segments with a clock that has nothing to do with the hooks.
type ClockCheck struct {
	// Clock says which: "user space", "SO_TIMESTAMPING".
	Clock string `json:"clock"`
	Count uint64 `json:"count"`
	// Segments is the median of the segments' sum, Measured that of the other clock, ns.
	Segments int64 `json:"segments_p50_ns"`
	Measured int64 `json:"measured_p50_ns"`
}

// ThresholdResult is a limit that was asked for and what was measured.
type ThresholdResult struct {
	Threshold string `json:"threshold"` // as given, such as "p99=2ms"
	Limit     int64  `json:"limit_ns"`
	Measured  int64  `json:"measured_ns"`
	Met       bool   `json:"met"`
}

// LatencyReport is what the round trips to one target came to.
type LatencyReport struct {
	Type   string `json:"type"` // always "latency"
	Target string `json:"target"`
	Source string `json:"source,omitempty"`
	// Sent counts the requests of own probes; 0 if live traffic was watched.
	Sent uint64 `json:"sent"`
	// RoundTrip is as measured, with the time of the observations; Net is without it.
	RoundTrip   Distribution `json:"round_trip"`
	Net         Distribution `json:"net_round_trip"`
	Request     Distribution `json:"request"` // one way, first to last observation
	Reply       Distribution `json:"reply"`
	Application Distribution `json:"application"`
	Kinds       []KindShare  `json:"kinds"`
	// Discarded counts the samples that were left out, by why.
	Discarded map[string]uint64 `json:"discarded,omitempty"`
	// Retransmissions counts repeated segments per direction.
	Retransmissions map[Direction]uint64 `json:"retransmissions,omitempty"`
	// DelayedAcks is how long acknowledgements without data were held back, if longer than 5 ms.
	DelayedAcks *Distribution `json:"delayed_acks,omitempty"`
	// Reconnects counts how often the server closed the kept connection.
	Reconnects uint64            `json:"reconnects,omitempty"`
	Own        OwnCost           `json:"own_cost"`
	Checks     []ClockCheck      `json:"checks,omitempty"`
	Thresholds []ThresholdResult `json:"thresholds,omitempty"`
	Complete   bool              `json:"complete"` // no observation was lost
}

// Interval is an estimate with its confidence interval, ns.
type Interval struct {
	Estimate int64 `json:"estimate_ns"`
	Low      int64 `json:"low_ns"`
	High     int64 `json:"high_ns"`
}

// KindDifference is what one kind of segment contributes to a difference.
type KindDifference struct {
	Kind SegmentKind `json:"kind"`
	// A and B are the means over the round trips near the quantile, ns.
	A          int64    `json:"a_ns"`
	B          int64    `json:"b_ns"`
	Difference Interval `json:"difference"`
	// SegmentsA and SegmentsB count the places of the kind on both ways.
	SegmentsA int `json:"segments_a"`
	SegmentsB int `json:"segments_b"`
}

// Comparison lays the second target beside the first: positive differences mean that B takes longer.
type Comparison struct {
	Type       string  `json:"type"` // always "comparison"
	A          string  `json:"a"`
	B          string  `json:"b"`
	Quantile   float64 `json:"quantile"`
	Confidence float64 `json:"confidence"`
	Method     string  `json:"method"`
	// Difference is that of the way there and back, without the application, the waking of the asker and
	// the own cost; RoundTrip that of all but the own cost.
	Difference Interval         `json:"difference"`
	RoundTrip  Interval         `json:"round_trip_difference"`
	Kinds      []KindDifference `json:"kinds"`
	// Summary is one sentence.
	Summary string `json:"summary"`
}
