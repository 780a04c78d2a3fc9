package tracer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// ErrNotMeasured is a recording without probes of chosen sizes.
var ErrNotMeasured = errors.New("no packet sizes were measured: record them with record --mtu --to NAME --from NAME")

// ReplayMTU judges the packet sizes that were measured when a recording was made, as MeasureMTU did. The
// inputs are the parts of one recording; expect is as for MeasureMTU. Of the callbacks of cfg OnStart and
// OnNote are called. Errors are those of Replay.
func ReplayMTU(ctx context.Context, cfg ReplayConfig, expect int, inputs ...Input) (MTUResult, error) {
	var out MTUResult
	opened := false
	cfg.LendsFlows = false
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
		return out, &RecordingError{inputs[0].Name, ErrNotMeasured}
	}
	out.Stats = r.result().Stats
	return out, nil
}

// ReplayMTUWatch counts in the recording of live traffic what WatchMTU counts on live traffic. The inputs are
// the parts of one recording. They are read twice and must be io.Seekers: what a device is may be recorded
// after its first packet. Of the callbacks of cfg OnStart and OnNote are called. Errors are those of Replay,
// and ErrNotMeasured for a recording of a probe, which shows no traffic but that.
func ReplayMTUWatch(ctx context.Context, cfg ReplayConfig, inputs ...Input) (MTUWatchResult, error) {
	names, err := recordedNames(inputs)
	if err != nil {
		return MTUWatchResult{}, err
	}
	cfg.OnFlow = nil
	r := newReplay(cfg)
	nobody := func(string) {} // what a watch tells while it goes on
	r.sizes = &mtuWatch{names: names, namer: r, count: mtu.NewWatch(), note: nobody, progress: nobody}
	for i, in := range inputs {
		if err := r.input(ctx, in, i == 0); err != nil {
			return MTUWatchResult{}, err
		}
	}
	switch {
	case r.tracker == nil:
		return MTUWatchResult{}, &RecordingError{inputs[0].Name, errNoSession}
	case r.session.Probe:
		return MTUWatchResult{}, &RecordingError{inputs[0].Name, ErrNotMeasured}
	}
	for _, name := range r.truncated {
		r.cfg.OnNote(fmt.Sprintf("%s: %v; this is all it has", name, recording.ErrTruncated))
	}
	stats := r.result().Stats
	took := time.Duration(stats.WallNS)
	if r.stats == nil {
		took = time.Duration(r.last - r.first)
	}
	out := r.sizes.result(stats, took)
	if out.Watch.Packets > 0 && r.session.Proto == path.TCP && out.Watch.Segments == 0 {
		r.cfg.OnNote(fmt.Sprintf("%s: no packet with data is recorded: record with --all-packets while there is traffic", inputs[0].Name))
	}
	return out, nil
}
