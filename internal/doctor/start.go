package doctor

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// startChecks looks at containers that should serve and do not run.
func startChecks(h *Host) []finding {
	var out []finding
	for _, c := range h.Containers {
		switch {
		case c.Runs():
		case c.StartError != "" && c.State != "restarting":
			if f, ok := startFailed(h, c); ok {
				out = append(out, f)
			}
		case len(c.Configured) == 0:
		case c.State == "restarting":
			out = append(out, restarting(h, c))
		case c.State == "exited" || c.State == "dead":
			out = append(out, stopped(h, c))
		}
	}
	return out
}

// networkError tells errors of starting that are about the network: other errors are not ours.
func networkError(text string) bool {
	for _, part := range []string{
		"port is already allocated", "driver failed programming external connectivity", "address already in use",
		"failed to set up container networking", "Address already in use", "could not find an available",
		"network", "endpoint", "iptables",
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func startFailed(h *Host, c *Container) (finding, bool) {
	if !networkError(c.StartError) {
		return finding{}, false
	}
	f := finding{about: aboutPorts(c, c.Configured), Finding: path.Finding{
		Severity: path.SeverityError, Check: "start-failed",
		Summary:  fmt.Sprintf("%s could not be started: its network could not be set up", c.Name),
		Evidence: []string{"the engine said: " + strings.TrimSpace(c.StartError)},
		Remedy:   []string{h.docker("start %s", quote(c.Name))},
		Where:    &path.Place{Container: c.Name},
	}}
	port, ok := takenPort(c.StartError)
	if !ok {
		return f, true
	}
	f.Check, f.Cause = "port-taken", path.CausePortConflict
	f.Summary = fmt.Sprintf("%s could not be started: host port %d was taken", c.Name, port)
	f.about.ports = append(f.about.ports, port)
	start := h.docker("start %s", quote(c.Name))
	switch other, process := h.holder(c, port); {
	case other != nil:
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s publishes port %d", other.Name, port))
		f.Remedy = []string{
			h.docker("stop %s && %s  # or recreate %s with another host port", quote(other.Name), start, c.Name),
		}
	case process != "":
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s listens on port %d of the host", process, port))
		f.Remedy = []string{
			enter(h.NS, fmt.Sprintf("ss -lntup 'sport = :%d'  # stop what is shown, or recreate %s with another host port", port, c.Name)),
			start,
		}
	default:
		f.Evidence = append(f.Evidence, fmt.Sprintf("nothing holds port %d now", port))
		f.Remedy = []string{start}
	}
	return f, true
}

// takenPort finds the port in "Bind for 0.0.0.0:8080 failed: port is already allocated" and in "listen
// tcp4 0.0.0.0:8080: bind: address already in use".
func takenPort(text string) (uint16, bool) {
	taken := regexp.MustCompile(`(?:Bind for|listen (?:tcp|udp|sctp)[46]?) \S*:(\d+)(?: failed: port is already|: bind: address already)`)
	m := taken.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	port, err := strconv.ParseUint(m[1], 10, 16)
	return uint16(port), err == nil && port != 0
}

// holder finds who has a host port: another container, or a process of the host.
func (h *Host) holder(c *Container, port uint16) (*Container, string) {
	for _, other := range h.Containers {
		if other != c && other.Runs() && slices.Contains(hostPorts(other.Published), port) {
			return other, ""
		}
	}
	if h.NS == nil {
		return nil, ""
	}
	for _, l := range slices.Concat(h.NS.TCP, h.NS.UDP) {
		if l.Addr.Port() != port {
			continue
		}
		if l.Process == "" {
			return nil, "a process"
		}
		return nil, fmt.Sprintf("%s (process %d)", l.Process, l.PID)
	}
	return nil, ""
}

func restarting(h *Host, c *Container) finding {
	f := notRunning(h, c, path.SeverityError, "container-restarting")
	f.Summary = fmt.Sprintf("%s ends again and again: most of the time nobody answers at its published %s", c.Name, configuredWord(c))
	f.Remedy = []string{h.docker("logs --tail 50 %s  # why it ends", quote(c.Name))}
	return f
}

// stopped: ends by a signal or with status 0 are what `docker stop` usually leaves behind; anything else,
// and the lack of memory, is an error by the container's own word.
func stopped(h *Host, c *Container) finding {
	f := notRunning(h, c, path.SeverityNote, "container-stopped")
	f.Summary = fmt.Sprintf("%s does not run: nobody answers at its published %s", c.Name, configuredWord(c))
	const killed, terminated = 128 + 9, 128 + 15
	unexpected := c.OOMKilled || c.ExitCode != 0 && c.ExitCode != killed && c.ExitCode != terminated
	if unexpected {
		f.Severity = path.SeverityWarning
		f.Summary = fmt.Sprintf("%s ended with an error: nobody answers at its published %s", c.Name, configuredWord(c))
		f.Remedy = append([]string{h.docker("logs --tail 50 %s  # why it ended", quote(c.Name))}, f.Remedy...)
	}
	return f
}

func notRunning(h *Host, c *Container, severity path.Severity, check string) finding {
	f := finding{about: aboutPorts(c, c.Configured), Finding: path.Finding{
		Severity: severity, Check: check, Cause: path.CauseContainerNotRunning,
		Remedy: []string{h.docker("start %s", quote(c.Name))},
		Where:  &path.Place{Container: c.Name},
	}}
	end := fmt.Sprintf("it ended with status %d", c.ExitCode)
	if !c.Finished.IsZero() {
		end += " " + ago(h.Now, c.Finished)
	}
	f.Evidence = append(f.Evidence, end)
	if c.OOMKilled {
		f.Evidence = append(f.Evidence, "the kernel killed it for want of memory")
	}
	if c.Restart == "" || c.Restart == "no" {
		f.Evidence = append(f.Evidence, "it has no restart policy")
	} else {
		f.Evidence = append(f.Evidence, "its restart policy is "+c.Restart)
	}
	return f
}

func configuredWord(c *Container) string {
	ports := hostPorts(c.Configured)
	if len(ports) == 0 {
		return "ports"
	}
	return portWord(ports)
}
