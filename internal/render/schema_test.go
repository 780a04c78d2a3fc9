package render

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// compileSchema compiles the embedded schema.
func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("pathtrace.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("pathtrace.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// validateLines checks every line of JSON Lines against the schema and returns the objects' types.
func validateLines(t *testing.T, s *jsonschema.Schema, lines []byte) []string {
	t.Helper()
	var types []string
	for line := range bytes.Lines(lines) {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if err := s.Validate(v); err != nil {
			t.Errorf("line %s: %v", line, err)
		}
		types = append(types, v.(map[string]any)["type"].(string))
	}
	return types
}

// definition is the part of a schema definition that the tests look at.
type definition struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`
	Enum       []string                   `json:"enum"`
}

// definitions returns the $defs of the schema.
func definitions(t *testing.T) map[string]definition {
	t.Helper()
	var doc struct {
		Defs map[string]definition `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Defs
}

func TestSchemaMatchesTypes(t *testing.T) {
	defs := definitions(t)
	for name, typ := range map[string]reflect.Type{
		"meta": reflect.TypeFor[path.Meta](), "hop": reflect.TypeFor[path.Hop](),
		"verdict": reflect.TypeFor[path.Verdict](), "stats": reflect.TypeFor[path.Stats](),
		"hook": reflect.TypeFor[HookRow](), "limit": reflect.TypeFor[LimitRow](),
		"outer":     reflect.TypeFor[path.Outer](),
		"host_view": reflect.TypeFor[path.HostView](),
		"where":     reflect.TypeFor[path.Where](), "rule": reflect.TypeFor[path.Rule](),
		"latency": reflect.TypeFor[path.Latency](), "translation": reflect.TypeFor[path.Translation](),
		"warning": reflect.TypeFor[path.Warning](), "finding": reflect.TypeFor[path.Finding](),
		"place": reflect.TypeFor[path.Place](), "distribution": reflect.TypeFor[path.Distribution](),
		"segment": reflect.TypeFor[path.Segment](), "kind_share": reflect.TypeFor[path.KindShare](),
		"own_cost": reflect.TypeFor[path.OwnCost](), "clock_check": reflect.TypeFor[path.ClockCheck](),
		"threshold_result": reflect.TypeFor[path.ThresholdResult](), "latency_report": reflect.TypeFor[path.LatencyReport](),
		"interval": reflect.TypeFor[path.Interval](), "kind_difference": reflect.TypeFor[path.KindDifference](),
		"comparison": reflect.TypeFor[path.Comparison](),
		"mtu":        reflect.TypeFor[path.MTU](),
		"mtu_link":   reflect.TypeFor[path.MTULink](), "mtu_end": reflect.TypeFor[path.MTUEnd](),
		"mtu_bridge": reflect.TypeFor[path.MTUBridge](), "mtu_network": reflect.TypeFor[path.MTUNetwork](),
		"mtu_watch": reflect.TypeFor[path.MTUWatch](), "mtu_watch_place": reflect.TypeFor[path.MTUWatchPlace](),
	} {
		var properties, required []string
		for f := range fields(typ) {
			tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			if tag == "-" {
				continue
			}
			if tag == "" {
				t.Errorf("%s.%s has no JSON tag", typ, f.Name)
			}
			properties = append(properties, tag)
			if options != "omitempty" {
				required = append(required, tag)
			}
		}
		var got []string
		for p := range defs[name].Properties {
			got = append(got, p)
		}
		sameSet(t, name+" properties of the schema", got, properties)
		sameSet(t, name+" required properties", defs[name].Required, required)
	}
}

// fields yields the fields of a struct.
func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if !yield(typ.Field(i)) {
				return
			}
		}
	}
}

// sameSet compares two sets of strings.
func sameSet(t *testing.T, what string, got, want []string) {
	t.Helper()
	got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		t.Errorf("%s = %q, want %q", what, got, want)
	}
}

// constants returns the string constants of a type in the source of package path, so that a new
// one cannot be forgotten in the schema.
func constants(t *testing.T, typ string) []string {
	t.Helper()
	src, err := os.ReadFile("../../tracer/path/vocabulary.go")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	typed := regexp.MustCompile(`(?m)^\t\w+\s+` + typ + `\s+= "([^"]+)"`)
	for _, m := range typed.FindAllSubmatch(src, -1) {
		out = append(out, string(m[1]))
	}
	if len(out) == 0 {
		t.Fatalf("no constants of type %s found", typ)
	}
	return out
}

func TestSchemaEnums(t *testing.T) {
	defs := definitions(t)
	for name, typ := range map[string]string{
		"stage": "Stage", "action": "Action", "outcome": "Outcome", "direction": "Direction", "proto": "Proto",
	} {
		sameSet(t, name, defs[name].Enum, constants(t, typ))
	}
	src, err := os.ReadFile("../../tracer/path/finding.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, severity := range defs["severity"].Enum {
		if !bytes.Contains(src, []byte(` Severity = "`+severity+`"`)) {
			t.Errorf("no severity %q", severity)
		}
	}
	var kinds []string
	for _, k := range path.SegmentKinds() {
		kinds = append(kinds, string(k))
	}
	sameSet(t, "segment_kind", defs["segment_kind"].Enum, kinds)
	causes := defs["cause"].Enum
	for _, c := range constants(t, "Cause") {
		if !slices.Contains(causes, c) {
			t.Errorf("the schema lacks cause %q", c)
		}
	}
	if got, want := len(causes), 47; got < want {
		t.Errorf("the schema lists %d causes, want at least the %d of the contract", got, want)
	}
	if got := slices.Compact(slices.Sorted(slices.Values(causes))); len(got) != len(causes) {
		t.Errorf("the schema lists a cause twice: %q", causes)
	}
}

func TestSchemaRejects(t *testing.T) {
	s := compileSchema(t)
	for _, line := range []string{
		`{}`,
		`{"type":"hop"}`,
		`{"type":"meta","schema":2,"version":"1","kernel":"6","hooks":[],"target":"web","started":"2025-03-04T12:00:00Z"}`,
		`{"type":"meta","schema":1,"version":"1","kernel":"6","hooks":null,"target":"web","started":"2025-03-04T12:00:00Z"}`,
		`{"type":"meta","schema":1,"version":"1","kernel":"6","hooks":[],"target":"web","started":"yesterday"}`,
		`{"type":"verdict","flow":1,"outcome":"eaten","summary":"","complete":true,"lost_events":0}`,
		`{"type":"verdict","flow":1,"outcome":"delivered","cause":"no-route","summary":"","complete":true,"lost_events":0}`,
		`{"type":"hop","flow":1,"packet":1,"direction":"request","time_ns":0,"stage":"device","action":"send","surprise":1}`,
	} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		if s.Validate(v) == nil {
			t.Errorf("the schema accepts %s", line)
		}
	}
}

func TestSchemaIsACopy(t *testing.T) {
	Schema()[0] = 'x'
	if got := Schema()[0]; got != '{' {
		t.Errorf("Schema()[0] = %q after a caller changed its copy, want '{'", got)
	}
}

// TestSchemaDocumented: docs/output.md names every field of every object.
func TestSchemaDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/output.md")
	if err != nil {
		t.Fatal(err)
	}
	for object, d := range definitions(t) {
		for field := range d.Properties {
			if !bytes.Contains(page, []byte("`"+field+"`")) && !bytes.Contains(page, []byte("."+field+"`")) {
				t.Errorf("%s of %s is not in docs/output.md", field, object)
			}
		}
	}
}
