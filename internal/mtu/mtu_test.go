package mtu

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func hop(ns uint32, device string, mtu uint32, action path.Action) path.Hop {
	return path.Hop{NetNS: ns, Namespace: "ns", Device: device, DeviceMTU: mtu, Stage: path.StageDevice, Action: action}
}

func within(h path.Hop, src string) path.Hop {
	h.Outer = &path.Outer{Src: src, Dst: src, VNI: 42}
	return h
}

// encrypted is the last that is seen of a tunnel's packet before it leaves a device in ESP.
func encrypted(ns uint32, device string, mtu uint32, src string) path.Hop {
	h := within(hop(ns, device, mtu, path.ActionEncapsulate), src)
	h.Stage, h.SPI = path.StageXfrm, 0x1000
	return h
}

func TestLinks(t *testing.T) {
	for _, c := range []struct {
		name  string
		hops  []path.Hop
		want  []int // what each link carries
		least int
	}{
		{"a veth pair, seen twice at each end", []path.Hop{
			hop(1, "eth0", 1500, path.ActionTransmit), hop(2, "veth1", 1500, path.ActionReceive),
			hop(2, "veth1", 1500, path.ActionReceive)}, []int{1500, 1500}, 1500},
		{"VXLAN over IPv4", []path.Hop{hop(1, "vxlan0", 1450, path.ActionTransmit),
			within(hop(2, "eth0", 1500, path.ActionTransmit), "192.0.2.1:4789")}, []int{1450, 1450}, 1450},
		{"VXLAN over IPv6", []path.Hop{hop(1, "vxlan0", 1450, path.ActionTransmit),
			within(hop(2, "eth0", 1500, path.ActionTransmit), "[fd00::1]:4789")}, []int{1450, 1430}, 1430},
		{"an encrypted overlay", []path.Hop{hop(1, "vxlan0", 1424, path.ActionTransmit), encrypted(2, "eth0", 1500, "192.0.2.1:4789")},
			[]int{1424, 1424}, 1424},
		{"an encrypted overlay over less", []path.Hop{encrypted(2, "eth0", 1401, "192.0.2.1:4789")}, []int{1324}, 1324},
		{"an encrypted overlay over IPv6", []path.Hop{encrypted(2, "eth0", 1500, "[fd00::1]:4789")}, []int{1404}, 1404},
		{"what is no device, a copy, or unknown", []path.Hop{
			{NetNS: 1, Device: "eth0", Stage: path.StageQdisc, Action: path.ActionQueue},
			{NetNS: 1, Device: "eth1", Stage: path.StageDevice, Action: path.ActionReceive, Copy: true},
			hop(1, "eth0", 0, path.ActionTransmit)}, []int{0}, 0},
	} {
		links := Links(&path.Packet{Hops: c.hops})
		var got []int
		for _, l := range links {
			got = append(got, l.Carries)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: got %d links %v, want %v", c.name, len(got), got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: link %d carries %d, want %d", c.name, i, got[i], c.want[i])
			}
		}
		if least := Declared(links); least != c.least {
			t.Errorf("%s: declared are %d, want %d", c.name, least, c.least)
		}
	}
}

func drop(function, reason string) path.Hop {
	h := hop(2, "in", 1500, path.ActionDrop)
	h.Function, h.Reason = function, reason
	return h
}

