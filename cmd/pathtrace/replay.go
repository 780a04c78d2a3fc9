package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/tracer"
)

const replayLong = `replay runs the analysis of a recorded trace again and shows what pathtrace showed then, or would
have shown with another --output. It needs no root and no Docker, and asks nothing of this host.

The files of one recording, as --rotate makes them, are given together, in any order; - is standard
input, as in ssh HOST pathtrace record -w - --to web:80 | pathtrace replay -
The recordings of several hosts that saw the same traffic are given together, too: each flow is then
shown over all of them.

With --doctor, the host is examined as pathtrace doctor does, by what was read of it when the
recording began. With --mtu, the packet sizes are shown that record --mtu measured; of live traffic
that was recorded with --all-packets, what pathtrace mtu --watch would have shown.

With --latency, the time that each part of the way took is shown, as pathtrace latency does, of what
was recorded with --all-packets; --against lays another recording beside it, as before and after a
change.

Exit status: 0 delivered, 1 cannot replay, 2 wrong usage, 3 not delivered, 4 no traffic seen; with
another analysis, that of its command.`

func newReplay(s *streams) *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay FILE...",
		Short: "Show a recorded trace again, without root",
		Long:  replayLong,
		Example: "  pathtrace replay web.ptr\n  pathtrace replay -v --output json web.ptr web.1.ptr\n" +
			"  pathtrace replay h1.ptr h2.ptr\n  pathtrace replay before.ptr --against after.ptr",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("replay needs a file, as in pathtrace replay web.ptr")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return replayAs(cmd, s, f, args)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&f.doctor, "doctor", false, "show what pathtrace doctor said of the host when the recording began")
	cmd.Flags().BoolVar(&f.mtu, "mtu", false, "show the packet sizes that record --mtu measured, or of live traffic")
	cmd.Flags().IntVar(&f.expect, "expect", 0, "--mtu: exit with 3 if packets of so many `BYTES` did not pass")
	f.registerLatency(cmd.Flags())
	cmd.Flags().StringVar(&f.redact, "redact", "", "write a copy to `FILE` in which addresses and names are replaced")
	cmd.Flags().StringVar(&f.key, "redact-key", "", "redact so that recordings with the same `SECRET` fit together")
	return cmd
}

// replayAs shows a recording as the command does that the flags name.
func replayAs(cmd *cobra.Command, s *streams, f replayFlags, names []string) error {
	shows := 0
	for _, asked := range []bool{f.doctor, f.mtu, f.timed()} {
		if asked {
			shows++
		}
	}
	switch {
	case shows > 1:
		return usageError{errors.New("--doctor, --mtu and --latency show different things: give one of them")}
	case shows > 0 && (f.redact != "" || f.key != ""):
		return usageError{errors.New("--redact makes a copy: make it first, and show the copy then")}
	case f.expect != 0 && !f.mtu, f.expect < 0:
		return usageError{errors.New("--expect is for --mtu, and takes a size in bytes, as in --mtu --expect 1450")}
	case f.doctor:
		return replayDoctor(cmd, s, f, names)
	case f.mtu:
		return replayMTU(cmd, s, f, names)
	case f.timed():
		return replayLatency(cmd, s, f, names)
	}
	return replay(cmd, s, f, names)
}

// redactFlags say where a redacted copy goes.
type redactFlags struct {
	redact, key string
}

// recordingFile is an opened recording.
type recordingFile struct {
	name string
	file *os.File
	pipe io.Reader // what a pipe has, from the beginning; nil for a file
	tracer.RecordingInfo
}

// input is the recording from its beginning.
func (x *recordingFile) input() tracer.Input {
	if x.pipe != nil {
		return tracer.Input{Name: x.name, Reader: x.pipe}
	}
	return tracer.Input{Name: x.name, Reader: x.file}
}

// open opens a recording, - for standard input, and reads what it is.
func (x *recordingFile) open(name string) (err error) {
	x.name, x.file = name, os.Stdin
	if name == "-" {
		x.name = "standard input"
	} else if x.file, err = os.Open(name); err != nil {
		return fmt.Errorf("open recording: %w", err)
	}
	var begun bytes.Buffer
	info, err := tracer.InspectRecording(tracer.Input{Name: x.name, Reader: io.TeeReader(x.file, &begun)})
	if err != nil {
		return err
	}
	x.RecordingInfo = *info
	switch _, err := x.file.Seek(0, io.SeekStart); {
	case errors.Is(err, syscall.ESPIPE):
		x.pipe = io.MultiReader(&begun, x.file)
	case err != nil:
		return fmt.Errorf("read recording: %w", err)
	}
	return nil
}

// closeRecordings closes recordings, which were only read.
func closeRecordings(files []recordingFile) {
	for _, x := range files {
		if x.file != nil {
			x.file.Close()
		}
	}
}

func replay(cmd *cobra.Command, s *streams, f replayFlags, names []string) (failure error) {
	if f.key != "" && f.redact == "" {
		return usageError{errors.New("--redact-key is for --redact FILE: say where the redacted copy goes")}
	}
	if f.redact != "" {
		if err := redactCopy(cmd.Context(), f, names); err != nil {
			return err
		}
		names = []string{f.redact}
	}
	files, err := openRecordings(names)
	defer closeRecordings(files)
	if err != nil {
		return err
	}
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	info := files[0].RecordingInfo
	for _, x := range files[1:] {
		if x.Meta.Source != "" {
			info = x.RecordingInfo // who sends the probe decides how it is shown
		}
	}
	out := f.open(s, info.Meta.Source == "")
	defer out.tell("reading what was recorded")()
	result, err := replayAll(cmd.Context(), out.replayed(&info), files)
	var damaged *tracer.RecordingError
	var apart *tracer.ApartError
	if err != nil && !errors.As(err, &damaged) && !errors.As(err, &apart) {
		return err
	}
	if wrong := out.finish(result.Stats); wrong != nil || err != nil {
		return cmp.Or(err, wrong)
	}
	return status(result.Flows)
}

