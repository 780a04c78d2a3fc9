package topo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// scanEvery is how often the processes are looked at for namespaces that nothing pinned; a pin is
// noticed at once because the mount table changes. With many processes it is as much more seldom as keeps
// it below one part in scanShare of a processor, and as long as no process is started it is left out, but
// every scanAtMost. burst keeps a storm of mounts from a storm of scans.
const (
	scanEvery  = time.Second
	scanAtMost = 5 * time.Second
	scanShare  = 300
	burst      = 10 * time.Millisecond
)

// watcher waits, on one thread, for changes of the mount table and for the notifications of the
// namespaces that were looked at.
type watcher struct {
	t    *Topology
	wake int // eventfd that ends a wait
	done chan struct{}
	// every is the time between two scans; only the loop uses it.
	every time.Duration
	// started is what was told of the last process at the last scan, calm whether at the one before, too:
	// a process that was started just before a scan may make its namespace after it.
	started string
	calm    bool

	mu      sync.Mutex
	follows map[*space]int // notification socket of a namespace
	dead    []int          // sockets to close; only the loop closes, so that no number is reused under it
	closed  bool
}

func newWatcher(t *Topology) (*watcher, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch namespaces: %w", err)
	}
	return &watcher{t: t, wake: wake, done: make(chan struct{}), every: scanEvery, follows: map[*space]int{}}, nil
}

// poke ends the current wait.
func (w *watcher) poke() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signal()
}

// signal is poke with w.mu held. A full counter, the only error, has the same effect.
func (w *watcher) signal() {
	if w.wake >= 0 {
		_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

func (w *watcher) close() {
	w.mu.Lock()
	w.closed = true
	w.signal()
	w.mu.Unlock()
	<-w.done
}

// follow subscribes to the links and addresses of a namespace, once.
func (w *watcher) follow(s *space) error {
	w.mu.Lock()
	_, have := w.follows[s]
	closed := w.closed
	w.mu.Unlock()
	if have || closed {
		return nil
	}
	var fd int
	err := w.t.InNamespace(s.inode, func() (err error) {
		fd, err = subscribe()
		return err
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, have := w.follows[s]; have || w.closed {
		unix.Close(fd)
		return nil
	}
	w.follows[s] = fd
	w.signal()
	return nil
}

// release ends the subscription of a namespace that is gone: our socket keeps it alive.
func (w *watcher) release(s *space) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if fd, ok := w.follows[s]; ok {
		delete(w.follows, s)
		w.dead = append(w.dead, fd)
		w.signal()
	}
}

func subscribe() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("open netlink socket: %w", err)
	}
	groups := uint32(unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR)
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("subscribe to links: %w", err)
	}
	return fd, nil
}

// loop runs until close.
func (w *watcher) loop() {
	defer close(w.done)
	runtime.LockOSThread() // its processor time is measured
	defer runtime.UnlockOSThread()
	mounts := map[string]*os.File{}
	defer func() {
		for _, f := range mounts {
			f.Close()
		}
		w.closeSockets()
	}()
	mounted := false
	for {
		w.openMounts(mounts)
		fds, spaces, ok := w.pollSet(mounts)
		if !ok {
			return
		}
		if _, err := unix.Poll(fds, w.wait(mounted)); err != nil && err != unix.EINTR {
			w.t.log.Warn("watching namespaces ended", "error", err)
			return
		}
		var count [8]byte
		_, _ = unix.Read(w.wake, count[:]) // it is empty if another event woke
		for i, s := range spaces {
			if fds[1+i].Revents != 0 {
				w.receive(int(fds[1+i].Fd), s)
			}
		}
		mounted = mounted || slices.ContainsFunc(fds[1+len(spaces):], signalled)
		if since := w.t.sinceScan(); since >= w.every || mounted && since >= burst {
			if !mounted && since < scanAtMost && w.calm && lastProcess(w.t.procfs) == w.started {
				w.every = since + scanEvery
				continue
			}
			mounted = false
			w.scan()
		}
	}
}

// scan scans, and takes the time of the next scan from what it took.
func (w *watcher) scan() {
	before, last := threadTime(), lastProcess(w.t.procfs)
	w.calm, w.started = last == w.started, last
	if err := w.t.Rescan(); err != nil {
		w.t.log.Debug("scan namespaces", "error", err)
	}
	w.every = min(max(scanEvery, scanShare*(threadTime()-before)), scanAtMost)
}

// lastProcess tells what process was started last (loadavg in proc(5)), differently each time if it cannot:
// the kernel tells it of the caller's PID namespace, whosever processes procfs shows.
func lastProcess(procfs string) string {
	self, err := os.Readlink(filepath.Join(procfs, "self"))
	if err == nil && self == strconv.Itoa(os.Getpid()) {
		b, err := os.ReadFile(filepath.Join(procfs, "loadavg"))
		if err == nil {
			return string(b[bytes.LastIndexByte(b, ' ')+1:])
		}
	}
	return time.Now().String()
}

