package nft_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// web is a SYN that is forwarded from a container to another.
func web() *firewall.Packet {
	return &firewall.Packet{
		Hook: firewall.Forward, In: "br-app", InIndex: 3, Out: "br-db", OutIndex: 4,
		Src: netip.MustParseAddr("10.1.2.3"), Dst: netip.MustParseAddr("172.18.0.2"),
		Proto: 6, SrcPort: 40000, DstPort: 80, TCPFlags: 2, HasTCPFlags: true, Length: 60, TTL: 63,
		CT: &firewall.Conntrack{
			State: firewall.CTNew, HasStatus: true, Status: firewall.StatusDNAT,
			Orig:   firewall.Tuple{Src: netip.MustParseAddr("10.1.2.3"), Dst: netip.MustParseAddr("192.168.0.1"), SrcPort: 40000, DstPort: 8080, Proto: 6},
			Return: firewall.Tuple{Src: netip.MustParseAddr("172.18.0.2"), Dst: netip.MustParseAddr("10.1.2.3"), SrcPort: 80, DstPort: 40000, Proto: 6},
		},
		AddrType: func(a netip.Addr, typ, dev string) firewall.Truth {
			return firewall.Of(typ == "LOCAL" && a == netip.MustParseAddr("192.168.0.1"))
		},
	}
}

// unknown is a packet of which only addresses and protocol are known.
func unknown() *firewall.Packet {
	return &firewall.Packet{Hook: firewall.Forward, Src: netip.MustParseAddr("10.1.2.3"),
		Dst: netip.MustParseAddr("172.18.0.2"), Proto: 6, InIndex: 3, OutIndex: 4}
}

const (
	no    = firewall.No
	maybe = firewall.Maybe
	yes   = firewall.Yes
)

