package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// mtuFlags are the flags of mtu.
type mtuFlags struct {
	outputFlags
	flowFlags
	expect int
	watch  bool
	live   time.Duration
}

// largestPacket is what the length of an IP packet can say (RFC 791), bytes.
const largestPacket = 65535

const mtuLong = `mtu finds which packet sizes the path carries, in both directions: it reads what every link
declares, proves it with packets of chosen sizes that may not be fragmented, follows each through
the kernel, and says which link is the limit, where larger packets end, and whether the sender is
told.

With tcp (the default) the probes repeat bytes that the other side has acknowledged already: its
kernel answers, its application sees one connection without data. The probes do not use what the
sender's route cache has learned. With IPv6 the kernel learns from their ICMP errors, as from all.

Before it measures, it watches the live traffic to the target for a second (--live) and says which
share of it is fragments, and where. With --watch, nothing is sent: live traffic to the target is
watched for packets that are dropped for their size and for fragments, and it is told whether TCP
repeats large segments only.

Exit status: 0 all that the ends send gets through or is told to be too big, 1 cannot measure,
2 wrong usage, 3 larger packets vanish, or less than --expect passes, 4 no traffic.`

func newMTU(s *streams) *cobra.Command {
	var f mtuFlags
	cmd := &cobra.Command{
		Use:   "mtu --to NAME[:PORT] [--from NAME]",
		Short: "Which packet sizes the path carries, what limits them, and whether larger ones vanish",
		Long:  mtuLong,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.watch {
				return watchMTU(cmd, s, f)
			}
			return measureMTU(cmd, s, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "the far end of the path, `NAME[:PORT]`")
	flags.StringVar(&f.from, "from", "host", "the near end, `NAME`")
	flags.StringVar(&f.proto, "proto", "", "tcp, udp or icmp (default tcp, icmp without a port)")
	flags.IntVar(&f.expect, "expect", 0, "exit with 3 if packets of so many `BYTES` do not pass")
	flags.BoolVar(&f.watch, "watch", false, "watch live traffic, and send nothing")
	flags.DurationVar(&f.duration, "duration", 0, "with --watch: for so long (default: until Ctrl-C)")
	flags.DurationVar(&f.live, "live", time.Second, "watch live traffic so long before measuring; 0: do not")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Second, "how long the opening of the path may take")
	flags.BoolVarP(&f.ipv6, "ipv6", "6", false, "IPv6 where the target has both")
	registerEngines(flags, &f.dockerHosts)
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "the evidence, too; with -o json, the observations of every probe")
	f.registerOutput(flags)
	return cmd
}

// config turns the flags into a measurement.
func (f *mtuFlags) config() (tracer.Config, error) {
	cfg, err := f.flowFlags.config()
	switch {
	case err != nil:
		return cfg, err
	case f.from == "":
		return cfg, usageError{fmt.Errorf("--from is empty: say where the path begins, as in --from client")}
	case f.duration != 0:
		return cfg, usageError{fmt.Errorf("--duration is for --watch: a measurement ends by itself")}
	case f.live < 0:
		return cfg, usageError{fmt.Errorf("--live is %v: give a time, as in --live 1s, or 0", f.live)}
	case f.expect < 0:
		return cfg, usageError{fmt.Errorf("--expect is %d: give a size in bytes, as in --expect 1450", f.expect)}
	case f.expect > largestPacket:
		return cfg, usageError{fmt.Errorf("--expect is %d: no IP packet is larger than %d bytes", f.expect, largestPacket)}
	}
	return cfg, nil
}

func measureMTU(cmd *cobra.Command, s *streams, f mtuFlags) error {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	r, err := f.measure(cmd, s, cfg)
	if err != nil {
		return err
	}
	return mtuStatus(r)
}

// measure measures and writes the result.
func (f *mtuFlags) measure(cmd *cobra.Command, s *streams, cfg tracer.Config) (r tracer.MTUResult, failure error) {
	s, done, err := f.begin(s)
	if err != nil {
		return r, err
	}
	defer done(&failure)
	var meta tracer.Meta
	cfg.OnStart = func(m tracer.Meta) { meta = m }
	far := newLastWords("watching live traffic, finding the path")
	telling := newProgress(s.err, far.text)
	defer telling.close()
	s.err, cfg.OnProgress = telling, far.say
	cfg.OnNote = func(text string) { render.Note(s.err, text) }
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	live := f.watchLive(ctx)
	t, err := tracer.New(ctx, cfg)
	if err != nil {
		cancel()
		_, _ = live() // nothing of it is wanted
		return r, f.verbosely(s, err)
	}
	seen, liveErr := live()
	if liveErr != nil {
		cfg.OnNote(fmt.Sprintf("live traffic was not watched: %v", liveErr))
	}
	r, err = t.MeasureMTU(ctx, f.expect)
	telling.close()
	if err != nil {
		return r, err
	}
	if seen != nil {
		r.AddLive(*seen)
	}
	if err := f.write(s, meta, r); err != nil {
		return r, fmt.Errorf("write output: %w", err)
	}
	return r, nil
}

