package render

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// JSON writes JSON Lines: one object per line, one Write per object or, of a Path and of a Flow, for all
// objects, each flushed if the writer has a method Flush() error. It may be used by several goroutines.
// After an error every further call returns that error and writes nothing, so a broken pipe is noticed once.
type JSON struct {
	mu    sync.Mutex
	w     io.Writer
	err   error
	lines lines         // those to be written
	enc   *json.Encoder // to lines
}

// maxLines is how many bytes are kept to be used again: a flow has some 30 kB.
const maxLines = 1 << 20

// NewJSON returns a JSON that writes to w.
func NewJSON(w io.Writer) *JSON {
	j := &JSON{w: w}
	j.enc = encoder(&j.lines)
	return j
}

// Meta writes the description of the trace; it belongs first. Type and Schema are filled in.
func (j *JSON) Meta(m path.Meta) error {
	m.Type, m.Schema = "meta", path.Schema
	if m.Hooks == nil {
		m.Hooks = []string{}
	}
	return j.write(m.Type, m)
}

// Path writes the hops of a flow's packets: those that Packets selects. Drops that every healthy
// flow has (path.Hop.Noise) are left out unless all is set.
func (j *JSON) Path(p *path.Path, all bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.addPath(p, all)
	return j.send("hop")
}

// Flow is Path and Verdict with one Write: whoever reads a pipe is woken once for each.
func (j *JSON) Flow(p *path.Path, all bool, v path.Verdict) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.addPath(p, all)
	j.lines = appendVerdict(j.lines, &v)
	return j.send("verdict")
}

func (j *JSON) addPath(p *path.Path, all bool) {
	var hops hopLines
	for _, pkt := range shownPackets(p, all) {
		for i := range pkt.Hops {
			if h := &pkt.Hops[i]; !h.Noise || all {
				j.lines = hops.append(j.lines, h)
			}
		}
	}
}

// Verdict writes the conclusion about one flow. Type is filled in.
func (j *JSON) Verdict(v path.Verdict) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = appendVerdict(j.lines, &v)
	return j.send("verdict")
}

// Finding writes one thing that doctor found. Type is filled in.
func (j *JSON) Finding(f path.Finding) error {
	f.Type = "finding"
	return j.write(f.Type, f)
}

// Latency writes what was measured of one target, and each segment of the way. Types are filled in.
func (j *JSON) Latency(r path.LatencyReport, segments []path.Segment) error {
	r.Type = "latency"
	if r.Kinds == nil {
		r.Kinds = []path.KindShare{}
	}
	if err := j.write(r.Type, r); err != nil {
		return err
	}
	for _, s := range segments {
		s.Type = "segment"
		if err := j.write(s.Type, s); err != nil {
			return err
		}
	}
	return nil
}

// Comparison writes how two targets differ. Type is filled in.
func (j *JSON) Comparison(c path.Comparison) error {
	c.Type = "comparison"
	return j.write(c.Type, c)
}

// MTU writes what one direction of a path carries. Type is filled in.
func (j *JSON) MTU(m path.MTU) error {
	m.Type = "mtu"
	if m.Links == nil {
		m.Links = []path.MTULink{}
	}
	return j.write(m.Type, m)
}

// MTUWatch writes what live traffic showed of sizes. Type is filled in.
func (j *JSON) MTUWatch(w path.MTUWatch) error {
	w.Type = "mtu_watch"
	if w.Places == nil {
		w.Places = []path.MTUWatchPlace{}
	}
	return j.write(w.Type, w)
}

// Stats writes what the trace cost and lost; it belongs last. Type is filled in.
func (j *JSON) Stats(s path.Stats) error {
	s.Type = "stats"
	if s.Hooks == nil {
		s.Hooks = map[string]uint64{}
	}
	return j.write(s.Type, s)
}

// Hook writes one row of the table of hooks. Type is filled in.
func (j *JSON) Hook(r HookRow) error {
	r.Type = "hook"
	return j.write(r.Type, r)
}

// Limit writes what is missing beside hooks. Type is filled in.
func (j *JSON) Limit(l LimitRow) error {
	l.Type = "limit"
	return j.write(l.Type, l)
}

// write encodes v as one line.
func (j *JSON) write(kind string, v any) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.enc.Encode(v); err != nil {
		return fmt.Errorf("encode %s: %w", kind, err)
	}
	return j.send(kind)
}

// send writes the lines there are; mu is held.
func (j *JSON) send(kind string) error {
	text := j.lines
	if j.lines = text[:0]; cap(text) > maxLines {
		j.lines = nil
	}
	if j.err != nil || len(text) == 0 {
		return j.err
	}
	if _, err := j.w.Write(text); err != nil {
		j.err = fmt.Errorf("write %s: %w", kind, err)
		return j.err
	}
	if f, ok := j.w.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			j.err = fmt.Errorf("flush %s: %w", kind, err)
		}
	}
	return j.err
}
