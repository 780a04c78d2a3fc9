//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Exit statuses of the contract.
const (
	statusDelivered    = 0
	statusCannotTrace  = 1
	statusUsage        = 2
	statusNotDelivered = 3
	statusNoTraffic    = 4
)

// result is what a pathtrace wrote, and its exit status.
type result struct {
	t              *testing.T
	args           []string
	status         int
	stdout, stderr string

	meta     *path.Meta
	hops     []path.Hop
	verdicts []path.Verdict
	findings []path.Finding

	latencies   []path.LatencyReport
	segments    []path.Segment
	comparisons []path.Comparison
	mtus        []path.MTU
	stats       *path.Stats
}

// run runs pathtrace to its end.
func (h *host) run(t *testing.T, args ...string) *result {
	t.Helper()
	return h.launch(t, args...).wait()
}

// parse validates every line and takes it apart.
func (r *result) parse() {
	r.t.Helper()
	schema := compileSchema(r.t)
	for line := range bytes.Lines([]byte(r.stdout)) {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			r.t.Fatalf("%v: line %q: %v", r.args, line, err)
		}
		if err := schema.Validate(doc); err != nil {
			r.t.Errorf("%v: line %s: %v", r.args, line, err)
		}
		kind, _ := doc.(map[string]any)["type"].(string)
		if r.stats != nil {
			r.t.Errorf("%v: %s after stats", r.args, kind)
		}
		if (kind == "meta") != (r.meta == nil) {
			r.t.Errorf("%v: meta is not the first line and the only one", r.args)
		}
		r.decode(kind, line)
	}
}

func (r *result) decode(kind string, line []byte) {
	r.t.Helper()
	var err error
	switch kind {
	case "meta":
		err = json.Unmarshal(line, &r.meta)
	case "hop":
		var h path.Hop
		err = json.Unmarshal(line, &h)
		r.hops = append(r.hops, h)
	case "verdict":
		var v path.Verdict
		err = json.Unmarshal(line, &v)
		r.verdicts = append(r.verdicts, v)
	case "finding":
		var f path.Finding
		err = json.Unmarshal(line, &f)
		r.findings = append(r.findings, f)
	case "latency":
		var l path.LatencyReport
		err = json.Unmarshal(line, &l)
		r.latencies = append(r.latencies, l)
	case "segment":
		var l path.Segment
		err = json.Unmarshal(line, &l)
		r.segments = append(r.segments, l)
	case "comparison":
		var c path.Comparison
		err = json.Unmarshal(line, &c)
		r.comparisons = append(r.comparisons, c)
	case "mtu":
		var m path.MTU
		err = json.Unmarshal(line, &m)
		r.mtus = append(r.mtus, m)
	case "stats":
		err = json.Unmarshal(line, &r.stats)
	default:
		r.t.Errorf("%v: unknown type %q", r.args, kind)
	}
	if err != nil {
		r.t.Errorf("%v: %s: %v", r.args, line, err)
	}
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(render.Schema()))
	check(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	check(t, c.AddResource("pathtrace.json", doc))
	s, err := c.Compile("pathtrace.json")
	check(t, err)
	return s
}

// checkText holds text to what a pipe may get: no escape sequences, at most 100 columns.
func (r *result) checkText() {
	r.t.Helper()
	if strings.Contains(r.stdout+r.stderr, "\x1b") {
		r.t.Errorf("%v: escape sequences in a pipe:\n%s", r.args, r.stdout)
	}
	for line := range strings.Lines(r.stdout) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 100 {
			r.t.Errorf("%v: %d columns: %s", r.args, n, line)
		}
	}
}

// flat undoes the wrapping of lines.
func flat(text string) string { return strings.Join(strings.Fields(text), " ") }

// has checks that the text output contains all of parts, however lines were wrapped.
func (r *result) has(parts ...string) {
	r.t.Helper()
	text := flat(r.stdout)
	for _, part := range parts {
		if !strings.Contains(text, part) {
			r.t.Errorf("%v: no %q in:\n%s%s", r.args, part, r.stdout, r.stderr)
		}
	}
}

// fails checks the exit status and that standard error says why, in one sentence with all of parts.
func (r *result) fails(status int, parts ...string) {
	r.t.Helper()
	if r.status != status {
		r.t.Errorf("%v: exit status %d, want %d\n%s%s", r.args, r.status, status, r.stdout, r.stderr)
	}
	text := flat(regexp.MustCompile(`(?m)^pathtrace: .*; \d+ s\n`).ReplaceAllString(r.stderr, "")) // of a busy machine
	for _, part := range parts {
		if !strings.Contains(text, part) {
			r.t.Errorf("%v: no %q in %q", r.args, part, text)
		}
	}
	if n := strings.Count(text, "pathtrace: "); n != 1 && status != statusUsage {
		r.t.Errorf("%v: %d sentences in %q, want one", r.args, n, text)
	}
	for _, word := range []string{"panic", "goroutine", "failed to"} {
		if strings.Contains(text, word) {
			r.t.Errorf("%v: %q in %q", r.args, word, text)
		}
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
