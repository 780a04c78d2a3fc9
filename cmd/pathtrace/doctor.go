package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// doctorPatience is how long an examination may take before a line says that it goes on.
const doctorPatience = 2 * time.Second

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	outputFlags
	to          string
	dockerHosts []string
}

const doctorLong = `doctor sends nothing: it reads the engine's state, network namespaces, devices, routes, neighbours,
firewall rules, settings and listening sockets, and reports what is broken, what will break and what
is exposed, worst first, each with what it rests on and the command that mends it. It also works
when dockerd is dead, and without Docker.

Exit status: 0 no errors found, 1 cannot read anything, 2 wrong usage, 3 errors found.`

func newDoctor(s *streams) *cobra.Command {
	var f doctorFlags
	cmd := &cobra.Command{
		Use:   "doctor [--to NAME[:PORT]]",
		Short: "What of this host's Docker networking is broken, will break, or is exposed",
		Long:  doctorLong,
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return examine(cmd, s, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "only what concerns this container, network or port, `NAME[:PORT]`")
	registerEngines(flags, &f.dockerHosts)
	f.registerOutput(flags)
	return cmd
}

func examine(cmd *cobra.Command, s *streams, f doctorFlags) (failure error) {
	s, done, err := f.begin(s)
	if err != nil {
		return err
	}
	defer done(&failure)
	slow := time.AfterFunc(doctorPatience, func() { render.Note(s.err, "reading namespaces and rules …") })
	e, err := tracer.Doctor(cmd.Context(), tracer.DoctorConfig{Target: f.to, DockerHosts: f.dockerHosts, Version: version})
	slow.Stop()
	if err != nil {
		return err
	}
	return f.report(s, e)
}

// report writes the findings; its error is also the exit status.
func (f *doctorFlags) report(s *streams, e *tracer.Examination) error {
	if err := f.write(s, e); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if e.Stats.Findings[path.SeverityError] > 0 {
		return statusError(exitNotDelivered)
	}
	return nil
}

// write writes the findings as text or JSON.
func (f *doctorFlags) write(s *streams, e *tracer.Examination) error {
	if f.output == "text" {
		return render.Findings(f.options(s.out), e.Findings, render.Examined{
			Containers: e.Containers, Networks: e.Networks, Namespaces: e.Namespaces,
			WallNS: e.Stats.WallNS, Skipped: e.Stats.Skipped,
		})
	}
	out := render.NewJSON(s.out)
	if err := out.Meta(e.Meta); err != nil {
		return err
	}
	for _, finding := range e.Findings {
		if err := out.Finding(finding); err != nil {
			return err
		}
	}
	return out.Stats(e.Stats)
}
