package tracer

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/latency"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// LatencyConfig describes a measurement. Of Config, Target is the first target; with Source, requests
// are sent from there over one kept TCP connection; Count ends the measurement after so many round trips
// to each target.
type LatencyConfig struct {
	Config
	// Others are further targets, which are laid beside the first.
	Others []string
	// Rate is how many requests are sent to each target per second; 0 means 100.
	Rate int
	// Payload is what a request consists of; nil means an HTTP request (HEAD /).
	Payload []byte
	// Thresholds are limits of the round trip, such as "p99=2ms".
	Thresholds []string
	// QuantileName is where targets are compared, such as "p99"; empty means "p50".
	QuantileName string
}

// LatencyResult is what a measurement came to.
type LatencyResult struct {
	// Targets are in the order of the configuration.
	Targets []TargetLatency
	// Comparisons lay each other target beside the first.
	Comparisons []path.Comparison
	Stats       Stats
}

// TargetLatency is what was measured of one target.
type TargetLatency struct {
	Report   path.LatencyReport
	Segments []path.Segment
}

// LatencyTracer measures where the time goes. It is used once.
type LatencyTracer struct {
	cfg        LatencyConfig
	t          *Tracer
	meter      *latency.Meter
	thresholds []latency.Threshold
	quantile   float64 // at which targets are compared
	targets    []latencyTarget
	own        int64
	clients    clientSet
	counts     []probeCounts
	reading    sync.WaitGroup // of devices, and attaching to namespaces

	kindsMu sync.Mutex
	kinds   map[deviceKey]string
	asked   map[deviceKey]bool
}

// latencyBuffer holds a quarter of a second of 200,000 events a second: every packet is reported, and a busy
// machine lets the reader wait.
const latencyBuffer = 16 << 20

// latencyTarget is one thing that is measured.
type latencyTarget struct {
	name      string
	target    target.Target
	endpoints *endpointSet
}

