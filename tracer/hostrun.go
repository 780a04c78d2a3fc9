package tracer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/merge"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/tracer/path"
)

const (
	// hold is how long a flow that one host has decided waits for the others: they decide a flow that was
	// dropped after three seconds without a packet.
	hold = 5 * time.Second
	// farewell bounds the end of the hosts' traces.
	farewell = 10 * time.Second
)

// hostsRun is a trace over several hosts.
type hostsRun struct {
	cfg     HostsConfig
	started time.Time
	hosts   []*remoteHost
	active  []*remoteHost // those that trace
	asker   *remoteHost   // sends the probe; nil without one
	join    *hostJoin
	replays sync.WaitGroup
}

// RunHosts traces on several hosts at once and makes one path of each flow, with one verdict. A host that
// cannot take part, or drops out, is named by OnNote and in the verdicts, and the others go on. The error
// is of a trace that came to nothing.
func RunHosts(ctx context.Context, cfg HostsConfig) (Result, error) {
	cfg.Config = cfg.withDefaults()
	r := &hostsRun{cfg: cfg, started: time.Now()}
	defer func() { together(r.hosts, func(h *remoteHost) error { h.close(); return nil }) }()
	for i, spec := range cfg.Hosts {
		r.hosts = append(r.hosts, &remoteHost{spec: spec, index: i, onNote: cfg.OnNote})
	}
	if err := r.gather(ctx); err != nil {
		return Result{}, err
	}
	if err := r.begin(ctx); err != nil {
		return Result{}, err
	}
	r.watch(ctx)
	return r.end(), nil
}

// gather connects to the hosts and asks what they know of the names.
func (r *hostsRun) gather(ctx context.Context) error {
	together(r.hosts, func(h *remoteHost) error { return h.connect(ctx, r.cfg.Version) })
	if err := r.alone(ctx); err != nil {
		return err
	}
	nameHosts(r.hosts)
	together(present(r.hosts), func(h *remoteHost) error {
		m, err := h.ask(ctx, agentOrder{Survey: r.question(h)})
		if err == nil && m.Survey != nil {
			h.found = *m.Survey
		}
		return err
	})
	return r.alone(ctx)
}

// alone fails if no host is left, with why.
func (r *hostsRun) alone(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(present(r.hosts)) > 0 {
		return nil
	}
	var errs []string
	for _, h := range r.hosts {
		if s := h.failure().Error(); !slices.Contains(errs, s) {
			errs = append(errs, s)
		}
	}
	return errors.New(strings.Join(errs, "; "))
}

// question is what a host is asked about the names: a host's own name means its namespace.
func (r *hostsRun) question(h *remoteHost) *agentConfig {
	c := &agentConfig{
		Target: r.cfg.Target, Source: r.cfg.Source, Proto: r.cfg.Proto, DockerHosts: r.cfg.DockerHosts,
		PreferIPv6: r.cfg.PreferIPv6, Timeout: r.cfg.Timeout, TraceRules: r.cfg.TraceRules, Buffer: r.cfg.Buffer,
		// One probe is a handful of packets: all of them tell more and cost nothing.
		AllPackets: r.cfg.AllPackets || r.cfg.Source != "",
		Packets:    r.cfg.Packets, Snaplen: r.cfg.Snaplen,
	}
	if c.Source == h.label() {
		c.Source = "host"
	}
	if port, ok := strings.CutPrefix(c.Target, h.label()+":"); ok {
		c.Target = "host:" + port
	}
	return c
}

// begin decides who does what, and starts it: those that watch before the one that sends.
func (r *hostsRun) begin(ctx context.Context) error {
	plan, err := newHostPlan(r.cfg.Config, present(r.hosts))
	if err != nil {
		return err
	}
	for _, note := range plan.notes {
		r.cfg.OnNote(note)
	}
	asker := -1
	if plan.asker != nil {
		r.asker, asker = plan.asker, plan.asker.index
	}
	var hosts []merge.Host
	for _, h := range r.hosts {
		hosts = append(hosts, h.merged())
	}
	r.join = newHostJoin(hosts, asker, r.cfg.OnFlow)
	r.sayLost(r.hosts)
	for _, h := range present(r.hosts) {
		if c := r.question(h); plan.apply(h, c) {
			c.Own = r.sharesKernel(h)
			h.part = c
			r.active = append(r.active, h)
		}
	}
	together(r.active, func(h *remoteHost) error {
		r.follow(ctx, h)
		m, err := h.ask(ctx, agentOrder{Start: h.part})
		if err == nil && m.Started != nil {
			h.meta = *m.Started
		}
		return err
	})
	r.sayLost(r.active)
	if err := r.alone(ctx); err != nil {
		return err
	}
	if r.asker != nil && r.asker.failure() != nil {
		return r.asker.failure()
	}
	r.cfg.OnStart(r.meta())
	return nil
}

// sharesKernel reports whether another host runs on the same kernel, which shows each what is the other's.
func (r *hostsRun) sharesKernel(h *remoteHost) bool {
	return slices.ContainsFunc(r.hosts, func(o *remoteHost) bool { return o != h && o.hello.BootID == h.hello.BootID })
}

