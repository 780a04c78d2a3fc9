package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/tracer"
)

const replayLong = `replay runs the analysis of a recorded trace again and shows what pathtrace showed then, or would have
shown with another --output. It needs no root and no Docker, and asks nothing of this host.

The files of one recording, as --rotate makes them, are given together, in any order.

Exit status: 0 delivered, 1 cannot replay, 2 wrong usage, 3 not delivered, 4 no traffic seen.`

func newReplay(s *streams) *cobra.Command {
	var f outputFlags
	cmd := &cobra.Command{
		Use:     "replay FILE...",
		Short:   "Show a recorded trace again, without root",
		Long:    replayLong,
		Example: "  pathtrace replay web.ptr\n  pathtrace replay -v --output json web.ptr web.1.ptr",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("replay needs a file, as in pathtrace replay web.ptr")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return replay(cmd, s, f, args)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// recordingFile is an opened recording.
type recordingFile struct {
	name   string
	file   *os.File
	header recording.Header
}

func replay(cmd *cobra.Command, s *streams, f outputFlags, names []string) (failure error) {
	files, err := openRecordings(names)
	defer func() {
		for _, x := range files {
			x.file.Close() // only read
		}
	}()
	if err != nil {
		return err
	}
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	var inputs []tracer.Input
	for _, x := range files {
		inputs = append(inputs, tracer.Input{Name: x.name, Reader: x.file})
	}
	out := f.open(s, true)
	var shown tracer.Config
	out.connect(&shown)
	cfg := tracer.ReplayConfig{OnFlow: shown.OnFlow, OnNote: shown.OnNote, OnStart: func(m tracer.Meta) {
		if m.Source != "" && out.live != nil {
			out.text, out.live = out.openText(s), nil
			return
		}
		if out.json != nil {
			shown.OnStart(m)
		}
	}}
	result, err := tracer.Replay(cmd.Context(), cfg, inputs...)
	if err != nil && result.Flows == nil {
		return err
	}
	if wrong := out.finish(result.Stats); wrong != nil || err != nil {
		return cmp.Or(err, wrong)
	}
	return status(result.Flows)
}

// openRecordings opens the files in the order of the parts they are of one recording.
func openRecordings(names []string) ([]recordingFile, error) {
	var files []recordingFile
	for _, name := range names {
		x := recordingFile{name: name}
		var err error
		if x.file, err = os.Open(name); err != nil {
			return files, fmt.Errorf("open recording: %w", err)
		}
		files = append(files, x)
		r, err := recording.NewReader(x.file)
		if err != nil {
			return files, &tracer.RecordingError{Name: name, Err: err}
		}
		files[len(files)-1].header = *r.Header()
		r.Close()
		if _, err := x.file.Seek(0, 0); err != nil {
			return files, fmt.Errorf("read recording: %w", err)
		}
	}
	slices.SortStableFunc(files, func(a, b recordingFile) int { return cmp.Compare(a.header.Part, b.header.Part) })
	return files, sameRun(files)
}

// sameRun checks that the files are parts of one recording, without a gap.
func sameRun(files []recordingFile) error {
	for i := 1; i < len(files); i++ {
		a, b := files[i-1], files[i]
		switch {
		case a.header.Run != b.header.Run:
			return fmt.Errorf("%s and %s are of different recordings: replay them one by one", a.name, b.name)
		case a.header.Part == b.header.Part:
			return fmt.Errorf("%s and %s are the same recording: give it once", a.name, b.name)
		case a.header.Part+1 != b.header.Part:
			return fmt.Errorf("between %s and %s a part of the recording is missing: give all, or one", a.name, b.name)
		}
	}
	return nil
}
