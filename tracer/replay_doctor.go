package tracer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// errNotExamined is a recording without what Doctor reads.
var errNotExamined = errors.New("what doctor reads is not in it: it ended before that was read, or an older pathtrace made it")

// ReplayDoctor examines the host of a recording as Doctor does this one, by what was read of it when the
// recording began. The inputs are the parts of one recording. Errors are those of Replay.
func ReplayDoctor(ctx context.Context, inputs ...Input) (*Examination, error) {
	rules := newRuleShelf()
	for _, in := range inputs {
		reader, err := recording.NewReader(in)
		if err != nil {
			return nil, &RecordingError{in.Name, err}
		}
		x, err := replayExamination(ctx, reader, &rules)
		reader.Close()
		switch {
		case x != nil:
			return x, nil
		case ctx.Err() != nil:
			return nil, err
		case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, recording.ErrTruncated):
			return nil, &RecordingError{in.Name, err}
		}
	}
	return nil, &RecordingError{inputs[len(inputs)-1].Name, errNotExamined}
}

// replayExamination reads up to the examination, and concludes.
func replayExamination(ctx context.Context, reader *recording.Reader, rules *ruleShelf) (*Examination, error) {
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		kind, err := reader.Next()
		if err != nil {
			return nil, err
		}
		if kind != recording.KindRecord {
			continue
		}
		rec := reader.Record()
		switch rec.Type {
		case typeRules:
			err = rules.add(rec)
		case typeDoctor:
			return examinationOf(reader, rules)
		}
		if err != nil {
			return nil, err
		}
	}
}

// examinationOf concludes from the record that was read last.
func examinationOf(reader *recording.Reader, rules *ruleShelf) (*Examination, error) {
	var rec doctorRecord
	if err := reader.Record().Decode(&rec); err != nil {
		return nil, err
	}
	x, err := rec.result(rules)
	if err != nil {
		return nil, err
	}
	h := reader.Header()
	x.Meta = Meta{
		Type: "meta", Schema: path.Schema, Version: h.Version, Kernel: h.Kernel, Hooks: []string{},
		Started: time.Unix(0, h.WallNS).Format(time.RFC3339Nano),
	}
	return x, nil
}

// result is what follows from the record.
func (rec *doctorRecord) result(rules *ruleShelf) (*Examination, error) {
	if f := rec.Found; f != nil {
		x := &Examination{Findings: f.Findings, Containers: f.Containers, Networks: f.Networks, Namespaces: f.Namespaces}
		x.count(rec.Skipped, rec.Took)
		return x, nil
	}
	e, err := rec.read(rules)
	if err != nil {
		return nil, err
	}
	return e.result(nil), nil
}
