package flow

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// fakeNames names every reason by its number and knows three functions.
type fakeNames struct{}

func (fakeNames) DropReason(r uint32) string  { return fmt.Sprint("REASON_", r) }
func (fakeNames) ResetReason(r uint32) string { return fmt.Sprint("RESET_", r) }
func (fakeNames) Symbol(addr uint64) string {
	return map[uint64]string{1: "nft_do_chain", 2: "tcp_v4_rcv", 3: "br_nf_forward_finish"}[addr]
}

const (
	clientNS = 1001
	hostNS   = 1000
	serverNS = 1002
)

// spot is one observation of a packet's usual way from a container to another.
type spot struct {
	hook    wire.Hook
	nf      uint8
	ns, dev uint32
	name    string
}

func way() []spot {
	return []spot{
		{wire.NetfilterEnter, wire.NFOutput, clientNS, 0, ""}, {wire.NetfilterLeave, wire.NFOutput, clientNS, 0, ""},
		{wire.DevQueue, 0, clientNS, 2, "eth0"}, {wire.DevXmit, 0, clientNS, 2, "eth0"}, {wire.DevReceive, 0, hostNS, 7, "vethc"},
		{wire.NetfilterEnter, wire.NFForward, hostNS, 7, "vethc"}, {wire.NetfilterLeave, wire.NFForward, hostNS, 7, "vethc"},
		{wire.DevQueue, 0, hostNS, 8, "vethw"}, {wire.DevXmit, 0, hostNS, 8, "vethw"}, {wire.DevReceive, 0, serverNS, 2, "eth0"},
		{wire.NetfilterEnter, wire.NFInput, serverNS, 2, "eth0"}, {wire.NetfilterLeave, wire.NFInput, serverNS, 2, "eth0"},
	}
}

// at returns the packet of template seen at a spot.
func at(template wire.Event, p spot, now uint64) wire.Event {
	template.Hook, template.NFHook, template.NetNS, template.Ifindex, template.Dev, template.Time = p.hook, p.nf, p.ns, p.dev, p.name, now
	return template
}

func segment(i int, flags uint8, seq uint32) wire.Event {
	src, dst := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{172, 18, 0, 2})
	return wire.Event{
		Skb: 0xffff_8880_0000_0000 + uint64(i)<<9, Head: 0xffff_8881_0000_0000 + uint64(i)<<9,
		Tuple: wire.Tuple{Src: netip.AddrPortFrom(src, 4000), Dst: netip.AddrPortFrom(dst, 80), Proto: wire.ProtoTCP},
		Seq:   seq, TCPFlags: flags, Length: 60, TTL: 64, IPID: uint16(seq),
	}
}

// walk adds every observation of a packet's way.
func walk(t *Tracker, template wire.Event, now uint64) uint64 {
	for _, p := range way() {
		e := at(template, p, now)
		t.Add(&e)
		now += 1000
	}
	return now
}

// TestManyFlows interleaves the packets of 5,000 flows at every place.
func TestManyFlows(t *testing.T) {
	const flows = 5000
	done := map[netip.AddrPort]*path.Path{}
	tr := New(Config{Namer: fakeNames{}, OnDone: func(p *path.Path) { done[p.Client] = p }})
	now := uint64(time.Second)
	for _, p := range way() {
		for i := range flows {
			e := at(segment(i, wire.SYN, uint32(i)*7), p, now)
			tr.Add(&e)
			now += 100
		}
	}
	tr.Flush()
	if len(done) != flows {
		t.Fatalf("%d flows, want %d: %+v", len(done), flows, tr.Stats())
	}
	for client, p := range done {
		if len(p.Packets) != 1 || len(p.Packets[0].Hops) != len(way()) {
			t.Fatalf("%s: %d packets, want 1 with %d hops", client, len(p.Packets), len(way()))
		}
	}
	want := Stats{Events: flows * uint64(len(way())), Flows: flows, Packets: flows}
	if got := tr.Stats(); got != want {
		t.Errorf("stats\n got %+v\nwant %+v", got, want)
	}
}

