package tracer_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// observed is what one trace reported.
type observed struct {
	meta   tracer.Meta
	flows  []tracer.Flow
	notes  []string
	result tracer.Result
}

// config is the configuration of a trace in a lab's network, without Docker.
func config(l *lab.Lab, o *observed) tracer.Config {
	cfg := tracer.Config{
		NoDocker: true, Confined: true,
		OnStart: func(m tracer.Meta) { o.meta = m },
		OnFlow:  func(f tracer.Flow) { o.flows = append(o.flows, f) },
		OnNote:  func(s string) { o.notes = append(o.notes, s) },
	}
	for _, ns := range l.Namespaces() {
		cfg.Namespaces = append(cfg.Namespaces, tracer.Namespace{Name: ns.Name, Path: ns.Path})
	}
	return cfg
}

// probe traces one probe; change may alter the configuration.
func probe(t *testing.T, l *lab.Lab, from, to string, change func(*tracer.Config)) *observed {
	t.Helper()
	var o *observed
	for range 3 {
		o = &observed{}
		cfg := config(l, o)
		cfg.Source, cfg.Target, cfg.Timeout = from, to, labtest.Patience(300*time.Millisecond)
		if change != nil {
			change(&cfg)
		}
		o.run(t, cfg)
		if !o.preempted() {
			break
		}
		t.Logf("%s to %s once more: %v", from, to, o.result.Stats.Lost)
	}
	if got, want := len(o.flows), 1; got != want {
		t.Fatalf("%s to %s: got %d flows, want %d", from, to, got, want)
	}
	return o
}

// preempted says that all that was lost is runs that the kernel skipped: a kernel that preempts itself (all since
// 7.0) may stop a program on behalf of a process, and skips it for others on that processor until it goes on.
func (o *observed) preempted() bool {
	lost := o.result.Stats.Lost
	for name := range lost {
		if !strings.HasSuffix(name, " (recursion)") {
			return false
		}
	}
	return len(lost) > 0
}

func (o *observed) run(t *testing.T, cfg tracer.Config) {
	t.Helper()
	rec := recordTo(&cfg)
	tr, err := tracer.New(t.Context(), cfg)
	labtest.Must(t, err)
	o.result, err = tr.Run(t.Context())
	labtest.Must(t, err)
	rec.checkReplay(t, o)
}

// watching is a trace of live traffic that runs.
type watching struct {
	observed
	cancel context.CancelFunc
	rec    *recorded
	done   chan struct{}
	err    error
}

// watch starts a trace of live traffic and returns when everything is attached.
func watch(t *testing.T, l *lab.Lab, to string, change func(*tracer.Config)) *watching {
	t.Helper()
	w := &watching{done: make(chan struct{})}
	cfg := config(l, &w.observed)
	cfg.Target, cfg.Timeout = to, labtest.Patience(300*time.Millisecond)
	if change != nil {
		change(&cfg)
	}
	w.rec = recordTo(&cfg)
	started := make(chan struct{})
	cfg.OnStart = func(m tracer.Meta) { w.meta = m; close(started) }
	tr, err := tracer.New(t.Context(), cfg)
	labtest.Must(t, err)
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(t.Context())
	go func() {
		defer close(w.done)
		w.result, w.err = tr.Run(ctx)
	}()
	t.Cleanup(func() { w.cancel(); <-w.done })
	select {
	case <-started:
	case <-w.done:
		t.Fatalf("watch %s: ended at once: %v", to, w.err)
	}
	return w
}

// stop ends the trace and waits for it.
func (w *watching) stop(t *testing.T) *observed {
	t.Helper()
	w.cancel()
	return w.wait(t)
}

// wait waits for the trace to end by itself.
func (w *watching) wait(t *testing.T) *observed {
	t.Helper()
	select {
	case <-w.done:
	case <-time.After(labtest.Patience(20 * time.Second)):
		t.Fatal("the trace did not end")
	}
	labtest.Must(t, w.err)
	w.rec.checkReplay(t, &w.observed)
	return &w.observed
}

// line says where a hop is and what happened there: "client eth0 netfilter/output enter".
func line(h *path.Hop) string {
	dev := h.Device
	if dev == "" {
		dev = "-"
	}
	return fmt.Sprintf("%s %s %s %s", h.Namespace, dev, h.Stage, h.Action)
}

