//go:build e2e && bench

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/flow/flowtest"
	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// wantedAnalysis is how many recorded events per second one processor has to follow and judge.
const wantedAnalysis = 1.5e6

// benchAnalysis measures how fast a recording is read, followed and judged, by the processor time of all
// of it, and that ten times as much takes ten times as long and no more memory.
func benchAnalysis(t *testing.T, b *bench) {
	f, err := os.Open("../flow/testdata/tcp_delivered.events")
	check(t, err)
	s, err := flowtest.Read(f)
	check(t, err)
	check(t, f.Close())
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // as pathtrace itself does (cmd/pathtrace/main.go)
	small := b.pick(200_000, 1_000_000) / s.Len()
	var few, many analysis
	for range 3 {
		few = better(few, analyse(t, s, small))
	}
	many = analyse(t, s, 10*small)
	b.report.atLeast("replay and analysis, one core, million events/s", few.rate()/1e6, wantedAnalysis/1e6, "%.2f",
		fmt.Sprintf("%.0f ns an event, of them reading %.0f", float64(few.took)/float64(few.events), float64(few.reading)/float64(few.events)))
	b.report.atLeast("the same with ten times the events, relative", many.rate()/few.rate(), 0.85, "%.2f",
		fmt.Sprintf("%.1f million events", float64(many.events)/1e6))
	b.report.atMost("its memory in use, ten times the events", many.live, 100, "%.0f MB", fmt.Sprintf("%.0f MB before", few.live))
}

// analysis is what one took: processor time, and memory of the heap in MB.
type analysis struct {
	events        int
	took, reading time.Duration
	live          float64
}

func (a analysis) rate() float64 { return float64(a.events) / a.took.Seconds() }

func better(a, b analysis) analysis {
	if a.events == 0 || b.took < a.took {
		return b
	}
	return a
}

// analyse records n connections, then reads, follows and judges them.
func analyse(t *testing.T, s *flowtest.Script, n int) analysis {
	t.Helper()
	file := filepath.Join(t.TempDir(), "connections")
	record(t, s, n, file)
	var out analysis
	start := used(t)
	replay(t, file, func(*recording.Reader) {})
	out.reading = used(t) - start
	delivered, apart := 0, time.Duration(0)
	var tracker *flow.Tracker
	tracker = flow.New(flow.Config{IsTarget: s.IsTarget, Namer: s, Recycles: true, OnDone: func(p *path.Path) {
		if diagnose.Explain(p, nil).Outcome == path.Delivered {
			delivered++
		}
		tracker.Recycle(p) // as pathtrace replay does
		if delivered%(n/8) == 0 {
			pause := used(t)
			runtime.GC() // else what is garbage since the last collection began counts too
			out.live = max(out.live, inUse())
			apart += used(t) - pause
		}
	}})
	start = used(t)
	replay(t, file, func(r *recording.Reader) {
		out.events++
		tracker.Add(r.Event())
	})
	tracker.Flush()
	out.took = used(t) - start - apart
	if delivered != n {
		t.Errorf("%d of %d connections were delivered", delivered, n)
	}
	return out
}

func record(t *testing.T, s *flowtest.Script, n int, file string) {
	t.Helper()
	f, err := os.Create(file)
	check(t, err)
	buffered := bufio.NewWriter(f)
	w, err := recording.NewWriter(buffered, recording.NewHeader("bench"))
	check(t, err)
	for e := range s.Connections(n) {
		w.Event(e)
	}
	check(t, w.Close())
	check(t, errors.Join(buffered.Flush(), f.Close()))
}

func replay(t *testing.T, file string, each func(*recording.Reader)) {
	t.Helper()
	f, err := os.Open(file)
	check(t, err)
	defer f.Close()
	r, err := recording.NewReader(f)
	check(t, err)
	defer r.Close()
	for {
		kind, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		check(t, err)
		if kind == recording.KindEvent {
			each(r)
		}
	}
}

// used is the processor time of this process.
func used(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	check(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// inUse is what the last collection found in use on the heap, in MB.
func inUse() float64 {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return float64(live[0].Value.Uint64()) / 1e6
}
