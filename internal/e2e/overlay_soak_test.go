//go:build e2e

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

const (
	// overlaySoakEnv says how long the trace of the overlay lasts; without it it is a short one.
	overlaySoakEnv   = "PATHTRACE_SOAK_OVERLAY"
	overlaySoakShort = 15 * time.Second
	// overlayRate is 2,040 connections a minute.
	overlayRate = 34
	// overlayGrowth is how many MB the trace may use more at the end than after its first fifth.
	overlayGrowth = 6
)

// soak watches 2,000 connections a minute between the hosts: no event is lost, each connection has its
// verdict, and what the trace holds does not grow.
func (s *swarm) soak(t *testing.T) {
	length := overlaySoakShort
	if text := os.Getenv(overlaySoakEnv); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		check(t, err)
	}
	traffic := filepath.Join(t.TempDir(), "traffic")
	goBuild(t, "0", "-o", traffic, "./testdata/traffic")
	trace, counting := s.one.counting(t, shared.Binary, s.both("--to", s.o2.Name+":80")...)
	stop := s.o1.connects(t, traffic, s.o2.addr(s.net).String()+":80", overlayRate)
	time.Sleep(length / 5) // load is what is waited for
	early := usageOf(t, trace.Process.Pid)
	time.Sleep(length - length/5)
	tried, answered, err := stop()
	check(t, err)
	const few = 8 // of what goes on at that moment
	var late usage
	fits := eventually(20*time.Second, func() bool {
		late = usageOf(t, trace.Process.Pid)
		return late.files <= early.files+few && late.threads <= early.threads+few && late.objects <= early.objects &&
			late.memory <= early.memory+overlayGrowth
	})
	_ = trace.Process.Signal(unix.SIGINT)
	c := counting()
	var st path.Stats
	check(t, json.Unmarshal([]byte(c.stats), &st))
	t.Logf("%v: %d connections, %d answered; %d verdicts, %d not delivered; %d events, %d lost %v; %v of processor time; after a fifth %+v, at the end %+v",
		length, tried, answered, c.verdicts, c.failed, st.Events, st.LostEvents, st.Lost, time.Duration(st.CPUNS), early, late)
	if !fits {
		t.Errorf("the trace holds more than before: %+v, before %+v", late, early)
	}
	if tried == 0 || answered != tried || c.verdicts != tried || c.failed != 0 || st.LostEvents != 0 || len(st.Warnings) > 0 {
		t.Errorf("%d connections, %d answered, %d verdicts, %d not delivered, %d events lost, warnings %v: %s", tried, answered,
			c.verdicts, c.failed, st.LostEvents, st.Warnings, tailOf(c.errors))
	}
}
