package prober

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestSized: headers that say what was asked for, with right checksums.
func TestSized(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		src, dst := netip.MustParseAddrPort("192.0.2.1:4000"), netip.MustParseAddrPort("192.0.2.2:80")
		if v6 {
			src, dst = netip.MustParseAddrPort("[2001:db8::1]:4000"), netip.MustParseAddrPort("[2001:db8::2]:80")
		}
		for _, proto := range []path.Proto{path.TCP, path.UDP, path.ICMP} {
			for _, size := range []int{MinSize(proto, v6), 1400, 1401, MaxSize} {
				s := Sized{Proto: proto, Src: src, Dst: dst, Size: size, ID: 7, Seq: 100, Ack: 200}
				b, err := s.Bytes()
				if err != nil || len(b) != size {
					t.Fatalf("%s, IPv6 %v: %d bytes, %v, want %d", proto, v6, len(b), err, size)
				}
				payload := b[s.ipSize():]
				switch {
				case !v6 && (checksum(b[:sizeIPv4]) != 0 || int(binary.BigEndian.Uint16(b[2:])) != size || b[6] != 0x40):
					t.Errorf("%s of %d: IPv4 header % x", proto, size, b[:sizeIPv4])
				case proto == path.ICMP && !v6 && checksum(payload) != 0:
					t.Errorf("echo of %d: wrong checksum", size)
				case (proto != path.ICMP || v6) && s.checksum(payload) != 0:
					t.Errorf("%s of %d, IPv6 %v: wrong checksum", proto, size, v6)
				case proto == path.TCP && s.FirstSeq() != 100-uint32(len(payload)-sizeTCP):
					t.Errorf("sequence number %d with %d bytes of data", s.FirstSeq(), len(payload)-sizeTCP)
				}
			}
		}
		for _, size := range []int{0, MinSize(path.TCP, v6) - 1, MaxSize + 1} {
			if _, err := (Sized{Proto: path.TCP, Src: src, Dst: dst, Size: size}).Bytes(); err == nil {
				t.Errorf("%d bytes: no error", size)
			}
		}
	}
	may, err := (Sized{Proto: path.UDP, Src: netip.MustParseAddrPort("192.0.2.1:1"), Dst: netip.MustParseAddrPort("192.0.2.2:1"), Size: 100, Fragment: true}).Bytes()
	if err != nil || may[6] != 0 {
		t.Errorf("a packet that may be cut: %v, flags %#x", err, may[6])
	}
}

// segment is a TCP header of the probe's answer.
func segment(s Sized, flags byte, options ...byte) []byte {
	b := make([]byte, sizeTCP, sizeTCP+len(options))
	binary.BigEndian.PutUint16(b, s.Dst.Port())
	binary.BigEndian.PutUint16(b[2:], s.Src.Port())
	b[12], b[13] = byte((sizeTCP+len(options))/4)<<4, flags
	return append(b, options...)
}

func TestSizedAnswers(t *testing.T) {
	s := Sized{Proto: path.TCP, Src: netip.MustParseAddrPort("192.0.2.1:4000"), Dst: netip.MustParseAddrPort("192.0.2.2:80"), Size: 140, Seq: 1100}
	sack := func(left uint32) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{1, 1, 5, 10}, left), 0, 0, 4, 76)
	}
	other := s
	other.Src = netip.MustParseAddrPort("192.0.2.1:4001")
	for _, c := range []struct {
		name string
		b    []byte
		kind Kind
	}{
		{"an acknowledgement", segment(s, tcpACK), Answered},
		{"one with this segment in SACK", segment(s, tcpACK, sack(s.FirstSeq())...), Answered},
		{"one with an earlier segment in SACK", segment(s, tcpACK, sack(s.FirstSeq()-1)...), Unknown},
		{"a reset", segment(s, tcpRST|tcpACK), Refused},
		{"a FIN", segment(s, tcpFIN|tcpACK), Unknown},
		{"data", append(segment(s, tcpACK), 'x'), Unknown},
		{"of another connection", segment(other, tcpACK), Unknown},
		{"cut short", segment(s, tcpACK)[:10], Unknown},
		{"options that lie", segment(s, tcpACK, 5, 200, 0, 0), Answered},
	} {
		if a, ok := s.answer(c.b); a.Kind != c.kind || ok != (c.kind != Unknown) {
			t.Errorf("%s: got %s, %v, want %s", c.name, a.Kind, ok, c.kind)
		}
	}
}

func TestSizedPassed(t *testing.T) {
	for _, c := range []struct {
		a              Answer
		passed, tooBig bool
	}{
		{Answer{Kind: Answered}, true, false},
		{Answer{Kind: Refused}, true, false},
		{Answer{Kind: Silent}, false, false},
		{Answer{Kind: ICMPError, ICMP: ICMP{Type: 3, Code: 3}}, true, false},
		{Answer{Kind: ICMPError, ICMP: ICMP{Type: 3, Code: 4, MTU: 1400}}, false, true},
		{Answer{Kind: ICMPError, ICMP: ICMP{V6: true, Type: 2, MTU: 1400}}, false, true},
		{Answer{Kind: ICMPError, ICMP: ICMP{V6: true, Type: 1, Code: 4}}, true, false},
		{Answer{Kind: Unreachable, Errno: unix.EMSGSIZE}, false, true},
		{Answer{Kind: Unreachable, Errno: unix.ENOBUFS}, false, false},
	} {
		if c.a.Passed() != c.passed || c.a.TooBig() != c.tooBig {
			t.Errorf("%+v: passed %v, too big %v, want %v, %v", c.a, c.a.Passed(), c.a.TooBig(), c.passed, c.tooBig)
		}
	}
}

// FuzzAnswer: no bytes from the network do harm.
func FuzzSizedAnswer(f *testing.F) {
	f.Add([]byte{0, 80, 15, 160}, uint8(0))
	f.Fuzz(func(_ *testing.T, b []byte, which uint8) {
		s := Sized{Proto: []path.Proto{path.TCP, path.UDP, path.ICMP}[which%3], Size: 140,
			Src: netip.MustParseAddrPort("192.0.2.1:4000"), Dst: netip.MustParseAddrPort("192.0.2.2:80")}
		s.answer(b)
		s.quotedBy(b)
	})
}
