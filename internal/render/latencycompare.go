package render

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/latency"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// writeComparison draws two targets side by side, with the difference of each kind.
func writeComparison(out *printer, targets []TargetLatency, c *path.Comparison) {
	a, b := reportOf(targets, c.A), reportOf(targets, c.B)
	if a == nil || b == nil {
		return
	}
	var longest int64
	for _, r := range []*path.LatencyReport{a, b} {
		for _, k := range r.Kinds {
			longest = max(longest, k.Typical)
		}
	}
	side := barSide + timeWidth + 2
	out.line(span{pad("  a typical round trip", kindWidth+6) + pad(shorten(c.A, side-2), side-4) + pad(shorten(c.B, side-2), side) +
		"difference at " + latency.QuantileName(c.Quantile), dim})
	for _, kind := range path.SegmentKinds() {
		ka, kb := shareOf(a, kind), shareOf(b, kind)
		if ka+kb == 0 {
			continue
		}
		st, mark := cyan, "█"
		if kind == path.SegmentOwn {
			st, mark = dim, "░"
		}
		out.line(span{text: "  " + pad(latency.KindName(kind), kindWidth)},
			span{pad(bar(ka, longest, barSide, mark), barSide), st}, span{text: padLeft(latency.Duration(ka), timeWidth) + "  "},
			span{pad(bar(kb, longest, barSide, mark), barSide), st}, span{text: padLeft(latency.Duration(kb), timeWidth) + "  "},
			span{text: kindDifference(c, kind)})
	}
	out.line()
	out.paragraph(c.Summary, bold)
}

func reportOf(targets []TargetLatency, name string) *path.LatencyReport {
	i := slices.IndexFunc(targets, func(t TargetLatency) bool { return t.Report.Target == name })
	if i < 0 {
		return nil
	}
	return &targets[i].Report
}

func shareOf(r *path.LatencyReport, kind path.SegmentKind) int64 {
	i := slices.IndexFunc(r.Kinds, func(k path.KindShare) bool { return k.Kind == kind })
	if i < 0 {
		return 0
	}
	return r.Kinds[i].Typical
}

// kindDifference is "+1.8 µs (1.2 to 2.4)".
func kindDifference(c *path.Comparison, kind path.SegmentKind) string {
	i := slices.IndexFunc(c.Kinds, func(k path.KindDifference) bool { return k.Kind == kind })
	if i < 0 {
		return ""
	}
	d := c.Kinds[i].Difference
	if d.Low <= 0 && d.High >= 0 {
		return padLeft("none sure", 10)
	}
	sign := ""
	if d.Estimate > 0 {
		sign = "+"
	}
	return padLeft(sign+latency.Duration(d.Estimate), 10) + " (" + latency.Duration(d.Low) + " to " + latency.Duration(d.High) + ")"
}
