//go:build e2e

package e2e

import (
	"math"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// latency lays a server on the other host, over the overlay, beside one on a bridge of this host.
func (s *swarm) latency(t *testing.T) {
	bridge := s.one.network(t)
	near := s.one.runs(t, "near", "kept :80", "--network", bridge.Name)
	far := s.two.runs(t, "far", "kept :80", "--network", s.net.Name)
	client := s.one.runs(t, "cli", "idle", "--network", bridge.Name)
	s.one.must(t, "network", "connect", s.net.Name, client.Name)
	s.until(t, "entries for the other host's container", func() bool { return s.told(s.one, far) })
	args := s.both("--from", client.Name, "--to", near.Name+":80", "--to", far.Name+":80", "--count", "300", "--rate", "200")
	r := s.one.latency(t, append(args, "-o", "json")...).wait()
	if r.status != 0 || len(r.latencies) != 2 || len(r.comparisons) != 1 {
		t.Fatalf("status %d, %d targets, %d comparisons\n%s%s", r.status, len(r.latencies), len(r.comparisons), r.stdout, r.stderr)
	}
	for i := range r.latencies {
		checkLatency(t, &r.latencies[i])
	}
	checkOverlayCost(t, &r.comparisons[0])
	text := s.one.latency(t, args...).wait()
	text.checkText()
	text.has(near.Name+":80: ", "near p50", "encapsulation", "on the way at p50")
	t.Logf("%s", text.stdout)
}

// checkLatency: nothing lost, and the segments add up to what other clocks measured.
func checkLatency(t *testing.T, l *path.LatencyReport) {
	t.Helper()
	for _, c := range l.Checks {
		if off := math.Abs(float64(c.Segments-c.Measured)) / float64(c.Measured); off > 0.05 {
			t.Errorf("%s: by %s segments %d ns, measured %d", l.Target, c.Clock, c.Segments, c.Measured)
		}
	}
	if l.RoundTrip.Count < 250 || !l.Complete {
		t.Errorf("%s: %d round trips, complete %v, discarded %v", l.Target, l.RoundTrip.Count, l.Complete, l.Discarded)
	}
}

// checkOverlayCost: the overlay costs more, and the reasons are named.
func checkOverlayCost(t *testing.T, c *path.Comparison) {
	t.Helper()
	kinds := map[path.SegmentKind]path.KindDifference{}
	for _, k := range c.Kinds {
		kinds[k.Kind] = k
	}
	for _, k := range []path.SegmentKind{path.SegmentEncapsulation, path.SegmentWire, path.SegmentDecapsulation} {
		if d := kinds[k]; d.SegmentsA != 0 || d.SegmentsB == 0 || d.Difference.Low <= 0 {
			t.Errorf("%s: %+v, want a cost of the overlay only", k, d)
		}
	}
	if d := kinds[path.SegmentBridge]; d.SegmentsB <= d.SegmentsA/2 || d.SegmentsB < 4 {
		t.Errorf("bridges: %+v, want one on each host", d)
	}
	if c.Difference.Low <= 0 || !strings.Contains(c.Summary, "encapsulation") && !strings.Contains(c.Summary, "decapsulation") {
		t.Errorf("%+v", c)
	}
}

// TestLatencyLive times live traffic, holds it to a threshold, and reads the metrics meanwhile.
func TestLatencyLive(t *testing.T) {
	h := need(t).Hosts[0]
	n := h.network(t)
	web := h.runs(t, "web", "kept :80", "--network", n.Name)
	h.runs(t, "cli", "talk "+web.addr(n).String()+":80 200", "--network", n.Name)
	p := h.latency(t, "--to", web.Name+":80", "--count", "1000", "--duration", "60s", "--threshold", "p50=100ns",
		"--metrics", "127.0.0.1:0", "-o", "json")
	said := regexp.MustCompile(`metrics at (http://\S+)`)
	var count uint64
	eventually(30*time.Second, func() bool {
		m := said.FindStringSubmatch(p.text())
		if m != nil {
			count = h.scrape(t, m[1])
		}
		return count > 0
	})
	r := p.wait()
	if r.status != statusNotDelivered || len(r.latencies) != 1 {
		t.Fatalf("status %d, want 3 for the threshold\n%s%s", r.status, r.stdout, r.stderr)
	}
	l := r.latencies[0]
	if count == 0 || l.RoundTrip.Count < count || l.RoundTrip.Count < 900 || len(l.Thresholds) != 1 || l.Thresholds[0].Met {
		t.Errorf("%d round trips, %d in the metrics, thresholds %+v\n%s", l.RoundTrip.Count, count, l.Thresholds, r.stderr)
	}
}

// latency starts pathtrace latency.
func (h *host) latency(t *testing.T, args ...string) *process {
	t.Helper()
	return launchIn(t, h.NetNS, nil, append([]string{"latency", "--docker-host", "unix://" + h.Socket}, args...)...)
}

// scrape returns how many round trips the metrics tell, 0 if they cannot be read yet.
func (h *host) scrape(t *testing.T, url string) uint64 {
	t.Helper()
	text, err := runInNetNS(filepath.Join("/run/netns", h.NetNS), "curl", "-sS", "--max-time", "5", url)
	if err != nil {
		return 0
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Errorf("read metrics: %v\n%s", err, text)
	}
	for _, m := range families["pathtrace_latency_seconds"].GetMetric() {
		for _, label := range m.Label {
			if label.GetName() == "direction" && label.GetValue() == "round_trip" {
				return m.Histogram.GetSampleCount()
			}
		}
	}
	return 0
}
