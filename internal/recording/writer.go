package recording

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// Kinds of chunks.
const (
	chunkHeader = 'H'
	chunkEvents = 'E'
	chunkRecord = 'R'
	chunkEnd    = 'Z'
)

const (
	// flushEvery is how long what was recorded waits at most before it is written.
	flushEvery = 50 * time.Millisecond
	// chunkSize is at what size a chunk of events is closed.
	chunkSize = 64 << 10
	// maxChunk bounds a chunk, for the reader's memory. Larger records are refused.
	maxChunk = 32 << 20
	// backlog bounds what waits for a slow disk or pipe, in bytes; then the recorder has to wait too, and
	// the kernel counts what it cannot put into its buffer.
	backlog = 32 << 20
	// window is how far back the compression looks, in bytes; readers need as much memory.
	window = 2 << 20
)

// magic is what the skippable frame at the beginning holds.
const magic = "pathtrace recording, format 1\n"

// skippable is the magic number of a skippable frame (RFC 8878, 3.1.2).
const skippable = 0x184D2A50

// Writer writes a recording as it happens. Its methods are safe for concurrent use. An error of writing
// ends the writing; Err and Close return it.
type Writer struct {
	out  io.Writer
	zstd *zstd.Encoder
	done chan struct{}

	mu      sync.Mutex
	room    sync.Cond // signalled when queue was taken
	events  *encoder
	names   []byte // chunks that go before the open chunk of events
	open    []byte // payload of the open chunk of events
	pending bool   // tick was not appended yet
	tick    uint64
	queue   []byte // closed chunks, to be written next
	written int64  // bytes given to out
	last    time.Time
	stopped bool
	err     error
	wake    chan struct{} // takes one: there is something to write
}

// NewWriter begins a recording and starts the goroutine that writes it: within 50 ms of an event, and
// at once when much waits. The caller closes out after Close.
func NewWriter(out io.Writer, h Header) (*Writer, error) {
	w := &Writer{out: out, done: make(chan struct{}), wake: make(chan struct{}, 1), events: newEncoder()}
	w.room.L = &w.mu
	frame := binary.LittleEndian.AppendUint32(nil, skippable)
	frame = binary.LittleEndian.AppendUint32(frame, uint32(len(magic)))
	if err := w.count(out.Write(append(frame, magic...))); err != nil {
		return nil, fmt.Errorf("write recording: %w", err)
	}
	var err error
	w.zstd, err = zstd.NewWriter(counter{w}, zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("write recording: %w", err)
	}
	h.Format, h.Fields = Format, fieldNames()
	text, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("write recording: %w", err)
	}
	w.queue = appendChunk(w.queue, chunkHeader, text)
	w.wakeUp()
	go w.run()
	return w, nil
}

// counter counts what is written.
type counter struct{ w *Writer }

// Write implements io.Writer.
func (c counter) Write(b []byte) (int, error) {
	n, err := c.w.out.Write(b)
	return n, c.w.count(n, err)
}

func (w *Writer) count(n int, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written += int64(n)
	return err
}

// appendChunk appends a chunk: its kind, the length of the payload, the payload, and the CRC-32C of kind
// and payload.
func appendChunk(b []byte, kind byte, payload []byte) []byte {
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(len(payload)))
	b = append(b, payload...)
	return binary.LittleEndian.AppendUint32(b, checksum(kind, payload))
}

func checksum(kind byte, payload []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli) // made once by the package
	return crc32.Update(crc32.Update(0, table, []byte{kind}), table, payload)
}

// Event records an event. It keeps nothing of e but what never changes.
func (w *Writer) Event(e *wire.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.appendTick()
	w.open = w.events.appendEvent(w.open, e)
	if len(w.open) >= chunkSize {
		w.seal()
	}
}

// Tick records that time passed for the tracker, in ns of CLOCK_MONOTONIC. Of several between two events
// or records the last is kept.
func (w *Writer) Tick(now uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tick, w.pending = now, true
}

func (w *Writer) appendTick() {
	if w.pending {
		w.open = w.events.appendTick(w.open, w.tick)
		w.pending = false
	}
}

// Record records a value of a type that readers know by name; blob, which may be nil, are bytes that
// belong to it.
func (w *Writer) Record(typ string, value any, blob []byte) error {
	payload, err := encodeRecord(typ, value, blob)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.appendTick()
	w.seal()
	w.queue = appendChunk(w.queue, chunkRecord, payload)
	w.wakeUpIfMuch()
	return nil
}

