package tracer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/latency"
	"github.com/pathtrace/pathtrace/internal/probe"
	"github.com/pathtrace/pathtrace/internal/recording"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// ReplayConfig says who is told what a recording holds. The callbacks are those of Config; they are
// called from the goroutine of Replay and may be nil.
type ReplayConfig struct {
	OnStart func(Meta)
	OnFlow  func(Flow)
	OnNote  func(string)
	// LendsFlows is that of Config.
	LendsFlows bool

	// join takes what would be decided, if this is one of several hosts, as that with the index.
	join  *hostJoin
	index int
	// pace, if set, is called with the wall clock, ns, of what is about to be replayed, and may wait.
	pace func(int64)
}

// RecordingError is a recording that cannot be replayed, or only its beginning.
type RecordingError struct {
	// Name is that of the recording, Err what is wrong with it.
	Name string
	Err  error
}

// Error is a sentence.
func (e *RecordingError) Error() string { return fmt.Sprintf("cannot replay %s: %v", e.Name, e.Err) }

// Unwrap returns what is wrong.
func (e *RecordingError) Unwrap() error { return e.Err }

// Input is a recording to replay.
type Input struct {
	// Name is what it is called in sentences.
	Name string
	io.Reader
}

// Replay runs the analysis of a recorded trace again, on what was recorded alone: it needs no privilege
// and asks nothing of this host. Several inputs are the parts of one recording, in their order. If an
// input is damaged, what came before is reported all the same, and the error is a *RecordingError. One
// that ends in the middle is no error: OnNote is told.
func Replay(ctx context.Context, cfg ReplayConfig, inputs ...Input) (Result, error) {
	r := newReplay(cfg)
	cfg = r.cfg
	for i, in := range inputs {
		if err := r.input(ctx, in, i == 0); err != nil {
			r.finish(false)
			return r.result(), err
		}
	}
	r.finish(r.complete)
	r.sayRest(r.complete)
	for _, name := range r.truncated {
		if len(r.flows) == 0 && cfg.join == nil {
			return r.result(), &RecordingError{name, recording.ErrTruncated}
		}
		cfg.OnNote(fmt.Sprintf("%s: %v; this is all it has", name, recording.ErrTruncated))
	}
	return r.result(), nil
}

// replay is one run over a recording.
type replay struct {
	cfg     ReplayConfig
	reader  *recording.Reader
	name    string
	tracker *flow.Tracker
	ends    map[probe.Endpoint]bool
	session sessionRecord
	started bool
	meter   *latency.Meter // times what is recorded, in place of deciding the flows; nil without
	sizes   *mtuWatch      // counts what the events show of sizes; nil without

	first, last uint64 // when the first and the last event were, CLOCK_MONOTONIC ns

	// pending are the flows that the tracker finished and whose record is still to come.
	pending  map[flowKey][]*path.Path
	nPending int
	facts    factsBook
	rules    ruleShelf
	naming   bookNaming

	measured *mtuRecord // nil without a measurement of packet sizes
	stats    *Stats     // nil without the record at the end
	lost     map[string]uint64
	events   uint64
	hooks    map[string]uint64
	flows    map[path.Outcome]int
	complete bool // the end was reached
	unsolved int  // flows whose record fits none
	open     int  // flows that were under way at the end
	// truncated are the inputs that end in the middle.
	truncated []string
}

func newReplay(cfg ReplayConfig) *replay {
	if cfg.OnStart == nil {
		cfg.OnStart = func(Meta) {}
	}
	if cfg.OnFlow == nil {
		cfg.OnFlow = func(Flow) {}
	}
	if cfg.OnNote == nil {
		cfg.OnNote = func(string) {}
	}
	cfg.LendsFlows = cfg.LendsFlows && cfg.join == nil
	return &replay{
		cfg: cfg, ends: map[probe.Endpoint]bool{}, pending: map[flowKey][]*path.Path{},
		flows: map[path.Outcome]int{}, hooks: map[string]uint64{}, facts: newFactsBook(), rules: newRuleShelf(),
	}
}

// maxPending bounds the flows that wait for their record, which follows at once in what was not altered.
const maxPending = 1 << 14

// DropReason implements flow.Namer with the names of the input being read, as ResetReason and Symbol do.
func (r *replay) DropReason(reason uint32) string { return r.reader.Names().DropReason(reason) }

// ResetReason implements flow.Namer.
func (r *replay) ResetReason(reason uint32) string { return r.reader.Names().ResetReason(reason) }

// Symbol implements flow.Namer.
func (r *replay) Symbol(addr uint64) string { return r.reader.Names().Symbol(addr) }

