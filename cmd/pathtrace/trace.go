package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// traceFlags are the flags of the main command.
type traceFlags struct {
	outputFlags
	flowFlags
	hosts      []string
	traceRules bool
}

const traceLong = `pathtrace follows a packet to a Docker container through the kernel: through DNAT, bridge and
masquerade into the container and back, with the name of the container, network and device on every
step, and says in one sentence where it ended and why.

With --from, one probe is sent from inside that container or namespace, and exactly that is
followed. Without, nothing is sent: the live traffic to the target is watched until Ctrl-C.

NAME is a container, a Compose service (web or project/web), a network alias, a Swarm service, a
named network namespace, an IP address, a host name, or host.

Exit status: 0 delivered, 1 cannot trace, 2 wrong usage, 3 not delivered, 4 no traffic seen.`

const traceExample = `  pathtrace --from client --to web:80     send one probe from container client
  pathtrace --to web:80                   watch the traffic to port 80 of container web
  pathtrace --from host --to 10.0.0.5:53 --proto udp`

func newTrace(s *streams) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:           "pathtrace --to NAME[:PORT] [--from NAME]",
		Short:         "Where does my packet go, and why does it not arrive?",
		Long:          traceLong,
		Example:       traceExample,
		Version:       version,
		Args:          noArguments,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.to == "" && f.from == "" && cmd.Flags().NFlag() == 0 {
				return cmd.Help()
			}
			return trace(cmd, s, f)
		},
	}
	f.registerTrace(cmd.Flags())
	cmd.Flags().StringArrayVar(&f.hosts, "host", nil,
		"trace on `ssh://USER@HOST` instead of here, may be repeated:\none path over all of them; nothing has to be installed there")
	return cmd
}

// registerTrace adds the flags of a command that follows a flow.
func (f *traceFlags) registerTrace(flags *pflag.FlagSet) {
	flags.StringVar(&f.to, "to", "", "what to trace to, `NAME[:PORT]`")
	flags.StringVar(&f.from, "from", "", "send one probe from `NAME` and follow it")
	flags.StringVar(&f.proto, "proto", "", "tcp, udp or icmp (default tcp, icmp without a port)")
	flags.DurationVar(&f.timeout, "timeout", 2*time.Second, "how long the probe waits for an answer")
	flags.DurationVar(&f.duration, "duration", 0, "watch for so long (default: until Ctrl-C)")
	flags.IntVar(&f.count, "count", 0, "watch until so many flows were decided")
	flags.BoolVarP(&f.ipv6, "ipv6", "6", false, "probe over IPv6 where the target has both")
	flags.BoolVar(&f.traceRules, "trace-rules", false, "list the nf_tables rules the packets pass: adds a table of its own to\n"+
		"each namespace of the path, which goes when pathtrace ends")
	registerEngines(flags, &f.dockerHosts)
	f.register(flags)
}

// config turns flags into a trace.
func (f *traceFlags) config() (tracer.Config, error) {
	cfg, err := f.flowFlags.config()
	if err != nil {
		return cfg, err
	}
	if f.from != "" && (f.duration != 0 || f.count != 0) {
		return cfg, usageError{errors.New("--duration and --count are for watching: --from sends one probe")}
	}
	cfg.AllPackets, cfg.TraceRules = f.allPackets, f.traceRules
	return cfg, nil
}

func trace(cmd *cobra.Command, s *streams, f traceFlags) (failure error) {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	out := f.open(s, cfg.Source == "")
	out.connect(&cfg)
	what := attaching
	if len(f.hosts) > 0 {
		what = "connecting to " + strings.Join(f.hosts, " and to ") + " and attaching there"
	}
	defer out.tellStart(&cfg, what)()
	s.err = out.notes
	result, err := f.run(cmd.Context(), s, cfg)
	if err != nil {
		return err
	}
	if err := out.finish(result.Stats); err != nil {
		return err
	}
	return status(result.Flows)
}

// run traces here, or on other hosts.
func (f *traceFlags) run(ctx context.Context, s *streams, cfg tracer.Config) (tracer.Result, error) {
	if len(f.hosts) > 0 {
		specs, err := hostSpecs(f.hosts)
		if err != nil {
			return tracer.Result{}, err
		}
		return tracer.RunHosts(ctx, tracer.HostsConfig{Config: cfg, Hosts: specs})
	}
	starting()
	t, err := tracer.New(ctx, cfg)
	if err != nil {
		return tracer.Result{}, f.verbosely(s, err)
	}
	return t.Run(ctx)
}

// status is the exit status of the contract for what became of the flows.
func status(flows map[path.Outcome]int) error {
	none := flows[path.NoTraffic]
	failed := 0
	for outcome, n := range flows {
		if outcome != path.Delivered && outcome != path.NoTraffic {
			failed += n
		}
	}
	switch {
	case failed > 0:
		return statusError(exitNotDelivered)
	case none > 0 || flows[path.Delivered] == 0:
		return statusError(exitNoTraffic)
	}
	return nil
}