// Copy records what a reader has read.
func (w *Writer) Copy(r *Record) {
	if r.Type == TypeName {
		var n nameRecord
		if json.Unmarshal(r.JSON, &n) == nil {
			w.Name(n.Kind, n.Number, n.Name)
		}
		return
	}
	_ = w.Record(r.Type, json.RawMessage(r.JSON), r.Blob) // what was read can be written
}

// Name records what the kernel calls a number. Readers know it with the events recorded at the same time.
func (w *Writer) Name(kind NameKind, number uint64, name string) {
	payload, err := encodeRecord(TypeName, nameRecord{kind, number, name}, nil)
	if err != nil {
		return // a name is always encodable
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.names = appendChunk(w.names, chunkRecord, payload)
}

func encodeRecord(typ string, value any, blob []byte) ([]byte, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("record %s: %w", typ, err)
	}
	payload := make([]byte, 0, len(typ)+len(text)+len(blob)+16)
	payload = binary.AppendUvarint(payload, uint64(len(typ)))
	payload = append(payload, typ...)
	payload = binary.AppendUvarint(payload, uint64(len(text)))
	payload = append(append(payload, text...), blob...)
	if len(payload) > maxChunk {
		return nil, fmt.Errorf("record %s: %d bytes are more than the %d of a chunk", typ, len(payload), maxChunk)
	}
	return payload, nil
}

// seal closes the open chunk of events; mu is held. It waits while too much waits to be written.
func (w *Writer) seal() {
	w.queue = append(w.queue, w.names...)
	w.names = w.names[:0]
	if len(w.open) > 0 {
		w.queue = appendChunk(w.queue, chunkEvents, w.open)
		w.open = w.open[:0]
	}
	w.wakeUpIfMuch()
	for len(w.queue) > backlog && !w.stopped && w.err == nil {
		w.room.Wait()
	}
	if w.err != nil {
		w.queue = w.queue[:0] // nobody will write it
	}
}

func (w *Writer) wakeUpIfMuch() {
	if len(w.queue) >= 4*chunkSize {
		w.wakeUp()
	}
}

func (w *Writer) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run writes what was recorded, until Close.
func (w *Writer) run() {
	defer close(w.done)
	ticker := time.NewTicker(flushEvery)
	defer ticker.Stop()
	var spare []byte
	for {
		select {
		case <-ticker.C:
		case <-w.wake:
		}
		w.mu.Lock()
		w.appendTick()
		w.seal()
		batch, stopped, failed := w.queue, w.stopped, w.err
		w.queue = spare[:0]
		w.room.Broadcast()
		w.mu.Unlock()
		if err := w.write(batch); err != nil && failed == nil {
			w.fail(err)
		}
		if spare = batch; cap(spare) > 16*chunkSize {
			spare = nil
		}
		if stopped {
			return
		}
	}
}

func (w *Writer) write(batch []byte) error {
	if len(batch) == 0 || w.Err() != nil {
		return nil
	}
	if _, err := w.zstd.Write(batch); err != nil {
		return err
	}
	if err := w.zstd.Flush(); err != nil {
		return err
	}
	w.mu.Lock()
	w.last = time.Now()
	w.mu.Unlock()
	return nil
}

// fail ends the writing.
func (w *Writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = fmt.Errorf("write recording: %w", err)
	}
	w.queue = nil
	w.room.Broadcast()
}

// Err returns why writing ended, nil as long as it goes on.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Size returns how many bytes were written.
func (w *Writer) Size() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

// Written returns when something was written last; zero if nothing was.
func (w *Writer) Written() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// Close writes the end mark and everything that waits. It may be called more than once.
func (w *Writer) Close() error { return w.end(true) }

// Abandon is Close without the end mark: what was written is a recording that ends in the middle.
func (w *Writer) Abandon() error { return w.end(false) }

func (w *Writer) end(mark bool) error {
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		<-w.done
		return w.Err()
	}
	w.appendTick()
	w.seal()
	if mark {
		w.queue = appendChunk(w.queue, chunkEnd, nil)
	}
	w.stopped = true
	w.room.Broadcast()
	w.mu.Unlock()
	w.wakeUp()
	<-w.done
	if err := w.zstd.Close(); err != nil && w.Err() == nil {
		w.fail(err)
	}
	return w.Err()
}
