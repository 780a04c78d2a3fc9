package flow

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestOnStep: every observation of every packet is told, in order, of packets that are not kept as well.
func TestOnStep(t *testing.T) {
	steps := map[int][]Step{}
	tr := New(Config{Namer: fakeNames{}, MaxPackets: 2, MaxData: 1, OnStep: func(s *Step) { steps[s.Packet] = append(steps[s.Packet], *s) }})
	now := walk(tr, segment(1, wire.SYN, 1), uint64(time.Second))
	const data = 100
	for n := range data {
		e := segment(1, wire.ACK|wire.PSH, uint32(10+n))
		e.Payload = 1
		now = walk(tr, e, now+uint64(time.Millisecond))
	}
	tr.Flush()
	if len(steps) != data+1 || tr.Stats().PacketsOmitted != data-1 {
		t.Fatalf("%d packets told, %d not kept; want %d, %d", len(steps), tr.Stats().PacketsOmitted, data+1, data-1)
	}
	for id, list := range steps {
		if len(list) != len(way()) {
			t.Fatalf("packet %d: %d steps, want %d", id, len(list), len(way()))
		}
		for i, s := range list {
			if p := way()[i]; s.NetNS != p.ns || s.Ifindex != p.dev || s.Device != p.name || i > 0 && s.Time != list[i-1].Time+1000 {
				t.Errorf("packet %d: step %d is %+v, want at %+v", id, i, s, p)
			}
		}
	}
	if s := steps[2][0]; s.Seq != 10 || s.Payload != 1 || s.Direction != path.Request || s.Stage != path.StageOutput || s.Action != path.ActionEnter {
		t.Errorf("first step %+v", s)
	}
}

// TestStepsAreHops: of packets that are kept, steps are the hops that are reported live.
func TestStepsAreHops(t *testing.T) {
	files, err := filepath.Glob("testdata/*.events")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test data: %v", err)
	}
	for _, file := range files {
		s := readScript(t, file)
		var hops, steps int
		var last path.Hop
		tr := New(Config{Namer: s, IsTarget: s.isTarget,
			OnHop: func(_ *path.Path, p *path.Packet, h *path.Hop) {
				if h.Direction == p.Direction {
					hops++
				}
				last = *h
			},
			OnStep: func(x *Step) { steps++ },
		})
		for i := range s.events {
			tr.Add(&s.events[i])
		}
		tr.Flush()
		if hops == 0 || steps < hops || last.Time == 0 {
			t.Errorf("%s: %d steps, %d hops", file, steps, hops)
		}
	}
}