func TestLimits(t *testing.T) {
	var done []*path.Path
	cfg := Config{Namer: fakeNames{}, MaxFlows: 10, MaxPackets: 4, MaxHops: 5, MaxData: 2, OnDone: func(p *path.Path) { done = append(done, p) }}
	tr := New(cfg)
	now := uint64(time.Second)
	for i := range 25 {
		now = walk(tr, segment(i, wire.SYN, 1), now)
		for n := range 6 {
			data := segment(i, wire.ACK|wire.PSH, uint32(10+n))
			data.Payload = 1
			now = walk(tr, data, now)
		}
	}
	tr.Flush()
	if len(done) != 25 {
		t.Fatalf("%d flows, want 25", len(done))
	}
	const perFlow = 7
	got := tr.Stats()
	if got.FlowsEvicted != 15 || got.Packets != 25*perFlow || got.PacketsOmitted != 25*4 || got.HopsOmitted != 25*3*uint64(len(way())-5) {
		t.Errorf("stats %+v", got)
	}
	for _, p := range done {
		if len(p.Packets) != 3 || p.OmittedPackets != 4 || p.Packets[0].OmittedHops != len(way())-5 {
			t.Fatalf("flow %d: %d packets and %d omitted, want 3 and 4", p.Flow, len(p.Packets), p.OmittedPackets)
		}
	}
}

// TestDropOfOmittedPacket: a packet that was only counted is kept when it is dropped.
func TestDropOfOmittedPacket(t *testing.T) {
	var done *path.Path
	tr := New(Config{Namer: fakeNames{}, MaxData: 1, OnDone: func(p *path.Path) { done = p }})
	now := uint64(time.Second)
	for n := range 5 {
		data := segment(1, wire.ACK, uint32(10+n))
		data.Payload = 1
		if n < 4 {
			now = walk(tr, data, now)
			continue
		}
		enter, drop := at(data, way()[5], now), at(data, way()[5], now+1000)
		drop.Hook, drop.Location, drop.Reason = wire.Drop, 1, 7
		tr.Add(&enter)
		tr.Add(&drop)
	}
	tr.Flush()
	if len(done.Packets) != 2 || done.OmittedPackets != 3 {
		t.Fatalf("%d packets kept and %d omitted, want 2 and 3", len(done.Packets), done.OmittedPackets)
	}
	hops := done.Packets[1].Hops
	if len(hops) != 1 || hops[0].Stage != path.StageForward || hops[0].Action != path.ActionDrop || hops[0].NetNS != hostNS {
		t.Errorf("hops %+v, want one drop in FORWARD", hops)
	}
}

// TestEnds: when each kind of flow is finished, by the clock alone.
func TestEnds(t *testing.T) {
	drop := spot{wire.Drop, 0, hostNS, 7, "vethc"}
	tests := []struct {
		name   string
		flags  uint8
		proto  uint8
		places []spot
		after  time.Duration
	}{
		{"idle TCP", wire.ACK, wire.ProtoTCP, way(), time.Minute},
		{"idle UDP", 0, wire.ProtoUDP, way(), 10 * time.Second},
		{"dropped", wire.SYN, wire.ProtoTCP, append(way()[:5:5], drop), 3 * time.Second},
		{"reset", wire.RST, wire.ProtoTCP, way(), 250 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			finished := 0
			tr := New(Config{Namer: fakeNames{}, OnDone: func(*path.Path) { finished++ }})
			start := uint64(time.Second)
			e := segment(1, tt.flags, 5)
			e.Tuple.Proto = tt.proto
			for _, p := range tt.places {
				e := at(e, p, start)
				tr.Add(&e)
			}
			tr.Expire(start + uint64(tt.after) - uint64(time.Millisecond))
			if finished != 0 {
				t.Errorf("finished before %v", tt.after)
			}
			tr.Expire(start + uint64(tt.after) + uint64(10*time.Millisecond))
			if finished != 1 {
				t.Errorf("finished %d times after %v, want once", finished, tt.after)
			}
			if tr.Flush(); finished != 1 {
				t.Errorf("finished again by Flush")
			}
			tr.Expire(start + uint64(tt.after) + uint64(time.Minute))
			if len(tr.tuples)+len(tr.skbs) != 0 {
				t.Errorf("%d tuples and %d sk_buffs still known", len(tr.tuples), len(tr.skbs))
			}
		})
	}
}

