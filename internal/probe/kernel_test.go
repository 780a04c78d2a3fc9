package probe

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/wire"
)

// load loads a set that is closed with the test.
func load(t *testing.T, cfg Config) *Set {
	t.Helper()
	labtest.NeedsRoot(t)
	facts, err := kernel.Load()
	labtest.Must(t, err)
	cfg.Facts = facts
	s, err := Load(cfg)
	labtest.Must(t, err)
	t.Cleanup(func() { labtest.Must(t, s.Close()) })
	return s
}

// attach attaches to the netfilter hooks of a namespace.
func attach(t *testing.T, s *Set, ns *lab.Namespace) {
	t.Helper()
	labtest.Must(t, ns.Do(func() error { return s.AttachNetNS(ns.Inode) }))
}

// drain returns the events of a namespace that are in the buffer.
func drain(t *testing.T, r *Reader, inode uint32) []wire.Event {
	t.Helper()
	var out []wire.Event
	r.SetDeadline(time.Now().Add(20 * time.Millisecond)) // what was sent before is there already
	for {
		var e wire.Event
		err := r.Read(&e)
		if IsTimeout(err) {
			return out
		}
		labtest.Must(t, err)
		if e.NetNS == inode {
			out = append(out, e)
		}
	}
}

// talk is a UDP socket of a namespace.
type talk struct{ net.PacketConn }

func open(t *testing.T, ns *lab.Namespace, addr string) talk {
	t.Helper()
	pc, err := ns.ListenPacket(t.Context(), "udp", addr)
	labtest.Must(t, err)
	t.Cleanup(func() { pc.Close() })
	return talk{pc}
}

func (s talk) addr() netip.AddrPort { return s.LocalAddr().(*net.UDPAddr).AddrPort() }

func (s talk) send(t *testing.T, to talk) {
	t.Helper()
	_, err := s.WriteTo([]byte("x"), net.UDPAddrFromAddrPort(to.addr()))
	labtest.Must(t, err)
}

// TestLoad: on a kernel that has a hook it is attached, and its programs carry their own statistics.
func TestLoad(t *testing.T) {
	s := load(t, Config{})
	for _, st := range s.Hooks() {
		if (st.Err == nil) == (st.Kind == "") {
			t.Errorf("hook %s: kind %q and error %v, want one of them", st.Name, st.Kind, st.Err)
		}
		if st.Required && st.Err != nil {
			t.Errorf("hook %s is required and not attached: %v", st.Name, st.Err)
		}
	}
	if got, want := len(s.Hooks()), len(Table()); got != want {
		t.Errorf("got %d hooks, want %d", got, want)
	}
}

// TestStreams: where all is TCP, hooks that only datagrams report from are neither attached nor missing.
func TestStreams(t *testing.T) {
	s := load(t, Config{Streams: true})
	for _, st := range s.Hooks() {
		if st.Datagrams {
			t.Errorf("hook %s: %q", st.Name, st.Kind)
		}
	}
	for _, h := range Table() {
		for _, v := range h.Variants {
			for _, p := range v.Programs {
				if h.Datagrams && s.Programs()[p] != nil {
					t.Errorf("program %s is loaded", p)
				}
			}
		}
	}
	if got, want := len(s.Hooks()), len(Table())-2; got != want {
		t.Errorf("got %d hooks, want %d", got, want)
	}
}

// TestAttachNetNS: once per namespace, however often it is asked for.
func TestAttachNetNS(t *testing.T) {
	s := load(t, Config{})
	if !s.NeedsNetNS() {
		t.Skip("this kernel watches netfilter hooks of all namespaces at once")
	}
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	if s.Attached(ns.Inode) {
		t.Error("a fresh namespace is attached already")
	}
	attach(t, s, ns)
	first := s.netns[ns.Inode]
	attach(t, s, ns)
	if got, want := len(first), 2*2*5; got != want {
		t.Errorf("got %d links, want %d: two programs, two families, five hooks", got, want)
	}
	if !s.Attached(ns.Inode) || !slices.Equal(first, s.netns[ns.Inode]) {
		t.Error("attaching again changed the links")
	}
	labtest.Must(t, s.DetachNetNS(ns.Inode))
	if s.Attached(ns.Inode) {
		t.Error("still attached after detaching")
	}
	attach(t, s, ns)
}