// redactCopy writes a redacted copy of the one recording that was given.
func redactCopy(ctx context.Context, f replayFlags, names []string) (failure error) {
	if len(names) != 1 {
		return usageError{errors.New("--redact takes one recording at a time; --redact-key makes several fit together")}
	}
	files, err := openRecordings(names)
	defer closeRecordings(files)
	if err != nil {
		return err
	}
	if from, err := files[0].file.Stat(); err == nil {
		if to, err := os.Stat(f.redact); err == nil && os.SameFile(from, to) {
			return usageError{fmt.Errorf("%s would be replaced by its redacted copy: give --redact another file", names[0])}
		}
	}
	out, err := os.Create(f.redact)
	if err != nil {
		return fmt.Errorf("open redacted copy: %w", err)
	}
	defer func() {
		if err := out.Close(); err != nil && failure == nil {
			failure = fmt.Errorf("close redacted copy: %w", err)
		}
	}()
	err = tracer.Redact(ctx, redactKey(f.key), files[0].input(), out)
	if errors.Is(err, recording.ErrTruncated) {
		return nil // as the copy, of which it is said
	}
	return err
}

// replayed makes a replay report here.
func (o *output) replayed(info *tracer.RecordingInfo) tracer.ReplayConfig {
	cfg := tracer.Config{Target: info.Meta.Target, Source: info.Meta.Source}
	o.report(&cfg)
	out := tracer.ReplayConfig{OnFlow: cfg.OnFlow, OnNote: cfg.OnNote, OnStart: cfg.OnStart, LendsFlows: cfg.LendsFlows}
	if o.live != nil {
		out.OnStart = func(tracer.Meta) {
			o.check(o.live.Watching(fmt.Sprintf("traffic to %s, as recorded on %s at %s", info.Meta.Target, info.Host,
				info.Began.Local().Format("2006-01-02 15:04:05"))))
		}
	}
	return out
}

// openRecordings opens the files in the order of the parts they are of one recording.
func openRecordings(names []string) ([]recordingFile, error) {
	var files []recordingFile
	for _, name := range names {
		var x recordingFile
		err := x.open(name)
		if files = append(files, x); err != nil {
			return files, err
		}
	}
	// The parts of a recording one after the other, the recordings in the order in which they were given.
	first := map[string]int{}
	for i, x := range files {
		if _, ok := first[x.Run]; !ok {
			first[x.Run] = i
		}
	}
	slices.SortStableFunc(files, func(a, b recordingFile) int {
		return cmp.Or(cmp.Compare(first[a.Run], first[b.Run]), cmp.Compare(a.Part, b.Part))
	})
	return files, wholeRuns(files)
}

// analyse opens recordings, each given as the names of its files, and begins the output; show writes it.
func (f *replayFlags) analyse(s *streams, show func(*streams, [][]tracer.Input) error, recordings ...[]string) (failure error) {
	f.traces = false // what is shown are no packets
	var parts [][]tracer.Input
	for _, names := range recordings {
		if len(names) == 0 {
			continue
		}
		files, err := openRecordings(names)
		defer closeRecordings(files)
		if err = cmp.Or(err, oneRun(files)); err != nil {
			return err
		}
		inputs := make([]tracer.Input, len(files))
		for i := range files {
			inputs[i] = files[i].input()
		}
		parts = append(parts, inputs)
	}
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	return show(s, parts)
}

// replayAll replays one recording, or several hosts' of the same traffic.
func replayAll(ctx context.Context, cfg tracer.ReplayConfig, files []recordingFile) (tracer.Result, error) {
	var hosts []tracer.HostRecording
	for i := range files {
		if x := files[i]; i == 0 || x.Run != files[i-1].Run {
			hosts = append(hosts, tracer.HostRecording{Info: &files[i].RecordingInfo})
		}
		last := &hosts[len(hosts)-1]
		last.Parts = append(last.Parts, files[i].input())
	}
	if len(hosts) == 1 {
		return tracer.Replay(ctx, cfg, hosts[0].Parts...)
	}
	return tracer.ReplayHosts(ctx, cfg, hosts...)
}

// wholeRuns checks that the files of each recording are its parts, without a gap.
func wholeRuns(files []recordingFile) error {
	for i := 1; i < len(files); i++ {
		a, b := files[i-1], files[i]
		switch {
		case a.Run != b.Run:
		case a.Part == b.Part:
			return fmt.Errorf("%s and %s are the same recording: give it once", a.name, b.name)
		case a.Part+1 != b.Part:
			return fmt.Errorf("between %s and %s a part of the recording is missing: give all, or one", a.name, b.name)
		}
	}
	return nil
}

// oneRun checks that the files are of one recording.
func oneRun(files []recordingFile) error {
	for i := 1; i < len(files); i++ {
		if a, b := files[i-1], files[i]; a.Run != b.Run {
			return fmt.Errorf("%s and %s are of different recordings: give those of one", a.name, b.name)
		}
	}
	return nil
}
