package tracer

import (
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// forPodman writes a verdict's commands for Podman if all engines are Podman: for what is advised here its
// command line is that of Docker.
func (t *Tracer) forPodman(v *path.Verdict) {
	engines := t.engines.List()
	if len(engines) == 0 || slices.ContainsFunc(engines, func(e docker.Engine) bool { return !e.Podman }) {
		return
	}
	for i, cmd := range v.Remedy {
		v.Remedy[i] = strings.TrimPrefix(strings.ReplaceAll(" "+cmd, " docker ", " podman "), " ")
	}
}
