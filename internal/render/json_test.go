package render

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// writeCounter counts writes and flushes.
type writeCounter struct {
	bytes.Buffer
	writes, flushes int
}

func (w *writeCounter) Write(b []byte) (int, error) {
	w.writes++
	return w.Buffer.Write(b)
}

func (w *writeCounter) Flush() error {
	w.flushes++
	return nil
}

func TestJSONIsValid(t *testing.T) {
	s := compileSchema(t)
	var w writeCounter
	j := NewJSON(&w)
	must(t, j.Meta(path.Meta{Version: "1.0", Kernel: "6.18.0", Target: "web:80", Started: "2025-03-04T12:00:00.123456789Z"}))
	want, hops := []string{"meta"}, 0 // those of a path are written at once
	for _, c := range flowCases() {
		p, v := c.make()
		must(t, j.Path(p, true))
		if p != nil {
			for _, pkt := range p.Packets {
				want = append(want, slices.Repeat([]string{"hop"}, len(pkt.Hops))...)
				hops += len(pkt.Hops)
			}
			hops--
		}
		must(t, j.Verdict(v))
		want = append(want, "verdict")
	}
	must(t, j.Hook(HookRow{Name: "kfree_skb", Kind: "tp_btf", Attached: true, Status: "attached"}))
	want = append(want, "hook")
	for _, f := range findingCases() {
		must(t, j.Finding(f))
		want = append(want, "finding")
	}
	must(t, j.Stats(path.Stats{
		Flows: map[path.Outcome]int{path.Dropped: 2}, Lost: map[string]uint64{"kfree_skb": 1},
		Findings: map[path.Severity]int{path.SeverityError: 1},
	}))
	want = append(want, "stats")
	if got := validateLines(t, s, w.Bytes()); !slices.Equal(got, want) {
		t.Errorf("types = %q, want %q", got, want)
	}
	if writes := len(want) - hops; w.writes != writes || w.flushes != writes {
		t.Errorf("%d writes and %d flushes for %d objects, want %d", w.writes, w.flushes, len(want), writes)
	}
	if text := w.String(); !strings.Contains(text, "→") && strings.Contains(text, `\u003e`) {
		t.Error("characters of HTML are escaped")
	}
}

// TestJSONFlow: a flow is its path and its verdict, in one piece.
func TestJSONFlow(t *testing.T) {
	for _, c := range flowCases() {
		p, v := c.make()
		var parts, whole writeCounter
		must(t, NewJSON(&parts).Path(p, false))
		must(t, NewJSON(&parts).Verdict(v))
		must(t, NewJSON(&whole).Flow(p, false, v))
		if whole.String() != parts.String() {
			t.Errorf("%s: got  %swant %s", c.name, &whole, &parts)
		}
		if whole.writes != 1 || whole.flushes != 1 {
			t.Errorf("%s: %d writes and %d flushes, want one", c.name, whole.writes, whole.flushes)
		}
	}
}

func TestJSONPathSelects(t *testing.T) {
	p, _ := sameBridge()
	p.Packets[0].Hops[3].Noise = true
	count := func(all bool) int {
		var buf bytes.Buffer
		must(t, NewJSON(&buf).Path(p, all))
		return bytes.Count(buf.Bytes(), []byte("\n"))
	}
	all, selected, lastPacket := count(true), count(false), len(p.Packets[5].Hops)
	if want := all - lastPacket - 1; selected != want {
		t.Errorf("%d hops selected, want %d: all but the last packet and the noise", selected, want)
	}
}

func TestJSONConcurrent(t *testing.T) {
	s := compileSchema(t)
	var buf bytes.Buffer
	j := NewJSON(&buf)
	var wg sync.WaitGroup
	for flow := range 8 {
		wg.Go(func() {
			for range 50 {
				if err := j.Verdict(path.Verdict{Flow: flow, Outcome: path.Lost, Summary: strings.Repeat("x", 200)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(validateLines(t, s, buf.Bytes())); got != 400 {
		t.Errorf("%d lines, want 400", got)
	}
}

// failingWriter fails after some writes.
type failingWriter struct{ left, writes int }

var errBroken = errors.New("broken pipe")

func (w *failingWriter) Write(b []byte) (int, error) {
	w.writes++
	if w.left--; w.left < 0 {
		return 0, errBroken
	}
	return len(b), nil
}

func TestJSONErrorSticks(t *testing.T) {
	w := &failingWriter{left: 1}
	j := NewJSON(w)
	must(t, j.Stats(path.Stats{}))
	for range 2 {
		if err := j.Stats(path.Stats{}); !errors.Is(err, errBroken) {
			t.Errorf("error = %v, want %v", err, errBroken)
		}
	}
	if w.writes != 2 {
		t.Errorf("%d writes, want 2: none after the error", w.writes)
	}
}
