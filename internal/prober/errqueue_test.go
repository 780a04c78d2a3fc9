package prober

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// controlMessage builds an IP_RECVERR message as the kernel does; data follows the header.
func controlMessage(level, typ int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	// struct cmsghdr: a size_t, which is 8 bytes on every architecture that is built for, then two ints.
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(typ))
	copy(b[unix.CmsgLen(0):], data)
	return b
}

func TestParseExtendedError(t *testing.T) {
	tooBig := []byte{90, 0, 0, 0, 2, 3, 4, 0, 0x14, 5, 0, 0, 0, 0, 0, 0, // struct sock_extended_err: EMSGSIZE, ICMP 3/4, 1300
		2, 0, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0} // struct sockaddr_in
	local := []byte{90, 0, 0, 0, 1, 0, 0, 0, 0x14, 5, 0, 0, 0, 0, 0, 0}
	for _, tt := range []struct {
		name string
		oob  []byte
		want Result
		ok   bool
	}{
		{"too big", controlMessage(unix.SOL_IP, unix.IP_RECVERR, tooBig),
			Result{Kind: ICMPError, Errno: unix.EMSGSIZE, ICMP: ICMP{Type: 3, Code: 4, MTU: 1300, Origin: netip.MustParseAddr("192.0.2.1")}}, true},
		{"no sender", controlMessage(unix.SOL_IP, unix.IP_RECVERR, tooBig[:16]),
			Result{Kind: ICMPError, Errno: unix.EMSGSIZE, ICMP: ICMP{Type: 3, Code: 4, MTU: 1300}}, true},
		{"local", controlMessage(unix.SOL_IPV6, unix.IPV6_RECVERR, local), Result{Kind: Unreachable, Errno: unix.EMSGSIZE}, true},
		{"too short", controlMessage(unix.SOL_IP, unix.IP_RECVERR, tooBig[:15]), Result{}, false},
		{"other message", controlMessage(unix.SOL_IP, unix.IP_TTL, tooBig), Result{}, false},
		{"empty", nil, Result{}, false},
	} {
		got, ok := parseExtendedError(tt.oob)
		if got != tt.want || ok != tt.ok {
			t.Errorf("%s: got %+v, %t, want %+v, %t", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

func FuzzParseExtendedError(f *testing.F) {
	f.Add(controlMessage(unix.SOL_IPV6, unix.IPV6_RECVERR, make([]byte, 44)))
	f.Fuzz(func(t *testing.T, oob []byte) {
		if r, ok := parseExtendedError(oob); ok == (r.Kind == Unknown) {
			t.Errorf("got %+v, %t: a result has a kind", r, ok)
		}
	})
}

func TestChecksum(t *testing.T) {
	for _, tt := range []struct {
		in   []byte
		want uint16
	}{
		// The example of RFC 1071, section 3.
		{[]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, ^uint16(0xddf2)},
		{[]byte{0xff}, 0x00ff},
		{nil, 0xffff},
	} {
		if got := checksum(tt.in); got != tt.want {
			t.Errorf("%x: got %#04x, want %#04x", tt.in, got, tt.want)
		}
	}
}

func TestResultString(t *testing.T) {
	origin := netip.MustParseAddr("192.0.2.1")
	for want, r := range map[string]Result{
		"connected after 120µs":                              {Kind: Connected, RTT: 120 * time.Microsecond},
		"refused after 1ms":                                  {Kind: Refused, RTT: time.Millisecond},
		"answered with 5 bytes after 1s":                     {Kind: Answered, Bytes: 5, RTT: time.Second},
		"icmp error type 3 code 13 from 192.0.2.1 after 1ms": {Kind: ICMPError, ICMP: ICMP{Type: 3, Code: 13, Origin: origin}, RTT: time.Millisecond},
		"unreachable: network is unreachable":                {Kind: Unreachable, Errno: unix.ENETUNREACH},
		"no answer after 2s":                                 {Kind: Silent, RTT: 2 * time.Second},
		"namespace vanished":                                 {Kind: NamespaceVanished},
		"canceled":                                           {Kind: Canceled},
		"unknown: bad file descriptor":                       {Err: unix.EBADF},
	} {
		if got := r.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
