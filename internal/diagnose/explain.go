package diagnose

import "github.com/pathtrace/pathtrace/tracer/path"

// Explain concludes how a flow ended and why. A nil f means that nothing is known but the path; a nil
// or empty p is explained by ExplainNoTraffic.
func Explain(p *path.Path, f *Facts) path.Verdict {
	return path.Verdict{}
}

// ExplainNoTraffic concludes why nothing of a flow was seen, or why nothing could be sent.
func ExplainNoTraffic(f *Facts) path.Verdict {
	return path.Verdict{}
}
