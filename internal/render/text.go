package render

import (
	"maps"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Widths of the columns of steps.
const (
	stepIndent = 4
	// offsetWidth fits "+999.999 ms" and "+9.999999 s"; longer ones push the line.
	offsetWidth = 11
	// maxDevice is the longest name of a device (IFNAMSIZ - 1).
	maxDevice = 15
	// labelWidth fits "because".
	labelWidth = 7
)

// Text writes flows for people: the path step by step, then the verdict.
type Text struct{ o Options }

// NewText returns a Text. It is not safe for concurrent use.
func NewText(o Options) *Text { return &Text{o: o} }

// midstreamText says why a flow has no beginning.
const midstreamText = "this flow existed before the trace began"

// Flow writes one flow: its ends, its path, the verdict. p may be nil if nothing of it was seen.
func (t *Text) Flow(p *path.Path, v path.Verdict) error {
	out := newPrinter(t.o)
	writeTitle(out, p, v)
	if p != nil && len(p.Packets) > 0 {
		out.line()
		if p.Midstream {
			out.paragraph(midstreamText, dim)
		}
		if t.o.Verbose {
			writeHops(out, p, t.o.AllPackets)
		} else {
			writeGroups(out, steps(p, t.o.AllPackets))
		}
		writeRules(out, p, t.o.AllPackets)
	}
	out.line()
	writeVerdict(out, v)
	writeLosses(out, p, v)
	if v.Cause != "" {
		labelled(out, "more:", cyan, "docs/causes/"+string(v.Cause)+".md")
	}
	return out.flush()
}

// writeGroups writes the steps of a flow.
func writeGroups(out *printer, groups []group) {
	device := 0
	for _, g := range groups {
		for _, s := range g.Steps {
			device = max(device, columns(s.Device))
		}
	}
	device = min(device, maxDevice)
	section, where := "", ""
	for i, g := range groups {
		if i == 0 || g.Section != section {
			out.line(span{g.Section, bold})
			where = ""
		}
		section = g.Section
		if g.Where != "" && g.Where != where {
			out.line(span{"  " + shorten(g.Where, out.width-2), cyan})
		}
		where = g.Where
		for _, s := range g.Steps {
			writeStep(out, g, s, device)
		}
	}
}

// writeStep writes one step; device is the width of the column of devices.
func writeStep(out *printer, g group, s step, device int) {
	prefix := []span{
		{strings.Repeat(" ", stepIndent), plain},
		{pad(offset(s.OffsetNS), offsetWidth) + "  ", dim},
	}
	if g.Where != "" && device > 0 {
		prefix = append(prefix, span{pad(shorten(s.Device, device), device) + "  ", plain})
	}
	text := s.Text
	if s.Note != "" {
		room := out.width
		for _, p := range prefix {
			room -= columns(p.text)
		}
		if noted := text + " (" + s.Note + ")"; columns(noted) <= room {
			text = noted
		}
	}
	out.paragraph(text, stepStyle(s.Kind), prefix...)
}

// stepStyle returns the colour of a kind of step.
func stepStyle(k stepKind) style {
	switch k {
	case stepNAT:
		return cyan
	case stepDeliver:
		return green
	case stepRefuse:
		return yellow
	case stepDrop:
		return red
	}
	return plain
}

// writeVerdict writes the sentence, the rule, the evidence, the remedy and the warnings.
func writeVerdict(out *printer, v path.Verdict) {
	word, text := verdictText(v)
	if word != "" {
		text = word + ": " + text
	}
	out.paragraph(text, outcomeStyle(v.Outcome))
	if l := latencyText(v); l != "" {
		labelled(out, "took", plain, l)
	}
	if w := v.Where; w != nil && w.Rule != nil {
		labelled(out, "rule:", plain, ruleText(w.Rule))
	}
	for _, e := range v.Evidence {
		labelled(out, "because", plain, e)
	}
	for _, r := range v.Remedy {
		out.remedy(r, label("do:"))
	}
	for _, w := range v.Warnings {
		labelled(out, "warning", yellow, string(w.Cause)+": "+w.Summary)
	}
}

// verdictText returns the outcome as words, and the sentence without them.
func verdictText(v path.Verdict) (word, text string) {
	word = strings.ReplaceAll(string(v.Outcome), "-", " ")
	text = strings.TrimSpace(v.Summary)
	if rest, ok := cutPrefixFold(text, word); ok {
		text = strings.TrimSpace(strings.TrimPrefix(rest, ":"))
	}
	return word, text
}

// labelled writes a paragraph behind a label.
func labelled(out *printer, name string, st style, text string) {
	out.paragraph(text, st, label(name))
}

// label is the column in front of a paragraph.
func label(name string) span { return span{"  " + pad(name, labelWidth) + "  ", dim} }

// cutPrefixFold is strings.CutPrefix for a whole word in any case, hyphens being spaces.
func cutPrefixFold(s, prefix string) (rest string, ok bool) {
	if prefix == "" || len(s) <= len(prefix) {
		return s, false
	}
	head := strings.ReplaceAll(s[:len(prefix)], "-", " ")
	if !strings.EqualFold(head, prefix) || s[len(prefix)] != ':' {
		return s, false
	}
	return s[len(prefix):], true
}

// outcomeStyle returns the colour of an outcome.
func outcomeStyle(o path.Outcome) style {
	switch o {
	case path.Delivered:
		return green
	case path.Refused, path.NoTraffic:
		return yellow
	}
	return red
}

// latencyText says how long a flow took, as far as its sentence does not.
func latencyText(v path.Verdict) string {
	l := v.LatencyNS
	if l == nil {
		return ""
	}
	var parts []string
	for _, part := range []struct {
		name string
		ns   int64
	}{{"request", l.Request}, {"reply", l.Reply}, {"there and back", l.RoundTrip}} {
		if part.ns == 0 || strings.Contains(v.Summary, path.FormatDuration(part.ns)) {
			continue
		}
		parts = append(parts, part.name+" "+path.FormatDuration(part.ns))
	}
	return strings.Join(parts, ", ")
}

// writeLosses says what of the flow was not seen or not kept.
func writeLosses(out *printer, p *path.Path, v path.Verdict) {
	for _, l := range losses(p, v, "above") {
		labelled(out, "lost", red, l)
	}
}

// losses lists what of the flow was not seen or not kept; where is where its path is shown.
func losses(p *path.Path, v path.Verdict, where string) (list []string) {
	switch {
	case v.LostEvents > 0:
		list = append(list, path.FormatCount(v.LostEvents, "observation")+": the path "+where+" may have gaps")
	case !v.Complete:
		list = append(list, "not everything could be observed: the path "+where+" may have gaps")
	}
	if p != nil && p.OmittedPackets > 0 {
		list = append(list, path.FormatCount(p.OmittedPackets, "further packet")+" of this flow not kept")
	}
	return list
}

// Stats writes what the whole trace lost, skipped and warns of; nothing if there is nothing to say.
// With Verbose it adds the observations per hook and the cost.
func (t *Text) Stats(s path.Stats) error {
	out := newPrinter(t.o)
	writeStats(out, s)
	if t.o.Verbose {
		writeCost(out, s)
	}
	return out.flush()
}

// writeStats writes what a trace lost, skipped and warns of.
func writeStats(out *printer, s path.Stats) {
	for _, w := range s.Warnings {
		labelled(out, "warning", yellow, w)
	}
	for _, w := range s.Skipped {
		labelled(out, "skipped", yellow, w)
	}
	if s.LostEvents == 0 && len(s.Lost) == 0 {
		return
	}
	text, separator := path.FormatCount(s.LostEvents, "event")+" lost", ": "
	for _, name := range slices.Sorted(maps.Keys(s.Lost)) {
		text += separator + name + " " + path.FormatNumber(s.Lost[name])
		separator = ", "
	}
	labelled(out, "lost", red, text)
}

// writeCost writes the observations per hook and what the trace cost.
func writeCost(out *printer, s path.Stats) {
	out.paragraph(path.FormatCount(s.Packets, "packet")+", "+path.FormatCount(s.Events, "event")+", "+
		path.FormatDuration(s.WallNS)+" (processor "+path.FormatDuration(s.CPUNS)+")", dim)
	for _, name := range slices.Sorted(maps.Keys(s.Hooks)) {
		out.line(span{"  " + padLeft(path.FormatNumber(s.Hooks[name]), 12) + "  " + name, dim})
	}
}
