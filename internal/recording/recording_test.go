package recording

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/wire"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// randomEvents makes events that look like those of some connections.
func randomEvents(n int) []wire.Event {
	r := rand.New(rand.NewPCG(1, 2))
	addrs := []netip.Addr{
		netip.MustParseAddr("172.18.0.2"), netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::2"), {},
	}
	port := func() netip.AddrPort {
		return netip.AddrPortFrom(addrs[r.IntN(len(addrs))], uint16(r.IntN(1<<16)))
	}
	tuple := func() wire.Tuple { return wire.Tuple{Src: port(), Dst: port(), Proto: uint8(r.IntN(256))} }
	tuples := []wire.Tuple{tuple(), tuple(), tuple(), tuple()}
	pick := func() wire.Tuple { return tuples[r.IntN(len(tuples))] }
	devices := []string{"", "eth0", "veth1234567", "docker0"}
	var list []wire.Event
	for i := range n {
		if i%50 == 0 {
			tuples[r.IntN(len(tuples))] = tuple()
		}
		list = append(list, wire.Event{
			Time: uint64(1e12 + i*1000), Skb: 0xffff888000000000 + uint64(r.IntN(8))<<8, Head: r.Uint64(),
			Location: uint64(r.IntN(4)) << 40, Sock: uint64(r.IntN(2)), CT: uint64(r.IntN(3)), CTOrig: pick(),
			CTReply: pick(), CTStatus: r.Uint32(), CTInfo: uint8(r.IntN(8)), Tuple: pick(),
			OuterSrc: port(), OuterDst: port(), VNI: uint32(r.IntN(2)), NetNS: 4026531840 + uint32(r.IntN(4)),
			Ifindex: uint32(r.IntN(9)), InIfindex: uint32(r.IntN(9)), OutIfindex: uint32(r.IntN(9)),
			Dev: devices[r.IntN(4)], Length: uint32(r.IntN(1500)), Seq: r.Uint32(), Ack: r.Uint32(),
			IPID: uint16(r.IntN(1 << 16)), Payload: uint16(r.IntN(1400)), TCPFlags: uint8(r.IntN(256)),
			TTL: uint8(r.IntN(256)), ICMPType: uint8(r.IntN(3)), ICMPCode: uint8(r.IntN(3)), MTU: uint32(r.IntN(3)),
			Reason: uint32(r.IntN(99)), Mark: uint32(r.IntN(2)), Err: int32(r.IntN(3)) - 113,
			Hook: wire.Hook(1 + r.IntN(13)), NFHook: uint8(r.IntN(5)), OldState: uint8(r.IntN(12)),
			NewState: uint8(r.IntN(12)), CPU: uint16(r.IntN(4)), PktType: uint8(r.IntN(5)), Flags: uint32(r.IntN(1 << 10)),
			Gateway: addrs[r.IntN(4)], Table: uint32(r.IntN(256)), Capture: randomCapture(r),
		})
	}
	return list
}

// randomCapture is the bytes of a packet, or nothing.
func randomCapture(r *rand.Rand) *wire.Capture {
	n := r.IntN(100)
	if n < 50 {
		return nil
	}
	return &wire.Capture{Bytes: make([]byte, n), Length: uint32(n + r.IntN(1<<17)), Link: uint16(r.IntN(2) * 14)}
}

// sample is a recording of some events with ticks, names and a record, and its events.
func sample(t testing.TB, n int) ([]byte, []wire.Event) {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, NewHeader("test"))
	must(t, err)
	list := randomEvents(n)
	for i := range list {
		w.Event(&list[i])
		if i == n/2 {
			w.Tick(7)
			w.Tick(list[i].Time)
			w.Name(NameDrop, 5, "NO_SOCKET")
			must(t, w.Record(TypeDevice, Device{NetNS: 1, Ifindex: 2, Name: "eth0", Network: "app"}, nil))
			must(t, w.Record("thing", map[string]int{"x": 1}, []byte("blob")))
		}
	}
	must(t, w.Close())
	return out.Bytes(), list
}

func TestRoundTrip(t *testing.T) {
	raw, want := sample(t, 5000)
	r, err := NewReader(bytes.NewReader(raw))
	must(t, err)
	defer r.Close()
	if h := r.Header(); h.Version != "test" || h.Run == "" || h.BootID == "" || h.Kernel == "" || h.MonotonicNS == 0 {
		t.Errorf("header %+v", h)
	}
	var ticks []uint64
	things, n := 0, 0
	for {
		kind, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		switch kind {
		case KindEvent:
			if !reflect.DeepEqual(*r.Event(), want[n]) {
				t.Fatalf("event %d: got\n%+v\nwant\n%+v", n, *r.Event(), want[n])
			}
			n++
		case KindTick:
			ticks = append(ticks, r.Tick())
		case KindRecord:
			if rec := r.Record(); rec.Type == "thing" {
				things++
				if string(rec.JSON) != `{"x":1}` || string(rec.Blob) != "blob" || n != 2501 {
					t.Errorf("record %s %s after %d events", rec.JSON, rec.Blob, n)
				}
			}
		}
	}
	if n != len(want) || things != 1 || len(ticks) != 1 || ticks[0] != want[2500].Time {
		t.Errorf("%d events, %d records, ticks %v", n, things, ticks)
	}
	if d, _ := r.Names().Device(1, 2); d.Network != "app" || r.Names().DropReason(5) != "NO_SOCKET" {
		t.Errorf("names: %+v, %q", d, r.Names().DropReason(5))
	}
}

