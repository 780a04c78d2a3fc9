package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
)

// outputFlags say how results are written.
type outputFlags struct {
	output     string
	file       string
	verbose    bool
	noColor    bool
	allPackets bool
	snaplen    int
	traces     bool // the command traces: it has packets to write
	records    bool // it writes a recording to file, whatever else it shows
}

// registerOutput adds the flags of every command.
func (f *outputFlags) registerOutput(flags *pflag.FlagSet) {
	flags.StringVarP(&f.output, "output", "o", "text", "text, json or html")
	flags.StringVarP(&f.file, "write", "w", "", "write to `FILE` instead of standard output")
	flags.BoolVar(&f.noColor, "no-color", false, "no colours, also on a terminal")
}

// register adds the flags of a command that traces.
func (f *outputFlags) register(flags *pflag.FlagSet) {
	f.registerOutput(flags)
	f.traces = true
	flags.Lookup("output").Usage = "text, json, html, or pcapng for Wireshark"
	flags.IntVar(&f.snaplen, "snaplen", 0, "pcapng: keep the first `N` bytes of each packet (default: the headers)")
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show every hook")
	flags.BoolVar(&f.allPackets, "all-packets", false,
		"every packet, not only those that open, close, reset or are dropped")
}

// output writes a trace in the chosen form.
type output struct {
	flags   outputFlags
	notes   io.Writer
	json    *render.JSON
	text    *render.Text // one probe
	live    *render.Live // watched traffic
	packets *render.PCAPNG
	html    *render.HTML
	telling *progress // until there is something to show; nil without
	failure error     // the first error of writing
}

// tell says on standard error what is going on until there is something to show. The function it returns
// ends that at the latest.
func (o *output) tell(what string) (end func()) {
	o.telling = newProgress(o.notes, newLastWords(what).text)
	o.notes = o.telling
	return o.telling.close
}

// shows ends what tell began.
func (o *output) shows() {
	if o.telling != nil {
		o.telling.close()
	}
}

// tellStart is tell until the trace has started.
func (o *output) tellStart(cfg *tracer.Config, what string) (end func()) {
	end = o.tell(what)
	start := cfg.OnStart
	cfg.OnStart = func(m tracer.Meta) {
		end()
		start(m)
	}
	return end
}

// begin checks the flags and applies --write: it returns the streams to use and what is to be called
// at the end, which adds the error of closing the file to failure.
func (f *outputFlags) begin(s *streams) (_ *streams, done func(failure *error), _ error) {
	if err := f.check(s.out); err != nil {
		return nil, nil, usageError{err}
	}
	out := &streams{out: s.out, err: s.err}
	var closers []io.Closer
	if f.file != "" {
		file, err := os.Create(f.file)
		if err != nil {
			return nil, nil, fmt.Errorf("open output file: %w", err)
		}
		out.out, closers = file, append(closers, file)
	}
	if f.output == "html" && !f.traces { // what there is to say is text
		page := render.NewTextPage(out.out)
		f.output, out.out, closers = "text", page, append([]io.Closer{page}, closers...)
	}
	return out, func(failure *error) {
		for _, c := range closers {
			if err := c.Close(); err != nil && *failure == nil {
				*failure = fmt.Errorf("close output: %w", err)
			}
		}
	}, nil
}

// maxSnaplen is the most bytes of a packet that can be kept.
const maxSnaplen = 65535

// check reports what is wrong with the flags; out is standard output.
func (f *outputFlags) check(out io.Writer) error {
	offered := "text, json or html"
	if f.traces {
		offered = "text, json, html or pcapng"
	}
	switch {
	case f.output == "text", f.output == "json", f.output == "html":
	case f.output == "pcapng" && f.traces:
	default:
		return fmt.Errorf("unknown output %q: --output takes %s", f.output, offered)
	}
	switch {
	case f.snaplen < 0 || f.snaplen > maxSnaplen:
		return fmt.Errorf("--snaplen is %d: give 1 to %d bytes, or leave it out for the headers", f.snaplen, maxSnaplen)
	case f.records && f.output == "pcapng":
		return fmt.Errorf("record makes a recording, of which pathtrace replay --output pcapng makes a capture")
	case f.snaplen > 0 && f.output != "pcapng" && !f.records:
		return fmt.Errorf("--snaplen is for --output pcapng: the other outputs hold no bytes of packets")
	case f.output == "pcapng" && f.file == "" && isTerminal(out):
		return fmt.Errorf("pcapng is not for a terminal: add -w FILE, or pipe it to a program, as in … | tshark -r -")
	}
	return nil
}

