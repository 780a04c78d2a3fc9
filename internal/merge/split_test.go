package merge

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// script is a file of events in text form, recorded on one kernel that saw every namespace.
type script struct {
	events  []wire.Event
	reasons map[uint32]string
	symbols map[uint64]string
	targets []netip.AddrPort
}

func (s *script) Symbol(addr uint64) string        { return s.symbols[addr] }
func (s *script) DropReason(reason uint32) string  { return s.reasons[reason] }
func (s *script) ResetReason(reason uint32) string { return "" }

func (s *script) isTarget(ap netip.AddrPort, _ uint8) bool {
	return slices.ContainsFunc(s.targets, func(t netip.AddrPort) bool {
		return t.Addr() == ap.Addr() && (t.Port() == 0 || t.Port() == ap.Port())
	})
}

func readScript(t *testing.T, file string) *script {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{reasons: map[uint32]string{}, symbols: map[uint64]string{}}
	for line := range strings.Lines(string(text)) {
		switch w := strings.Fields(line); {
		case len(w) < 3 || w[0] != "#!":
		case w[1] == "target":
			if ap, err := netip.ParseAddrPort(w[len(w)-1]); err == nil {
				s.targets = append(s.targets, ap)
			}
		case w[1] == "symbol":
			addr, _ := strconv.ParseUint(w[2], 16, 64)
			s.symbols[addr] = w[3]
		case w[1] == "reason":
			n, _ := strconv.ParseUint(w[2], 10, 32)
			s.reasons[uint32(n)] = w[3]
		}
	}
	for e, err := range wire.ReadText(bytes.NewReader(text)) {
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		s.events = append(s.events, e)
	}
	return s
}

// follow runs the events of some namespaces, with the clock ahead by so much, through a tracker.
func (s *script) follow(in func(uint32) bool, ahead uint64) []*path.Path {
	var out []*path.Path
	t := flow.New(flow.Config{Namer: s, IsTarget: s.isTarget, OnDone: func(p *path.Path) { out = append(out, p) }})
	for _, e := range s.events {
		if in(e.NetNS) {
			e.Time += ahead
			t.Add(&e)
		}
	}
	t.Flush()
	return out
}

// traces lists files with traces of several namespaces.
func traces(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"../../tracer/testdata/*.events", "../flow/testdata/vxlan.events",
		"../flow/testdata/recorded_*.events", "../flow/testdata/udp_answered.events", "../flow/testdata/echo_v*.events"} {
		list, err := filepath.Glob(pattern)
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %v, %d files", pattern, err, len(list))
		}
		files = append(files, list...)
	}
	return files
}

// TestSplit gives the namespaces of a trace to two hosts with clocks of their own: what is merged of what
// each of them saw is what one host sees of all.
func TestSplit(t *testing.T) {
	for _, file := range traces(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".events"), func(t *testing.T) {
			s := readScript(t, file)
			whole := s.follow(func(uint32) bool { return true }, 0)
			var spaces []uint32
			for _, e := range s.events {
				if e.NetNS != 0 && !slices.Contains(spaces, e.NetNS) {
					spaces = append(spaces, e.NetNS)
				}
			}
			slices.Sort(spaces)
			for subset := 1; subset < 1<<len(spaces)-1 && subset < 64; subset++ {
				second := map[uint32]bool{}
				for i, ns := range spaces {
					second[ns] = subset>>i&1 == 1
				}
				if second[1000] != second[1010] || second[1020] != second[1021] {
					continue // a host of the overlay and the namespace that it keeps for it
				}
				s.check(t, whole, second, rand.New(rand.NewPCG(1, uint64(subset))))
			}
		})
	}
}

