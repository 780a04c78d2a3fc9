package nft_test

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nft"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// TestReadTables checks what tables and chains say of themselves.
func TestReadTables(t *testing.T) {
	inside(t, func() {
		run(t, `
table inet own {
	chain forwards {
		type filter hook forward priority -5; policy drop
		counter
	}
	chain nats { type nat hook postrouting priority srcnat; }
	chain routes { type route hook output priority mangle; }
	chain plain { accept comment "hello"; drop; }
	chain ing { type filter hook ingress device "lo" priority 7; }
}
table ip sleeping { flags dormant; chain c { type filter hook input priority 0; policy drop; }; }
table netdev dev { chain ing { type filter hook ingress devices = { lo } priority 0; }; }
table arp a { chain out { type filter hook output priority 0; }; }
table bridge filter { chain FORWARD { type filter hook forward priority -200; }; }
table ip filter { chain forward { type filter hook forward priority 0; }; }
`, "nft", "-f", "-")
		run(t, "", "iptables", "-P", "INPUT", "DROP")
		all := read(t)
		own := table(t, all, firewall.FamilyInet, "own")
		checkChain(t, own.Chain("forwards"), firewall.Chain{Hook: firewall.Forward, Type: "filter", Priority: -5, Policy: firewall.Drop})
		checkChain(t, own.Chain("nats"), firewall.Chain{Hook: firewall.Postrouting, Type: "nat", Priority: 100, Policy: firewall.Accept})
		checkChain(t, own.Chain("routes"), firewall.Chain{Hook: firewall.Output, Type: "route", Priority: -150, Policy: firewall.Accept})
		checkChain(t, own.Chain("ing"), firewall.Chain{Hook: firewall.Ingress, Type: "filter", Priority: 7, Policy: firewall.Accept, Devices: []string{"lo"}})
		checkChain(t, own.Chain("plain"), firewall.Chain{})
		if r := own.Chain("plain").Rules; len(r) != 2 || r[0].Comment != "hello" || r[1].Number != 2 || r[1].Handle == 0 || r[0].Counted {
			t.Errorf("rules of chain plain: %+v", r)
		}
		if r := own.Chain("forwards").Rules[0]; !r.Counted {
			t.Errorf("a rule with a counter: %+v", r)
		}
		if !table(t, all, firewall.FamilyIP, "sleeping").Dormant || own.Dormant {
			t.Error("the dormant table is not the dormant one")
		}
		checkChain(t, table(t, all, firewall.FamilyNetdev, "dev").Chain("ing"),
			firewall.Chain{Hook: firewall.Ingress, Type: "filter", Policy: firewall.Accept, Devices: []string{"lo"}})
		checkChain(t, table(t, all, firewall.FamilyARP, "a").Chain("out"),
			firewall.Chain{Hook: firewall.Output, Type: "filter", Policy: firewall.Accept})
		for _, tab := range all {
			want := firewall.NFTables
			if tab.Family == firewall.FamilyBridge {
				want = firewall.IptablesNFT
			}
			if tab.Backend != want {
				t.Errorf("table %s %s is of %s", tab.Family, tab.Name, tab.Backend)
			}
		}
	})
}

func checkChain(t *testing.T, got *firewall.Chain, want firewall.Chain) {
	t.Helper()
	if got.Hook != want.Hook || got.Type != want.Type || got.Priority != want.Priority || got.Policy != want.Policy ||
		!slices.Equal(got.Devices, want.Devices) {
		t.Errorf("chain %s: want %+v, got %+v", got.Name, want, *got)
	}
}

