package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// recordFlags are the flags of record, beside those of a trace.
type recordFlags struct {
	traceFlags
	limit  string
	rotate string
	keep   int
	redact bool
	key    string
	mtu    bool
}

const recordLong = `record follows a flow as pathtrace --to does, shows the same, and keeps it in a file: everything
that the kernel reported, with the names, rules, facts and counters on which it was judged.
pathtrace replay gives the same path and verdict later, elsewhere, without root and without Docker.

What pathtrace doctor reads of the host is kept too, for replay --doctor. With --mtu, packet sizes
are measured as pathtrace mtu does, for replay --mtu; replay --latency needs --all-packets.

The file is written as it happens: after a crash or with a full disk it can be replayed up to there.
With -w - the recording goes to standard output, for another program to read while it is made.

Exit status: that of pathtrace --to; 1 too if the recording ended early.`

const recordExample = `  pathtrace record -w web.ptr --from client --to web:80
  pathtrace record -w web.ptr --to web:80 --duration 10m --rotate 50M --keep 4
  pathtrace record -w web.ptr --redact --to web:80 --count 1     for a bug report`

func newRecord(s *streams) *cobra.Command {
	var f recordFlags
	cmd := &cobra.Command{
		Use:     "record -w FILE --to NAME[:PORT] [--from NAME]",
		Short:   "Keep a trace in a file, for replay",
		Long:    recordLong,
		Example: recordExample,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.mtu {
				return recordMTU(cmd, s, f)
			}
			return record(cmd, s, f)
		},
	}
	flags := cmd.Flags()
	f.registerTrace(flags)
	flags.Lookup("write").Usage = "record to `FILE`; - for standard output"
	f.records = true
	flags.Lookup("snaplen").Usage = "record the first `N` bytes of each packet (default: the headers)"
	f.registerRecord(flags)
	return cmd
}

func (f *recordFlags) registerRecord(flags *pflag.FlagSet) {
	flags.StringVar(&f.limit, "limit", "", "end the recording at `SIZE`, such as 100M; the trace goes on")
	flags.StringVar(&f.rotate, "rotate", "", "begin another file, FILE.1 and so on, whenever one has `SIZE`")
	flags.IntVar(&f.keep, "keep", 0, "with --rotate, keep only the newest `N` files")
	flags.BoolVar(&f.redact, "redact", false, "replace addresses and names, each by the same one everywhere")
	flags.BoolVar(&f.mtu, "mtu", false, "measure which packet sizes the path carries, as pathtrace mtu does")
	flags.StringVar(&f.key, "redact-key", "", "redact so that recordings with the same `SECRET` fit together")
}

// redactKey is the key for a secret, or one that nobody knows.
func redactKey(secret string) []byte {
	if secret == "" {
		return tracer.NewRedactKey()
	}
	return []byte(secret)
}

// recording turns flags into what is to be recorded.
func (f *recordFlags) recording(stdout io.Writer) (*tracer.RecordConfig, error) {
	limit, err := parseSize("limit", f.limit)
	if err != nil {
		return nil, err
	}
	rotate, err := parseSize("rotate", f.rotate)
	switch {
	case err != nil:
		return nil, err
	case f.file == "":
		return nil, usageError{errors.New("record needs a file: give it with -w, as in record -w web.ptr")}
	case f.keep < 0:
		return nil, usageError{fmt.Errorf("--keep is %d: give a positive number", f.keep)}
	case f.keep > 0 && rotate == 0:
		return nil, usageError{errors.New("--keep is for --rotate: say at what size a file is full, as in --rotate 50M")}
	case f.file == "-" && rotate > 0:
		return nil, usageError{errors.New("--rotate makes files: it does not go with -w -")}
	}
	cfg := &tracer.RecordConfig{PartSize: rotate, Limit: limit, Examine: true}
	if f.redact || f.key != "" {
		cfg.Redact = redactKey(f.key)
	}
	cfg.Open = func(part int) (io.WriteCloser, error) {
		if f.file == "-" {
			return unclosed{stdout}, nil
		}
		if old := part - f.keep; f.keep > 0 && old >= 0 {
			if err := os.Remove(partName(f.file, old)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
		return os.Create(partName(f.file, part))
	}
	return cfg, nil
}

// unclosed is a stream that others write to afterwards.
type unclosed struct{ io.Writer }

// Close implements io.Closer.
func (unclosed) Close() error { return nil }

// partName is the name of a part: web.ptr, web.1.ptr, web.2.ptr.
func partName(name string, part int) string {
	if part == 0 {
		return name
	}
	ext := filepath.Ext(name)
	return strings.TrimSuffix(name, ext) + "." + strconv.Itoa(part) + ext
}

// minSize is the smallest size of a recording that makes sense.
const minSize = 64 << 10

// parseSize reads a number of bytes with an optional unit: 100k, 50M, 2G, of 1,024 each; "" is 0.
func parseSize(flag, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	digits, factor := text, int64(1)
	for i, unit := range []string{"k", "m", "g", "t"} {
		for _, form := range []string{unit + "ib", unit + "b", unit} {
			if rest, ok := strings.CutSuffix(strings.ToLower(digits), form); ok && factor == 1 {
				digits, factor = rest, 1<<(10*(i+1))
			}
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n <= 0 || n > (1<<62)/factor {
		return 0, usageError{fmt.Errorf("--%s takes a size, such as 500k, 50M or 2G, got %q", flag, text)}
	}
	if n*factor < minSize {
		return 0, usageError{fmt.Errorf("--%s %s is less than a recording has at least: give 64k or more", flag, text)}
	}
	return n * factor, nil
}

func record(cmd *cobra.Command, s *streams, f recordFlags) error {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	if cfg.Record, err = f.recording(s.out); err != nil {
		return err
	}
	shown := f.outputFlags
	if shown.file = ""; f.file == "-" {
		s = &streams{out: io.Discard, err: s.err}
	}
	s, _, err = shown.begin(s)
	if err != nil {
		return err
	}
	out := shown.open(s, cfg.Source == "")
	out.connect(&cfg)
	cfg.Packets = true // for replay --output pcapng
	defer out.tellStart(&cfg, attaching)()
	s.err = out.notes
	t, err := tracer.New(cmd.Context(), cfg)
	if err != nil {
		return f.verbosely(s, err)
	}
	result, err := t.Run(cmd.Context())
	if err != nil {
		return err
	}
	if err := out.finish(result.Stats); err != nil {
		return err
	}
	return recorded(s, f.file, result)
}

// recorded says what was recorded.
func recorded(s *streams, file string, result tracer.Result) error {
	if err := sayRecorded(s, file, path.FormatCount(result.Recorded.Flows, "flow"), "pathtrace replay "+file, result.Recorded); err != nil {
		return err
	}
	return status(result.Flows)
}

// sayRecorded says what was recorded, and what command shows it; the error is that of recording.
func sayRecorded(s *streams, file, what, command string, r *tracer.Recorded) error {
	if r.Err != nil {
		return fmt.Errorf("%s ends early, and can be replayed up to there: %w", file, r.Err)
	}
	if file != "-" {
		render.Note(s.err, fmt.Sprintf("recorded %s to %s (%s); to see it again: %s", what, file, bytesText(r.Bytes), command))
	}
	return nil
}

// bytesText is a size in the unit that suits it.
func bytesText(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d bytes", n)
	case n < 10<<20:
		return fmt.Sprintf("%d kB", n>>10)
	}
	return fmt.Sprintf("%d MB", n>>20)
}