// lines are the hops of a packet without route look-ups and the ways of copies.
func lines(p *path.Packet) []string {
	var out []string
	for i := range p.Hops {
		if h := &p.Hops[i]; !h.Copy && h.Stage != path.StageRoute {
			out = append(out, line(h))
		}
	}
	return out
}

// first returns the first packet of a direction that is no ICMP error.
func first(p *path.Path, d path.Direction) *path.Packet {
	for _, packet := range p.Packets {
		if packet.Direction == d && !packet.ICMPError {
			return packet
		}
	}
	return &path.Packet{}
}

// logPackets tells every hop of every packet, for a test that failed where it cannot be tried again.
func logPackets(t *testing.T, p *path.Path) {
	t.Helper()
	for _, packet := range p.Packets {
		t.Logf("packet %d of the %s, flags %q, retransmission %v", packet.ID, packet.Direction, packet.TCPFlags, packet.Retransmission)
		for i := range packet.Hops {
			h := &packet.Hops[i]
			t.Logf("\t%d %s %s > %s copy %v noise %v %s", h.TimeNS, line(h), h.Src, h.Dst, h.Copy, h.Noise, h.Reason)
		}
	}
}

// checkWay fails unless the packet's hops contain all of want, in that order.
func checkWay(t *testing.T, what string, p *path.Packet, want []string) {
	t.Helper()
	got := lines(p)
	at := 0
	for _, w := range want {
		i := slices.Index(got[at:], w)
		if i < 0 {
			t.Errorf("%s: %q is missing or out of order; got\n\t%s", what, w, strings.Join(got, "\n\t"))
			return
		}
		at += i + 1
	}
}

// checkTrace checks what holds for every trace: nothing lost, every place named, time goes forward.
func checkTrace(t *testing.T, l *lab.Lab, o *observed) {
	t.Helper()
	skipped := slices.DeleteFunc(slices.Clone(o.result.Stats.Skipped), func(s string) bool {
		return strings.HasPrefix(s, "hook ") && strings.Contains(s, ": this kernel has no tracepoint ")
	})
	if o.result.Stats.LostEvents != 0 || len(skipped) != 0 {
		t.Errorf("lost events %d %v, skipped %q; want none", o.result.Stats.LostEvents, o.result.Stats.Lost, skipped)
	}
	names := map[uint32]string{}
	for _, ns := range l.Namespaces() {
		names[ns.Inode] = ns.Name
	}
	for _, f := range o.flows {
		if !f.Verdict.Complete || f.Verdict.LostEvents != 0 {
			t.Errorf("flow %d: complete %v, lost events %d, want complete", f.Verdict.Flow, f.Verdict.Complete, f.Verdict.LostEvents)
		}
		for _, p := range f.Path.Packets {
			checkPacket(t, names, p)
		}
	}
}

func checkPacket(t *testing.T, names map[uint32]string, p *path.Packet) {
	t.Helper()
	seen := map[string]bool{}
	last := int64(-1)
	for i := range p.Hops {
		h := &p.Hops[i]
		if h.TimeNS < last {
			t.Errorf("packet %d: %q at %d ns comes after %d ns", p.ID, line(h), h.TimeNS, last)
		}
		last = h.TimeNS
		if want := names[h.NetNS]; h.Namespace != want || want == "" {
			t.Errorf("packet %d: %q in namespace %d, want one of the lab's (%q)", p.ID, line(h), h.NetNS, want)
		}
		key := line(h) + h.InDevice + h.OutDevice
		if seen[key] && !h.Copy && h.Stage != path.StageRoute && h.Action != path.ActionDeliver {
			t.Errorf("packet %d: %q was seen twice:\n\t%s", p.ID, line(h), strings.Join(lines(p), "\n\t"))
		}
		seen[key] = true
	}
}

// checkVerdict compares outcome, cause and place; empty wants are not compared.
func checkVerdict(t *testing.T, v tracer.Verdict, outcome path.Outcome, cause path.Cause) {
	t.Helper()
	if v.Outcome != outcome || v.Cause != cause {
		t.Errorf("verdict: got %s %q (%s), want %s %q\n\t%s", v.Outcome, v.Cause, v.Summary, outcome, cause,
			strings.Join(v.Evidence, "\n\t"))
	}
}
