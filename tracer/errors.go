package tracer

import (
	"errors"

	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/target"
)

// What the errors of New, NewLatency, Doctor and Hooks can be told apart by, with errors.Is. Beside
// these there are fs.ErrPermission, if this process may not trace, and errors.ErrUnsupported, if the
// kernel lacks what tracing needs.
var (
	// ErrUsage is of a configuration that cannot mean anything, whatever there is on this host.
	ErrUsage = target.ErrUsage
	// ErrUnknownName is of a Target or Source that nothing here is called.
	ErrUnknownName = target.ErrUnknown
	// ErrAmbiguousName is of a name that several things have; the error lists what to write instead.
	ErrAmbiguousName = target.ErrAmbiguous
	// ErrNotRunning is of a Source that cannot send: a container that does not run.
	ErrNotRunning = target.ErrNotRunning
	// ErrClosed is of a Tracer that was closed, or run, before.
	ErrClosed = errors.New("this trace is over: open another one with New")
)

// IsUsage reports whether err is an ErrUsage.
func IsUsage(err error) bool { return errors.Is(err, ErrUsage) }

// VerifierLog returns the log of the kernel's verifier behind an error of New, "" if there is none.
func VerifierLog(err error) string { return probe.VerifierLog(err) }
