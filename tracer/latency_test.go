package tracer_test

import (
	"bufio"
	"context"
	"io"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// keepAnswering answers HTTP requests on one connection until it is closed.
func keepAnswering(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		if strings.TrimSpace(line) != "" {
			continue
		}
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n"); err != nil {
			return
		}
	}
}

// keptPort is where keepAnswering listens.
const keptPort = "81"

func serveKept(t *testing.T, list ...*lab.Namespace) {
	t.Helper()
	for _, ns := range list {
		_, err := ns.TCPServer(":"+keptPort, keepAnswering)
		labtest.Must(t, err)
	}
}

// measuring runs a measurement in a lab's network.
func measuring(t *testing.T, l *lab.Lab, change func(*tracer.LatencyConfig)) (tracer.LatencyResult, *observed) {
	t.Helper()
	o := &observed{}
	cfg := tracer.LatencyConfig{Config: config(l, o)}
	cfg.Timeout = labtest.Patience(5 * time.Second)
	change(&cfg)
	lt, err := tracer.NewLatency(t.Context(), cfg)
	labtest.Must(t, err)
	r, err := lt.Run(t.Context())
	labtest.Must(t, err)
	for _, n := range o.notes {
		t.Log("note:", n)
	}
	return r, o
}

// TestLatencyTargets measures a bridged and a routed path side by side: every segment is where it
// belongs, nothing is lost, and the sums agree with the clocks of user space and of the kernel's own
// timestamps.
func TestLatencyTargets(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	serveKept(t, d.Web, d.Client)
	r, _ := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
		cfg.Source, cfg.Target, cfg.Others = "app", "web:"+keptPort, []string{"client:" + keptPort}
		cfg.Count, cfg.Rate = 300, 300
	})
	if r.Stats.LostEvents != 0 || len(r.Targets) != 2 || len(r.Comparisons) != 1 {
		t.Fatalf("%d lost events, %d targets, %d comparisons", r.Stats.LostEvents, len(r.Targets), len(r.Comparisons))
	}
	for _, target := range r.Targets {
		checkReport(t, &target.Report)
		checkSums(t, &target)
	}
	checkSegments(t, r.Targets[0].Segments, []string{
		"request sender-stack app → app eth0", "request veth app eth0 → router veth-app", "request bridge router veth-app",
		"request veth router veth-web → web eth0", "request receiver-stack web eth0", "application",
		"reply sender-stack web", "reply veth web eth0 → router veth-web", "reply veth router veth-app → app eth0", "reply receiver-stack app",
	})
	checkSegments(t, r.Targets[1].Segments, []string{
		"request veth app eth0 → router veth-app", "request bridge router veth-app", "request netfilter router br-demo",
		"request routing router", "request netfilter router", "request veth router eth0 → client eth0", "application",
		"reply veth client eth0 → router eth0", "reply routing router", "reply bridge router br-demo", "reply veth router veth-app → app eth0", "reply receiver-stack app",
	})
	c := r.Comparisons[0]
	if c.A != "web:"+keptPort || c.B != "client:"+keptPort || c.Summary == "" || c.Difference.Low > c.Difference.High {
		t.Errorf("comparison %+v", c)
	}
	t.Log(c.Summary)
}

func checkReport(t *testing.T, r *path.LatencyReport) {
	t.Helper()
	if r.RoundTrip.Count < 200 || !r.Complete {
		t.Errorf("%s: %d round trips, complete %v, discarded %v; want most of 300", r.Target, r.RoundTrip.Count, r.Complete, r.Discarded)
	}
	if r.Own.PerObservation <= 0 || r.Own.PerObservation > 200_000 || r.Own.Observations < 20 {
		t.Errorf("%s: own cost %+v", r.Target, r.Own)
	}
	clocks := map[string]path.ClockCheck{}
	for _, c := range r.Checks {
		clocks[c.Clock] = c
		if math.Abs(float64(c.Segments-c.Measured)) > 0.05*float64(c.Measured) {
			t.Errorf("%s: by %s the segments' sum is %d ns, measured %d: more than 5 %% apart", r.Target, c.Clock, c.Segments, c.Measured)
		}
	}
	if clocks["user space"].Count != r.RoundTrip.Count || clocks["SO_TIMESTAMPING"].Count < 200 {
		t.Errorf("%s: checks %+v", r.Target, r.Checks)
	}
}

// checkSums: the kinds of a typical round trip add up to the median, and every kind is of places that
// are there.
func checkSums(t *testing.T, target *tracer.TargetLatency) {
	t.Helper()
	r := &target.Report
	var sum int64
	places := map[path.SegmentKind]int{}
	for _, s := range target.Segments {
		places[s.Kind]++
		if s.Kind != path.SegmentApplication && (s.Distribution.Count < 200 || s.Namespace == "" || s.Kind == path.SegmentOther) {
			t.Errorf("%s: segment %+v", r.Target, s)
		}
	}
	for _, k := range r.Kinds {
		sum += k.Typical
		if k.Segments != places[k.Kind] && k.Kind != path.SegmentApplication {
			t.Errorf("%s: %d places of kind %s, listed are %d", r.Target, k.Segments, k.Kind, places[k.Kind])
		}
	}
	// A tenth of the round trips around the median is averaged: on a busy machine they are not alike.
	if p50 := r.RoundTrip.P50; math.Abs(float64(sum-p50)) > 0.25*float64(p50) {
		t.Errorf("%s: the kinds add up to %d ns, the median is %d", r.Target, sum, p50)
	}
}

