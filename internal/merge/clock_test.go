package merge

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/tracer/path"
)

const (
	ms   = int64(1e6)
	hour = 3600 * 1000 * ms
)

// cable is two hosts with a network between them, on which packets take their time.
type cable struct {
	ahead  int64 // of the second host's clock
	views  [2]*path.Path
	serial uint32
}

func newCable(ahead int64) *cable {
	w := &cable{ahead: ahead}
	client, server := netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("10.0.0.2:80")
	for i := range w.views {
		w.views[i] = &path.Path{Proto: path.TCP, Client: client, Server: server, Source: client, Target: server}
	}
	return w
}

// send lets a packet pass from one host to the other: it leaves at a time of the first host's clock.
func (w *cable) send(d path.Direction, leaves, takes int64) {
	w.serial++
	from, to := 0, 1
	src, dst := w.views[0].Client, w.views[0].Server
	if d == path.Reply {
		from, to, src, dst = 1, 0, dst, src
	}
	local := func(host int, t int64) uint64 {
		if host == 1 {
			t += w.ahead
		}
		return uint64(2*hour + t)
	}
	hop := func(host int, stage path.Stage, a path.Action, t int64) path.Hop {
		return path.Hop{Direction: d, NetNS: 4026531840, Namespace: "host", Device: "eth0", Ifindex: 2, Stage: stage, Action: a,
			SrcAddr: src, DstAddr: dst, Src: src.String(), Dst: dst.String(), Time: local(host, t)}
	}
	flags := "A"
	if w.serial == 1 {
		flags = "S"
	}
	add := func(host int, hops ...path.Hop) {
		p := w.views[host]
		p.Packets = append(p.Packets, &path.Packet{ID: int(w.serial), Direction: d, TCPFlags: flags, Seq: w.serial, Ack: 7,
			Ident: w.serial, Length: 60, Hops: hops})
		if p.Start == 0 {
			p.Start = hops[0].Time
		}
		p.End = hops[len(hops)-1].Time
	}
	add(from, hop(from, path.StageOutput, path.ActionEnter, leaves-50000), hop(from, path.StageDevice, path.ActionTransmit, leaves))
	add(to, hop(to, path.StageDevice, path.ActionReceive, leaves+takes), hop(to, path.StageInput, path.ActionLeave, leaves+takes+50000))
}

func (w *cable) hosts(wall int64) []Host {
	return []Host{{Name: "h1", BootID: "a", Wall: -w.ahead + 5*hour}, {Name: "h2", BootID: "b", Wall: -2*w.ahead + 5*hour + wall, Reach: "ssh h2"}}
}

func (w *cable) join(c *Clocks, hosts []Host) *Exchange {
	return c.Join(hosts, []View{{Host: 1, Path: w.views[1]}, {Host: 0, Path: w.views[0]}})
}

// TestOffsetProperty: whatever the clocks and however long packets take, the true offset is within the
// error, the error is not more than half of the shortest round trip, and no packet arrives before it left.
func TestOffsetProperty(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 500 {
		w := newCable(r.Int64N(2*hour) - hour)
		now, shortest := ms, int64(1<<62)
		for range 1 + r.IntN(5) {
			there, back := 1000+r.Int64N(5*ms), 1000+r.Int64N(5*ms)
			w.send(path.Request, now, there)
			now += there + 200000
			w.send(path.Reply, now, back)
			now += back + 200000
			shortest = min(shortest, there+back)
		}
		x := w.join(&Clocks{}, w.hosts(0))
		o := x.Offsets[1]
		if off := o.NS - w.ahead; o.Error == Unbounded || max(off, -off) > o.Error || o.Error > shortest/2+1 {
			t.Fatalf("offset %d ± %d, in truth %d, round trip %d", o.NS, o.Error, w.ahead, shortest)
		}
		for _, p := range x.Path.Packets {
			want := []string{"h1", "h1", "h2", "h2"}
			if p.Direction == path.Reply {
				want = []string{"h2", "h2", "h1", "h1"}
			}
			var got []string
			for i := range p.Hops {
				got = append(got, p.Hops[i].Host)
			}
			if !slices.Equal(got, want) {
				t.Fatalf("order %v, want %v", got, want)
			}
		}
	}
}

