package nft_test

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// TestIptablesText compares the text of rules with what iptables -S prints of them.
func TestIptablesText(t *testing.T) {
	for _, tt := range iptablesRules() {
		t.Run(tt.tool+" "+tt.table, func(t *testing.T) {
			inside(t, func() {
				compareIptables(t, tt)
			})
		})
	}
}

type iptablesCase struct {
	tool, table string
	family      firewall.Family
	rules       string
}

func compareIptables(t *testing.T, tt iptablesCase) {
	t.Helper()
	run(t, "*"+tt.table+"\n"+tt.rules+"\nCOMMIT\n", tt.tool+"-restore")
	var want []string
	for _, line := range strings.Split(run(t, "", tt.tool, "-t", tt.table, "-S"), "\n") {
		if strings.HasPrefix(line, "-A ") {
			want = append(want, line)
		}
	}
	tab := table(t, read(t), tt.family, tt.table)
	if tab.Backend != firewall.IptablesNFT {
		t.Errorf("backend of table %s is %s", tt.table, tab.Backend)
	}
	// iptables lists the chains that the kernel calls first, the others by name.
	byName := map[string][]string{}
	for _, c := range tab.Chains {
		for _, r := range c.Rules {
			byName[c.Name] = append(byName[c.Name], r.Text())
		}
	}
	for _, line := range want {
		chain := strings.Fields(line)[1]
		if len(byName[chain]) == 0 {
			t.Errorf("want %s\n got nothing", line)
			continue
		}
		if text := byName[chain][0]; text != line {
			t.Errorf("\nwant %s\n got %s", line, text)
		}
		byName[chain] = byName[chain][1:]
	}
}

func iptablesRules() []iptablesCase {
	return []iptablesCase{
		{"iptables", "filter", firewall.FamilyIP, `
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -g DOCKER
-A FORWARD -i br-app ! -o br-app -j ACCEPT
-A FORWARD ! -i br-app -o veth+ -j DROP
-A INPUT -s 10.0.0.0/8 -d 192.168.0.1 -p tcp -j ACCEPT
-A INPUT ! -s 10.0.0.0/12 ! -d 1.2.3.4 -j ACCEPT
-A INPUT -s 10.0.0.1/255.0.0.255 -j ACCEPT
-A INPUT ! -p tcp -j ACCEPT
-A INPUT -p tcp --dport 80 -j ACCEPT
-A INPUT -p tcp -m tcp --sport 1024:65535 --dport 80 -j ACCEPT
-A INPUT -p tcp ! --dport 80:90 -j ACCEPT
-A INPUT -p tcp ! --dport 80 -j ACCEPT
-A INPUT -p tcp --dport 100:200 -j ACCEPT
-A INPUT -p tcp --sport :200 -j ACCEPT
-A INPUT -p udp -m udp --dport 53 -j ACCEPT
-A INPUT -p tcp --syn -j ACCEPT
-A INPUT -p tcp ! --syn -j DROP
-A INPUT -p tcp --tcp-flags ALL NONE -j DROP
-A INPUT -p tcp --tcp-flags SYN,FIN SYN,FIN --dport 22 -j DROP
-A INPUT -p icmp -j ACCEPT
-A INPUT -p 89 -j ACCEPT
-A INPUT -p esp -j ACCEPT
-A INPUT -p 4 -j ACCEPT
-A INPUT -p gre -j ACCEPT
-A INPUT -p 200 -j ACCEPT
-A INPUT -f -j DROP
-A INPUT ! -f -j DROP
-A INPUT -m mark --mark 0x1 -j ACCEPT
-A INPUT -m mark ! --mark 0x1/0xff -j ACCEPT
-A INPUT -m limit --limit 5/min -j ACCEPT
-A INPUT -m limit --limit 3/sec --limit-burst 10 -j ACCEPT
-A INPUT -j RETURN
-A INPUT
-A INPUT -p tcp
-A INPUT -j NFLOG --nflog-group 3 --nflog-prefix "a b"
-A DOCKER-USER -p tcp -m tcp --dport 80 -j DROP
`},
		{"ip6tables", "filter", firewall.FamilyIP6, `
-A FORWARD -i br-app ! -o br-app -j ACCEPT
-A INPUT -s fe80::/10 -d 2001:db8::1 -p tcp -j ACCEPT
-A INPUT -s 2001:db8::/33 -j ACCEPT
-A INPUT -p ipv6-icmp -j ACCEPT
-A INPUT -p udp --dport 546 -j ACCEPT
-A INPUT -p tcp --dport 80 -j DROP
`},
		{"iptables", "filter", firewall.FamilyIP, `
:DOCKER - [0:0]
:ufw-user-input - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -o br-app -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -m conntrack --ctstate INVALID -j DROP
-A INPUT -m comment --comment "hi there" -p tcp --dport 80 -j DROP
-A INPUT -m comment --comment short -j DROP
-A INPUT -p tcp --dport 80 -m comment --comment "after" -j ACCEPT
-A INPUT -p tcp -m multiport --dports 80,443,1000:2000 -j ACCEPT
-A INPUT -m addrtype --dst-type LOCAL -j ACCEPT
-A INPUT -p icmp --icmp-type 8 -j ACCEPT
-A INPUT -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW BLOCK] "
-A INPUT -j REJECT --reject-with icmp-host-prohibited
-A INPUT -p tcp -j REJECT --reject-with tcp-reset
-A INPUT -m conntrack --ctorigdst 10.0.0.5 --ctorigdstport 8080 -p tcp -j DROP
-A ufw-user-input -p tcp -m multiport --dports 80,443 -m comment --comment "'dapp_Nginx%20Full'" -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m statistic --mode random --probability 0.5 -j ACCEPT
`},
		{"iptables", "nat", firewall.FamilyIP, `
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.18.0.2/32 -d 172.18.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -p udp --dport 53 -j REDIRECT --to-ports 5353
-A POSTROUTING -s 10.0.0.0/8 -j SNAT --to-source 1.2.3.4
`},
		{"iptables", "mangle", firewall.FamilyIP, `
-A PREROUTING -j MARK --set-xmark 0x1/0xffffffff
-A POSTROUTING -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu
`},
		{"iptables", "raw", firewall.FamilyIP, `
-A PREROUTING -d 172.18.0.2/32 ! -i br-app -j DROP
`},
	}
}

// TestForeignRule checks that a rule of nft in a table of iptables is written in nft's words.
func TestForeignRule(t *testing.T) {
	inside(t, func() {
		run(t, "", "iptables", "-P", "FORWARD", "DROP")
		for _, rule := range []string{
			"ct state established,related accept", "tcp dport { 22, 80 } drop", "ip frag-off & 0x4000 != 0 drop",
			"tcp dport & 0x00ff == 5 drop", "iifname vmap { \"eth0\" : drop }",
		} {
			run(t, "add rule ip filter FORWARD "+rule, "nft", "-f", "-")
		}
		want := rulesOf(run(t, "", "nft", "-s", "list", "chain", "ip", "filter", "FORWARD"))
		for i, r := range table(t, read(t), firewall.FamilyIP, "filter").Chain("FORWARD").Rules {
			if r.Text() != want[i] {
				t.Errorf("want %s, got %s", want[i], r.Text())
			}
		}
	})
}
