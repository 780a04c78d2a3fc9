package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
)

// replayFlags are the flags of replay.
type replayFlags struct {
	outputFlags
	doctor   bool
	mtu      bool
	expect   int
	latency  bool
	against  []string
	quantile string
	redactFlags
}

func (f *replayFlags) registerLatency(flags *pflag.FlagSet) {
	flags.BoolVar(&f.latency, "latency", false, "show where the time went, of a recording with --all-packets")
	flags.StringArrayVar(&f.against, "against", nil, "lay the recording `FILE` beside it; repeated for its other files")
	flags.StringVar(&f.quantile, "quantile", "p50", "--against: where they are compared, such as p50 or p99")
}

// timed reports whether times are asked for.
func (f *replayFlags) timed() bool { return f.latency || len(f.against) > 0 }

// replayLatency shows the times of one recording, or of two beside each other.
func replayLatency(cmd *cobra.Command, s *streams, f replayFlags, names []string) (failure error) {
	f.traces = false // no packet is shown
	recordings, closeAll, err := openLatency(names, f.against)
	defer closeAll()
	if err != nil {
		return err
	}
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	out := render.NewJSON(s.out)
	cfg := tracer.ReplayConfig{OnNote: func(text string) { render.Note(s.err, text) }}
	first := true
	cfg.OnStart = func(m tracer.Meta) {
		if f.output == "json" && first {
			_ = out.Meta(m) // the error comes again with what follows
		}
		first = false
	}
	r, err := tracer.ReplayLatency(cmd.Context(), cfg, f.quantile, recordings...)
	if err != nil {
		return err
	}
	if err := f.writeLatency(s, out, r); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return latencyStatus(r)
}

// openLatency opens the files of one or two recordings.
func openLatency(lists ...[]string) (out []tracer.LatencyReplay, closeAll func(), _ error) {
	var open []recordingFile
	closeAll = func() { closeRecordings(open) }
	for _, list := range lists {
		if len(list) == 0 {
			continue
		}
		files, parts, err := openOne(list)
		open = append(open, files...)
		if err != nil {
			return nil, closeAll, err
		}
		rec := tracer.LatencyReplay{Name: recordingName(files[0].name), Parts: parts}
		out = append(out, rec)
	}
	if len(out) == 2 && out[0].Name == out[1].Name {
		out[0].Name, out[1].Name = lists[0][0], lists[1][0]
	}
	return out, closeAll, nil
}

// recordingName is what a recording is called: "before" for traces/before.ptr.
func recordingName(file string) string {
	return strings.TrimSuffix(filepath.Base(file), ".ptr")
}
