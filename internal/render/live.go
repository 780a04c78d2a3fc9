package render

import (
	"cmp"
	"strings"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Widths of the columns of a live line. Those of the ends grow with what was seen, so that lines
// stay aligned without wasting room.
const (
	clockWidth   = 12 // 15:04:05.000
	outcomeWidth = 12 // misdelivered
	minClient    = 16
	maxClient    = 30
	minTarget    = 10
	maxTarget    = 26
)

// Live writes watched traffic: a line per decided flow and a summary per client at the end. It
// may be used by several goroutines.
type Live struct {
	o              Options
	mu             sync.Mutex
	client, target int // current widths of these columns
	tally          *tally
}

// NewLive returns a Live.
func NewLive(o Options) *Live {
	return &Live{o: o, client: minClient, target: minTarget, tally: newTally()}
}

// Watching writes the initial line: what is being watched.
func (l *Live) Watching(text string) error { return l.say(text, bold) }

// Hint writes a hint, such as what to try when no traffic comes.
func (l *Live) Hint(text string) error { return l.say(text, yellow) }

// say writes a paragraph.
func (l *Live) say(text string, st style) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := newPrinter(l.o)
	out.paragraph(text, st)
	return out.flush()
}

// Flow writes the line of a flow that was decided at the time at, and counts it. With Verbose the
// steps of its path follow.
func (l *Live) Flow(at time.Time, p *path.Path, v path.Verdict) error {
	e := endsOf(p, v)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally.add(e, v)
	out := newPrinter(l.o)
	l.writeFlow(out, at, e, v)
	if l.o.Verbose && p != nil {
		writeHops(out, p, l.o.AllPackets)
	}
	return out.flush()
}

// writeFlow writes the line of a flow and, if it failed or has warnings, why.
func (l *Live) writeFlow(out *printer, at time.Time, e ends, v path.Verdict) {
	source, target := cmp.Or(e.source(), "?"), cmp.Or(e.target(), "?")
	l.client = max(l.client, min(columns(source), maxClient))
	l.target = max(l.target, min(columns(target), maxTarget))
	left := []span{
		{at.Format("15:04:05.000") + "  ", dim},
		{pad(shorten(source, l.client), l.client) + " → " + pad(shorten(target, l.target), l.target) + "  ", plain},
	}
	word, result := string(v.Outcome), whereText(v)
	if v.Outcome == path.Delivered {
		result = roundTripText(v)
	}
	used := clockWidth + 2 + l.client + 3 + l.target + 2
	fits := used+outcomeWidth+2+columns(result) <= out.width
	if result != "" && fits {
		out.line(append(left, span{pad(word, outcomeWidth), outcomeStyle(v.Outcome)}, span{"  " + result, plain})...)
	} else {
		out.line(append(left, span{word, outcomeStyle(v.Outcome)})...)
	}
	indent := span{strings.Repeat(" ", clockWidth+2), plain}
	why := causeText(v)
	if result != "" && !fits {
		why = strings.TrimSuffix(result+"; "+why, "; ")
	}
	if why != "" {
		l.remark(out, indent, why, outcomeStyle(v.Outcome))
	}
	for _, w := range v.Warnings {
		l.remark(out, indent, "warning: "+string(w.Cause)+colon(w.Summary), yellow)
	}
}

// remark writes one indented line; with Verbose as many as it takes.
func (l *Live) remark(out *printer, indent span, text string, st style) {
	if l.o.Verbose {
		out.paragraph(text, st, indent)
		return
	}
	out.line(indent, span{text, st})
}

// roundTripText is how long a delivered flow took.
func roundTripText(v path.Verdict) string {
	switch l := v.LatencyNS; {
	case l == nil:
		return ""
	case l.RoundTrip != 0:
		return path.FormatDuration(l.RoundTrip)
	case l.Request != 0:
		return path.FormatDuration(l.Request) + " there"
	}
	return ""
}

// causeText is "cause: summary" of a flow that was not delivered, with what is known of it.
func causeText(v path.Verdict) string {
	if v.Outcome == path.Delivered {
		return ""
	}
	summary := strings.TrimSpace(v.Summary)
	if rest, ok := cutPrefixFold(summary, strings.ReplaceAll(string(v.Outcome), "-", " ")); ok {
		summary = strings.TrimSpace(strings.TrimPrefix(rest, ":"))
	}
	if v.Cause == "" {
		return summary
	}
	return string(v.Cause) + colon(summary)
}

// whereText says where a flow ended: "host netfilter/forward", "host eth0".
func whereText(v path.Verdict) string {
	w := v.Where
	if w == nil {
		return ""
	}
	var parts []string
	stage := string(w.Stage)
	if w.Stage == path.StageDevice || w.Stage == path.StageQdisc {
		stage = cmp.Or(w.Device, stage)
	}
	for _, s := range []string{shorten(cmp.Or(w.Container, w.Namespace, w.Host), maxName), stage} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	text := strings.Join(parts, " ")
	if w.Direction == path.Reply && text != "" {
		text += " (reply)"
	}
	return text
}

// Summary writes the counts and latencies per client, the totals, and what was lost.
func (l *Live) Summary(s path.Stats) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := newPrinter(l.o)
	l.tally.write(out, s.WallNS)
	writeStats(out, s)
	if l.o.Verbose {
		writeCost(out, s)
	}
	return out.flush()
}