// TestOneWay: a request that nobody answers bounds the clock on one side; the wall clocks decide, as far
// as the packet lets them.
func TestOneWay(t *testing.T) {
	for _, wall := range []int64{0, 5 * ms, -5 * ms, hour, -hour} {
		w := newCable(3 * hour / 2)
		w.send(path.Request, ms, 2*ms)
		x := w.join(&Clocks{}, w.hosts(wall))
		if o := x.Offsets[1]; o.Error != Unbounded || o.NS > w.ahead+2*ms {
			t.Errorf("wall clock %d ahead: offset %d ± %d, in truth %d", wall, o.NS, o.Error, w.ahead)
		}
		if hops := x.Path.Packets[0].Hops; hops[0].Host != "h1" || hops[3].Host != "h2" {
			t.Errorf("wall clock %d ahead: the packet arrives before it left", wall)
		}
	}
}

// TestRemembered: a flow without an answer profits from the one before, less the more time has passed.
func TestRemembered(t *testing.T) {
	var c Clocks
	w := newCable(hour)
	w.send(path.Request, ms, ms)
	w.send(path.Reply, 3*ms, ms)
	first := w.join(&c, w.hosts(0)).Offsets[1].Error
	later := newCable(hour)
	later.send(path.Request, 10000*ms, 40*ms)
	o := later.join(&c, later.hosts(0)).Offsets[1]
	if off := o.NS - hour; o.Error == Unbounded || max(off, -off) > o.Error || o.Error <= first || o.Error > first+2*ms {
		t.Errorf("offset %d ± %d, before ± %d", o.NS-hour, o.Error, first)
	}
}

// TestConclude: one verdict that says how far the clocks are apart, what could not be seen, and how a
// command reaches the other host; both hosts' namespaces keep their number, though they are equal.
func TestConclude(t *testing.T) {
	w := newCable(20 * ms)
	w.send(path.Request, ms, ms)
	w.send(path.Reply, 3*ms, ms)
	drop := &w.views[1].Packets[0].Hops[1]
	drop.Action, drop.Stage, drop.Reason, drop.Function, drop.InDevice = path.ActionDrop, path.StageForward, "NETFILTER_DROP", "nft_do_chain", "eth0"
	w.views[0].Packets, w.views[1].Packets = w.views[0].Packets[:1], w.views[1].Packets[:1]
	hosts := w.hosts(hour)
	var c Clocks
	facts := func() *diagnose.Facts {
		return &diagnose.Facts{Complete: true, Namespaces: map[uint32]*diagnose.Namespace{4026531840: {Name: "host", Self: true}}}
	}
	x := c.Join(hosts, []View{{Host: 0, Path: w.views[0], Facts: facts()}, {Host: 1, Path: w.views[1], Facts: facts()}})
	v := x.Conclude(hosts, []Problem{{Host: "h3", Why: "h3 refuses the connection"}})
	if v.Outcome != path.Dropped || v.Where.Host != "h2" || v.Where.Namespace != "h2" || v.Complete {
		t.Errorf("verdict %+v, where %+v", v, v.Where)
	}
	all := strings.Join(append(v.Evidence, v.Remedy...), "\n")
	for _, says := range []string{"could not be seen: h3 refuses the connection", "the times of h1 and h2 are those of their own clocks",
		"ssh h2 'iptables -L FORWARD"} {
		if !strings.Contains(all, says) {
			t.Errorf("%q is missing in\n%s", says, all)
		}
	}
	for _, p := range x.Path.Packets {
		for i := range p.Hops {
			if p.Hops[i].NetNS != 4026531840 {
				t.Errorf("hop on %s has namespace %d", p.Hops[i].Host, p.Hops[i].NetNS)
			}
		}
	}
	if len(v.Hosts) != 3 || v.Hosts[1].Packets != 1 || v.Hosts[2].Problem == "" {
		t.Errorf("hosts %+v", v.Hosts)
	}
}

