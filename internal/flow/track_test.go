package flow

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestTracked: hops carry the mark, the hop limit and the tracking entry as each hook saw them.
func TestTracked(t *testing.T) {
	var done *path.Path
	tr := New(Config{OnDone: func(p *path.Path) { done = p },
		IsTarget: func(ap netip.AddrPort, _ uint8) bool { return ap.Port() == 80 }})
	tuple := wire.Tuple{Src: netip.MustParseAddrPort("192.0.2.2:4000"), Dst: netip.MustParseAddrPort("192.0.2.1:80"), Proto: 6}
	e := wire.Event{Skb: 1, Head: 1, Tuple: tuple, NetNS: 7, TCPFlags: wire.SYN, TTL: 64, Seq: 1, Length: 60,
		Hook: wire.NetfilterEnter, NFHook: wire.NFPrerouting, Time: 1e9}
	tr.Add(&e)
	e.Hook, e.Time, e.Mark = wire.NetfilterLeave, e.Time+1000, 5
	e.CT, e.CTInfo, e.CTStatus, e.CTOrig, e.CTReply = 0xff, 2, 0x100, tuple, tuple.Inverse()
	tr.Add(&e)
	e.Hook, e.NFHook, e.Time, e.TTL = wire.NetfilterEnter, wire.NFForward, e.Time+1000, 63
	tr.Add(&e)
	tr.Flush()
	if done == nil || len(done.Packets) != 1 || len(done.Packets[0].Hops) != 3 {
		t.Fatalf("got %+v, want one packet with three hops", done)
	}
	h := done.Packets[0].Hops
	if h[0].CT != nil || h[0].Mark != 0 || h[0].TTL != 64 || !h[0].HasMark {
		t.Errorf("on entering: %+v", h[0])
	}
	if h[1].CT == nil || h[1].CT != h[2].CT || h[1].Mark != 5 || h[2].TTL != 63 {
		t.Fatalf("on leaving: %+v, then %+v", h[1], h[2])
	}
	if ct := h[1].CT; ct.Info != 2 || ct.Status != 0x100 || ct.OrigDst != tuple.Dst || ct.ReplyDst != tuple.Src {
		t.Errorf("entry %+v", ct)
	}
}

// TestPeekIsACopy: names that are put on what Peek returned do not change what the flow knows. A
// translation that a packet sent again meets a second time would not be recognised.
func TestPeekIsACopy(t *testing.T) {
	s := readScript(t, filepath.Join("testdata", "drop_forward.events"))
	var done *path.Path
	tr := New(Config{OnDone: func(p *path.Path) { done = p }, Namer: s, IsTarget: s.isTarget})
	for i := range s.events {
		for _, p := range tr.Peek() {
			for j := range p.NAT {
				p.NAT[j].Namespace = "router"
			}
		}
		tr.Add(&s.events[i])
	}
	tr.Flush()
	if done == nil || len(done.NAT) != 1 || done.NAT[0].Namespace != "" {
		t.Errorf("got %+v, want a path with one translation without a name", done)
	}
}

// TestTracksAreBounded: a flow remembers so many entries, and none for what is beyond.
func TestTracksAreBounded(t *testing.T) {
	f := &flow{}
	for i := range 2 * maxTracks {
		got := f.trackIndex(&wire.Event{CT: 1, CTStatus: uint32(i)})
		if want := i < maxTracks; (got != noTrack) != want {
			t.Errorf("entry %d has index %d", i, got)
		}
	}
	if f.trackIndex(&wire.Event{}) != noTrack {
		t.Error("an event without an entry has an index")
	}
}
