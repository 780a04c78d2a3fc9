package tracer

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/merge"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// fakeHost is an agent that does what a test tells.
type fakeHost struct {
	name    string
	version string
	survey  *survey // nil: the line ends instead of an answer
	dialErr error

	mu     sync.Mutex
	orders []agentOrder
}

type fakeConn struct{ net.Conn }

func (fakeConn) Reach() string { return "" }

func (f *fakeHost) spec() HostSpec {
	return HostSpec{Name: f.name, Dial: func(context.Context) (HostConn, error) {
		if f.dialErr != nil {
			return nil, f.dialErr
		}
		here, there := net.Pipe()
		go f.serve(there)
		return fakeConn{here}, nil
	}}
}

func (f *fakeHost) serve(conn net.Conn) {
	defer conn.Close()
	line := &frames{w: conn}
	hello := agentHello{Protocol: agentProtocol, Version: f.version, Host: f.name, BootID: f.name}
	if line.say(agentMessage{Hello: &hello}) != nil {
		return
	}
	in := bufio.NewReader(conn)
	for {
		_, payload, err := readFrame(in)
		if err != nil {
			return
		}
		var o agentOrder
		if json.Unmarshal(payload, &o) != nil {
			return
		}
		f.mu.Lock()
		f.orders = append(f.orders, o)
		f.mu.Unlock()
		switch {
		case o.Survey != nil && f.survey == nil:
			return
		case o.Survey != nil:
			_ = line.say(agentMessage{Survey: f.survey})
		case o.Start != nil:
			_ = line.say(agentMessage{Failed: "cannot start"})
			return
		}
	}
}

// TestHostsRefused: one sentence for each way in which hosts cannot take part.
func TestHostsRefused(t *testing.T) {
	unknown := &survey{Target: end{Problem: `nothing is called "web"`, Unknown: true}}
	web := &survey{Target: end{Local: true}}
	both := &survey{Target: end{Local: true}, Source: end{Local: true, Kind: "container"}}
	for _, c := range []struct {
		name, source string
		hosts        []*fakeHost
		want         string
	}{
		{"unreachable", "", []*fakeHost{{name: "h1", dialErr: errors.New("h1 refuses the connection")}, {name: "h2", dialErr: errors.New("h2 refuses the connection")}},
			"h1 refuses the connection; h2 refuses the connection"},
		{"other version", "", []*fakeHost{{name: "h1", version: "v0"}}, "h1 has pathtrace v0 and here is v1: install the same on both"},
		{"dies", "", []*fakeHost{{name: "h1", version: "v1"}}, "the connection to h1 ended"},
		{"target unknown", "", []*fakeHost{{name: "h1", version: "v1", survey: unknown}, {name: "h2", version: "v1", survey: unknown}},
			`h1: nothing is called "web"; h2: nothing is called "web"`},
		{"source on both", "cli", []*fakeHost{{name: "h1", version: "v1", survey: both}, {name: "h2", version: "v1", survey: both}},
			`"cli" could be any of these: container on h1, container on h2; say which with a name or an ID that only one has`},
		{"host on both", "host", []*fakeHost{{name: "h1", version: "v1", survey: both}, {name: "h2", version: "v1", survey: both}},
			`"host" could be each of them: say which host is meant, as in --from h1`},
		{"does not start", "", []*fakeHost{{name: "h1", version: "v1", survey: web}}, "h1: cannot start"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := HostsConfig{Config: Config{Target: "web:80", Source: c.source, Version: "v1"}}
			for _, h := range c.hosts {
				cfg.Hosts = append(cfg.Hosts, h.spec())
			}
			_, err := RunHosts(t.Context(), cfg)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// TestHostPlan: which address the asker is given, and what the others watch.
func TestHostPlan(t *testing.T) {
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	ends := func(list ...surveyedEnd) end { return end{Local: true, Ends: list} }
	unknown := end{Problem: "unknown", Unknown: true}
	inside := surveyedEnd{Endpoint: Endpoint{Addr: at("172.18.0.2:80"), Proto: path.TCP}, Inside: true}
	published := surveyedEnd{Endpoint: Endpoint{Addr: at("10.0.0.2:8080"), Proto: path.TCP, Published: true}}
	onBridge := surveyedEnd{Endpoint: Endpoint{Addr: at("172.18.0.1:8080"), Proto: path.TCP, Published: true}, Inside: true}
	overlay := surveyedEnd{Endpoint: Endpoint{Addr: at("10.0.1.4:80"), Proto: path.TCP}, Network: "ov"}
	for _, c := range []struct {
		name     string
		networks []string
		target   end
		dial     string
		asker    bool
		also     int
	}{
		{"published", nil, ends(inside, onBridge, published), "10.0.0.2:8080", true, 1},
		{"shared network", []string{"ov"}, ends(inside, published, overlay), "10.0.1.4:80", true, 2},
		{"network that the asker is not on", nil, ends(overlay, published), "10.0.0.2:8080", true, 2},
		{"not published", nil, ends(inside), "", false, 0},
		{"not running", nil, ends(), "", false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			h1 := &remoteHost{name: "h1", found: survey{Source: end{Local: true, Networks: c.networks}, Target: unknown}}
			h2 := &remoteHost{name: "h2", found: survey{Source: unknown, Target: c.target, Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Proto: path.TCP}}
			p, err := newHostPlan(Config{Target: "web:80", Source: "cli"}, []*remoteHost{h1, h2})
			if err != nil {
				t.Fatal(err)
			}
			if p.dial != c.dial || (p.asker == h1) != c.asker {
				t.Errorf("dials %q, asker %v", p.dial, p.asker != nil)
			}
			one, two := &agentConfig{Target: "web:80", Source: "cli"}, &agentConfig{Target: "web:80", Source: "cli"}
			if took := p.apply(h1, one); took != (c.dial != "") || took && (one.Target != c.dial || one.Source != "cli" || !one.Foreign) {
				t.Errorf("h1 takes part %v: %+v", took, one)
			}
			if !p.apply(h2, two) || two.Target != "web:80" || two.Source != "" || !two.Probed || len(two.Also) != 0 {
				t.Errorf("h2: %+v", two)
			}
			watcher := &agentConfig{Target: "web:80"}
			if p.apply(h2, watcher); one.Probed && c.asker || watcher.Probed {
				t.Errorf("probed: the asker %v, without a source %v", one.Probed, watcher.Probed)
			}
			if len(one.Also) != c.also {
				t.Errorf("h1 watches %v too", one.Also)
			}
		})
	}
}

// TestAgentHears: an agent says who it is, and ends when its line does.
func TestAgentHears(t *testing.T) {
	here, there := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- ServeAgent(t.Context(), there, there, "v1") }()
	kind, payload, err := readFrame(bufio.NewReader(here))
	if err != nil || kind != frameMessage || !strings.Contains(string(payload), `"version":"v1"`) {
		t.Fatalf("%c %s %v", kind, payload, err)
	}
	here.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the agent goes on without a line")
	}
}

