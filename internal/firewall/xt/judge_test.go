package xt

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// Layouts of a few structs, for the tables below.
func tcpData(sport, dport [2]uint16, mask, cmp, inv uint8) []byte {
	return bytesOf(sport, dport, uint8(0), mask, cmp, inv)
}

func every() [2]uint16 { return [2]uint16{0, 0xffff} }

// name16 is a name in IFNAMSIZ bytes, and its mask.
func name16(name string, wildcard bool) (b, mask [16]byte) {
	copy(b[:], name)
	n := len(name) + 1
	if wildcard {
		n--
	}
	for i := range n {
		mask[i] = 0xff
	}
	return b, mask
}

func physdevData(in, out string, invert, bits uint8) []byte {
	inName, inMask := name16(in, false)
	outName, outMask := name16(out, true)
	return bytesOf(inName, inMask, outName, outMask, invert, bits)
}

// conntrackData is a struct xt_conntrack_mtinfo3 with one condition of each kind, of which match and
// invert choose.
func conntrackData(match, invert, states, status uint16) []byte {
	var addrs [8][16]byte // origsrc, its mask, origdst and so on
	addrs[2] = netip.MustParseAddr("10.0.0.9").As16()
	copy(addrs[2][:], []byte{10, 0, 0, 9})
	copy(addrs[3][:], []byte{255, 255, 255, 0})
	return bytesOf(addrs, [2]uint32{1, 2}, uint16(6), [4]uint16{0, 8080, 0, 0}, match, invert, states, status,
		[4]uint16{0, 8081, 0, 0})
}

func ct(state firewall.CTState, change ...func(*firewall.Conntrack)) *firewall.Packet {
	c := &firewall.Conntrack{
		State: state, Orig: firewall.Tuple{
			Src: netip.MustParseAddr("10.0.1.1"), Dst: netip.MustParseAddr("10.0.0.77"),
			SrcPort: 4000, DstPort: 8080, Proto: 6,
		},
	}
	for _, f := range change {
		f(c)
	}
	return &firewall.Packet{CT: c}
}

// typed is an AddrType function of a host whose address is 10.0.0.1.
func typed(addr netip.Addr, typ, dev string) firewall.Truth {
	switch {
	case typ != "LOCAL" || dev == "eth9":
		return firewall.Maybe
	default:
		return firewall.Of(addr == netip.MustParseAddr("10.0.0.1"))
	}
}

