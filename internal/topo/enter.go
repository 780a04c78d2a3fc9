package topo

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// errGoexit is returned for a function that ended its goroutine instead of returning.
var errGoexit = errors.New("the function ended its goroutine")

// InNamespace runs fn on an operating-system thread that is inside the namespace.
func (t *Topology) InNamespace(inode uint32, fn func() error) error {
	f, path, err := t.open(inode)
	if err != nil {
		return err
	}
	defer f.Close()
	return enter(f, path, fn)
}

// Do runs fn on an operating-system thread inside the network namespace that path refers to. The
// goroutine fn runs on is not the caller's.
func Do(path string, fn func() error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer f.Close()
	return enter(f, path, fn)
}

func enter(ns *os.File, path string, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errGoexit
		defer func() { done <- err }()
		err = enterThread(ns, path, fn)
	}()
	return <-done
}

// enterThread moves this goroutine's thread, runs fn and moves back. If that fails the thread stays
// locked, and the runtime ends it together with the goroutine.
func enterThread(ns *os.File, path string, fn func() error) (err error) {
	runtime.LockOSThread()
	origin, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open own network namespace: %w", err)
	}
	defer origin.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	defer func() {
		if unix.Setns(int(origin.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	return fn()
}
