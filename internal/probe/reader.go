package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
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

	decoder wire.Decoder
	marks   *ebpf.Memory
	fence   atomic.Uint32
	limit   int  // Config.Snaplen
	cut     bool // Config.HeadersOnly
}

// Reader opens the ring buffer.
func (s *Set) Reader() (*Reader, error) {
	ring, err := ringbuf.NewReader(s.maps["events"])
	if err != nil {
		return nil, fmt.Errorf("open ring buffer: %w", err)
	}
	return &Reader{ring: ring, marks: s.marks, limit: s.snaplen, cut: s.cut}, nil
}

// Read fills e with the next event. It blocks until one comes, until the deadline given to
// SetDeadline (os.ErrDeadlineExceeded), or until Close (ErrClosed). Other errors mean a record that
// cannot be decoded.
func (r *Reader) Read(e *wire.Event) error {
	if err := r.ring.ReadInto(&r.record); err != nil {
		return err
	}
	if err := r.decoder.Decode(r.record.RawSample, e); err != nil {
		return err
	}
	if r.cut {
		e.TrimToHeaders()
	}
	e.Trim(r.limit)
	return nil
}

// SetDeadline bounds the wait of Read. Events wake a waiting Read only in bulk: the deadline is when it
// looks for single ones.
func (r *Reader) SetDeadline(t time.Time) { r.ring.SetDeadline(t) }

// Sleep lets the next Read wait until the deadline, or until the first event, which wakes it. It
// reports false, and only sets the deadline, if there is an event already.
func (r *Reader) Sleep(deadline time.Time) (bool, error) {
	r.ring.SetDeadline(deadline)
	if err := r.setSleeps(1); err != nil {
		return false, err
	}
	// An event from before the kernel saw the flag does not wake: it has to be seen here. The atomic
	// operation keeps the reading behind the writing.
	r.fence.Add(1)
	if r.ring.AvailableBytes() == 0 {
		return true, nil
	}
	return false, r.setSleeps(0)
}

// setSleeps writes reader_sleeps of bpf/include/maps.h.
func (r *Reader) setSleeps(flag uint32) error {
	_, err := r.marks.WriteAt(binary.NativeEndian.AppendUint32(nil, flag), sleepsOffset)
	if err != nil {
		return fmt.Errorf("tell the kernel that the reader sleeps: %w", err)
	}
	return nil
}

// IsTimeout reports whether err is that of a passed deadline, or of Flush.
func IsTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ringbuf.ErrFlushed)
}

// Flush makes a blocked Read return what is left, then an error that IsTimeout knows.
func (r *Reader) Flush() error { return r.ring.Flush() }

// Available returns the number of bytes waiting in the ring buffer.
func (r *Reader) Available() int { return r.ring.AvailableBytes() }

// Size returns the size of the ring buffer in bytes.
func (r *Reader) Size() int { return r.ring.BufferSize() }

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
