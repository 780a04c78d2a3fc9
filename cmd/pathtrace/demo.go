package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/tracer"
)

func newDemo(s *streams) *cobra.Command {
	var f outputFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Trace one delivered and one dropped connection in a network of its own",
		Long: `demo builds a client, a router with DNAT and masquerade, a bridge and a web server in network
namespaces of its own, traces one connection that is delivered and one that a firewall rule drops,
and removes everything. It needs root, but no Docker.

Exit status: 0 both were traced, 1 cannot trace, 2 wrong usage.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), s, f)
		},
	}
	f.register(cmd.Flags())
	return cmd
}

// demoTimeout is short: the dropped connection is meant to get no answer.
const demoTimeout = 1200 * time.Millisecond

func demo(ctx context.Context, s *streams, f outputFlags) (failure error) {
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	net, err := lab.NewDemo(ctx, lab.Options{})
	if err != nil {
		return err
	}
	defer net.Close()
	say := func(format string, args ...any) {
		if f.output == "text" {
			fmt.Fprintf(s.out, format+"\n", args...)
		}
	}
	say("# client → router (publishes %s as web:%d) → bridge → web\n", net.Published(false), lab.WebPort)
	out := f.open(s, false)
	if err := demoTrace(ctx, s, f, out, net); err != nil {
		return err
	}
	if _, err := net.DropWeb(); err != nil {
		return err
	}
	say("\n# the same once more, with a firewall rule in the router that drops it\n")
	return demoTrace(ctx, s, f, out, net)
}

// demoTrace traces one connection from the client to the published port.
func demoTrace(ctx context.Context, s *streams, f outputFlags, out *output, net *lab.Demo) error {
	cfg := tracer.Config{
		Source: "client", Target: net.Published(false).String(), Timeout: demoTimeout,
		Version: version, AllPackets: f.allPackets,
		// What else runs here has nothing to do with the demo.
		NoDocker: true, Confined: true,
	}
	for _, ns := range net.Namespaces() {
		cfg.Namespaces = append(cfg.Namespaces, tracer.Namespace{Name: ns.Name, Path: ns.Path})
	}
	out.connect(&cfg)
	cfg.OnNote = func(string) {}
	t, err := tracer.New(ctx, cfg)
	if err != nil {
		return f.verbosely(s, err)
	}
	result, err := t.Run(ctx)
	if err != nil {
		return err
	}
	return out.finish(result.Stats)
}
