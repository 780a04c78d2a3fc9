package main

import (
	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/tracer"
)

// replayDoctor examines the host of one recording.
func replayDoctor(cmd *cobra.Command, s *streams, f replayFlags, names []string) (failure error) {
	f.traces = false // no packet is shown
	files, inputs, err := openOne(names)
	defer closeRecordings(files)
	if err != nil {
		return err
	}
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	e, err := tracer.ReplayDoctor(cmd.Context(), inputs...)
	if err != nil {
		return err
	}
	shown := doctorFlags{outputFlags: f.outputFlags}
	return shown.report(s, e)
}