// TestJudge judges packets by matches of every kind that is judged.
func TestJudge(t *testing.T) {
	const no, maybe, yes = firewall.No, firewall.Maybe, firewall.Yes
	type packet = firewall.Packet
	tcp := &packet{Proto: 6, SrcPort: 4000, DstPort: 80, TCPFlags: 0x02, HasTCPFlags: true}
	udp := &packet{Proto: 17, SrcPort: 4000, DstPort: 80}
	frag := &packet{Proto: 6, Fragment: true}
	ping := &packet{Proto: 1, ICMPType: 8, HasICMP: true}
	from := func(s string) *packet {
		return &packet{Src: netip.MustParseAddr(s), Dst: netip.MustParseAddr("10.0.0.1")}
	}
	reply := func(c *firewall.Conntrack) { c.Reply = true }
	dnat := func(c *firewall.Conntrack) { c.Status, c.HasStatus = firewall.StatusDNAT, true }
	plain := func(c *firewall.Conntrack) { c.HasStatus = true }
	to8090 := func(c *firewall.Conntrack) { c.Orig.DstPort = 8090 }
	unknownTuple := func(c *firewall.Conntrack) { c.Orig = firewall.Tuple{} }
	marked := func(c *firewall.Conntrack) { c.Mark, c.HasMark = 0x15, true }
	bridged := &packet{Hook: firewall.Forward, BridgeNF: true, PhysIn: "veth1", PhysOut: "vethx"}
	routed := &packet{Hook: firewall.Forward, In: "br0", Out: "eth0"}

	ranges := bytesOf(uint8(1), uint8(3), [15]uint16{80, 8000, 8080}, [15]uint8{0, 1}, uint8(0))
	notRanges := append([]byte(nil), ranges...)
	notRanges[47] = 1
	bitsOf := func(match, not uint16) []byte { return conntrackData(match, not, stateNew, firewall.StatusDNAT) }
	states := func(mask uint16, not uint16) []byte { return conntrackData(ctState, not, mask, 0) }

	for _, c := range []struct {
		what  string
		match string
		rev   uint8
		data  []byte
		p     *packet
		want  firewall.Truth
	}{
		{"port", "tcp", 0, tcpData(every(), [2]uint16{80, 80}, 0, 0, 0), tcp, yes},
		{"other port", "tcp", 0, tcpData(every(), [2]uint16{81, 90}, 0, 0, 0), tcp, no},
		{"not that port", "tcp", 0, tcpData(every(), [2]uint16{81, 90}, 0, 0, 2), tcp, yes},
		{"not that source port", "tcp", 0, tcpData([2]uint16{4000, 4000}, every(), 0, 0, 1), tcp, no},
		{"other protocol", "tcp", 0, tcpData(every(), every(), 0, 0, 0), udp, no},
		{"fragment", "tcp", 0, tcpData(every(), every(), 0, 0, 0), frag, no},
		{"protocol not known", "tcp", 0, tcpData(every(), every(), 0, 0, 0), &packet{}, maybe},
		{"syn", "tcp", 0, tcpData(every(), every(), 0x17, 0x02, 0), tcp, yes},
		{"not syn", "tcp", 0, tcpData(every(), every(), 0x17, 0x02, 4), tcp, no},
		{"flags not known", "tcp", 0, tcpData(every(), every(), 0x17, 0x02, 0), &packet{Proto: 6}, maybe},
		{"udp", "udp", 0, bytesOf(every(), [2]uint16{80, 80}, uint8(0)), udp, yes},
		{"udp, not", "udp", 0, bytesOf(every(), [2]uint16{80, 80}, uint8(2)), udp, no},

		{"echo request", "icmp", 0, bytesOf(uint8(8), uint8(0), uint8(255), uint8(0)), ping, yes},
		{"other type", "icmp", 0, bytesOf(uint8(3), uint8(0), uint8(255), uint8(0)), ping, no},
		{"any", "icmp", 0, bytesOf(uint8(255), uint8(0), uint8(255), uint8(0)), &packet{Proto: 1}, yes},
		{"type not known", "icmp", 0, bytesOf(uint8(8), uint8(0), uint8(255), uint8(0)), &packet{Proto: 1}, maybe},

		{"one of the ports", "multiport", 1, ranges, tcp, yes},
		{"in the range", "multiport", 1, ranges, &packet{Proto: 6, DstPort: 8040}, yes},
		{"none of the ports", "multiport", 1, ranges, &packet{Proto: 6, DstPort: 8100}, no},
		{"not these ports", "multiport", 1, notRanges, tcp, no},
		{"no ports", "multiport", 1, notRanges, ping, no},

		{"new", "conntrack", 3, states(stateNew, 0), ct(firewall.CTNew), yes},
		{"established", "conntrack", 3, states(stateEstablished|stateRelated, 0), ct(firewall.CTNew), no},
		{"not established", "conntrack", 3, states(stateEstablished, ctState), ct(firewall.CTNew), yes},
		{"invalid", "conntrack", 3, states(stateInvalid, 0), ct(firewall.CTInvalid), yes},
		{"no entry", "conntrack", 3, states(stateNew, 0), &packet{}, maybe},
		{"DNAT", "conntrack", 3, states(stateDNAT, 0), ct(firewall.CTNew, dnat), yes},
		{"no DNAT", "conntrack", 3, states(stateDNAT, 0), ct(firewall.CTNew, plain), no},
		{"status not known", "conntrack", 3, states(stateDNAT, 0), ct(firewall.CTNew), maybe},
		{"status and state", "conntrack", 3, states(stateDNAT|stateNew, 0), ct(firewall.CTNew), yes},
		{"original port", "conntrack", 3, bitsOf(ctOrigDstPort, 0), ct(firewall.CTNew), yes},
		{"other original port", "conntrack", 3, bitsOf(ctOrigDstPort, 0), ct(firewall.CTNew, to8090), no},
		{"original not known", "conntrack", 3, bitsOf(ctOrigDstPort|ctOrigDst, 0), ct(firewall.CTNew, unknownTuple), maybe},
		{"original address", "conntrack", 3, bitsOf(ctOrigDst, 0), ct(firewall.CTNew), yes},
		{"not that address", "conntrack", 3, bitsOf(ctOrigDst, ctOrigDst), ct(firewall.CTNew), no},
		{"no entry, no tuple", "conntrack", 3, bitsOf(ctOrigDst, ctOrigDst), ct(firewall.CTInvalid), no},
		{"original direction", "conntrack", 3, bitsOf(ctDirection, 0), ct(firewall.CTEstablished), yes},
		{"reply", "conntrack", 3, bitsOf(ctDirection, 0), ct(firewall.CTEstablished, reply), no},
		{"reply asked", "conntrack", 3, bitsOf(ctDirection, ctDirection), ct(firewall.CTEstablished, reply), yes},
		{"protocol", "conntrack", 3, bitsOf(ctProto, 0), ct(firewall.CTNew), yes},
		{"status", "conntrack", 3, bitsOf(ctStatus, 0), ct(firewall.CTNew, dnat), yes},
		{"not status", "conntrack", 3, bitsOf(ctStatus, ctStatus), ct(firewall.CTNew, dnat), no},
		{"expiry", "conntrack", 3, bitsOf(ctExpires, 0), ct(firewall.CTNew), maybe},
		{"old state", "state", 0, bytesOf(uint32(stateNew)), ct(firewall.CTNew), yes},
		{"old untracked", "state", 0, bytesOf(uint32(1 << 6)), ct(firewall.CTUntracked), yes},
		{"connection's mark", "connmark", 1, bytesOf(uint32(5), uint32(0xf), uint8(0)), ct(firewall.CTNew, marked), yes},
		{"not that mark", "connmark", 1, bytesOf(uint32(5), uint32(0xf), uint8(1)), ct(firewall.CTNew, marked), no},
		{"mark not known", "connmark", 1, bytesOf(uint32(5), uint32(0xf), uint8(1)), ct(firewall.CTNew), maybe},
		{"mark without entry", "connmark", 1, bytesOf(uint32(5), uint32(0xf), uint8(1)), ct(firewall.CTInvalid), no},

		{"mark", "mark", 1, bytesOf(uint32(1), uint32(0xff), uint8(0)), &packet{Mark: 0x101, HasMark: true}, yes},
		{"other mark", "mark", 1, bytesOf(uint32(1), uint32(0xff), uint8(0)), &packet{Mark: 2, HasMark: true}, no},
		{"no mark", "mark", 1, bytesOf(uint32(1), uint32(0xff), uint8(1)), &packet{}, maybe},

		{"local", "addrtype", 1, bytesOf(uint16(0), uint16(4), uint32(0)), from("10.0.0.7"), maybe},
		{"length", "length", 0, bytesOf(uint16(40), uint16(60), uint8(0)), &packet{Length: 60}, yes},
		{"not length", "length", 0, bytesOf(uint16(40), uint16(60), uint8(1)), &packet{Length: 60}, no},
		{"length not known", "length", 0, bytesOf(uint16(40), uint16(60), uint8(1)), &packet{}, maybe},
		{"TTL", "ttl", 0, []byte{2, 64}, &packet{TTL: 63}, yes},
		{"TTL equal", "ttl", 0, []byte{0, 64}, &packet{TTL: 63}, no},
		{"TTL not known", "ttl", 0, []byte{1, 64}, &packet{}, maybe},
		{"MAC", "mac", 0, bytesOf([8]uint8{2, 0, 0, 0, 0, 1}, uint32(0)), &packet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}}, yes},
		{"not MAC", "mac", 0, bytesOf([8]uint8{2, 0, 0, 0, 0, 1}, uint32(1)), &packet{SrcMAC: []byte{2, 0, 0, 0, 0, 1}}, no},
		{"MAC not known", "mac", 0, bytesOf([8]uint8{2, 0, 0, 0, 0, 1}, uint32(1)), &packet{}, maybe},

		{"port in", "physdev", 0, physdevData("veth1", "veth", 0, physIn), bridged, yes},
		{"other port in", "physdev", 0, physdevData("veth2", "veth", 0, physIn), bridged, no},
		{"not that port in", "physdev", 0, physdevData("veth2", "veth", physIn, physIn), bridged, yes},
		{"ports out", "physdev", 0, physdevData("veth1", "veth", 0, physOut), bridged, yes},
		{"bridged", "physdev", 0, physdevData("", "", 0, physBridged), bridged, yes},
		{"routed", "physdev", 0, physdevData("", "", 0, physBridged), routed, no},
		{"routed, not bridged", "physdev", 0, physdevData("", "", physBridged, physBridged), routed, yes},
		{"routed in", "physdev", 0, physdevData("veth1", "", 0, physIn), routed, maybe},
		{"routed out", "physdev", 0, physdevData("", "veth", 0, physOut), routed, no},

		{"comment", "comment", 0, []byte("x\x00"), &packet{}, yes},
		{"limit", "limit", 0, make([]byte, 48), &packet{}, maybe},
		{"random", "statistic", 0, bytesOf(uint32(0), uint32(0x40000000)), &packet{}, maybe},
		{"every", "statistic", 0, bytesOf(uint16(1), uint16(0), uint32(0), uint32(0)), &packet{}, yes},
		{"owner of a forwarded packet", "owner", 1, bytesOf([4]uint32{}, uint8(1), uint8(0)), routed, no},
		{"owner", "owner", 1, bytesOf([4]uint32{}, uint8(1), uint8(0)), &packet{Hook: firewall.Output}, maybe},
	} {
		data := append(c.data, make([]byte, 16)...) // the kernel aligns
		m := new(Decoder).Match(false, c.match, c.rev, data)
		if got := m.Judge(c.p); got != c.want {
			t.Errorf("%s: %s: got %v, want %v", c.what, m.Text, got, c.want)
		}
	}
}

