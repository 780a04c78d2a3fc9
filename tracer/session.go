package tracer

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// session is one run: the collector with its tracker, what was decided, and the facts around it.
type session struct {
	t         *Tracer
	collector *collector
	endpoints *endpointSet
	queues    map[queueKey]uint64        // packets that queues had dropped before
	known     map[netip.Addr]knownOwners // for a while, of those that decide flows
	readings  readings
	// nftInPlace is diagnose.Facts.NFTDropsInPlace.
	nftInPlace bool

	endedMu sync.Mutex
	ended   []endedFlow // oldest first

	rules *ruleBook

	ruleTrace *ruleTrace // --trace-rules, nil without

	rec         *recorder // nil if the trace is not recorded
	naming      naming
	examination sync.WaitGroup // of the host, for the recording
	measures    bool           // packets are measured, and none is to be kept

	probe   *diagnose.Probe // the probe's end, nil without one
	dialed  target.Dialed
	dropped chan struct{}  // takes one: a packet of the probe was dropped
	lookup  *nameLookup    // how the source resolves the target's name; nil if it is not asked
	local   netip.AddrPort // the probe's own end

	mu      sync.Mutex // guards what follows; OnFlow is called under it, one flow at a time
	decided int
	flows   map[path.Outcome]int
	reached chan struct{} // closed when Config.Count flows were decided
}

func (t *Tracer) newSession() (*session, error) {
	return t.newSessionFor((*session).flowConfig)
}

// newSessionFor returns a session whose tracker is configured by flows.
func (t *Tracer) newSessionFor(flows func(*session) flow.Config) (*session, error) {
	if t.closed {
		return nil, ErrClosed
	}
	reader, err := t.set.Reader()
	if err != nil {
		return nil, err
	}
	s := &session{
		t: t, endpoints: newEndpointSet(), flows: map[path.Outcome]int{},
		known:      map[netip.Addr]knownOwners{},
		nftInPlace: nftDropsInPlace(kernel.Release()),
		reached:    make(chan struct{}), dropped: make(chan struct{}, 1), rules: newRuleBook(t.topo.InNamespace, t.cfg.Log),
	}
	if err := s.record(); err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	s.endpoints.add(t.target.Endpoints)
	s.collector = newCollector(reader, flow.New(flows(s)), s.newNamespace)
	s.collector.onEvent, s.collector.rec = t.onEvent, s.rec
	switch {
	case t.cfg.Confined:
		s.collector.confines = func(inode uint32) bool { return slices.Contains(t.given, inode) }
	case t.cfg.share.Own:
		s.collector.confines = newOwnSpaces(t.labels).has
	}
	return s, nil
}

// flowConfig says when a flow is decided: that of a probe with the probe's end, which no flow may
// forestall; a watched connection soon after it was opened, not when it ends.
func (s *session) flowConfig() flow.Config {
	cfg := flow.Config{IsTarget: s.endpoints.has, Namer: s.t.facts, OnDone: s.done, Recycles: s.t.cfg.LendsFlows}
	s.sessionRecord().times(&cfg)
	if s.t.cfg.Source != "" {
		cfg.OnHop = s.noteDrop
	}
	if m := s.t.measurement; m != nil {
		cfg.OnHop = m.noteHop
	}
	return cfg
}

// times sets when flows are decided, and how much is kept of them.
func (r sessionRecord) times(cfg *flow.Config) {
	cfg.Idle = r.Idle
	if r.Sized {
		cfg.MaxPackets, cfg.MaxData = maxSized, maxSized
	}
	if r.Probe {
		const never = time.Duration(math.MaxInt64)
		cfg.Idle, cfg.DatagramIdle, cfg.DropIdle, cfg.Grace = never, never, never, never
	}
}

func (s *session) sessionRecord() sessionRecord {
	return sessionRecord{
		Probe: s.t.cfg.Source != "", Sized: s.t.measurement != nil, Idle: s.t.cfg.Timeout, Proto: s.t.currentTarget().Proto,
	}
}

// record begins to record, if that is asked for.
func (s *session) record() (err error) {
	s.naming = s.t.labels
	if s.t.cfg.Record == nil {
		return nil
	}
	note := s.t.cfg.OnNote
	if s.rec, err = newRecorder(*s.t.cfg.Record, s.t.cfg.Version, note, s.t.labels, s.t.facts); err != nil {
		return err
	}
	s.t.cfg.OnNote = func(text string) {
		s.rec.sentence(text)
		note(text)
	}
	s.t.rec, s.rec.lost = s.rec, s.lost
	s.rec.podman = s.t.onPodman
	s.naming, s.rules.onRead, s.endpoints.rec = recordedNaming{s.t.labels, s.rec}, s.rec.readRules, s.rec
	return nil
}

// start reports that everything is attached and begins to collect. What was before the trace is read
// before that report where traffic may come at once, and after it where the probe is still to be sent;
// events wait in the buffer meanwhile.
func (s *session) start() {
	s.traceRules()
	m := s.t.meta()
	s.rec.begin(m, s.sessionRecord(), s.endpoints.all())
	if s.t.cfg.Source == "" {
		s.readBaseline()
		s.t.cfg.OnStart(m)
	} else {
		s.t.cfg.OnStart(m)
		s.readBaseline()
	}
	go s.collector.run()
	s.examine()
	go func() {
		s.t.facts.WarmSymbols() // takes a processor for a while, so not before
		s.t.cfg.OnRest()
	}()
}

