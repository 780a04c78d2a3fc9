package tracer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/merge"
)

// HostRecording is what was recorded on one host.
type HostRecording struct {
	// Info is that of the first part.
	Info *RecordingInfo
	// Parts are the recording's, in their order; there is at least one.
	Parts []Input
}

// ApartError says that recordings have nothing in common.
type ApartError struct{ message string }

// Error is a sentence.
func (e *ApartError) Error() string { return e.message }

// far is from which difference on recordings are not read by their wall clocks, of which one must be wrong.
const far = 10 * time.Minute

// ReplayHosts replays what several hosts recorded of the same traffic: each flow becomes one path over all
// of them, as with RunHosts. The error is a *RecordingError for what could not be read to its end, or an
// *ApartError if no packet is in more than one recording, after everything was reported.
func ReplayHosts(ctx context.Context, cfg ReplayConfig, recordings ...HostRecording) (Result, error) {
	cfg = newReplay(cfg).cfg
	started := time.Now()
	r := newHostReplay(cfg, recordings)
	cfg.OnStart(r.meta())
	results, errs := make([]Result, len(recordings)), make([]error, len(recordings))
	var all sync.WaitGroup
	stop := context.AfterFunc(ctx, r.pace.wake)
	defer stop()
	for i, rec := range recordings {
		all.Add(1)
		go func() {
			defer all.Done()
			defer r.pace.end(i)
			results[i], errs[i] = Replay(ctx, ReplayConfig{
				OnNote: func(text string) { r.note(i, text) }, join: r.join, index: i,
				pace: func(at int64) { r.step(ctx, i, at) },
			}, rec.Parts...)
		}()
	}
	all.Wait()
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	for i, err := range errs {
		if err != nil {
			r.join.problem(r.names[i], err.Error())
		}
	}
	r.join.finish()
	out := Result{Flows: r.join.flows, Stats: newSum(r.join.flows)}
	for i := range results {
		addStats(&out.Stats, &results[i].Stats, r.names[i])
	}
	out.Stats.WallNS = time.Since(started).Nanoseconds()
	return out, errors.Join(errors.Join(errs...), r.apart())
}

// hostReplay is one run over the recordings of several hosts.
type hostReplay struct {
	cfg        ReplayConfig
	recordings []HostRecording
	names      []string
	join       *hostJoin
	pace       *pace
	noteMu     sync.Mutex
}

func newHostReplay(cfg ReplayConfig, recordings []HostRecording) *hostReplay {
	r := &hostReplay{cfg: cfg, recordings: recordings, pace: newPace(len(recordings))}
	times := map[string]int{}
	for _, rec := range recordings {
		times[rec.Info.Host]++
	}
	var hosts []merge.Host
	asker := -1
	early, late := recordings[0].Info.Began, recordings[0].Info.Began
	for i, rec := range recordings {
		name := rec.Info.Host
		if name == "" || times[name] > 1 {
			name = filepath.Base(rec.Parts[0].Name)
		}
		r.names = append(r.names, name)
		hosts = append(hosts, merge.Host{Name: name})
		if rec.Info.Meta.Source != "" {
			asker = i
		}
		if began := rec.Info.Began; began.Before(early) {
			early = began
		} else if began.After(late) {
			late = began
		}
	}
	r.pace.relative = late.Sub(early) > far
	r.join = newHostJoin(hosts, asker, cfg.OnFlow)
	r.join.now, r.join.byWall = r.pace.now, true
	return r
}

func (r *hostReplay) note(i int, text string) {
	r.noteMu.Lock()
	defer r.noteMu.Unlock()
	r.cfg.OnNote(r.names[i] + ": " + text)
}

// step lets recording i come to a time of its wall clock when the others are about as far.
func (r *hostReplay) step(ctx context.Context, i int, at int64) {
	if r.pace.step(ctx, i, at) {
		r.join.ready(len(r.recordings), far) // nobody waits for the result, and clocks may differ by that
	}
}

func (r *hostReplay) meta() Meta {
	m := r.recordings[0].Info.Meta
	var kernels []string
	m.Hosts, m.Source = r.names, ""
	for i, rec := range r.recordings {
		if src := rec.Info.Meta.Source; src != "" {
			m.Source, m.Target = src, rec.Info.Meta.Target
		}
		kernels = append(kernels, rec.Info.Kernel)
		for _, hook := range rec.Info.Meta.Hooks {
			if i > 0 {
				m.Hooks = union(m.Hooks, hook)
			}
		}
	}
	m.Kernel = strings.Join(kernels, ", ")
	return m
}

// apart says so if no flow was seen by two hosts, though each saw some.
func (r *hostReplay) apart() error {
	if r.join.shared() {
		return nil
	}
	for i := range r.recordings {
		for j := range i {
			if text := r.pace.between(j, i, r.names); text != "" {
				return &ApartError{text}
			}
		}
	}
	return nil
}

// pace keeps replays of several recordings at about the same time, so that few flows have to wait for what
// another host saw of them.
type pace struct {
	relative bool // to the beginning of each recording

	mu    sync.Mutex
	moved sync.Cond
	first []int64 // wall clock of each recording, ns; 0 before it began
	at    []int64
	done  []bool
	told  int64
}

// lead is by how much one recording may be ahead of the others, ns.
const lead = int64(time.Second)

func newPace(n int) *pace {
	p := &pace{first: make([]int64, n), at: make([]int64, n), done: make([]bool, n)}
	p.moved.L = &p.mu
	return p
}

// step waits until recording i may come to a time. It reports whether it is worth looking what is ready.
func (p *pace) step(ctx context.Context, i int, at int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first[i] == 0 {
		p.first[i] = at
	}
	p.at[i] = max(p.at[i], at)
	p.moved.Broadcast()
	for ctx.Err() == nil && p.place(i)-p.slowest(i) > lead {
		p.moved.Wait()
	}
	if now := p.slowest(-1); now-p.told > lead {
		p.told = now
		return true
	}
	return false
}

// place is how far recording i is. One that has not begun is as far as can be: it begins at once.
func (p *pace) place(i int) int64 {
	if p.relative {
		return p.at[i] - p.first[i]
	}
	return p.at[i]
}

// slowest is how far the slowest recording but i is.
func (p *pace) slowest(but int) int64 {
	slowest := int64(1<<63 - 1)
	for i := range p.at {
		if i != but && !p.done[i] {
			slowest = min(slowest, p.place(i))
		}
	}
	return slowest
}

func (p *pace) now() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.slowest(-1)
}

func (p *pace) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved.Broadcast()
}

func (p *pace) end(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done[i] = true
	p.moved.Broadcast()
}

// between says what is wrong with two recordings that have no packet in common, "" if one is empty.
func (p *pace) between(a, b int, names []string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.first[a] == 0 || p.first[b] == 0 {
		return ""
	}
	if p.first[b] < p.first[a] {
		a, b = b, a
	}
	clock := func(ns int64) string { return time.Unix(0, ns).Format("2006-01-02 15:04:05") }
	if p.at[a] < p.first[b] {
		return fmt.Sprintf("the recordings of %s and %s do not overlap: the one ends at %s, the other begins at %s, and no packet is in both",
			names[a], names[b], clock(p.at[a]), clock(p.first[b]))
	}
	return fmt.Sprintf("no packet is in both recordings, of %s and of %s: were both made with the same --to?", names[a], names[b])
}