func TestEnd(t *testing.T) {
	sent := hop(1, "eth0", 1500, path.ActionTransmit)
	told := path.Hop{NetNS: 2, Action: path.ActionReject, Stage: path.StageICMP, MTU: 1400}
	ruled := hop(2, "", 0, path.ActionDrop)
	ruled.Stage = path.StageOutput
	for _, c := range []struct {
		name string
		fate Fate
		want path.TooBigEnd
		lost bool
		mtu  int
	}{
		{"a router told", Fate{Packet: &path.Packet{Hops: []path.Hop{sent, told, drop("ip_forward", "PKT_TOO_BIG")}}, Told: true, NextHopMTU: 1400},
			path.TooBigAnswered, false, 1400},
		{"a rule ate it", Fate{Packet: &path.Packet{Hops: []path.Hop{sent, told, drop("ip_forward", "PKT_TOO_BIG")}},
			Errors: []*path.Packet{{ICMPError: true, Hops: []path.Hop{ruled}}}}, path.TooBigUnanswered, true, 1400},
		{"it got lost unseen", Fate{Packet: &path.Packet{Hops: []path.Hop{sent, told, drop("ip_forward", "PKT_TOO_BIG")}}},
			path.TooBigUnanswered, false, 1400},
		{"a bridge", Fate{Packet: &path.Packet{Hops: []path.Hop{sent, drop("br_dev_queue_push_xmit", "NOT_SPECIFIED")}}}, path.TooBigSilent, false, 0},
		{"nobody we know", Fate{Packet: &path.Packet{Hops: []path.Hop{sent}}}, path.TooBigUnseen, false, 0},
		{"nothing seen", Fate{}, path.TooBigUnseen, false, 0},
		{"the own kernel", Fate{Refused: true}, path.TooBigRefused, false, 0},
		{"a copy was dropped", Fate{Packet: &path.Packet{Hops: []path.Hop{sent, {Action: path.ActionDrop, Copy: true}}}}, path.TooBigUnseen, false, 0},
	} {
		e := c.fate.End()
		if e.Kind != c.want || (e.Lost != nil) != c.lost || e.NextHopMTU != c.mtu {
			t.Errorf("%s: got %s, lost at %v, MTU %d, want %s, %v, %d", c.name, e.Kind, e.Lost, e.NextHopMTU, c.want, c.lost, c.mtu)
		}
	}
}

func TestSettle(t *testing.T) {
	m := silent(path.Request, 1500, 0)
	m.Links[2].Limit, m.End, m.Discovery = false, nil, ""
	gone := drop("br_dev_queue_push_xmit", "NOT_SPECIFIED")
	gone.NetNS, gone.Device = 3, "port"
	Settle(&m, &Fate{Packet: &path.Packet{Hops: []path.Hop{hop(1, "eth0", 1500, path.ActionTransmit), gone}}})
	if m.Discovery != path.DiscoveryFails || !m.Links[2].Limit || m.Links[0].Limit || m.End.Kind != path.TooBigSilent {
		t.Errorf("got %+v", m)
	}
	if text := strings.Join(m.Notes, "\n"); !strings.Contains(text, "GSO") || !strings.Contains(text, "1404 bytes pass where 1400 are declared") {
		t.Errorf("notes: %s", text)
	}
	if Usable(&m) != 1400 {
		t.Errorf("usable are %d, want the declared 1400", Usable(&m))
	}
	m.Links[0].GSOMaxSegments, m.Notes = 1, nil
	if Settle(&m, &Fate{Packet: &path.Packet{Hops: []path.Hop{gone}}}); strings.Contains(strings.Join(m.Notes, "\n"), "GSO") {
		t.Error("GSO is named where a device takes single packets only")
	}
}

// silent is a direction in which packets of more than 1404 bytes vanish at a bridge.
func silent(d path.Direction, tcp, cached int) path.MTU {
	return path.MTU{Direction: d, Proto: path.TCP, Src: "10.0.0.1:1", Dst: "10.0.0.2:80", MTU: 1404, TooBig: 1405, SenderMTU: 1500,
		Declared: 1400, TCPPacket: tcp, CachedMTU: cached, Discovery: path.DiscoveryFails,
		Links: []path.MTULink{{NetNS: 1, Device: "eth0", Container: "client", Network: "app", MTU: 1500, Carries: 1500},
			{NetNS: 2, Device: "br-app", Network: "app", MTU: 1500, Carries: 1500},
			{NetNS: 3, Namespace: "switch", Device: "port", MTU: 1400, Carries: 1400, Limit: true}},
		End: &path.MTUEnd{Kind: path.TooBigSilent, Where: &path.Where{Namespace: "switch", Device: "port", Function: "br_dev_queue_push_xmit"}}}
}

