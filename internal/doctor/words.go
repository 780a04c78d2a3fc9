package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pathtrace/pathtrace/internal/shell"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// maxListed is how many names a sentence lists before it only counts the rest.
const maxListed = 4

// joinWords joins words: "a", "a and b", "a, b and 3 more".
func joinWords(words []string) string {
	switch n := len(words); {
	case n == 0:
		return "nothing"
	case n == 1:
		return words[0]
	case n > maxListed:
		return strings.Join(words[:maxListed-1], ", ") + " and " + strconv.Itoa(n-maxListed+1) + " more"
	default:
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
}

// enter makes a command run in a namespace.
func enter(n *Namespace, command string) string {
	if n == nil || n.Self {
		return command
	}
	if n.Path == "" {
		return "(in " + n.Name + ") " + command
	}
	return "nsenter --net=" + quote(n.Path) + " " + command
}

// quote is short because remedies are full of it.
func quote(word string) string { return shell.Quote(word) }

// docker is a command of the engine's client.
func (h *Host) docker(format string, args ...any) string {
	cli := h.Engine.CLI
	if cli == "" {
		cli = "docker"
	}
	return cli + " " + fmt.Sprintf(format, args...)
}

// network returns a network by ID, nil if there is none.
func (h *Host) network(id string) *Network {
	for _, n := range h.Networks {
		if n.ID == id {
			return n
		}
	}
	return nil
}

// on lists the running containers of a network.
func (h *Host) on(networkID string) []*Container {
	var out []*Container
	for _, c := range h.Containers {
		joined := func(e Endpoint) bool { return e.NetworkID == networkID }
		if c.Runs() && slices.ContainsFunc(c.Endpoints, joined) {
			out = append(out, c)
		}
	}
	return out
}

// names lists containers.
func names(list []*Container) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = c.Name
	}
	return out
}

// ids lists the IDs of containers.
func ids(list []*Container) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = c.ID
	}
	return out
}

// uplink is the device of the default route, by the lowest metric; nil if there is none.
func (h *Host) uplink() *Link {
	if h.NS == nil {
		return nil
	}
	var best *Route
	for i, r := range h.NS.Routes {
		if r.Table != mainTable || r.Dst.Bits() != 0 || !r.Dst.Addr().Is4() {
			continue
		}
		if best == nil || r.Metric < best.Metric {
			best = &h.NS.Routes[i]
		}
	}
	if best == nil {
		return nil
	}
	return h.NS.link(0, best.Dev)
}

// ago says how long something is past: "5 seconds ago", "3 hours ago".
func ago(now, then time.Time) string {
	d := now.Sub(then)
	switch {
	case d < 2*time.Minute:
		return path.FormatCount(max(0, int(d/time.Second)), "second") + " ago"
	case d < 2*time.Hour:
		return path.FormatCount(int(d/time.Minute), "minute") + " ago"
	case d < 48*time.Hour:
		return path.FormatCount(int(d/time.Hour), "hour") + " ago"
	}
	return path.FormatCount(int(d/(24*time.Hour)), "day") + " ago"
}

// hostPorts lists the host's side of ports, each number once.
func hostPorts(ports []Port) []uint16 {
	var out []uint16
	for _, p := range ports {
		if p.HostPort != 0 && !slices.Contains(out, p.HostPort) {
			out = append(out, p.HostPort)
		}
	}
	slices.Sort(out)
	return out
}

// numbers joins ports: "80 and 443", neighbours as a range: "5000-5010".
func numbers(ports []uint16) string {
	var words []string
	for i := 0; i < len(ports); {
		j := i
		for j+1 < len(ports) && ports[j+1] == ports[j]+1 {
			j++
		}
		word := strconv.Itoa(int(ports[i]))
		if j-i >= 2 {
			word += "-" + strconv.Itoa(int(ports[j]))
			i = j
		}
		words = append(words, word)
		i++
	}
	return joinWords(words)
}

// portWord is "port 80" or "ports 80 and 443".
func portWord(ports []uint16) string {
	if len(ports) == 1 {
		return "port " + numbers(ports)
	}
	return "ports " + numbers(ports)
}

// addresses turns addresses to words.
func addresses(list []netip.Addr) []string {
	out := make([]string, len(list))
	for i, a := range list {
		out[i] = a.String()
	}
	return out
}
