package render

import (
	"fmt"
	"strconv"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// MTUWatch writes what live traffic showed of sizes: the places where packets were too big or left as
// fragments, and the verdict.
func MTUWatch(o Options, w path.MTUWatch, v path.Verdict) error {
	out := newPrinter(o)
	out.line(span{fmt.Sprintf("%s in %.0f s; %d too big, %s", path.FormatCount(w.Packets, "packet"), w.Seconds, w.TooBig,
		path.FormatCount(w.Fragments, "fragment")), bold})
	if len(w.Places) > 0 {
		out.line(span{"  packets  too big  fragments    MTU  where", dim})
	}
	for i := range w.Places {
		p := &w.Places[i]
		in := p.Namespace
		if p.Container != "" {
			in = "container " + p.Container
		}
		text := fmt.Sprintf("  %7d  %7d  %9d  %5d  %s in %s", p.Packets, p.TooBig, p.Fragments, p.MTU, p.Device, in)
		if p.Function != "" {
			text += fmt.Sprintf(" (%s, from %d bytes on)", p.Function, p.Smallest)
		}
		st := yellow
		if p.TooBig > 0 {
			st = red
		}
		out.line(span{text, st})
	}
	out.line()
	writeVerdict(out, v)
	if v.Cause != "" {
		labelled(out, "more:", cyan, "docs/causes/"+string(v.Cause)+".md")
	}
	return out.flush()
}

// writeLiveSizes says in a line what live traffic showed before a measurement.
func writeLiveSizes(out *printer, w *path.MTUWatch) {
	text := fmt.Sprintf("live traffic, %.1f s before: ", w.Seconds)
	if w.Packets == 0 {
		out.paragraph(text+"none", dim)
		return
	}
	tooBig, fragments := "none", "no fragment"
	if w.TooBig > 0 {
		tooBig = strconv.FormatUint(w.TooBig, 10)
	}
	if w.Fragments > 0 {
		fragments = path.FormatCount(w.Fragments, "fragment")
	}
	out.paragraph(text+path.FormatCount(w.Packets, "packet")+", "+tooBig+" dropped for the size, "+fragments, dim)
}
