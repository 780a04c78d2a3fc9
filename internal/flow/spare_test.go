package flow

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/pathtrace/pathtrace/internal/flow/flowtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// copied is a path whose packets are its own.
func copied(p *path.Path) *path.Path {
	out := *p
	out.Packets = nil
	for _, packet := range p.Packets {
		q := *packet
		q.Hops = append([]path.Hop(nil), packet.Hops...)
		out.Packets = append(out.Packets, &q)
	}
	return &out
}

// pathsOf follows connections that go on together.
func pathsOf(t *testing.T, file string, cfg Config, done func(*Tracker, *path.Path)) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := flowtest.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	var tr *Tracker
	cfg.Namer, cfg.IsTarget = s, s.IsTarget
	cfg.OnDone = func(p *path.Path) { done(tr, p) }
	tr = New(cfg)
	for e := range s.Connections(24) {
		tr.Add(e)
	}
	tr.Flush()
}

// TestRecycle: paths whose memory others had before are as those in memory of their own, also if some
// are kept for a while.
func TestRecycle(t *testing.T) {
	files, err := filepath.Glob("testdata/*.events")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		var want, got, kept []*path.Path
		pathsOf(t, file, Config{}, func(tr *Tracker, p *path.Path) {
			tr.Recycle(p)
			want = append(want, p)
		})
		pathsOf(t, file, Config{Recycles: true}, func(tr *Tracker, p *path.Path) {
			got = append(got, copied(p))
			if kept = append(kept, p); len(kept) > 5 {
				tr.Recycle(kept[0])
				kept = kept[1:]
			}
			if len(tr.spare.packets) > maxSpare {
				t.Errorf("%d packets are kept", len(tr.spare.packets))
			}
		})
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %d paths differ from %d", file, len(got), len(want))
		}
	}
}
