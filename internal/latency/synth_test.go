package latency

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Namespaces and devices of the made-up path: client and server with eth0 (2), a host with two bridge
// ports (3, 4).
const (
	client = 100
	host   = 101
	server = 102
)

// at is one step of a made-up way: so many ns after the step before.
type at struct {
	after   uint64
	netns   uint32
	ifindex uint32
	stage   path.Stage
	action  path.Action
	tunnel  bool
}

// bridged is the way from a container over a bridge to another: 2,800 ns, 12 observations.
func bridged(from, to, in, out uint32) []at {
	return []at{
		{0, from, 0, path.StageOutput, path.ActionEnter, false},
		{100, from, 0, path.StageOutput, path.ActionLeave, false},     // netfilter
		{200, from, 2, path.StageQdisc, path.ActionQueue, false},      // sender's stack
		{50, from, 2, path.StageDevice, path.ActionTransmit, false},   // qdisc
		{600, host, in, path.StageDevice, path.ActionReceive, false},  // veth
		{300, host, out, path.StageQdisc, path.ActionQueue, false},    // bridge
		{50, host, out, path.StageDevice, path.ActionTransmit, false}, // qdisc
		{700, to, 2, path.StageDevice, path.ActionReceive, false},     // veth
		{150, to, 2, path.StagePrerouting, path.ActionEnter, false},   // receiver's stack
		{250, to, 2, path.StagePrerouting, path.ActionLeave, false},   // netfilter
		{300, to, 2, path.StageInput, path.ActionEnter, false},        // receiver's stack
		{100, to, 2, path.StageInput, path.ActionLeave, false},        // netfilter
	}
}

// overlaid is a way through VXLAN between two hosts (namespaces host and host+10).
func overlaid() []at {
	const far = host + 10
	return []at{
		{0, client, 2, path.StageQdisc, path.ActionQueue, false},
		{10, client, 2, path.StageDevice, path.ActionTransmit, false}, // qdisc
		{20, host, 3, path.StageDevice, path.ActionReceive, false},    // veth
		{30, host, 9, path.StageQdisc, path.ActionQueue, false},       // bridge
		{10, host, 9, path.StageDevice, path.ActionTransmit, false},   // qdisc
		{500, host, 5, path.StageVXLAN, path.ActionEncapsulate, true}, // encapsulation
		{0, host, 5, path.StageOutput, path.ActionEnter, true},        // of the same event
		{40, host, 5, path.StageOutput, path.ActionLeave, true},       // netfilter
		{60, host, 5, path.StageQdisc, path.ActionQueue, true},        // encapsulation
		{10, host, 5, path.StageDevice, path.ActionTransmit, true},    // qdisc
		{9000, far, 5, path.StageDevice, path.ActionReceive, true},    // wire
		{70, far, 5, path.StageInput, path.ActionEnter, true},         // decapsulation
		{80, far, 5, path.StageInput, path.ActionLeave, true},         // netfilter
		{400, far, 9, path.StageVXLAN, path.ActionDecapsulate, false}, // decapsulation
		{0, far, 9, path.StageDevice, path.ActionReceive, false},      // of the same event
		{30, far, 3, path.StageQdisc, path.ActionQueue, false},        // bridge
		{10, far, 3, path.StageDevice, path.ActionTransmit, false},    // qdisc
		{20, server, 2, path.StageDevice, path.ActionReceive, false},  // veth
		{90, server, 2, path.StageInput, path.ActionEnter, false},     // receiver's stack
		{10, server, 2, path.StageInput, path.ActionLeave, false},     // netfilter
	}
}

// kinds of the devices above.
func deviceKind(_, ifindex uint32, _ string) (string, bool) {
	switch ifindex {
	case 2, 3, 4:
		return "veth", true
	case 9:
		return "vxlan", true
	}
	return "physical", true
}

// traffic feeds a Meter with made-up packets of one connection.
type traffic struct {
	m        *Meter
	path     path.Path
	now      uint64
	packets  int
	seq, ack uint32
}

func newTraffic(m *Meter) *traffic {
	return &traffic{m: m, now: 1_000_000, seq: 1000, ack: 5000, path: path.Path{
		Flow: 1, Proto: path.TCP, Client: netip.MustParseAddrPort("10.0.0.1:4000"), Server: netip.MustParseAddrPort("10.0.0.2:80"),
	}}
}

// send lets a packet take a way; change may alter each step.
func (f *traffic) send(d path.Direction, seq, ack uint32, payload uint16, way []at, change func(i int, s *flow.Step)) {
	f.packets++
	var hook wire.Hook
	for i, p := range way {
		f.now += p.after
		if p.after > 0 {
			hook++
		}
		s := flow.Step{
			Path: &f.path, Packet: f.packets, Direction: d, Stage: p.stage, Action: p.action, Time: f.now, NetNS: p.netns,
			Ifindex: p.ifindex, Tunnelled: p.tunnel, Seq: seq, Ack: ack, Payload: payload, TCPFlags: wire.ACK, Hook: hook,
		}
		if change != nil {
			change(i, &s)
		}
		f.m.Step(&s)
	}
}

// exchange is a request of 10 bytes and its answer of 20 after the application's time.
func (f *traffic) exchange(application uint64) {
	f.send(path.Request, f.seq, f.ack, 10, bridged(client, server, 3, 4), nil)
	f.now += application
	f.seq += 10
	f.send(path.Reply, f.ack, f.seq, 20, bridged(server, client, 4, 3), nil)
	f.ack += 20
	f.now += 1_000_000
}

func testMeter(own int64) *Meter { return NewMeter(Config{DeviceKind: deviceKind, Own: own}) }

// typical returns the times of the kinds of a typical round trip.
func typical(s *Snapshot) map[path.SegmentKind]int64 {
	out := map[path.SegmentKind]int64{}
	for _, k := range s.Report.Kinds {
		if k.Typical != 0 {
			out[k.Kind] = k.Typical
		}
	}
	return out
}

func sameKinds(t *testing.T, got, want map[path.SegmentKind]int64) {
	t.Helper()
	for _, k := range path.SegmentKinds() {
		if got[k] != want[k] {
			t.Errorf("%s: got %d ns, want %d", k, got[k], want[k])
		}
	}
}
