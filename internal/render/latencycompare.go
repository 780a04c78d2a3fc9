package render

import (
	"github.com/pathtrace/pathtrace/internal/latency"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// writeComparison draws two targets side by side, with the difference of each kind.
func writeComparison(out *printer, c *path.Comparison) {
	var longest int64
	for _, k := range c.Kinds {
		if k.Kind != path.SegmentApplication && k.Kind != path.SegmentWakeUp { // else nothing but them could be seen
			longest = max(longest, k.A, k.B)
		}
	}
	side := barSide + timeWidth + 2
	out.line(span{pad("  near "+latency.QuantileName(c.Quantile), kindWidth+2) + pad(shorten(c.A, side-2), side) +
		pad(shorten(c.B, side-2), side) + "difference (95 % CI)", dim})
	for _, k := range c.Kinds {
		if k.A+k.B == 0 {
			continue
		}
		out.line(span{text: "  " + pad(latency.KindName(k.Kind), kindWidth)},
			span{pad(bar(k.A, longest, barSide, "█"), barSide), cyan}, span{text: padLeft(latency.Duration(k.A), timeWidth) + "  "},
			span{pad(bar(k.B, longest, barSide, "█"), barSide), cyan}, span{text: padLeft(latency.Duration(k.B), timeWidth) + "  "},
			span{text: kindDifference(&k)})
	}
	out.line()
	out.paragraph(c.Summary, bold)
	d := c.RoundTrip
	out.paragraph("whole round trips, with the application and the waking of the asker: "+plus(d.Estimate)+
		" ("+plus(d.Low)+" to "+plus(d.High)+")", plain)
}

// plus is a difference with its sign.
func plus(ns int64) string {
	if ns > 0 {
		return "+" + latency.Duration(ns)
	}
	return latency.Duration(ns)
}

// kindDifference is "+1.8 µs (1.2 µs to 2.4 µs)".
func kindDifference(k *path.KindDifference) string {
	d := k.Difference
	const none = 50 // ns, which show as 0.0 µs
	if d.Low <= 0 && d.High >= 0 || d.Estimate < none && d.Estimate > -none {
		return padLeft("none sure", 10)
	}
	return padLeft(plus(d.Estimate), 10) + " (" + latency.Duration(d.Low) + " to " + latency.Duration(d.High) + ")"
}
