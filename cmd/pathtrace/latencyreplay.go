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
func replayLatency(cmd *cobra.Command, s *streams, f replayFlags, names []string) error {
	return f.analyse(s, func(s *streams, parts [][]tracer.Input) error {
		out := render.NewJSON(s.out)
		cfg := tracer.ReplayConfig{OnNote: func(text string) { render.Note(s.err, text) }}
		first := true
		cfg.OnStart = func(m tracer.Meta) {
			if f.output == "json" && first {
				_ = out.Meta(m) // the error comes again with what follows
			}
			first = false
		}
		r, err := tracer.ReplayLatency(cmd.Context(), cfg, f.quantile, named(parts)...)
		if err != nil {
			return err
		}
		if err := f.writeLatency(s, out, r); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return latencyStatus(r)
	}, names, f.against)
}

// named gives recordings names by which they can be told.
func named(parts [][]tracer.Input) (out []tracer.LatencyReplay) {
	for _, p := range parts {
		out = append(out, tracer.LatencyReplay{Name: recordingName(p[0].Name), Parts: p})
	}
	if len(out) == 2 && out[0].Name == out[1].Name {
		out[0].Name, out[1].Name = parts[0][0].Name, parts[1][0].Name
	}
	return out
}

// recordingName is what a recording is called: "before" for traces/before.ptr.
func recordingName(file string) string {
	return strings.TrimSuffix(filepath.Base(file), ".ptr")
}
