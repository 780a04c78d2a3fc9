package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// fewPorts is how many ports next to each other may be published with nothing behind before they look
// like a range that a service opens on demand (passive FTP, media).
const fewPorts = 8

// publishedChecks looks behind every published port of the containers that run.
func publishedChecks(h *Host) []finding {
	var out []finding
	for _, c := range h.Containers {
		if !c.Runs() || c.NS == nil || c.NS.TCP == nil || c.Joined || c.NS.Host || len(c.Published) == 0 {
			continue
		}
		if c.State == "paused" {
			out = append(out, paused(h, c))
			continue
		}
		for _, proto := range []string{"tcp", "udp"} {
			out = append(out, behindPorts(h, c, proto)...)
		}
	}
	return out
}

// behindPorts checks the published ports of one protocol.
func behindPorts(h *Host, c *Container, proto string) []finding {
	listeners := c.NS.TCP
	if proto == "udp" {
		listeners = c.NS.UDP
	}
	if listeners == nil {
		return nil
	}
	var closed, loopback []Port
	for _, p := range c.Published {
		if p.Proto != proto {
			continue
		}
		switch open, local := serves(listeners, p); {
		case open:
		case local:
			loopback = append(loopback, p)
		default:
			closed = append(closed, p)
		}
	}
	var out []finding
	for _, ports := range byContainerPort(loopback) {
		out = append(out, onLoopback(c, ports))
	}
	groups := byContainerPort(closed)
	if len(groups) >= fewPorts {
		return append(out, closedRange(c, closed, proto))
	}
	for _, ports := range groups {
		out = append(out, nothingListens(h, c, ports, listeners))
	}
	return out
}

// serves tells whether what a port leads to is open for others, or for the container itself only. What
// comes in over IPv4 is translated to the container's IPv4 address.
func serves(listeners []Listener, p Port) (open, local bool) {
	for _, l := range listeners {
		if l.Addr.Port() != p.ContainerPort || l.V6Only && p.HostIP.Is4() {
			continue
		}
		if l.Addr.Addr().IsLoopback() {
			local = true
		} else {
			open = true
		}
	}
	return open, local
}

// byContainerPort groups ports by what they lead to.
func byContainerPort(ports []Port) [][]Port {
	sorted := slices.SortedStableFunc(slices.Values(ports), func(a, b Port) int {
		return cmp.Compare(a.ContainerPort, b.ContainerPort)
	})
	var out [][]Port
	for _, p := range sorted {
		if n := len(out); n > 0 && out[n-1][0].ContainerPort == p.ContainerPort {
			out[n-1] = append(out[n-1], p)
			continue
		}
		out = append(out, []Port{p})
	}
	return out
}

func aboutPorts(c *Container, ports []Port) about {
	a := about{containers: []string{c.ID}, ports: hostPorts(ports)}
	for _, p := range ports {
		a.ports = append(a.ports, p.ContainerPort)
	}
	return a
}

func nothingListens(h *Host, c *Container, ports []Port, listeners []Listener) finding {
	p := ports[0]
	open := openPorts(listeners)
	f := finding{about: aboutPorts(c, ports), Finding: path.Finding{
		Severity: path.SeverityError, Check: "port-nothing-listens", Cause: path.CauseNotListening,
		Summary: fmt.Sprintf("published %s leads to %s port %d of %s, on which nothing listens",
			portWord(hostPorts(ports)), p.Proto, p.ContainerPort, c.Name),
		Where: &path.Place{Namespace: c.NS.Name, Container: c.Name},
	}}
	switch {
	case slices.Contains(open, p.ContainerPort):
		f.Summary += " over IPv4"
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s listens on %s port %d over IPv6 only", c.Name, p.Proto, p.ContainerPort))
	case len(open) == 0:
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s listens on no %s port", c.Name, p.Proto))
	default:
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s listens on %s %s", c.Name, p.Proto, portWord(open)))
	}
	if !c.Started.IsZero() {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s was started %s", c.Name, ago(h.Now, c.Started)))
	}
	if len(open) == 1 && !publishes(c, p.Proto, open[0]) {
		f.Remedy = append(f.Remedy, fmt.Sprintf("recreate %s with -p %s instead of -p %s",
			c.Name, publishFlag(p, open[0]), publishFlag(p, p.ContainerPort)))
	}
	f.Remedy = append(f.Remedy, h.docker("logs --tail 20 %s  # why its service does not listen", quote(c.Name)))
	return f
}

// closedRange is one finding for many ports.
func closedRange(c *Container, ports []Port, proto string) finding {
	return finding{about: aboutPorts(c, ports), Finding: path.Finding{
		Severity: path.SeverityNote, Check: "port-range-nothing-listens", Cause: path.CauseNotListening,
		Summary: fmt.Sprintf("%s publishes %s %s, and nothing listens on the ports behind them at the moment",
			c.Name, proto, portWord(hostPorts(ports))),
		Evidence: []string{"many ports together are usually opened on demand (passive FTP, media): then this is right"},
		Where:    &path.Place{Namespace: c.NS.Name, Container: c.Name},
	}}
}