// TestJudge compares what rules that the kernel has loaded say about packets.
func TestJudge(t *testing.T) {
	accept, drop := firewall.Verdict{Kind: firewall.Accept}, firewall.Verdict{Kind: firewall.Drop}
	jump := firewall.Verdict{Kind: firewall.Jump, Chain: "other"}
	for _, tt := range []struct {
		rule    string
		web     firewall.Truth
		verdict firewall.Verdict
		unknown firewall.Truth
	}{
		{"tcp dport 80 drop", yes, drop, no},
		{"tcp dport 80 notrack accept", yes, firewall.Verdict{Kind: firewall.Accept, Untracks: true}, no},
		{"ip saddr 10.0.0.0/8 accept", yes, accept, yes},
		{"ip saddr 10.0.0.0/12 accept", yes, accept, yes},
		{"ip saddr 11.0.0.0/8 accept", no, accept, no},
		{"ip saddr != 10.1.2.3 accept", no, accept, no},
		{"ip saddr 10.1.2.1-10.1.2.9 accept", yes, accept, yes},
		{"ip saddr != 10.1.2.1-10.1.2.9 accept", no, accept, no},
		{"ip saddr & 255.0.0.255 == 10.0.0.3 accept", yes, accept, yes},
		{"iifname \"br-app\" drop", yes, drop, maybe},
		{"iifname \"br-*\" drop", yes, drop, maybe},
		{"iifname \"br-ap\" drop", no, drop, maybe},
		{"iifname != \"br-*\" drop", no, drop, maybe},
		{"iifname { \"eth0\", \"br-app\" } drop", yes, drop, maybe},
		{"meta iif 3 drop", yes, drop, yes},
		{"meta oif != 3 drop", yes, drop, yes},
		{"oifname vmap { \"eth0\" : drop, \"br-db\" : jump other }", yes, jump, maybe},
		{"tcp dport { 22, 80 } drop", yes, drop, no},
		{"tcp dport 79-81 drop", yes, drop, no},
		{"tcp dport != 79-81 drop", no, drop, yes},
		{"tcp dport { 22, 79-81 } drop", yes, drop, no},
		{"tcp dport < 80 drop", no, drop, yes},
		{"tcp dport <= 80 drop", yes, drop, yes},
		{"udp dport 80 drop", no, drop, no},
		{"tcp flags syn drop", yes, drop, maybe},
		{"tcp flags & (syn | ack) == syn drop", yes, drop, maybe},
		{"tcp flags ack drop", no, drop, maybe},
		{"tcp window 100 drop", maybe, drop, maybe},
		{"ip ttl 63 drop", yes, drop, maybe},
		{"ip length 60 drop", yes, drop, maybe},
		{"ip dscp ef drop", maybe, drop, maybe},
		{"ip frag-off & 0x1fff != 0 drop", no, drop, no},
		{"ip frag-off & 0x4000 != 0 drop", maybe, drop, maybe},
		{"ip version 4 drop", yes, drop, yes},
		{"meta mark 1 drop", maybe, drop, maybe},
		{"meta length > 50 drop", yes, drop, maybe},
		{"meta length 50-70 drop", yes, drop, maybe},
		{"meta protocol ip6 drop", no, drop, no},
		{"ct state established,related accept", no, accept, maybe},
		{"ct state new accept", yes, accept, maybe},
		{"ct state != new accept", no, accept, maybe},
		{"ct state { new, established } accept", yes, accept, maybe},
		{"ct state vmap { new : jump other, established : accept }", yes, jump, maybe},
		{"ct status dnat accept", yes, accept, maybe},
		{"ct status snat accept", no, accept, maybe},
		{"ct direction original accept", yes, accept, maybe},
		{"ct original ip daddr 192.168.0.1 accept", yes, accept, maybe},
		{"ct original ip daddr 192.168.0.0/16 accept", yes, accept, maybe},
		{"ct reply ip saddr 10.1.2.3 accept", no, accept, maybe},
		{"meta l4proto tcp ct original proto-dst 8080 accept", yes, accept, maybe},
		{"ct mark 0 accept", maybe, accept, maybe},
		{"fib saddr type local drop", no, drop, maybe},
		{"fib saddr type != local drop", yes, drop, maybe},
		{"fib daddr type { local, broadcast } drop", no, drop, maybe},
		{"ip saddr @nets accept", yes, accept, yes},
		{"ip saddr != @nets accept", no, accept, no},
		{"ip daddr @nets accept", no, accept, no},
		{"ip daddr . tcp dport @pairs accept", yes, accept, no},
		{"ip daddr . tcp dport { 172.18.0.0/16 . 80-90 } accept", yes, accept, no},
		{"ip daddr . tcp dport . iifname { 172.18.0.2 . 80 . \"br-app\" } accept", yes, accept, no},
		{"ip saddr @dyn drop", maybe, drop, maybe},
		{"limit rate 5/minute accept", maybe, accept, maybe},
		{"tcp dport 81 limit rate 5/minute accept", no, accept, no},
		{"numgen random mod 2 vmap { 0 : accept, 1 : accept }", maybe, accept, maybe},
		{"counter", yes, firewall.Verdict{}, yes},
		{"meta mark set 1 counter log prefix \"x\" drop", yes, drop, yes},
		{"reject with icmp host-unreachable", yes, firewall.Verdict{Kind: firewall.Reject, Detail: "icmp-host-unreachable"}, yes},
		{"tcp dport 80 reject with tcp reset", yes, firewall.Verdict{Kind: firewall.Reject, Detail: "tcp-reset"}, no},
		{"goto other", yes, firewall.Verdict{Kind: firewall.Goto, Chain: "other"}, yes},
		{"return", yes, firewall.Verdict{Kind: firewall.Return}, yes},
		{"add @dyn { ip saddr } drop", yes, drop, yes},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			rule := load(t, "ip", "type filter hook forward priority 0;", tt.rule)
			got := rule.Body.Judge(web())
			if got.Match != tt.web || tt.web != no && got.Verdict != tt.verdict {
				t.Errorf("web: want %v %+v, got %+v", tt.web, tt.verdict, got)
			}
			if (len(got.Unjudged) > 0) != (got.Match == maybe) {
				t.Errorf("match %v, unjudged %q", got.Match, got.Unjudged)
			}
			if got := rule.Body.Judge(unknown()); got.Match != tt.unknown {
				t.Errorf("unknown: want %v, got %+v", tt.unknown, got)
			}
			for _, v := range rule.Body.Verdicts() {
				if v == tt.verdict {
					return
				}
			}
			if tt.verdict != (firewall.Verdict{}) {
				t.Errorf("verdicts %+v, want %+v among them", rule.Body.Verdicts(), tt.verdict)
			}
		})
	}
}