// check merges what the hosts saw, of which the second has the namespaces named.
func (s *script) check(t *testing.T, whole []*path.Path, second map[uint32]bool, r *rand.Rand) {
	t.Helper()
	const hour = 3600 * 1e9
	ahead := r.Int64N(2*hour) - hour
	const base = int64(2 * hour) // no time is below zero
	hosts := []Host{{Name: "h1", BootID: "a", Wall: -base}, {Name: "h2", BootID: "b", Wall: r.Int64N(2*hour) - hour - base}}
	joiner := NewJoiner(hosts)
	var views []View
	for _, p := range s.follow(func(ns uint32) bool { return !second[ns] }, uint64(base)) {
		views = append(views, View{Host: 0, Path: p})
	}
	for _, p := range s.follow(func(ns uint32) bool { return second[ns] }, uint64(base+ahead)) {
		views = append(views, View{Host: 1, Path: p})
	}
	r.Shuffle(len(views), func(i, j int) { views[i], views[j] = views[j], views[i] })
	for _, v := range views {
		joiner.Add(v, 0)
	}
	var clocks Clocks
	var got []*path.Path
	for _, list := range joiner.Flush() {
		x := clocks.Join(hosts, list)
		x.Restore()
		got = append(got, x.Path)
		o, ok := x.Offsets[1]
		truth := ahead
		if x.Reference == 1 {
			o, ok = x.Offsets[0]
			truth = -ahead
		}
		if off := o.NS - truth; ok && o.Error != Unbounded && max(off, -off) > o.Error {
			t.Errorf("second host %v: offset %d ± %d, in truth %d", second, o.NS, o.Error, truth)
		}
	}
	order := func(a, b *path.Path) int {
		return cmp.Or(cmp.Compare(a.Packets[0].Seq, b.Packets[0].Seq), a.Client.Compare(b.Client))
	}
	slices.SortFunc(got, order)
	slices.SortFunc(whole, order)
	if got, want := text(got), text(whole); got != want && !comesBack(whole, second) {
		t.Errorf("second host %v:\n%s", keys(second), diff(got, want))
	}
}

// comesBack reports whether a packet leaves one of the hosts and comes back to it: how its addresses
// changed meanwhile each host has to guess.
func comesBack(paths []*path.Path, second map[uint32]bool) bool {
	for _, p := range paths {
		for _, pkt := range p.Packets {
			changes := 0
			for i := range pkt.Hops {
				if i > 0 && second[pkt.Hops[i].NetNS] != second[pkt.Hops[i-1].NetNS] {
					changes++
				}
			}
			if changes > 1 {
				return true
			}
		}
	}
	return false
}

func keys(m map[uint32]bool) []uint32 {
	out := slices.Collect(maps.Keys(m))
	return slices.DeleteFunc(out, func(n uint32) bool { return !m[n] })
}

// text is what has to be the same, without times.
func text(paths []*path.Path) string {
	var b strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&b, "%s %s > %s, %s > %s; established in %d by %d, delivered in %d, closed %v, midstream %v\n", p.Proto,
			p.Client, p.Server, p.Source, p.Target, p.ServerNetNS, p.ClientNetNS, p.DeliverNetNS, p.Closed, p.Midstream)
		for _, n := range p.NAT {
			fmt.Fprintf(&b, "  %s %s %s %d\n", n.Kind, n.From, n.To, n.NetNS)
		}
		for _, pkt := range p.Packets {
			fmt.Fprintf(&b, "  %s %s %d again %v\n", pkt.Direction, pkt.TCPFlags, pkt.Length, pkt.Retransmission)
			for i := range pkt.Hops {
				h := &pkt.Hops[i]
				if h.Stage == path.StageRoute {
					continue // whose a look-up is depends on what else the processor was seen doing
				}
				fmt.Fprintf(&b, "    %d %s %s/%s %s > %s %s %v\n", h.NetNS, h.Device, h.Stage, h.Action, h.Src, h.Dst, h.Reason, h.Outer != nil)
			}
		}
	}
	return b.String()
}

// diff lists the lines that only one text has.
func diff(got, want string) string {
	var b strings.Builder
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		x, y := "", ""
		if i < len(g) {
			x = g[i]
		}
		if i < len(w) {
			y = w[i]
		}
		if x != y {
			fmt.Fprintf(&b, "line %d\n got  %s\n want %s\n", i, x, y)
		}
	}
	return b.String()
}
