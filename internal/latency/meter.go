package latency

import (
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Config says what a Meter measures.
type Config struct {
	// Targets is how many targets are told apart, at least one.
	Targets int
	// Target tells the target of a flow, less than 0 for none. Nil means that all are the first's.
	Target func(*path.Path) int
	// DeviceKind is asked for the devices of each new way; nil if nothing is known.
	DeviceKind DeviceKind
	// Own is the mean cost of an observation, ns.
	Own int64
	// Probed: the packets are those of own probes, whose round trips are told by Probed.
	Probed bool
	// DeliveryTime: packets carry the time of their departure up to the receiver's stack (Linux 5.18), and are
	// stamped for SO_TIMESTAMPING there.
	DeliveryTime bool
	// Wait is after what time without a step a packet has ended; 0 means 1 s.
	Wait time.Duration
	// MaxPackets bounds the packets on their way; 0 means 16384.
	MaxPackets int
}

// DeviceKind names the kind of a device, such as "veth"; ok is false if it is not known yet. It must not
// wait: packets are left out until it knows.
type DeviceKind func(netns, ifindex uint32, name string) (kind string, ok bool)

// Meter measures. Its methods are safe for concurrent use; steps come in the order of time.
type Meter struct {
	cfg Config

	mu      sync.Mutex
	now     uint64
	places  []place
	placeID map[place]int32
	packets map[packetKey]*packet
	queue   packetQueue // all packets, oldest first
	unused  *packet
	flows   map[int]*flowState
	targets []*target
}

// target is what was measured of one target.
type target struct {
	ways   [2]*waySet
	trips  map[[2]int]*trip // by the ways of request and reply
	pairs  []pair           // of own probes, not told by Probed yet
	probes []Probed         // told, not seen yet

	discarded map[string]uint64
	repeats   [2]uint64
	delayed   *Histogram
	// stamped compares with the kernel's own timestamps (SO_TIMESTAMPING).
	stamped check
}

// flowState is what is known of one flow.
type flowState struct {
	number  int
	target  *target
	proto   path.Proto
	pending int        // packets on their way
	asked   []question // requests without an answer, oldest first
	unacked [2][]arrival
	lastAck [2]int     // newest packet without data
	usual   [2][]int32 // the places of the last packet
}

// question is a request that arrived.
type question struct {
	end  uint32
	sums sums
	way  *way

	first, last uint64
	places      int
}

// arrival is data that arrived and was not acknowledged yet.
type arrival struct {
	end uint32
	at  uint64
}

// NewMeter returns a Meter that has measured nothing.
func NewMeter(cfg Config) *Meter {
	if cfg.Wait <= 0 {
		cfg.Wait = time.Second
	}
	if cfg.MaxPackets <= 0 {
		cfg.MaxPackets = 16384
	}
	m := &Meter{cfg: cfg, placeID: map[place]int32{}, packets: map[packetKey]*packet{}, flows: map[int]*flowState{}}
	for range max(cfg.Targets, 1) {
		m.targets = append(m.targets, newTarget())
	}
	return m
}

func newTarget() *target {
	return &target{ways: [2]*waySet{newWaySet(), newWaySet()}, trips: map[[2]int]*trip{}, discarded: map[string]uint64{}}
}

// Reset forgets what was measured, and the packets that are on their way.
func (m *Meter) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p := m.queue.first; p != nil; p = p.next {
		if !p.done {
			p.done = true
			p.flow.pending--
		}
	}
	for _, f := range m.flows {
		f.asked, f.unacked = nil, [2][]arrival{}
	}
	for _, t := range m.targets {
		*t = *newTarget()
	}
}

// Step takes one observation.
func (m *Meter) Step(s *flow.Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = max(m.now, s.Time)
	m.expire()
	if s.ICMPError || s.Stage == path.StageRoute || s.Stage == path.StageSocket {
		return
	}
	f := m.flow(s.Path)
	if f == nil {
		return
	}
	d := directionOf(s.Direction)
	if f.proto == path.TCP && (s.Payload == 0 || s.TCPFlags&(wire.SYN|wire.RST) != 0) {
		f.noteAck(d, s)
		return
	}
	p := m.packets[packetKey{f.number, s.Packet}]
	if p == nil {
		p = m.newPacket(f, d, s)
	}
	if p.done {
		return
	}
	p.add(m, s)
	if p.ended {
		m.take(p)
	}
}

// flow returns the state of a flow, nil if it is to no target.
func (m *Meter) flow(p *path.Path) *flowState {
	if f, ok := m.flows[p.Flow]; ok {
		return f
	}
	index := 0
	if m.cfg.Target != nil {
		index = m.cfg.Target(p)
	}
	if index < 0 || index >= len(m.targets) {
		return nil
	}
	f := &flowState{number: p.Flow, target: m.targets[index], proto: p.Proto}
	m.flows[p.Flow] = f
	return f
}

// Done forgets a flow that ended. Its packets that are still on their way are taken first.
func (m *Meter) Done(p *path.Path) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.flows[p.Flow]
	if f == nil {
		return
	}
	for q := m.queue.first; q != nil && f.pending > 0; q = q.next {
		if q.flow == f && !q.done {
			m.take(q)
		}
	}
	f.target.discard(DiscardUnanswered, len(f.asked))
	delete(m.flows, p.Flow)
}

// Advance tells the time, CLOCK_MONOTONIC ns, so that packets end without further steps.
func (m *Meter) Advance(now uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = max(m.now, now)
	m.expire()
}

// Flush takes all packets that are on their way.
func (m *Meter) Flush() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.queue.first != nil {
		m.release()
	}
	for _, f := range m.flows {
		f.target.discard(DiscardUnanswered, len(f.asked))
	}
	clear(m.flows)
	for _, t := range m.targets {
		m.join(t)
		t.discard(DiscardUnseen, len(t.probes))
		t.probes, t.pairs = nil, nil
	}
}

// place interns a place.
func (m *Meter) place(p place) int32 {
	if id, ok := m.placeID[p]; ok {
		return id
	}
	id := int32(len(m.places))
	m.places = append(m.places, p)
	m.placeID[p] = id
	return id
}

func (m *Meter) newPacket(f *flowState, d direction, s *flow.Step) *packet {
	for m.queue.n >= m.cfg.MaxPackets {
		if p := m.queue.first; !p.done {
			p.done = true
			p.flow.pending--
			p.flow.target.discard(DiscardTooMany, 1)
		}
		m.release()
	}
	p := m.unused
	if p == nil {
		p = &packet{}
	} else {
		m.unused = p.next
		*p = packet{places: p.places[:0], times: p.times[:0]}
	}
	p.key, p.flow, p.dir = packetKey{f.number, s.Packet}, f, d
	p.seq, p.ack, p.length = s.Seq, s.Ack, uint32(s.Payload)
	f.pending++
	m.packets[p.key] = p
	m.queue.push(p)
	return p
}

// expire ends packets that were not seen for long.
func (m *Meter) expire() {
	for p := m.queue.first; p != nil && m.now > p.last+uint64(m.cfg.Wait); p = m.queue.first {
		m.release()
	}
}

// release takes the oldest packet, if it was not, and forgets it.
func (m *Meter) release() {
	p := m.queue.pop()
	if !p.done {
		m.take(p)
	}
	delete(m.packets, p.key)
	p.next, m.unused = m.unused, p
}

func (t *target) discard(why string, n int) {
	if n > 0 {
		t.discarded[why] += uint64(n)
	}
}
