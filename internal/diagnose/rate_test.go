package diagnose_test

import (
	"os"
	"runtime"
	"testing"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/flow/flowtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func delivered(t testing.TB) *flowtest.Script {
	t.Helper()
	f, err := os.Open("../flow/testdata/tcp_delivered.events")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := flowtest.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// analyse follows and judges n connections, and returns how many were delivered. Their paths are given
// back, if recycles is set.
func analyse(s *flowtest.Script, n int, recycles bool, each func(n int)) (good int) {
	done := 0
	var tracker *flow.Tracker
	tracker = flow.New(flow.Config{IsTarget: s.IsTarget, Namer: s, Recycles: recycles, OnDone: func(p *path.Path) {
		if diagnose.Explain(p, nil).Outcome == path.Delivered {
			good++
		}
		tracker.Recycle(p)
		if done++; each != nil {
			each(done)
		}
	}})
	for e := range s.Connections(n) {
		tracker.Add(e)
	}
	tracker.Flush()
	return good
}

// What following and judging a connection may allocate per event: it was 0.81 objects and 872 bytes, of
// which the hops that are handed out are all but 110. Unlike times, these do not depend on the machine.
const (
	maxAllocations   = 0.95
	maxBytes         = 940
	maxBytesRecycled = 150
	// maxLive is what may be in use on the heap however many connections there were, bytes.
	maxLive = 64 << 20
)

// TestRate: every connection is followed to its end, what an event allocates is bounded, and what is in
// use does not grow with the number of connections.
func TestRate(t *testing.T) {
	t.Run("kept", func(t *testing.T) { testRate(t, 5000, false, maxBytes) })
	t.Run("recycled", func(t *testing.T) { testRate(t, 10000, true, maxBytesRecycled) })
}

func testRate(t *testing.T, n int, recycles bool, maxBytes float64) {
	const warm = 2000
	s := delivered(t)
	if got := analyse(s, warm, recycles, nil); got != warm {
		t.Fatalf("%d of %d connections were delivered", got, warm)
	}
	var before, after, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var live uint64
	if got := analyse(s, n, recycles, func(done int) {
		if done%(n/4) == 0 {
			runtime.GC()
			runtime.ReadMemStats(&now)
			live = max(live, now.HeapAlloc)
		}
	}); got != n {
		t.Errorf("%d of %d connections were delivered", got, n)
	}
	runtime.ReadMemStats(&after)
	events := float64(n * s.Len())
	objects, bytes := float64(after.Mallocs-before.Mallocs)/events, float64(after.TotalAlloc-before.TotalAlloc)/events
	t.Logf("an event allocates %.2f objects, %.0f bytes; in use %d MB at most", objects, bytes, live>>20)
	if !raced && (objects > maxAllocations || bytes > maxBytes) {
		t.Errorf("an event allocates %.2f objects, %.0f bytes, want at most %v and %v", objects, bytes, maxAllocations, maxBytes)
	}
	if live > maxLive {
		t.Errorf("%d MB in use, want at most %d", live>>20, maxLive>>20)
	}
}

// BenchmarkAnalysis follows and judges connections; an operation is one event.
func BenchmarkAnalysis(b *testing.B) {
	s := delivered(b)
	b.ReportAllocs()
	analyse(s, b.N/s.Len()+1, true, nil)
}
