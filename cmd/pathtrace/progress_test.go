package main

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// sharedBuffer is a buffer that may be read while it is written.
type sharedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *sharedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestProgress: a line elsewhere than on a terminal; on one a line that gives way to what is written.
func TestProgress(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		var out sharedBuffer
		p := &progress{w: &out, terminal: terminal, status: func() string { return "3 of 10\x1b[31m " + strings.Repeat("x", 200) },
			stop: make(chan struct{}), done: make(chan struct{})}
		go p.run(0)
		for limit := time.Now().Add(30 * time.Second); !strings.Contains(out.String(), "3 of 10"); {
			if time.Now().After(limit) {
				t.Fatalf("terminal %v: nothing is said: %q", terminal, out.String())
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := p.Write([]byte("a note\n")); err != nil {
			t.Fatal(err)
		}
		p.close()
		p.close()
		got := out.String()
		wantBefore := "pathtrace: 3 of 10"
		if !strings.HasPrefix(got, wantBefore) || strings.Contains(got, "\x1b[31m") {
			t.Errorf("terminal %v: got %q, want it to begin with %q and no colour of others", terminal, got, wantBefore)
		}
		if cleared := strings.Contains(got, "\r\x1b[Ka note\n"); cleared != terminal {
			t.Errorf("terminal %v: the line gives way to the note: %v in %q", terminal, cleared, got)
		}
		if line, _, _ := strings.Cut(got, "\r"); terminal && len([]rune(line)) > 99 {
			t.Errorf("%d columns, want 99", len([]rune(line)))
		}
	}
}

// TestProgressNothing: what is over soon says nothing.
func TestProgressNothing(t *testing.T) {
	var out bytes.Buffer
	newProgress(&out, func() string { return "too early" }).close()
	if out.Len() != 0 {
		t.Errorf("got %q", out.String())
	}
}

// TestTell: what is going on is told until the trace has started, or there is something to show.
func TestTell(t *testing.T) {
	ended := func(o *output) bool {
		select {
		case <-o.telling.done:
			return true
		default:
			return false
		}
	}
	var out sharedBuffer
	o := &output{notes: &out, json: render.NewJSON(&out)}
	started := false
	cfg := tracer.Config{OnStart: func(tracer.Meta) { started = ended(o) }}
	end := o.tellStart(&cfg, "attaching")
	if ended(o) {
		t.Error("it ended at once")
	}
	if cfg.OnStart(tracer.Meta{}); !started {
		t.Error("it is still told when the trace has started")
	}
	end()
	o.notes = &out
	end = o.tell("reading")
	defer end()
	if o.flow(tracer.Flow{Path: &path.Path{}}); !ended(o) {
		t.Error("it is still told when there is something to show")
	}
}