// TestAddrType judges addresses by their type on the host.
func TestAddrType(t *testing.T) {
	local, other := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for _, c := range []struct {
		text string
		data []byte
		dst  netip.Addr
		in   string
		want firewall.Truth
	}{
		{"-m addrtype --dst-type LOCAL", bytesOf(uint16(0), uint16(4), uint32(0)), local, "eth0", firewall.Yes},
		{"-m addrtype --dst-type LOCAL", bytesOf(uint16(0), uint16(4), uint32(0)), other, "eth0", firewall.No},
		{"-m addrtype ! --dst-type LOCAL", bytesOf(uint16(0), uint16(4), uint32(2)), other, "eth0", firewall.Yes},
		{"-m addrtype --dst-type LOCAL,BROADCAST", bytesOf(uint16(0), uint16(12), uint32(0)), local, "", firewall.Yes},
		{"-m addrtype --dst-type LOCAL,BROADCAST", bytesOf(uint16(0), uint16(12), uint32(0)), other, "", firewall.Maybe},
		{"-m addrtype --dst-type LOCAL --limit-iface-in", bytesOf(uint16(0), uint16(4), uint32(4)), local, "eth9", firewall.Maybe},
		{"-m addrtype --dst-type LOCAL --limit-iface-in", bytesOf(uint16(0), uint16(4), uint32(4)), local, "", firewall.Maybe},
	} {
		m := new(Decoder).Match(false, "addrtype", 1, c.data)
		if m.Text != c.text {
			t.Errorf("got %q, want %q", m.Text, c.text)
		}
		p := &firewall.Packet{Src: other, Dst: c.dst, In: c.in, AddrType: typed}
		if got := m.Judge(p); got != c.want {
			t.Errorf("%s, destination %s, in %q: got %v, want %v", c.text, c.dst, c.in, got, c.want)
		}
	}
}

