package render

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// reflected is a value as encoding/json writes it.
func reflected(t testing.TB, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	must(t, enc.Encode(v))
	return b.String()
}

func sameHop(t testing.TB, h path.Hop) {
	t.Helper()
	h.Type = "hop"
	if got, want := string(new(hopLines).append(nil, &h)), reflected(t, &h); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

func sameVerdict(t testing.TB, v path.Verdict) {
	t.Helper()
	v.Type = "verdict"
	if got, want := string(appendVerdict(nil, &v)), reflected(t, &v); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
}

// awkward are values of a kind that JSON has its own ways with.
func awkward(kind reflect.Kind) []any {
	switch kind {
	case reflect.String:
		return []any{"eth0", `a"b\c`, "<&>", "\x00\x1f\t\n\r\b\f\x7f", "\xff→\u2028\u2029\xc3", "größe → \ufffd", "a\u2028", "→\xff", "é\n", `ü"`, ""}
	case reflect.Bool:
		return []any{true, false}
	}
	return []any{1, -1, math.MaxInt64, uint64(math.MaxUint64), 0}
}

// setField sets a field of a struct to a value of its kind.
func setField(f reflect.Value, v any) { f.Set(reflect.ValueOf(v).Convert(f.Type())) }

// eachValue gives what v holds each value that it may have, and what that holds in turn.
func eachValue(v reflect.Value, do func()) {
	before := reflect.New(v.Type()).Elem()
	before.Set(v)
	defer v.Set(before)
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.Tag.Get("json") != "-" && f.Name != "Type" { // that is always the same
				eachValue(v.Field(i), do)
			}
		}
	case reflect.Pointer:
		v.SetZero()
		do()
		v.Set(reflect.New(v.Type().Elem()))
		do()
		eachValue(v.Elem(), do)
	case reflect.Slice:
		for n := range 3 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			do()
			for i := range n {
				eachValue(v.Index(i), do)
			}
		}
	default:
		for _, value := range awkward(v.Kind()) {
			setField(v, value)
			do()
		}
	}
}

// TestHopJSON: a hop is written as encoding/json writes it, whatever one field of it is, with all others
// empty and with all others set.
func TestHopJSON(t *testing.T) {
	var empty, full path.Hop
	fill(reflect.ValueOf(&full).Elem())
	for _, h := range []*path.Hop{&empty, &full} {
		eachValue(reflect.ValueOf(h).Elem(), func() { sameHop(t, *h) })
	}
	for _, c := range flowCases() {
		if p, _ := c.make(); p != nil {
			for _, pkt := range p.Packets {
				for _, h := range pkt.Hops {
					sameHop(t, h)
				}
			}
		}
	}
}

// TestVerdictJSON: so is a verdict.
func TestVerdictJSON(t *testing.T) {
	var empty, full path.Verdict
	fill(reflect.ValueOf(&full).Elem())
	for _, v := range []*path.Verdict{&empty, &full} {
		eachValue(reflect.ValueOf(v).Elem(), func() { sameVerdict(t, *v) })
	}
	for _, c := range flowCases() {
		_, v := c.make()
		sameVerdict(t, v)
	}
}

// TestHopsJSON: so they are when pieces of hops are copied from those before: of hops that differ in any field.
func TestHopsJSON(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	hops := make([]path.Hop, 2000)
	var want strings.Builder
	var got []byte
	var l hopLines
	for i := range hops {
		h := &hops[i]
		if i > 0 && random.IntN(4) > 0 {
			*h = hops[max(0, i-1-random.IntN(20))]
		}
		for range random.IntN(3) {
			f := reflect.ValueOf(h).Elem().Field(random.IntN(reflect.TypeFor[path.Hop]().NumField()))
			if values := awkward(f.Kind()); f.Kind() == reflect.String || f.CanInt() || f.CanUint() {
				setField(f, values[random.IntN(len(values))])
			}
		}
		h.Type = "hop"
		want.WriteString(reflected(t, h))
		got = l.append(got, h)
	}
	if string(got) != want.String() {
		for i, line := range strings.SplitAfter(want.String(), "\n") {
			if rest, ok := strings.CutPrefix(string(got), line); ok {
				got = []byte(rest)
				continue
			}
			t.Fatalf("line %d: got %.1000s\nwant %s", i, got, line)
		}
	}
}

// TestIsPlain: whatever is said to be plain, encoding/json leaves as it is, and printable ASCII is plain.
func TestIsPlain(t *testing.T) {
	for c := range 256 {
		for length := range 20 {
			for at := range length {
				s := []byte(strings.Repeat("a", length))
				s[at] = byte(c)
				want := c >= ' ' && c < 0x80 && c != '"' && c != '\\'
				if got := isPlain(string(s)); got != want {
					t.Fatalf("isPlain(%q) = %v", s, got)
				}
			}
		}
	}
}

// fill sets everything that JSON shows.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") != "-" {
				fill(v.Field(i))
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	default:
		setField(v, awkward(v.Kind())[0])
	}
}

// FuzzHopJSON: so it is with any text.
func FuzzHopJSON(f *testing.F) {
	for _, v := range awkward(reflect.String) {
		f.Add(v.(string), int64(7))
	}
	f.Fuzz(func(t *testing.T, text string, n int64) {
		h := path.Hop{
			Flow: int(n), TimeNS: n, NetNS: uint32(n), Length: int(n), Direction: path.Direction(text), Host: text,
			Outer: &path.Outer{Src: text, VNI: uint32(n)}, ICMP: text, Rules: []path.RuleStep{{Text: text, Handle: uint64(n)}},
		}
		sameHop(t, h)
		sameVerdict(t, path.Verdict{Summary: text, Evidence: []string{text}, LostEvents: uint64(n), Src: text})
	})
}

// TestJSONReusesMemory: writing a flow's hops takes no new memory for them.
func TestJSONReusesMemory(t *testing.T) {
	p, _ := sameBridge()
	j := NewJSON(&discard{})
	allocated := testing.AllocsPerRun(100, func() { must(t, j.Path(p, true)) })
	if most := 8.0; allocated > most {
		t.Errorf("%v allocations for a path, want at most %v", allocated, most)
	}
	p.Packets[0].Hops[0].ICMP = strings.Repeat("x", maxLines)
	must(t, j.Path(p, true))
	if got := cap(j.lines); got != 0 {
		t.Errorf("%d bytes are kept of a flow that is larger than others", got)
	}
}

type discard struct{}

func (*discard) Write(b []byte) (int, error) { return len(b), nil }

func BenchmarkJSONPath(b *testing.B) {
	p, _ := sameBridge()
	j, n := NewJSON(&discard{}), 0
	for _, pkt := range p.Packets {
		n += len(pkt.Hops)
	}
	b.ReportAllocs()
	for range b.N {
		must(b, j.Path(p, true))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/hop")
}
