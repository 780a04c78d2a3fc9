package docker

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Orphans returns the containers that run although their engine does not (live-restore, or an engine
// that was killed), of the engine whose network namespace has that inode: those of each containerd-shim
// there, with what the engine itself wrote down of them. One whose files cannot be read has its ID and
// namespace only.
func Orphans(netns uint32) []*Container {
	l := locator{procfs: "/proc"}
	var out []*Container
	for _, pid := range l.processes("containerd-shim") {
		if _, inode, ok := l.ofProcess(pid); !ok || inode != netns {
			continue
		}
		if c := l.orphan(pid); c != nil {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b *Container) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// orphan reads the container of one shim: "containerd-shim-runc-v2 -namespace moby -id ID -address …",
// whose working directory is the container's bundle.
func (l locator) orphan(shim int) *Container {
	text, err := os.ReadFile(l.path(shim, "cmdline"))
	args := strings.Split(string(text), "\x00")
	id := ""
	if i := slices.Index(args, "-id"); i >= 0 && i+1 < len(args) {
		id = args[i+1]
	}
	if err != nil || id == "" || !slices.Contains(args, "moby") {
		return nil
	}
	root, bundle := l.path(shim, "root"), ""
	if dir, err := os.Readlink(l.path(shim, "cwd")); err == nil {
		bundle = filepath.Join(root, dir)
	}
	in := readStored(root, dataDir(bundle))
	if in.State == nil {
		in.ID, in.Name, in.State = id, shortID(id), &containerState{}
	}
	in.State.Status = Running
	if in.State.Paused {
		in.State.Status = Paused
	}
	if text, err := os.ReadFile(filepath.Join(bundle, "init.pid")); err == nil {
		if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			in.State.Pid = pid
		}
	}
	raw := newRawContainer(-1, in)
	raw.NetNSPath, raw.NetNS = l.container(raw, 0)
	return raw.Container
}

// dataDir finds, by a bundle's config.json (OCI runtime specification), where the engine keeps what it
// knows of a container: the directory of the resolv.conf that it mounts.
func dataDir(bundle string) string {
	text, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return ""
	}
	var spec struct {
		Mounts []struct{ Destination, Source string }
	}
	if json.Unmarshal(text, &spec) != nil {
		return ""
	}
	for _, m := range spec.Mounts {
		if m.Destination == "/etc/resolv.conf" {
			return filepath.Dir(m.Source)
		}
	}
	return ""
}

// readStored reads the engine's own files about a container, config.v2.json and hostconfig.json, which
// hold what inspecting it answers. Without them the answer is empty.
func readStored(root, dir string) inspection {
	text, err := os.ReadFile(filepath.Join(root, dir, "config.v2.json"))
	var in inspection
	if dir == "" || err != nil || json.Unmarshal(text, &in) != nil || in.ID == "" || in.State == nil {
		return inspection{}
	}
	if text, err := os.ReadFile(filepath.Join(root, dir, "hostconfig.json")); err == nil {
		var host hostConfig
		if json.Unmarshal(text, &host) == nil {
			in.HostConfig = &host
		}
	}
	return in
}
