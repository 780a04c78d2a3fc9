package tracer_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestIPvlan: two containers on one ipvlan parent, and the parent's own namespace, in both modes.
func TestIPvlan(t *testing.T) {
	for _, mode := range []string{"l2", "l3"} {
		t.Run(mode, func(t *testing.T) {
			d := labtest.Demo(t, lab.Options{})
			for name, addr := range map[string]string{"iv1": "192.0.2.9", "iv2": "192.0.2.10"} {
				ns := labtest.Namespace(t, d.Lab, name)
				err := d.Router.IPvlan(lab.RouterDevice, ns, "iv0", mode == "l3", netip.MustParsePrefix(addr+"/24"))
				var lacks *lab.FeatureError
				if errors.As(err, &lacks) {
					t.Skipf("%v: scripts/kernels.sh runs this in machines that have them", err)
				}
				labtest.Must(t, err)
				_, err = ns.TCPServer(addr+":80", nil)
				labtest.Must(t, err)
			}
			o := probe(t, d.Lab, "iv1", "192.0.2.10:80", nil)
			checkTrace(t, d.Lab, o)
			checkVerdict(t, o.flows[0].Verdict, path.Delivered, "")
			if got := first(o.flows[0].Path, path.Request); len(got.Hops) == 0 || got.Hops[0].Namespace != "iv1" ||
				got.Hops[0].DeviceKind != "ipvlan" && got.Hops[len(got.Hops)-1].DeviceKind != "ipvlan" {
				t.Errorf("the request's devices are none of ipvlan: %v", lines(got))
			}
			_, err := d.Router.TCPServer("192.0.2.1:8022", nil)
			labtest.Must(t, err)
			back := "iv1 iv0"
			if mode == "l3" {
				back = "router eth0" // the container asks nobody for a MAC address: only the answer fails
			}
			for _, out := range []outage{
				{from: "router", to: "192.0.2.9:80", where: "router eth0", says: "own ipvlan container"},
				{from: "iv1", to: "192.0.2.1:8022", where: back, says: "own ipvlan container"},
			} {
				out.outcomes, out.cause = []path.Outcome{path.Lost, path.Dropped}, path.CauseMacvlanHostIsolation
				out.check(t, d)
			}
		})
	}
}
