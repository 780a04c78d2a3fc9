package topo

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// space is what is known of one namespace. Its identity is guarded by Topology.mu.
type space struct {
	inode uint32
	pins  []string
	pids  []int
	name  string
	kind  Kind
	gone  bool
	// lastPath is the path that last opened it.
	lastPath string

	content
}

// Namespaces returns the namespaces that exist, by name.
func (t *Topology) Namespaces() []NetNS {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := make([]NetNS, 0, len(t.spaces))
	for _, s := range t.spaces {
		if !s.gone {
			out = append(out, t.describe(s))
		}
	}
	slices.SortFunc(out, func(a, b NetNS) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Inode, b.Inode))
	})
	return out
}

// Namespace returns what is known of a namespace, also of one that is gone. An unknown inode leads
// to a new scan, unless there was one a moment ago.
func (t *Topology) Namespace(inode uint32) (NetNS, bool) {
	s := t.space(inode)
	t.mu.RLock()
	defer t.mu.RUnlock()
	if s != nil {
		return t.describe(s), true
	}
	// Named by the caller before any scan met it, as a container that just started.
	if g, ok := t.given[inode]; ok {
		return NetNS{Inode: inode, Name: g.name, Kind: g.kind}, true
	}
	return NetNS{Inode: inode}, false
}

// NamespaceByName returns the namespaces that exist under a name.
func (t *Topology) NamespaceByName(name string) []NetNS {
	all := t.Namespaces()
	return slices.DeleteFunc(all, func(n NetNS) bool { return n.Name != name })
}

// Mounted returns the name that a namespace has under /run/netns, whatever SetName called it; "" if
// it has none.
func (t *Topology) Mounted(inode uint32) string {
	s := t.space(inode)
	t.mu.RLock()
	defer t.mu.RUnlock()
	if s == nil || s.kind != KindNamed {
		return ""
	}
	return s.name
}

// SetName gives a namespace the name of what lives in it, which wins over every name found by
// scanning, and may be called before the namespace was seen.
func (t *Topology) SetName(inode uint32, name string, kind Kind) {
	if inode == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.given) >= 4*maxGone {
		for i := range t.given {
			if t.spaces[i] == nil {
				delete(t.given, i)
			}
		}
	}
	t.given[inode] = givenName{name: name, kind: kind}
}

// AddPins also looks for pinned namespaces in the mount namespace of process pid, where a dockerd
// with private mounts keeps them.
func (t *Topology) AddPins(pid int) {
	if pid <= 0 || t.seesMounts(pid) {
		return
	}
	t.mu.Lock()
	_, known := t.pinHolders[pid]
	t.pinHolders[pid] = struct{}{}
	t.mu.Unlock()
	if known {
		return
	}
	if err := t.Rescan(); err != nil {
		t.log.Debug("scan namespaces", "error", err)
	}
	t.watch.poke()
}

// seesMounts reports whether a process is in our mount namespace, where all pins are found anyway.
func (t *Topology) seesMounts(pid int) bool {
	ours, err := os.Readlink(filepath.Join(t.procfs, "self/ns/mnt"))
	if err != nil {
		return false
	}
	theirs, err := os.Readlink(t.process(pid, "ns/mnt"))
	return err == nil && theirs == ours
}

// AddPath makes a namespace known that no process lives in and that is mounted nowhere, by a path
// that opens it (/proc/PID/fd/N), and names it.
func (t *Topology) AddPath(name, path string) error {
	inode, err := t.InodeOf(path)
	if err != nil {
		return err
	}
	t.SetName(inode, name, KindNamed)
	t.mu.Lock()
	t.paths[path] = struct{}{}
	t.mu.Unlock()
	return t.Rescan()
}

// InodeOf returns the inode of the namespace that path refers to.
func (t *Topology) InodeOf(path string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, fmt.Errorf("stat namespace %s: %w", path, err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, fmt.Errorf("stat namespace %s: %w", path, err)
	}
	// In another mount namespace a pin is the plain file below the mount.
	if fs.Type != unix.NSFS_MAGIC {
		return 0, fmt.Errorf("stat namespace %s: not a namespace here", path)
	}
	return uint32(st.Ino), nil
}

