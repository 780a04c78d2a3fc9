package tracer

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/internal/redact"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// NewRedactKey returns a key for Redact that nobody else has.
func NewRedactKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return key
}

// Redact copies a recording with addresses and names replaced, the same ones by the same ones, also in
// other recordings with the same key. Replayed, the copy gives the same path, verdict, cause and rule with
// the other names. The bytes of packets are left out. Like Replay it reads an unfinished recording as it
// comes, and ends where that ends; the error of a damaged one is a *RecordingError.
func Redact(ctx context.Context, key []byte, in Input, out io.Writer) error {
	reader, err := recording.NewReader(in)
	if err != nil {
		return &RecordingError{in.Name, err}
	}
	defer reader.Close()
	r := &redactor{replay: newReplay(ReplayConfig{}), m: redact.New(key), logs: map[int]*judgeLog{}}
	r.reader, r.name = reader, in.Name
	r.rules.onDecode = func(x *shelved) { r.logs[x.Number] = logRules(x.rules, r.m) }
	h := *reader.Header()
	h.Host, h.BootID, h.Redacted = r.m.Name("host", h.Host), r.m.Name("boot", h.BootID), true
	if r.w, err = recording.NewWriter(out, h); err != nil {
		return err
	}
	err = r.copy(ctx)
	switch {
	case errors.Is(err, io.EOF):
		return r.w.Close()
	case errors.Is(err, recording.ErrTruncated):
		// Without an end mark the copy is as unfinished as what it was made of.
		return errors.Join(r.w.Abandon(), &RecordingError{in.Name, err})
	case r.w.Err() != nil:
		return errors.Join(r.w.Abandon())
	}
	return errors.Join(&RecordingError{in.Name, err}, r.w.Abandon())
}

// redactor copies one recording. It replays it on the side: what rules say to packets has to be known.
type redactor struct {
	*replay
	w    *recording.Writer
	m    *redact.Map
	logs map[int]*judgeLog // by number of the reading
	// written are the readings that the copy has.
	written map[int]bool
}

// copy copies everything up to the end, and returns why it ended.
func (r *redactor) copy(ctx context.Context) error {
	r.written = map[int]bool{}
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		kind, err := r.reader.Next()
		if err == nil {
			err = r.pass(kind)
		}
		if err == nil {
			err = r.w.Err()
		}
		if err != nil {
			return err
		}
	}
}

// pass copies what was read.
func (r *redactor) pass(kind recording.Kind) error {
	switch kind {
	case recording.KindEvent:
		e := r.redactedEvent(r.reader.Event())
		r.w.Event(&e)
	case recording.KindTick:
		r.w.Tick(r.reader.Tick())
	case recording.KindRecord:
		return r.passRecord(r.reader.Record())
	}
	return r.take(kind)
}

// redactedEvent is an event with addresses and device replaced.
func (r *redactor) redactedEvent(e *wire.Event) wire.Event {
	out := *e
	tuple := func(t wire.Tuple) wire.Tuple {
		t.Src, t.Dst = r.m.AddrPort(t.Src), r.m.AddrPort(t.Dst)
		return t
	}
	out.Tuple, out.CTOrig, out.CTReply = tuple(e.Tuple), tuple(e.CTOrig), tuple(e.CTReply)
	out.OuterSrc, out.OuterDst, out.Gateway = r.m.AddrPort(e.OuterSrc), r.m.AddrPort(e.OuterDst), r.m.Addr(e.Gateway)
	out.Dev = r.m.Device(e.Dev)
	out.RedactCapture(r.m.Addr)
	return out
}

func (r *redactor) passRecord(rec *recording.Record) error {
	switch rec.Type {
	case typeRules:
		return r.take(recording.KindRecord) // it becomes a rulesetRecord when a flow needs it
	case typeFlow, typeNoTraffic:
		return r.passFlow(rec)
	case recording.TypeName:
		r.w.Copy(rec)
		return nil
	case recording.TypeDevice:
		return r.passDevice(rec)
	case typeDoctor:
		return r.passDoctor(rec)
	}
	value, err := r.redacted(rec)
	if err != nil {
		return err
	}
	if err := r.take(recording.KindRecord); err != nil {
		return err
	}
	return r.w.Record(rec.Type, value, nil)
}

// redacted is the value of a record with what is to be replaced replaced.
func (r *redactor) redacted(rec *recording.Record) (json.RawMessage, error) {
	if rec.Type == recording.TypeAddress || rec.Type == recording.TypeNamespace {
		return r.redactedName(rec)
	}
	if rec.Type == typeValue {
		var v valueRecord
		if err := rec.Decode(&v); err != nil {
			return nil, err
		}
		var err error
		if v.Value, err = r.m.JSON(v.Value); err != nil {
			return nil, err
		}
		return json.Marshal(v)
	}
	return r.m.JSON(rec.JSON)
}

