package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Fragments became one packet if all that were sent came, or if they were freed with the whole.
func TestReassembled(t *testing.T) {
	piece := func(action path.Action, ns, ifindex uint32, length int) path.Hop {
		return path.Hop{NetNS: ns, Ifindex: ifindex, Stage: path.StageDevice, Action: action, Length: length, Fragment: true}
	}
	sent := func(length int) path.Hop { return piece(path.ActionTransmit, nsHost, 7, length) }
	came := func(length int) path.Hop { return piece(path.ActionReceive, nsCli, 2, length) }
	copied := came(1500)
	copied.Copy = true
	freed := came(1500)
	freed.Action, freed.Noise = path.ActionDrop, true
	for _, c := range []struct {
		name string
		hops []path.Hop
		want bool
	}{
		{"all came", []path.Hop{sent(1500), sent(1068), came(1500), came(1068)}, true},
		{"each right after it was sent", []path.Hop{sent(1500), came(1500), sent(1068), came(1068)}, true},
		{"cut smaller by a router before", []path.Hop{
			piece(path.ActionTransmit, nsWeb, 3, 2568), sent(1500), sent(1088), came(1500), came(1088)}, true},
		{"one is missing", []path.Hop{sent(1500), sent(1068), came(1500)}, false},
		{"one is missing, another was copied", []path.Hop{sent(1500), sent(1500), came(1500), copied}, false},
		{"the sender is not seen", []path.Hop{came(1500), came(1068)}, false},
		{"the sender is not seen, freed with the whole", []path.Hop{came(1500), came(1068), freed}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := came(0)
			if got := reassembled(&path.Packet{Hops: c.hops}, &h); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
