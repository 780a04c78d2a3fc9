package main

import (
	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/tracer"
)

// replayDoctor examines the host of one recording.
func replayDoctor(cmd *cobra.Command, s *streams, f replayFlags, names []string) (failure error) {
	f.traces = false // no packet is shown
	inputs, closeAll, err := openOne(names)
	defer closeAll()
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

// openOne opens the files of one recording.
func openOne(names []string) (inputs []tracer.Input, closeAll func(), _ error) {
	files, err := openRecordings(names)
	closeAll = func() { closeRecordings(files) }
	if err == nil {
		err = oneRun(files)
	}
	if err != nil {
		return nil, closeAll, err
	}
	for i := range files {
		inputs = append(inputs, files[i].input())
	}
	return inputs, closeAll, nil
}
