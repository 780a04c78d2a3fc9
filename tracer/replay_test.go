package tracer_test

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
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
	r.checkRedacted(t, live)
}

// checkRedacted redacts the recording: it says the same of other names.
func (r *recorded) checkRedacted(t *testing.T, live *observed) {
	t.Helper()
	var copied bytes.Buffer
	labtest.Must(t, tracer.Redact(t.Context(), []byte("key"), tracer.Input{Name: "test.ptr", Reader: bytes.NewReader(r.Bytes())}, &copied))
	got := replayed(t, copied.Bytes())
	if len(got.flows) != len(live.flows) {
		t.Fatalf("redacted: got %d flows, want %d; notes %q", len(got.flows), len(live.flows), got.notes)
	}
	for i := range live.flows {
		if got, want := essence(got.flows[i].Verdict), essence(live.flows[i].Verdict); got != want {
			t.Errorf("redacted: got\n%s\nwant\n%s", got, want)
		}
		checkRedactedBytes(t, got.flows[i].Path)
	}
	z, err := zstd.NewReader(&copied)
	labtest.Must(t, err)
	defer z.Close()
	plain, err := io.ReadAll(z)
	labtest.Must(t, err)
	for _, secret := range []string{"192.0.2.", "10.77.0.", "fd00:77:", "2001:db8:", "br-demo", "\xc0\x00\x02\x01", "\x0a\x4d\x00\x02"} {
		if i := bytes.Index(plain, []byte(secret)); i >= 0 {
			t.Errorf("redacted: %q is still there: …%q…", secret, plain[max(0, i-60):min(len(plain), i+60)])
		}
	}
}

// checkRedactedBytes: the copied headers have the addresses that everything else has.
func checkRedactedBytes(t *testing.T, p *path.Path) {
	t.Helper()
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			if c := h.Capture; c != nil && h.Outer == nil && len(c.Bytes) >= int(c.Link)+40 {
				checkBytes(t, pkt, h)
			}
		}
	}
}

// essence is what a verdict says apart from names.
func essence(v path.Verdict) string {
	var b strings.Builder
	w := v.Where
	if w == nil {
		w = &path.Where{}
	}
	fmt.Fprintf(&b, "%s %s %s %s %s complete %v\n", v.Outcome, v.Cause, w.Stage, w.Function, w.Reason, v.Complete)
	rule := func(r *path.Rule) {
		if r != nil {
			fmt.Fprintf(&b, " rule %s %d %d %s\n", r.Family, r.Number, r.Handle, r.Owner)
		}
	}
	rule(w.Rule)
	for _, n := range v.NAT {
		fmt.Fprintf(&b, " %s in %s\n", n.Kind, n.Stage)
		rule(n.Rule)
	}
	for _, x := range v.Warnings {
		fmt.Fprintf(&b, " warning %s\n", x.Cause)
	}
	fmt.Fprintf(&b, " %d sentences of evidence, %d remedies\n", len(v.Evidence), len(v.Remedy))
	return b.String()
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
