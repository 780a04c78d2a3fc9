package tracer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestReplayLatency compares recordings of before and after a change: rules in the bridge's FORWARD hook
// that every packet has to pass.
func TestReplayLatency(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	serveKept(t, d.Client) // app reaches it through the router, which filters
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); talk(ctx, d.App, netip.AddrPortFrom(d.ClientAddr, 81)) }()
	t.Cleanup(func() { cancel(); <-done })
	const rules = 1500 // enough to outweigh a machine that became faster meanwhile
	before := record(t, d.Lab, "client:"+keptPort)
	shell(t, d.Router, fmt.Sprintf("{ echo 'table ip more { chain forward { type filter hook forward priority 1; }; }';"+
		" for i in $(seq %d); do echo add rule ip more forward tcp dport $((i + 20000)) drop; done; } | nft -f -", rules))
	after := record(t, d.Lab, "client:"+keptPort)
	input := func(name string, b []byte) tracer.LatencyReplay {
		return tracer.LatencyReplay{Name: name, Parts: []tracer.Input{{Name: name, Reader: bytes.NewReader(b)}}}
	}
	r, err := tracer.ReplayLatency(t.Context(), tracer.ReplayConfig{}, "p50", input("before", before), input("after", after))
	labtest.Must(t, err)
	for _, target := range r.Targets {
		if target.Report.RoundTrip.Count < 100 || len(target.Segments) < 10 {
			t.Errorf("%s: %+v", target.Report.Target, target.Report)
		}
		checkSegments(t, target.Segments, []string{"request routing router", "application", "reply routing router"})
	}
	if len(r.Comparisons) != 1 {
		t.Fatal("no comparison")
	}
	c := r.Comparisons[0]
	t.Log(c.Summary)
	for _, k := range c.Kinds {
		if k.Kind == path.SegmentNetfilter && k.Difference.Low <= 0 {
			t.Errorf("netfilter: %+v, want more with %d rules", k, rules)
		}
	}
	var bad tracer.ReplayConfig
	if _, err := tracer.ReplayLatency(t.Context(), bad, "p50", tracer.LatencyReplay{Name: "x", Parts: []tracer.Input{{Name: "x",
		Reader: strings.NewReader("no recording")}}}); err == nil {
		t.Error("what is no recording was replayed")
	}
}

// record records live traffic for a while, until there is enough of it.
func record(t *testing.T, l *lab.Lab, to string) []byte {
	t.Helper()
	var out recorded
	w := watch(t, l, to, func(cfg *tracer.Config) {
		cfg.AllPackets, cfg.Duration = true, labtest.Patience(1500*time.Millisecond)
		cfg.Record = &tracer.RecordConfig{Open: func(int) (io.WriteCloser, error) { return &out, nil }}
	})
	w.wait(t)
	return out.Bytes()
}
