package tracer_test

import (
	"os/exec"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestLatencyNetem: where a queueing discipline delays what is sent to a container, that segment is the
// one that takes the time that was set, within a tenth.
func TestLatencyNetem(t *testing.T) {
	const delay = 100 * time.Millisecond
	d := labtest.Demo(t, lab.Options{})
	serveKept(t, d.Web)
	if err := d.Router.Do(exec.Command("tc", "qdisc", "add", "dev", lab.AppPortDev, "root", "netem", "delay", "100ms").Run); err != nil {
		t.Skipf("no netem here: %v", err)
	}
	r, _ := measuring(t, d.Lab, func(cfg *tracer.LatencyConfig) {
		cfg.Source, cfg.Target, cfg.Count, cfg.Rate = "app", "web:"+keptPort, 15, 5
	})
	target := r.Targets[0]
	if got := target.Report.RoundTrip.Count; got < 10 {
		t.Fatalf("%d round trips, want 15", got)
	}
	grown := 0
	for _, s := range target.Segments {
		switch took := time.Duration(s.Distribution.P50); {
		case s.Kind == path.SegmentQdisc && s.Direction == path.Reply && s.Device == lab.AppPortDev:
			grown++
			t.Logf("%s takes %v", segmentLine(&s), took)
			if took < delay*9/10 || took > delay*11/10 {
				t.Errorf("%s takes %v, want %v", segmentLine(&s), took, delay)
			}
		case took > delay/2:
			t.Errorf("%s takes %v", segmentLine(&s), took)
		}
	}
	if grown != 1 {
		t.Errorf("%d segments of the queue, want 1", grown)
	}
}
