package render

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/internal/latency"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TargetLatency is what was measured of one target.
type TargetLatency struct {
	Report   path.LatencyReport
	Segments []path.Segment
}

// Columns of the pictures.
const (
	kindWidth = 17 // "receiver's stack"
	timeWidth = 8  // "1.23 ms"
	barWidth  = 20
	barSide   = 14 // of two targets side by side
	wayWidth  = 9  // of a 99th percentile
)

// Latency writes where the time goes: of one target its own picture, of several also how they differ.
// Verbose adds every segment.
func Latency(o Options, targets []TargetLatency, comparisons []path.Comparison, lost uint64) error {
	out := newPrinter(o)
	for i := range targets {
		if i > 0 {
			out.line()
		}
		writeTarget(out, &targets[i], o.Verbose, len(targets) == 1)
	}
	for i := range comparisons {
		out.line()
		writeComparison(out, &comparisons[i])
	}
	if lost > 0 {
		labelled(out, "lost", red, path.FormatCount(lost, "observation")+" were lost: what is shown is of the others")
	}
	return out.flush()
}

func writeTarget(out *printer, t *TargetLatency, verbose, alone bool) {
	r := &t.Report
	out.paragraph(targetTitle(r), bold)
	if r.RoundTrip.Count > 0 {
		out.line(span{text: pad("  round trip", kindWidth+2) + quantiles(&r.RoundTrip)})
	}
	for _, way := range []struct {
		name string
		d    *path.Distribution
	}{{"request", &r.Request}, {"reply", &r.Reply}} {
		if way.d.Count > 0 {
			out.line(span{pad("  "+way.name, kindWidth+2) + quantiles(way.d), dim})
		}
	}
	if len(r.Kinds) > 0 && (alone || verbose || r.RoundTrip.Count == 0) {
		out.line()
		writeKinds(out, r)
	}
	if verbose {
		out.line()
		writeSegments(out, t.Segments)
	}
	out.line()
	writeHonesty(out, r)
}

// targetTitle is "client → web:80: 1,000 round trips over a kept connection".
func targetTitle(r *path.LatencyReport) string {
	ends := r.Target
	if r.Source != "" {
		ends = r.Source + " → " + r.Target
	}
	switch {
	case r.RoundTrip.Count == 0 && r.Request.Count+r.Reply.Count == 0:
		return ends + ": nothing was measured"
	case r.RoundTrip.Count == 0:
		return fmt.Sprintf("%s: %s there, %s back, no round trip", ends, path.FormatCount(r.Request.Count, "packet"), path.FormatCount(r.Reply.Count, "packet"))
	case r.Source != "":
		return ends + ": " + path.FormatCount(r.RoundTrip.Count, "round trip") + " of own requests"
	}
	return ends + ": " + path.FormatCount(r.RoundTrip.Count, "round trip") + " of live traffic"
}

// quantiles is "min 60 µs  p50 72 µs  …".
func quantiles(d *path.Distribution) string {
	var parts []string
	for _, q := range []struct {
		name string
		ns   int64
	}{{"min", d.Min}, {"p50", d.P50}, {"p90", d.P90}, {"p99", d.P99}, {"p99.9", d.P999}, {"max", d.Max}} {
		parts = append(parts, q.name+" "+latency.Duration(q.ns))
	}
	return strings.Join(parts, "  ")
}

// writeKinds draws what a round trip around the median consists of, and the quantiles of each way.
func writeKinds(out *printer, r *path.LatencyReport) {
	var whole, longest int64
	for _, k := range r.Kinds {
		whole, longest = whole+k.Typical, max(longest, k.Typical)
	}
	head := pad("  a typical round trip", kindWidth+barWidth+timeWidth+9)
	out.line(span{head + padLeft("request p50", 13) + padLeft("p99", wayWidth) + padLeft("reply p50", 12) + padLeft("p99", wayWidth), dim})
	for _, k := range r.Kinds {
		if k.Typical == 0 && empty(k.RoundTrip) && empty(k.Request) && empty(k.Reply) {
			continue
		}
		st, mark := cyan, "█"
		if k.Kind == path.SegmentOwn {
			st, mark = dim, "░"
		}
		out.line(span{text: "  " + pad(latency.KindName(k.Kind), kindWidth)},
			span{pad(bar(k.Typical, longest, barWidth, mark), barWidth+1), st},
			span{text: padLeft(latency.Duration(k.Typical), timeWidth) + padLeft(share(k.Typical, whole), 6)},
			span{wayColumns(k.Request, 13) + wayColumns(k.Reply, 12), dim})
	}
}

func empty(d *path.Distribution) bool { return d == nil || d.Max == 0 }

// wayColumns are the median and the 99th percentile, the first in a column of the given width.
func wayColumns(d *path.Distribution, width int) string {
	if d == nil {
		return padLeft("-", width) + padLeft("-", wayWidth)
	}
	return padLeft(latency.Duration(d.P50), width) + padLeft(latency.Duration(d.P99), wayWidth)
}