// TestSettle: a datagram that was not dropped counts as taken after a while, without any event.
func TestSettle(t *testing.T) {
	for _, dropped := range []bool{false, true} {
		var done *path.Path
		tr := New(Config{Namer: fakeNames{}, OnDone: func(p *path.Path) { done = p }})
		e := segment(1, 0, 0)
		e.Tuple.Proto = wire.ProtoUDP
		now := walk(tr, e, uint64(time.Second))
		if dropped {
			e := at(e, spot{wire.Drop, 0, serverNS, 2, "eth0"}, now)
			e.Location = 4
			tr.Add(&e)
		}
		tr.Expire(now + uint64(60*time.Millisecond))
		tr.Flush()
		if want := map[bool]uint32{false: serverNS}[dropped]; done.DeliverNetNS != want {
			t.Errorf("dropped %v: DeliverNetNS %d, want %d", dropped, done.DeliverNetNS, want)
		}
	}
}

func TestReorder(t *testing.T) {
	r := reorder{window: 10}
	var got []uint64
	for _, now := range []uint64{5, 3, 4, 20, 12, 15, 14, 40, 39, 1} {
		r.push(&wire.Event{Time: now})
		for e := r.pop(); e != nil; e = r.pop() {
			got = append(got, e.Time)
		}
	}
	for e := r.drain(); e != nil; e = r.drain() {
		got = append(got, e.Time)
	}
	want := []uint64{3, 4, 5, 12, 14, 15, 20, 1, 39, 40}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestDropStage(t *testing.T) {
	tests := map[string]stageID{
		"tcp_v4_rcv": stageTCP, "tcp_rcv_state_process": stageTCP, "__udp4_lib_rcv": stageUDP, "icmp_rcv": stageICMP,
		"br_handle_frame_finish": stageBridge, "vxlan_rcv": stageVXLAN, "neigh_invalidate": stageNeighbour, "arp_error_report": stageNeighbour,
		"__dev_queue_xmit": stageQdisc, "tbf_enqueue": stageQdisc, "ip_forward": stageRoute, "ip_error": stageRoute,
		"ip_rcv_finish_core": stageRoute, "xfrm_input": stageXfrm, "ip_do_fragment": stageFragment, "nft_do_chain": stageNone,
		"nf_hook_slow": stageNone, "sk_stream_kill_queues": stageSocket, "__netif_receive_skb_core": stageDevice, "": stageDevice,
	}
	for function, want := range tests {
		if got := dropStage(function); got != want {
			t.Errorf("dropStage(%q) = %s, want %s", function, got.public(), want.public())
		}
	}
}

// eventsFrom makes events of small ranges, so that they meet, from bytes.
func eventsFrom(data []byte) []wire.Event {
	var events []wire.Event
	addrs := [4]string{"10.0.0.1:1", "10.0.0.2:2", "10.0.0.3:3", "[fd00::1]:4"}
	protos := [4]uint8{wire.ProtoTCP, wire.ProtoUDP, wire.ProtoICMP, 47}
	now := uint64(1 << 40)
	for ; len(data) >= 16; data = data[16:] {
		now += uint64(binary.LittleEndian.Uint16(data)) << (data[2] % 24)
		end := func(b byte) netip.AddrPort { return netip.MustParseAddrPort(addrs[b&3]) }
		e := wire.Event{
			Time: now - uint64(data[3])<<8, Hook: wire.Hook(data[4] % 16), NFHook: data[4] >> 5, Skb: uint64(data[5] & 7), Head: uint64(data[5] >> 4),
			Tuple:    wire.Tuple{Src: end(data[6]), Dst: end(data[6] >> 2), Proto: protos[data[6]>>6]},
			OuterSrc: end(data[6] >> 4), NetNS: uint32(data[7] & 3), Ifindex: uint32(data[7] >> 6), CPU: uint16(data[7]>>2) & 3,
			Seq: uint32(data[8] & 3), TCPFlags: data[9], Flags: uint32(data[10]) | uint32(data[9]&1)<<8, TTL: data[11] & 3, IPID: uint16(data[11] >> 6),
			Payload: uint16(data[12] & 1), Location: uint64(data[12]>>1) & 3, Reason: uint32(data[12] >> 3), OldState: data[13] & 3, NewState: data[13] >> 7,
			Err: -int32(data[13]), CT: uint64(data[14] & 1), CTInfo: data[14] >> 5, ICMPType: data[15] & 15, ICMPCode: data[15] >> 4,
		}
		e.CTOrig, e.CTReply = wire.Tuple{Src: end(data[14] >> 1), Dst: end(data[14] >> 3), Proto: e.Tuple.Proto}, e.Tuple.Inverse()
		events = append(events, e)
	}
	return events
}

// FuzzTracker feeds events in any order: the tracker must not fail, forget a flow or grow.
func FuzzTracker(f *testing.F) {
	seed := make([]byte, 16*64)
	for i := range seed {
		seed[i] = byte(i * 7919 >> 3)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		finished := uint64(0)
		cfg := Config{Namer: fakeNames{}, MaxFlows: 3, MaxPackets: 3, MaxHops: 4, MaxData: 1, OnHop: func(*path.Path, *path.Packet, *path.Hop) {}}
		cfg.IsTarget = func(ap netip.AddrPort, _ uint8) bool { return ap.Port() == 2 }
		cfg.OnDone = func(p *path.Path) {
			finished++
			if len(p.Packets) > cfg.MaxPackets {
				t.Errorf("flow %d has %d packets", p.Flow, len(p.Packets))
			}
			for _, packet := range p.Packets {
				if len(packet.Hops) > cfg.MaxHops+maxBranches {
					t.Errorf("packet %d has %d hops", packet.ID, len(packet.Hops))
				}
			}
		}
		tr := New(cfg)
		events := eventsFrom(data)
		for i := range events {
			tr.Add(&events[i])
			checkBounds(t, tr)
		}
		tr.Flush()
		checkBounds(t, tr)
		stats := tr.Stats()
		if stats.Flows != finished || stats.Events != uint64(len(events)) {
			t.Errorf("%d flows finished: %+v", finished, stats)
		}
		tr.Expire(1 << 62)
		if len(tr.tuples) != 0 || len(tr.skbs) != 0 || tr.lightList.n != 0 {
			t.Errorf("still known: %d tuples, %d sk_buffs, %d packets", len(tr.tuples), len(tr.skbs), tr.lightList.n)
		}
	})
}

