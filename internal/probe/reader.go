package probe

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// ErrClosed is returned by Read after Close.
var ErrClosed = ringbuf.ErrClosed

// Reader takes events out of the ring buffer. Read is not safe for concurrent use, Close is.
type Reader struct {
	ring   *ringbuf.Reader
	record ringbuf.Record
}

// Reader opens the ring buffer.
func (s *Set) Reader() (*Reader, error) {
	ring, err := ringbuf.NewReader(s.maps["events"])
	if err != nil {
		return nil, fmt.Errorf("open ring buffer: %w", err)
	}
	return &Reader{ring: ring}, nil
}

// Read fills e with the next event. It blocks until one comes, until the deadline given to
// SetDeadline (os.ErrDeadlineExceeded), or until Close (ErrClosed). Other errors mean a record that
// cannot be decoded.
func (r *Reader) Read(e *wire.Event) error {
	if err := r.ring.ReadInto(&r.record); err != nil {
		return err
	}
	return wire.Decode(r.record.RawSample, e)
}

// SetDeadline bounds the wait of Read.
func (r *Reader) SetDeadline(t time.Time) { r.ring.SetDeadline(t) }

// IsTimeout reports whether err is that of a passed deadline.
func IsTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// Flush makes a blocked Read return what is left, then ErrFlushed.
func (r *Reader) Flush() error { return r.ring.Flush() }

// Available returns the number of bytes waiting in the ring buffer.
func (r *Reader) Available() int { return r.ring.AvailableBytes() }

// Close ends a blocked Read.
func (r *Reader) Close() error { return r.ring.Close() }

// lostSlots is enum lost_slot of bpf/include/event.h.
const lostSlots = 15

// Lost returns what was lost so far, per hook name or table; entries without loss are absent.
func (s *Set) Lost() (map[string]uint64, error) {
	out := map[string]uint64{}
	for slot := uint32(0); slot < lostSlots; slot++ {
		var perCPU []uint64
		if err := s.maps["lost"].Lookup(slot, &perCPU); err != nil {
			return nil, fmt.Errorf("read loss counters: %w", err)
		}
		var sum uint64
		for _, n := range perCPU {
			sum += n
		}
		if sum > 0 {
			out[slotName(slot)] += sum
		}
	}
	return out, s.missed(out)
}

// missed adds the runs the kernel skipped because the same program was already running.
func (s *Set) missed(out map[string]uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, p := range s.programs {
		stats, err := p.Stats()
		if errors.Is(err, ebpf.ErrNotSupported) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read statistics of %s: %w", name, err)
		}
		if stats.RecursionMisses > 0 {
			out[name+" (recursion)"] = stats.RecursionMisses
		}
	}
	return nil
}

func slotName(slot uint32) string {
	if slot == lostSlots-1 {
		return "flow table"
	}
	return wire.Hook(slot).Point(false)
}
