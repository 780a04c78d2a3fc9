package flow

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

var update = flag.Bool("update", false, "write the golden files")

// script is a test file: events in text form, and lines that begin with #! and name what the
// kernel reports as numbers:
//
//	#! symbol ADDRESS NAME     #! reason NUMBER NAME     #! reset NUMBER NAME
//	#! target PROTO ADDR:PORT  (port 0: any)
type script struct {
	symbols map[uint64]string
	reasons map[uint32]string
	resets  map[uint32]string
	targets []wire.Tuple // Dst and Proto
	events  []wire.Event
}

func (s *script) Symbol(addr uint64) string        { return s.symbols[addr] }
func (s *script) DropReason(reason uint32) string  { return s.reasons[reason] }
func (s *script) ResetReason(reason uint32) string { return s.resets[reason] }

func (s *script) isTarget(ap netip.AddrPort, proto uint8) bool {
	for _, target := range s.targets {
		if target.Proto == proto && target.Dst.Addr() == ap.Addr() && (target.Dst.Port() == 0 || target.Dst.Port() == ap.Port()) {
			return true
		}
	}
	return false
}

func readScript(t testing.TB, file string) *script {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{symbols: map[uint64]string{}, reasons: map[uint32]string{}, resets: map[uint32]string{}}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 4 && words[0] == "#!" {
			if err := s.directive(words[1:]); err != nil {
				t.Fatalf("%s: %s: %v", file, line, err)
			}
		}
	}
	for e, err := range wire.ReadText(bytes.NewReader(text)) {
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.events = append(s.events, e)
	}
	return s
}

func (s *script) directive(words []string) error {
	switch words[0] {
	case "symbol":
		addr, err := strconv.ParseUint(words[1], 16, 64)
		s.symbols[addr] = words[2]
		return err
	case "reason", "reset":
		n, err := strconv.ParseUint(words[1], 10, 32)
		if words[0] == "reason" {
			s.reasons[uint32(n)] = words[2]
		} else {
			s.resets[uint32(n)] = words[2]
		}
		return err
	case "target":
		e, err := wire.ParseText(words[1] + "=" + words[2] + ">" + words[2])
		s.targets = append(s.targets, e.Tuple)
		return err
	}
	return fmt.Errorf("unknown directive")
}

func (s *script) config() Config { return Config{IsTarget: s.isTarget, Namer: s} }

// run returns the finished flows of the script's events and the counts.
func (s *script) run(cfg Config) ([]*path.Path, Stats) {
	var paths []*path.Path
	cfg.OnDone = func(p *path.Path) { paths = append(paths, p) }
	t := New(cfg)
	for i := range s.events {
		t.Add(&s.events[i])
	}
	t.Flush()
	return paths, t.Stats()
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.events")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".events"), func(t *testing.T) {
			s := readScript(t, file)
			var live int
			cfg := s.config()
			cfg.OnHop = func(*path.Path, *path.Packet, *path.Hop) { live++ }
			paths, stats := s.run(cfg)
			got := format(paths, stats)
			checkGolden(t, strings.TrimSuffix(file, ".events")+".golden", got)
			if want := strings.Count(got, "\n    "); live != want {
				t.Errorf("%d hops reported live, want %d", live, want)
			}
		})
	}
}

func checkGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run with -update to accept):\ngot\n%s\nwant\n%s", file, got, want)
	}
}

// format writes one line per path, per packet and per hop.
func format(paths []*path.Path, stats Stats) string {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "flow %d %s client=%s server=%s source=%s target=%s", p.Flow, p.Proto,
			endText(p.Client), endText(p.Server), endText(p.Source), endText(p.Target))
		field(&b, "server-established", p.ServerNetNS)
		field(&b, "client-established", p.ClientNetNS)
		field(&b, "delivered-in", p.DeliverNetNS)
		field(&b, "omitted", p.OmittedPackets)
		flagField(&b, "closed", p.Closed)
		flagField(&b, "midstream", p.Midstream)
		b.WriteByte('\n')
		for _, tr := range p.NAT {
			fmt.Fprintf(&b, "  nat %s %s -> %s ns=%d %s\n", tr.Kind, tr.From, tr.To, tr.NetNS, tr.Stage)
		}
		for _, packet := range p.Packets {
			formatPacket(&b, packet)
		}
	}
	fmt.Fprintf(&b, "stats %+v\n", stats)
	return b.String()
}

func formatPacket(b *strings.Builder, p *path.Packet) {
	fmt.Fprintf(b, "  packet %d %s", p.ID, p.Direction)
	field(b, "flags", p.TCPFlags)
	field(b, "seq", p.Seq)
	field(b, "len", p.Length)
	field(b, "omitted", p.OmittedHops)
	flagField(b, "retransmission", p.Retransmission)
	flagField(b, "icmp-error", p.ICMPError)
	b.WriteByte('\n')
	for i := range p.Hops {
		formatHop(b, p, &p.Hops[i])
	}
}

func formatHop(b *strings.Builder, p *path.Packet, h *path.Hop) {
	fmt.Fprintf(b, "    %d ns=%d %s/%s %s>%s", h.TimeNS, h.NetNS, h.Stage, h.Action, h.Src, h.Dst)
	field(b, "dev", h.Device)
	field(b, "in", h.InIfindex)
	field(b, "out", h.OutIfindex)
	field(b, "was", h.PrevSrc+h.PrevDst)
	if h.Outer != nil {
		fmt.Fprintf(b, " outer=%s>%s/%d", h.Outer.Src, h.Outer.Dst, h.Outer.VNI)
	}
	field(b, "reason", h.Reason)
	field(b, "function", h.Function)
	field(b, "icmp", h.ICMP)
	field(b, "mtu", h.MTU)
	field(b, "gateway", h.Gateway)
	field(b, "error", h.Error)
	if h.Direction != p.Direction {
		field(b, "direction", h.Direction)
	}
	flagField(b, "copy", h.Copy)
	flagField(b, "noise", h.Noise)
	b.WriteByte('\n')
}

func field[T comparable](b *strings.Builder, name string, v T) {
	var zero T
	if v != zero {
		fmt.Fprintf(b, " %s=%v", name, v)
	}
}

func flagField(b *strings.Builder, name string, v bool) {
	if v {
		b.WriteString(" " + name)
	}
}
