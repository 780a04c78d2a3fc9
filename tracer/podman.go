package tracer

import (
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// onPodman reports whether all engines are Podman, so that for what is advised here its command line is
// that of Docker.
func (t *Tracer) onPodman() bool {
	engines := t.engines.List()
	return len(engines) > 0 && !slices.ContainsFunc(engines, func(e docker.Engine) bool { return !e.Podman })
}

// forPodman writes a verdict's commands for Podman.
func forPodman(v *path.Verdict) {
	for i, cmd := range v.Remedy {
		cmd = strings.ReplaceAll(cmd, "&& docker ", "&& podman ")
		if rest, ok := strings.CutPrefix(cmd, "docker "); ok {
			cmd = "podman " + rest
		}
		v.Remedy[i] = cmd
	}
}
