package tracer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/doctor"
	"github.com/pathtrace/pathtrace/internal/topo"
)

// engine says what is known of an engine, also of one that does not answer.
func (d *examiner) engine(e docker.Engine, h *doctor.Host) doctor.Engine {
	given := len(d.cfg.DockerHosts) > 0 || os.Getenv("DOCKER_HOST") != ""
	out := doctor.Engine{
		Address: e.Host, CLI: cli(e.Host, given), Version: e.Version, LiveRestore: e.LiveRestore, Backend: e.FirewallBackend,
	}
	if e.Index < 0 {
		out.State = doctor.EngineNone
		return out
	}
	s := e.Settings
	if !e.Alive {
		s = docker.ReadSettings(d.cfg.Root)
		d.engineAway(&out, e, h, given)
	}
	out.SettingsKnown = s.Known
	out.ConfigFile, out.ConfigProblem = s.ConfigFile, s.Problem
	out.IPTables, out.UserlandProxy = s.IPTables, s.UserlandProxy
	return out
}

// engineAway finds out whether an engine that does not answer should, and what is left of it.
func (d *examiner) engineAway(out *doctor.Engine, e docker.Engine, h *doctor.Host, given bool) {
	if e.Err != nil {
		out.Problem = docker.Explain(e.Host, e.Err)
	}
	if errors.Is(e.Err, fs.ErrPermission) || docker.IsElsewhere(e.Err) {
		out.State = doctor.EngineDenied
		return
	}
	d.orphans(h)
	if out.Orphans = len(h.Containers); out.Orphans > 0 {
		out.Signs = append(out.Signs, "processes of containers are there (containerd-shim)")
	}
	if h.Services != nil && slices.Contains(h.Services.Enabled, "docker.service") {
		out.Signs = append(out.Signs, "docker.service starts with the host")
	}
	if links, err := d.topo.Links(h.NS.Inode); err == nil {
		for _, l := range links {
			if l.Kind == "bridge" && l.Name == "docker0" {
				out.Signs = append(out.Signs, "its bridge docker0 is still there")
			}
		}
	}
	refused := errors.Is(e.Err, syscall.ECONNREFUSED)
	switch {
	case errors.Is(e.Err, context.DeadlineExceeded), errors.Is(e.Err, os.ErrDeadlineExceeded):
		out.State = doctor.EngineHangs
	case !given && !refused && len(out.Signs) == 0:
		out.State = doctor.EngineNone
	default:
		out.State = doctor.EngineDown
	}
}

// orphans adds the containers that run without their engine.
func (d *examiner) orphans(h *doctor.Host) {
	for _, c := range docker.Orphans(h.NS.Inode) {
		if c.NetNS != 0 && !c.HostNetwork() && c.JoinedID == "" {
			d.topo.SetName(c.NetNS, c.Name, topo.KindContainer)
		}
		h.Containers = append(h.Containers, d.container(c))
	}
}

// cli is how the engine's client is called for an address.
func cli(address string, given bool) string {
	if !given || address == "" || strings.HasSuffix(address, "///var/run/docker.sock") {
		return "docker"
	}
	return "docker -H " + address
}
