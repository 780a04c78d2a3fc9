package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/pcapng/pcapngtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// withAddresses fills in what the tracker fills in beside the text.
func withAddresses(p *path.Path) {
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			h.Time = p.Start + uint64(h.TimeNS)
			if h.Src != "" {
				h.SrcAddr = addr(h.Src)
			}
			if h.Dst != "" {
				h.DstAddr = addr(h.Dst)
			}
		}
	}
}

const testEpoch = 1_700_000_000_000_000_000

// capture writes flows as a capture, numbered from 1, and returns its path.
func capture(t *testing.T, flows ...flowCase) string {
	t.Helper()
	var out bytes.Buffer
	c := NewPCAPNG(&out, true, 0)
	if err := c.Meta(path.Meta{Target: "web:80", Source: "cli", Kernel: "6.1", Version: "test", Epoch: testEpoch}); err != nil {
		t.Fatal(err)
	}
	for i, f := range flows {
		p, v := f.make()
		if v.Flow = i + 1; p != nil {
			p.Flow = v.Flow
			withAddresses(p)
		}
		if err := c.Flow(p, v); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Stats(path.Stats{LostEvents: 3}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trace.pcapng")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Severities of tshark's remarks (PI_WARN and PI_ERROR, epan/proto.h).
const (
	expertWarning = "6291456"
	expertError   = "8388608"
)

// TestPCAPNGOpens: tshark reads what is written of every hand-written flow without a warning, with
// checksums of the IP header verified.
func TestPCAPNGOpens(t *testing.T) {
	cases := flowCases()
	got := pcapngtest.TShark(t, capture(t, cases...), "-o", "ip.check_checksum:TRUE", "-o", "tcp.analyze_sequence_numbers:FALSE",
		"-T", "fields", "-E", "separator=|", "-E", "aggregator=;", "-e", "_ws.expert.severity", "-e", "_ws.expert.message",
		"-e", "_ws.malformed", "-e", "frame.comment")
	for line := range strings.Lines(got) {
		fields := strings.Split(line, "|")
		severities, messages := strings.Split(fields[0], ";"), strings.Split(fields[1], ";")
		for i, severity := range severities {
			// A reset is a warning to Wireshark, whoever captured it.
			if (severity == expertWarning || severity == expertError) && !strings.Contains(fields[1], "Connection reset (RST)") {
				t.Errorf("severity %s: %s: %s", severity, messages[min(i, len(messages)-1)], fields[3])
			}
		}
		if fields[2] != "" {
			t.Errorf("malformed: %s", line)
		}
	}
	for i, f := range cases {
		if p, _ := f.make(); p != nil && len(p.Packets) > 0 && !strings.Contains(got, fmt.Sprintf("(flow %d, packet ", i+1)) {
			t.Errorf("%s: no comment in\n%s", f.name, got)
		}
	}
}

// TestPCAPNGShows: what a person sees in Wireshark: interface, direction, comment, identifier, time.
func TestPCAPNGShows(t *testing.T) {
	file := capture(t, flowCase{"drop", dropForward})
	got := pcapngtest.TShark(t, file, "-T", "fields", "-E", "separator=|", "-Y", `frame.comment contains "drop"`,
		"-e", "frame.interface_name", "-e", "frame.interface_description", "-e", "frame.packet_flags_direction", "-e", "frame.packet_id",
		"-e", "frame.time_epoch", "-e", "frame.comment")
	fields := strings.Split(strings.TrimSpace(got), "|")
	if len(fields) < 6 {
		t.Fatalf("got %q", got)
	}
	for i, want := range []string{"host/", "namespace host", "", "4294967297", "1700000001.", "netfilter/forward drop: by nft_do_chain"} {
		if !strings.Contains(fields[i], want) {
			t.Errorf("field %d is %q, want %q in it", i, fields[i], want)
		}
	}
	if !strings.Contains(got, "[firewall-drop]") {
		t.Errorf("%q lacks the verdict", got)
	}
}

// TestPCAPNGCaptured: bytes that were captured are written as they are, each on an interface of its kind;
// a hook without bytes borrows those of the same packet with the same addresses.
func TestPCAPNGCaptured(t *testing.T) {
	p, v := sameBridge()
	withAddresses(p)
	ip := []byte{0x45, 0, 0, 40, 0, 0, 0, 0, 9, 6, 0, 0, 172, 18, 0, 3, 172, 18, 0, 2,
		1, 2, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 1, 0, 0, 0, 0}
	ether := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}, ip...)
	hops := p.Packets[0].Hops
	if len(hops) < 3 {
		t.Fatalf("%d hops", len(hops))
	}
	p.Packets, p.Packets[0].Hops = p.Packets[:1], hops[:3]
	hops[0].Capture = &path.Capture{Bytes: ip, Length: 40}
	hops[1].Capture = &path.Capture{Bytes: ether, Length: 1454, Link: 14}
	file := capture(t, flowCase{"captured", func() (*path.Path, path.Verdict) { return p, v }})
	got := pcapngtest.TShark(t, file, "-T", "fields", "-E", "separator=|", "-e", "frame.encap_type", "-e", "ip.ttl", "-e", "frame.cap_len", "-e", "frame.len")
	want := "7|9|40|40\n1|9|54|1454\n7|9|40|1440\n" // raw IP, Ethernet, raw IP borrowed
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestPCAPNGFull: the first error of the writer is the one that is reported.
func TestPCAPNGFull(t *testing.T) {
	p, v := sameBridge()
	withAddresses(p)
	c := NewPCAPNG(shortWriter{}, false, 0)
	if err := c.Meta(path.Meta{}); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Meta: %v", err)
	}
	if err := c.Flow(p, v); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("Flow: %v", err)
	}
}

type shortWriter struct{}

func (shortWriter) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