// readBaseline reads the counters that are compared with those after a flow.
func (s *session) readBaseline() {
	s.queues = s.queueBaseline()
	s.sampleCounters()
}

// newNamespace attaches to a namespace that a packet of the trace went through, so that the next one
// is seen in its netfilter hooks too.
func (s *session) newNamespace(inode uint32) {
	if s.ruleTrace != nil {
		go s.openRules(inode)
	}
	if !s.t.set.NeedsNetNS() || s.t.set.Attached(inode) {
		return
	}
	go s.t.attachNetNS(inode)
}

// done takes a finished flow from the tracker.
func (s *session) done(p *path.Path) {
	s.unfollow(p)
	defer s.collector.tracker.Recycle(p)
	if skip(p) {
		return
	}
	annotate(s.naming, p)
	s.annotateRules(p)
	f := s.gather(p)
	at := time.Now()
	s.rec.flow(p, f, s.rules, at)
	v := diagnose.Explain(p, f)
	p.NAT = v.NAT
	s.decide(Flow{Path: p, Verdict: v, Decided: at})
}

// skip drops what is no flow of its own: the end of a connection that was there before the trace.
func skip(p *path.Path) bool {
	if !p.Midstream {
		return false
	}
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			h := &packet.Hops[i]
			if (h.Action == path.ActionDrop && !h.Noise && !h.Copy) || h.Action == path.ActionReject {
				return false
			}
		}
	}
	return true
}

func (s *session) decide(f Flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows[f.Verdict.Outcome]++
	s.decided++
	if s.t.onPodman() {
		forPodman(&f.Verdict)
	}
	s.t.cfg.OnFlow(f)
	if s.decided == s.t.cfg.Count {
		close(s.reached)
	}
}

// noTraffic decides a flow of which nothing was seen; why is what names had to say, if anything.
func (s *session) noTraffic(why *target.DialError) {
	facts := s.gather(nil)
	p := &path.Path{Proto: s.t.currentTarget().Proto, Server: s.dialed.AddrPort}
	at := time.Now()
	s.rec.noTraffic(p, facts, why, s.rules, at)
	s.decide(Flow{Path: p, Verdict: explainNoTraffic(facts, why), Decided: at})
}

func explainNoTraffic(facts *diagnose.Facts, why *target.DialError) Verdict {
	v := diagnose.ExplainNoTraffic(facts)
	if why != nil && v.Cause != path.CausePortConflict { // that says why it does not run
		v.Outcome, v.Cause, v.Remedy = path.NoTraffic, why.Cause, why.Remedy
		v.Summary = string(path.NoTraffic) + ": " + why.Message
	}
	return v
}

// close ends the session and counts.
func (s *session) close() (Result, error) {
	s.collector.finish()
	s.rules.wait()
	s.examination.Wait()
	if err := s.ruleTrace.close(); err != nil {
		s.t.cfg.OnNote(fmt.Sprintf("rules were not traced to the end: %v", err))
	}
	stats := s.stats()
	recorded := s.rec.end(&stats)
	if err := s.collector.reader.Close(); err != nil {
		return Result{}, fmt.Errorf("close event buffer: %w", err)
	}
	return Result{Stats: stats, Flows: s.flows, Recorded: recorded}, s.collector.err
}

func (s *session) stats() Stats {
	tracked := s.collector.tracker.Stats()
	if s.measures {
		tracked.PacketsOmitted, tracked.HopsOmitted = 0, 0 // none was to be kept
	}
	lost, lostBy := s.lost()
	st := Stats{
		Type: "stats", Packets: tracked.Packets, Events: tracked.Events, LostEvents: lost, Lost: lostBy,
		Hooks: s.collector.points(), WallNS: time.Since(s.t.started).Nanoseconds(), CPUNS: cpuTime(),
		Flows: s.flows,
	}
	for _, why := range s.t.skippedNamespaces() {
		if why != "" {
			st.Skipped = append(st.Skipped, why)
		}
	}
	for _, l := range s.t.facts.Limits(s.t.limits) {
		st.Skipped = append(st.Skipped, l.String())
	}
	for _, h := range s.t.set.Hooks() {
		if h.Err != nil {
			st.Skipped = append(st.Skipped, fmt.Sprintf("hook %s: %v", h.Name, h.Err))
		}
	}
	slices.Sort(st.Skipped)
	for what, n := range map[string]uint64{
		"flows were decided early because too many were followed at once": tracked.FlowsEvicted,
		"packets were counted but not kept":                               tracked.PacketsOmitted,
		"observations were counted but not kept":                          tracked.HopsOmitted,
		"observations fit no flow":                                        tracked.Unmatched,
		"times steps through rules were not kept":                         uint64(s.ruleTrace.missed()),
	} {
		if n > 0 {
			st.Warnings = append(st.Warnings, fmt.Sprintf("%d %s", n, what))
		}
	}
	slices.Sort(st.Warnings)
	return st
}

// lost sums what did not reach the tracker.
func (s *session) lost() (uint64, map[string]uint64) {
	by, err := s.t.set.Lost()
	if err != nil {
		s.t.cfg.Log.Warn("loss counters", "error", err)
	}
	if n := s.collector.broken; n > 0 {
		by["undecodable"] = n
	}
	var sum uint64
	for _, n := range by {
		sum += n
	}
	return sum, by
}

func cpuTime() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// errnoName is the symbol of an errno, such as ENETUNREACH.
func errnoName(e syscall.Errno) string {
	if name := unix.ErrnoName(e); name != "" {
		return name
	}
	return e.Error()
}