// TestTargets checks what the targets do, whose text the tests of package legacy compare with iptables'.
func TestTargets(t *testing.T) {
	type verdict = firewall.Verdict
	for _, c := range []struct {
		name string
		rev  uint8
		v6   bool
		data []byte
		want Target
	}{
		{"REJECT", 0, false, bytesOf(uint32(7)), Target{
			"-j REJECT --reject-with tcp-reset", verdict{Kind: firewall.Reject, Detail: "tcp-reset"}}},
		{"REJECT", 0, true, bytesOf(uint32(4)), Target{
			"-j REJECT --reject-with icmp6-port-unreachable", verdict{Kind: firewall.Reject, Detail: "icmp6-port-unreachable"}}},
		{"REJECT", 0, false, bytesOf(uint32(99)), Target{
			"-j REJECT [not decoded]", verdict{Kind: firewall.Unknown, Detail: "REJECT"}}},
		{"LOG", 0, false, append([]byte{4, 0, 'x', ' '}, make([]byte, 28)...), Target{`-j LOG --log-prefix "x "`, verdict{}}},
		{"MARK", 2, false, bytesOf(uint32(1), uint32(2)), Target{"-j MARK --set-xmark 0x1/0x2", verdict{}}},
		{"NFQUEUE", 0, false, bytesOf(uint16(3)), Target{"-j NFQUEUE --queue-num 3", verdict{Kind: firewall.Queue}}},
		{"SYNPROXY", 0, false, bytesOf(uint32(0)), Target{"-j SYNPROXY", verdict{Kind: firewall.Stolen, Detail: "SYNPROXY"}}},
	} {
		if got := new(Decoder).Target(c.v6, c.name, c.rev, c.data); got != c.want {
			t.Errorf("got %+v, want %+v", got, c.want)
		}
	}
}