// TestTwoSets: two traces at the same time see the same packets.
func TestTwoSets(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	a, b := open(t, ns, "127.0.0.1:0"), open(t, ns, "127.0.0.1:0")
	sets := []*Set{load(t, Config{}), load(t, Config{})}
	var readers []*Reader
	for _, s := range sets {
		attach(t, s, ns)
		labtest.Must(t, s.Watch(Endpoint{Addr: b.addr(), Proto: wire.ProtoUDP}))
		r, err := s.Reader()
		labtest.Must(t, err)
		t.Cleanup(func() { r.Close() })
		readers = append(readers, r)
	}
	a.send(t, b)
	var counts []int
	for i, r := range readers {
		n := 0
		for _, e := range drain(t, r, ns.Inode) {
			if e.Hook == wire.NetfilterEnter {
				n++
			}
		}
		counts = append(counts, n)
		if len(sets[i].netns) > 0 && n != 4 {
			t.Errorf("set %d: entered %d hooks, want 4", i+1, n)
		}
	}
	if counts[0] != counts[1] {
		t.Errorf("hooks seen: %v, want the same", counts)
	}
}

// TestClose: no program and no link remains.
func TestClose(t *testing.T) {
	s := load(t, Config{})
	l := labtest.New(t, lab.Options{})
	attach(t, s, labtest.Namespace(t, l, "a"))
	ours := map[ebpf.ProgramID]string{}
	for name, p := range s.Programs() {
		info, err := p.Info()
		labtest.Must(t, err)
		id, ok := info.ID()
		if !ok {
			t.Skip("this kernel tells no program ids")
		}
		ours[id] = name
	}
	before := linksOf(t, ours)
	if before < len(ours) {
		t.Errorf("%d links for %d programs", before, len(ours))
	}
	labtest.Must(t, s.Close())
	labtest.Must(t, s.Close())
	// The kernel frees in the background.
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		left := linksOf(t, ours) + len(alive(ours))
		if left == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d links and programs %v are left", linksOf(t, ours), alive(ours))
		}
	}
}

func linksOf(t *testing.T, programs map[ebpf.ProgramID]string) int {
	t.Helper()
	n := 0
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		if info, err := it.Link.Info(); err == nil && programs[info.Program] != "" {
			n++
		}
	}
	labtest.Must(t, it.Err())
	return n
}

func alive(programs map[ebpf.ProgramID]string) []string {
	var out []string
	for id, name := range programs {
		if p, err := ebpf.NewProgramFromID(id); err == nil {
			p.Close()
			out = append(out, name)
		}
	}
	return out
}

