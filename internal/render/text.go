package render

import "github.com/pathtrace/pathtrace/tracer/path"

// Text writes flows for people: the path step by step, then the verdict.
type Text struct{ o Options }

// NewText returns a Text. It is not safe for concurrent use.
func NewText(o Options) *Text { return &Text{o: o} }

// Flow writes one flow. p may be nil if nothing of it was seen.
func (t *Text) Flow(p *path.Path, v path.Verdict) error { return nil }

// Stats writes what the whole trace lost, skipped and warns of; nothing if there is nothing to say.
// With Verbose it adds the observations per hook and the cost.
func (t *Text) Stats(s path.Stats) error { return nil }