func TestConclude(t *testing.T) {
	facts := func(directions ...path.MTU) Facts {
		return Facts{Directions: directions, Source: "client", Target: "web", Complete: true,
			Spaces:   map[uint32]Space{1: {Enter: "nsenter --net=/n ", Container: "client"}, 2: {Clamp: "iptables", Forwards: true}},
			Networks: map[string]Network{"app": {Driver: "bridge"}}}
	}
	expecting := facts(path.MTU{Direction: path.Request, Proto: path.TCP, MTU: 1400, TooBig: 1401, SenderMTU: 1500, Discovery: path.DiscoveryWorks,
		End: &path.MTUEnd{Kind: path.TooBigAnswered}})
	content := expecting
	expecting.Expect = 1450
	whole := path.MTU{Direction: path.Reply, Proto: path.TCP, MTU: 1500, SenderMTU: 1500, Discovery: path.DiscoveryUnneeded}
	for _, c := range []struct {
		name    string
		facts   Facts
		outcome path.Outcome
		cause   path.Cause
		warning path.Cause
		says    []string
	}{
		{"a hole", facts(silent(path.Request, 1500, 0), whole), path.Dropped, path.CauseMTUBlackhole, "",
			[]string{"packets of more than 1404 bytes from client vanish before port in switch (MTU 1400)", "the sender is not told",
				"nsenter --net=/n ip link set eth0 mtu 1400", "--driver bridge --opt com.docker.network.driver.mtu=1400 app-mtu",
				"--mss 1361:65535 -j TCPMSS --set-mss 1360"}},
		{"a hole that TCP does not fall into", facts(silent(path.Request, 1400, 0), whole), path.Delivered, "", path.CauseMTUBlackhole,
			[]string{"TCP is safe"}},
		{"a hole that TCP does not fall into as long as the route cache says so", facts(silent(path.Request, 1400, 1400), whole), path.Dropped,
			path.CauseMTUBlackhole, "", nil},
		{"holes both ways", facts(silent(path.Request, 1500, 0), silent(path.Reply, 1500, 0)), path.Dropped, path.CauseMTUBlackhole, "",
			[]string{"from web vanish before port in switch (MTU 1400) as well"}},
		{"discovery works", content, path.Delivered, "", path.CausePacketTooBig, []string{"path MTU discovery works"}},
		{"less than expected", expecting, path.Dropped, path.CausePacketTooBig, path.CausePacketTooBig, []string{"1450 bytes are expected", "1400 do"}},
		{"open", facts(whole, whole), path.Delivered, "", "", []string{"1500 bytes pass from web to client and back"}},
		{"the way back is not ours", facts(path.MTU{Direction: path.Request, Proto: path.ICMP, MTU: 1400, SenderMTU: 1400, Discovery: path.DiscoveryUnneeded}),
			path.Delivered, "", "", []string{"1400 bytes pass from client to web; the device of client sends nothing larger; the way back could not be measured: " +
				"web is in none of the namespaces here, and answers no echoes"}},
		{"a route that allows less", facts(path.MTU{Direction: path.Request, MTU: 1500, SenderMTU: 1500, RouteMTU: 1300, Discovery: path.DiscoveryUnneeded}, whole),
			path.Delivered, "", path.CausePacketTooBig, []string{"the route of client says MTU 1300, so that it sends nothing larger this way; 1500 bytes would pass"}},
		{"not measured", facts(path.MTU{Direction: path.Request}), path.Lost, "", "", []string{"could not be measured"}},
	} {
		v := Conclude(c.facts)
		if v.Outcome != c.outcome || v.Cause != c.cause {
			t.Errorf("%s: got %s %q (%s), want %s %q", c.name, v.Outcome, v.Cause, v.Summary, c.outcome, c.cause)
		}
		var warning path.Cause
		if len(v.Warnings) > 0 {
			warning = v.Warnings[0].Cause
		}
		if warning != c.warning {
			t.Errorf("%s: warnings %v, want %q", c.name, v.Warnings, c.warning)
		}
		text := v.Summary + "\n" + strings.Join(v.Evidence, "\n") + "\n" + strings.Join(v.Remedy, "\n")
		for _, w := range v.Warnings {
			text += "\n" + w.Summary
		}
		for _, s := range c.says {
			if !strings.Contains(text, s) {
				t.Errorf("%s: no %q in\n%s", c.name, s, text)
			}
		}
	}
}

