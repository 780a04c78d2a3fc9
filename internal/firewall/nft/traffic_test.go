package nft_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// TestJudgeAsTheKernelDoes sends a datagram and a SYN through rules that count, and compares what the
// kernel counted with what the rules say about a packet with the same facts.
func TestJudgeAsTheKernelDoes(t *testing.T) {
	for _, proto := range []string{"udp", "tcp"} {
		t.Run(proto, func(t *testing.T) {
			inside(t, func() {
				run(t, "", "ip", "link", "set", "lo", "up")
				run(t, kernelRules(proto), "nft", "-f", "-")
				run(t, "*filter\n"+iptablesMatches()+"COMMIT\n", "iptables-restore")
				send(t, proto)
				all := read(t)
				settled := compareCounters(t, table(t, all, firewall.FamilyIP, "t").Chain("c"), proto) +
					compareCounters(t, table(t, all, firewall.FamilyIP, "filter").Chain("OUTPUT"), proto) +
					compareCounters(t, table(t, all, firewall.FamilyInet, "wide").Chain("c"), proto)
				if settled < 90 {
					t.Errorf("only %d rules were settled", settled)
				}
			})
		})
	}
}

// TestVerdictMapAsTheKernelDoes compares where verdict maps send a packet.
func TestVerdictMapAsTheKernelDoes(t *testing.T) {
	for _, rule := range []string{
		"udp dport vmap { 5353 : jump hit, 53 : jump miss }",
		"udp dport vmap { 0-1023 : jump miss, 1024-65535 : jump hit }",
		"ip daddr vmap { 127.0.0.0/8 : jump hit, 10.0.0.0/8 : jump miss }",
		"ip daddr . udp dport vmap { 127.0.0.0/24 . 5000-6000 : jump hit, 127.0.1.0/24 . 5353 : jump miss }",
		"ip daddr . udp dport vmap { 127.0.0.3 . 5353 : jump hit, * : jump miss }",
		"oifname vmap { \"lo\" : jump hit, \"eth0\" : jump miss }",
		"ct state vmap { new : jump hit, established : jump miss }",
		"meta mark & 0xff vmap { 0x34 : jump hit, 0x12 : jump miss }",
		"meta l4proto . ip saddr vmap { udp . 127.0.0.2 : jump hit, tcp . 127.0.0.2 : jump miss }",
		"fib daddr type vmap { local : jump hit, broadcast : jump miss }",
		"udp sport 40000 ip saddr vmap { 127.0.0.1-127.0.0.9 : jump hit }",
		"udp dport vmap { 1 : jump miss }",
	} {
		t.Run(rule, func(t *testing.T) {
			inside(t, func() {
				run(t, "", "ip", "link", "set", "lo", "up")
				run(t, "table ip t {\nchain hit { counter; }\nchain miss { counter; }\n"+
					"chain c { type filter hook output priority 0; ip saddr 127.0.0.2 "+rule+"; }\n}\n", "nft", "-f", "-")
				send(t, "udp")
				tab := table(t, read(t), firewall.FamilyIP, "t")
				j := tab.Chain("c").Rules[0].Body.Judge(loopback("udp"))
				for _, chain := range []string{"hit", "miss"} {
					judged := j.Match == firewall.Yes && j.Verdict == firewall.Verdict{Kind: firewall.Jump, Chain: chain}
					if counted := tab.Chain(chain).Rules[0].Packets > 0; judged != counted {
						t.Errorf("%s: judged %+v, the kernel counted %v", chain, j, counted)
					}
				}
			})
		})
	}
}

