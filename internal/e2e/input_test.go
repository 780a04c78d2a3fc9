//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestWrongUsage: exit status 2 and one sentence that says what was meant.
func TestWrongUsage(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t)
	for name, test := range map[string]struct {
		args, says []string
	}{
		"no target":        {[]string{"--from", web.Name}, []string{"--to"}},
		"port too large":   {[]string{"--to", web.Name + ":65536"}, []string{"65536", "65535"}},
		"port not numeric": {[]string{"--to", web.Name + ":8o"}, []string{"8o"}},
		"port missing":     {[]string{"--to", web.Name + ":"}, []string{web.Name}},
		"unknown proto":    {[]string{"--to", web.Name + ":80", "--proto", "sctp"}, []string{"sctp", "tcp, udp or icmp"}},
		"tcp without port": {[]string{"--to", web.Name, "--proto", "tcp"}, []string{"port"}},
		"unknown flag":     {[]string{"--too", web.Name}, []string{"--too"}},
		"unknown command":  {[]string{web.Name}, []string{"--to " + web.Name}},
		"unknown output":   {[]string{"--to", web.Name + ":80", "-o", "xml"}, []string{"xml", "json"}},
		"bad timeout":      {[]string{"--to", web.Name + ":80", "--timeout", "-1s"}, []string{"--timeout"}},
		"count with from":  {[]string{"--to", web.Name + ":80", "--from", "host", "--count", "1"}, []string{"--count", "--from"}},
		"target is source": {[]string{"--to", web.Name + ":80", "--from", web.Name}, []string{web.Name, "--from"}},
		"bad docker host":  {[]string{"--to", web.Name + ":80", "--docker-host", "gopher://x"}, []string{"gopher://x"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.run(t, test.args...)
			r.fails(statusUsage, test.says...)
			if r.stdout != "" {
				t.Errorf("standard output: %q", r.stdout)
			}
		})
	}
}

// TestUnknownNames: exit status 1, with near misses or what there is.
func TestUnknownNames(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n, other := h.network(t), h.network(t)
	project := unique("shop")
	web := n.runs(t, "frontend", "tcp :80", "--label", "com.docker.compose.project="+project, "--label", "com.docker.compose.service=front"+project)
	alias := unique("twin")
	twins := []*container{n.client(t, "--network-alias", alias), other.client(t, "--network-alias", alias)}
	for name, test := range map[string]struct {
		args, says []string
	}{
		"near miss":        {[]string{"--to", web.Name[:3] + web.Name[4:] + ":80"}, []string{"did you mean", web.Name}},
		"near service":     {[]string{"--to", project + "/frond" + project + ":80"}, []string{"did you mean", project + "/front" + project}},
		"nothing like it":  {[]string{"--to", "qqqqqqqqqqqq:80"}, []string{`"qqqqqqqqqqqq"`}},
		"unknown source":   {[]string{"--to", web.Name + ":80", "--from", web.Name + "x"}, []string{"did you mean", web.Name}},
		"ambiguous":        {[]string{"--to", alias + ":80"}, []string{alias, twins[0].Name, twins[1].Name}},
		"ambiguous source": {[]string{"--to", web.Name + ":80", "--from", alias}, []string{alias, twins[0].Name, twins[1].Name}},
	} {
		t.Run(name, func(t *testing.T) {
			h.run(t, test.args...).fails(statusCannotTrace, test.says...)
		})
	}
}

// runs starts a container in the network.
func (n *network) runs(t *testing.T, prefix, command string, flags ...string) *container {
	t.Helper()
	return n.h.runs(t, prefix, command, append([]string{"--network", n.Name}, flags...)...)
}

// TestHooks lists the hooks; each line fits the schema.
func TestHooks(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	r := launchIn(t, h.NetNS, nil, "hooks", "--output=json").wait()
	schema, names := compileSchema(t), map[string]bool{}
	for line := range strings.Lines(r.stdout) {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		check(t, err)
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", line, err)
		}
		name, _ := doc.(map[string]any)["name"].(string)
		names[name] = true
	}
	trace := h.run(t, "--from", "host", "--to", shared.OutsideAddr.String(), "-o", "json")
	for _, hop := range trace.hops {
		if !names[hop.Hook] {
			t.Errorf("hook %q of a hop is not in the list %v", hop.Hook, names)
		}
	}
	launchIn(t, h.NetNS, nil, "hooks").wait().has("kfree_skb", "hooks attached")
}

// TestNoPrivilege: the sentence names what is missing.
func TestNoPrivilege(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	check(t, os.Chmod(shared.Dir, 0o755)) // others may run the binary
	r := launchIn(t, h.NetNS, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}, "--from", "host", "--to", shared.OutsideAddr.String()+":80").wait()
	r.fails(statusCannotTrace, "root")
}

// TestWithoutDocker: no engine, and one whose socket cannot be used. Names are those of namespaces,
// and it is said once.
func TestWithoutDocker(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	port := serveOutside(t)
	to := shared.OutsideAddr.String() + ":" + itoa(port)
	locked := filepath.Join(t.TempDir(), "docker.sock")
	check(t, os.WriteFile(locked, nil, 0))
	for name, socket := range map[string]string{"missing": filepath.Join(t.TempDir(), "docker.sock"), "no socket": locked} {
		t.Run(name, func(t *testing.T) {
			for _, args := range [][]string{{"--docker-host", "unix://" + socket}, nil} {
				change := func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, "DOCKER_HOST=unix://"+socket) }
				args = append(args, "--from", "host", "--to", to, "-o", "json")
				r := launchIn(t, h.NetNS, change, args...).wait()
				r.verdict(want{Outcome: path.Delivered})
				r.exchange(want{Hops: []hop{{Namespace: shared.Outside, Direction: path.Request, Action: path.ActionDeliver}}})
				r.fails(statusDelivered, socket)
			}
		})
	}
	t.Run("container unknown", func(t *testing.T) {
		launchIn(t, h.NetNS, nil, "--docker-host", "unix://"+filepath.Join(t.TempDir(), "none.sock"),
			"--from", "host", "--to", "web:80").wait().fails(statusCannotTrace, `"web"`)
	})
}

// TestUnreadableSocket runs without the right to open the engine's socket.
func TestUnreadableSocket(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	port := serveOutside(t)
	check(t, os.Chmod(shared.Dir, 0o755))
	// Root without CAP_DAC_OVERRIDE is anyone to a socket of another user.
	dir := t.TempDir()
	socket := filepath.Join(dir, "docker.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	check(t, err)
	defer unix.Close(fd)
	check(t, unix.Bind(fd, &unix.SockaddrUnix{Name: socket}))
	check(t, unix.Listen(fd, 1))
	check(t, os.Chown(socket, 65534, 65534))
	check(t, os.Chmod(socket, 0o600))
	cmd := []string{"--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search", "--"}
	r := launchIn(t, h.NetNS, func(c *exec.Cmd) {
		tool, err := exec.LookPath("setpriv")
		check(t, err)
		c.Args = append(append([]string{tool}, cmd...), append([]string{c.Path}, c.Args[1:]...)...)
		c.Path = tool
	}, "--docker-host", "unix://"+socket, "--from", "host", "--to", shared.OutsideAddr.String()+":"+itoa(port), "-o", "json").wait()
	r.verdict(want{Outcome: path.Delivered})
	r.fails(statusDelivered, socket, "permission")
}
