package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// captured returns a record with the bytes of a packet behind the event.
func captured(link int, length uint32, tci uint16, b []byte) []byte {
	r := sample()
	r[offHook] |= hookCaptured
	c := make([]byte, SizeCapture, SizeCapture+len(b)+8)
	binary.NativeEndian.PutUint32(c[capLength:], length)
	binary.NativeEndian.PutUint16(c[capCaptured:], uint16(len(b)))
	binary.NativeEndian.PutUint16(c[capLink:], uint16(link))
	binary.NativeEndian.PutUint16(c[capVLAN:], tci)
	binary.NativeEndian.PutUint16(c[capVLANProto:], type8021Q)
	return append(append(r, append(c, b...)...), "room left"...)
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

const (
	macs      = "020000000002 020000000001 "
	ip4       = "0800 4500003c000040004006 0000 0a000001 0a000002 "
	tcp       = "9c40 0050 00000001 00000000 a002 faf0 0000 0000 0204 05b4 0402 080a 00000001 00000000 0103 0307 "
	tcpPlain  = "9c40 0050 00000001 00000000 5010 faf0 0000 0000 "
	ip4udp    = "0800 4500003c000040004011 0000 0a000001 0a000002 "
	vxlan     = "c350 12b5 0030 0000 0800000000002a00 "
	ip6       = "86dd 60000000 0028 00 40 fd000000000000000000000000000001 fd000000000000000000000000000002 "
	hopOpts   = "06 00 050200000100 "
	ip4icmp   = "0800 4500003c000040004001 0000 0a000001 0a000002 "
	unreach   = "0301 0000 00000000 "
	quoted    = "4500003c000040004006 0000 0a000002 0a000001 "
	laterFrag = "0800 4500003c00002001 4006 0000 0a000001 0a000002 "
	payload   = "7061796c6f6164"
)

func TestDecodeCapture(t *testing.T) {
	frame := unhex(macs + ip4 + tcp)
	var e Event
	if err := Decode(captured(ethernet, 74, 0, frame), &e); err != nil {
		t.Fatal(err)
	}
	c := e.Capture
	if e.Hook != DevReceive || c == nil || !bytes.Equal(c.Bytes, frame) || c.Length != 74 || c.Link != ethernet {
		t.Errorf("hook %v, capture %+v", e.Hook, c)
	}
	if err := Decode(captured(ethernet, 74, 0x2007, frame), &e); err != nil {
		t.Fatal(err)
	}
	tagged := unhex(macs + "8100 2007 " + ip4 + tcp)
	if c = e.Capture; !bytes.Equal(c.Bytes, tagged) || c.Length != 78 || c.Link != ethernet+vlanTag {
		t.Errorf("with a tag beside the packet: %x, length %d, link %d", c.Bytes, c.Length, c.Link)
	}
}

func TestDecodeCaptureRejects(t *testing.T) {
	more := captured(ethernet, 74, 0, unhex(macs))
	binary.NativeEndian.PutUint16(more[Size+capCaptured:], 500)
	for name, b := range map[string][]byte{
		"more than is there": more,
		"no room":            captured(0, 0, 0, nil)[:Size+3],
		"not captured":       append(sample(), make([]byte, 30)...),
	} {
		var e Event
		if err := Decode(b, &e); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestTrimToHeaders(t *testing.T) {
	for _, tt := range []struct {
		name, head string
		link       uint16
		flags      uint32
	}{
		{"TCP with options", macs + ip4 + tcp, 14, 0},
		{"TCP", macs + ip4 + tcpPlain, 14, 0},
		{"tagged", macs + "8100 2007 " + ip4 + tcp, 18, 0},
		{"no link-layer header", ip4[5:] + tcp, 0, 0},
		{"VXLAN", macs + ip4udp + vxlan + macs + ip4 + tcp, 14, FlagEncapsulated},
		{"VXLAN with a tag inside", macs + ip4udp + vxlan + macs + "8100 0003 " + ip4 + tcp, 14, FlagEncapsulated},
		{"UDP that looks like VXLAN", macs + ip4udp + vxlan[:20], 14, 0},
		{"IPv6", macs + ip6[:19] + "06 " + ip6[22:] + tcp, 14, 0},
		{"IPv6 with options", macs + ip6 + hopOpts + tcp, 14, 0},
		{"ICMP error", macs + ip4icmp + unreach + quoted + "9c40 0050 00000001 00000000 5010 faf0 0000 0000 ", 14, FlagICMPError},
		{"later fragment", macs + laterFrag, 14, FlagFragment},
		{"neither IP", macs + "0806 ", 14, 0},
	} {
		head := unhex(tt.head)
		e := Event{Flags: tt.flags, Capture: &Capture{Bytes: append(head[:len(head):len(head)], unhex(payload)...), Link: tt.link}}
		e.TrimToHeaders()
		if got := e.Capture.Bytes; !bytes.Equal(got, head) {
			t.Errorf("%s: %d bytes are left, want %d", tt.name, len(got), len(head))
		}
	}
}

// TestTrimToHeadersShort: what was cut before is never made longer, and never read beyond.
func TestTrimToHeadersShort(t *testing.T) {
	whole := unhex(macs + ip4udp + vxlan + macs + ip6 + hopOpts + tcp)
	for n := range whole {
		e := Event{Flags: FlagEncapsulated | FlagICMPError, Capture: &Capture{Bytes: whole[:n:n], Link: uint16(min(n, ethernet))}}
		e.TrimToHeaders()
		if len(e.Capture.Bytes) > n {
			t.Errorf("%d bytes became %d", n, len(e.Capture.Bytes))
		}
	}
}

// TestRedactCapture: nothing of the original addresses is left, and the headers stay headers.
func TestRedactCapture(t *testing.T) {
	other := func(a netip.Addr) netip.Addr {
		if a.Is4() {
			return netip.MustParseAddr("192.0.2.1")
		}
		return netip.MustParseAddr("2001:db8::1")
	}
	for _, tt := range []struct {
		name, head, want string
		flags            uint32
	}{
		{"TCP", macs + ip4 + tcp,
			strings.Repeat("00", 12) + "0800 4500003c00004000 4006b6b9 c0000201 c0000201 9c40 0050 00000001 00000000 a002 faf0 0000 0000 " + strings.Repeat("01", 20), 0},
		{"IPv6 with options", macs + ip6 + hopOpts + tcpPlain,
			strings.Repeat("00", 12) + ip6[:25] + strings.Repeat("20010db8000000000000000000000001", 2) + "06 00 000000000000 " + tcpPlain, 0},
		{"VXLAN", macs + ip4udp + vxlan + macs + ip4 + tcpPlain,
			strings.Repeat("00", 12) + "0800 4500003c00004000 4011b6ae c0000201 c0000201 c350 12b5 0030 0000 0800000000002a00" +
				strings.Repeat("00", 12) + "0800 4500003c00004000 4006b6b9 c0000201 c0000201" + tcpPlain, FlagEncapsulated},
		{"ICMP error", macs + ip4icmp + "0504 abcd 0a0000fe " + quoted,
			strings.Repeat("00", 12) + "0800 4500003c00004000 4001b6be c0000201 c0000201 0504 0000 0a0000fe 4500003c00004000 4006b6b9 c0000201 c0000201", FlagICMPError},
		{"redirect", macs + ip4icmp + "0501 abcd 0a0000fe ",
			strings.Repeat("00", 12) + "0800 4500003c00004000 4001b6be c0000201 c0000201 0501 0000 00000000", 0},
		{"cut off", macs + ip4 + tcp[:19], strings.Repeat("00", 12) + "0800 4500003c00004000 4006b6b9 c0000201 c0000201", 0},
	} {
		before := unhex(tt.head + payload)
		e := Event{Flags: tt.flags, Capture: &Capture{Bytes: before, Link: 14, Length: 2000}}
		e.RedactCapture(other)
		if got, want := e.Capture.Bytes, unhex(tt.want); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", tt.name, got, want)
		}
		if !bytes.Equal(before, unhex(tt.head+payload)) {
			t.Errorf("%s: the original was changed", tt.name)
		}
	}
}

func FuzzDecodeCapture(f *testing.F) {
	f.Add(captured(ethernet, 74, 7, unhex(macs+ip4+tcp)))
	f.Add(captured(0, 74, 0, unhex(ip4[5:]+tcp)))
	f.Add(captured(ethernet, 200, 0, unhex(macs+ip4udp+vxlan+macs+ip6+hopOpts+tcp)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Event
		if Decode(b, &e) != nil || e.Capture == nil {
			return
		}
		if c := e.Capture; int(c.Link) > len(c.Bytes) || int(c.Length) < len(c.Bytes) {
			t.Errorf("header of %d in %d bytes of %d", c.Link, len(c.Bytes), c.Length)
		}
		other := e
		other.RedactCapture(func(a netip.Addr) netip.Addr { return netip.IPv6Unspecified() })
		if c := other.Capture; int(c.Link) > len(c.Bytes) || len(c.Bytes) > len(e.Capture.Bytes) {
			t.Errorf("redacted to %d bytes with a header of %d", len(c.Bytes), c.Link)
		}
		e.TrimToHeaders()
		e.Trim(7)
		if c := e.Capture; len(c.Bytes) > 7 || int(c.Link) > len(c.Bytes) {
			t.Errorf("trimmed to %d bytes with a header of %d", len(c.Bytes), c.Link)
		}
	})
}
