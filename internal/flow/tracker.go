package flow

import (
	"time"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Tracker follows flows. It is not safe for concurrent use.
type Tracker struct {
	cfg   Config
	stats Stats
	queue reorder
	now   uint64 // time of the latest event or Expire
	swept uint64 // when timers were last looked at

	tuples    map[wire.Tuple]tupleRef // by canonical tuple
	skbs      map[uint64]skbRef
	lists     [numStates]list[flow]
	lightList list[packet] // packets that are not kept, oldest first
	free      *packet      // memory of packets that are over, linked by older
	nFree     int
	spare     spare // what was handed out and came back

	cpus    []processor
	settle  fifo
	names   names
	hooked  map[uint32]struct{} // namespaces whose netfilter hooks report
	flows   int                 // number of the latest flow
	scratch struct {            // arguments of OnHop and OnStep
		packet path.Packet
		hop    path.Hop
		step   Step
	}
}

// processor is what one CPU was last seen doing.
type processor struct {
	packet *packet
	branch uint8
	gen    uint32 // packet.gen, to notice that it was recycled
	time   uint64
	miss   *wire.Event // a failed route look-up that the next table may still answer
	route  *wire.Event // a look-up that precedes its packet
}

// Limits that follow from the others or guard against absurd input.
const (
	maxCPUs       = 8192
	maxLight      = 16384            // packets that are recognised but not kept
	maxFree       = 4096             // packets whose memory is kept for others
	maxHooked     = 65536            // namespaces
	sameMoment    = time.Millisecond // events of one packet's handling on one processor
	sweepInterval = 20 * time.Millisecond
)

// New returns a Tracker without flows.
func New(cfg Config) *Tracker {
	t := &Tracker{
		cfg:    cfg.withDefaults(),
		tuples: make(map[wire.Tuple]tupleRef),
		skbs:   make(map[uint64]skbRef),
		hooked: make(map[uint32]struct{}),
	}
	t.names.init(cfg.Namer)
	t.queue.window = uint64(t.cfg.Reorder)
	t.spare.expected = t.cfg.Recycles
	return t
}

// Add takes one event, in the order of the ring buffer. The event is copied. It is used when
// Config.Reorder has passed in the time of later events or of Expire.
func (t *Tracker) Add(e *wire.Event) {
	t.stats.Events++
	if e.Time < t.queue.released {
		t.stats.Late++
	}
	t.queue.push(e)
	for next := t.queue.pop(); next != nil; next = t.queue.pop() {
		t.handle(next)
	}
}

// Expire tells the time (CLOCK_MONOTONIC, ns): it uses the events held back for longer than
// Config.Reorder and finishes the flows whose time is up. It should be called a few times per
// second; events tell the time as well.
func (t *Tracker) Expire(now uint64) {
	t.queue.latest = max(t.queue.latest, now)
	for next := t.queue.pop(); next != nil; next = t.queue.pop() {
		t.handle(next)
	}
	// Events that are still held back are not older than the window.
	if now > t.queue.window {
		t.now = max(t.now, now-t.queue.window)
	}
	t.commitMisses()
	t.sweep()
}

// Flush uses all events held back and finishes all flows, in the order in which they began.
func (t *Tracker) Flush() {
	for next := t.queue.drain(); next != nil; next = t.queue.drain() {
		t.handle(next)
	}
	t.commitMisses()
	t.finishAll()
}

// Stats returns the counts so far.
func (t *Tracker) Stats() Stats { return t.stats }

// Idle reports whether the tracker waits for nothing: no flow is open and no event is held back, so
// that time may pass without Expire.
func (t *Tracker) Idle() bool {
	for i := range t.lists {
		if t.lists[i].n > 0 {
			return false
		}
	}
	return len(t.queue.order) == t.queue.first && len(t.settle.items) == t.settle.first
}

// handle uses one event, in the order of time.
func (t *Tracker) handle(e *wire.Event) {
	t.now = max(t.now, e.Time)
	if t.now-t.swept > uint64(sweepInterval) {
		t.sweep()
	}
	cpu := t.cpu(e.CPU)
	if cpu.miss != nil {
		t.settleMiss(cpu, e)
	}
	switch {
	case e.Hook == wire.TCPState:
		t.tcpState(cpu, e)
	case e.Hook == wire.TCPRetransmit:
		t.tcpRetransmit(e)
	case e.Hook == wire.RouteLookup:
		t.routeLookup(cpu, e)
	case e.Skb == 0:
		t.withoutPacket(cpu, e)
	default:
		t.observe(cpu, e)
	}
}

// cpu returns the state of a processor.
func (t *Tracker) cpu(n uint16) *processor {
	if n >= maxCPUs {
		n = maxCPUs - 1
	}
	for int(n) >= len(t.cpus) {
		t.cpus = append(t.cpus, processor{})
	}
	return &t.cpus[n]
}

// current returns the packet that the processor handled just before now.
func (c *processor) current(now uint64) (*packet, *branch) {
	p := c.packet
	if p == nil || p.gen != c.gen || p.flow.state == lingering || now > c.time+uint64(sameMoment) {
		return nil, nil
	}
	return p, &p.branches[c.branch]
}
