package tracer

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/mtu"
	"github.com/pathtrace/pathtrace/internal/prober"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// maxSized bounds the packets that are kept of the flow whose sizes are measured.
const maxSized = 4096

// openingLate bounds how many times the other end's socket is waited for, by settle.
const openingLate = 8

// MTUResult is what MeasureMTU found.
type MTUResult struct {
	// Directions are the request's and, if it could be measured, the reply's; none if the opening
	// probe failed already.
	Directions []path.MTU
	Verdict    Verdict
	// Live is what live traffic showed before; nil if it was not watched, see AddLive.
	Live *path.MTUWatch
	// Path is the flow of the probes with all their packets; nil if nothing of it was seen.
	Path  *path.Path
	Stats Stats
	// Recorded is what was recorded, nil without Config.Record.
	Recorded *Recorded
}

// measurement is one run of MeasureMTU.
type measurement struct {
	s      *session
	expect int
	signs  chan struct{} // takes one: something was dropped or delivered
	conn   *prober.Connection
	opened time.Duration // how long the opening probe took to be answered
	serial uint16        // of the probes

	// openRule and ruleEvidence are of the rules that dropped ICMP errors, by direction of the probes.
	openRule, ruleEvidence map[path.Direction][]string
	routes                 map[path.Direction]string // of the senders
	detours                map[path.Direction]string // round the routes that are the limit
	judged                 Verdict

	mu   sync.Mutex // guards flow
	flow *Flow      // as it was decided at the end
}

// MeasureMTU finds out which packet sizes the path from Source to Target carries, both ways, and where
// larger ones end. It opens one connection (or sends one datagram or echo) and then sends packets of
// chosen sizes along it, of which the other side's application sees nothing with TCP. Config.Source is
// required. expect is the least that the path should carry, 0 for no expectation. It is to be called
// once, in place of Run; the Tracer is closed after.
func (t *Tracer) MeasureMTU(ctx context.Context, expect int) (MTUResult, error) {
	defer t.Close()
	for _, problem := range t.engines.Problems() {
		t.cfg.OnNote(problem)
	}
	m := &measurement{
		expect: expect, signs: make(chan struct{}, 1),
		openRule: map[path.Direction][]string{}, ruleEvidence: map[path.Direction][]string{},
		routes: map[path.Direction]string{}, detours: map[path.Direction]string{},
	}
	t.measurement = m
	t.cfg.OnFlow, t.cfg.LendsFlows = m.decided, false
	s, err := t.newSession()
	if err != nil {
		return MTUResult{}, err
	}
	m.s = s
	s.dialed, err = t.names.Dial(t.source, t.target)
	var none *target.DialError
	if errors.As(err, &none) {
		s.start()
		return m.failed(none)
	}
	if err != nil {
		return MTUResult{}, err
	}
	if s.dialed.Note != "" {
		t.cfg.OnNote(s.dialed.Note)
	}
	return m.run(ctx)
}

// run opens the path, measures and concludes.
func (m *measurement) run(ctx context.Context) (MTUResult, error) {
	s := m.s
	opening, err := m.open()
	var route *prober.RouteError
	if errors.As(err, &route) {
		s.probe = probeFact(route.Result(), s.t.cfg.Timeout)
		s.start()
		return m.failed(nil)
	}
	if err != nil {
		return MTUResult{}, err
	}
	defer opening.Close()
	s.local = opening.Local()
	if err := s.followProbe(s.local, s.dialed.AddrPort); err != nil {
		return MTUResult{}, err
	}
	s.start()
	s.rules.prepare(s.firewalled(), rulesFirst)
	result := opening.Send(ctx)
	s.probe = probeFact(result, s.t.cfg.Timeout)
	m.opened = result.RTT
	time.Sleep(settle)
	now := m.peek(ctx)
	for range openingLate {
		if now != nil && farEnd(now) != 0 || !arrived(result, now) {
			break
		}
		time.Sleep(settle)
		now = m.peek(ctx)
	}
	if !arrived(result, now) {
		return m.failed(nil)
	}
	directions, err := m.measure(ctx, now)
	if err != nil {
		return MTUResult{}, err
	}
	opening.Close() // its last packets belong to the flow
	time.Sleep(settle)
	s.collector.finish()
	m.conclude(directions)
	out, err := m.result()
	out.Directions = directions
	if err == nil {
		out.Verdict = m.judged
	}
	return out, err
}

