package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
)

// recordMTU records a measurement of packet sizes.
func recordMTU(cmd *cobra.Command, s *streams, f recordFlags) error {
	m := mtuFlags{outputFlags: f.outputFlags, flowFlags: f.flowFlags}
	m.from = cmp.Or(m.from, "host")
	switch {
	case f.output == "pcapng":
		return usageError{errors.New("--mtu has no packets to show: record first, then replay --output pcapng")}
	case f.count != 0, f.allPackets, f.traceRules:
		return usageError{errors.New("--count, --all-packets and --trace-rules are for a trace: --mtu sends its own probes")}
	}
	m.traces, m.file = false, ""
	cfg, err := m.config()
	if err != nil {
		return err
	}
	if cfg.Record, err = f.recording(s.out); err != nil {
		return err
	}
	if f.file == "-" {
		s = &streams{out: io.Discard, err: s.err}
	}
	cfg.Packets = true // for replay --output pcapng
	r, err := m.measure(cmd, s, cfg)
	if err != nil {
		return err
	}
	if err := sayRecorded(s, f.file, "a measurement", "pathtrace replay --mtu "+f.file, r.Recorded); err != nil {
		return err
	}
	return mtuStatus(r)
}

// replayMTU shows the packet sizes that one recording has.
func replayMTU(cmd *cobra.Command, s *streams, f replayFlags, names []string) error {
	return f.analyse(s, func(s *streams, parts [][]tracer.Input) error {
		var meta tracer.Meta
		var notes []string
		r, err := tracer.ReplayMTU(cmd.Context(), tracer.ReplayConfig{
			OnStart: func(m tracer.Meta) { meta = m },
			OnNote:  func(text string) { notes = append(notes, text) },
		}, f.expect, parts[0]...)
		if errors.Is(err, tracer.ErrNotMeasured) && f.expect == 0 {
			return replayMTUWatch(cmd, s, f, parts[0])
		}
		for _, text := range notes {
			render.Note(s.err, text)
		}
		if err != nil {
			return err
		}
		shown := mtuFlags{outputFlags: f.outputFlags}
		if err := shown.write(s, meta, r); err != nil {
			return fmt.Errorf("write output: %w", err)
		}
		return mtuStatus(r)
	}, names)
}

// replayMTUWatch shows what the recording of live traffic has of sizes, as mtu --watch would have.
func replayMTUWatch(cmd *cobra.Command, s *streams, f replayFlags, inputs []tracer.Input) error {
	for _, in := range inputs {
		if seeker, ok := in.Reader.(io.Seeker); ok { // of one that is none it will be said
			if _, err := seeker.Seek(0, io.SeekStart); err != nil {
				return fmt.Errorf("read recording: %w", err)
			}
		}
	}
	var meta tracer.Meta
	r, err := tracer.ReplayMTUWatch(cmd.Context(), tracer.ReplayConfig{
		OnStart: func(m tracer.Meta) { meta = m },
		OnNote:  func(text string) { render.Note(s.err, text) },
	}, inputs...)
	if err != nil {
		return err
	}
	shown := mtuFlags{outputFlags: f.outputFlags}
	j := render.NewJSON(s.out)
	var started error
	if f.output == "json" {
		started = j.Meta(meta)
	}
	return shown.writeWatch(s, j, started, r)
}
