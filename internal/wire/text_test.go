package wire

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func addrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestTextRoundTrip(t *testing.T) {
	tcp := Tuple{Src: addrPort("10.0.0.1:4000"), Dst: addrPort("10.0.0.2:80"), Proto: ProtoTCP}
	v6 := Tuple{Src: addrPort("[fd00::1]:9"), Dst: addrPort("[fd00::2]:0"), Proto: ProtoICMPv6}
	tests := []struct {
		name, text string
		event      Event
	}{
		{"receive", "t=1000 hook=dev_receive skb=a1 head=b1 ns=4026532001 if=2 dev=eth0 tcp=10.0.0.1:4000>10.0.0.2:80 flags=S seq=1 len=60 ipid=7 ttl=64",
			Event{Time: 1000, Hook: DevReceive, Skb: 0xa1, Head: 0xb1, NetNS: 4026532001, Ifindex: 2, Dev: "eth0", Tuple: tcp,
				TCPFlags: SYN, Seq: 1, Length: 60, IPID: 7, TTL: 64}},
		{"netfilter with conntrack", "t=5 hook=nf_enter in=1 out=2 nf=prerouting loc=ffff ct=c1 ctorig=tcp:10.0.0.1:4000>10.0.0.2:80 ctreply=tcp:10.0.0.2:80>10.0.0.1:4000 ctstatus=18a ctinfo=2",
			Event{Time: 5, Hook: NetfilterEnter, InIfindex: 1, OutIfindex: 2, Location: 0xffff, CT: 0xc1, CTOrig: tcp, CTReply: tcp.Inverse(),
				CTStatus: 0x18a, CTInfo: 2}},
		{"icmp error, v6", "hook=dev_xmit dev=a%20b icmp6=[fd00::1]:9>[fd00::2]:0 outer=[fd00::3]:0>[fd00::1]:0 type=1 code=4 mtu=1400 cpu=3 bits=icmperror,cloned",
			Event{Hook: DevXmit, Dev: "a b", Tuple: v6, OuterSrc: addrPort("[fd00::3]:0"), OuterDst: addrPort("[fd00::1]:0"),
				ICMPType: 1, ICMPCode: 4, MTU: 1400, CPU: 3, Flags: FlagICMPError | FlagCloned}},
		{"state", "hook=tcp_state sock=51 state=3>1", Event{Hook: TCPState, Sock: 0x51, OldState: 3, NewState: 1}},
		{"captured", "hook=dev_xmit cap=2/90/0a0b0c", Event{Hook: DevXmit, Capture: &Capture{Link: 2, Length: 90, Bytes: []byte{10, 11, 12}}}},
		{"route", "hook=route ip0=->10.0.0.2:0 err=-101 gw=10.0.0.254 table=254",
			Event{Hook: RouteLookup, Tuple: Tuple{Dst: addrPort("10.0.0.2:0")}, Err: -101, Gateway: netip.MustParseAddr("10.0.0.254"), Table: 254}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(tt.event.AppendText(nil)); got != tt.text {
				t.Errorf("AppendText\n got %s\nwant %s", got, tt.text)
			}
			got, err := ParseText(tt.text)
			if err != nil || !reflect.DeepEqual(got, tt.event) {
				t.Errorf("ParseText(%q)\n got %+v, %v\nwant %+v", tt.text, got, err, tt.event)
			}
		})
	}
}

// TestTextEveryField fails if a field of Event is missing from the text form.
func TestTextEveryField(t *testing.T) {
	typ := reflect.TypeFor[Event]()
	for i := range typ.NumField() {
		var e Event
		f := reflect.ValueOf(&e).Elem().Field(i)
		switch v := f.Addr().Interface().(type) {
		case *Tuple:
			*v = Tuple{Src: addrPort("1.2.3.4:5"), Proto: 6}
		case *netip.AddrPort:
			*v = addrPort("1.2.3.4:5")
		case *netip.Addr:
			*v = netip.MustParseAddr("fd00::1")
		case *string:
			*v = "x#=%é"
		case *int32:
			*v = -5
		case **Capture:
			*v = &Capture{Bytes: []byte{1}, Length: 2}
		default:
			f.SetUint(4)
		}
		got, err := ParseText(string(e.AppendText(nil)))
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: got %+v, %v, want %+v", typ.Field(i).Name, got, err, e)
		}
	}
}

func TestParseTextErrors(t *testing.T) {
	for _, line := range []string{"x", "t=", "t=-1", "hook=nothing", "cpu=70000", "tcp=1.2.3.4:5", "tcp=1>2", "ctorig=1.2.3.4:1>2.3.4.5:1",
		"bits=unknown", "flags=X", "state=1", "dev=a%2", "colour=red", "nf=up", "gw=me", "err=x"} {
		if e, err := ParseText(line); err == nil {
			t.Errorf("ParseText(%q) = %+v, want an error", line, e)
		}
	}
}

func TestReadText(t *testing.T) {
	const text = "# a comment\n\nt=1 hook=drop # why\n  t=2 hook=dev_xmit\n"
	var got []uint64
	for e, err := range ReadText(strings.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Time)
	}
	if want := []uint64{1, 2}; !reflect.DeepEqual(got, want) {
		t.Errorf("times %v, want %v", got, want)
	}
	var last error
	for _, err := range ReadText(strings.NewReader("t=1\nbad\nt=2\n")) {
		last = err
	}
	if last == nil || !strings.Contains(last.Error(), "line 2") {
		t.Errorf("error %v, want one that names line 2", last)
	}
}

func FuzzParseText(f *testing.F) {
	f.Add("t=1000 hook=dev_receive skb=a1 ns=4026532001 dev=eth0 tcp=10.0.0.1:4000>10.0.0.2:80 flags=SA bits=gso,0x10000")
	f.Add("hook=route ip0=-:5>[fe80::1%eth0]:0 err=-1 gw=::1 state=1>2 ctorig=udp:1.2.3.4:1>-")
	f.Fuzz(func(t *testing.T, line string) {
		e, err := ParseText(line)
		if err != nil {
			return
		}
		text := string(e.AppendText(nil))
		again, err := ParseText(text)
		if err != nil || again != e {
			t.Errorf("%q -> %+v -> %q -> %+v, %v", line, e, text, again, err)
		}
	})
}