// opening is what opens the path.
type opening interface {
	Local() netip.AddrPort
	Send(context.Context) prober.Result
	Close() error
}

// open prepares what opens the path; nothing is sent.
func (m *measurement) open() (opening, error) {
	t := m.s.t
	cfg := prober.Config{NetNSPath: t.source.NetNSPath, Proto: t.target.Proto, Bind: t.source.Bind,
		Dst: m.s.dialed.AddrPort, Timeout: t.cfg.Timeout}
	if cfg.Proto != path.TCP {
		return prober.Open(cfg)
	}
	var err error
	m.conn, err = prober.OpenConnection(cfg)
	return m.conn, err
}

// arrived reports whether the opening probe reached its destination.
func arrived(r prober.Result, p *path.Path) bool {
	switch r.Kind {
	case prober.Connected, prober.Answered:
		return true
	}
	return r.Kind != prober.Refused && p != nil && p.Proto == path.UDP && p.DeliverNetNS != 0
}

// failed ends a measurement whose opening probe did not get through: the verdict is that of a trace.
func (m *measurement) failed(why *target.DialError) (MTUResult, error) {
	m.s.collector.finish()
	if m.s.decided == 0 {
		m.s.noTraffic(why)
	}
	return m.result()
}

// conclude judges what was measured, and records on what.
func (m *measurement) conclude(directions []path.MTU) {
	m.mu.Lock()
	var p *path.Path
	if m.flow != nil {
		p = m.flow.Path
	}
	m.mu.Unlock()
	f := m.facts(directions, p)
	m.s.rec.measured(f)
	m.judged = mtu.Conclude(f)
}

// result closes the session and returns the flow.
func (m *measurement) result() (MTUResult, error) {
	r, err := m.s.close()
	out := MTUResult{Stats: r.Stats, Recorded: r.Recorded}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flow != nil {
		out.Path, out.Verdict = m.flow.Path, m.flow.Verdict
	}
	return out, err
}

// decided keeps the flow.
func (m *measurement) decided(f Flow) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.flow == nil {
		m.flow = &f
	}
}

// noteHop tells the one who waits for an answer that there is something to look at.
func (m *measurement) noteHop(_ *path.Path, _ *path.Packet, h *path.Hop) {
	end := h.Action == path.ActionDrop && !isCongestion(h.Reason) || h.Action == path.ActionDeliver
	if !end || h.Copy || h.Noise {
		return
	}
	select {
	case m.signs <- struct{}{}:
	default:
	}
}

// flowFrom returns the flow of a client among others; without one, for echoes, one of its address, as what
// was seen of it may lack the identifier. Other echoes between the same two ends are not the probes'.
func flowFrom(list []*path.Path, client netip.AddrPort) *path.Path {
	var other *path.Path
	for _, p := range list {
		switch {
		case p.Client == client:
			return p
		case other == nil && p.Proto == path.ICMP && p.Client.Addr() == client.Addr():
			other = p
		}
	}
	return other
}

// peek returns the probes' flow as it is now, with names; nil if nothing was seen of it yet.
func (m *measurement) peek(ctx context.Context) *path.Path {
	answer := make(chan *path.Path, 1)
	ask := func(t *flow.Tracker) {
		m.s.rec.mark(typePeek)
		answer <- flowFrom(t.Peek(), m.s.local)
	}
	select {
	case m.s.collector.asked <- ask:
	case <-ctx.Done():
		return nil
	}
	select {
	case p := <-answer:
		if p != nil {
			annotate(m.s.naming, p)
		}
		return p
	case <-ctx.Done():
		return nil
	case <-m.s.collector.done:
		return nil
	}
}