func onLoopback(c *Container, ports []Port) finding {
	p := ports[0]
	return finding{about: aboutPorts(c, ports), Finding: path.Finding{
		Severity: path.SeverityError, Check: "port-on-loopback", Cause: path.CauseListeningOnLoopback,
		Summary: fmt.Sprintf("published %s leads to %s port %d of %s, where the service listens for the container itself only",
			portWord(hostPorts(ports)), p.Proto, p.ContainerPort, c.Name),
		Evidence: []string{fmt.Sprintf("the only listener on %s port %d of %s is on a loopback address", p.Proto, p.ContainerPort, c.Name)},
		Remedy:   []string{fmt.Sprintf("configure the service in %s to listen on 0.0.0.0:%d instead of 127.0.0.1:%d", c.Name, p.ContainerPort, p.ContainerPort)},
		Where:    &path.Place{Namespace: c.NS.Name, Container: c.Name},
	}}
}

func paused(h *Host, c *Container) finding {
	return finding{about: aboutPorts(c, c.Published), Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "container-paused", Cause: path.CauseContainerPaused,
		Summary: fmt.Sprintf("%s is paused: connections to its published %s are accepted and get no answer",
			c.Name, portWord(hostPorts(c.Published))),
		Evidence: []string{"the engine says it is paused"},
		Remedy:   []string{h.docker("unpause %s", quote(c.Name))},
		Where:    &path.Place{Container: c.Name},
	}}
}

// sharedChecks finds processes of the host on ports that containers publish. docker-proxy is meant to be
// there, and without it dockerd keeps the ports from others; rootlesskit does that for a rootless engine,
// conmon for Podman.
func sharedChecks(h *Host) []finding {
	if h.NS == nil {
		return nil
	}
	var out []finding
	for _, c := range h.Containers {
		if !c.Runs() {
			continue
		}
		for _, proto := range []string{"tcp", "udp"} {
			for _, port := range hostPorts(ofProto(c.Published, proto)) {
				if l := h.stranger(proto, port); l != nil {
					out = append(out, shared(h, c, proto, port, l))
				}
			}
		}
	}
	return out
}

func ofProto(ports []Port, proto string) []Port {
	return slices.DeleteFunc(slices.Clone(ports), func(p Port) bool { return p.Proto != proto })
}

// stranger is the listener on a host port of a process that is known and none of Docker's.
func (h *Host) stranger(proto string, port uint16) *Listener {
	list := h.NS.TCP
	if proto == "udp" {
		list = h.NS.UDP
	}
	docker := []string{"", "docker-proxy", "dockerd", "rootlesskit", "rootlessport", "conmon"}
	for i, l := range list {
		if l.Addr.Port() == port && !slices.Contains(docker, l.Process) {
			return &list[i]
		}
	}
	return nil
}

func shared(h *Host, c *Container, proto string, port uint16, l *Listener) finding {
	var on []string
	for _, p := range ofProto(c.Published, proto) {
		if p.HostPort == port {
			on = append(on, netip.AddrPortFrom(p.HostIP, port).String())
		}
	}
	return finding{about: about{containers: []string{c.ID}, ports: []uint16{port}}, Finding: path.Finding{
		Severity: path.SeverityNote, Check: "port-shared", Cause: path.CausePortConflict,
		Summary: fmt.Sprintf("%s of the host listens on %s port %d, which %s publishes: it depends on the address which of them answers",
			l.Process, proto, port, c.Name),
		Evidence: []string{
			fmt.Sprintf("%s (process %d) listens on %s", l.Process, l.PID, l.Addr), c.Name + " is published on " + joinWords(on),
		},
		Remedy: []string{enter(h.NS, fmt.Sprintf("ss -lnp 'sport = :%d'  # move one of them to another port", port))},
		Where:  &path.Place{Container: c.Name},
	}}
}

// openPorts lists the ports that are open for others.
func openPorts(listeners []Listener) []uint16 {
	var out []uint16
	for _, l := range listeners {
		if !l.Addr.Addr().IsLoopback() && !slices.Contains(out, l.Addr.Port()) {
			out = append(out, l.Addr.Port())
		}
	}
	slices.Sort(out)
	return out
}

func publishes(c *Container, proto string, port uint16) bool {
	return slices.ContainsFunc(c.Published, func(p Port) bool { return p.Proto == proto && p.ContainerPort == port })
}

// publishFlag is the argument of -p that publishes a container's port where p is published.
func publishFlag(p Port, inside uint16) string {
	text := fmt.Sprintf("%d:%d", p.HostPort, inside)
	if !p.HostIP.IsUnspecified() && p.HostIP.IsValid() {
		host := p.HostIP.String()
		if p.HostIP.Is6() {
			host = "[" + host + "]"
		}
		text = host + ":" + text
	}
	if p.Proto != "tcp" {
		text += "/" + p.Proto
	}
	return text
}
