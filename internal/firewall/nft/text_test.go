package nft_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// TestNftText compares the text of rules with what nft prints of them.
func TestNftText(t *testing.T) {
	for _, tt := range nftRules() {
		t.Run(tt.family+" "+tt.chain, func(t *testing.T) {
			inside(t, func() {
				run(t, "table "+tt.family+" t {\n"+tt.before+"\nchain other {}\nchain c {\n"+tt.chain+"\n}\n}\n", "nft", "-f", "-")
				addRules(t, "add rule "+tt.family+" t c ", tt.rules)
				want := rulesOf(run(t, "", "nft", "-s", "list", "chain", strings.Fields(tt.family)[0], "t", "c"))
				var got []string
				for _, r := range table(t, read(t), firewall.Family(tt.family), "t").Chain("c").Rules {
					got = append(got, r.Text())
				}
				if len(want) != len(got) {
					t.Fatalf("want %d rules, got %d", len(want), len(got))
				}
				for i := range want {
					if want[i] != got[i] {
						t.Errorf("rule %d\nwant %s\n got %s", i+1, want[i], got[i])
					}
				}
			})
		})
	}
}

// addRules adds rules one by one and leaves out those that the running kernel cannot have.
func addRules(t *testing.T, command, rules string) {
	t.Helper()
	for rule := range strings.Lines(rules) {
		if rule = strings.TrimSpace(rule); rule == "" {
			continue
		}
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(command + rule + "\n")
		out, err := cmd.CombinedOutput()
		if err == nil {
			continue
		}
		if !strings.Contains(string(out), "Could not process rule") && !strings.Contains(string(out), "No such file") {
			t.Fatalf("%s: %v: %s", rule, err, out)
		}
		t.Logf("not on this kernel: %s", rule)
	}
}

type nftCase struct{ family, chain, before, rules string }

