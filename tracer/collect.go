package tracer

import (
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/wire"
)

const (
	// tick is how often time passes for the tracker when no events come.
	tick = 20 * time.Millisecond
	// pause is how long the collector waits when nothing is followed: then the first event wakes it.
	// Each of its own wake-ups keeps Go's scheduler busy for a moment, which costs the traffic of others.
	pause = time.Second
	// shortRest is how long the collector lets events gather once it has taken all: an event that finds it
	// waiting has to wake it, which costs the traffic several times what the event costs, and so does each
	// wake-up from resting: at 80,000 events/s a rest of 1 ms took 27 % of a processor, one of 4 ms 16 %.
	// While events keep coming it rests up to longRest, as long as the kernel's buffer holds what comes
	// meanwhile several times over.
	shortRest, longRest = 4 * time.Millisecond, 16 * time.Millisecond
	// steady is how many bytes have to wait after a rest for the next one to be longer: some 32 events.
	steady = 8 << 10
	// batch is how many events are taken before the time is told again.
	batch = 4096
)

// collector takes events out of the kernel and feeds the tracker, in a goroutine of its own.
type collector struct {
	reader  *probe.Reader
	tracker *flow.Tracker
	// onNetNS is told each namespace the first time a packet is seen in it.
	onNetNS func(uint32)
	// onEvent, if set, is given every event that counts.
	onEvent func(*wire.Event)
	// rec records what the tracker is given; nil records nothing.
	rec *recorder
	// confines, if not nil, tells the only namespaces whose events count.
	confines func(netns uint32) bool

	// asked takes what the tracker is asked while events are collected.
	asked chan func(*flow.Tracker)

	rest   time.Duration // the next one
	stop   atomic.Bool
	events atomic.Uint64
	done   chan struct{}
	seen   map[uint32]bool
	hooks  [2][256]uint64 // by family, IPv4 first, and wire.Hook
	broken uint64         // records that could not be decoded
	err    error          // why reading ended early
}

func newCollector(reader *probe.Reader, tracker *flow.Tracker, onNetNS func(uint32)) *collector {
	return &collector{
		reader: reader, tracker: tracker, onNetNS: onNetNS,
		rest: shortRest, done: make(chan struct{}), seen: map[uint32]bool{}, asked: make(chan func(*flow.Tracker), 1),
	}
}

// run reads until finish is called, then takes what is left in the buffer.
func (c *collector) run() {
	defer close(c.done)
	var e wire.Event
	for !c.stop.Load() {
		c.setDeadline()
		before := c.events.Load()
		if !c.take(&e, batch) {
			return
		}
		// With events left to read, the time of the clock is not yet that of the events: flows whose
		// events wait would seem idle.
		if now := monotonic(); c.reader.Available() == 0 {
			c.rec.tick(now)
			c.tracker.Expire(now)
		}
		c.answer()
		if c.events.Load() != before && c.reader.Available() == 0 {
			time.Sleep(c.rest)
			c.rest = nextRest(c.rest, c.reader.Available(), c.reader.Size())
		}
	}
	c.reader.SetDeadline(time.Now())
	for c.take(&e, batch) && c.reader.Available() > 0 {
		continue
	}
	c.rec.mark(typeFlush)
	c.tracker.Flush()
}

// nextRest returns how long to rest after a rest that left so many bytes of a buffer of that size waiting.
func nextRest(last time.Duration, waiting, size int) time.Duration {
	switch {
	case waiting < steady, waiting > size/8:
		return shortRest
	case waiting > size/16:
		return last
	}
	return min(2*last, longRest)
}

// setDeadline bounds the next wait for an event.
func (c *collector) setDeadline() {
	if !c.tracker.Idle() {
		c.reader.SetDeadline(time.Now().Add(tick))
		return
	}
	if _, err := c.reader.Sleep(time.Now().Add(pause)); err != nil && c.err == nil {
		c.err = err
		c.reader.SetDeadline(time.Now().Add(tick))
	}
}

// answer answers a question about the flows as they are now.
func (c *collector) answer() {
	select {
	case ask := <-c.asked:
		ask(c.tracker)
	default:
	}
}

// take reads up to n events, until all are taken, or until the deadline. It reports whether reading
// can go on.
func (c *collector) take(e *wire.Event, n int) bool {
	for range n {
		err := c.reader.Read(e)
		switch {
		case err == nil:
			c.add(e)
			if c.reader.Available() == 0 {
				return true
			}
		case probe.IsTimeout(err):
			return true
		case errors.Is(err, probe.ErrClosed):
			c.err = err
			return false
		default:
			c.broken++
		}
	}
	return true
}

func (c *collector) add(e *wire.Event) {
	if c.confines != nil && e.NetNS != 0 && !c.confines(e.NetNS) {
		return
	}
	if c.onEvent != nil {
		c.onEvent(e)
	}
	c.rec.event(e)
	c.events.Add(1)
	family := 0
	if e.Tuple.Dst.Addr().Is6() {
		family = 1
	}
	c.hooks[family][e.Hook]++
	// A route look-up alone may be of anybody with the same addresses.
	if e.NetNS != 0 && e.Skb != 0 && !c.seen[e.NetNS] {
		c.seen[e.NetNS] = true
		c.onNetNS(e.NetNS)
	}
	c.tracker.Add(e)
}

// points counts the events by their place in the kernel, as `pathtrace hooks` lists it.
func (c *collector) points() map[string]uint64 {
	points := map[string]uint64{}
	for family, hooks := range c.hooks {
		for hook, n := range hooks {
			if n > 0 {
				points[wire.Hook(hook).Point(family == 1)] += n
			}
		}
	}
	return points
}

// finish ends run after everything that is in the buffer was taken, and waits for it.
func (c *collector) finish() {
	c.stop.Store(true)
	_ = c.reader.Flush() // fails if the reader is closed: then nothing waits
	<-c.done
}

// monotonic is CLOCK_MONOTONIC in ns, the clock of the events.
func monotonic() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return uint64(ts.Nano())
}
