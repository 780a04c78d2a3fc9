package main

import (
	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
)

func newHooks(s *streams) *cobra.Command {
	var f outputFlags
	cmd := &cobra.Command{
		Use:   "hooks",
		Short: "Which hooks this kernel offers, and what is not seen without the missing ones",
		Long: `hooks loads and attaches every hook as a trace would, and lists what each sees, how this kernel lets
it be attached, and what is not seen without it. It needs root.

Exit status: 0 a trace is possible, 1 it is not, 2 wrong usage.`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			return hooks(s, f)
		},
	}
	f.registerOutput(cmd.Flags())
	cmd.Flags().BoolVarP(&f.verbose, "verbose", "v", false, "show why the kernel refused a program")
	return cmd
}

func hooks(s *streams, f outputFlags) (failure error) {
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	out := f.open(s, false)
	found, err := tracer.Survey()
	if err != nil {
		return f.verbosely(s, err)
	}
	rows := make([]render.HookRow, 0, len(found.Hooks))
	for _, h := range found.Hooks {
		row := render.HookRow{Name: h.Name, Sees: h.Sees, Kind: h.Kind, Unseen: h.Without, Status: "attached", Attached: true}
		if h.Err != nil {
			row.Kind, row.Attached, row.Status = "-", false, h.Err.Error()
		}
		rows = append(rows, row)
	}
	var limits []render.LimitRow
	for _, l := range found.Limits {
		limits = append(limits, render.LimitRow{Name: l.Name, Unseen: l.Without})
	}
	if f.output == "text" {
		return render.Hooks(f.options(s.out), rows, limits...)
	}
	for _, row := range rows {
		if err := out.json.Hook(row); err != nil {
			return err
		}
	}
	for _, l := range limits {
		if err := out.json.Limit(l); err != nil {
			return err
		}
	}
	return nil
}