// TestReadOwner checks that the owner of a table is named, who is gone with its socket.
func TestReadOwner(t *testing.T) {
	inside(t, func() {
		run(t, "", "nft", "--version")
		cmd := exec.Command("nft", "-i")
		stdin, err := cmd.StdinPipe()
		labtest.Must(t, err)
		labtest.Must(t, cmd.Start())
		defer func() { stdin.Close(); _ = cmd.Wait() }()
		fmt.Fprintln(stdin, "add table ip mine { flags owner; }")
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
			if all := read(t); len(all) == 1 {
				if all[0].Progname != "nft" {
					t.Errorf("owner %q", all[0].Progname)
				}
				return
			}
			if time.Now().After(deadline) {
				t.Skip("nft made no table with an owner")
			}
		}
	})
}

// TestReadIPSet checks that rules of iptables know what is in the sets of ipset.
func TestReadIPSet(t *testing.T) {
	inside(t, func() {
		labtest.Must(t, netlink.IpsetCreate("blocked", "hash:net", netlink.IpsetCreateOptions{}))
		labtest.Must(t, netlink.IpsetAdd("blocked", &netlink.IPSetEntry{IP: net.IPv4(10, 1, 0, 0).To4(), CIDR: 16}))
		run(t, "", "iptables", "-A", "FORWARD", "-m", "set", "--match-set", "blocked", "src", "-j", "DROP")
		r := table(t, read(t), firewall.FamilyIP, "filter").Chain("FORWARD").Rules[0]
		if want := "-A FORWARD -m set --match-set blocked src -j DROP"; r.Text() != want {
			t.Errorf("want %s, got %s", want, r.Text())
		}
		p := web()
		if got := r.Body.Judge(p).Match; got != yes {
			t.Errorf("%v: judged %v", p.Src, got)
		}
		p.Src = p.Dst
		if got := r.Body.Judge(p).Match; got != no {
			t.Errorf("%v: judged %v", p.Src, got)
		}
	})
}

// TestReadAgain checks that a reader that keeps sets sees changes of sets and of counters.
func TestReadAgain(t *testing.T) {
	inside(t, func() {
		run(t, "", "ip", "link", "set", "lo", "up")
		run(t, `table ip t {
	set s { type ipv4_addr; elements = { 1.2.3.4 }; }
	chain c { type filter hook output priority 0; ip daddr @s counter; counter; }
}`, "nft", "-f", "-")
		var reader nft.Reader
		rules := func() []*firewall.Rule {
			tables, _, err := reader.Read()
			labtest.Must(t, err)
			return table(t, tables, firewall.FamilyIP, "t").Chain("c").Rules
		}
		p := web()
		first := rules()
		if got := first[0].Body.Judge(p).Match; got != no {
			t.Errorf("before: %v", got)
		}
		send(t, "udp")
		if again := rules(); again[1].Packets <= first[1].Packets {
			t.Errorf("counted %d, then %d", first[1].Packets, again[1].Packets)
		}
		run(t, "add element ip t s { "+p.Dst.String()+" }", "nft", "-f", "-")
		if got := rules()[0].Body.Judge(p).Match; got != yes {
			t.Errorf("after: %v", got)
		}
	})
}

// TestReadNothing checks that a namespace without rules has none.
func TestReadNothing(t *testing.T) {
	inside(t, func() {
		if all := read(t); len(all) != 0 {
			t.Errorf("tables: %v", all)
		}
	})
}

// many is a ruleset of n rules in one chain.
func many(n int) string {
	var b strings.Builder
	b.WriteString("table ip filter {\nchain FORWARD { type filter hook forward priority 0;\n")
	for i := range n {
		fmt.Fprintf(&b, "ip saddr 10.%d.%d.0/24 iifname != \"br-app\" oifname \"br-app\" tcp dport %d counter drop\n", i/256, i%256, i+1)
	}
	b.WriteString("}\n}\n")
	return b.String()
}