// TestRaise: all devices that carry less than expected are named, on both ways, each once; and the route.
func TestRaise(t *testing.T) {
	narrow := func(d path.Direction, carries ...int) path.MTU {
		m := path.MTU{Direction: d, MTU: 1350, TooBig: 1351, SenderMTU: 1450, Discovery: path.DiscoveryWorks, End: &path.MTUEnd{Kind: path.TooBigAnswered}}
		for i, n := range carries {
			m.Links = append(m.Links, path.MTULink{NetNS: uint32(i + 1), Device: "eth0", MTU: n + 50, Overhead: 50, Carries: n})
		}
		return m
	}
	spaces := map[uint32]Space{}
	for i := range uint32(4) {
		spaces[i+1] = Space{Enter: fmt.Sprintf("nsenter --net=/%d ", i+1)}
	}
	back := narrow(path.Reply, 1450, 1350, 1450)
	v := Conclude(Facts{Directions: []path.MTU{narrow(path.Request, 1350, 1350, 1450, 0), back}, Expect: 1450, Spaces: spaces,
		Detours: map[path.Direction]string{path.Reply: "go round"}})
	const price = "  # only if all that is attached to that link carries it"
	want := []string{"nsenter --net=/1 ip link set eth0 mtu 1500" + price, "nsenter --net=/2 ip link set eth0 mtu 1500" + price, "go round"}
	if !slices.Equal(v.Remedy, want) {
		t.Errorf("got %q, want %q", v.Remedy, want)
	}
}

// TestAlternatives: of what mends one direction one command is enough, and that is said.
func TestAlternatives(t *testing.T) {
	v := Conclude(Facts{Directions: []path.MTU{silent(path.Request, 1500, 0)}, Source: "client", Target: "web",
		Spaces:   map[uint32]Space{1: {Enter: "nsenter --net=/n ", Container: "client"}, 2: {Clamp: "iptables", Forwards: true}},
		Networks: map[string]Network{"app": {Driver: "bridge"}}})
	if len(v.Remedy) != 3 || strings.Contains(v.Remedy[0], "# or: ") {
		t.Fatalf("remedy %q", v.Remedy)
	}
	for _, r := range v.Remedy[1:] {
		if !strings.Contains(r, "  # or: ") {
			t.Errorf("%q does not say that it is one of several ways", r)
		}
	}
}

