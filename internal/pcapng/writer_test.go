package pcapng

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
)

const when = 1_700_000_000_123_456_789 // ns since 1970

// example writes one block of each type.
func example(t *testing.T, w *Writer) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(w.Section(Section{OS: "Linux 6.1", Application: "pathtrace 1", Comment: "to web:80"}))
	id, err := w.AddInterface(Interface{Name: "web/eth0", Description: "container web", OS: "Linux 6.1", Link: LinkRaw, Snaplen: 64})
	must(err)
	if id != 0 {
		t.Errorf("the first interface has number %d", id)
	}
	must(w.WriteNames([]Name{
		{netip.MustParseAddr("10.0.0.2"), "web"}, {netip.MustParseAddr("fd00::2"), "web6"}, {netip.MustParseAddr("10.0.0.3"), ""},
	}))
	must(w.WritePacket(Packet{
		Interface: id, Time: when, Bytes: []byte{0x45, 1, 2, 3, 4}, Length: 60, Direction: Inbound, ID: 7,
		Comments: []string{"forward drop", "", "two"},
	}))
	must(w.WriteStatistics(Statistics{Interface: id, Time: when, Dropped: 3, Comment: "lost"}))
}

// TestGolden compares with testdata/example.hex, which is written by hand from the specification:
// spaces and lines divide fields, text after # explains them.
func TestGolden(t *testing.T) {
	var got bytes.Buffer
	example(t, NewWriter(&got))
	text, err := os.ReadFile("testdata/example.hex")
	if err != nil {
		t.Fatal(err)
	}
	var digits strings.Builder
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	want, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got\n%s\nwant\n%s", hex.Dump(got.Bytes()), hex.Dump(want))
	}
}

// blocks checks the frame of every block and returns their types.
func blocks(t *testing.T, b []byte) (types []uint32) {
	t.Helper()
	for len(b) > 0 {
		if len(b) < blockHead+blockTail {
			t.Fatalf("%d bytes are no block", len(b))
		}
		n := binary.LittleEndian.Uint32(b[4:])
		if n%4 != 0 || int(n) > len(b) || binary.LittleEndian.Uint32(b[n-4:]) != n {
			t.Fatalf("a block of %d bytes does not end as it begins", n)
		}
		types = append(types, binary.LittleEndian.Uint32(b))
		b = b[n:]
	}
	return types
}

// piece takes blocks until it is full.
type piece struct {
	bytes.Buffer
	room int
}

var errFull = errors.New("no space left")

func (p *piece) Write(b []byte) (int, error) {
	if len(b) > p.room {
		return 0, errFull
	}
	p.room -= len(b)
	return p.Buffer.Write(b)
}

// TestFull: what was written before the disk was full is whole blocks, and the error stays.
func TestFull(t *testing.T) {
	out := &piece{room: 300}
	w := NewWriter(out)
	if err := w.Section(Section{}); err != nil {
		t.Fatal(err)
	}
	id, err := w.AddInterface(Interface{Name: "eth0", Link: LinkEthernet})
	if err != nil {
		t.Fatal(err)
	}
	var written int
	for err = error(nil); err == nil && written < 100; written++ {
		err = w.WritePacket(Packet{Interface: id, Bytes: make([]byte, 60)})
	}
	if !errors.Is(err, errFull) {
		t.Fatalf("error %v after %d packets, want that of the writer", err, written)
	}
	if types := blocks(t, out.Bytes()); len(types) != written+1 {
		t.Errorf("%d blocks are there, want %d", len(types), written+1)
	}
	if again := w.WritePacket(Packet{Interface: id}); !errors.Is(again, errFull) {
		t.Errorf("the next packet: %v, want the same error", again)
	}
}

func TestMisuse(t *testing.T) {
	w := NewWriter(&bytes.Buffer{})
	if _, err := w.AddInterface(Interface{}); err == nil {
		t.Error("an interface without a section is no error")
	}
	if err := w.Section(Section{}); err != nil {
		t.Fatal(err)
	}
	if err := w.WritePacket(Packet{Interface: 0}); err == nil {
		t.Error("a packet of no interface is no error")
	}
	if err := w.WriteStatistics(Statistics{Interface: 1}); err == nil {
		t.Error("statistics of no interface are no error")
	}
}

// TestSecondSection: interfaces are numbered anew.
func TestSecondSection(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out)
	for range 2 {
		example(t, w)
	}
	if types := blocks(t, out.Bytes()); len(types) != 10 || types[5] != typeSection {
		t.Errorf("blocks %x", types)
	}
}

func FuzzWriter(f *testing.F) {
	f.Add("web", "drop\x00\xff", []byte{1, 2, 3}, uint32(1), uint8(3), uint64(9))
	f.Add(strings.Repeat("é", 40000), "", []byte{}, uint32(0), uint8(0), uint64(0))
	f.Fuzz(func(t *testing.T, name, comment string, b []byte, length uint32, side uint8, id uint64) {
		var out bytes.Buffer
		w := NewWriter(&out)
		err := w.Section(Section{OS: name, Comment: comment})
		n, err2 := w.AddInterface(Interface{Name: name, Description: comment, Link: LinkType(length)})
		addr, _ := netip.AddrFromSlice(b)
		err3 := w.WriteNames([]Name{{addr, name}, {netip.MustParseAddr("::1"), comment}})
		err4 := w.WritePacket(Packet{Interface: n, Bytes: b, Length: length, Direction: Direction(side), ID: id, Comments: []string{name, comment}})
		err5 := w.WriteStatistics(Statistics{Interface: n, Dropped: id, Comment: comment})
		if err := errors.Join(err, err2, err3, err4, err5); err != nil {
			t.Fatal(err)
		}
		if types := blocks(t, out.Bytes()); len(types) != 5 {
			t.Errorf("%d blocks, want 5", len(types))
		}
	})
}

func TestHeader(t *testing.T) {
	v4 := func(src, dst string) Header {
		return Header{Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst), TTL: 64}
	}
	tcp := v4("10.0.0.1:4000", "10.0.0.2:80")
	tcp.Proto, tcp.Length, tcp.Seq, tcp.Ack, tcp.Flags = protoTCP, 60, 1, 2, 0x12
	udp := v4("[fd00::1]:53", "[fd00::2]:53")
	udp.Proto, udp.Length = protoUDP, 100
	echo := v4("10.0.0.1:0", "10.0.0.2:0")
	echo.Proto, echo.Type, echo.ID, echo.Length = protoICMP, 8, 9, 84
	big := tcp
	big.Length = 200_000
	short := udp
	short.Length = 0
	for _, tt := range []struct {
		name string
		h    Header
		want string
	}{
		{"TCP", tcp, "4500003c00000000400666ba0a0000010a000002 0fa0005000000001000000025012ffff00000000"},
		{"UDP over IPv6", udp, "60000000003c1140fd000000000000000000000000000001fd000000000000000000000000000002 00350035003cffff"},
		{"echo", echo, "4500005400000000400166a70a0000010a000002 0800000000090000"},
		{"before segmentation", big, "4500ffff00000000400666f60a0000010a000002 0fa0005000000001000000025012ffff00000000"},
		{"length not known", short, "6000000000081140fd000000000000000000000000000001fd000000000000000000000000000002 003500350008ffff"},
		{"nothing known", Header{}, "6000000000000000" + strings.Repeat("00", 32)},
	} {
		want := strings.ReplaceAll(tt.want, " ", "")
		if got := hex.EncodeToString(tt.h.Bytes()); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, want)
		}
	}
}
