package flow

import "github.com/pathtrace/pathtrace/internal/wire"

// maxHeld bounds the events held back, whatever the clock says.
const maxHeld = 8192

// reorder puts events of several processors in the order of time. Each processor's events come in
// order and the ring buffer mixes them within microseconds, so nearly every event belongs at or
// close to the end.
type reorder struct {
	window   uint64 // ns
	latest   uint64 // greatest time seen
	released uint64 // time of the event given out last

	events []wire.Event // storage
	unused []int32      // free slots of events
	order  []int32      // slots in order of time, from first on
	first  int
	out    int32 // slot given out last plus one, reusable at the next call
}

// push copies e to its place.
func (r *reorder) push(e *wire.Event) {
	r.recycle()
	var slot int32
	if n := len(r.unused); n > 0 {
		slot = r.unused[n-1]
		r.unused = r.unused[:n-1]
	} else {
		slot = int32(len(r.events))
		r.events = append(r.events, wire.Event{})
	}
	r.events[slot] = *e
	r.latest = max(r.latest, e.Time)
	r.compact()
	r.order = append(r.order, slot)
	for i := len(r.order) - 1; i > r.first && r.events[r.order[i-1]].Time > e.Time; i-- {
		r.order[i-1], r.order[i] = r.order[i], r.order[i-1]
	}
}

// compact moves the order to the front of its slice when the space before it is worth it.
func (r *reorder) compact() {
	if len(r.order) == cap(r.order) && r.first > len(r.order)/2 {
		n := copy(r.order, r.order[r.first:])
		r.order, r.first = r.order[:n], 0
	}
}

// pop returns the next event whose time has come, or nil. It is valid until the next call.
func (r *reorder) pop() *wire.Event {
	r.recycle()
	held := len(r.order) - r.first
	if held == 0 {
		return nil
	}
	if e := &r.events[r.order[r.first]]; held <= maxHeld && r.latest-e.Time < r.window {
		return nil
	}
	return r.take()
}

// drain returns the next event, or nil if there is none. It is valid until the next call.
func (r *reorder) drain() *wire.Event {
	r.recycle()
	if len(r.order) == r.first {
		return nil
	}
	return r.take()
}

func (r *reorder) take() *wire.Event {
	slot := r.order[r.first]
	r.first++
	r.out = slot + 1
	e := &r.events[slot]
	r.released = max(r.released, e.Time)
	return e
}

func (r *reorder) recycle() {
	if r.out > 0 {
		r.unused = append(r.unused, r.out-1)
		r.out = 0
	}
	if r.first == len(r.order) {
		r.order, r.first = r.order[:0], 0
	}
}
