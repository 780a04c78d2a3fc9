//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// serial makes names that no other test uses.
var serial atomic.Uint32

func unique(prefix string) string { return fmt.Sprintf("%s%d", prefix, serial.Add(1)) }

// network is a Docker network of one test.
type network struct {
	h      *host
	Name   string
	Bridge string // device
}

// network creates a network that is removed at the end of the test, after its containers.
func (h *host) network(t *testing.T, args ...string) *network {
	t.Helper()
	name := unique("net")
	n := &network{h: h, Name: name, Bridge: "br-" + name}
	h.must(t, append([]string{"network", "create", "-o", "com.docker.network.bridge.name=" + n.Bridge}, append(args, name)...)...)
	t.Cleanup(func() { _ = h.docker("network", "rm", name) })
	return n
}

// must runs the engine's client.
func (h *host) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := h.dockerOutput(args...)
	check(t, err)
	return out
}

// container is a container of one test.
type container struct {
	h    *host
	t    *testing.T
	Name string
	pid  string // of its process, where it has to be known without the engine
}

// runs starts a container with a name that begins with prefix; flags are those of docker run, the
// program of the image gets the fields of command.
func (h *host) runs(t *testing.T, prefix, command string, flags ...string) *container {
	t.Helper()
	return h.startContainer(t, unique(prefix), command, flags...)
}

// startContainer starts a container of that name and removes it at the end of the test.
func (h *host) startContainer(t *testing.T, name, command string, flags ...string) *container {
	t.Helper()
	c := &container{h: h, t: t, Name: name}
	t.Cleanup(func() { _ = h.docker("rm", "-f", c.Name) })
	args := append([]string{"run", "-d", "--name", c.Name}, flags...)
	h.must(t, append(append(args, image), strings.Fields(command)...)...)
	if f := strings.Fields(command); len(f) == 2 {
		c.listens(f[0], f[1])
	}
	return c
}

// server starts a web server on port 80 of a network.
func (n *network) server(t *testing.T, flags ...string) *container {
	t.Helper()
	return n.h.runs(t, "web", "tcp :80", append([]string{"--network", n.Name}, flags...)...)
}

// client starts a container that does nothing by itself.
func (n *network) client(t *testing.T, flags ...string) *container {
	t.Helper()
	return n.h.runs(t, "cli", "idle", append([]string{"--network", n.Name}, flags...)...)
}

// listens waits until the server has opened its socket.
func (c *container) listens(kind, addr string) {
	c.t.Helper()
	table, port := "udp", addr[strings.LastIndex(addr, ":")+1:]
	if kind == "tcp" || kind == "kept" || kind == "deaf" {
		table = "tcp"
	}
	pid := c.inspect("{{.State.Pid}}")
	var number int
	fmt.Sscan(port, &number)
	suffix := fmt.Sprintf(":%04X ", number)
	ok := eventually(10*time.Second, func() bool {
		for _, version := range []string{"", "6"} {
			text, _ := os.ReadFile("/proc/" + pid + "/net/" + table + version)
			for line := range strings.Lines(string(text)) {
				if f := strings.Fields(line); len(f) > 2 && strings.HasSuffix(f[1]+" ", suffix) {
					return true
				}
			}
		}
		return false
	})
	if !ok {
		c.t.Fatalf("%s does not listen on %s", c.Name, addr)
	}
}

func (c *container) inspect(format string) string {
	c.t.Helper()
	return c.h.must(c.t, "inspect", "-f", format, c.Name)
}

// process is the container's process, also while the engine is gone once it was asked for.
func (c *container) process() string {
	c.t.Helper()
	if c.pid == "" {
		c.pid = c.inspect("{{.State.Pid}}")
	}
	return c.pid
}

// addr is the container's address in a network.
func (c *container) addr(n *network) netip.Addr {
	c.t.Helper()
	return parseAddr(c.t, c.inspect(fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", n.Name)))
}

// addr6 is the container's IPv6 address in a network.
func (c *container) addr6(n *network) netip.Addr {
	c.t.Helper()
	return parseAddr(c.t, c.inspect(fmt.Sprintf("{{(index .NetworkSettings.Networks %q).GlobalIPv6Address}}", n.Name)))
}

func parseAddr(t *testing.T, text string) netip.Addr {
	t.Helper()
	addr, err := netip.ParseAddr(text)
	check(t, err)
	return addr
}

// published is where the container's port is published on the host.
func (c *container) published(port string) netip.AddrPort {
	c.t.Helper()
	text := c.inspect(fmt.Sprintf("{{(index (index .NetworkSettings.Ports %q) 0).HostPort}}", port))
	var number uint16
	if _, err := fmt.Sscan(text, &number); err != nil {
		c.t.Fatalf("published port of %s: %q: %v", c.Name, text, err)
	}
	return netip.AddrPortFrom(c.h.Addr, number)
}

// do runs a tool of the machine in the container's network namespace.
func (c *container) do(name string, args ...string) string {
	c.t.Helper()
	return inNetNS(c.t, c.inspect("{{.NetworkSettings.SandboxKey}}"), c.h.tool(name), args...)
}

// veth is the device on the host that leads to the container.
func (c *container) veth() string {
	c.t.Helper()
	link := c.do("ip", "-o", "link", "show", "eth0")
	_, rest, _ := strings.Cut(link, "eth0@if")
	index, _, _ := strings.Cut(rest, ":")
	for line := range strings.Lines(c.h.do(c.t, "ip", "-o", "link")) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == index+":" {
			name, _, _ := strings.Cut(strings.TrimSuffix(f[1], ":"), "@")
			return name
		}
	}
	c.t.Fatalf("no device %s in the host", index)
	return ""
}

// do runs a tool of the machine in the host's namespace.
func (h *host) do(t *testing.T, name string, args ...string) string {
	t.Helper()
	return inNetNS(t, filepath.Join("/run/netns", h.NetNS), h.tool(name), args...)
}

// outsideDo runs a tool of the machine in the outside.
func outsideDo(t *testing.T, name string, args ...string) string {
	t.Helper()
	return inNetNS(t, filepath.Join("/run/netns", shared.Outside), name, args...)
}

func inNetNS(t *testing.T, namespace, name string, args ...string) string {
	t.Helper()
	out, err := runInNetNS(namespace, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func runInNetNS(namespace, name string, args ...string) (string, error) {
	ns, err := netns.Open(namespace)
	if err != nil {
		return "", err
	}
	defer ns.Close()
	var out strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := netns.Do(ns, cmd.Start); err != nil {
		return "", err
	}
	err = cmd.Wait()
	return out.String(), err
}

// rule adds a rule to a chain's top and takes it away at the end of the test.
func rule(t *testing.T, do func(*testing.T, string, ...string) string, table, chain string, match ...string) {
	t.Helper()
	do(t, "iptables", append([]string{"-w", "-t", table, "-I", chain}, match...)...)
	t.Cleanup(func() { do(t, "iptables", append([]string{"-w", "-t", table, "-D", chain}, match...)...) })
}