// watchLive begins to watch the live traffic to the target, while the measurement is prepared. The function
// that it returns waits for the end of that; it returns nil if nothing was to be watched.
func (f *mtuFlags) watchLive(ctx context.Context) func() (*tracer.MTUWatchResult, error) {
	type outcome struct {
		r   *tracer.MTUWatchResult
		err error
	}
	if f.live == 0 {
		return func() (*tracer.MTUWatchResult, error) { return nil, nil }
	}
	done := make(chan outcome, 1)
	go func() {
		cfg, err := f.watching(f.live)
		if err != nil {
			done <- outcome{nil, err}
			return
		}
		cfg.AllPackets = true
		watch, err := tracer.New(ctx, cfg)
		if err != nil {
			done <- outcome{nil, err}
			return
		}
		r, err := watch.WatchMTU(ctx)
		done <- outcome{&r, err}
	}()
	return func() (*tracer.MTUWatchResult, error) {
		o := <-done
		if o.err != nil {
			return nil, o.err
		}
		return o.r, nil
	}
}

// write writes the result as text or JSON.
func (f *mtuFlags) write(s *streams, meta tracer.Meta, r tracer.MTUResult) error {
	if f.output == "text" {
		return f.writeText(s, r)
	}
	j := render.NewJSON(s.out)
	if err := j.Meta(meta); err != nil {
		return err
	}
	if r.Path != nil && (f.verbose || len(r.Directions) == 0) {
		if err := j.Path(r.Path, f.verbose); err != nil {
			return err
		}
	}
	for _, m := range r.Directions {
		if err := j.MTU(m); err != nil {
			return err
		}
	}
	if r.Live != nil {
		if err := j.MTUWatch(*r.Live); err != nil {
			return err
		}
	}
	if err := j.Verdict(r.Verdict); err != nil {
		return err
	}
	return j.Stats(r.Stats)
}

func (f *mtuFlags) writeText(s *streams, r tracer.MTUResult) error {
	o := f.options(s.out)
	if len(r.Directions) == 0 {
		return render.NewText(o).Flow(r.Path, r.Verdict)
	}
	return render.MTU(o, r.Directions, r.Live, r.Verdict)
}

// watchConfig turns the flags into a watch.
func (f *mtuFlags) watchConfig(cmd *cobra.Command) (tracer.Config, error) {
	cfg, err := f.watching(f.duration)
	cfg.AllPackets = true
	switch {
	case err != nil:
		return cfg, err
	case cmd.Flags().Changed("from"):
		return cfg, usageError{fmt.Errorf("--from and --watch: a watch sends nothing; leave --from out")}
	case cmd.Flags().Changed("live"):
		return cfg, usageError{fmt.Errorf("--live and --watch: a watch lasts as long as --duration says")}
	case f.expect != 0:
		return cfg, usageError{fmt.Errorf("--expect and --watch: what passes is measured without --watch")}
	}
	return cfg, nil
}

func watchMTU(cmd *cobra.Command, s *streams, f mtuFlags) (failure error) {
	cfg, err := f.watchConfig(cmd)
	if err != nil {
		return err
	}
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	far := newLastWords("")
	telling := newProgress(s.err, far.text)
	defer telling.close()
	s.err, cfg.OnProgress = telling, far.say
	j := render.NewJSON(s.out)
	var started error
	cfg.OnStart = func(m tracer.Meta) {
		if f.output == "json" {
			started = j.Meta(m)
			return
		}
		render.Note(s.err, fmt.Sprintf("watching the sizes of packets to %s; Ctrl-C ends", f.to))
	}
	cfg.OnNote = func(text string) { render.Note(s.err, text) }
	t, err := tracer.New(cmd.Context(), cfg)
	if err != nil {
		return f.verbosely(s, err)
	}
	r, err := t.WatchMTU(cmd.Context())
	telling.close()
	if err != nil {
		return err
	}
	return f.writeWatch(s, j, started, r)
}

// writeWatch writes what was seen of live traffic as text or, after meta, of which the error is given, as JSON.
func (f *mtuFlags) writeWatch(s *streams, j *render.JSON, started error, r tracer.MTUWatchResult) error {
	var err error
	if f.output == "text" {
		err = render.MTUWatch(f.options(s.out), r.Watch, r.Verdict)
	} else {
		err = errors.Join(started, j.MTUWatch(r.Watch), j.Verdict(r.Verdict), j.Stats(r.Stats))
	}
	if err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return mtuStatus(tracer.MTUResult{Verdict: r.Verdict})
}

// mtuStatus is the exit status of a measurement.
func mtuStatus(r tracer.MTUResult) error {
	switch {
	case len(r.Directions) > 0 && r.Directions[0].MTU == 0 && r.Verdict.Outcome == path.Lost:
		return statusError(exitCannotTrace)
	case r.Verdict.Outcome == path.Delivered:
		return nil
	case r.Verdict.Outcome == path.NoTraffic:
		return statusError(exitNoTraffic)
	}
	return statusError(exitNotDelivered)
}
