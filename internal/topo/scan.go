package topo

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxPIDs is how many processes of a namespace are remembered as ways to open it.
const maxPIDs = 4

// sighting is what a scan saw of one namespace.
type sighting struct {
	pins []string
	pids []int
}

// Rescan looks for new and vanished namespaces now.
func (t *Topology) Rescan() error { return t.scan(0) }

// scan reads all processes and mounts. If it does not meet the namespace wanted, it also looks for
// pins in the mount namespaces of other processes and remembers where it found them.
func (t *Topology) scan(wanted uint32) error {
	t.scanMu.Lock()
	defer t.scanMu.Unlock()
	seen := map[uint32]*sighting{}
	pids, err := t.scanProcesses(seen)
	if err != nil {
		return err
	}
	t.scanPins(seen)
	if wanted != 0 && seen[wanted] == nil && t.now().Sub(t.deepScan) >= deepScanInterval {
		t.deepScan = t.now()
		t.scanOtherMounts(seen, pids)
	}
	if seen[t.self] == nil {
		seen[t.self] = &sighting{}
	}
	t.merge(seen)
	return nil
}

// scanProcesses notes the namespace of every process. Our own is left out: one of our threads may
// be somewhere else at the moment.
func (t *Topology) scanProcesses(seen map[uint32]*sighting) ([]int, error) {
	dir, err := os.Open(t.procfs)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	self := os.Getpid()
	pids := make([]int, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == self {
			continue
		}
		pids = append(pids, pid)
	}
	slices.Sort(pids)
	for _, pid := range pids {
		inode, err := readNetNS(filepath.Join(t.procfs, strconv.Itoa(pid), "ns/net"))
		if err != nil {
			continue // it ended, or belongs to somebody else
		}
		if s := sight(seen, inode); len(s.pids) < maxPIDs {
			s.pids = append(s.pids, pid)
		}
	}
	return pids, nil
}

func sight(seen map[uint32]*sighting, inode uint32) *sighting {
	s := seen[inode]
	if s == nil {
		s = &sighting{}
		seen[inode] = s
	}
	return s
}

// scanPins notes the namespaces that are mounted somewhere, here and where AddPins said.
func (t *Topology) scanPins(seen map[uint32]*sighting) {
	_, _ = t.addMounts(seen, "self", "") // without, namespaces are found through processes only
	t.mu.RLock()
	holders := make([]int, 0, len(t.pinHolders))
	for pid := range t.pinHolders {
		holders = append(holders, pid)
	}
	paths := slices.Sorted(maps.Keys(t.paths))
	t.mu.RUnlock()
	for _, path := range paths {
		if inode, err := t.InodeOf(path); err == nil {
			s := sight(seen, inode)
			s.pins = append(s.pins, path)
		}
	}
	slices.Sort(holders)
	for _, pid := range holders {
		dir := strconv.Itoa(pid)
		_, err := t.addMounts(seen, dir, filepath.Join(t.procfs, dir, "root"))
		if errors.Is(err, os.ErrNotExist) {
			t.mu.Lock()
			delete(t.pinHolders, pid)
			t.mu.Unlock()
		}
	}
}

// addMounts adds the pins in the mount namespace of a process; root leads there from here. It
// returns how many namespaces had not been seen before.
func (t *Topology) addMounts(seen map[uint32]*sighting, process, root string) (int, error) {
	f, err := os.Open(filepath.Join(t.procfs, process, "mountinfo"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	pins, err := parseMountinfo(f)
	added := 0
	for _, pin := range pins {
		if seen[pin.inode] == nil {
			added++
		}
		s := sight(seen, pin.inode)
		if path := root + pin.path; !slices.Contains(s.pins, path) {
			s.pins = append(s.pins, path)
		}
	}
	return added, err
}

// scanOtherMounts reads the mounts of one process of each mount namespace.
func (t *Topology) scanOtherMounts(seen map[uint32]*sighting, pids []int) {
	done := map[string]bool{}
	if own, err := os.Readlink(filepath.Join(t.procfs, "self/ns/mnt")); err == nil {
		done[own] = true
	}
	for _, pid := range pids {
		dir := strconv.Itoa(pid)
		mnt, err := os.Readlink(filepath.Join(t.procfs, dir, "ns/mnt"))
		if err != nil || done[mnt] {
			continue
		}
		done[mnt] = true
		added, err := t.addMounts(seen, dir, filepath.Join(t.procfs, dir, "root"))
		if err == nil && added > 0 {
			t.mu.Lock()
			t.pinHolders[pid] = struct{}{}
			t.mu.Unlock()
		}
	}
}

// merge makes the sightings the truth and reports what changed.
func (t *Topology) merge(seen map[uint32]*sighting) {
	host := t.hostInode(seen)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastScan = t.now()
	for inode, sg := range seen {
		s := t.spaces[inode]
		// A namespace that comes back is another one that was given the same number.
		fresh := s == nil || s.gone
		if fresh {
			s = &space{inode: inode}
			t.spaces[inode] = s
		}
		s.pins, s.pids, s.lastPath = sg.pins, sg.pids, ""
		s.name, s.kind = t.identify(s, inode == host)
		if fresh {
			t.events.send(Change{Kind: NamespaceAdded, NetNS: t.describe(s)})
		}
	}
	for inode, s := range t.spaces {
		if seen[inode] == nil && !s.gone {
			t.bury(s)
		}
	}
}

// bury marks a namespace as gone and forgets the oldest of too many.
func (t *Topology) bury(s *space) {
	n := t.describe(s)
	s.gone = true
	s.name, s.kind = n.Name, n.Kind
	delete(t.given, s.inode) // the next namespace may get the same number
	s.pins, s.pids = nil, nil
	s.lastPath = n.Path
	n.Gone = true
	if t.watch != nil {
		t.watch.release(s)
	}
	t.events.send(Change{Kind: NamespaceGone, NetNS: n})
	t.goneOrder = append(t.goneOrder, s.inode)
	if len(t.goneOrder) > maxGone {
		oldest := t.goneOrder[0]
		t.goneOrder = t.goneOrder[1:]
		if o := t.spaces[oldest]; o != nil && o.gone {
			delete(t.spaces, oldest)
		}
	}
}

// hostInode tells which namespace is the machine's: that of process 1, else our own unless that was
// made by `ip netns`.
func (t *Topology) hostInode(seen map[uint32]*sighting) uint32 {
	if inode, err := readNetNS(filepath.Join(t.procfs, "1/ns/net")); err == nil {
		return inode
	}
	for _, pin := range seen[t.self].pins {
		if _, kind := pinName(pin); kind == KindNamed {
			return 0
		}
	}
	return t.self
}

// identify finds the best name in what a scan saw; t.mu is held.
func (t *Topology) identify(s *space, host bool) (string, Kind) {
	if host {
		return "host", KindHost
	}
	name, kind := "", KindOther
	for _, pin := range s.pins {
		n, k := pinName(pin)
		if n != "" && (name == "" || k == KindNamed && kind != KindNamed) {
			name, kind = n, k
		}
	}
	if name != "" {
		return name, kind
	}
	if len(s.pids) == 0 {
		return "netns " + strconv.FormatUint(uint64(s.inode), 10), KindOther
	}
	comm, _ := os.ReadFile(filepath.Join(t.procfs, strconv.Itoa(s.pids[0]), "comm"))
	return processName(s.pids[0], strings.TrimSpace(string(comm))), KindOther
}

// sinceScan tells how long ago the last scan was.
func (t *Topology) sinceScan() time.Duration {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.now().Sub(t.lastScan)
}