// load has the kernel load one rule and reads it back.
func load(t *testing.T, family, chain, rule string) *firewall.Rule {
	t.Helper()
	var r *firewall.Rule
	inside(t, func() {
		run(t, `table `+family+` t {
	set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.0.0/16 } }
	set pairs { type ipv4_addr . inet_service; elements = { 172.18.0.2 . 80 } }
	set dyn { type ipv4_addr; flags dynamic,timeout; timeout 1m; }
	chain other {}
	chain c { `+chain+` `+rule+"\n}\n}\n", "nft", "-f", "-")
		r = table(t, read(t), firewall.Family(family), "t").Chain("c").Rules[0]
	})
	return r
}

// TestJudgeReject checks that an answer is named as the packet's version of IP has it.
func TestJudgeReject(t *testing.T) {
	for rule, want := range map[string][2]string{
		"reject":                             {"icmp-port-unreachable", "icmp6-port-unreachable"},
		"reject with icmpx admin-prohibited": {"icmp-admin-prohibited", "icmp6-adm-prohibited"},
		"reject with icmpx host-unreachable": {"icmp-host-unreachable", "icmp6-addr-unreachable"},
		"reject with tcp reset":              {"tcp-reset", "tcp-reset"},
	} {
		body := load(t, "inet", "type filter hook forward priority 0;", rule).Body
		p := web()
		if got := body.Judge(p).Verdict; got.Kind != firewall.Reject || got.Detail != want[0] {
			t.Errorf("%s: want %s, got %+v", rule, want[0], got)
		}
		p.Src, p.Dst = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
		if got := body.Judge(p).Verdict; got.Kind != firewall.Reject || got.Detail != want[1] {
			t.Errorf("%s, IPv6: want %s, got %+v", rule, want[1], got)
		}
	}
}

// TestUnjudged checks that doubts are named as the user wrote them.
func TestUnjudged(t *testing.T) {
	rule := load(t, "ip", "type filter hook forward priority 0;", "tcp dport 80 meta mark 1 limit rate 5/minute drop")
	want := []string{"meta mark 0x00000001", "limit rate 5/minute"}
	if got := rule.Body.Judge(web()).Unjudged; !slices.Equal(got, want) {
		t.Errorf("want %q, got %q", want, strings.Join(got, ", "))
	}
}

// TestJudgeNAT compares the translations.
func TestJudgeNAT(t *testing.T) {
	for _, tt := range []struct {
		family, rule string
		match        firewall.Truth
		kind         firewall.VerdictKind
		detail       string
	}{
		{"ip", "tcp dport 80 dnat to 172.18.0.9:8080", yes, firewall.DNAT, "172.18.0.9:8080"},
		{"ip", "dnat to 172.18.0.9", yes, firewall.DNAT, "172.18.0.9"},
		{"inet", "tcp dport 80 dnat ip to 172.18.0.9:8080", yes, firewall.DNAT, "172.18.0.9:8080"},
		{"inet", "tcp dport 80 dnat ip6 to [fe80::1]:8080", yes, firewall.Continue, ""},
		{"ip", "dnat to tcp dport map { 80 : 1.2.3.4, 81 : 1.2.3.5 }", yes, firewall.DNAT, "1.2.3.4"},
		{"ip", "dnat ip to tcp dport map { 80 : 1.2.3.4 . 8080 }", yes, firewall.DNAT, "1.2.3.4:8080"},
		{"ip", "dnat to tcp dport map { 82 : 1.2.3.4, 81 : 1.2.3.5 }", no, firewall.DNAT, ""},
		{"ip", "dnat to numgen random mod 2 map { 0 : 1.2.3.4, 1 : 1.2.3.5 }", maybe, firewall.DNAT, ""},
		{"ip", "tcp dport 80 redirect to :8080", yes, firewall.Redirect, ":8080"},
	} {
		t.Run(tt.rule, func(t *testing.T) {
			rule := load(t, tt.family, "type nat hook prerouting priority dstnat;", tt.rule)
			got := rule.Body.Judge(web())
			if got.Match != tt.match || tt.match != no && (got.Verdict.Kind != tt.kind || got.Verdict.Detail != tt.detail) {
				t.Errorf("want %v %v %q, got %+v", tt.match, tt.kind, tt.detail, got)
			}
		})
	}
}