// TestLive: what live traffic showed warns, and changes no verdict.
func TestLive(t *testing.T) {
	w := path.MTUWatch{Packets: 40, TooBig: 3, Fragments: 20, Repeated: 2, Notes: []string{"TCP repeated 2"}, Places: []path.MTUWatchPlace{
		{Namespace: "web", Device: "eth0", Packets: 10, TooBig: 3, Smallest: 1450},
		{Namespace: "near", Device: "mid", Packets: 40, Fragments: 10}, {Namespace: "far", Device: "out", Packets: 10, Fragments: 10}}}
	v := path.Verdict{Outcome: path.Delivered, Summary: "delivered"}
	AddLive(&v, &w, ConcludeWatch(&w, true, true, 0))
	if v.Outcome != path.Delivered || v.Cause != "" || v.Summary != "delivered" || len(v.Warnings) != 2 || len(v.Evidence) != 1 {
		t.Fatalf("got %+v", v)
	}
	for i, want := range []string{"live traffic: 3 of 10 packets (30.0 %) vanished at eth0 in web, from 1450 bytes on",
		"live traffic: 25.0 % of what leaves by mid in near are fragments (10 of 40), seen at 2 devices"} {
		if got := v.Warnings[i].Summary; !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestRuleFirst: the direction whose ICMP error a rule ate is the one to tell of.
func TestRuleFirst(t *testing.T) {
	eaten := silent(path.Reply, 1500, 0)
	eaten.End = &path.MTUEnd{Kind: path.TooBigUnanswered, NextHopMTU: 1400, Where: &path.Where{Namespace: "host"},
		Lost: &path.Where{Namespace: "host", Rule: &path.Rule{Chain: "OUTPUT", Number: 1}}}
	v := Conclude(Facts{Directions: []path.MTU{silent(path.Request, 1500, 0), eaten}, Source: "client", Target: "web",
		OpenRule: map[path.Direction][]string{path.Reply: {"open it"}}})
	if v.Where == nil || v.Where.Rule == nil || !strings.Contains(v.Summary, "rule 1 of chain OUTPUT in host") || v.Remedy[0] != "open it" {
		t.Errorf("got %s, where %+v, remedy %q", v.Summary, v.Where, v.Remedy)
	}
}

func TestWatchRepeats(t *testing.T) {
	tuple := wire.Tuple{Src: netip.MustParseAddrPort("10.0.0.1:1"), Dst: netip.MustParseAddrPort("10.0.0.2:80"), Proto: wire.ProtoTCP}
	send := func(w *Watch, seq uint32, payload uint16) {
		for _, at := range []uint32{1, 2} { // each device on the way sees it
			w.Add(&wire.Event{Hook: wire.DevXmit, NetNS: at, Ifindex: 1, Tuple: tuple, Seq: seq, Payload: payload, Length: uint32(payload) + 52}, nil)
		}
	}
	for _, c := range []struct {
		name       string
		again      func(size uint16, i int) bool
		only, sure bool
	}{
		{"large ones", func(size uint16, _ int) bool { return size > 1000 }, true, true},
		{"any", func(_ uint16, i int) bool { return i%10 == 0 }, false, true},
		{"none", func(uint16, int) bool { return false }, false, false},
	} {
		w := NewWatch()
		seq := uint32(1) << 31 // it wraps
		sent, repeated := uint64(0), uint64(0)
		for i := range 100 {
			size := []uint16{100, 1448}[i%2]
			send(w, seq, size)
			sent++
			if c.again(size, i) {
				send(w, seq, size)
				sent, repeated = sent+1, repeated+1
			}
			seq += uint32(size)
		}
		r := w.Repeats()
		if r.Sent != sent || r.Repeated != repeated {
			t.Errorf("%s: %d of %d repeated, want %d of %d", c.name, r.Repeated, r.Sent, repeated, sent)
		}
		if only, sure := r.OnlyLarge(); only != c.only || sure != c.sure {
			t.Errorf("%s: only large ones %v, known %v, want %v, %v: %+v", c.name, only, sure, c.only, c.sure, r)
		}
	}
}

func TestWatchDrops(t *testing.T) {
	for _, c := range []struct {
		drop   Drop
		length uint32
		want   bool
	}{
		{Drop{Function: "ip_forward", Reason: "PKT_TOO_BIG"}, 1500, true},
		{Drop{Function: "__dev_forward_skb2", Reason: "NOT_SPECIFIED", Limit: 1400}, 1500, true},
		{Drop{Function: "__dev_forward_skb2", Reason: "NOT_SPECIFIED", Limit: 1500}, 1500, false},
		{Drop{Function: "br_dev_queue_push_xmit", Limit: 1400}, 1500, true},
		{Drop{Function: "br_nf_dev_queue_xmit", Limit: 1400}, 1401, true},
		{Drop{Function: "nft_do_chain", Reason: "NETFILTER_DROP", Limit: 100}, 1500, false},
		{Drop{Function: "tcp_v4_rcv", Reason: "NO_SOCKET"}, 60, false},
		{Drop{Function: "ip6_fragment", Reason: "NOT_SPECIFIED"}, 1500, true},
	} {
		if got := c.drop.IsTooBig(c.length); got != c.want {
			t.Errorf("%+v with %d bytes: got %v, want %v", c.drop, c.length, got, c.want)
		}
	}
}