// TestHourApart: clocks that are wrong are named, and change nothing.
func TestHourApart(t *testing.T) {
	w := newCable(20 * ms)
	w.send(path.Request, ms, ms)
	w.send(path.Reply, 3*ms, ms)
	hosts := w.hosts(hour)
	var c Clocks
	x := w.join(&c, hosts)
	v := x.Conclude(hosts, nil)
	all := strings.Join(v.Evidence, "\n")
	if says := "the clock of h2 is 1h0m0s ahead of that of h1 (± 1.00 ms, from packets: 1 there, 1 back): set one of them"; !strings.Contains(all, says) {
		t.Errorf("%q is missing in\n%s", says, all)
	}
	if h := v.Hosts[1]; h.Clock != "packets" || h.ClockErrorNS != ms || h.ClockOffsetNS != hour {
		t.Errorf("%+v", h)
	}
}

// TestLost: a verdict that rests on nothing having been seen says who did not look.
func TestLost(t *testing.T) {
	w := newCable(0)
	w.send(path.Request, ms, ms)
	var c Clocks
	hosts := w.hosts(0)
	x := c.Join(hosts, []View{{Host: 0, Path: w.views[0], Facts: &diagnose.Facts{Complete: true}}})
	v := x.Conclude(hosts, []Problem{{Host: "h2", Why: "the connection to h2 ended"}})
	if v.Outcome != path.Lost || !strings.Contains(v.Summary, "not everything could be seen: the connection to h2 ended") {
		t.Errorf("%s", v.Summary)
	}
}

// TestJoiner: views of many flows find each other, in any order, and none that are alike by chance.
func TestJoiner(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	hosts := newCable(0).hosts(0)
	j := NewJoiner(hosts)
	var views []View
	const flows = 200
	for n := range flows {
		w := newCable(0)
		w.serial = uint32(n * 100)
		w.send(path.Request, int64(n)*ms+ms, ms)
		w.send(path.Reply, int64(n)*ms+3*ms, ms)
		for h, p := range w.views {
			views = append(views, View{Host: h, Path: p})
		}
	}
	r.Shuffle(len(views), func(a, b int) { views[a], views[b] = views[b], views[a] })
	for _, v := range views {
		j.Add(v, 0)
	}
	ready := j.Ready(2, -1)
	if len(ready) != flows || j.Waiting() != 0 {
		t.Fatalf("%d flows, %d still wait", len(ready), j.Waiting())
	}
	for _, f := range ready {
		if len(f) != 2 || f[0].Host == f[1].Host || f[0].Path.Packets[0].Seq != f[1].Path.Packets[0].Seq {
			t.Errorf("views that do not belong together: %s", fmt.Sprint(f))
		}
	}
}

// TestJoinerTranslated: addresses that differ on both hosts, as nobody saw how they were translated.
func TestJoinerTranslated(t *testing.T) {
	w := newCable(0)
	w.send(path.Request, ms, ms)
	w.send(path.Reply, 3*ms, ms)
	other := netip.MustParseAddrPort("192.0.2.9:999")
	w.views[1].Client, w.views[1].Source = other, other
	for _, p := range w.views[1].Packets {
		for i := range p.Hops {
			h := &p.Hops[i]
			if p.Direction == path.Request {
				h.SrcAddr = other
			} else {
				h.DstAddr = other
			}
		}
	}
	j := NewJoiner(w.hosts(0))
	j.Add(View{Host: 0, Path: w.views[0]}, 0)
	j.Add(View{Host: 1, Path: w.views[1]}, 0)
	if n := len(j.Flush()); n != 1 {
		t.Errorf("%d flows", n)
	}
}

// TestSpaces: namespaces of hosts on one kernel are the same, those of others never are.
func TestSpaces(t *testing.T) {
	s := newSpaces([]Host{{BootID: "a"}, {BootID: "a"}, {BootID: "b"}, {}, {}})
	seen := map[uint32]int{}
	for h := 1; h < 5; h++ {
		n := s.of(h, 4026531840)
		if s.inode(n) != 4026531840 {
			t.Errorf("host %d: %d is %d", h, n, s.inode(n))
		}
		seen[n]++
	}
	if s.of(0, 4026531840) != s.of(1, 4026531840) || len(seen) != 4 || s.of(2, 0) != 0 {
		t.Errorf("numbers %v", seen)
	}
}