// bar is as long as n is of the longest, in halves of a column; what is longer is cut.
func bar(n, longest int64, width int, mark string) string {
	if n <= 0 || longest <= 0 {
		return ""
	}
	if n > longest {
		return strings.Repeat(mark, width-1) + "▸"
	}
	halves := int(max(n*int64(width)*2/longest, 1))
	text := strings.Repeat(mark, halves/2)
	if halves%2 == 1 {
		text += "▌"
	}
	return text
}

// share is a part of the whole in per cent.
func share(part, whole int64) string {
	if whole <= 0 {
		return ""
	}
	return strconv.FormatInt((part*100+whole/2)/whole, 10) + " %"
}

// writeSegments lists every segment in the order of the way.
func writeSegments(out *printer, list []path.Segment) {
	const placeWidth = 46
	var last path.Direction = "none"
	for _, s := range list {
		if s.Direction != last {
			title := "  " + cmp.Or(string(s.Direction), "application")
			out.line(span{pad(title, placeWidth+2) + columnsOf("min", "p50", "p90", "p99", "p99.9", "max"), dim})
		}
		last = s.Direction
		d := &s.Distribution
		out.line(span{text: "    " + pad(shorten(segmentPlace(&s), placeWidth-3), placeWidth-2) +
			columnsOf(micros(d.Min), micros(d.P50), micros(d.P90), micros(d.P99), micros(d.P999), micros(d.Max)) + " µs"})
	}
}

func columnsOf(values ...string) string {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(padLeft(v, 8))
	}
	return b.String()
}

// micros is a time in microseconds, without the unit.
func micros(ns int64) string {
	if ns < 99_950 {
		return strconv.FormatFloat(float64(ns)/1e3, 'f', 1, 64)
	}
	return strconv.FormatInt((ns+500)/1000, 10)
}

// segmentPlace says where a segment is: "bridge br0: veth1 → veth2, host".
func segmentPlace(s *path.Segment) string {
	what := latency.KindName(s.Kind)
	switch {
	case s.Stage != "":
		what = string(s.Stage)
	case s.Queue == "backlog":
		what += " and backlog"
	}
	where := s.Device
	if s.ToDevice != "" && s.ToDevice != s.Device {
		where = strings.TrimPrefix(where+" → "+s.ToDevice, " → ")
	}
	if where != "" {
		what += " " + where
	}
	names := cmp.Or(s.Container, s.Namespace)
	if s.ToNamespace != "" {
		names += " → " + s.ToNamespace
	}
	if names == "" {
		return what
	}
	return what + ", " + names
}

// writeHonesty says what the figures rest on and what was left out.
func writeHonesty(out *printer, r *path.LatencyReport) {
	if r.Own.PerObservation == 0 && r.Own.Method != "" && r.Own.Observations > 0 {
		labelled(out, "own", plain, r.Own.Method)
	} else if r.Own.Observations > 0 {
		labelled(out, "own", plain, fmt.Sprintf("%s of %d ns a round trip: shown as pathtrace itself, not in the rest",
			path.FormatCount(r.Own.Observations, "observation"), r.Own.PerObservation))
	} else if r.Own.PerObservation > 0 {
		labelled(out, "own", plain, fmt.Sprintf("%d ns an observation, taken out of each segment", r.Own.PerObservation))
	}
	for _, c := range r.Checks {
		labelled(out, "check", plain, fmt.Sprintf("by %s: segments %s, clock %s at p50 (%s, %s)", c.Clock,
			latency.Duration(c.Segments), latency.Duration(c.Measured), deviation(c.Segments, c.Measured), path.FormatCount(c.Count, "sample")))
	}
	if n := r.Retransmissions[path.Request] + r.Retransmissions[path.Reply]; n > 0 {
		labelled(out, "resent", yellow, path.FormatCount(n, "retransmission")+", not in the figures")
	}
	if d := r.DelayedAcks; d != nil {
		labelled(out, "acks", plain, path.FormatCount(d.Count, "delayed acknowledgement")+", "+latency.Duration(d.P50)+" at p50: the receiver's wait, in no segment")
	}
	if r.Reconnects > 0 {
		labelled(out, "closed", yellow, "the server closed the connection "+path.FormatCount(r.Reconnects, "time")+"; a new one was opened each time")
	}
	for _, why := range slices.Sorted(maps.Keys(r.Discarded)) {
		labelled(out, "omitted", plain, path.FormatCount(r.Discarded[why], "sample")+": "+why)
	}
	for _, t := range r.Thresholds {
		word, st := "met", green
		if !t.Met {
			word, st = "not met", red
		}
		labelled(out, "limit", st, fmt.Sprintf("%s: %s, measured %s", t.Threshold, word, latency.Duration(t.Measured)))
	}
}

// deviation is how far a is from b, "+1.2 %".
func deviation(a, b int64) string {
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%+.1f %%", float64(a-b)*100/float64(b))
}
