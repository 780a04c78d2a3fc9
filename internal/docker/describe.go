package docker

import (
	"context"
	"sync"
	"time"

	"github.com/docker/docker/client"
)

// describeAfter is when an engine is asked about itself, unless somebody wants to know before: it takes
// the engine longer than to list its containers, as it starts other programs for it, and the processors
// are busy while a trace starts.
const describeAfter = 200 * time.Millisecond

// description is the asking of an engine about itself, once in each session.
type description struct {
	once   sync.Once
	wanted chan struct{} // closed when somebody waits
	done   chan struct{} // closed when it was answered, or will not be
}

func newDescription() *description {
	return &description{wanted: make(chan struct{}), done: make(chan struct{})}
}

func (d *description) want() { d.once.Do(func() { close(d.wanted) }) }

// describe adds to what is known of the engine what it says about itself. Names do without an answer.
func (e *engine) describe(ctx context.Context, cli *client.Client) {
	e.all.mu.RLock()
	about, pid := e.about, e.info.PID
	e.all.mu.RUnlock()
	defer close(about.done)
	select {
	case <-ctx.Done():
		return
	case <-about.wanted:
	case <-time.After(describeAfter):
	}
	limited, cancel := context.WithTimeout(ctx, queryLimit)
	defer cancel()
	version, err := cli.ServerVersion(limited)
	if err != nil {
		e.log.Debug("ask the engine for its version", "error", err)
	}
	info, err := cli.Info(limited)
	if err != nil {
		e.log.Debug("ask the engine about itself", "error", err)
	}
	if ctx.Err() != nil {
		return // the session is over: what was known before stays
	}
	settings := e.locate.settings(pid, version.Version)
	e.all.mu.Lock()
	defer e.all.mu.Unlock()
	e.info.Version, e.info.Settings = version.Version, settings
	convertInfo(&e.info, info)
}

// Described is List once every engine that answers has told about itself, or ctx has ended: without it
// Version, Settings, FirewallBackend, Swarm, Rootless and LiveRestore may be missing.
func (e *Engines) Described(ctx context.Context) []Engine {
	e.mu.RLock()
	var asked []*description
	for _, en := range e.engines {
		if en.info.Alive && en.about != nil {
			asked = append(asked, en.about)
		}
	}
	e.mu.RUnlock()
	for _, d := range asked {
		d.want()
	}
	for _, d := range asked {
		select {
		case <-d.done:
		case <-ctx.Done():
		}
	}
	return e.List()
}