// segmentLine is "request veth app eth0 → router veth-app".
func segmentLine(s *path.Segment) string {
	if s.Direction == "" {
		return string(s.Kind)
	}
	out := string(s.Direction) + " " + string(s.Kind) + " " + strings.TrimSpace(s.Namespace+" "+s.Device)
	if s.ToDevice != "" {
		ns := s.ToNamespace
		if ns == "" {
			ns = s.Namespace
		}
		out += " → " + ns + " " + s.ToDevice
	}
	return out
}

// checkSegments fails unless the segments contain all of want in that order; each of want is how one
// begins. Where hooks are watched through functions, those without any rule are not entered: the ends of a
// namespace without rules cannot be told from the application then.
func checkSegments(t *testing.T, list []path.Segment, want []string) {
	t.Helper()
	if !slices.ContainsFunc(list, func(s path.Segment) bool { return s.Kind == path.SegmentReceiver }) {
		want = slices.DeleteFunc(slices.Clone(want), func(w string) bool {
			return strings.Contains(w, " receiver-stack ") || strings.Contains(w, " sender-stack ") || strings.Contains(w, " netfilter app")
		})
	}
	var got []string
	for i := range list {
		got = append(got, segmentLine(&list[i]))
	}
	at := 0
	for _, w := range want {
		i := slices.IndexFunc(got[at:], func(g string) bool { return strings.HasPrefix(g, w) })
		if i < 0 {
			t.Errorf("%q is missing or out of order; got\n\t%s", w, strings.Join(got, "\n\t"))
			return
		}
		at += i + 1
	}
}

// TestLatencyPassive times what others send, half of it on a connection that was there before.
func TestLatencyPassive(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	serveKept(t, d.Web)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); talk(ctx, d.App, netip.AddrPortFrom(d.WebAddr, 81)) }()
	t.Cleanup(func() { cancel(); <-done })
	r, _ := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
		cfg.Target, cfg.Count, cfg.Duration = "web:"+keptPort, 200, labtest.Patience(20*time.Second)
		cfg.Thresholds = []string{"p50=1ns", "p50=10s"}
	})
	report := r.Targets[0].Report
	if report.RoundTrip.Count < 100 || report.Sent != 0 || report.Source != "" || !report.Complete {
		t.Errorf("%+v", report)
	}
	if l := report.Thresholds; len(l) != 2 || l[0].Met || !l[1].Met {
		t.Errorf("thresholds %+v, want the first missed and the second met", l)
	}
	checkSegments(t, r.Targets[0].Segments, []string{"request sender-stack app", "application", "reply receiver-stack app"})
}

// talk exchanges requests on a connection, and opens another one now and then, until ctx ends.
func talk(ctx context.Context, from *lab.Namespace, to netip.AddrPort) {
	for ctx.Err() == nil {
		c, err := from.Dial(ctx, "tcp", to.String())
		if err != nil {
			continue
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		buf := make([]byte, 1024)
		for range 100 {
			if _, err = io.WriteString(c, "GET / HTTP/1.1\r\n\r\n"); err == nil {
				_, err = c.Read(buf)
			}
			if err != nil {
				break
			}
			time.Sleep(2 * time.Millisecond) // a pace, not a wait
		}
		stop()
		c.Close()
	}
}

// TestLatencyUnhelpful: servers that close, stay silent or are not there.
func TestLatencyUnhelpful(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	_, err := d.Web.TCPServer(":82", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	labtest.Must(t, err)
	for _, tt := range []struct {
		name, target, note string
		trips, reconnects  uint64
	}{
		{name: "closes after each answer", target: "web:80", trips: 10, reconnects: 9},
		{name: "never answers", target: "web:82", note: "give a request that it answers with --send"},
		{name: "not listening", target: "web:83", note: "to see why, run: pathtrace --from app --to web:83"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, o := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
				cfg.Source, cfg.Target, cfg.Count, cfg.Timeout = "app", tt.target, int(tt.trips), labtest.Patience(time.Second)
				cfg.Duration = labtest.Patience(10 * time.Second)
			})
			report := r.Targets[0].Report
			if report.RoundTrip.Count < tt.trips || report.Reconnects < tt.reconnects || tt.trips == 0 && report.RoundTrip.Count != 0 {
				t.Errorf("%d round trips, %d reconnects, want %d and %d", report.RoundTrip.Count, report.Reconnects, tt.trips, tt.reconnects)
			}
			if tt.note != "" && !strings.Contains(strings.Join(o.notes, "\n"), tt.note) {
				t.Errorf("notes %q, want one with %q", o.notes, tt.note)
			}
		})
	}
}
