package diagnose

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestRefusedWayBack: the target has a route to the asker that refuses what is sent by it; the kernel
// answers such a look-up with other errors than for want of a route.
func TestRefusedWayBack(t *testing.T) {
	flow := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.in()...)
		return f
	}
	with := func(kind, err string) func() *Facts {
		return func() *Facts {
			f := facts()
			n := f.Namespaces[nsWeb]
			n.Routes = []Route{{Dst: ip("10.99.0.1"), Err: err}}
			n.Table = []TableRoute{{Dst: netip.MustParsePrefix("0.0.0.0/0"), Type: "unicast", Table: 254},
				{Dst: netip.MustParsePrefix("10.99.0.0/24"), Type: kind, Table: 100}}
			return f
		}
	}
	var cases []verdictCase
	for kind, err := range map[string]string{"blackhole": "EINVAL", "prohibit": "EACCES", "unreachable": "EHOSTUNREACH"} {
		cases = append(cases, verdictCase{name: kind, flow: flow, facts: with(kind, err), outcome: path.Dropped,
			cause:   path.CauseNoRoute,
			summary: "dropped: the reply from web never left: container web has a route of kind " + kind + " to 10.99.0.1",
			remedy:  "nsenter --net=/run/docker/netns/abc ip route del " + kind + " 10.99.0.0/24 table 100"})
	}
	runCases(t, cases)
}
