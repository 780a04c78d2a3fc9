package flow

import (
	"net/netip"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Namer gives names to what the kernel reports as numbers. Results are cached per address.
type Namer interface {
	// DropReason returns the name of an enum skb_drop_reason value without its SKB_DROP_REASON_
	// prefix.
	DropReason(reason uint32) string
	// ResetReason returns the name of an enum sk_rst_reason value without its prefix.
	ResetReason(reason uint32) string
	// Symbol returns the kernel function that contains addr, "" if unknown.
	Symbol(addr uint64) string
}

// Config says what a Tracker follows and how much of it it keeps. Zero values of the numbers and
// durations mean the defaults.
type Config struct {
	// IsTarget reports whether ap is the traced target or a port published to it. It decides which
	// end of a flow is the server where the packets do not tell. Nil means never.
	IsTarget func(ap netip.AddrPort, proto uint8) bool
	Namer    Namer // required

	// OnHop, if set, is called for every hop that is kept, as it is made. The arguments are valid
	// during the call only: the Path has no Packets yet and the Packet no Hops. The callee may
	// change the Hop.
	OnHop func(*path.Path, *path.Packet, *path.Hop)
	// OnStep, if set, is called for every observation of every packet, kept or not, in the order of
	// time. The argument is valid during the call only.
	OnStep func(*Step)
	// OnDone, if set, is called once for every flow when it is finished. The callee owns the Path.
	OnDone func(*path.Path)
	// Recycles says that the paths which OnDone takes come back to Tracker.Recycle.
	Recycles bool

	MaxFlows   int // flows followed at once; default 16384
	MaxPackets int // packets kept per flow; default 64
	MaxHops    int // hops kept per packet; default 128
	// MaxData is how many packets of each direction are kept besides those that open, close or
	// reset the flow and those that are dropped; default 8.
	MaxData int

	// Idle ends a TCP flow without events for so long; default 60 s. DatagramIdle is the same for
	// UDP and ICMP, which have no end of their own; default 10 s.
	Idle, DatagramIdle time.Duration
	// DropIdle ends a flow that was dropped or hit an ICMP error and has no established
	// connection; default 3 s, the first two gaps of TCP's retransmissions.
	DropIdle time.Duration
	// Grace is how long the last packets of a closed, reset or refused flow are waited for; default
	// 250 ms.
	Grace time.Duration
	// Linger is how long a finished flow stays known, so that its stragglers do not open a new
	// one; default 10 s.
	Linger time.Duration
	// Settle is after what time a datagram that left the INPUT hook and was not dropped counts as
	// taken by a socket; default 50 ms.
	Settle time.Duration
	// Reorder is how long events are held back to put those of several processors in order;
	// default 500 µs.
	Reorder time.Duration
}

// Stats counts what a Tracker took and what it did not keep.
type Stats struct {
	Events  uint64 // taken by Add
	Flows   uint64 // opened
	Packets uint64 // told apart, kept or not
	// FlowsEvicted counts flows finished early because MaxFlows was reached.
	FlowsEvicted uint64
	// PacketsOmitted and HopsOmitted count what was seen and not kept; a packet that is not kept
	// does not count its hops.
	PacketsOmitted, HopsOmitted uint64
	// Stragglers counts events of flows that were already finished.
	Stragglers uint64
	// Unmatched counts events that fit no flow.
	Unmatched uint64
	// Late counts events that came later than Reorder allows; they are used all the same.
	Late uint64
}

func (c Config) withDefaults() Config {
	setDefault(&c.MaxFlows, 16384)
	setDefault(&c.MaxPackets, 64)
	setDefault(&c.MaxHops, 128)
	setDefault(&c.MaxData, 8)
	setDefault(&c.Idle, 60*time.Second)
	setDefault(&c.DatagramIdle, 10*time.Second)
	setDefault(&c.DropIdle, 3*time.Second)
	setDefault(&c.Grace, 250*time.Millisecond)
	setDefault(&c.Linger, 10*time.Second)
	setDefault(&c.Settle, 50*time.Millisecond)
	setDefault(&c.Reorder, 500*time.Microsecond)
	if c.IsTarget == nil {
		c.IsTarget = func(netip.AddrPort, uint8) bool { return false }
	}
	return c
}

func setDefault[T int | time.Duration](p *T, def T) {
	if *p <= 0 {
		*p = def
	}
}
