package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// sample returns a record with recognisable values.
func sample() []byte {
	b := make([]byte, Size)
	binary.NativeEndian.PutUint64(b[offTime:], 42)
	binary.NativeEndian.PutUint64(b[offSkb:], 0xffff888000000001)
	b[offHook] = byte(DevReceive)
	copy(b[offDev:], "eth0\x00junk")
	t := b[offPacket:]
	a := netip.MustParseAddr("::ffff:10.0.0.1").As16()
	copy(t, a[:])
	a = netip.MustParseAddr("::ffff:10.0.0.2").As16()
	copy(t[tupleDaddr:], a[:])
	binary.NativeEndian.PutUint16(t[tupleSport:], 4000)
	binary.NativeEndian.PutUint16(t[tupleDport:], 80)
	t[tupleProto] = ProtoTCP
	return b
}

func TestDecode(t *testing.T) {
	var e Event
	if err := Decode(sample(), &e); err != nil {
		t.Fatalf("Decode: %v", err)
	}
	want := Tuple{
		Src:   netip.MustParseAddrPort("10.0.0.1:4000"),
		Dst:   netip.MustParseAddrPort("10.0.0.2:80"),
		Proto: ProtoTCP,
	}
	if e.Tuple != want {
		t.Errorf("Tuple = %v, want %v", e.Tuple, want)
	}
	if e.Dev != "eth0" || e.Time != 42 || e.Hook != DevReceive {
		t.Errorf("Dev, Time, Hook = %q, %d, %v", e.Dev, e.Time, e.Hook)
	}
	if e.CTOrig.IsValid() || e.OuterSrc.IsValid() || e.Gateway.IsValid() {
		t.Errorf("absent parts are valid: %+v", e)
	}
}

func TestDecodeRejects(t *testing.T) {
	var e Event
	for name, b := range map[string][]byte{
		"empty":        {},
		"short":        sample()[:Size-1],
		"long":         append(sample(), 0),
		"no hook":      make([]byte, Size),
		"unknown hook": func() []byte { b := sample(); b[offHook] = 200; return b }(),
	} {
		if err := Decode(b, &e); err == nil {
			t.Errorf("Decode(%s) = nil, want an error", name)
		}
	}
}

// TestDecodeShort: a record that ends early lacks what comes behind, and nothing else.
func TestDecodeShort(t *testing.T) {
	whole := sample()
	binary.NativeEndian.PutUint64(whole[offCT:], 7)
	binary.NativeEndian.PutUint32(whole[offTable:], 254)
	for _, size := range []int{SizePlain, SizeTracked, Size} {
		var e Event
		if err := Decode(whole[:size], &e); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !e.Tuple.IsValid() || (e.CT != 0) != (size > SizePlain) || (e.Table != 0) != (size > SizeTracked) {
			t.Errorf("%d bytes: tuple %v, entry %d, table %d", size, e.Tuple, e.CT, e.Table)
		}
	}
}

func isSize(n int) bool { return n == SizePlain || n == SizeTracked || n == Size }

// TestDecoderDevices: a decoder that has met other devices names them as one that has not, and the names
// that it met take no new memory.
func TestDecoderDevices(t *testing.T) {
	var d Decoder
	var e Event
	record := sample()
	name := func(text string) {
		clear(record[offDev : offDev+lenDev])
		copy(record[offDev:offDev+lenDev], text)
		if err := d.Decode(record, &e); err != nil || e.Dev != text {
			t.Errorf("Dev = %q, %v, want %q", e.Dev, err, text)
		}
	}
	for range 3 {
		for i := range 40 {
			name(fmt.Sprint("veth", i))
		}
		name("")
		name("sixteen-letters!")
	}
	if n := testing.AllocsPerRun(100, func() { name("veth39"); name("") }); n > 0 {
		t.Errorf("%v allocations for two known names", n)
	}
}

func FuzzDecode(f *testing.F) {
	for _, size := range []int{SizePlain, SizeTracked, Size} {
		f.Add(sample()[:size])
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Event
		if err := Decode(b, &e); (err == nil) != (isSize(len(b)) && e.Hook != HookUnknown && e.Hook < hookEnd) {
			t.Errorf("Decode error %v does not fit hook %v of %d bytes", err, e.Hook, len(b))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	record := sample()
	var e Event
	for b.Loop() {
		if err := Decode(record, &e); err != nil {
			b.Fatal(err)
		}
	}
}
