package topo

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// maxOwners bounds the owners of sockets that are remembered.
const maxOwners = 4096

// owner is who has a socket open, and by which descriptor, so that it can be asked again cheaply.
type owner struct {
	pid     int
	fd      string
	process string
	cgroups []string
	forward netip.AddrPort
}

// ListenerOwners fills in who owns each listener of a namespace. Owners that were found before are only
// checked; those of other sockets are looked for among the descriptors of the processes in the namespace,
// and then of all, which is slow. A socket that no visible process has open keeps PID 0.
func (t *Topology) ListenerOwners(netns uint32, ls []Listener) error {
	wanted := map[uint32][]*Listener{}
	for i := range ls {
		l := &ls[i]
		if o, ok := t.knownOwner(l.Inode); ok {
			l.own(o)
		} else if l.Inode != 0 {
			wanted[l.Inode] = append(wanted[l.Inode], l)
		}
	}
	for _, pid := range t.inhabitants(netns) {
		t.claim(pid, wanted)
	}
	if len(wanted) == 0 {
		return nil
	}
	pids, err := t.processes()
	if err != nil {
		return err
	}
	for _, pid := range pids {
		t.claim(pid, wanted)
	}
	return nil
}

func (l *Listener) own(o owner) {
	l.PID, l.Process, l.Cgroups, l.Forward = o.pid, o.process, o.cgroups, o.forward
}

// inhabitants are the first processes of a namespace, without process 1.
func (t *Topology) inhabitants(netns uint32) []int {
	s := t.space(netns)
	if s == nil {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.DeleteFunc(slices.Clone(s.pids), func(pid int) bool { return pid == 1 })
}

// processes lists all processes by number, but the first one last: a service manager keeps the sockets
// that it hands to services open.
func (t *Topology) processes() ([]int, error) {
	entries, err := os.ReadDir(t.procfs)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	if len(pids) > 0 && pids[0] == 1 {
		pids = append(pids[1:], 1)
	}
	return pids, nil
}

// knownOwner returns who had a socket open, if it still has.
func (t *Topology) knownOwner(inode uint32) (owner, bool) {
	t.ownersMu.Lock()
	o, ok := t.owners[inode]
	t.ownersMu.Unlock()
	if !ok {
		return owner{}, false
	}
	link, err := os.Readlink(t.process(o.pid, "fd", o.fd))
	return o, err == nil && link == socketLink(inode)
}

func (t *Topology) remember(inode uint32, o owner) {
	t.ownersMu.Lock()
	defer t.ownersMu.Unlock()
	if t.owners == nil || len(t.owners) >= maxOwners {
		t.owners = map[uint32]owner{}
	}
	t.owners[inode] = o
}

// claim gives a process the sockets it has open.
func (t *Topology) claim(pid int, wanted map[uint32][]*Listener) {
	if len(wanted) == 0 {
		return
	}
	fds, err := os.ReadDir(t.process(pid, "fd"))
	if err != nil {
		return // it ended, or belongs to somebody else
	}
	for _, fd := range fds {
		link, err := os.Readlink(t.process(pid, "fd", fd.Name()))
		inode, ok := socketInode(link)
		if err != nil || !ok || wanted[inode] == nil {
			continue
		}
		o := t.describeOwner(pid, fd.Name())
		t.remember(inode, o)
		for _, l := range wanted[inode] {
			l.own(o)
		}
		delete(wanted, inode)
	}
}

// ContainerIDs returns the container IDs in the path of a process's control group, outermost first; none
// if it is in no container or its control group does not tell.
func (t *Topology) ContainerIDs(pid int) []string {
	text, err := os.ReadFile(t.process(pid, "cgroup"))
	if err != nil {
		return nil
	}
	return containerIDs(string(text))
}

// describeOwner reads what is said of a process; what it does not tell stays empty.
func (t *Topology) describeOwner(pid int, fd string) owner {
	comm, _ := os.ReadFile(t.process(pid, "comm"))
	o := owner{pid: pid, fd: fd, process: strings.TrimSpace(string(comm)), cgroups: t.ContainerIDs(pid)}
	if o.process == "docker-proxy" {
		args, _ := os.ReadFile(t.process(pid, "cmdline"))
		o.forward = proxyTarget(strings.Split(string(args), "\x00"))
	}
	return o
}

func (t *Topology) process(pid int, parts ...string) string {
	return filepath.Join(append([]string{t.procfs, strconv.Itoa(pid)}, parts...)...)
}

func socketLink(inode uint32) string {
	return "socket:[" + strconv.FormatUint(uint64(inode), 10) + "]"
}

func socketInode(link string) (uint32, bool) {
	text, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 32)
	return uint32(n), err == nil
}

// containerIDs finds the IDs of containers in /proc/PID/cgroup: each is 64 hexadecimal digits, alone or
// as in docker-ID.scope.
func containerIDs(text string) []string {
	const size = 64
	var out []string
	isHex := func(r rune) bool { return r >= '0' && r <= '9' || r >= 'a' && r <= 'f' }
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return !isHex(r) }) {
		if len(word) == size && !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return out
}

// proxyTarget reads -container-ip and -container-port from the command line of docker-proxy.
func proxyTarget(args []string) netip.AddrPort {
	value := map[string]string{}
	for i, arg := range args {
		name, v, ok := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !ok && i+1 < len(args) {
			v = args[i+1]
		}
		if strings.HasPrefix(arg, "-") {
			value[name] = v
		}
	}
	addr, err1 := netip.ParseAddr(value["container-ip"])
	port, err2 := strconv.ParseUint(value["container-port"], 10, 16)
	if err1 != nil || err2 != nil {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}