func checkBounds(t *testing.T, tr *Tracker) {
	t.Helper()
	n := 0
	for s := range lingering {
		n += tr.lists[s].n
	}
	if n > tr.cfg.MaxFlows || tr.lists[lingering].n > tr.cfg.MaxFlows {
		t.Fatalf("%d flows and %d finished ones, want at most %d each", n, tr.lists[lingering].n, tr.cfg.MaxFlows)
	}
	if most := 2 * tr.cfg.MaxFlows * maxKeys; len(tr.tuples) > most {
		t.Fatalf("%d tuples, want at most %d", len(tr.tuples), most)
	}
}

// BenchmarkAdd: one flow's data, many flows' data, and connections that come and go.
func BenchmarkAdd(b *testing.B) {
	for _, flows := range []int{1, 1000, 20000} {
		b.Run(fmt.Sprintf("data/flows=%d", flows), func(b *testing.B) { benchmark(b, flows, false) })
	}
	b.Run("connections", func(b *testing.B) { benchmark(b, 1000, true) })
}

func benchmark(b *testing.B, flows int, closes bool) {
	b.ReportAllocs()
	done := 0
	tr := New(Config{Namer: fakeNames{}, MaxFlows: 32768, OnDone: func(*path.Path) { done++ }})
	places := way()
	now := uint64(time.Second)
	seq := make([]uint32, flows)
	var e wire.Event
	n, i := 0, 0
	for b.Loop() {
		if n%len(places) == 0 {
			i = (i + 1) % flows
			seq[i]++
			flags := uint8(wire.ACK)
			if closes {
				flags = [4]uint8{wire.SYN, wire.ACK, wire.ACK, wire.RST}[seq[i]%4]
			}
			e = segment(i, flags, seq[i])
			e.Payload = 100
		}
		p := &places[n%len(places)]
		e.Hook, e.NFHook, e.NetNS, e.Ifindex, e.Dev, e.Time = p.hook, p.nf, p.ns, p.dev, p.name, now
		tr.Add(&e)
		now += 2000
		n++
	}
	b.ReportMetric(float64(tr.Stats().Packets)/float64(b.N), "packets/event")
}

