package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/metrics"
	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
)

// latencyFlags are the flags of latency.
type latencyFlags struct {
	outputFlags
	flowFlags  // to is the first of the targets
	targets    []string
	rate       int
	send       string
	thresholds []string
	quantile   string
	metrics    string
}

const latencyLong = `latency times each segment of the path over many packets: the stacks of both ends, every netfilter
hook, bridges, veth pairs, queues, encapsulation, the wire and the application, there and back.

With --from, requests are sent from inside that container or namespace over one kept TCP connection:
HTTP HEAD, or what --send says. Without, nothing is sent: the live traffic to the target is timed.
Two targets or more are laid beside the first, with a confidence interval for each difference.

What measuring itself costs is measured at the start, shown, and taken out of every segment.

Exit status: 0 measured, 1 cannot trace, 2 wrong usage, 3 a threshold was not met or a target did
not answer, 4 no traffic seen.`

const latencyExample = `  pathtrace latency --from client --to web:80
  pathtrace latency --from client --to web:80 --to overlay-web:80 --count 2000
  pathtrace latency --to db:5432 --duration 30s --threshold p99=2ms
  pathtrace latency --from app --to cache:6379 --send 'PING\r\n' --metrics :9435 --duration 24h`

// latencyDefault is how long is measured if nothing else is said.
const latencyDefault = 10 * time.Second

func newLatency(s *streams) *cobra.Command {
	var f latencyFlags
	cmd := &cobra.Command{
		Use:     "latency --to NAME[:PORT] [--to NAME[:PORT]] [--from NAME]",
		Short:   "Where the time goes on the way, and what an overlay costs",
		Long:    latencyLong,
		Example: latencyExample,
		Args:    noArguments,
		RunE:    func(cmd *cobra.Command, _ []string) error { return measure(cmd, s, f) },
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&f.targets, "to", nil, "what to measure to, `NAME[:PORT]`;\nfurther ones are compared with the first")
	flags.StringVar(&f.from, "from", "", "send requests from `NAME` and time exactly those")
	flags.StringVar(&f.proto, "proto", "", "tcp, udp or icmp (default tcp); with --from only tcp")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Second, "how long a request waits for an answer")
	flags.DurationVar(&f.duration, "duration", 0, "measure for so long (default 10s, without --count)")
	flags.IntVar(&f.count, "count", 0, "measure so many round trips to each target")
	flags.IntVar(&f.rate, "rate", 100, "requests per second to each target")
	flags.BoolVarP(&f.ipv6, "ipv6", "6", false, "probe over IPv6 where the target has both")
	flags.StringVar(&f.send, "send", "", "what a request consists of, `TEXT` with \\r, \\n and \\xFF\n(default an HTTP HEAD request)")
	flags.StringArrayVar(&f.thresholds, "threshold", nil, "exit with 3 if the round trip is longer, such as `p99=2ms`;\nmay be repeated")
	flags.StringVar(&f.quantile, "quantile", "p50", "where targets are compared, such as p50 or p99")
	flags.StringVar(&f.metrics, "metrics", "", "offer the histograms to Prometheus at `ADDRESS`, such as :9435")
	registerEngines(flags, &f.dockerHosts)
	flags.BoolVarP(&f.verbose, "verbose", "v", false, "show every segment")
	f.registerOutput(flags)
	return cmd
}

// config turns flags into a measurement.
func (f *latencyFlags) config() (tracer.LatencyConfig, error) {
	if len(f.targets) > 0 {
		f.to = f.targets[0]
	}
	flow, err := f.flowFlags.config()
	cfg := tracer.LatencyConfig{Config: flow, Rate: f.rate, Thresholds: f.thresholds, QuantileName: f.quantile}
	switch {
	case err != nil:
		return cfg, err
	case f.rate <= 0 || f.rate > 100_000:
		return cfg, usageError{fmt.Errorf("--rate is %d: give 1 to 100000 requests per second", f.rate)}
	case f.send != "" && f.from == "":
		return cfg, usageError{fmt.Errorf("--send is for own requests: say with --from where they are sent from")}
	}
	if err := f.checkMetrics(); err != nil {
		return cfg, err
	}
	cfg.Others = f.targets[1:]
	if f.count == 0 && f.duration == 0 {
		cfg.Duration = latencyDefault
	}
	if f.send != "" {
		text, err := unescape(f.send)
		if err != nil {
			return cfg, err
		}
		cfg.Payload = []byte(text)
	}
	return cfg, nil
}