// threadTime is the processor time of the calling thread, 0 if it cannot be told.
func threadTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// wait is the longest time to wait, in milliseconds, until the next scan is due.
func (w *watcher) wait(mounted bool) int {
	due := w.every
	if mounted {
		due = burst
	}
	return int(max(time.Millisecond, due-w.t.sinceScan()).Milliseconds())
}

func signalled(fd unix.PollFd) bool { return fd.Revents != 0 }

// pollSet lists what to wait for: the wake pipe, the sockets, the mount tables.
func (w *watcher) pollSet(mounts map[string]*os.File) (fds []unix.PollFd, spaces []*space, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fd := range w.dead {
		unix.Close(fd)
	}
	w.dead = nil
	if w.closed {
		return nil, nil, false
	}
	fds = append(fds, unix.PollFd{Fd: int32(w.wake), Events: unix.POLLIN})
	for s, fd := range w.follows {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		spaces = append(spaces, s)
	}
	for _, f := range mounts {
		// The mount table reports a change as an error and a priority event (proc(5)).
		fds = append(fds, unix.PollFd{Fd: int32(f.Fd()), Events: unix.POLLPRI})
	}
	return fds, spaces, true
}

// openMounts keeps one mount table per mount namespace open.
func (w *watcher) openMounts(mounts map[string]*os.File) {
	want := []string{"self"}
	w.t.mu.RLock()
	for pid := range w.t.pinHolders {
		want = append(want, strconv.Itoa(pid))
	}
	w.t.mu.RUnlock()
	for process, f := range mounts {
		if !slices.Contains(want, process) {
			f.Close()
			delete(mounts, process)
		}
	}
	for _, process := range want {
		if mounts[process] != nil {
			continue
		}
		if f, err := os.Open(filepath.Join(w.t.procfs, process, "mountinfo")); err == nil {
			mounts[process] = f
		}
	}
}

func (w *watcher) closeSockets() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, fd := range w.follows {
		w.dead = append(w.dead, fd)
	}
	for _, fd := range append(w.dead, w.wake) {
		unix.Close(fd)
	}
	w.follows, w.dead, w.wake = nil, nil, -1
}

// receive applies everything that waits on the socket of a namespace.
func (w *watcher) receive(fd int, s *space) {
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ENOBUFS):
			// The kernel dropped notifications: read all anew when somebody asks.
			s.content.mu.Lock()
			s.stale = true
			s.content.mu.Unlock()
			continue
		case err != nil || n == 0:
			return
		}
		msgs, err := syscall.ParseNetlinkMessage(slices.Clone(buf[:n]))
		if err != nil {
			w.t.log.Debug("decode notification", "netns", s.inode, "error", err)
			continue
		}
		for _, m := range msgs {
			w.t.apply(s, m.Header.Type, m.Data)
		}
	}
}

// apply makes one notification part of the content and reports it.
func (t *Topology) apply(s *space, typ uint16, msg []byte) {
	s.content.mu.Lock()
	kind, l := s.apply(typ, msg)
	s.content.mu.Unlock()
	if kind == 0 {
		return
	}
	t.mu.RLock()
	ns := t.describe(s)
	t.mu.RUnlock()
	t.events.send(Change{Kind: kind, NetNS: ns, Link: l})
}

// apply changes the content; s.content.mu is held. Kind 0 means that no link changed.
func (s *space) apply(typ uint16, msg []byte) (ChangeKind, Link) {
	if !s.loaded {
		return 0, Link{}
	}
	switch typ {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(msg) < unix.SizeofIfInfomsg {
			return 0, Link{}
		}
		// A bridge reports its ports under its own family: state changes, and ports that left it.
		if msg[0] != unix.AF_UNSPEC {
			s.stale = true
			return 0, Link{}
		}
		if typ == unix.RTM_DELLINK {
			return s.dropLink(binary.NativeEndian.Uint32(msg[4:]))
		}
		return s.storeLink(msg)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		ifindex, prefix, ok := parseAddr(msg)
		l := s.links[ifindex]
		if !ok || l == nil {
			return 0, Link{}
		}
		l.Addrs = slices.DeleteFunc(slices.Clone(l.Addrs), func(p netip.Prefix) bool { return p == prefix })
		if typ == unix.RTM_NEWADDR {
			l.Addrs = append(l.Addrs, prefix)
		}
		return LinkChanged, l.Link
	}
	return 0, Link{}
}

func (s *space) dropLink(index uint32) (ChangeKind, Link) {
	l := s.links[index]
	if l == nil || l.Gone {
		return 0, Link{}
	}
	s.buryLink(l)
	s.trimGone()
	return LinkGone, l.Link
}

func (s *space) storeLink(msg []byte) (ChangeKind, Link) {
	l, err := parseLink(s.inode, msg)
	if err != nil {
		s.stale = true
		return 0, Link{}
	}
	old := s.links[l.Index]
	s.links[l.Index] = &l
	if old == nil || old.Gone {
		return LinkAdded, l.Link
	}
	l.Addrs = old.Addrs
	return LinkChanged, l.Link
}