// TestJudgeIPv6AsTheKernelDoes does the same with a datagram of IPv6.
func TestJudgeIPv6AsTheKernelDoes(t *testing.T) {
	matches := []string{
		"ip6 saddr ::1", "ip6 saddr fe80::/10", "ip6 saddr ::/64", "ip6 saddr ::/3", "ip6 daddr != ::1",
		"ip6 daddr { ::1, fe80::/10 }", "ip6 daddr . udp dport { ::/64 . 5000-6000 }", "ip6 nexthdr udp", "ip6 nexthdr tcp",
		"ip6 hoplimit 64", "ip6 hoplimit < 64", "ip6 length 11", "ip6 version 6", "udp dport 5353", "th sport 40000",
		"meta l4proto udp", "meta protocol ip6", "meta length 51", "ct state new", "icmpv6 type echo-request",
		"ct original ip6 daddr ::1", "meta l4proto udp ct original proto-dst 5353", "fib daddr type local", "oifname \"lo\"",
	}
	wide := []string{"meta nfproto ipv6", "meta nfproto ipv4", "ip saddr 127.0.0.1", "ip protocol udp", "icmp type echo-request"}
	inside(t, func() {
		run(t, "", "ip", "link", "set", "lo", "up")
		for _, tab := range []struct {
			name    string
			matches []string
		}{{"ip6 t", matches}, {"inet wide", append(wide, matches...)}} {
			run(t, "table "+tab.name+" {\nchain c { type filter hook output priority 0; meta l4proto != udp counter return;\n"+
				strings.Join(tab.matches, " counter\n")+" counter\n}\n}\n", "nft", "-f", "-")
		}
		run(t, "*filter\n-A OUTPUT ! -p udp -j RETURN\n-A OUTPUT -s ::1\n-A OUTPUT -d fe80::/10\n-A OUTPUT -p udp --dport 5353\n"+
			"-A OUTPUT -o lo -p udp -m multiport --dports 1,5353\n-A OUTPUT -m conntrack --ctstate NEW\nCOMMIT\n", "ip6tables-restore")
		sendIPv6(t)
		p := loopback("udp")
		p.Src, p.Dst, p.Length = netip.IPv6Loopback(), netip.IPv6Loopback(), 48+3
		p.CT.Orig.Src, p.CT.Orig.Dst, p.CT.Return.Src, p.CT.Return.Dst = p.Src, p.Src, p.Src, p.Src
		all := read(t)
		settled := compareTo(t, table(t, all, firewall.FamilyIP6, "t").Chain("c"), p) +
			compareTo(t, table(t, all, firewall.FamilyInet, "wide").Chain("c"), p) +
			compareTo(t, table(t, all, firewall.FamilyIP6, "filter").Chain("OUTPUT"), p)
		if settled < 55 {
			t.Errorf("only %d rules were settled", settled)
		}
	})
}

func sendIPv6(t *testing.T) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	defer unix.Close(fd)
	self := [16]byte{15: 1}
	if err := unix.Bind(fd, &unix.SockaddrInet6{Port: 40000, Addr: self}); err != nil {
		t.Skipf("no IPv6: %v", err)
	}
	if err := unix.Sendto(fd, []byte("abc"), 0, &unix.SockaddrInet6{Port: 5353, Addr: self}); err != nil {
		t.Fatal(err)
	}
}

// compareCounters returns how many rules were judged Yes or No as the kernel does.
func compareCounters(t *testing.T, c *firewall.Chain, proto string) int {
	t.Helper()
	return compareTo(t, c, loopback(proto))
}

func compareTo(t *testing.T, c *firewall.Chain, p *firewall.Packet) int {
	t.Helper()
	settled := 0
	for _, r := range c.Rules[1:] { // the first one sees the answers
		j := r.Body.Judge(p)
		if j.Match == firewall.Maybe {
			continue
		}
		settled++
		if (j.Match == firewall.Yes) != (r.Packets > 0) {
			t.Errorf("%s: judged %v, the kernel counted %d", r.Text(), j.Match, r.Packets)
		}
	}
	return settled
}

// loopback is what is known of the packet that send sends, at the output hook.
func loopback(proto string) *firewall.Packet {
	src, dst := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.3")
	p := &firewall.Packet{
		Hook: firewall.Output, Out: "lo", OutIndex: 1, Src: src, Dst: dst, SrcPort: 40000, DstPort: 5353,
		TTL: 64, HasMark: true, Mark: 0x1234,
		AddrType: func(a netip.Addr, typ, _ string) firewall.Truth { return firewall.Of(typ == "LOCAL") },
	}
	p.Proto, p.Length = unix.IPPROTO_UDP, 28+3
	if proto == "tcp" {
		p.Proto, p.Length, p.TCPFlags, p.HasTCPFlags = unix.IPPROTO_TCP, 60, 2, true
	}
	p.CT = &firewall.Conntrack{
		State:  firewall.CTNew,
		Orig:   firewall.Tuple{Src: src, Dst: dst, SrcPort: 40000, DstPort: 5353, Proto: p.Proto},
		Return: firewall.Tuple{Src: dst, Dst: src, SrcPort: 5353, DstPort: 40000, Proto: p.Proto},
	}
	return p
}

// send sends one datagram, or the SYN of a connection that is refused.
func send(t *testing.T, proto string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, map[string]int{"udp": unix.SOCK_DGRAM, "tcp": unix.SOCK_STREAM}[proto], 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 0x1234))
	must(unix.Bind(fd, &unix.SockaddrInet4{Port: 40000, Addr: [4]byte{127, 0, 0, 2}}))
	to := &unix.SockaddrInet4{Port: 5353, Addr: [4]byte{127, 0, 0, 3}}
	if proto == "udp" {
		must(unix.Sendto(fd, []byte("abc"), 0, to))
		return
	}
	if err := unix.Connect(fd, to); !errors.Is(err, unix.ECONNREFUSED) {
		t.Fatalf("connect: %v", err)
	}
}