// input reads one input to its end.
func (r *replay) input(ctx context.Context, in Input, first bool) error {
	reader, err := recording.NewReader(in)
	if err != nil {
		return &RecordingError{in.Name, err}
	}
	defer reader.Close()
	r.reader, r.name, r.complete = reader, in.Name, false
	if h := reader.Header(); r.cfg.join != nil && first {
		r.cfg.join.clock(r.cfg.index, h.BootID, h.WallNS-int64(h.MonotonicNS))
	}
	r.facts.reset()
	for n := 0; ; n++ {
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		kind, err := reader.Next()
		if err == nil {
			err = r.take(kind)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, recording.ErrTruncated):
			r.truncated = append(r.truncated, in.Name)
			return nil
		default:
			return &RecordingError{in.Name, err}
		}
	}
}

// take takes what was read.
func (r *replay) take(kind recording.Kind) error {
	switch kind {
	case recording.KindEvent:
		return r.event(r.reader.Event())
	case recording.KindTick:
		if r.tracker != nil {
			r.tracker.Expire(r.reader.Tick())
		}
		return nil
	case recording.KindRecord:
		return r.record(r.reader.Record())
	}
	return nil
}

var errNoSession = errors.New("it does not say how the trace was set up")

func (r *replay) event(e *wire.Event) error {
	if r.tracker == nil {
		return errNoSession
	}
	if !e.Hook.IsKnown() {
		return nil // of a newer pathtrace
	}
	if r.cfg.pace != nil {
		r.cfg.pace(r.reader.Header().Wall(e.Time))
	}
	if r.events == 0 {
		r.first = e.Time
	}
	r.last = max(r.last, e.Time)
	r.events++
	if r.sizes != nil {
		r.sizes.event(e)
	}
	r.hooks[e.Hook.Point(e.Tuple.Dst.Addr().Is6())]++
	r.tracker.Add(e)
	return nil
}

// record takes a record. Types that are not known here are of a newer pathtrace.
func (r *replay) record(rec *recording.Record) error {
	switch rec.Type {
	case typeMeta:
		var m Meta
		if err := rec.Decode(&m); err != nil {
			return err
		}
		if !r.started {
			r.started, m.Epoch = true, r.session.Epoch
			r.cfg.OnStart(m)
		}
	case typeSession:
		return r.setUp(rec)
	case typeEndpoints:
		return r.changeEnds(rec)
	case typeValue:
		return r.facts.add(rec)
	case typeRules:
		return r.rules.add(rec)
	case typeRuleset:
		return r.rules.addRuleset(rec)
	case typeFlow:
		return r.decideFlow(rec)
	case typeNoTraffic:
		return r.decideNothing(rec)
	case typeMTU:
		r.measured = &mtuRecord{}
		return rec.Decode(r.measured)
	case typeNote:
		var text string
		if err := rec.Decode(&text); err != nil {
			return err
		}
		r.cfg.OnNote(text)
	case typeLost:
		r.lost = nil
		return rec.Decode(&r.lost)
	case typeStats:
		r.stats, r.complete = &Stats{}, true
		return rec.Decode(r.stats)
	case typeFlush, typePeek:
		r.mark(rec.Type)
	}
	return nil
}

func (r *replay) mark(typ string) {
	switch {
	case r.tracker == nil:
	case typ == typeFlush:
		r.tracker.Flush()
	default:
		for _, p := range r.tracker.Peek() { // which settles what is a copy of what
			r.tracker.Recycle(p)
		}
	}
}

func (r *replay) setUp(rec *recording.Record) error {
	if r.tracker != nil {
		return nil // the same in every part
	}
	if err := rec.Decode(&r.session); err != nil {
		return err
	}
	cfg := flow.Config{IsTarget: r.isTarget, Namer: r, OnDone: r.done, Recycles: r.cfg.LendsFlows}
	if r.meter != nil {
		cfg.OnStep, cfg.OnDone, cfg.Recycles = r.meter.Step, r.timed, true
	}
	r.session.times(&cfg)
	r.tracker = flow.New(cfg)
	return nil
}

func (r *replay) isTarget(ap netip.AddrPort, proto uint8) bool {
	return r.ends[probe.Endpoint{Addr: ap, Proto: proto}]
}

// maxEnds bounds the target's ends.
const maxEnds = 1 << 16

func (r *replay) changeEnds(rec *recording.Record) error {
	var change endpointsRecord
	if err := rec.Decode(&change); err != nil {
		return err
	}
	for _, e := range change.Remove {
		if ap, err := netip.ParseAddrPort(e.Addr); err == nil {
			delete(r.ends, probe.Endpoint{Addr: ap, Proto: e.Proto})
		}
	}
	for _, e := range change.Add {
		if ap, err := netip.ParseAddrPort(e.Addr); err == nil && len(r.ends) < maxEnds {
			r.ends[probe.Endpoint{Addr: ap, Proto: e.Proto}] = true
		}
	}
	return nil
}

// timed takes a finished flow whose packets the meter has had.
func (r *replay) timed(p *path.Path) {
	r.meter.Done(p)
	r.tracker.Recycle(p)
}

