package prober

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// NamespaceError says that the namespace to probe from cannot be entered: it is gone, or the right to
// enter it is missing.
type NamespaceError struct {
	Path string
	Err  error
}

// Error implements error.
func (e *NamespaceError) Error() string {
	if errors.Is(e.Err, unix.EPERM) || errors.Is(e.Err, unix.EACCES) {
		return fmt.Sprintf("enter the probe's network namespace: %v: run as root or with CAP_SYS_ADMIN and CAP_SYS_PTRACE", e.Err)
	}
	return fmt.Sprintf("enter the probe's network namespace: %v", e.Err)
}

// Unwrap returns the cause.
func (e *NamespaceError) Unwrap() error { return e.Err }

// RouteError says that the probe's namespace has no way to the destination, so that no packet can be
// sent: ENETUNREACH without a route, EHOSTUNREACH, EACCES or EINVAL with an unreachable, prohibit or
// blackhole route, ENODEV for an unknown zone.
type RouteError struct {
	Dst   netip.Addr
	Errno unix.Errno
}

// Error implements error.
func (e *RouteError) Error() string {
	return fmt.Sprintf("look up a route to %s: %v", e.Dst, e.Errno)
}

// Unwrap returns the errno.
func (e *RouteError) Unwrap() error { return e.Errno }

// Result returns the error in the form that Send would have given.
func (e *RouteError) Result() Result { return Result{Kind: Unreachable, Errno: e.Errno} }
