package docker

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// locator finds the processes and namespaces of an engine on this machine.
type locator struct{ procfs string }

// peerPID returns the process that listens on the other side of a unix socket, 0 if unknown (it is
// in another PID namespace, or the socket is none of this kind).
func peerPID(conn net.Conn) int {
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return 0
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0
	}
	pid := 0
	err = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	if err != nil {
		return 0
	}
	return pid
}

// dockerd returns the engine's process. With socket activation the process that listened is the
// service manager, and the engine is whichever dockerd has the socket open now.
func (l locator) dockerd(peer int, socket string) int {
	if peer > 1 && l.comm(peer) != "systemd" {
		return peer
	}
	var found []int
	for _, pid := range l.processes("dockerd") {
		if l.listensOn(pid, socket) {
			return pid
		}
		found = append(found, pid)
	}
	if len(found) == 1 {
		return found[0]
	}
	return peer
}

func (l locator) comm(pid int) string {
	text, _ := os.ReadFile(l.path(pid, "comm"))
	return strings.TrimSpace(string(text))
}

func (l locator) path(pid int, name string) string {
	return filepath.Join(l.procfs, strconv.Itoa(pid), name)
}

// processes returns those with a name.
func (l locator) processes(comm string) []int {
	var out []int
	entries, _ := os.ReadDir(l.procfs)
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && l.comm(pid) == comm {
			out = append(out, pid)
		}
	}
	return out
}

// listensOn tells whether a process has a unix socket open that is bound to a path.
func (l locator) listensOn(pid int, socket string) bool {
	f, err := os.Open(l.path(pid, "net/unix"))
	if err != nil || socket == "" {
		return false
	}
	defer f.Close()
	names := []string{socket}
	if resolved, err := filepath.EvalSymlinks(socket); err == nil {
		names = append(names, resolved)
	}
	var inodes []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// Num RefCount Protocol Flags Type St Inode Path
		fields := strings.Fields(lines.Text())
		if len(fields) == 8 && slices.Contains(names, fields[7]) {
			inodes = append(inodes, "socket:["+fields[6]+"]")
		}
	}
	fds, _ := os.ReadDir(l.path(pid, "fd"))
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		link, err := os.Readlink(filepath.Join(l.path(pid, "fd"), fd.Name()))
		return err == nil && slices.Contains(inodes, link)
	})
}

// ofProcess returns the network namespace of a process.
func (l locator) ofProcess(pid int) (string, uint32, bool) {
	if pid <= 0 {
		return "", 0, false
	}
	path := l.path(pid, "ns/net")
	inode, ok := readNetNS(path)
	return path, inode, ok
}

// host returns the network namespace of an engine: that of its process, else the one that it pins
// beside its containers' for host networking, else our own.
func (l locator) host(pid int, containers []*rawContainer) (string, uint32) {
	if path, inode, ok := l.ofProcess(pid); ok {
		return path, inode
	}
	for _, c := range containers {
		if c.sandbox == "" {
			continue
		}
		pin := filepath.Join(filepath.Dir(c.sandbox), "default")
		if path, inode, ok := l.pin(pin, pid); ok {
			return path, inode
		}
	}
	path := filepath.Join(l.procfs, "thread-self/ns/net")
	inode, _ := readNetNS(path)
	return filepath.Join(l.procfs, "self/ns/net"), inode
}

// container returns the namespace of a container: by its pin, which outlives the process, if the
// pin can be reached from here or by way of the engine's root, else by its process.
func (l locator) container(c *rawContainer, enginePID int) (string, uint32) {
	path, inode, ok := l.ofProcess(c.PID)
	if pinned, pinInode, pinOK := l.pin(c.sandbox, enginePID); pinOK && (!ok || pinInode == inode) {
		return pinned, pinInode
	}
	return path, inode
}

// pin opens a pin directly, or through the mount namespace of the engine.
func (l locator) pin(path string, enginePID int) (string, uint32, bool) {
	if path == "" {
		return "", 0, false
	}
	paths := []string{path}
	if enginePID > 0 {
		paths = append(paths, filepath.Join(l.path(enginePID, "root"), path))
	}
	for _, p := range paths {
		var fs unix.Statfs_t
		var st unix.Stat_t
		// In another mount namespace a pin is a plain file.
		if unix.Statfs(p, &fs) == nil && fs.Type == unix.NSFS_MAGIC && unix.Stat(p, &st) == nil {
			return p, uint32(st.Ino), true
		}
	}
	return "", 0, false
}

// readNetNS reads a link of the form "net:[4026531840]".
func readNetNS(link string) (uint32, bool) {
	text, err := os.Readlink(link)
	if err != nil {
		return 0, false
	}
	var inode uint32
	n, err := fmt.Sscanf(text, "net:[%d]", &inode)
	return inode, n == 1 && err == nil
}
