package tracer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// noNaming knows no names.
type noNaming struct{ seen map[deviceKey]string }

func (noNaming) host() string { return "" }

func (noNaming) space(inode uint32) recording.Namespace {
	return recording.Namespace{Inode: inode, Name: fmt.Sprint("ns", inode%7)}
}

func (n noNaming) device(netns, ifindex uint32, seen string) device {
	if seen != "" {
		n.seen[deviceKey{netns, ifindex}] = seen
	}
	return device{name: n.seen[deviceKey{netns, ifindex}], kind: "veth"}
}

func (noNaming) addrIn(_ uint32, a netip.Addr) string {
	if a.Is4() && a.As4()[0] == 10 {
		return "web"
	}
	return ""
}

func (noNaming) peerMTU(uint32, uint32) uint32 { return 0 }

func (noNaming) hasAddr(uint32, uint32, netip.Addr) bool { return false }

// nopFile is a file without end.
type nopFile struct{ io.Writer }

// Close implements io.Closer.
func (nopFile) Close() error { return nil }

// madeUp records many connections that are each as one recorded in testdata, and returns the verdicts.
func madeUp(t testing.TB, out func(part int) (io.WriteCloser, error), connections int, partSize int64) (events int, verdicts []path.Verdict) {
	t.Helper()
	text, err := os.ReadFile("testdata/delivered.events")
	labtest.Must(t, err)
	var one []wire.Event
	for e, err := range wire.ReadText(bytes.NewReader(text)) {
		labtest.Must(t, err)
		one = append(one, e)
	}
	target := netip.MustParseAddrPort("192.0.2.1:8080")
	names := &names{map[uint64]string{}, map[uint64]string{}, map[uint64]string{}, map[uint64]string{}, target}
	rec, err := newRecorder(RecordConfig{Open: out, PartSize: partSize}, "test", func(s string) { t.Log(s) }, noNaming{map[deviceKey]string{}}, names)
	labtest.Must(t, err)
	session := sessionRecord{Idle: time.Second, Proto: path.TCP}
	rec.begin(Meta{Type: "meta", Schema: 1, Target: "web"}, session, []probe.Endpoint{{Addr: target, Proto: wire.ProtoTCP}})
	book := fakeRules()
	naming := recordedNaming{noNaming{map[deviceKey]string{}}, rec}
	cfg := flow.Config{
		Namer: names, IsTarget: func(ap netip.AddrPort, _ uint8) bool { return ap == target },
		OnDone: func(p *path.Path) {
			annotate(naming, p)
			f := &diagnose.Facts{Complete: true, Waited: time.Duration(p.Start), Target: diagnose.Endpoint{Label: "web", Port: 8080},
				Namespaces: map[uint32]*diagnose.Namespace{1: {Name: "x", Listeners: []diagnose.Listener{}}}}
			rec.flow(p, f, book, time.Now())
			verdicts = append(verdicts, diagnose.Explain(p, f))
		},
	}
	session.times(&cfg)
	tracker := flow.New(cfg)
	for i := range connections {
		for _, e := range one {
			vary(&e, i)
			rec.event(&e)
			tracker.Add(&e)
			events++
		}
		if i%8 == 0 {
			now := one[len(one)-1].Time + uint64(i)*uint64(time.Millisecond)
			rec.tick(now)
			tracker.Expire(now)
		}
	}
	rec.mark(typeFlush)
	tracker.Flush()
	if got := rec.end(&Stats{Type: "stats", Events: uint64(events)}); got.Err != nil || got.Events != uint64(events) {
		t.Fatalf("recorded %+v", got)
	}
	return events, verdicts
}