// PathOf returns a path that opens the namespace.
func (t *Topology) PathOf(inode uint32) (string, error) {
	f, path, err := t.open(inode)
	if err != nil {
		return "", err
	}
	f.Close()
	return path, nil
}

// describe makes the public form; t.mu is held.
func (t *Topology) describe(s *space) NetNS {
	n := NetNS{Inode: s.inode, Name: s.name, Kind: s.kind, Gone: s.gone, Path: s.lastPath}
	if len(s.pids) > 0 {
		n.PID = s.pids[0]
	}
	switch {
	case n.Path != "":
	case len(s.pins) > 0:
		n.Path = s.pins[0]
	case len(s.pids) > 0:
		n.Path = t.pidPaths(s.pids[:1])[0]
	}
	if g, ok := t.given[s.inode]; ok {
		n.Name, n.Kind = g.name, g.kind
	}
	return n
}

func (t *Topology) pidPaths(pids []int) []string {
	out := make([]string, 0, len(pids))
	for _, pid := range pids {
		out = append(out, filepath.Join(t.procfs, strconv.Itoa(pid), "ns/net"))
	}
	return out
}

// space finds a namespace, scanning for an unknown one if the last scan is not too recent.
func (t *Topology) space(inode uint32) *space {
	if inode == 0 {
		return nil
	}
	if s := t.lookup(inode); s != nil {
		return s
	}
	t.mu.RLock()
	recent := t.now().Sub(t.lastScan) < scanInterval
	t.mu.RUnlock()
	if recent {
		return nil
	}
	if err := t.scan(inode); err != nil {
		t.log.Debug("scan namespaces", "error", err)
	}
	return t.lookup(inode)
}

func (t *Topology) lookup(inode uint32) *space {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.spaces[inode]
}

// open opens a namespace by whatever still refers to it and makes sure that it is the one meant:
// process IDs and paths are reused.
func (t *Topology) open(inode uint32) (*os.File, string, error) {
	s := t.space(inode)
	if s == nil {
		return nil, "", fmt.Errorf("open network namespace %d: %w", inode, unix.ENOENT)
	}
	f, path, err := t.tryOpen(s)
	if f == nil && inode != t.self {
		if scanErr := t.Rescan(); scanErr == nil {
			f, path, err = t.tryOpen(s)
		}
	}
	if f == nil {
		return nil, "", err
	}
	t.mu.Lock()
	s.lastPath = path
	t.mu.Unlock()
	return f, path, nil
}

func (t *Topology) tryOpen(s *space) (*os.File, string, error) {
	t.mu.RLock()
	paths := slices.Concat(s.pins, t.pidPaths(s.pids))
	if s.inode == t.self && t.selfFD != nil {
		paths = append(paths, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), t.selfFD.Fd()))
	}
	t.mu.RUnlock()
	err := error(unix.ENOENT)
	for _, path := range paths {
		f, openErr := netns.Open(path)
		if openErr != nil {
			err = openErr
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && uint32(st.Ino) == s.inode {
			return f, path, nil
		}
		f.Close()
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return nil, "", fmt.Errorf("open network namespace %s (%d): %w", t.describe(s).Name, s.inode, err)
}

// readNetNS reads a link of the form "net:[4026531840]".
func readNetNS(link string) (uint32, error) {
	text, err := os.Readlink(link)
	if err != nil {
		return 0, err
	}
	inode, ok := parseNetNS(text)
	if !ok {
		return 0, fmt.Errorf("read %s: %q is no network namespace", link, text)
	}
	return inode, nil
}

// parseNetNS takes the inode out of "net:[4026531840]".
func parseNetNS(text string) (uint32, bool) {
	text, ok := strings.CutPrefix(text, "net:[")
	if !ok {
		return 0, false
	}
	text, ok = strings.CutSuffix(text, "]")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(text, 10, 32)
	return uint32(inode), err == nil && inode != 0
}
