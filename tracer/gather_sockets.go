package tracer

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// isDown reports whether the target is a container that does not run.
func (s *session) isDown(f *diagnose.Facts) bool {
	t := &f.Target
	return t.Container != "" && t.State != string(docker.Running) && t.State != string(docker.Paused)
}

// publications lists what the containers of a host publish, if the target is an address of that host.
func (s *session) publications() []diagnose.Publication {
	tgt := s.t.currentTarget()
	if !tgt.Host || tgt.Engine < 0 {
		return nil
	}
	out := []diagnose.Publication{}
	for _, c := range s.t.engines.Containers() {
		if c.Engine != tgt.Engine || !c.Runs() || c.JoinedID != "" {
			continue
		}
		for _, p := range c.Ports {
			if p.HostPort != 0 {
				out = append(out, diagnose.Publication{Container: c.Name, Published: published(p)})
			}
		}
	}
	return out
}

func published(p docker.Port) diagnose.Published {
	return diagnose.Published{
		HostIP: p.HostIP, HostPort: p.HostPort, ContainerPort: p.ContainerPort, Proto: path.Proto(p.Proto),
	}
}

// rivals names the running containers of the same engine that publish a port which c, not running, is to
// publish.
func (s *session) rivals(c *docker.Container) []string {
	var out []string
	for _, other := range s.t.engines.Containers() {
		if c.Runs() || !other.Runs() || other.Engine != c.Engine || other.ID == c.ID {
			continue
		}
		same := func(p docker.Port) bool {
			return slices.ContainsFunc(c.Ports, func(q docker.Port) bool {
				return p.HostPort != 0 && p.HostPort == q.HostPort && p.Proto == q.Proto &&
					(p.HostIP == q.HostIP || p.HostIP.IsUnspecified() || q.HostIP.IsUnspecified())
			})
		}
		if slices.ContainsFunc(other.Ports, same) {
			out = append(out, other.Name)
		}
	}
	return out
}

func (s *session) readListeners(ns *diagnose.Namespace, inode uint32) {
	proto := s.t.currentTarget().Proto
	if ns.Listeners != nil || proto == path.ICMP {
		return
	}
	list, err := recall(&s.readings.mu, &s.readings.listeners, inode, func() ([]diagnose.Listener, error) {
		return s.listeners(inode, proto)
	})
	if err == nil {
		ns.Listeners = list
	}
}

// listeners reads the listening sockets of a namespace, with the owners of those on a port in question:
// looking for owners is slow.
func (s *session) listeners(inode uint32, proto path.Proto) ([]diagnose.Listener, error) {
	list, err := s.t.topo.Listeners(inode, string(proto))
	if err != nil {
		return nil, err
	}
	if owned := s.portListeners(list); len(owned) > 0 {
		if err := s.t.topo.ListenerOwners(inode, owned); err == nil {
			list = append(owned, list...)
		}
	}
	names := map[string]string{}
	for _, c := range s.t.engines.Containers() {
		names[c.ID] = c.Name
	}
	own := s.hostContainer()
	out := []diagnose.Listener{}
	for _, l := range list {
		out = append(out, diagnose.Listener{
			Proto: proto, Addr: l.Addr, V6Only: l.V6Only, Queue: l.Queue, QueueMax: l.Backlog,
			Process: l.Process, PID: l.PID, Container: containerOf(l.Cgroups, names), Forward: l.Forward,
			Stranger: l.PID != 0 && own != "" && !slices.Contains(l.Cgroups, own),
		})
	}
	return out, nil
}

// hostContainer returns the ID of the target if that is one container, in its host's network, whose
// processes can be told from others by their control group; else "".
func (s *session) hostContainer() string {
	tgt := s.t.currentTarget()
	if len(tgt.Containers) != 1 || tgt.Host {
		return ""
	}
	c := tgt.Containers[0]
	if !c.HostNetwork() || c.PID == 0 || !slices.Contains(s.t.topo.ContainerIDs(c.PID), c.ID) {
		return ""
	}
	return c.ID
}

// containerOf names the innermost container that an engine knows.
func containerOf(ids []string, names map[string]string) string {
	for _, id := range slices.Backward(ids) {
		if name := names[id]; name != "" {
			return name
		}
	}
	return ""
}

func (s *session) portListeners(list []topo.Listener) []topo.Listener {
	var out []topo.Listener
	inside := s.t.currentTarget().Behind
	for _, l := range list {
		behind := func(e target.Endpoint) bool { return e.AddrPort.Port() == l.Addr.Port() }
		if s.endpoints.hasPort(l.Addr.Port()) || l.Addr.Port() == s.dialed.AddrPort.Port() ||
			slices.ContainsFunc(inside, behind) {
			out = append(out, l)
		}
	}
	return out
}
