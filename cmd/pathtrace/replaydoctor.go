package main

import (
	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/tracer"
)

// replayDoctor examines the host of one recording.
func replayDoctor(cmd *cobra.Command, s *streams, f replayFlags, names []string) error {
	return f.analyse(s, func(s *streams, parts [][]tracer.Input) error {
		e, err := tracer.ReplayDoctor(cmd.Context(), parts[0]...)
		if err != nil {
			return err
		}
		shown := doctorFlags{outputFlags: f.outputFlags}
		return shown.report(s, e)
	}, names)
}
