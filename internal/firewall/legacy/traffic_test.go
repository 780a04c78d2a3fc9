package legacy_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// trafficRules returns conditions that a chain called from INPUT can have: those of the options' tests
// and some more that fit the packets that are sent.
func trafficRules(t *testing.T) []string {
	t.Helper()
	list := strings.Split(strings.TrimSpace(`
-s 127.0.0.1 -d 127.0.0.2 -i lo
! -s 127.0.0.1
-s 127.0.0.0/255.0.0.255
-i l+
! -i lo
-o lo
! -o eth0
-p udp
! -p udp
-p tcp -m tcp --dport 8080 --syn
-p tcp -m tcp ! --dport 8080
-p tcp -m tcp --sport 1024:65535 --tcp-flags SYN,ACK SYN
-p tcp -m tcp --tcp-flags ALL SYN
-p udp -m udp --dport 8080
-p udp -m udp ! --sport 1:1023
-p udp -m multiport --dports 1,8000:8090
-p tcp -m multiport ! --ports 8080
-p tcp -m multiport --sports 8080
-m conntrack --ctstate NEW
-m conntrack ! --ctstate NEW
-m conntrack --ctstate ESTABLISHED,RELATED,UNTRACKED
-m conntrack --ctstate NEW,DNAT
-m conntrack --ctstate DNAT
-m conntrack --ctorigsrc 127.0.0.1 --ctorigdst 127.0.0.0/24
-m conntrack ! --ctorigdst 127.0.0.2
-m conntrack --ctorigdstport 8080 --ctdir ORIGINAL
-m conntrack --ctdir REPLY
-m conntrack --ctreplsrc 127.0.0.2 --ctreplsrcport 8080
-m conntrack --ctproto 17
-m conntrack --ctstatus NONE
-m conntrack ! --ctstatus SEEN_REPLY
-m conntrack --ctstatus CONFIRMED
-m state --state NEW
-m addrtype --dst-type LOCAL
-m addrtype --src-type LOCAL --limit-iface-in
-m addrtype ! --dst-type LOCAL
-m iprange --src-range 127.0.0.1-127.0.0.1 ! --dst-range 127.0.0.3-127.0.0.9
-m ttl --ttl-eq 64
-m ttl --ttl-lt 64
-m ttl --ttl-gt 3
-m length --length 20:200
-m length ! --length 0:2000
-m mark --mark 0
-m mark ! --mark 0x0/0xff
-m connmark --mark 0
-m statistic --mode nth --every 1 --packet 0
-m statistic --mode random --probability 1
-m comment --comment x
-m physdev --physdev-is-bridged
-m physdev ! --physdev-is-bridged
-f
! -f`), "\n")
	target := regexp.MustCompile(`(^| )-j .*`)
	for _, rule := range lines(t, "options4.rules") {
		if rule, ok := strings.CutPrefix(rule, "-A FORWARD "); ok {
			list = append(list, target.ReplaceAllString(rule, ""))
		}
	}
	return list
}

// sendBoth sends one datagram and opens one connection from 127.0.0.1 to port 8080 of 127.0.0.2, in
// the namespace of the calling thread, and returns the packets that were first.
func sendBoth(t *testing.T) []*firewall.Packet {
	t.Helper()
	to := &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{127, 0, 0, 2}}
	from := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	var packets []*firewall.Packet
	for _, typ := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		var fds [2]int
		for i, addr := range []unix.Sockaddr{to, from} {
			fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(fd) })
			if err := unix.Bind(fd, addr); err != nil {
				t.Fatal(err)
			}
			fds[i] = fd
		}
		if typ == unix.SOCK_STREAM {
			if err := unix.Listen(fds[0], 1); err != nil {
				t.Fatal(err)
			}
		}
		if err := unix.Connect(fds[1], to); err != nil {
			t.Fatalf("connect socket of type %d: %v", typ, err)
		}
		p := &firewall.Packet{Proto: unix.IPPROTO_TCP, Length: 60, TCPFlags: 0x02, HasTCPFlags: true}
		if typ == unix.SOCK_DGRAM {
			if _, err := unix.Write(fds[1], []byte("hello")); err != nil {
				t.Fatalf("write: %v", err)
			}
			p = &firewall.Packet{Proto: unix.IPPROTO_UDP, Length: 33}
		}
		name, err := unix.Getsockname(fds[1])
		if err != nil {
			t.Fatal(err)
		}
		p.SrcPort = uint16(name.(*unix.SockaddrInet4).Port)
		packets = append(packets, arrived(p))
	}
	return packets
}

// arrived adds what is known of the packets at the input hook.
func arrived(p *firewall.Packet) *firewall.Packet {
	p.Hook, p.In, p.InIndex = firewall.Input, "lo", 1
	p.Src, p.Dst, p.DstPort = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), 8080
	p.TTL, p.HasMark = 64, true
	orig := firewall.Tuple{Src: p.Src, Dst: p.Dst, SrcPort: p.SrcPort, DstPort: p.DstPort, Proto: p.Proto}
	reply := firewall.Tuple{Src: p.Dst, Dst: p.Src, SrcPort: p.DstPort, DstPort: p.SrcPort, Proto: p.Proto}
	p.CT = &firewall.Conntrack{
		State: firewall.CTNew, Orig: orig, Return: reply, HasMark: true, HasStatus: true,
		// On the loopback device the output hooks came first, and confirmed the entry.
		Status: firewall.StatusConfirmed,
	}
	p.AddrType = func(addr netip.Addr, typ, dev string) firewall.Truth {
		return firewall.Of(typ == "LOCAL" && addr.IsLoopback())
	}
	return p
}

// TestTraffic sends packets through rules that count, and compares the counters with what the rules say
// about the packets.
func TestTraffic(t *testing.T) {
	inNamespace(t, func() {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
		must := func(rule string) {
			if _, err := run(t, "", "sh", "-c", "iptables-legacy "+rule); err != nil {
				t.Fatal(err)
			}
		}
		must("-N TEST")
		must("-A INPUT -s 127.0.0.1 -d 127.0.0.2 -p udp -m udp --dport 8080 -j TEST")
		must("-A INPUT -s 127.0.0.1 -d 127.0.0.2 -p tcp -m tcp --dport 8080 --syn -j TEST")
		for _, rule := range trafficRules(t) {
			if _, err := run(t, "", "sh", "-c", "iptables-legacy -A TEST "+rule); err != nil {
				t.Logf("refused: %v", err)
			}
		}
		// Without a rule that needs it in the namespace, connections are not tracked.
		must("-A OUTPUT -m conntrack --ctstate NEW")
		packets := sendBoth(t)
		rules := find(t, read(t), firewall.FamilyIP, "filter").Chain("TEST").Rules
		known := 0
		for _, rule := range rules {
			least, most := uint64(0), uint64(0)
			for _, p := range packets {
				switch j := rule.Body.Judge(p); j.Match {
				case firewall.Yes:
					least, most = least+1, most+1
				case firewall.Maybe:
					most++
				}
			}
			if rule.Packets < least || rule.Packets > most {
				t.Errorf("%s counted %d packets, judged %d to %d", rule.Text(), rule.Packets, least, most)
			}
			if least == most {
				known++
			}
		}
		t.Logf("%d of %d rules were judged exactly", known, len(rules))
		if known < len(rules)/2 {
			t.Errorf("only %d of %d rules were judged exactly", known, len(rules))
		}
	})
}
