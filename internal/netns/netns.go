package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// self is the namespace of the calling thread; /proc/self would be that of the main thread.
const self = "/proc/thread-self/ns/net"

// errGoexit is returned by Do if fn ended its goroutine instead of returning.
var errGoexit = errors.New("function ended its goroutine")

// ID identifies a namespace of the running kernel.
type ID struct {
	Dev uint64
	// Inode is what `ls -L -i /run/netns` and the kernel's net->ns.inum show.
	Inode uint32
}

// Open opens the namespace at path: a bind mount such as /run/netns/NAME, /proc/PID/ns/net or
// /proc/PID/fd/N. The file keeps the namespace alive until it is closed.
func Open(path string) (*os.File, error) {
	f, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		f.Close()
		return nil, fmt.Errorf("open network namespace %s: %w", path, err)
	}
	// A dead mount leaves an empty regular file behind, which setns would refuse without saying why.
	if fs.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("open network namespace %s: it is not a namespace: %w", path, unix.EINVAL)
	}
	return f, nil
}

// open is os.Open without its attempt to wait for the file with epoll, which costs five system calls and
// fails with files of this kind.
func open(path string) (*os.File, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), path), nil
		case !errors.Is(err, unix.EINTR):
			return nil, &os.PathError{Op: "open", Path: path, Err: err}
		}
	}
}

// New creates a network namespace that lives as long as the returned file and what uses it; no name
// and no process is needed, so nothing remains when this process ends, however it ends.
func New() (*os.File, error) {
	var f *os.File
	err := locked(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("create network namespace: %w", err)
		}
		var err error
		f, err = Open(self)
		return err
	})
	return f, err
}

// Do runs fn on a locked thread inside ns and returns its error. Sockets that fn opens stay in ns;
// goroutines that it starts are outside of it. It needs CAP_SYS_ADMIN, unless the caller is there already.
func Do(ns *os.File, fn func() error) error {
	return locked(func() error {
		if err := enter(ns); err != nil {
			return err
		}
		return fn()
	})
}

// isCurrent reports whether the calling thread is in ns: without CAP_SYS_ADMIN nobody may enter a
// namespace, not even the one that he is in.
func isCurrent(ns *os.File) bool {
	id, err := Identify(ns)
	if err != nil {
		return false
	}
	here, err := IdentifyPath(self)
	return err == nil && id == here
}

// Tour runs fn on a locked thread, which enter takes into one namespace after the other; it is in its first
// one again when Tour returns. That costs a namespace half of what Do does.
func Tour(fn func(enter func(ns *os.File) error) error) error {
	return locked(func() error { return fn(enter) })
}

// enter takes the calling thread, which is locked, into a namespace.
func enter(ns *os.File) error {
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil && !isCurrent(ns) {
		return fmt.Errorf("enter network namespace %s: %w", ns.Name(), err)
	}
	return nil
}

// Identify returns the identity of an open namespace.
func Identify(ns *os.File) (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(ns.Fd()), &st); err != nil {
		return ID{}, fmt.Errorf("identify network namespace %s: %w", ns.Name(), err)
	}
	return ID{Dev: st.Dev, Inode: uint32(st.Ino)}, nil
}

// IdentifyPath is Identify for a path, without opening the namespace.
func IdentifyPath(path string) (ID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return ID{}, fmt.Errorf("identify network namespace %s: %w", path, err)
	}
	return ID{Dev: st.Dev, Inode: uint32(st.Ino)}, nil
}

// locked runs fn on a thread of its own that may change its namespace. If the thread cannot go back,
// its goroutine ends locked, and the runtime ends the thread instead of reusing it.
func locked(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := errGoexit
		defer func() { done <- err }()
		home, openErr := Open(self)
		if openErr != nil {
			runtime.UnlockOSThread()
			err = openErr
			return
		}
		defer home.Close()
		defer func() {
			if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil || isCurrent(home) {
				runtime.UnlockOSThread()
			}
		}()
		err = fn()
	}()
	return <-done
}
