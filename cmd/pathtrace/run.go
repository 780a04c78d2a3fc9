package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
)

// Exit statuses of the contract.
const (
	exitDelivered    = 0
	exitCannotTrace  = 1
	exitUsage        = 2
	exitNotDelivered = 3
	exitNoTraffic    = 4
)

// usageError is a wrong command line.
type usageError struct{ error }

// statusError carries an exit status for a trace that worked: nothing is printed for it.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// run executes the command line and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(&streams{out: stdout, err: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return exitStatus(root.ExecuteContext(ctx), stderr)
}

func exitStatus(err error, stderr io.Writer) int {
	var status statusError
	var usage usageError
	switch {
	case err == nil:
		return exitDelivered
	case errors.As(err, &status):
		return int(status)
	case errors.Is(err, context.Canceled):
		render.Note(stderr, "interrupted before the trace began")
		return exitCannotTrace
	case errors.As(err, &usage), tracer.IsUsage(err):
		render.Error(stderr, err)
		render.Note(stderr, "see pathtrace --help")
		return exitUsage
	}
	render.Error(stderr, err)
	return exitCannotTrace
}

// streams is where a command writes.
type streams struct {
	out, err io.Writer
}

func newRoot(s *streams) *cobra.Command {
	cmd := newTrace(s)
	cmd.AddCommand(newDoctor(s), newHooks(s), newDemo(s), newLatency(s), newMTU(s))
	cmd.AddCommand(newRecord(s), newReplay(s), newAgent(s))
	cmd.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return emptyFlag(cmd.Flags()) }
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{plainFlagError(err)} })
	return cmd
}

// emptyFlag refuses a flag with an empty value, as scripts write it when a variable is not set: a trace
// without a source is another thing than one with a source that is missing.
func emptyFlag(flags *pflag.FlagSet) (err error) {
	flags.Visit(func(f *pflag.Flag) {
		if f.Value.Type() == "string" && f.Value.String() == "" && f.Name != "to" && err == nil {
			err = usageError{fmt.Errorf("--%s is empty: give it a value, or leave it out", f.Name)}
		}
	})
	return err
}

// plainFlagError says what a flag expects in place of what its parser met.
func plainFlagError(err error) error {
	var invalid *pflag.InvalidValueError
	if !errors.As(err, &invalid) {
		return err
	}
	flag := invalid.GetFlag()
	switch flag.Value.Type() {
	case "duration":
		return fmt.Errorf("--%s takes a time with its unit, such as 2s or 500ms, got %q", flag.Name, invalid.GetValue())
	case "int", "uint", "uint16", "uint32", "int64", "uint64":
		return fmt.Errorf("--%s takes a number, got %q", flag.Name, invalid.GetValue())
	}
	return err
}

// noArguments refuses arguments with a sentence that says what was meant.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if cmd.HasParent() {
		if cmd.Flags().Lookup("to") == nil {
			return usageError{fmt.Errorf("%s takes no arguments, got %q", cmd.Name(), args[0])}
		}
		return usageError{fmt.Errorf("%s takes no arguments, got %q: a target is given with --to, as in %s --to %s",
			cmd.Name(), args[0], cmd.CommandPath(), args[0])}
	}
	cmd.SuggestionsMinimumDistance = 2 // letters
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usageError{fmt.Errorf("unknown command %q: did you mean %s?", args[0], strings.Join(near, " or "))}
	}
	return usageError{fmt.Errorf("unknown command %q: a target is given with --to, as in pathtrace --to %s",
		args[0], args[0])}
}