// NewLatency opens a measurement: it measures its own cost, finds the targets and attaches the hooks.
// Errors are as those of New.
func NewLatency(ctx context.Context, cfg LatencyConfig) (*LatencyTracer, error) {
	cfg.Rate = cmp.Or(cfg.Rate, 100)
	l := &LatencyTracer{cfg: cfg, kinds: map[deviceKey]string{}, asked: map[deviceKey]bool{}}
	var err error
	if l.quantile, err = latency.ParseQuantile(cmp.Or(cfg.QuantileName, "p50")); err != nil {
		return nil, &target.UsageError{Message: err.Error()}
	}
	for _, text := range cfg.Thresholds {
		limit, err := latency.ParseThreshold(text)
		if err != nil {
			return nil, &target.UsageError{Message: err.Error()}
		}
		l.thresholds = append(l.thresholds, limit)
	}
	if cfg.Source != "" && cfg.Proto != "" && cfg.Proto != path.TCP {
		return nil, &target.UsageError{Message: "own probes of latency are requests over TCP: leave --from out to time live " +
			string(cfg.Proto) + " traffic"}
	}
	if err := l.open(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *LatencyTracer) open(ctx context.Context) error {
	stick, stickErr := newYardstick() // before anything is attached
	if stickErr == nil {
		defer stick.close()
	}
	cfg := l.cfg.Config
	cfg.AllPackets, cfg.Buffer = true, cmp.Or(cfg.Buffer, latencyBuffer)
	var err error
	if l.t, err = New(ctx, cfg); err != nil {
		return err
	}
	if stickErr == nil {
		l.own, stickErr = stick.cost(l.t.set)
	}
	if stickErr != nil {
		l.t.cfg.OnNote(fmt.Sprintf("own cost unknown, nothing is subtracted: %v", stickErr))
	}
	if err := l.findTargets(ctx); err != nil {
		return err
	}
	l.counts = make([]probeCounts, len(l.targets))
	l.meter = latency.NewMeter(latency.Config{
		Targets: len(l.targets), Target: l.targetOf, DeviceKind: l.deviceKind, Own: l.own,
		Probed: l.cfg.Source != "", DeliveryTime: l.t.facts.HasSymbol("bpf_skb_set_tstamp"), // which came with it
	})
	return nil
}

// findTargets resolves the targets beyond the first.
func (l *LatencyTracer) findTargets(ctx context.Context) error {
	l.addTarget(l.cfg.Target, l.t.target)
	for _, name := range l.cfg.Others {
		found, err := l.t.names.Target(ctx, name, l.cfg.Proto)
		if err != nil {
			return err
		}
		l.addTarget(name, found)
		if !l.t.set.NeedsNetNS() {
			continue
		}
		for _, inode := range found.NetNS {
			l.t.attachNetNS(inode)
		}
	}
	for i := range l.targets {
		if err := l.needsPort(&l.targets[i]); err != nil {
			return err
		}
	}
	return nil
}

// needsPort reports an error if a target of own requests has no port.
func (l *LatencyTracer) needsPort(t *latencyTarget) error {
	if l.cfg.Source == "" || t.target.Port != 0 {
		return nil
	}
	return &target.UsageError{Message: fmt.Sprintf("%s: own requests go to a port: write it, as in --to %[1]s:80, or leave --from out to time "+
		"live traffic", t.name)}
}

func (l *LatencyTracer) addTarget(name string, found target.Target) {
	ends := newEndpointSet()
	ends.add(found.Endpoints)
	l.targets = append(l.targets, latencyTarget{name: name, target: found, endpoints: ends})
}

// targetOf tells the target of a flow: by the probe's own end, or by where it goes.
func (l *LatencyTracer) targetOf(p *path.Path) int {
	if l.cfg.Source != "" {
		return l.clients.target(p.Client)
	}
	proto := protoNumber(p.Proto, p.Server.Addr())
	for i := range l.targets {
		if l.targets[i].endpoints.has(p.Server, proto) || l.targets[i].endpoints.has(p.Target, proto) {
			return i
		}
	}
	return -1
}

// deviceKind is called by the collector, which must not wait: what is not known is read meanwhile.
func (l *LatencyTracer) deviceKind(netns, ifindex uint32, name string) (string, bool) {
	key := deviceKey{netns, ifindex}
	l.kindsMu.Lock()
	defer l.kindsMu.Unlock()
	if kind, ok := l.kinds[key]; ok {
		return kind, true
	}
	if !l.asked[key] {
		l.asked[key] = true
		l.reading.Go(func() {
			kind := l.t.labels.device(netns, ifindex, name).kind
			l.kindsMu.Lock()
			defer l.kindsMu.Unlock()
			l.kinds[key] = kind
		})
	}
	return "", false
}

// flowConfig makes the tracker keep nothing but what it recognises packets by.
func (l *LatencyTracer) flowConfig(s *session) flow.Config {
	return flow.Config{
		IsTarget: s.endpoints.has, Namer: l.t.facts, OnStep: l.meter.Step,
		OnDone: func(p *path.Path) {
			l.meter.Done(p)
			s.unfollow(p)
			s.collector.tracker.Recycle(p)
		},
		Recycles:   true,
		MaxPackets: 4, MaxData: 1,
	}
}

// Run measures until the count or the duration is reached, or ctx ends. It is to be called once; the
// LatencyTracer is closed after.
func (l *LatencyTracer) Run(ctx context.Context) (LatencyResult, error) {
	defer l.Close()
	for _, problem := range l.t.engines.Problems() {
		l.t.cfg.OnNote(problem)
	}
	s, err := l.t.newSessionFor(l.flowConfig)
	if err != nil {
		return LatencyResult{}, err
	}
	s.collector.onNetNS, s.measures = l.newNamespace, true
	for i := range l.targets[1:] {
		s.endpoints.add(l.targets[i+1].target.Endpoints)
	}
	if l.cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.cfg.Duration)
		defer cancel()
	}
	if l.cfg.Source != "" {
		err = l.probeTargets(ctx, s)
	} else {
		err = l.watchTargets(ctx, s)
	}
	if err != nil {
		return LatencyResult{}, err
	}
	s.collector.finish()
	l.reading.Wait()
	l.meter.Flush()
	stats := s.stats()
	if err := s.collector.reader.Close(); err != nil {
		return LatencyResult{}, fmt.Errorf("close event buffer: %w", err)
	}
	return l.result(stats), s.collector.err
}

// start begins to collect.
func (l *LatencyTracer) start(s *session) {
	l.t.cfg.OnStart(l.t.meta())
	go s.collector.run()
	go l.t.facts.WarmSymbols()
}

// Close releases everything. It may be called more than once.
func (l *LatencyTracer) Close() error {
	if l.t == nil {
		return nil
	}
	return l.t.Close()
}