// kernelRules are the matches in chains that see only the packet of send.
func kernelRules(proto string) string {
	matches := `
ip saddr 127.0.0.0/8
ip saddr 127.0.0.2
ip saddr != 127.0.0.2
ip saddr 127.0.0.0/31
ip saddr 126.0.0.0/7
ip daddr 127.0.0.1-127.0.0.3
ip daddr != 127.0.0.1-127.0.0.3
ip daddr & 0.0.0.255 == 0.0.0.3
ip saddr @nets
ip saddr != @nets
ip saddr . PROTO dport @pairs
ip daddr . PROTO dport @pairs
ip daddr . PROTO dport { 127.0.0.0/8 . 5000-6000 }
ip daddr . PROTO dport { 127.0.0.0/8 . 6000-7000 }
ip daddr . ip saddr { 127.0.0.3 . 127.0.0.2 }
ip saddr { 10.0.0.0/8, 127.0.0.1-127.0.0.2 }
oifname "lo"
oifname "l*"
oifname != "lo"
oifname { "lo", "eth0" }
oifname { "eth0" }
iifname "lo"
iifname != "lo"
oif "lo"
oif != "lo"
PROTO dport 5353
PROTO dport != 5353
PROTO dport 5000-6000
PROTO dport != 5000-6000
PROTO sport { 1-1000, 40000 }
PROTO sport { 1-1000, 40001 }
PROTO sport < 40000
PROTO sport <= 40000
PROTO sport > 39999
PROTO sport 40000 PROTO dport 5353
th dport 5353
th dport { 5353, 53 }
icmp type echo-request
tcp dport 5353
udp dport 5353
udp dport 5000-6000
sctp dport 5353
tcp flags syn
tcp flags & (syn | ack) == syn
tcp flags ack
tcp flags != syn
tcp flags { syn, ack }
tcp flags syn / fin,syn,rst,ack
meta l4proto { tcp, udp }
meta l4proto != udp
ip protocol tcp
ip protocol { udp, icmp }
ip ttl 64
ip ttl < 64
ip ttl > 63
ip length 20-59
ip length 31
ip frag-off & 0x1fff != 0
ip frag-off & 0x1fff == 0
ip version 4
meta mark 0x1234
meta mark & 0xff == 0x34
meta mark & 0xff == 0x35
meta mark != 0x1234
meta mark 0x1000-0x2000
meta mark { 0x1234, 5 }
meta mark and 0xf0 != 0
meta length < 40
meta length 60
meta protocol ip
ct state new
ct state established,related
ct state != new
ct state { new, established }
ct state ! established
ct direction original
ct direction reply
ct original ip saddr 127.0.0.2
ct original ip daddr 127.0.0.0/8
ct reply ip saddr 127.0.0.3
ct reply ip saddr 127.0.0.2
ct protocol 17
meta l4proto PROTO ct original proto-dst 5353
meta l4proto PROTO ct original proto-src 5353
fib daddr type local
fib daddr type != local
fib saddr type { local, broadcast }
fib daddr type broadcast
`
	var b strings.Builder
	head := "set nets { type ipv4_addr; flags interval; elements = { 127.0.0.0/8 } }\n" +
		"set pairs { type ipv4_addr . inet_service; elements = { 127.0.0.3 . 5353, 1.2.3.4 . 53 } }\n"
	for _, table := range []string{"ip t", "inet wide"} {
		fmt.Fprintf(&b, "table %s {\n%schain c {\ntype filter hook output priority 0\nip saddr != 127.0.0.2 return\n", table, head)
		for m := range strings.Lines(strings.ReplaceAll(matches, "PROTO", proto)) {
			if m = strings.TrimSpace(m); m != "" {
				b.WriteString(m + " counter\n")
			}
		}
		b.WriteString("}\n}\n")
	}
	return strings.ReplaceAll(b.String(), "return\n", "counter return\n")
}

// iptablesMatches are the same for iptables-nft.
func iptablesMatches() string {
	return `-A OUTPUT ! -s 127.0.0.2 -j RETURN
-A OUTPUT -o lo
-A OUTPUT ! -o lo
-A OUTPUT -o l+
-A OUTPUT -d 127.0.0.0/30
-A OUTPUT ! -d 127.0.0.0/30
-A OUTPUT -p tcp --dport 5353
-A OUTPUT -p udp --dport 5353
-A OUTPUT -p udp --sport 40000 --dport 5353
-A OUTPUT -p udp --dport 5000:6000
-A OUTPUT -p udp ! --dport 5000:6000
-A OUTPUT -p tcp --syn
-A OUTPUT -p tcp ! --syn
-A OUTPUT ! -p tcp
-A OUTPUT -f
-A OUTPUT ! -f
-A OUTPUT -m mark --mark 0x1234
-A OUTPUT -m mark ! --mark 0x34/0xff
-A OUTPUT -m conntrack --ctstate NEW
-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED
-A OUTPUT -m conntrack --ctorigdst 127.0.0.3
-A OUTPUT -m addrtype --dst-type LOCAL
-A OUTPUT -m addrtype ! --src-type LOCAL
-A OUTPUT -p udp -m multiport --dports 53,5353
-A OUTPUT -p udp -m multiport --sports 53,5353
`
}
