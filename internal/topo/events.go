package topo

import "sync"

// maxWaiting bounds the changes that consumers have not taken yet.
const maxWaiting = 1 << 16

// dispatcher hands changes to the consumers from one goroutine.
type dispatcher struct {
	mu      sync.Mutex
	ready   *sync.Cond
	waiting []Change
	fns     map[int]func(Change)
	nextID  int
	closed  bool
}

func newDispatcher() *dispatcher {
	d := &dispatcher{fns: map[int]func(Change){}}
	d.ready = sync.NewCond(&d.mu)
	go d.loop()
	return d
}

func (d *dispatcher) send(c Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.fns) == 0 || d.closed {
		return
	}
	if len(d.waiting) >= maxWaiting {
		d.waiting = d.waiting[1:]
	}
	d.waiting = append(d.waiting, c)
	d.ready.Signal()
}

func (d *dispatcher) add(fn func(Change)) (cancel func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	id := d.nextID
	d.nextID++
	d.fns[id] = fn
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.fns, id)
	}
}

func (d *dispatcher) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.ready.Signal()
}

func (d *dispatcher) loop() {
	for {
		d.mu.Lock()
		for len(d.waiting) == 0 && !d.closed {
			d.ready.Wait()
		}
		if d.closed {
			d.mu.Unlock()
			return
		}
		batch := d.waiting
		d.waiting = nil
		fns := make([]func(Change), 0, len(d.fns))
		for id := range d.nextID {
			if fn := d.fns[id]; fn != nil {
				fns = append(fns, fn)
			}
		}
		d.mu.Unlock()
		for _, c := range batch {
			for _, fn := range fns {
				fn(c)
			}
		}
	}
}
