package lab

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Options of a Lab.
type Options struct {
	// Named mounts each namespace under /run/netns, where `ip netns` shows it. Unlike anonymous ones,
	// they survive kill -9.
	Named bool
	// Prefix of the names under /run/netns; empty means "ptdemo-<pid>-".
	Prefix string
}

// Lab owns namespaces and what runs in them. Its methods may be called concurrently.
type Lab struct {
	opts Options
	ipv6 bool

	mu         sync.Mutex
	namespaces []*Namespace
	closers    []io.Closer // servers, closed before the namespaces
	closed     bool
}

// New returns an empty lab. It must be closed.
func New(opts Options) *Lab {
	if opts.Prefix == "" {
		opts.Prefix = fmt.Sprintf("ptdemo-%d-", os.Getpid())
	}
	_, err := os.Stat("/proc/sys/net/ipv6")
	return &Lab{opts: opts, ipv6: err == nil}
}

// IPv6 tells whether this kernel speaks IPv6 (it does not with ipv6.disable=1).
func (l *Lab) IPv6() bool { return l.ipv6 }

// Namespaces returns the lab's namespaces in the order of their creation.
func (l *Lab) Namespaces() []*Namespace {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.namespaces)
}

// Close closes every server and removes every namespace, the last one first. It may be called twice
// and while NewNamespace runs.
func (l *Lab) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	var errs []error
	for _, c := range slices.Backward(l.closers) {
		errs = append(errs, c.Close())
	}
	for _, ns := range slices.Backward(l.namespaces) {
		errs = append(errs, ns.close())
	}
	l.closers, l.namespaces = nil, nil
	return errors.Join(errs...)
}

// own registers c to be closed with the lab, or closes it at once if the lab is closed already.
func (l *Lab) own(c io.Closer) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.Join(os.ErrClosed, c.Close())
	}
	l.closers = append(l.closers, c)
	return nil
}

// FeatureError says that the kernel lacks something the lab is made of.
type FeatureError struct {
	// Feature in words, Config the kernel options that provide it.
	Feature, Config string
	Err             error
}

// Error implements error.
func (e *FeatureError) Error() string {
	return fmt.Sprintf("this kernel has no %s: load the module or use a kernel built with %s (%v)", e.Feature, e.Config, e.Err)
}

// Unwrap returns the kernel's error.
func (e *FeatureError) Unwrap() error { return e.Err }

// explain turns the errors by which a kernel says "not built" into a FeatureError and names the
// missing privilege; other errors stay as they are.
func explain(err error, feature, config string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EPROTONOSUPPORT),
		errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.ENOSYS):
		return &FeatureError{Feature: feature, Config: config, Err: err}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: run as root (CAP_SYS_ADMIN and CAP_NET_ADMIN are needed)", err)
	}
	return err
}