// isTerminal reports whether what is written to w is shown on a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// open prepares the output of one trace; watching tells live traffic from a probe.
func (f *outputFlags) open(s *streams, watching bool) *output {
	o := &output{flags: *f, notes: s.err}
	switch {
	case f.output == "json":
		o.json = render.NewJSON(s.out)
	case f.output == "html":
		o.html = render.NewHTML(s.out, f.allPackets, watching)
	case f.output == "pcapng":
		o.packets = render.NewPCAPNG(s.out, f.allPackets, f.snaplen)
	case watching:
		o.live = render.NewLive(f.options(s.out))
	default:
		o.text = render.NewText(f.options(s.out))
	}
	return o
}

// options are those of the text renderers for a writer: colour and width only on a terminal.
func (f *outputFlags) options(w io.Writer) render.Options {
	o := render.Options{Writer: w, Verbose: f.verbose, AllPackets: f.allPackets}
	file, ok := w.(*os.File)
	if !ok {
		return o
	}
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return o // not a terminal
	}
	o.Width = int(size.Col)
	o.Color = !f.noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return o
}

// connect makes the trace report here, and frees what starting it took.
func (o *output) connect(cfg *tracer.Config) {
	o.report(cfg)
	if cfg.Source == "" {
		cfg.OnRest = rest
	}
	start := cfg.OnStart
	cfg.OnStart = func(m tracer.Meta) {
		if cfg.Source == "" {
			loaded()
		}
		start(m)
		if cfg.Source != "" {
			started() // it is over before it would pay to give memory back
		}
	}
}

// report makes what is traced, or was, be reported here.
func (o *output) report(cfg *tracer.Config) {
	target := cfg.Target
	cfg.Packets, cfg.Snaplen = o.packets != nil, o.flags.snaplen
	cfg.OnNote = func(text string) {
		if o.live != nil {
			_, _ = o.notes.Write(nil) // removes the line of what is going on
			o.check(o.live.Hint(text))
			return
		}
		if o.html != nil {
			o.check(o.html.Note(text))
		}
		render.Note(o.notes, text)
	}
	cfg.OnStart = func(m tracer.Meta) {
		switch {
		case o.json != nil:
			o.check(o.json.Meta(m))
		case o.packets != nil:
			o.check(o.packets.Meta(m))
		case o.html != nil:
			o.check(o.html.Meta(m))
		case o.live != nil:
			o.check(o.live.Watching(fmt.Sprintf("watching traffic to %s; Ctrl-C ends", target)))
		}
	}
	cfg.OnFlow, cfg.LendsFlows = o.flow, o.packets == nil // a capture keeps hops that name devices
}

func (o *output) flow(f tracer.Flow) {
	o.shows()
	switch {
	case o.json != nil:
		o.check(o.json.Flow(f.Path, o.flags.allPackets, f.Verdict))
	case o.packets != nil:
		o.check(o.packets.Flow(f.Path, f.Verdict))
	case o.html != nil:
		o.check(o.html.Flow(f.Path, f.Verdict))
	case o.live != nil:
		o.check(o.live.Flow(f.Decided, f.Path, f.Verdict))
	default:
		o.check(o.text.Flow(f.Path, f.Verdict))
	}
}

// finish writes the end of the trace and returns the first error of writing.
func (o *output) finish(st tracer.Stats) error {
	o.shows()
	switch {
	case o.json != nil:
		o.check(o.json.Stats(st))
	case o.html != nil:
		o.check(o.html.Stats(st))
	case o.packets != nil:
		o.check(o.packets.Stats(st))
		o.check(render.NewText(render.Options{Writer: o.notes}).Stats(st))
	case o.live != nil:
		o.check(o.live.Summary(st))
	default:
		o.check(o.text.Stats(st))
	}
	if o.failure == nil && o.packets != nil {
		render.Note(o.notes, o.packets.Summary())
	}
	if o.failure != nil {
		return fmt.Errorf("write output: %w", o.failure)
	}
	return nil
}

func (o *output) check(err error) {
	if o.failure == nil {
		o.failure = err
	}
}

// verbosely writes the verifier's log behind an error, if there is one and -v asks for it.
func (f *outputFlags) verbosely(s *streams, err error) error {
	if log := tracer.VerifierLog(err); f.verbose && log != "" {
		fmt.Fprintln(s.err, log)
	}
	return err
}