// FuzzReadFrame: whatever comes over the line, it is a frame or an error, and takes bounded memory.
func FuzzReadFrame(f *testing.F) {
	f.Add("M\x00\x00\x00\x02{}")
	f.Add("R\xff\xff\xff\xff")
	f.Fuzz(func(t *testing.T, text string) {
		kind, payload, err := readFrame(bufio.NewReader(strings.NewReader(text)))
		if err == nil && (kind != frameMessage && kind != frameRecording || len(payload) > maxFrame || len(payload)+5 > len(text)) {
			t.Errorf("%c %q", kind, payload)
		}
	})
}

// TestPace: recordings are read side by side, none far ahead, whatever their clocks say.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		relative bool
		offset   int64
	}{{false, 0}, {true, 3600e9}} {
		p := newPace(2)
		p.relative = c.relative
		var mu sync.Mutex
		reached := [2]int64{}
		var all sync.WaitGroup
		for i := range 2 {
			all.Go(func() {
				defer p.end(i)
				for step := range int64(100) {
					now := step * 1e8
					p.step(t.Context(), i, 1e18+now+int64(i)*c.offset)
					mu.Lock()
					reached[i] = now
					if other := reached[1-i]; now-other > 2*lead && other != 99*1e8 {
						t.Errorf("recording %d is %v ahead", i, time.Duration(now-other))
					}
					mu.Unlock()
				}
			})
		}
		all.Wait()
	}
}

// joinPaths are what two hosts saw of one connection.
func joinPaths(start uint64) [2]*path.Path {
	var out [2]*path.Path
	client, server := netip.MustParseAddrPort("10.0.0.1:4000"), netip.MustParseAddrPort("10.0.0.2:80")
	for i := range out {
		at := start + uint64(i)*1e6
		hop := path.Hop{Direction: path.Request, NetNS: 1, Stage: path.StageDevice, Action: path.ActionTransmit, SrcAddr: client,
			DstAddr: server, Time: at}
		back := hop
		back.Direction, back.Time = path.Reply, start+3e6-uint64(i)*1e6
		out[i] = &path.Path{Proto: path.TCP, Client: client, Server: server, Source: client, Target: server, Start: at, End: back.Time,
			Packets: []*path.Packet{
				{Direction: path.Request, TCPFlags: "S", Seq: 9, Ident: 9, Hops: []path.Hop{hop}},
				{Direction: path.Reply, TCPFlags: "SA", Seq: 5, Ack: 10, Hops: []path.Hop{back}},
			}}
	}
	return out
}

// TestJoinWaits: by wall clocks that may be wrong nothing is given up before they were compared; then as
// much longer as they are apart.
func TestJoinWaits(t *testing.T) {
	flows := 0
	now := int64(1e18)
	j := newHostJoin([]merge.Host{{Name: "h1", BootID: "a"}, {Name: "h2", BootID: "b", Wall: 7e9}}, -1, func(Flow) { flows++ })
	j.now, j.byWall = func() int64 { return now }, true
	views := joinPaths(1e10)
	j.view(0, views[0], nil)
	now += int64(time.Hour)
	if j.ready(2, hold); flows != 0 {
		t.Fatal("a flow was decided before the clocks were compared")
	}
	j.view(1, views[1], nil)
	if j.ready(2, hold); flows != 1 || j.apart < 6e9 {
		t.Fatalf("%d flows, clocks %v apart", flows, time.Duration(j.apart))
	}
	j.view(0, joinPaths(2e10)[0], nil)
	now += int64(hold) + int64(time.Second)
	if j.ready(2, hold); flows != 1 {
		t.Error("a flow was not held for as long as the clocks are apart")
	}
	now += int64(7 * time.Second)
	if j.ready(2, hold); flows != 2 {
		t.Error("a flow that one host saw waits for ever")
	}
}

// TestApart: recordings that have nothing to do with each other are said to.
func TestApart(t *testing.T) {
	p := newPace(2)
	base := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local).UnixNano()
	p.first, p.at = []int64{base + 3600e9, base}, []int64{base + 3660e9, base + 60e9}
	want := "the recordings of h2 and h1 do not overlap: the one ends at 2026-01-02 03:05:05, the other begins at 2026-01-02 04:04:05, and no packet is in both"
	if got := p.between(0, 1, []string{"h1", "h2"}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.first[0] = base
	if got := p.between(0, 1, []string{"h1", "h2"}); !strings.Contains(got, "no packet is in both recordings") {
		t.Error(got)
	}
}