// redactedName is redacted for names of namespaces and addresses, which are labels.
func (r *redactor) redactedName(rec *recording.Record) (json.RawMessage, error) {
	if rec.Type == recording.TypeAddress {
		var a recording.Address
		if err := rec.Decode(&a); err != nil {
			return nil, err
		}
		a.Addr, a.Name = r.m.Addr(a.Addr), r.m.Label(a.Name)
		return json.Marshal(a)
	}
	var ns recording.Namespace
	if err := rec.Decode(&ns); err != nil {
		return nil, err
	}
	ns.Container, ns.Project = r.m.Name("container", ns.Container), r.m.Name("project", ns.Project)
	ns.Service, ns.Name = r.m.Name("service", ns.Service), r.m.Label(ns.Name)
	return json.Marshal(ns)
}

func (r *redactor) passDevice(rec *recording.Record) error {
	var d recording.Device
	if err := rec.Decode(&d); err != nil {
		return err
	}
	d.Name, d.Bridge, d.Network = r.m.Device(d.Name), r.m.Device(d.Bridge), r.m.Name("network", d.Network)
	addrs := d.Addrs
	d.Addrs = nil
	for _, a := range addrs {
		d.Addrs = append(d.Addrs, r.m.Addr(a))
	}
	return r.w.Record(rec.Type, d, nil)
}

// passFlow copies what a flow was decided on, with what the rules say to its packets.
func (r *redactor) passFlow(rec *recording.Record) error {
	var f struct {
		Facts factsRecord `json:"facts"`
	}
	if err := rec.Decode(&f); err != nil {
		return err
	}
	text, err := r.m.JSON(rec.JSON)
	if err != nil {
		return err
	}
	if err := r.take(recording.KindRecord); err != nil {
		return err
	}
	judged := map[int][]judgedRecord{}
	for _, s := range f.Facts.Namespaces {
		for _, number := range []int{s.Rules, s.RulesBefore} {
			if err := r.passRules(number, judged); err != nil {
				return err
			}
		}
	}
	answers, err := redactJSON(r.m, judged)
	if err != nil {
		return err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return fmt.Errorf("redact: %w", err)
	}
	fields["judged"] = answers
	return r.w.Record(rec.Type, fields, nil)
}

// passDoctor copies what was found of the host, in place of what was read of it.
func (r *redactor) passDoctor(rec *recording.Record) error {
	var d doctorRecord
	if err := rec.Decode(&d); err != nil {
		return err
	}
	x, err := d.result(&r.rules)
	if err != nil {
		return err
	}
	// The names that the findings may have in them are those of the facts.
	if _, err := r.m.JSON(rec.JSON); err != nil {
		return err
	}
	for _, s := range d.Spaces {
		if s.Rules == nil {
			continue
		}
		if _, err := redactJSON(r.m, describeRules(rulesRecord{}, s.Rules)); err != nil {
			return err
		}
		if log := r.logs[s.Reading]; log != nil {
			log.take() // of what no flow asked
		}
	}
	value, err := redactJSON(r.m, doctorRecord{
		Found: &foundRecord{x.Findings, x.Containers, x.Networks, x.Namespaces}, Skipped: d.Skipped, Took: d.Took,
	})
	if err != nil {
		return err
	}
	return r.w.Record(rec.Type, value, nil)
}

// passRules writes a reading of rules, once, and takes what its rules were asked.
func (r *redactor) passRules(number int, judged map[int][]judgedRecord) error {
	set := r.rules.ruleset(number)
	if set == nil || judged[number] != nil {
		return nil
	}
	if log := r.logs[number]; log != nil {
		judged[number] = log.take()
	}
	if r.written[number] {
		return nil
	}
	r.written[number] = true
	value, err := redactJSON(r.m, describeRules(r.rules.tapes[number].rulesRecord, set))
	if err != nil {
		return err
	}
	return r.w.Record(typeRuleset, value, nil)
}

// redactedFile is a file into which a recording is written through Redact.
type redactedFile struct {
	*io.PipeWriter
	done chan error
	file io.Closer
}

// newRedactedFile starts to copy what is written to file.
func newRedactedFile(file io.WriteCloser, key []byte) *redactedFile {
	in, out := io.Pipe()
	f := &redactedFile{PipeWriter: out, done: make(chan error, 1), file: file}
	go func() {
		err := Redact(context.Background(), key, Input{"the recording", in}, file)
		in.CloseWithError(err) // further writing fails
		f.done <- err
	}()
	return f
}

// Close waits for the copy.
func (f *redactedFile) Close() error {
	return errors.Join(f.PipeWriter.Close(), <-f.done, f.file.Close())
}
