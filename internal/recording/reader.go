package recording

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// Kind says what Next read.
type Kind uint8

// The kinds.
const (
	KindNone   Kind = iota
	KindEvent       // Reader.Event
	KindTick        // Reader.Tick: time passed for the tracker
	KindRecord      // Reader.Record
)

// Record is a value of a type that its user knows. It is valid until the next call of Next.
type Record struct {
	Type string
	JSON []byte
	Blob []byte
}

// Decode decodes the value.
func (r *Record) Decode(value any) error {
	if err := json.Unmarshal(r.JSON, value); err != nil {
		return fmt.Errorf("read record %s: %w", r.Type, err)
	}
	return nil
}

// maxHeader bounds the header, in bytes.
const maxHeader = 64 << 10

// Reader reads a recording, also one that is still written: Next waits for more. Its memory is bounded
// whatever it reads. It is not safe for concurrent use.
type Reader struct {
	source *source
	zstd   *zstd.Decoder
	in     *bufio.Reader
	header Header
	names  *Names
	events *decoder

	chunk  []byte // payload, reused
	left   []byte // of a chunk of events
	chunks int
	record Record
	ended  error
}

// NewReader reads the header. Errors are sentences about the recording that end "..., it is ...", for
// use after its name: ErrNotRecording, *FormatError, ErrTruncated, *CorruptError, or that of reading.
func NewReader(in io.Reader) (*Reader, error) {
	from := &source{Reader: in}
	buffered := bufio.NewReaderSize(from, 64<<10)
	if err := readMagic(buffered); err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(4*window),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(8*window))
	if err != nil {
		return nil, fmt.Errorf("read recording: %w", err)
	}
	r := &Reader{source: from, zstd: z, in: bufio.NewReaderSize(z, 64<<10), names: newNames()}
	if err := r.readHeader(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func readMagic(in *bufio.Reader) error {
	frame := make([]byte, 8+len(magic))
	n, err := io.ReadFull(in, frame)
	want := binary.LittleEndian.AppendUint32(nil, skippable)
	if !bytes.HasPrefix(frame[:n], want) {
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("read recording: %w", err)
		}
		return ErrNotRecording
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	if err != nil {
		return fmt.Errorf("read recording: %w", err)
	}
	var format int
	if _, err := fmt.Sscanf(string(frame[8:]), "pathtrace recording, format %d\n", &format); err != nil {
		return ErrNotRecording
	}
	if format != Format {
		return &FormatError{Format: format}
	}
	return nil
}

func (r *Reader) readHeader() error {
	kind, payload, err := r.readChunk(maxHeader)
	if err != nil {
		return err
	}
	if kind != chunkHeader {
		return &CorruptError{What: "it has no header"}
	}
	if err := json.Unmarshal(payload, &r.header); err != nil {
		return &CorruptError{What: "its header cannot be read"}
	}
	if r.header.Format != Format {
		return &FormatError{r.header.Format, r.header.Version}
	}
	if r.events, err = newDecoder(r.header.Fields); err != nil {
		return &CorruptError{What: err.Error()}
	}
	return nil
}

// Header returns the header.
func (r *Reader) Header() *Header { return &r.header }

// Names returns the names as they are known after what was read so far. It changes with Next.
func (r *Reader) Names() *Names { return r.names }

// Event returns the event that Next read. It is valid until the next call of Next and not to be
// changed.
func (r *Reader) Event() *wire.Event { return &r.events.event }

// Tick returns the moment that Next read, in ns of CLOCK_MONOTONIC.
func (r *Reader) Tick() uint64 { return r.events.tick }

// Record returns the record that Next read.
func (r *Reader) Record() *Record { return &r.record }

// Next reads on. After the end mark it returns io.EOF, without one ErrTruncated, and of what is damaged
// a *CorruptError; the same again if it is called again.
func (r *Reader) Next() (Kind, error) {
	for r.ended == nil {
		if len(r.left) > 0 {
			return r.nextEvent()
		}
		kind, payload, err := r.readChunk(maxChunk)
		switch {
		case err != nil:
			r.ended = err
		case kind == chunkEvents:
			r.left = payload
		case kind == chunkRecord:
			if err := r.takeRecord(payload); err != nil {
				r.ended = &CorruptError{r.chunks, err.Error()}
				break
			}
			return KindRecord, nil
		case kind == chunkEnd:
			r.ended = io.EOF
		}
		// Chunks of other kinds are of a newer pathtrace, which thinks that they may be left out.
	}
	return KindNone, r.ended
}

func (r *Reader) nextEvent() (Kind, error) {
	rest, tick, err := r.events.next(r.left)
	if err != nil {
		r.left, r.ended = nil, &CorruptError{r.chunks, err.Error()}
		return KindNone, r.ended
	}
	if r.left = rest; tick {
		return KindTick, nil
	}
	return KindEvent, nil
}

func (r *Reader) takeRecord(payload []byte) error {
	c := cursor{b: payload}
	typ, text := c.lengthAndBytes(), c.lengthAndBytes()
	if c.err != nil {
		return errors.New("a record is cut off")
	}
	r.record = Record{Type: string(typ), JSON: text, Blob: c.b}
	return r.names.add(&r.record)
}

// readChunk reads a chunk of up to limit bytes; the payload is valid until the next one.
func (r *Reader) readChunk(limit uint64) (kind byte, payload []byte, err error) {
	kind, err = r.in.ReadByte()
	if err != nil {
		return 0, nil, r.failure(err)
	}
	size, err := binary.ReadUvarint(r.in)
	if err != nil {
		return 0, nil, r.failure(err)
	}
	if size > limit {
		return 0, nil, &CorruptError{r.chunks, fmt.Sprintf("a chunk says that it has %d bytes, of at most %d", size, limit)}
	}
	// The size is only believed as far as there are bytes.
	buf := bytes.NewBuffer(r.chunk[:0])
	if _, err := io.CopyN(buf, r.in, int64(size)); err != nil {
		return 0, nil, r.failure(err)
	}
	r.chunk = buf.Bytes()
	var sum [4]byte
	if _, err := io.ReadFull(r.in, sum[:]); err != nil {
		return 0, nil, r.failure(err)
	}
	if binary.LittleEndian.Uint32(sum[:]) != checksum(kind, r.chunk) {
		return 0, nil, &CorruptError{r.chunks, "a checksum is wrong"}
	}
	r.chunks++
	return kind, r.chunk, nil
}

// failure says what an error of reading or decompressing means.
func (r *Reader) failure(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrTruncated
	case r.source.err != nil:
		return fmt.Errorf("read recording: %w", r.source.err)
	}
	return &CorruptError{r.chunks, "it cannot be decompressed"}
}

// source remembers an error of reading, to tell it from what the decompressor refuses.
type source struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Close releases the decompressor; what it read from is the caller's to close.
func (r *Reader) Close() { r.zstd.Close() }