// vary makes the event one of the i-th connection.
func vary(e *wire.Event, i int) {
	e.Time += uint64(i) * uint64(time.Millisecond)
	e.Seq += uint32(i) * 7919
	e.IPID += uint16(i)
	for _, p := range []*uint64{&e.Skb, &e.Head, &e.Sock, &e.CT} {
		if *p != 0 {
			*p += uint64(i%997) << 8
		}
	}
	client := netip.MustParseAddr("192.0.2.2")
	for _, ap := range []*netip.AddrPort{&e.Tuple.Src, &e.Tuple.Dst, &e.CTOrig.Src, &e.CTOrig.Dst, &e.CTReply.Src, &e.CTReply.Dst} {
		if ap.Addr() == client {
			*ap = netip.AddrPortFrom(client, uint16(10000+i%50000))
		}
	}
}

// TestReplayMany: many connections over several parts, with the same verdicts in the same order.
func TestReplayMany(t *testing.T) {
	var parts []*bytes.Buffer
	open := func(int) (io.WriteCloser, error) {
		parts = append(parts, &bytes.Buffer{})
		return nopFile{parts[len(parts)-1]}, nil
	}
	const connections = 1500
	events, want := madeUp(t, open, connections, 20_000)
	if len(parts) < 3 || len(want) != connections {
		t.Fatalf("%d parts, %d verdicts", len(parts), len(want))
	}
	replayed := func() (inputs []Input) {
		for i, p := range parts {
			inputs = append(inputs, Input{fmt.Sprint("part ", i), bytes.NewReader(p.Bytes())})
		}
		return inputs
	}
	var got []path.Verdict
	result, err := Replay(t.Context(), ReplayConfig{
		OnFlow: func(f Flow) { got = append(got, f.Verdict) }, OnNote: func(s string) { t.Error(s) },
	}, replayed()...)
	labtest.Must(t, err)
	if !reflect.DeepEqual(got, want) || result.Stats.Events != uint64(events) {
		t.Errorf("%d verdicts, want %d; %d events, want %d", len(got), len(want), result.Stats.Events, events)
	}
	lent := 0
	_, err = Replay(t.Context(), ReplayConfig{LendsFlows: true, OnFlow: func(f Flow) {
		if !reflect.DeepEqual(f.Verdict, want[lent]) || len(f.Path.Packets) == 0 || f.Path.Packets[0].Hops[0].Namespace == "" {
			t.Fatalf("lent flow %d: %+v", lent, f.Verdict)
		}
		lent++
	}}, replayed()...)
	if labtest.Must(t, err); lent != connections {
		t.Errorf("%d flows are lent", lent)
	}
	// A part alone has what it needs, but for the flows that began before it.
	n := 0
	_, err = Replay(t.Context(), ReplayConfig{OnFlow: func(f Flow) {
		if n++; f.Path.Packets[0].Hops[0].Namespace == "" || f.Verdict.Outcome != path.Delivered {
			t.Errorf("in part 1: %+v", f.Verdict)
		}
	}}, Input{"part 1", bytes.NewReader(parts[1].Bytes())})
	if labtest.Must(t, err); n < 10 {
		t.Errorf("%d flows in part 1", n)
	}
}

