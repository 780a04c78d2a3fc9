//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// want is what a probe must come to. Empty fields are not checked.
type want struct {
	Outcome   path.Outcome
	Cause     path.Cause
	Stage     path.Stage // of the end
	Container string     // of the end
	Namespace string     // of the end
	Direction path.Direction
	// Causes, if set, are those that would be right; Cause is ignored then.
	Causes []path.Cause
	// Outcomes are others that would be right, too.
	Outcomes []path.Outcome
	// Says is what the text must contain.
	Says []string
	// Hops are observations that there must be.
	Hops []hop
}

// hop is a pattern: every field that is set must match.
type hop struct {
	Direction path.Direction
	Container string
	Namespace string
	Device    string
	Kind      string
	Network   string
	Stage     path.Stage
	Action    path.Action
	Dst, Src  string
	PrevDst   string
	PrevSrc   string
}

func (p hop) matches(h path.Hop) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return same(string(p.Direction), string(h.Direction)) && same(p.Container, h.Container) &&
		same(p.Namespace, h.Namespace) && same(p.Device, h.Device) && same(p.Kind, h.DeviceKind) &&
		same(p.Network, h.Network) && same(string(p.Stage), string(h.Stage)) &&
		same(string(p.Action), string(h.Action)) && same(p.Dst, h.Dst) && same(p.Src, h.Src) &&
		same(p.PrevDst, h.PrevDst) && same(p.PrevSrc, h.PrevSrc)
}

// probe sends a probe twice, with text and with JSON output, and checks both. It returns the latter.
func (h *host) probe(t *testing.T, w want, from, to string, args ...string) *result {
	t.Helper()
	args = append([]string{"--from", from, "--to", to}, args...)
	text := h.run(t, args...)
	r := h.run(t, append(slices.Clone(args), "-o", "json")...)
	if len(r.verdicts) != 1 || r.meta == nil || r.stats == nil {
		t.Fatalf("%v: got %d verdicts, want meta, one verdict and stats\n%s%s", args, len(r.verdicts), r.stdout, r.stderr)
	}
	r.verdict(w)
	r.exchange(w)
	text.has(w.Says...)
	text.has(strings.ReplaceAll(string(r.verdicts[0].Outcome), "-", " ") + ":")
	if text.status != r.status {
		t.Errorf("%v: exit status %d with text, %d with JSON", args, text.status, r.status)
	}
	t.Logf("%v\n%s%s", args, text.stdout, text.stderr) // shown with -v, or if the test fails
	return r
}

// ask sends a probe once, with JSON output, and checks it; what the text has to say is looked for in the
// verdict's sentences and commands.
func (h *host) ask(t *testing.T, w want, from, to string, args ...string) *result {
	t.Helper()
	r := h.run(t, append([]string{"--from", from, "--to", to, "-o", "json"}, args...)...)
	if len(r.verdicts) != 1 {
		t.Fatalf("%v: got %d verdicts, want one\n%s%s", r.args, len(r.verdicts), r.stdout, r.stderr)
	}
	r.verdict(w)
	r.exchange(w)
	v := r.verdicts[0]
	said := append(append([]string{v.Summary}, v.Evidence...), v.Remedy...)
	for _, warning := range v.Warnings {
		said = append(said, warning.Summary)
	}
	for _, part := range w.Says {
		if !strings.Contains(strings.Join(said, "\n"), part) {
			t.Errorf("%v: no %q in\n%s", r.args, part, strings.Join(said, "\n"))
		}
	}
	return r
}

// verdict checks the verdict and the exit status.
func (r *result) verdict(w want) {
	r.t.Helper()
	v := r.verdicts[0]
	if v.Outcome != w.Outcome && !slices.Contains(w.Outcomes, v.Outcome) {
		r.t.Errorf("%v: outcome %q, want %q or one of %q", r.args, v.Outcome, w.Outcome, w.Outcomes)
	}
	switch {
	case w.Causes != nil:
		if !slices.Contains(w.Causes, v.Cause) {
			r.t.Errorf("%v: cause %q, want one of %q", r.args, v.Cause, w.Causes)
		}
	case v.Cause != w.Cause:
		r.t.Errorf("%v: cause %q, want %q", r.args, v.Cause, w.Cause)
	}
	if status := statusOf(v.Outcome); r.status != status {
		r.t.Errorf("%v: exit status %d, want %d", r.args, r.status, status)
	}
	if v.LostEvents != 0 || !v.Complete {
		r.t.Errorf("%v: lost %d, complete %v, skipped %q", r.args, v.LostEvents, v.Complete, r.stats.Skipped)
	}
	if !strings.HasPrefix(v.Summary, string(v.Outcome)+": ") || strings.Contains(v.Summary, "\n") {
		r.t.Errorf("%v: the summary is not one sentence that begins with the outcome: %q", r.args, v.Summary)
	}
	r.where(w)
}

func (r *result) where(w want) {
	r.t.Helper()
	if w.Stage == "" && w.Container == "" && w.Namespace == "" && w.Direction == "" {
		return
	}
	where := r.verdicts[0].Where
	if where == nil {
		r.t.Errorf("%v: no place, want %+v", r.args, w)
		return
	}
	got := want{Stage: where.Stage, Container: where.Container, Namespace: where.Namespace, Direction: where.Direction}
	for _, pair := range [][2]string{
		{string(got.Stage), string(w.Stage)}, {got.Container, w.Container},
		{got.Namespace, w.Namespace}, {string(got.Direction), string(w.Direction)},
	} {
		if pair[1] != "" && pair[0] != pair[1] {
			r.t.Errorf("%v: ended at %+v, want %q, got %q", r.args, *where, pair[1], pair[0])
		}
	}
}

// exchange checks the hops: those wanted, and of a delivered flow both directions.
func (r *result) exchange(w want) {
	r.t.Helper()
	for _, p := range w.Hops {
		if !slices.ContainsFunc(r.hops, p.matches) {
			r.t.Errorf("%v: no hop like %+v", r.args, p)
		}
	}
	if r.verdicts[0].Outcome != path.Delivered {
		return
	}
	for _, d := range []path.Direction{path.Request, path.Reply} {
		if !slices.ContainsFunc(r.hops, hop{Direction: d}.matches) {
			r.t.Errorf("%v: nothing was seen of the %s", r.args, d)
		}
	}
	for _, h := range r.hops {
		if h.Action == path.ActionDrop && !h.Copy && !h.Noise {
			r.t.Errorf("%v: a drop on a delivered flow: %+v", r.args, h)
		}
	}
}

func statusOf(o path.Outcome) int {
	switch o {
	case path.Delivered:
		return statusDelivered
	case path.NoTraffic:
		return statusNoTraffic
	}
	return statusNotDelivered
}