// checkMetrics reports an address that cannot be listened on, before anything is measured.
func (f *latencyFlags) checkMetrics() error {
	if f.metrics == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(f.metrics); err != nil {
		return usageError{fmt.Errorf("--metrics takes an address with a port, such as :9435, got %q", f.metrics)}
	}
	return nil
}

// unescape reads \r, \n, \xFF and the other escapes of Go's strings.
func unescape(s string) (string, error) {
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		return "", usageError{fmt.Errorf("--send %q: cannot read the escapes: write a backslash as \\\\, bytes as \\xFF", s)}
	}
	return text, nil
}

func measure(cmd *cobra.Command, s *streams, f latencyFlags) (failure error) {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	far := &latencyProgress{cfg: cfg, opened: time.Now()}
	telling := newProgress(s.err, far.text)
	defer telling.close()
	s.err = telling
	out := render.NewJSON(s.out)
	cfg.OnNote = func(text string) { render.Note(s.err, text) }
	cfg.OnStart = func(m tracer.Meta) {
		if f.output == "json" {
			_ = out.Meta(m) // the error comes again with what follows
		}
	}
	l, err := tracer.NewLatency(cmd.Context(), cfg)
	if err != nil {
		return f.verbosely(s, err)
	}
	if f.metrics != "" {
		server, err := metrics.Listen(f.metrics, metricsOf(l))
		if err != nil {
			l.Close()
			return err
		}
		defer server.Close()
		render.Note(s.err, fmt.Sprintf("metrics at http://%s/metrics", server.Addr()))
	}
	far.run(l)
	r, err := l.Run(cmd.Context())
	telling.close()
	if err != nil {
		return err
	}
	if err := f.writeLatency(s, out, r); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return latencyStatus(r)
}

// metricsOf translates the histograms for Prometheus.
func metricsOf(l *tracer.LatencyTracer) metrics.Source {
	return func() (out []metrics.Series, counters []metrics.Counter) {
		series, discarded := l.Series()
		for _, s := range series {
			direction := string(s.Direction)
			if direction == "" {
				direction = "round_trip"
			}
			out = append(out, metrics.Series{Target: s.Target, Direction: direction, Kind: string(s.Kind), Count: s.Count,
				Sum: s.Sum, Buckets: s.Buckets})
		}
		for i, name := range l.Targets() {
			for why, n := range discarded[i] {
				counters = append(counters, metrics.Counter{Target: name, Why: why, Value: n})
			}
		}
		return out, counters
	}
}

// writeLatency writes the result as text or JSON.
func (f *outputFlags) writeLatency(s *streams, out *render.JSON, r tracer.LatencyResult) error {
	if f.output == "text" {
		var targets []render.TargetLatency
		for _, t := range r.Targets {
			targets = append(targets, render.TargetLatency(t))
		}
		return render.Latency(f.options(s.out), targets, r.Comparisons, r.Stats.LostEvents)
	}
	for _, t := range r.Targets {
		if err := out.Latency(t.Report, t.Segments); err != nil {
			return err
		}
	}
	for _, c := range r.Comparisons {
		if err := out.Comparison(c); err != nil {
			return err
		}
	}
	return out.Stats(r.Stats)
}

// latencyStatus is the exit status: a threshold that was not met comes first.
func latencyStatus(r tracer.LatencyResult) error {
	measured, silent := false, false
	for _, t := range r.Targets {
		for _, limit := range t.Report.Thresholds {
			if !limit.Met && t.Report.RoundTrip.Count > 0 {
				return statusError(exitNotDelivered)
			}
		}
		seen := t.Report.RoundTrip.Count+t.Report.Request.Count+t.Report.Reply.Count > 0
		measured = measured || seen
		silent = silent || t.Report.Source != "" && t.Report.RoundTrip.Count == 0 || !seen && len(t.Report.Thresholds) > 0
	}
	switch {
	case silent:
		return statusError(exitNotDelivered)
	case !measured:
		return statusError(exitNoTraffic)
	}
	return nil
}
