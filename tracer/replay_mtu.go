package tracer

import (
	"context"
	"errors"
	"fmt"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/recording"
)

// errNotMeasured is a recording without probes of chosen sizes.
var errNotMeasured = errors.New("no packet sizes were measured: record them with record --mtu --to NAME --from NAME")

// ReplayMTU judges the packet sizes that were measured when a recording was made, as MeasureMTU did. The
// inputs are the parts of one recording; expect is as for MeasureMTU. Of the callbacks of cfg OnStart and
// OnNote are called. Errors are those of Replay.
func ReplayMTU(ctx context.Context, cfg ReplayConfig, expect int, inputs ...Input) (MTUResult, error) {
	var out MTUResult
	opened := false
	cfg.OnFlow = func(f Flow) {
		if !opened {
			opened, out.Path, out.Verdict = true, f.Path, f.Verdict
		}
	}
	r := newReplay(cfg)
	for i, in := range inputs {
		if err := r.input(ctx, in, i == 0); err != nil {
			return out, err
		}
	}
	r.finish(r.complete)
	for _, name := range r.truncated {
		r.cfg.OnNote(fmt.Sprintf("%s: %v; this is all it has", name, recording.ErrTruncated))
	}
	if r.measured != nil {
		f := r.measured.facts()
		if expect != 0 {
			f.Expect = expect
		}
		out.Directions, out.Verdict = f.Directions, mtu.Conclude(f)
	} else if !r.session.Sized || !opened {
		return out, &RecordingError{inputs[0].Name, errNotMeasured}
	}
	out.Stats = r.result().Stats
	return out, nil
}
