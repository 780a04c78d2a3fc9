package target

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Errors that errors.Is finds behind those of this package.
var (
	ErrUsage      = errors.New("the name cannot mean anything")
	ErrUnknown    = errors.New("nothing has the name")
	ErrAmbiguous  = errors.New("several things have the name")
	ErrNotRunning = errors.New("it does not run")
)

// UsageError is a name that cannot mean anything; exit status 2.
type UsageError struct{ Message string }

// Error returns the sentence.
func (e *UsageError) Error() string { return e.Message }

// Unwrap returns ErrUsage.
func (e *UsageError) Unwrap() error { return ErrUsage }

func usage(format string, args ...any) error {
	return &UsageError{Message: fmt.Sprintf(format, args...)}
}

// UnknownError is a name that nothing has.
type UnknownError struct {
	Name string
	// Suggestions are names that look alike, best first; Known are names there are, some of them.
	Suggestions, Known []string
	// Silent are the addresses of engines that do not answer: what only they know has no name.
	Silent []string
	// Absent are the addresses at which there is no engine at all.
	Absent []string
	// Reason says why a look-up as a host name or address found nothing; empty if there was none.
	Reason string
}

// Error returns the sentence.
func (e *UnknownError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no container, service, alias, namespace or host is called %q", e.Name)
	if e.Reason != "" {
		fmt.Fprintf(&b, " (%s)", e.Reason)
	}
	switch {
	case len(e.Suggestions) > 0:
		fmt.Fprintf(&b, ": did you mean %s?", strings.Join(e.Suggestions, " or "))
	case len(e.Known) > 0:
		fmt.Fprintf(&b, ": there are %s", strings.Join(e.Known, ", "))
	default:
		b.WriteString(": no container and no named namespace was found")
	}
	if len(e.Silent) > 0 {
		fmt.Fprintf(&b, "; the Docker engine at %s does not answer, so its containers are not known",
			strings.Join(e.Silent, " and at "))
	}
	if len(e.Absent) > 0 {
		fmt.Fprintf(&b, "; there is no Docker engine at %s", strings.Join(e.Absent, " or at "))
	}
	return b.String()
}

// Unwrap returns ErrUnknown.
func (e *UnknownError) Unwrap() error { return ErrUnknown }

// AmbiguousError is a name that several things have.
type AmbiguousError struct {
	Name       string
	Candidates []Candidate
}

// Candidate is one thing that an ambiguous name could mean.
type Candidate struct {
	// What describes it ("container web of unix:///…"); Use is what to write instead, empty if it
	// cannot be told apart.
	What, Use string
}

// Error returns the sentence and the list.
func (e *AmbiguousError) Error() string {
	parts := make([]string, 0, len(e.Candidates))
	for _, c := range e.Candidates {
		if c.Use != "" {
			parts = append(parts, fmt.Sprintf("%s (write %s)", c.What, c.Use))
			continue
		}
		parts = append(parts, c.What)
	}
	return fmt.Sprintf("%q could be any of these, say which: %s", e.Name, strings.Join(parts, "; "))
}

// Unwrap returns ErrAmbiguous.
func (e *AmbiguousError) Unwrap() error { return ErrAmbiguous }

// NotRunningError is a source that has no network namespace to send from.
type NotRunningError struct{ Container *docker.Container }

// Error returns the sentence.
func (e *NotRunningError) Error() string {
	if e.Container.Runs() {
		return fmt.Sprintf("the network namespace of container %s cannot be opened from here: run pathtrace as root and in the PID namespace of its engine", e.Container.Name)
	}
	return fmt.Sprintf("container %s is %s and can send nothing: start it with `docker start %s`", e.Container.Name, e.Container.State, e.Container.Name)
}

// Unwrap returns ErrNotRunning.
func (e *NotRunningError) Unwrap() error { return ErrNotRunning }

// DialError says why no address of the target can be reached from the source.
type DialError struct {
	// Cause is container-not-running, no-shared-network or not-published.
	Cause path.Cause
	// Message is one sentence; Remedy lists steps.
	Message string
	Remedy  []string
	// Container is the target's, nil if there is none.
	Container *docker.Container
}

// Error returns the sentence.
func (e *DialError) Error() string { return e.Message }
