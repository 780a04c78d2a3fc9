package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestFrameAstray: the asker's neighbour entry has another MAC address than the target's, and the bridge
// carries the frame to somebody who discards it, or tries to send it on.
func TestFrameAstray(t *testing.T) {
	carried := func(last func(f *testFlow) []path.Hop) func() *testFlow {
		return func() *testFlow {
			f := asking()
			p, e := f.p.Packets[0], ends(peer, inner)
			p.Hops = append(p.Hops,
				f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e, index(2)),
				f.hop(nsHost, path.StageDevice, path.ActionReceive, "vethC", e, index(4), bridgePort),
				f.hop(nsHost, path.StageDevice, path.ActionTransmit, "vethW", e, index(5), bridgePort))
			p.Hops = append(p.Hops, last(f)...)
			return f
		}
	}
	e := ends(peer, inner)
	entry := func(mac string) func() *Facts {
		return but(func(s *segment) {
			s.f.Namespaces[nsCli].Neighbours = []Neighbour{{Addr: ip("172.18.0.2"), State: "PERMANENT", MAC: mac}}
			s.f.Namespaces[nsDup] = &Namespace{Container: "dup", Sysctls: map[string]string{"net.ipv4.ip_forward": "0"}}
		})
	}
	const start = "the request from cli went to the wrong MAC address: container cli sends what is for 172.18.0.2 to "
	runCases(t, []verdictCase{
		{name: "the target discards it", facts: entry("02:00:00:00:00:99"), outcome: path.Lost, cause: path.CauseWrongNeighbour,
			flow: carried(func(f *testFlow) []path.Hop {
				return []path.Hop{f.hop(nsWeb, path.StageDevice, path.ActionReceive, "eth0", e, index(2)),
					f.hop(nsWeb, path.StageDevice, path.ActionDrop, "eth0", e, why("OTHERHOST", "ip_rcv_core"), asNoise)}
			}),
			summary: "lost: " + start + "02:00:00:00:00:99, which no device here has, and container web has 02:00:00:00:00:02",
			remedy:  "nsenter --net=/run/netns/cli ip neigh del 172.18.0.2 dev eth0",
		}, {name: "somebody else would have to forward it", facts: entry("02:00:00:00:00:04"), outcome: path.Dropped,
			cause: path.CauseWrongNeighbour, flow: carried(func(f *testFlow) []path.Hop {
				return []path.Hop{f.hop(nsDup, path.StageDevice, path.ActionReceive, "eth0", e, index(2)),
					f.hop(nsDup, path.StageRoute, path.ActionEnter, "eth0", e),
					f.hop(nsDup, path.StageRoute, path.ActionDrop, "eth0", e, why("IP_INADDRERRORS", "ip_error"))}
			}),
			summary:  "dropped: " + start + "02:00:00:00:00:04, which no device here has, and container web has 02:00:00:00:00:02",
			evidence: "also seen: the request from cli had to be forwarded by container dup, where forwarding is off",
		}, {name: "it came to the target", facts: entry("02:00:00:00:00:02"), outcome: path.Lost, cause: path.CauseLostInTransit,
			flow: carried(func(f *testFlow) []path.Hop {
				return []path.Hop{f.hop(nsWeb, path.StageDevice, path.ActionReceive, "eth0", e, index(2))}
			}),
			summary: "lost: the request from cli reached container web, and no answer was seen while it was watched"},
	})
}
