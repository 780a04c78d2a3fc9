package render

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestDuration(t *testing.T) {
	for _, c := range []struct {
		ns   int64
		want string
	}{
		{0, "0 µs"}, {400, "0.4 µs"}, {999, "1 µs"}, {41_499, "41 µs"}, {999_400, "999 µs"},
		{999_600, "1.00 ms"}, {1_234_567, "1.23 ms"}, {9_996_000, "10.0 ms"}, {99_960_000, "100 ms"},
		{999_499_000, "999 ms"}, {999_500_000, "1.00 s"}, {1_020_000_000, "1.02 s"},
		{75_000_000_000, "75.0 s"}, {3_600_000_000_000, "3600 s"}, {-5000, "-5 µs"},
	} {
		if got := path.FormatDuration(c.ns); got != c.want {
			t.Errorf("path.FormatDuration(%d) = %q, want %q", c.ns, got, c.want)
		}
	}
}

func TestOffset(t *testing.T) {
	for ns, want := range map[int64]string{
		0: "+0 µs", 9_400: "+9 µs", 999_499: "+999 µs", 999_500: "+1.000 ms", 1_214_000: "+1.214 ms",
		1_020_010_000: "+1.020010 s", -3000: "-3 µs",
	} {
		if got := offset(ns); got != want {
			t.Errorf("offset(%d) = %q, want %q", ns, got, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{ordinal(1), "1st"}, {ordinal(2), "2nd"}, {ordinal(3), "3rd"}, {ordinal(11), "11th"},
		{ordinal(12), "12th"}, {ordinal(21), "21st"}, {ordinal(113), "113th"},
		{path.FormatNumber(0), "0"}, {path.FormatNumber(999), "999"}, {path.FormatNumber(1234567), "1,234,567"},
		{path.FormatCount(1, "packet"), "1 packet"}, {path.FormatCount(2, "packet"), "2 packets"},
		{shorten("abcdefgh", 5), "ab…gh"}, {shorten("abcdefgh", 2), "a…"}, {shorten("äöü", 3), "äöü"},
		{shortenEnd("abc", 0), ""}, {clean("a\x1b[1mb\r\nc\u202e\xff"), "a?[1mb? c??"},
		{hostOf("[fd00::2]:80"), "fd00::2"}, {hostOf("fd00::2"), "fd00::2"}, {hostOf("10.0.0.1"), "10.0.0.1"},
		{endpoint(addr("10.0.0.1")), "10.0.0.1"}, {endpoint(addr("[fd00::2]:80")), "[fd00::2]:80"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  []string
	}{
		{"", 10, []string{""}},
		{"one two three", 7, []string{"one two", "three"}},
		{"a 123456789012 b", 5, []string{"a", "12345", "67890", "12 b"}},
		{"→→→ ←", 3, []string{"→→→", "←"}},
	} {
		if got := wrap(c.in, c.width); !slices.Equal(got, c.want) {
			t.Errorf("wrap(%q, %d) = %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

func TestError(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("no container web"), "pathtrace: no container web\n"},
		{errors.Join(errors.New("first"), errors.New("second \x1b[1m")), "pathtrace: first; second ?[1m\n"},
	} {
		var buf bytes.Buffer
		Error(&buf, c.err)
		if got := buf.String(); got != c.want {
			t.Errorf("Error(%v) wrote %q, want %q", c.err, got, c.want)
		}
	}
}

func TestPackets(t *testing.T) {
	ids := func(p *path.Path, all bool) []int {
		var out []int
		for _, pkt := range shownPackets(p, all) {
			out = append(out, pkt.ID)
		}
		return out
	}
	tcp, _ := sameBridge()
	advised, _ := reject()
	advised.Packets[1].Hops[0].ICMP = "type 5 code 1 (redirect)"
	drops, _ := midstreamDrops()
	udp, _ := udpAnswered()
	for _, c := range []struct {
		name string
		got  []int
		want []int
	}{
		{"nothing", ids(nil, false), nil},
		{"tcp", ids(tcp, false), []int{1, 2, 3, 4, 5}},
		{"tcp all", ids(tcp, true), []int{1, 2, 3, 4, 5, 6}},
		{"dropped data", ids(drops, false), []int{2, 3, 4}},
		{"advised of a shorter way", ids(advised, false), []int{1}},
		{"udp", ids(udp, false), []int{1, 2}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: packets %v, want %v", c.name, c.got, c.want)
		}
	}
}

func TestSteps(t *testing.T) {
	p, _ := dnatMasquerade()
	var got []string
	for _, g := range steps(p, false) {
		for _, s := range g.Steps {
			got = append(got, strings.Join([]string{g.Section, g.Where, s.Device, s.Text}, "|"))
		}
	}
	want := []string{
		"request|container cli|eth0|SYN sent to 10.99.0.11:8080",
		"request|host|veth3f1a|received from cli",
		"request|host||DNAT 10.99.0.11:8080 → 172.18.0.2:80",
		"request|host||masquerade 172.18.0.3:40312 → 172.18.0.1:40312",
		"request|host|veth77c0|forward veth3f1a → bridge app → veth77c0",
		"request|container web|eth0|received",
		"request|container web||accepted by the listening socket",
		"reply|container web|eth0|SYN-ACK sent to 172.18.0.1:40312",
		"reply|host|veth77c0|received from web",
		"reply|host||undo DNAT 172.18.0.2:80 → 10.99.0.11:8080",
		"reply|host||undo masquerade 172.18.0.1:40312 → 172.18.0.3:40312",
		"reply|host|veth3f1a|forward veth77c0 → bridge app → veth3f1a",
		"reply|container cli|eth0|received",
		"reply|container cli||connection established",
		"then|||connection established at web",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := steps(nil, false); got != nil {
		t.Errorf("steps(nil, false) = %v, want nil", got)
	}
}

func TestLatencies(t *testing.T) {
	var l latencies
	if got, want := l.texts(), []string{"-", "-", "-", "-"}; !slices.Equal(got, want) {
		t.Errorf("without samples %q, want %q", got, want)
	}
	for i := range int64(100) {
		l.add((100 - i) * 1000)
	}
	if got, want := l.texts(), []string{"1 µs", "50 µs", "99 µs", "100 µs"}; !slices.Equal(got, want) {
		t.Errorf("of 1 to 100 µs %q, want %q", got, want)
	}
	for range 100_000 {
		l.add(5000)
	}
	if got, want := len(l.sample), maxSamples; got != want {
		t.Errorf("%d samples kept, want %d", got, want)
	}
	if got, want := l.texts()[3], "100 µs"; got != want {
		t.Errorf("maximum %q, want %q", got, want)
	}
}

func TestTallyIsBounded(t *testing.T) {
	tl := newTally()
	for i := range maxClients + 100 {
		v := path.Verdict{Outcome: path.Lost, Cause: path.Cause(strings.Repeat("x", i%(2*maxPlaces)))}
		tl.add(ends{src: "10.0.0.1:1", srcName: "c" + ordinal(i)}, v)
		tl.add(ends{src: "10.0.0.2:1"}, v)
	}
	if got, limit := len(tl.clients), maxClients+1; got > limit {
		t.Errorf("%d clients counted apart, want at most %d", got, limit)
	}
	if got, want := tl.all.flows, 2*(maxClients+100); got != want {
		t.Errorf("%d flows, want %d", got, want)
	}
	if got, limit := len(tl.clients["10.0.0.2"].places), maxPlaces+1; got > limit {
		t.Errorf("%d places counted apart, want at most %d", got, limit)
	}
}

func TestHasFlag(t *testing.T) {
	for _, c := range []struct {
		flags, name string
		want        bool
	}{
		{"S", "SYN", true}, {"SA", "SYN", true}, {"SA", "ACK", true}, {"SA", "RST", false}, {"PA", "SYN", false},
		{"SYN|ACK", "ACK", true}, {"RST", "SYN", false}, {"FIN-ACK", "FIN", true}, {"FIN", "ACK", false}, {"", "SYN", false},
	} {
		if got := hasFlag(c.flags, c.name); got != c.want {
			t.Errorf("hasFlag(%q, %q) = %t, want %t", c.flags, c.name, got, c.want)
		}
	}
}

func TestEnds(t *testing.T) {
	nat, _ := dnatMasquerade()
	for _, c := range []struct {
		name           string
		p              *path.Path
		v              path.Verdict
		client, target string
	}{
		{"names", nat, path.Verdict{Src: cliAddr, Dst: pubAddr, SrcName: "cli", DstName: "web"}, "cli (172.18.0.3)", "web:80"},
		{"from the path", nat, path.Verdict{}, "cli (172.18.0.3)", "web:80"},
		{"asked for an address", nat, path.Verdict{Src: cliAddr, Dst: pubAddr, SrcName: "172.18.0.3", DstName: "10.99.0.11"},
			"172.18.0.3", pubAddr},
		{"asked for the host", nat, path.Verdict{Src: cliAddr, Dst: pubAddr, DstName: "host"}, "cli (172.18.0.3)", "host:8080"},
		{"no path", nil, path.Verdict{SrcName: "cli", DstName: "web"}, "cli", "web"},
		{"nothing", nil, path.Verdict{}, "", ""},
	} {
		e := endsOf(c.p, c.v)
		if e.client() != c.client || e.target() != c.target {
			t.Errorf("%s: %q → %q, want %q → %q", c.name, e.client(), e.target(), c.client, c.target)
		}
	}
}

// FuzzFlow feeds any order of hops: nothing may panic, exceed the width or write control characters.
func FuzzFlow(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
	f.Add(bytes.Repeat([]byte{7, 3, 200, 31}, 20))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := fuzzPath(data)
		for _, o := range []Options{{}, {Verbose: true}, {AllPackets: true, Width: minWidth}} {
			checkText(t, "", o.Width, func(w Options) {
				w.Verbose, w.AllPackets = o.Verbose, o.AllPackets
				must(t, NewText(w).Flow(p, path.Verdict{Outcome: path.Lost, Summary: string(data)}))
			})
		}
	})
}

// fuzzPath turns bytes into hops of a few packets.
func fuzzPath(data []byte) *path.Path {
	b := newBuilder([]path.Proto{path.TCP, path.UDP, path.ICMP}[len(data)%3], cliAddr, webAddr)
	stages := []path.Stage{path.StageDevice, path.StageQdisc, path.StageForward, path.StageRoute, path.StageVXLAN, path.StageTCP}
	actions := []path.Action{
		path.ActionSend, path.ActionQueue, path.ActionTransmit, path.ActionReceive, path.ActionEnter, path.ActionDNAT,
		path.ActionMasquerade, path.ActionEncapsulate, path.ActionDecapsulate, path.ActionFragment, path.ActionDeliver,
		path.ActionDrop, path.ActionReject, path.ActionReset,
	}
	flags := []string{"SYN", "SYN-ACK", "ACK", "FIN-ACK", "RST", ""}
	spots := []spot{cliSpot, webSpot, hostSpot, outside, {}}
	var pkt *packetBuilder
	for i := 0; i+3 < len(data); i += 4 {
		if pkt == nil || data[i]&1 == 0 {
			dir := []path.Direction{path.Request, path.Reply, ""}[data[i]%3]
			pkt = b.packet(dir, flags[int(data[i])%len(flags)], cliAddr, webAddr)
			pkt.pkt.Retransmission, pkt.pkt.ICMPError = data[i]&16 != 0, data[i]&96 == 96
		}
		dev := []string{"eth0", "br-app", "veth1", "", string(data[i:])}[data[i+1]%5]
		kind := []string{"veth", "bridge", "physical", ""}[data[i+1]>>3%4]
		bridge := []string{"", "br-app"}[data[i+1]>>7]
		pkt.in(spots[int(data[i+2])%len(spots)])
		pkt.hop(int64(data[i+2])*int64(data[i+3]), dev, kind, bridge, stages[int(data[i+3])%len(stages)],
			actions[int(data[i+3])%len(actions)], func(h *path.Hop) {
				if data[i+2]&64 != 0 {
					h.Outer = &path.Outer{VNI: uint32(i)}
				}
				h.Noise, h.Copy = data[i]&0xf8 == 0xf8, data[i]&0x3e == 0x3e
			})
	}
	return b.p
}