// follow replays what a host records, while it does.
func (r *hostsRun) follow(ctx context.Context, h *remoteHost) {
	r.replays.Add(1)
	go func() {
		defer r.replays.Done()
		_, err := Replay(ctx, ReplayConfig{join: r.join, index: h.index}, Input{Name: h.label(), Reader: h.replay})
		if err != nil && !errors.Is(err, context.Canceled) {
			h.drop(err)
		}
		h.replay.Close() // so that the line goes on
	}()
}

// sayLost names the hosts that dropped out.
func (r *hostsRun) sayLost(hosts []*remoteHost) {
	for _, h := range hosts {
		if err := h.failure(); err != nil && !h.said {
			h.said = true
			r.cfg.OnNote("without " + h.label() + ": " + err.Error())
			r.join.problem(h.label(), err.Error())
		}
	}
}

// watch waits until the probe has ended, or the time is up or enough was seen, and ends the hosts' traces.
func (r *hostsRun) watch(ctx context.Context) {
	if r.cfg.Duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.cfg.Duration)
		defer cancel()
	}
	if r.asker != nil {
		if err := r.asker.line.say(agentOrder{Go: true}); err != nil {
			r.asker.drop(fmt.Errorf("the connection to %s ended: %w", r.asker.label(), err))
		}
	}
	r.wait(ctx)
	stop := func(h *remoteHost) error { return h.line.say(agentOrder{Stop: true}) }
	together(present(r.active), stop)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	together(present(r.active), func(h *remoteHost) error { return h.await(last) })
	r.sayLost(r.active)
}

// wait returns when the trace is to end.
func (r *hostsRun) wait(ctx context.Context) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	ended := make(chan struct{})
	if r.asker != nil {
		go func() {
			defer close(ended)
			if err := r.asker.await(ctx); err != nil && ctx.Err() == nil {
				r.asker.drop(err)
			}
			time.Sleep(settle) // for what is still on its way to the others
		}()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case <-ticker.C:
			r.sayLost(r.active)
			left := present(r.active)
			if len(left) == 0 || r.cfg.Count > 0 && r.join.count() >= r.cfg.Count {
				return
			}
			if r.asker == nil {
				r.join.ready(len(left), hold)
			}
		}
	}
}

// await waits for the end of the host's trace.
func (h *remoteHost) await(ctx context.Context) error {
	for {
		h.mu.Lock()
		done := h.stats != nil
		h.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not end its trace within %v", h.label(), farewell)
		case m, ok := <-h.say:
			switch {
			case !ok:
				return h.failure()
			case m.Failed != "":
				return fmt.Errorf("%s: %s", h.label(), m.Failed)
			}
		}
	}
}

// end closes the connections, decides what is left, and counts.
func (r *hostsRun) end() Result {
	together(r.hosts, func(h *remoteHost) error { h.close(); return nil })
	r.replays.Wait()
	r.join.finish()
	out := Result{Flows: r.join.flows, Stats: newSum(r.join.flows)}
	st := &out.Stats
	st.WallNS = time.Since(r.started).Nanoseconds()
	for _, h := range r.hosts {
		if h.stats == nil {
			continue
		}
		addStats(st, h.stats, h.label())
	}
	return out
}

func newSum(flows map[path.Outcome]int) Stats {
	return Stats{Type: "stats", Hooks: map[string]uint64{}, Lost: map[string]uint64{}, Flows: flows}
}

// union adds a value to a list that has it at most once.
func union(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(slices.Clip(list), s)
}

// addStats adds the counts of one host.
func addStats(sum, st *Stats, host string) {
	sum.Packets += st.Packets
	sum.Events += st.Events
	sum.LostEvents += st.LostEvents
	sum.CPUNS += st.CPUNS
	for name, n := range st.Hooks {
		sum.Hooks[name] += n
	}
	for name, n := range st.Lost {
		sum.Lost[name+" on "+host] += n
	}
	for _, s := range st.Skipped {
		sum.Skipped = append(sum.Skipped, host+": "+s)
	}
	for _, s := range st.Warnings {
		sum.Warnings = append(sum.Warnings, host+": "+s)
	}
}

func (r *hostsRun) meta() Meta {
	m := Meta{
		Type: "meta", Schema: path.Schema, Version: r.cfg.Version, Kernel: kernel.Release(), Target: r.cfg.Target,
		Source: r.cfg.Source, Started: r.started.Format(time.RFC3339Nano), Hooks: []string{},
	}
	var kernels []string
	for _, h := range present(r.hosts) {
		m.Hosts = append(m.Hosts, h.label())
		kernels = union(kernels, h.meta.Kernel)
		for _, hook := range h.meta.Hooks {
			m.Hooks = union(m.Hooks, hook)
		}
	}
	m.Kernel = strings.Join(kernels, ", ")
	return m
}

// usageOf makes an error of a wrong name one of usage.
func usageOf(text string, usage bool) error {
	if usage {
		return &target.UsageError{Message: text}
	}
	return errors.New(text)
}