// FuzzDecode decodes anything: it must not panic, and its judge must answer.
func FuzzDecode(f *testing.F) {
	f.Add(false, "tcp", uint8(0), tcpData(every(), every(), 0, 0, 0))
	f.Add(true, "conntrack", uint8(3), conntrackData(0xffff, 0, 0xffff, 0xffff))
	for _, name := range []string{
		"multiport", "hashlimit", "u32", "bpf", "policy", "rt", "set", "string", "time", "physdev", "ip6", "arp",
		"stp", "DNAT", "NETMAP", "CT", "SET", "HMARK", "mark", "SECMARK", "TCPOPTSTRIP",
	} {
		f.Add(true, name, uint8(1), make([]byte, 2048))
	}
	p := &firewall.Packet{Proto: 6, CT: &firewall.Conntrack{State: firewall.CTNew}, PhysIn: "x", DstMAC: []byte{1}}
	f.Fuzz(func(t *testing.T, v6 bool, name string, rev uint8, data []byte) {
		for _, dec := range []Decoder{{}, {Bridge: true}} {
			m := dec.Match(v6, name, rev, data)
			if m.Judge == nil || m.Text == "" && m.Name == "" || len(m.Text) > 1<<16 {
				t.Fatalf("match %+v", m)
			}
			m.Judge(&firewall.Packet{})
			m.Judge(p)
			if target := dec.Target(v6, name, rev, data); len(target.Text) > 1<<16 {
				t.Fatalf("target %+v", target)
			}
		}
	})
}
