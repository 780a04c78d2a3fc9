package xt

import (
	"encoding/binary"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// bytesOf lays numbers out as the kernel's structs do: uint8 and uint16 and so on in host order,
// without padding.
func bytesOf(values ...any) []byte {
	var b []byte
	for _, v := range values {
		b, _ = binary.Append(b, binary.NativeEndian, v)
	}
	return b
}

// TestTooShort cuts the bytes of a match off one by one: what is too short is not decoded.
func TestTooShort(t *testing.T) {
	full := bytesOf([2]uint16{0, 0xffff}, [2]uint16{80, 80}, [4]uint8{})
	if got, want := new(Decoder).Match(false, "tcp", 0, full).Text, "-m tcp --dport 80"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
	for n := range full {
		m := new(Decoder).Match(false, "tcp", 0, full[:n])
		if m.Text != "-m tcp [not decoded]" || m.Judge(&firewall.Packet{Proto: 17}) != firewall.Maybe {
			t.Errorf("%d bytes: got %q", n, m.Text)
		}
	}
}

// TestUnknown checks what is printed of a match, a revision and a target that are not known.
func TestUnknown(t *testing.T) {
	if got, want := new(Decoder).Match(false, "geo\x1bip", 0, nil).Text, "-m geo?ip [not decoded]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := new(Decoder).Match(false, "mark", 7, make([]byte, 64)).Text, "-m mark [not decoded]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	got := new(Decoder).Target(true, "DNPT", 0, nil)
	want := Target{"-j DNPT [not decoded]", firewall.Verdict{Kind: firewall.Unknown, Detail: "DNPT"}}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