// TestFilter: what is watched and followed is reported, in both directions, and nothing else.
func TestFilter(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	s := load(t, Config{})
	r, err := s.Reader()
	labtest.Must(t, err)
	t.Cleanup(func() { r.Close() })
	a, b, c := open(t, ns, "127.0.0.1:0"), open(t, ns, "127.0.0.1:0"), open(t, ns, "127.0.0.1:0")
	// pairs sends between all three and returns who was seen.
	pairs := func() map[string]bool {
		seen := map[string]bool{}
		names := map[netip.AddrPort]string{a.addr(): "a", b.addr(): "b", c.addr(): "c"}
		for _, p := range [][2]talk{{a, b}, {b, a}, {a, c}, {c, a}, {b, c}, {c, b}} {
			p[0].send(t, p[1])
		}
		for _, e := range drain(t, r, ns.Inode) {
			seen[names[e.Tuple.Src]+names[e.Tuple.Dst]] = true
		}
		return seen
	}
	check := func(what string, want ...string) {
		t.Helper()
		got := pairs()
		if len(got) != len(want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
		for _, w := range want {
			if !got[w] {
				t.Errorf("%s: %s is missing in %v", what, w, got)
			}
		}
	}
	check("nothing is watched")
	ep := Endpoint{Addr: b.addr(), Proto: wire.ProtoUDP}
	labtest.Must(t, s.Watch(ep))
	check("b is watched", "ab", "ba", "bc", "cb")
	labtest.Must(t, s.Watch(ep))
	check("b is watched twice", "ab", "ba", "bc", "cb")
	labtest.Must(t, s.Unwatch(ep))
	check("b is not watched any more")
	labtest.Must(t, s.Unwatch(ep))
	labtest.Must(t, s.Watch(Endpoint{Addr: b.addr(), Proto: wire.ProtoTCP}))
	check("another protocol is watched")
	tuple := wire.Tuple{Src: a.addr(), Dst: c.addr(), Proto: wire.ProtoUDP}
	labtest.Must(t, s.Follow(tuple))
	check("a tuple is followed", "ac", "ca")
	labtest.Must(t, s.Unfollow(tuple))
	check("a tuple is not followed any more")
	labtest.Must(t, s.Unfollow(tuple))
}

// TestMark: the kernel computes the same mark of an endpoint as markOf, else it would report nothing.
func TestMark(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	s := load(t, Config{})
	r, err := s.Reader()
	labtest.Must(t, err)
	t.Cleanup(func() { r.Close() })
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 40 {
		addr := netip.AddrFrom4([4]byte{127, byte(random.Uint32()), byte(random.Uint32()), byte(random.Uint32()) | 1})
		if i%2 == 1 {
			if !l.IPv6() {
				continue
			}
			b := netip.MustParseAddr("fd00::").As16()
			for j := 8; j < 16; j++ {
				b[j] = byte(random.Uint32())
			}
			addr = netip.AddrFrom16(b)
			labtest.Must(t, ns.AddAddr("lo", netip.PrefixFrom(addr, 128)))
		}
		to, from := open(t, ns, netip.AddrPortFrom(addr, 0).String()), open(t, ns, netip.AddrPortFrom(addr, 0).String())
		labtest.Must(t, s.Watch(Endpoint{Addr: to.addr(), Proto: wire.ProtoUDP}))
		// A new IPv6 address gets its route in the background; until then the packet is dropped.
		at := map[wire.Hook]int{}
		for try := 0; try < 100 && at[wire.DevQueue] < 2; try++ {
			clear(at)
			from.send(t, to)
			to.send(t, from)
			for _, e := range drain(t, r, ns.Inode) {
				at[e.Hook]++
			}
		}
		if at[wire.DevQueue] != 2 || at[wire.DevXmit] != 2 || at[wire.DevReceive] != 2 {
			t.Errorf("%s: got %v, want both packets queued, transmitted and received", to.addr(), at)
		}
	}
}

// TestLost: what did not fit the buffer is counted, exactly.
func TestLost(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	s := load(t, Config{RingSize: 4096})
	r, err := s.Reader()
	labtest.Must(t, err)
	t.Cleanup(func() { r.Close() })
	a, b := open(t, ns, "127.0.0.1:0"), open(t, ns, "127.0.0.1:0")
	labtest.Must(t, s.Watch(Endpoint{Addr: b.addr(), Proto: wire.ProtoUDP}))
	const sent = 100
	for range sent {
		a.send(t, b)
	}
	seen := map[string]uint64{}
	for _, e := range drain(t, r, ns.Inode) {
		seen[slotName(uint32(e.Hook))]++
	}
	lost, err := s.Lost()
	labtest.Must(t, err)
	var sum uint64
	for _, hook := range []wire.Hook{wire.DevQueue, wire.DevXmit, wire.DevReceive} {
		name := slotName(uint32(hook))
		if got := seen[name] + lost[name]; got != sent {
			t.Errorf("%s: %d seen and %d lost are %d, want %d", name, seen[name], lost[name], got, sent)
		}
		sum += lost[name]
	}
	if sum == 0 {
		t.Error("nothing was lost although the buffer holds a dozen records")
	}
	a.send(t, b)
	if got, want := len(drain(t, r, ns.Inode)), 3; got != want {
		t.Errorf("after the loss: got %d observations, want %d", got, want)
	}
}

// TestReaderEnds: Close ends a blocked Read.
func TestReaderEnds(t *testing.T) {
	s := load(t, Config{RingSize: 4096})
	r, err := s.Reader()
	labtest.Must(t, err)
	ended := make(chan error, 1)
	go func() {
		var e wire.Event
		ended <- r.Read(&e)
	}()
	labtest.Must(t, r.Close())
	select {
	case err := <-ended:
		if !errors.Is(err, ErrClosed) {
			t.Errorf("got error %v, want %v", err, ErrClosed)
		}
	case <-time.After(5 * time.Second):
		t.Error("Read did not end")
	}
}

// TestRingSize: what is no size of a ring buffer is an error and not a crash.
func TestRingSize(t *testing.T) {
	labtest.NeedsRoot(t)
	facts, err := kernel.Load()
	labtest.Must(t, err)
	s, err := Load(Config{Facts: facts, RingSize: 5000})
	if err == nil {
		labtest.Must(t, s.Close())
		t.Error("a ring buffer of 5000 bytes: got no error")
	}
	if err != nil && len(fmt.Sprint(err)) > 300 {
		t.Errorf("the error is no sentence: %v", err)
	}
}

func TestRingSizeOfProcessors(t *testing.T) {
	for processors, want := range map[int]uint32{1: 4 << 20, 2: 4 << 20, 3: 8 << 20, 4: 8 << 20, 16: 32 << 20, 1024: 64 << 20} {
		if got := ringSize(false, 0, processors); got != want {
			t.Errorf("%d processors: %d bytes, want %d", processors, got, want)
		}
	}
	if got, want := ringSize(true, 0, 64), uint32(1<<20); got != want {
		t.Errorf("a probe: %d bytes, want %d", got, want)
	}
}

// TestLoadWithoutOne: a program that the kernel rejects costs its hook, not those beside it.
func TestLoadWithoutOne(t *testing.T) {
	labtest.NeedsRoot(t)
	facts, err := kernel.Load()
	labtest.Must(t, err)
	cfg := Config{Facts: facts}
	s, err := Prepare(cfg)
	labtest.Must(t, err)
	t.Cleanup(func() { s.Close() })
	spec, err := s.objects["socket"].parse()
	labtest.Must(t, err)
	broken := spec.Programs["tcp_retransmit_skb"]
	broken.Instructions = asm.Instructions{asm.Return()} // r0 is not set: rejected
	labtest.Must(t, s.Load(cfg))
	for _, h := range s.Hooks() {
		if (h.Err != nil) != (h.Name == "tcp_retransmit_skb") {
			t.Errorf("%s: %v", h.Name, h.Err)
		}
	}
}

// TestSleep: the first event wakes a reader that sleeps, Flush does, and what is there already keeps it
// awake.
func TestSleep(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	s := load(t, Config{})
	r, err := s.Reader()
	labtest.Must(t, err)
	t.Cleanup(func() { r.Close() })
	a, b := open(t, ns, "127.0.0.1:0"), open(t, ns, "127.0.0.1:0")
	labtest.Must(t, s.Watch(Endpoint{Addr: b.addr(), Proto: wire.ProtoUDP}))
	const long = 10 * time.Second
	sleep := func(want bool) {
		t.Helper()
		if got, err := r.Sleep(time.Now().Add(long)); err != nil || got != want {
			t.Fatalf("Sleep: %v, %v, want %v", got, err, want)
		}
	}
	read := func() error {
		t.Helper()
		var e wire.Event
		start := time.Now()
		err := r.Read(&e)
		if took := time.Since(start); took > long/2 {
			t.Errorf("woken after %v", took)
		}
		return err
	}
	sleep(true)
	go func() {
		time.Sleep(50 * time.Millisecond)
		a.send(t, b)
	}()
	labtest.Must(t, read())
	sleep(false) // the packet's other events
	drain(t, r, ns.Inode)
	sleep(true)
	go func() {
		time.Sleep(50 * time.Millisecond)
		_ = r.Flush() // what it does is seen below
	}()
	if err := read(); !IsTimeout(err) {
		t.Errorf("Read after Flush: %v", err)
	}
}

// TestOnlyQueued: of what is sent, only what a queueing discipline keeps is reported as queued.
func TestOnlyQueued(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	s := load(t, Config{OnlyQueued: true})
	if s.Programs()["qdisc_enqueue"] == nil {
		t.Skip("this kernel does not tell what a queueing discipline keeps")
	}
	r, err := s.Reader()
	labtest.Must(t, err)
	t.Cleanup(func() { r.Close() })
	a, b := open(t, ns, "127.0.0.1:0"), open(t, ns, "127.0.0.1:0")
	labtest.Must(t, s.Watch(Endpoint{Addr: b.addr(), Proto: wire.ProtoUDP}))
	for _, q := range []struct {
		name, command string
		queued        int
	}{
		{"none", "true", 0},
		{"one that can be passed by", "tc qdisc replace dev lo root pfifo", 0},
		{"one that keeps each", "tc qdisc replace dev lo root tbf rate 1gbit burst 100000 limit 100000", 1},
		{"one without a lock", "tc qdisc replace dev lo root pfifo_fast", 0},
	} {
		if err := ns.Do(exec.Command("sh", "-c", q.command).Run); err != nil {
			t.Logf("not tried: %s: %v", q.command, err)
			continue
		}
		a.send(t, b)
		at := map[wire.Hook]int{}
		for _, e := range drain(t, r, ns.Inode) {
			at[e.Hook]++
		}
		if at[wire.DevQueue] != q.queued || at[wire.DevXmit] != 1 || at[wire.DevReceive] != 1 {
			t.Errorf("discipline: %s: got %v, want it queued %d times, transmitted and received", q.name, at, q.queued)
		}
	}
}
