package target

import (
	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// UsageError is a name that cannot mean anything; exit status 2.
type UsageError struct{ Message string }

// Error returns the sentence.
func (e *UsageError) Error() string { return e.Message }

// UnknownError is a name that nothing has.
type UnknownError struct {
	Name string
	// Suggestions are names that look alike, best first; Known says what there is.
	Suggestions []string
	Known       string
}

// Error returns the sentence.
func (e *UnknownError) Error() string { return e.Name }

// AmbiguousError is a name that several things have.
type AmbiguousError struct {
	Name       string
	Candidates []Candidate
}

// Candidate is one thing that an ambiguous name could mean.
type Candidate struct {
	// What describes it ("container web of engine unix:///…"); Use is what to write instead, empty
	// if it cannot be told apart.
	What, Use string
}

// Error returns the sentence and the list.
func (e *AmbiguousError) Error() string { return e.Name }

// NotRunningError is a source container that does not run.
type NotRunningError struct{ Container *docker.Container }

// Error returns the sentence.
func (e *NotRunningError) Error() string { return e.Container.Name }

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
