package latency

import (
	"testing"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestKindIndexes(t *testing.T) {
	kinds := path.SegmentKinds()
	if len(kinds) != numKinds {
		t.Fatalf("%d kinds, numKinds is %d", len(kinds), numKinds)
	}
	for k, want := range map[kindIndex]path.SegmentKind{
		kindSender: path.SegmentSender, kindVeth: path.SegmentVeth, kindBacklog: path.SegmentBacklog,
		kindWakeUp: path.SegmentWakeUp, kindApplication: path.SegmentApplication, kindOwn: path.SegmentOwn,
	} {
		if kinds[k] != want {
			t.Errorf("kind %d is %s, want %s", k, kinds[k], want)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	m := testMeter(0)
	f := newTraffic(m)
	for range 100 {
		f.exchange(5000)
	}
	m.Flush()
	s := m.Snapshot(0)
	r := s.Report
	if r.RoundTrip.Count != 100 || len(r.Discarded) != 0 || r.Own.Observations != 24 {
		t.Errorf("%d round trips of %d observations, discarded %v, want 100 of 24, none", r.RoundTrip.Count, r.Own.Observations, r.Discarded)
	}
	if r.RoundTrip.Min != 10600 || r.RoundTrip.Max != 10600 || r.Application.Max != 5000 || r.Request.Min != 2800 || r.Reply.Max != 2800 {
		t.Errorf("round trip %+v, application %+v, request %+v, reply %+v", r.RoundTrip, r.Application, r.Request, r.Reply)
	}
	sameKinds(t, typical(s), map[path.SegmentKind]int64{
		path.SegmentSender: 400, path.SegmentNetfilter: 900, path.SegmentQdisc: 200, path.SegmentVeth: 2600,
		path.SegmentBridge: 600, path.SegmentReceiver: 900, path.SegmentApplication: 5000,
	})
	if got, want := len(s.Segments), 23; got != want {
		t.Errorf("%d segments, want %d", got, want)
	}
	var sum int64
	for _, seg := range s.Segments {
		sum += seg.Distribution.Max
	}
	if sum != 10600 {
		t.Errorf("the segments add up to %d ns, want 10600", sum)
	}
}

// TestOwnCost: what is taken out of each segment turns up as the own part, and nothing gets negative.
func TestOwnCost(t *testing.T) {
	m := testMeter(80)
	f := newTraffic(m)
	for range 10 {
		f.exchange(5000)
	}
	m.Flush()
	s := m.Snapshot(0)
	// 11 intervals each way, of which two have 50 ns only, and the application's.
	const own = 2*(9*80+2*50) + 80
	got := typical(s)
	if got[path.SegmentOwn] != own || got[path.SegmentQdisc] != 0 || got[path.SegmentApplication] != 5000-80 {
		t.Errorf("own %d, qdisc %d, application %d, want %d, 0, 4920", got[path.SegmentOwn], got[path.SegmentQdisc], got[path.SegmentApplication], own)
	}
	if s.Report.RoundTrip.Max != 10600 || s.Report.Net.Max != 10600-own {
		t.Errorf("round trip %d, without the own cost %d, want 10600, %d", s.Report.RoundTrip.Max, s.Report.Net.Max, 10600-own)
	}
}

// TestBacklog: what a crossing takes beyond its least is waiting.
func TestBacklog(t *testing.T) {
	m := testMeter(0)
	f := newTraffic(m)
	for i := range 40 {
		way := bridged(client, server, 3, 4)
		way[4].after += uint64(i%2) * 10000
		f.send(path.Request, f.seq, f.ack, 10, way, nil)
		f.seq += 10
		f.send(path.Reply, f.ack, f.seq, 20, bridged(server, client, 4, 3), nil)
		f.ack += 20
	}
	m.Flush()
	s := m.Snapshot(0)
	if v, b := s.Kinds[path.SegmentVeth], s.Kinds[path.SegmentBacklog]; v.max != 2600 || b.min != 0 || b.max != 10000 || b.Count() != 40 {
		t.Errorf("veth at most %d, backlog %d to %d, %d times; want 2600, 0 to 10000, 40", v.max, b.min, b.max, b.Count())
	}
}

func TestOverlayKinds(t *testing.T) {
	m := testMeter(0)
	f := newTraffic(m)
	f.send(path.Request, f.seq, f.ack, 10, overlaid(), nil)
	m.Flush()
	got := map[path.SegmentKind]int64{}
	for _, seg := range m.Snapshot(0).Segments {
		got[seg.Kind] += seg.Distribution.Max
	}
	sameKinds(t, got, map[path.SegmentKind]int64{
		path.SegmentQdisc: 40, path.SegmentVeth: 40, path.SegmentBridge: 60, path.SegmentEncapsulation: 560,
		path.SegmentNetfilter: 130, path.SegmentWire: 9000, path.SegmentDecapsulation: 470, path.SegmentReceiver: 90,
	})
}

// TestDiscarded: what is no sample is counted, with why.
func TestDiscarded(t *testing.T) {
	way := bridged(client, server, 3, 4)
	for _, tt := range []struct {
		name   string
		why    string
		change func(int, *flow.Step)
	}{
		{"repeated", DiscardRetransmission, func(_ int, s *flow.Step) { s.Retransmission = true }},
		{"dropped", DiscardDropped, func(i int, s *flow.Step) {
			if i == 6 {
				s.Action = path.ActionDrop
			}
		}},
		{"copied", DiscardCopied, func(i int, s *flow.Step) {
			if i == 6 {
				s.Branch = 1
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := testMeter(0)
			f := newTraffic(m)
			f.exchange(1)
			f.send(path.Request, f.seq, f.ack, 10, way, tt.change)
			m.Flush()
			r := m.Snapshot(0).Report
			if r.Discarded[tt.why] != 1 || r.RoundTrip.Count != 1 || r.Request.Count != 1 {
				t.Errorf("discarded %v, %d round trips, %d requests, want 1 %q, 1, 1", r.Discarded, r.RoundTrip.Count, r.Request.Count, tt.why)
			}
		})
	}
}

// TestDelayedAck: an acknowledgement that is held back is told from one that is sent at once, and is in
// no segment.
func TestDelayedAck(t *testing.T) {
	m := testMeter(0)
	f := newTraffic(m)
	for i := range 10 {
		f.exchange(5000)
		f.now += uint64(i%2) * 40_000_000
		f.send(path.Request, f.seq, f.ack, 0, bridged(client, server, 3, 4), nil)
	}
	m.Flush()
	r := m.Snapshot(0).Report
	if r.DelayedAcks == nil || r.DelayedAcks.Count != 5 || r.DelayedAcks.Min < 40_000_000 || r.DelayedAcks.Max > 42_000_000 {
		t.Errorf("delayed acknowledgements %+v, want 5 of 40 ms", r.DelayedAcks)
	}
	if r.RoundTrip.Max != 10600 || r.Request.Count != 10 {
		t.Errorf("round trip %+v, %d requests, want 10600 ns, 10", r.RoundTrip, r.Request.Count)
	}
}

// TestOtherWay: round trips by another way are not mixed in.
func TestOtherWay(t *testing.T) {
	m := testMeter(0)
	f := newTraffic(m)
	for range 5 {
		f.exchange(5000)
	}
	way := bridged(client, server, 3, 4)
	f.send(path.Request, f.seq, f.ack, 10, append(way[:1:1], way[3:]...), nil)
	f.seq += 10
	f.send(path.Reply, f.ack, f.seq, 20, bridged(server, client, 4, 3), nil)
	m.Flush()
	r := m.Snapshot(0).Report
	if r.RoundTrip.Count != 5 || r.Discarded[DiscardOtherWay] != 1 {
		t.Errorf("%d round trips, discarded %v, want 5 and 1 other way", r.RoundTrip.Count, r.Discarded)
	}
}

// TestUnknownDevices: packets are left out until the devices on their way are known.
func TestUnknownDevices(t *testing.T) {
	known := false
	m := NewMeter(Config{DeviceKind: func(netns, ifindex uint32, name string) (string, bool) {
		kind, _ := deviceKind(netns, ifindex, name)
		return kind, known
	}})
	f := newTraffic(m)
	f.exchange(5000)
	known = true
	f.exchange(5000)
	m.Flush()
	if r := m.Snapshot(0).Report; r.RoundTrip.Count != 1 || r.Discarded[DiscardUnknown] != 2 {
		t.Errorf("%d round trips, discarded %v, want 1, 2 unknown", r.RoundTrip.Count, r.Discarded)
	}
}

// TestProbed: the ends in user space belong to the stacks, whichever side is told first.
func TestProbed(t *testing.T) {
	m := NewMeter(Config{DeviceKind: deviceKind, Probed: true})
	f := newTraffic(m)
	for i := range 20 {
		sent := f.now - 700
		if i%2 == 0 { // user space is told first
			m.Probed(0, Probed{Sent: sent, Received: sent + 700 + 10600 + 1300})
		}
		f.exchange(5000)
		if i%2 == 1 {
			m.Probed(0, Probed{Sent: sent, Received: sent + 700 + 10600 + 1300})
		}
	}
	m.Probed(0, Probed{Sent: f.now, Received: f.now + 1000}) // of which nothing was seen
	m.Flush()
	s := m.Snapshot(0)
	if got := typical(s); got[path.SegmentSender] != 400+700 || got[path.SegmentWakeUp] != 1300 {
		t.Errorf("sender %d, woken %d, want 1100, 1300", got[path.SegmentSender], got[path.SegmentWakeUp])
	}
	if r := s.Report; r.RoundTrip.Count != 20 || r.RoundTrip.Max != 12600 || r.Discarded[DiscardUnseen] != 1 {
		t.Errorf("%+v, discarded %v; want 20 of 12600 ns, 1 unseen", r.RoundTrip, r.Discarded)
	}
}

// TestStamps: the kernel's timestamp of the answer is laid beside the observation that is nearest to it.
func TestStamps(t *testing.T) {
	for deliveryTime, want := range map[bool]int64{true: 700 + 10600, false: 700 + 10600 - 1500} {
		m := NewMeter(Config{DeviceKind: deviceKind, Probed: true, DeliveryTime: deliveryTime})
		f := newTraffic(m)
		sent := f.now - 700
		f.exchange(5000)
		m.Probed(0, Probed{Sent: sent, Received: sent + 13000, Arrived: sent + 11200})
		m.Flush()
		c := m.Snapshot(0).Report.Checks[1]
		if c.Clock != "SO_TIMESTAMPING" || c.Segments != want || c.Measured != 11200 {
			t.Errorf("check %+v, want %d beside 11200", c, want)
		}
	}
}

// TestBounded: packets that never end do not pile up.
func TestBounded(t *testing.T) {
	m := NewMeter(Config{DeviceKind: deviceKind, MaxPackets: 100})
	f := newTraffic(m)
	for range 1000 {
		f.send(path.Request, f.seq, f.ack, 10, bridged(client, server, 3, 4)[:5], nil)
		f.seq += 10
	}
	if len(m.packets) > 100 || m.queue.n > 100 {
		t.Errorf("%d packets are kept, want 100 at most", len(m.packets))
	}
	m.Flush()
	if r := m.Snapshot(0).Report; r.Discarded[DiscardTooMany] != 900 || r.Request.Count != 100 {
		t.Errorf("discarded %v, %d requests, want 900 too many, 100", r.Discarded, r.Request.Count)
	}
}

func BenchmarkExchange(b *testing.B) {
	m := testMeter(100)
	f := newTraffic(m)
	b.ReportAllocs()
	for b.Loop() {
		f.exchange(5000)
	}
}
