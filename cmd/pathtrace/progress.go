package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/render"
	"github.com/pathtrace/pathtrace/tracer"
)

const (
	// progressAfter is how long a command takes before it says how far it is.
	progressAfter = 2 * time.Second
	// progressEvery is how often it says so anew, on a terminal and elsewhere: in a log each time is a line.
	progressEvery, progressLines = 500 * time.Millisecond, 10 * time.Second
)

// attaching is what a start is.
const attaching = "finding the target and attaching"

// progress says on standard error how far something is that takes a while: on a terminal in one line that is
// written anew, elsewhere in a line now and then. What is written through it appears above that line.
type progress struct {
	w        io.Writer
	terminal bool
	status   func() string

	mu    sync.Mutex // guards w and shown
	shown bool       // the line is there

	stop chan struct{}
	done chan struct{}
}

// newProgress begins to say what status returns; an empty one is not said.
func newProgress(w io.Writer, status func() string) *progress {
	p := &progress{w: w, terminal: isTerminal(w), status: status, stop: make(chan struct{}), done: make(chan struct{})}
	go p.run(progressAfter)
	return p
}

func (p *progress) run(first time.Duration) {
	defer close(p.done)
	every := progressLines
	if p.terminal {
		every = progressEvery
	}
	next := time.NewTimer(first)
	defer next.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-next.C:
			p.say(p.status())
			next.Reset(every)
		}
	}
}

func (p *progress) say(text string) {
	if text == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		render.Note(p.w, text)
		return
	}
	p.clear()
	_, _ = fmt.Fprint(p.w, render.Brief("pathtrace: "+text, p.width())) // nothing can be done about a terminal that is gone
	p.shown = true
}

// width is how much of a line fits the terminal; one column stays free, where the cursor is.
func (p *progress) width() int {
	if file, ok := p.w.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 1 {
			return min(int(size.Col), render.MaxWidth) - 1
		}
	}
	return render.MaxWidth - 1
}

// clear removes the line.
func (p *progress) clear() {
	if p.shown {
		_, _ = io.WriteString(p.w, "\r\x1b[K")
	}
	p.shown = false
}

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	return p.w.Write(b)
}

// close ends the saying; it may be called more than once.
func (p *progress) close() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	<-p.done
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// latencyProgress says how far a measurement of latency is.
type latencyProgress struct {
	cfg     tracer.LatencyConfig
	opened  time.Time
	started time.Time                            // valid iff running is set
	running atomic.Pointer[tracer.LatencyTracer] // nil until it is open
}

// run says that the measurement begins.
func (l *latencyProgress) run(t *tracer.LatencyTracer) {
	l.started = time.Now()
	l.running.Store(t)
}

// text is "512 of 1000 round trips to web:80, 511 to far:80; 4 s of 10 s".
func (l *latencyProgress) text() string {
	t := l.running.Load()
	if t == nil {
		return "finding the targets and attaching; " + seconds(time.Since(l.opened))
	}
	names := t.Targets()
	var parts []string
	for i, n := range t.RoundTrips() {
		switch {
		case i > 0:
			parts = append(parts, fmt.Sprintf("%d to %s", n, names[i]))
		case l.cfg.Count > 0:
			parts = append(parts, fmt.Sprintf("%d of %d round trips to %s", n, l.cfg.Count, names[i]))
		default:
			parts = append(parts, fmt.Sprintf("%d round trips to %s", n, names[i]))
		}
	}
	text := strings.Join(parts, ", ") + "; " + seconds(time.Since(l.started))
	if l.cfg.Duration > 0 {
		text += " of " + seconds(l.cfg.Duration)
	}
	return text
}

// seconds is "4 s".
func seconds(d time.Duration) string { return fmt.Sprintf("%d s", d/time.Second) }

// lastWords are the last words on how far something is, with the time since it began.
type lastWords struct {
	started time.Time
	words   atomic.Pointer[string]
}

func newLastWords(first string) *lastWords {
	l := &lastWords{started: time.Now()}
	l.say(first)
	return l
}

func (l *lastWords) say(text string) { l.words.Store(&text) }

// text is "request: 1400 bytes pass; 3 s".
func (l *lastWords) text() string {
	words := *l.words.Load()
	if words == "" {
		return ""
	}
	return words + "; " + seconds(time.Since(l.started))
}