// docker is about what Docker writes for n published ports.
func docker(n int) string {
	var b strings.Builder
	b.WriteString("*nat\n:DOCKER - [0:0]\n-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n")
	for i := range n {
		fmt.Fprintf(&b, "-A POSTROUTING -s 172.18.0.%d/32 -d 172.18.0.%d/32 -p tcp -m tcp --dport 80 -j MASQUERADE\n", i+2, i+2)
		fmt.Fprintf(&b, "-A DOCKER ! -i br-app -p tcp -m tcp --dport %d -j DNAT --to-destination 172.18.0.%d:80\n", 8000+i, i+2)
	}
	b.WriteString("COMMIT\n*filter\n:DOCKER - [0:0]\n-A FORWARD -o br-app -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n")
	for i := range n {
		fmt.Fprintf(&b, "-A DOCKER -d 172.18.0.%d/32 ! -i br-app -o br-app -p tcp -m tcp --dport 80 -j ACCEPT\n", i+2)
	}
	b.WriteString("COMMIT\n")
	return b.String()
}

// BenchmarkRead reads a chain of 5,000 rules and what Docker writes for 25 ports.
func BenchmarkRead(b *testing.B) {
	for _, tt := range []struct {
		name, stdin string
		argv        []string
	}{
		{"5000 rules in a chain", many(5000), []string{"nft", "-f", "-"}},
		{"80 rules of Docker", docker(26), []string{"iptables-restore"}},
	} {
		b.Run(tt.name, func(b *testing.B) {
			inside(b, func() {
				run(b, tt.stdin, tt.argv...)
				for b.Loop() {
					if _, _, err := new(nft.Reader).Read(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
		b.Run(tt.name+" again", func(b *testing.B) {
			inside(b, func() {
				run(b, tt.stdin, tt.argv...)
				var reader nft.Reader
				for b.Loop() {
					if _, _, err := reader.Read(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkJudge judges a packet by 5,000 rules.
func BenchmarkJudge(b *testing.B) {
	inside(b, func() {
		run(b, many(5000), "nft", "-f", "-")
		rules := table(b, read(b), firewall.FamilyIP, "filter").Chain("FORWARD").Rules
		p := web()
		for b.Loop() {
			for _, r := range rules {
				r.Body.Judge(p)
			}
		}
	})
}

// TestReadManyRules bounds the time for a chain of 5,000 rules, generously: the machine may be busy.
func TestReadManyRules(t *testing.T) {
	inside(t, func() {
		run(t, many(5000), "nft", "-f", "-")
		best := time.Hour
		for range 3 {
			start := time.Now()
			all := read(t)
			best = min(best, time.Since(start))
			if n := len(table(t, all, firewall.FamilyIP, "filter").Chain("FORWARD").Rules); n != 5000 {
				t.Fatalf("%d rules", n)
			}
		}
		t.Logf("5,000 rules in %v", best)
		if best > time.Second {
			t.Errorf("reading 5,000 rules took %v", best)
		}
	})
}

// TestReadWhileChanging reads while tables with sets come and go.
func TestReadWhileChanging(t *testing.T) {
	inside(t, func() {
		run(t, "table ip stays { chain c { tcp dport { 22, 80 } accept; }; }", "nft", "-f", "-")
		script := strings.Repeat("add table ip goes\nadd chain ip goes c\nadd rule ip goes c tcp dport { 22, 80 } accept\n"+
			"delete table ip goes\n", 20) + "add table ip goes\nadd chain ip goes c\nadd rule ip goes c ip saddr { 1.2.3.4, 1.2.3.5 } drop\n"
		for range 10 {
			cmd := exec.Command("nft", "-f", "-")
			cmd.Stdin = strings.NewReader(script + "flush chain ip goes c\n")
			if err := cmd.Start(); err != nil {
				t.Skip(err)
			}
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			for running := true; running; {
				select {
				case err := <-done:
					running = false
					if err != nil {
						t.Fatal(err)
					}
				default:
				}
				all, _, err := new(nft.Reader).Read()
				if err != nil {
					t.Fatal(err)
				}
				if r := table(t, all, firewall.FamilyIP, "stays").Chain("c").Rules; len(r) != 1 || r[0].Text() != "tcp dport { 22, 80 } accept" {
					t.Fatalf("rules: %+v", r[0])
				}
			}
		}
	})
}