// TestReplayDamaged: whatever is wrong with a recording, it is one error or what can be said, and no
// more memory than of a good one.
func TestReplayDamaged(t *testing.T) {
	var raw bytes.Buffer
	madeUp(t, func(int) (io.WriteCloser, error) { return nopFile{&raw}, nil }, 40, 0)
	for i := 0; i < raw.Len(); i += 97 {
		cut, bad := raw.Bytes()[:i], bytes.Clone(raw.Bytes())
		bad[i] ^= 0x55
		for _, b := range [][]byte{cut, bad} {
			_, err := Replay(t.Context(), ReplayConfig{}, Input{"x", bytes.NewReader(b)})
			var wrong *RecordingError
			if err != nil && !errors.As(err, &wrong) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	var raw bytes.Buffer
	events, _ := madeUp(b, func(int) (io.WriteCloser, error) { return nopFile{&raw}, nil }, 20_000, 0)
	b.ReportAllocs()
	before := cpuTime()
	for b.Loop() {
		flows := 0
		result, err := Replay(b.Context(), ReplayConfig{OnFlow: func(Flow) { flows++ }}, Input{"x", bytes.NewReader(raw.Bytes())})
		if err != nil || flows != 20_000 {
			b.Fatal(flows, result, err)
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(events)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(events)*float64(b.N)/time.Duration(cpuTime()-before).Seconds(), "events/CPU-s")
	b.ReportMetric(float64(raw.Len())/float64(events), "bytes/event")
	b.ReportMetric(float64(events)/20_000, "events/flow")
	b.ReportMetric(float64(m.HeapSys)/(1<<20), "MB")
}

// FuzzReplay replays recordings that are well formed and hold anything: whatever was altered with the right
// checksums. Nothing panics, and the memory is bounded.
func FuzzReplay(f *testing.F) {
	var raw bytes.Buffer
	madeUp(f, func(int) (io.WriteCloser, error) { return nopFile{&raw}, nil }, 3, 0)
	r, err := recording.NewReader(bytes.NewReader(raw.Bytes()))
	labtest.Must(f, err)
	var script bytes.Buffer
	for {
		kind, err := r.Next()
		if err != nil {
			break
		}
		switch kind {
		case recording.KindEvent:
			fmt.Fprintf(&script, "E%s\n", r.Event().AppendText(nil))
		case recording.KindRecord:
			fmt.Fprintf(&script, "R%s %s\n", r.Record().Type, r.Record().JSON)
		}
	}
	f.Add(script.Bytes())
	f.Add([]byte("Rsession {}\nRrules {\"number\":1}\nRflow {\"facts\":{\"base\":-1}}\nRvalue {\"id\":0,\"value\":[]}\n"))
	f.Add([]byte("Rdoctor {\"hosts\":[{\"netns\":1,\"Containers\":[{}],\"inodes\":[2]}],\"spaces\":[{\"Inode\":1,\"reading\":3},{\"Inode\":2}]}\n"))
	f.Add([]byte("Rdoctor {\"found\":{\"findings\":[{\"check\":\"x\"}]}}\nRdoctor {\"hosts\":[{\"Containers\":[null],\"inodes\":[0]}]}\n"))
	f.Add([]byte("Rsession {\"sized\":true}\nRmtu {\"directions\":[{\"end\":{},\"links\":[{}]}],\"spaces\":{\"1\":{}}}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		w, err := recording.NewWriter(&out, recording.NewHeader("fuzz"))
		labtest.Must(t, err)
		for line := range bytes.Lines(b) {
			line = bytes.TrimSuffix(line, []byte("\n"))
			switch {
			case bytes.HasPrefix(line, []byte("E")):
				for e, err := range wire.ReadText(bytes.NewReader(line[1:])) {
					if err == nil {
						w.Event(&e)
					}
				}
			case bytes.HasPrefix(line, []byte("R")):
				typ, text, _ := strings.Cut(string(line[1:]), " ")
				_ = w.Record(typ, json.RawMessage(text), []byte(typ+text)) // what is no JSON is refused
			case bytes.HasPrefix(line, []byte("T")):
				w.Tick(uint64(len(line)) << 30)
			}
		}
		labtest.Must(t, w.Close())
		var wrong *RecordingError
		if _, err := Replay(t.Context(), ReplayConfig{}, Input{"x", bytes.NewReader(out.Bytes())}); err != nil && !errors.As(err, &wrong) {
			t.Error(err)
		}
		if _, err := ReplayDoctor(t.Context(), Input{"x", bytes.NewReader(out.Bytes())}); !errors.As(err, &wrong) && err != nil {
			t.Error(err)
		}
		if _, err := ReplayMTU(t.Context(), ReplayConfig{}, 0, Input{"x", bytes.NewReader(out.Bytes())}); !errors.As(err, &wrong) && err != nil {
			t.Error(err)
		}
		if err := Redact(t.Context(), []byte("k"), Input{"x", bytes.NewReader(out.Bytes())}, io.Discard); err != nil && !errors.As(err, &wrong) {
			t.Error(err)
		}
	})
}