// count reads everything and returns the number of events and why it ended.
func count(raw []byte) (n int, err error) {
	r, err := NewReader(bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for {
		kind, err := r.Next()
		if err != nil {
			return n, err
		}
		if kind == KindEvent {
			n++
		}
	}
}

// TestTruncated: whatever is cut off, what is left is read, and that something is missing is said.
func TestTruncated(t *testing.T) {
	raw, want := sample(t, 20)
	most := 0
	for size := range len(raw) {
		n, err := count(raw[:size])
		switch {
		case size < 4 && errors.Is(err, ErrNotRecording), size >= 4 && errors.Is(err, ErrTruncated):
		case errors.Is(err, io.EOF) && n == len(want): // behind the end mark
		default:
			t.Fatalf("%d of %d bytes: %v", size, len(raw), err)
		}
		most = max(most, n)
	}
	if most != len(want) {
		t.Errorf("at most %d events were read of a truncated recording, want %d", most, len(want))
	}
}

// TestDamaged: no changed byte goes unnoticed, whether the decompressor or a checksum finds it.
func TestDamaged(t *testing.T) {
	raw, want := sample(t, 20)
	for i := 0; i < len(raw); i += 3 {
		bad := bytes.Clone(raw)
		bad[i] ^= 0x41
		n, err := count(bad)
		var corrupt *CorruptError
		var format *FormatError
		switch {
		case errors.As(err, &corrupt), errors.As(err, &format), errors.Is(err, ErrTruncated), errors.Is(err, ErrNotRecording):
		case errors.Is(err, io.EOF) && n == len(want): // in the header of a zstd frame, without effect
		default:
			t.Fatalf("byte %d changed: %d events, %v", i, n, err)
		}
	}
}

func TestOtherFormats(t *testing.T) {
	raw, _ := sample(t, 1)
	newer := bytes.Replace(raw, []byte("format 1"), []byte("format 2"), 1)
	_, err := NewReader(bytes.NewReader(newer))
	var format *FormatError
	if !errors.As(err, &format) || format.Format != 2 {
		t.Errorf("of a newer format: %v", err)
	}
	for _, text := range []string{"#!/bin/sh\n", "\x7fELF", strings.Repeat("x", 1000), "P"} {
		if _, err := NewReader(strings.NewReader(text)); !errors.Is(err, ErrNotRecording) {
			t.Errorf("%.5q: %v", text, err)
		}
	}
}

// TestStream: what is recorded can be read from a pipe soon after, while the recording goes on.
func TestStream(t *testing.T) {
	in, out := io.Pipe()
	type outcome struct {
		at  time.Duration
		err error
	}
	got := make(chan outcome, 1)
	began := time.Now()
	go func() {
		r, err := NewReader(in)
		for err == nil {
			var kind Kind
			if kind, err = r.Next(); kind == KindEvent {
				break
			}
		}
		got <- outcome{time.Since(began), err}
		_, _ = io.Copy(io.Discard, in)
	}()
	w, err := NewWriter(out, NewHeader("test"))
	must(t, err)
	w.Event(&randomEvents(1)[0])
	select {
	case o := <-got:
		must(t, o.err)
		t.Logf("read after %v", o.at)
	case <-time.After(10 * time.Second):
		t.Error("nothing was read while the recording went on")
	}
	must(t, w.Close())
	must(t, out.Close())
}

// limited fails after so many bytes, as a full disk does.
type limited struct{ left int }

var errFull = errors.New("no space left on device")

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	if l.left -= n; n < len(b) {
		return n, errFull
	}
	return n, nil
}

func TestFullDisk(t *testing.T) {
	w, err := NewWriter(&limited{left: 4000}, NewHeader("test"))
	must(t, err)
	list := randomEvents(20000)
	for i := range list {
		w.Event(&list[i])
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("Close: %v", err)
	}
	if err := w.Close(); !errors.Is(err, errFull) {
		t.Errorf("Close again: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	raw, _ := sample(f, 20)
	f.Add(raw)
	f.Add(raw[:len(raw)/2])
	f.Add([]byte("P*M\x18"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := count(b); err == nil {
			t.Errorf("%d events and no end", n)
		}
	})
}

// FuzzChunks is FuzzReader behind the compression and the checksums.
func FuzzChunks(f *testing.F) {
	c := newEncoder()
	var b []byte
	for _, e := range randomEvents(20) {
		b = c.appendEvent(b, &e)
	}
	f.Add(b)
	f.Add(c.appendTick(nil, 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := newDecoder(fieldNames())
		must(t, err)
		for len(b) > 0 {
			before := len(b)
			if b, _, err = d.next(b); err == nil && len(b) >= before {
				t.Fatal("nothing was read")
			}
		}
		r := Reader{names: newNames()}
		_ = r.takeRecord(b)
	})
}

func BenchmarkRead(b *testing.B) {
	raw, list := sample(b, 100_000)
	b.ReportAllocs()
	for b.Loop() {
		if n, err := count(raw); n != len(list) {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(list)), "ns/event")
	b.ReportMetric(float64(len(raw))/float64(len(list)), "bytes/event")
}