func nftRules() []nftCase {
	return []nftCase{
		{"ip", "type filter hook input priority 0; policy drop;", `
	set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.1.1 } }
	set pairs { type ipv4_addr . inet_service; elements = { 1.2.3.4 . 80 } }
	map targets { type inet_service : ipv4_addr; elements = { 80 : 1.2.3.4 } }
	map jumps { type ifname : verdict; elements = { "eth0" : jump other, "br-*" : drop } ; flags interval; }
	set dyn { type ipv4_addr; flags dynamic,timeout; timeout 1m; }
	limit lim { rate 10/second }
	counter cnt { }
`, `
	ip saddr 10.0.0.0/8 tcp dport { 80, 443 } counter drop
	ip saddr 10.0.0.0/12 drop
	ip saddr != 10.1.2.3 accept
	ip saddr 10.0.0.1-10.0.0.9 accept
	ip saddr != 10.0.0.1-10.0.0.9 accept
	ip saddr & 255.0.0.255 == 10.0.0.1 accept
	ip daddr @nets accept
	ip daddr != @nets accept
	ip daddr { 10.0.0.0/8, 192.168.1.1, 172.16.0.1-172.16.0.9 } accept
	ip saddr . tcp dport @pairs accept
	ip saddr . tcp dport { 1.2.3.4 . 80, 1.2.3.5 . 443 } accept
	ip saddr . tcp dport vmap { 1.2.3.0/24 . 80-90 : accept, 1.2.3.5 . 443 : drop }
	iifname vmap @jumps
	iifname "eth0" accept
	iifname != "br-*" oifname "veth*" drop
	iifname { "eth0", "eth1" } accept
	iif "lo" accept
	oifname vmap { "eth0" : accept, "br-app" : jump other }
	tcp dport 1024-65535 accept
	tcp dport != 1-1023 accept
	tcp sport > 1024 accept
	udp dport { 53, 1000-2000 } accept
	tcp flags syn / fin,syn,rst,ack accept
	tcp flags & (fin | syn) == syn drop
	tcp flags syn drop
	tcp flags { syn, ack } drop
	tcp flags != syn drop
	meta l4proto tcp accept
	meta l4proto { tcp, udp } accept
	meta l4proto { tcp, udp } th dport 53 accept
	ip protocol icmp accept
	ip protocol tcp tcp dport 80 accept
	ip protocol != tcp drop
	icmp type echo-request accept
	icmp type { echo-request, echo-reply } accept
	icmp code 3 drop
	ct state established,related accept
	ct state vmap { established : accept, related : accept, invalid : drop }
	ct state invalid drop
	ct state new accept
	ct state { new, established } accept
	ct state != established accept
	ct status dnat accept
	ct status & dnat != 0 accept
	ct mark 0x1 accept
	ct mark & 0xff == 0x10 accept
	ct direction reply accept
	ct original ip daddr 1.2.3.4 accept
	ct original ip saddr 10.0.0.0/8 accept
	meta l4proto tcp ct original proto-dst 80 accept
	ct count over 10 drop
	meta mark 0x10 accept
	meta mark & 0xff == 0x10 accept
	meta mark != 0x0 accept
	meta mark { 1, 2 } accept
	meta mark 1-10 accept
	meta mark set 0x1
	meta mark set ct mark
	meta mark set meta mark | 0x10
	meta mark set meta mark & 0xff
	meta mark set meta mark ^ 0xff
	ip saddr 1.2.3.4 ip daddr 1.2.3.5 drop
	tcp sport 1 tcp dport 2 drop
	icmp type destination-unreachable icmp code port-unreachable drop
	tcp sport . tcp dport { 1 . 2 } drop
	ip dscp != cs1
	ip dscp { cs1, ef } accept
	tcp flags & (syn | ack) == (syn | ack) drop
	tcp flags & (syn | ack) != syn drop
	tcp flags ! syn,ack drop
	ct state ! established drop
	ct state invalid,new drop
	ct mark set 0x5
	ct mark set ct mark | 0x5
	meta mark & 0x0000ff00 != 0 drop
	meta mark and 0xf0 vmap { 0x10 : accept, 0x20 : drop }
	ip saddr { 10.0.0.0/8 } drop
	ip saddr { 10.0.0.0-10.0.0.5, 10.0.0.8/30 } drop
	tcp dport { 1-65535 } drop
	tcp dport { 0-1023 } drop
	iifname . tcp dport { "eth0" . 80, "br-app" . 443 } accept
	iifname . oifname { "eth0" . "eth1" } accept
	ip saddr . ip daddr { 10.0.0.0/8 . 1.2.3.4, 1.2.3.4-1.2.3.9 . 1.2.3.4 } accept
	ip daddr vmap { 10.0.0.0/8 : jump other, 1.2.3.4 : drop, * : accept }
	meta l4proto vmap { tcp : accept, udp : drop, icmp : jump other }
	meta cpu 1 drop
	meta iifgroup 1 drop
	meta random 1 drop
	meta nftrace set 1
	meta priority set 1:2
	meta skgid 100 accept
	ct expiration 30s drop
	ct helper "ftp" accept
	ct id 5 drop
	ct zone 1 drop
	ct bytes > 100000 drop
	ct original packets > 10 drop
	rt classid 5 drop
	rt mtu 100 drop
	tcp option sack-permitted exists drop
	tcp option timestamp exists drop
	tcp doff 5 drop
	tcp sequence 100 drop
	ip version 4 drop
	ip hdrlength 5 drop
	ip id 5 drop
	ip checksum 5 drop
	ip protocol { tcp, udp } drop
	ip protocol vmap { tcp : drop }
	udp length 100 drop
	esp spi 100 drop
	ah spi 100 drop
	sctp dport 90 drop
	dccp dport 90 drop
	udplite dport 90 drop
	th dport 90 drop
	meta l4proto 200 drop
	ip protocol 200 drop
	ether saddr 02:00:00:00:00:01 drop
	socket transparent 1 accept
	socket mark 5 accept
	synproxy mss 1460 wscale 7 timestamp sack-perm
	limit rate 100/second burst 150 packets drop
	limit rate 1 kbytes/second burst 2 kbytes drop
	limit rate over 1023 bytes/second drop
	log level emerg
	log prefix "a" level debug flags skuid
	log prefix "b" group 5 snaplen 100 queue-threshold 10
	ct count 5 accept
	quota 5 bytes drop
	quota until 5 kbytes drop
	dup to 1.2.3.4
	dup to 1.2.3.4 device "lo"
	jhash ip saddr mod 2 vmap { 0 : drop, 1 : accept }
	numgen inc mod 2 offset 5 vmap { 5 : drop, 6 : accept }
	symhash mod 2 vmap { 0 : drop, 1 : accept }
	fib daddr type { local, multicast, anycast, blackhole } drop
	fib saddr oif "lo" drop
	fib saddr oifname "lo" drop
	fib daddr type != local drop
	fib daddr type vmap { local : jump other, broadcast : drop }
	@th,0,16 80 drop
	ct mark set meta mark
	meta pkttype broadcast drop
	meta pkttype { broadcast, multicast } drop
	meta length > 100 drop
	meta length 10-100 drop
	meta skuid 1000 accept
	ip ttl 1 drop
	ip ttl < 5 drop
	ip length 100-200 accept
	ip dscp ef accept
	ip dscp cs1 accept
	ip frag-off & 0x1fff != 0 drop
	fib daddr type local accept
	fib daddr type { local, broadcast } accept
	fib saddr . iif oif missing drop
	fib daddr . iif type local drop
	limit rate 10/second accept
	limit rate 10/minute burst 20 packets accept
	limit rate over 5/hour drop
	limit rate 10 mbytes/second accept
	limit name "lim" accept
	counter name "cnt" accept
	quota over 10 mbytes drop
	log prefix "x: " drop
	log prefix "x: " level info
	log group 2 prefix "grp" 
	log flags all
	log flags tcp sequence,options
	reject
	reject with icmp host-unreachable
	reject with icmp admin-prohibited
	tcp dport 80 reject with tcp reset
	meta l4proto tcp reject with tcp reset
	queue to 1
	queue flags bypass to 1-3
	add @dyn { ip saddr }
	update @dyn { ip saddr timeout 10s }
	update @dyn { ip saddr limit rate over 10/second } drop
	numgen random mod 2 vmap { 0 : accept, 1 : drop }
	tcp option maxseg size 1400 accept
	tcp option maxseg size set 1400
	ip saddr 1.2.3.4 comment "a comment"
	counter
	jump other
	goto other
	return
	drop
`},
		{"ip", "type nat hook prerouting priority dstnat;", `
	map targets { type inet_service : ipv4_addr; elements = { 80 : 1.2.3.4 } }
	map both { type inet_service : ipv4_addr . inet_service; elements = { 80 : 1.2.3.4 . 8080 } }
`, `
	iifname != "br-app" tcp dport 8080 dnat to 172.18.0.2:80 comment "DNAT"
	dnat to 1.2.3.4
	ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:34492
	tcp dport 80 dnat to 1.2.3.4-1.2.3.9
	tcp dport 80 dnat to 1.2.3.4:80-90
	tcp dport 80 dnat to 1.2.3.4:80 random
	tcp dport 80 dnat to 1.2.3.4:80 persistent
	dnat to tcp dport map @targets
	dnat to tcp dport map { 80 : 1.2.3.4, 81 : 1.2.3.5 }
	dnat ip to tcp dport map @both
	dnat to numgen random mod 2 map { 0 : 1.2.3.4, 1 : 1.2.3.5 }
	tcp dport 80 redirect to :8080
	redirect
	fib daddr type local counter jump other
`},
		{"ip", "type nat hook postrouting priority srcnat;", ``, `
	oifname != "br-app" ip saddr 172.18.0.0/16 masquerade comment "MASQUERADE"
	masquerade random
	masquerade fully-random
	tcp dport 80 masquerade to :1024-65535
	snat to 1.2.3.4
	udp sport 34492 ip saddr 127.0.0.11 snat to :53
	ct status dnat accept
`},
		{"ip", "type filter hook prerouting priority raw;", ``, `
	ip daddr 172.18.0.2 iifname != "br-app" drop comment "DROP DIRECT ACCESS"
	notrack
	ct helper "ftp" accept
`},
		{"ip6", "type filter hook forward priority filter;", ``, `
	ip6 saddr fe80::/10 accept
	ip6 daddr ::1 drop
	ip6 daddr { fe80::/10, 2001:db8::1 } drop
	ip6 nexthdr tcp accept
	icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert } accept
	icmpv6 type echo-request accept
	meta l4proto ipv6-icmp accept
	ip6 hoplimit 255 accept
	reject
	reject with icmpv6 addr-unreachable
	tcp dport 80 reject with tcp reset
`},
		{"inet", "type filter hook forward priority filter;", `
	set v6 { type ipv6_addr; }
`, `
	ip saddr 10.0.0.0/8 tcp dport { 80, 443 } counter drop
	ip6 saddr fe80::/10 accept
	ip6 saddr @v6 udp dport 53 accept
	meta nfproto ipv4 accept
	meta nfproto ipv4 tcp dport 80 accept
	meta nfproto ipv6 ct state new accept
	tcp dport 22 accept
	tcp dport { ssh, http } ct state new accept
	icmp type echo-request accept
	icmpv6 type echo-request accept
	ip protocol icmp accept
	ip6 nexthdr ipv6-icmp accept
	meta l4proto { icmp, ipv6-icmp } accept
	reject
	reject with icmpx admin-prohibited
	reject with icmp host-unreachable
	reject with icmpv6 no-route
	reject with tcp reset
	ct state { established, related } accept
	ct status dnat accept
	iifname "lo" accept
	ip daddr 1.2.3.4 reject
	ct original ip daddr 1.2.3.4 accept
	meta protocol ip udp dport 53 accept
	fib saddr . mark . iif oif missing drop
`},
		{"inet", "type nat hook prerouting priority dstnat;", ``, `
	tcp dport 80 dnat ip to 1.2.3.4:80
	tcp dport 80 dnat ip6 to [fe80::1]:80
	ip daddr 1.2.3.4 tcp dport 80 dnat ip to 1.2.3.5
	tcp dport 80 redirect to :80
	meta l4proto tcp redirect to :80
`},
		{"bridge", "type filter hook forward priority filter;", ``, `
	ether type ip ip protocol tcp drop
	ether type arp drop
	ether saddr 02:00:00:00:00:01 accept
	ether saddr { 02:00:00:00:00:01, 02:00:00:00:00:02 } accept
	ip saddr 10.0.0.0/8 tcp dport 80 drop
	ip6 saddr fe80::1 drop
	tcp dport 80 drop
	iifname "veth0" oifname "veth1" accept
	arp operation request arp saddr ip 1.2.3.4 accept
	meta protocol ip accept
	vlan id 100 accept
`},
		{"arp", "type filter hook input priority filter;", ``, `
	arp operation request accept
	arp saddr ip 10.0.0.0/8 accept
	arp daddr ip 10.0.0.1 drop
`},
		{"netdev", "type filter hook ingress device \"lo\" priority filter;", ``, `
	ip saddr 10.0.0.0/8 drop
	tcp dport 80 drop
	meta protocol ip counter
	iifname "lo" drop
	ip6 daddr ::1 udp dport 53 drop
	fwd to "lo"
`},
	}
}