// done takes a finished flow from the tracker. On what it was decided follows in the recording.
func (r *replay) done(p *path.Path) {
	if skip(p) {
		r.tracker.Recycle(p)
		return
	}
	if r.nPending >= maxPending {
		r.unsolved++
		r.tracker.Recycle(p)
		return
	}
	r.nPending++
	r.pending[keyOf(p)] = append(r.pending[keyOf(p)], p)
}

func (r *replay) decideFlow(rec *recording.Record) error {
	var f flowRecord
	if err := rec.Decode(&f); err != nil {
		return err
	}
	list := r.pending[f.flowKey]
	if len(list) == 0 {
		r.unsolved++
		return nil
	}
	p := list[0]
	r.nPending--
	if len(list) == 1 {
		delete(r.pending, f.flowKey)
	} else {
		r.pending[f.flowKey] = list[1:]
	}
	r.rules.judge(f.Judged)
	facts, err := r.facts.facts(&f.Facts, &r.rules)
	if err != nil {
		return err
	}
	annotate(r.naming.at(r.reader), p)
	for _, s := range f.Steps {
		if s.Packet < 0 || s.Hop < 0 || s.Packet >= len(p.Packets) || s.Hop >= len(p.Packets[s.Packet].Hops) {
			continue
		}
		p.Packets[s.Packet].Hops[s.Hop].Rules = s.Rules
	}
	if r.cfg.join != nil {
		r.cfg.join.view(r.cfg.index, p, facts)
		return nil
	}
	v := diagnose.Explain(p, facts)
	p.NAT = v.NAT
	if f.Podman {
		forPodman(&v)
	}
	r.decide(Flow{Path: p, Verdict: v, Decided: f.Decided})
	r.tracker.Recycle(p)
	return nil
}

func (r *replay) decideNothing(rec *recording.Record) error {
	var f noTrafficRecord
	if err := rec.Decode(&f); err != nil {
		return err
	}
	r.rules.judge(f.Judged)
	facts, err := r.facts.facts(&f.Facts, &r.rules)
	if err != nil {
		return err
	}
	v, p := explainNoTraffic(facts, f.dialError()), &path.Path{Proto: f.Proto, Server: f.Server}
	if f.Podman {
		forPodman(&v)
	}
	if r.cfg.join != nil {
		r.cfg.join.nothing(r.cfg.index, p, facts, v)
		return nil
	}
	r.decide(Flow{Path: p, Verdict: v, Decided: f.Decided})
	return nil
}

func (r *replay) decide(f Flow) {
	r.flows[f.Verdict.Outcome]++
	r.cfg.OnFlow(f)
}

// finish decides what can be decided of the flows that were under way where the recording ends: those
// that arrived, and those that were seen to be dropped. Of the others the rest was not recorded.
func (r *replay) finish(complete bool) {
	if r.tracker == nil {
		return
	}
	r.tracker.Flush()
	var rest []*path.Path
	for _, list := range r.pending {
		rest = append(rest, list...)
	}
	slices.SortFunc(rest, func(a, b *path.Path) int { return a.Flow - b.Flow })
	r.pending, r.nPending = map[flowKey][]*path.Path{}, 0
	for _, p := range rest {
		facts := r.facts.guess(r.lostEvents())
		annotate(r.naming.at(r.reader), p)
		if r.cfg.join != nil {
			r.cfg.join.view(r.cfg.index, p, facts) // another host may know what became of it
			continue
		}
		v := diagnose.Explain(p, facts)
		if complete || v.Outcome == path.Lost || v.Outcome == path.NoTraffic {
			r.open++
			continue
		}
		p.NAT = v.NAT
		wall := r.reader.Header().Wall(p.End)
		r.decide(Flow{Path: p, Verdict: v, Decided: time.Unix(0, wall)})
	}
}

func (r *replay) sayRest(complete bool) {
	switch {
	case r.unsolved > 0 || complete && r.open > 0:
		r.cfg.OnNote(fmt.Sprintf("%s: %s could not be followed again from what was recorded", r.name, path.FormatCount(r.unsolved+r.open, "flow")))
	case r.open > 0:
		r.cfg.OnNote(fmt.Sprintf("%s: the recording ends with %s still under way; what became of that is not known",
			r.name, path.FormatCount(r.open, "flow")))
	}
}

func (r *replay) lostEvents() (sum uint64) {
	for _, n := range r.lost {
		sum += n
	}
	return sum
}

// result is the recorded trace's numbers with what was concluded now.
func (r *replay) result() Result {
	st := Stats{Type: "stats", Events: r.events, Hooks: r.hooks, LostEvents: r.lostEvents(), Lost: r.lost}
	if r.tracker != nil {
		st.Packets = r.tracker.Stats().Packets
	}
	if r.stats != nil {
		st = *r.stats
	}
	st.Flows = r.flows
	return Result{Stats: st, Flows: r.flows}
}
