package tracer_test

import (
	"errors"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
)

// TestErrors: what New refuses can be told apart without reading the sentence.
func TestErrors(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, tt := range []struct {
		name           string
		source, target string
		engines        []string
		want           error
	}{
		{name: "no target", want: tracer.ErrUsage},
		{name: "port is no number", target: "web:http:80", want: tracer.ErrUsage},
		{name: "engine of unknown kind", target: "web:80", engines: []string{"carrier-pigeon://x"}, want: tracer.ErrUsage},
		{name: "unknown target", target: "nothing-has-this-name:80", want: tracer.ErrUnknownName},
		{name: "unknown source", source: "nothing-has-this-name", target: "192.0.2.1:80", want: tracer.ErrUnknownName},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := config(d.Lab, &observed{})
			cfg.Source, cfg.Target = tt.source, tt.target
			if tt.engines != nil {
				cfg.NoDocker, cfg.DockerHosts = false, tt.engines
			}
			tr, err := tracer.New(t.Context(), cfg)
			if err == nil {
				tr.Close()
			}
			n := 0
			for _, kind := range []error{tracer.ErrUsage, tracer.ErrUnknownName, tracer.ErrAmbiguousName, tracer.ErrNotRunning} {
				if errors.Is(err, kind) {
					n++
				}
			}
			if !errors.Is(err, tt.want) || n != 1 {
				t.Errorf("got %v, which is %d kinds, want just %q", err, n, tt.want)
			}
		})
	}
}

// TestRunOnce: a second Run, and a Run after Close, say so.
func TestRunOnce(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	cfg := config(d.Lab, &observed{})
	cfg.Source, cfg.Target = "client", d.Published(false).String()
	tr, err := tracer.New(t.Context(), cfg)
	labtest.Must(t, err)
	if r, err := tr.Run(t.Context()); err != nil || len(r.Flows) != 1 {
		t.Fatalf("Run: %v, %v", r.Flows, err)
	}
	if _, err := tr.Run(t.Context()); !errors.Is(err, tracer.ErrClosed) {
		t.Errorf("second Run: %v, want ErrClosed", err)
	}
	if _, err := tr.MeasureMTU(t.Context(), 0); !errors.Is(err, tracer.ErrClosed) {
		t.Errorf("MeasureMTU after Run: %v, want ErrClosed", err)
	}
	labtest.Must(t, tr.Close())
}
