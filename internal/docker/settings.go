package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
)

// defaultConfigFile is what dockerd reads unless --config-file says otherwise.
const defaultConfigFile = "/etc/docker/daemon.json"

// Settings is what an engine's command line and its daemon.json say about networking, with the
// engine's own defaults for what neither says.
type Settings struct {
	// Known is set if the command line of a running engine was read, and its file, if it has one.
	Known bool
	// ConfigFile is the path of the file as the engine names it, and Problem what is wrong in it.
	ConfigFile, Problem string
	// IPTables and IP6Tables: the engine writes firewall rules for IPv4, for IPv6.
	IPTables, IP6Tables bool
	// IPForward: it switches forwarding on. IPMasq: it masquerades. ICC is for the default bridge.
	IPForward, IPMasq, ICC bool
	// UserlandProxy: it starts docker-proxy for published ports.
	UserlandProxy bool
	LiveRestore   bool
	// FirewallBackend is what was asked for: "iptables" or "nftables"; empty if nothing.
	FirewallBackend string
	// DataRoot and ExecRoot are its directories.
	DataRoot, ExecRoot string
	// MTU of the default bridge, bytes; 0 if not set.
	MTU int
}

// ReadSettings returns what daemon.json below a root directory ("" for /) says of an engine that does
// not run.
func ReadSettings(root string) Settings {
	return settings(nil, "", func(path string) ([]byte, error) { return os.ReadFile(filepath.Join("/", root, path)) })
}

// settings reads how the process of an engine was started. Its files are those it sees itself.
func (l locator) settings(pid int, version string) Settings {
	var args []string
	if text, err := os.ReadFile(l.path(pid, "cmdline")); err == nil && pid > 0 {
		args = strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
	}
	root := ""
	if pid > 0 {
		root = l.path(pid, "root")
	}
	return settings(args, version, func(path string) ([]byte, error) {
		return os.ReadFile(filepath.Join(root, path))
	})
}

// settings joins defaults, file and command line; dockerd refuses an option that both give.
func settings(args []string, version string, read func(string) ([]byte, error)) Settings {
	major, _, _ := strings.Cut(version, ".")
	number, err := strconv.Atoi(major)
	s := Settings{
		Known: len(args) > 0, ConfigFile: defaultConfigFile,
		IPTables: true, IPForward: true, IPMasq: true, ICC: true, UserlandProxy: true,
		// Docker 27 switched it on.
		IP6Tables: err == nil && number >= 27,
		DataRoot:  "/var/lib/docker", ExecRoot: "/var/run/docker",
	}
	flags := parseFlags(args)
	if file, ok := flags["config-file"]; ok {
		s.ConfigFile = file
	}
	text, err := read(s.ConfigFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		s.Known = false
	default:
		file := map[string]any{}
		if err := json.Unmarshal(text, &file); err != nil {
			s.Problem = fmt.Sprintf("decode %s: %v", s.ConfigFile, err)
			break
		}
		for name, value := range file {
			s.set(name, fmt.Sprint(value))
		}
	}
	for name, value := range flags {
		s.set(name, value)
	}
	return s
}

// set applies one option, by the name that both the file and the command line use.
func (s *Settings) set(name, value string) {
	switches := map[string]*bool{
		"iptables": &s.IPTables, "ip6tables": &s.IP6Tables, "ip-forward": &s.IPForward, "ip-masq": &s.IPMasq,
		"icc": &s.ICC, "userland-proxy": &s.UserlandProxy, "live-restore": &s.LiveRestore,
	}
	if target := switches[name]; target != nil {
		if on, err := strconv.ParseBool(value); err == nil {
			*target = on
		}
		return
	}
	switch name {
	case "firewall-backend":
		s.FirewallBackend = value
	case "data-root", "graph":
		s.DataRoot = value
	case "exec-root":
		s.ExecRoot = value
	case "mtu":
		s.MTU, _ = strconv.Atoi(value)
	}
}

// parseFlags reads long options in the forms --name=value, --name value and, for a switch, --name.
func parseFlags(args []string) map[string]string {
	values := []string{"config-file", "firewall-backend", "data-root", "graph", "exec-root", "mtu"}
	out := map[string]string{}
	for i := 0; i < len(args); i++ {
		name, ok := strings.CutPrefix(args[i], "--")
		if !ok || name == "" {
			continue
		}
		name, value, hasValue := strings.Cut(name, "=")
		switch {
		case hasValue:
		case slices.Contains(values, name) && i+1 < len(args):
			i++
			value = args[i]
		default:
			value = "true"
		}
		out[name] = value
	}
	return out
}

// convertInfo notes what an engine says about itself.
func convertInfo(e *Engine, in system.Info) {
	e.LiveRestore = in.LiveRestoreEnabled
	e.Swarm = in.Swarm.LocalNodeState == swarm.LocalNodeStateActive
	e.Rootless = slices.ContainsFunc(in.SecurityOptions, func(o string) bool {
		return o == "rootless" || strings.HasPrefix(o, "name=rootless")
	})
	if in.FirewallBackend != nil {
		e.FirewallBackend = in.FirewallBackend.Driver
	}
}
