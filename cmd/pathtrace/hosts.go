package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/remote"
	"github.com/pathtrace/pathtrace/tracer"
)

// hostSpecs turns --host flags into the hosts of a trace.
func hostSpecs(addresses []string) ([]tracer.HostSpec, error) {
	program := &remote.Program{}
	var out []tracer.HostSpec
	seen := map[string]bool{}
	for _, text := range addresses {
		a, err := remote.ParseAddress(text)
		if err != nil {
			return nil, usageError{err}
		}
		if seen[a.String()] {
			return nil, usageError{fmt.Errorf("--host %s is given twice", a)}
		}
		seen[a.String()] = true
		out = append(out, tracer.HostSpec{Name: a.Name(), Dial: func(ctx context.Context) (tracer.HostConn, error) {
			session, err := remote.Dial(ctx, a, program)
			if err != nil {
				return nil, err
			}
			return session, nil
		}})
	}
	return out, nil
}

// newAgent is what is run on other hosts, with a line to here.
func newAgent(s *streams) *cobra.Command {
	var unlink string
	cmd := &cobra.Command{
		Use:    "agent",
		Short:  "Trace for a pathtrace --host that is run elsewhere",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if unlink != "" {
				if err := remote.Unlink(unlink); err != nil {
					return err
				}
			}
			err := tracer.ServeAgent(cmd.Context(), os.Stdin, s.out, version)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		},
	}
	cmd.Flags().StringVar(&unlink, "unlink", "", "remove the program from this `DIRECTORY`, it runs already")
	return cmd
}
