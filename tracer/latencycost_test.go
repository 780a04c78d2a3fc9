package tracer

import (
	"fmt"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/probe"
)

// TestYardstick: the cost of an observation is measured, is of the order of tens to thousands of
// nanoseconds, and nothing of it is left: no event, no hook, no namespace.
func TestYardstick(t *testing.T) {
	labtest.NeedsRoot(t)
	y, err := newYardstick()
	labtest.Must(t, err)
	facts, err := kernel.Load()
	labtest.Must(t, err)
	set, err := probe.Load(probe.Config{Facts: facts, AllPackets: true, Exact: true})
	labtest.Must(t, err)
	each, err := y.cost(set)
	labtest.Must(t, err)
	if each <= 10 || each > 200_000 {
		t.Errorf("an observation costs %d ns", each)
	}
	if set.Attached(y.inode) {
		t.Error("the namespace is still attached to")
	}
	lost, err := set.Lost()
	labtest.Must(t, err)
	for what, n := range lost {
		if n > 0 {
			t.Errorf("%d events of %s were lost: they did not fit the buffer", n, what)
		}
	}
	freed := labtest.Watch(t, fmt.Sprintf("/proc/self/fd/%d", y.ns.Fd()))
	y.close()
	labtest.Must(t, set.Close())
	freed(labtest.Patience(10 * time.Second))
}
