package tracer_test

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
)

// recorded is a recording in memory.
type recorded struct{ bytes.Buffer }

// Close implements io.Closer.
func (*recorded) Close() error { return nil }

// recordTo makes a trace be recorded, too.
func recordTo(cfg *tracer.Config) *recorded {
	if cfg.Record != nil {
		return nil
	}
	r := &recorded{}
	cfg.Record = &tracer.RecordConfig{Open: func(int) (io.WriteCloser, error) { return r, nil }}
	return r
}

// replayed replays a recording.
func replayed(t *testing.T, raw []byte) *observed {
	t.Helper()
	o := &observed{}
	var err error
	o.result, err = tracer.Replay(t.Context(), tracer.ReplayConfig{
		OnStart: func(m tracer.Meta) { o.meta = m },
		OnFlow:  func(f tracer.Flow) { o.flows = append(o.flows, f) },
		OnNote:  func(s string) { o.notes = append(o.notes, s) },
	}, tracer.Input{Name: "test.ptr", Reader: bytes.NewReader(raw)})
	labtest.Must(t, err)
	return o
}

// checkReplay replays the recording of a trace and compares everything with what the trace reported.
func (r *recorded) checkReplay(t *testing.T, live *observed) {
	t.Helper()
	if r == nil {
		return
	}
	got := replayed(t, r.Bytes())
	if !reflect.DeepEqual(got.meta, live.meta) {
		t.Errorf("replayed meta: got %+v, want %+v", got.meta, live.meta)
	}
	if !reflect.DeepEqual(got.result.Flows, live.result.Flows) || got.result.Stats.Events != live.result.Stats.Events {
		t.Errorf("replayed: got %+v, want %+v", got.result, live.result)
	}
	if len(got.flows) != len(live.flows) {
		t.Fatalf("replayed: got %d flows, want %d; notes %q", len(got.flows), len(live.flows), got.notes)
	}
	for i := range live.flows {
		compare(t, &got.flows[i], &live.flows[i])
	}
}

func compare(t *testing.T, got, want *tracer.Flow) {
	t.Helper()
	for _, diff := range slices.Concat(
		differences("verdict", reflect.ValueOf(got.Verdict), reflect.ValueOf(want.Verdict)),
		differences("path", reflect.ValueOf(got.Path), reflect.ValueOf(want.Path)),
	) {
		t.Errorf("replayed %s", diff)
	}
}

// differences says where two values differ.
func differences(at string, got, want reflect.Value) (out []string) {
	if got.Kind() == reflect.Pointer && !got.IsNil() && !want.IsNil() {
		return differences(at, got.Elem(), want.Elem())
	}
	switch {
	case got.Kind() == reflect.Struct && !reflect.PointerTo(got.Type()).Implements(reflect.TypeFor[fmt.Stringer]()):
		for i := range got.NumField() {
			out = append(out, differences(at+"."+got.Type().Field(i).Name, got.Field(i), want.Field(i))...)
		}
		return out
	case got.Kind() == reflect.Slice && got.Len() == want.Len() && got.IsNil() == want.IsNil():
		for i := range got.Len() {
			out = append(out, differences(fmt.Sprintf("%s[%d]", at, i), got.Index(i), want.Index(i))...)
		}
		return out
	}
	if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
		return []string{fmt.Sprintf("%s: got %s, want %s", at, g, w)}
	}
	return nil
}

// TestReplay: what a recording says is what the trace said. Every other test of a trace here checks
// the same.
func TestReplay(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	o := probe(t, d.Lab, "client", "192.0.2.1:8080", nil)
	checkVerdict(t, o.flows[0].Verdict, "delivered", "")
}