// BenchmarkMemory reports what a followed connection of ten packets costs.
func BenchmarkMemory(b *testing.B) {
	const flows = 5000
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		tr := New(Config{Namer: fakeNames{}})
		now := uint64(time.Second)
		for i := range flows {
			now = walk(tr, segment(i, wire.SYN, 1), now)
			for n := range 9 {
				now = walk(tr, segment(i, wire.ACK, uint32(2+n)), now)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/flows, "bytes/flow")
		runtime.KeepAlive(tr)
	}
}

// TestTCPNoise tells what TCP discards of every connection from what it loses.
func TestTCPNoise(t *testing.T) {
	for _, test := range []struct {
		name, function, reason string
		flags                  uint8
		payload                uint16
		fin                    [2]bool
		want                   bool
	}{
		{"ack of a half-closed client", "tcp_rcv_state_process", "NOT_SPECIFIED", wire.ACK, 0, [2]bool{true, false}, true},
		{"late ack", "tcp_v4_rcv", "NOT_SPECIFIED", wire.ACK, 0, [2]bool{true, false}, true},
		{"ack of an open connection", "tcp_rcv_state_process", "NOT_SPECIFIED", wire.ACK, 0, [2]bool{}, false},
		{"data", "tcp_rcv_state_process", "NOT_SPECIFIED", wire.ACK, 10, [2]bool{true, false}, false},
		{"another reason", "tcp_rcv_state_process", "TCP_ABORT_ON_DATA", wire.ACK, 0, [2]bool{true, false}, false},
		{"another function", "tcp_filter", "NOT_SPECIFIED", wire.ACK, 0, [2]bool{true, false}, false},
		{"both closed", "tcp_filter", "NOT_SPECIFIED", wire.ACK, 0, [2]bool{true, true}, true},
	} {
		p := &packet{flow: &flow{proto: wire.ProtoTCP, fin: test.fin}}
		p.fp.tcpFlags, p.fp.payload = test.flags, test.payload
		if got := (&recorder{p: p}).isTCPNoise(stageTCP, test.function, test.reason); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// TestDisplacedSkb: a flood makes more copies of a packet than it has branches, and nothing leads from
// the sk_buff of a displaced one to the packet, whose memory is another's by then.
func TestDisplacedSkb(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprint("kept ", kept), func(t *testing.T) {
			tr := New(Config{Namer: fakeNames{}, MaxData: 1})
			now := walk(tr, segment(1, wire.SYN, 100), uint64(time.Second))
			flood := segment(1, wire.ACK, 101)
			if flood.Payload = 10; !kept {
				now = walk(tr, flood, now)
				flood.Seq, flood.IPID = 111, 111
			}
			for port := range 3 * maxBranches {
				e := at(flood, spot{wire.DevQueue, 0, hostNS, 100 + uint32(port), "port"}, now)
				e.Skb += uint64(port)<<16 | 1
				tr.Add(&e)
				now += 100
			}
			tr.Flush()
			if len(tr.skbs) != 0 {
				t.Errorf("%d sk_buffs of a flow that is over lead to packets", len(tr.skbs))
			}
			now = walk(tr, segment(2, wire.SYN, 500), now)
			e := at(segment(1, wire.SYN, 900), way()[0], now)
			e.Skb = flood.Skb + uint64(maxBranches)<<16 | 1
			tr.Add(&e)
			tr.Flush()
			checkBounds(t, tr)
		})
	}
}
