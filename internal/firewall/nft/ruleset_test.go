package nft_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// TestNftRulesets compares whole rulesets, as programs write them, with what nft prints.
func TestNftRulesets(t *testing.T) {
	for _, file := range rulesets(t, "*.nft") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			inside(t, func() {
				run(t, "", "nft", "-f", file)
				want := byChain(run(t, "", "nft", "-s", "list", "ruleset"))
				for _, tab := range read(t) {
					for _, c := range tab.Chains {
						compare(t, want, string(tab.Family)+" "+tab.Name+" "+c.Name, c)
					}
				}
				for name, rules := range want {
					if len(rules) > 0 {
						t.Errorf("%s was not read", name)
					}
				}
			})
		})
	}
}

func rulesets(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no %s: %v", pattern, err)
	}
	return files
}

// byChain splits what `nft list ruleset` prints by family, table and chain.
func byChain(listing string) map[string][]string {
	all := make(map[string][]string)
	table, chain := "", ""
	for line := range strings.Lines(listing) {
		line = strings.TrimSpace(line)
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "table "):
			table = words[1] + " " + words[2]
		case strings.HasPrefix(line, "chain "):
			chain = table + " " + words[1]
		case line == "}":
			chain = ""
		case chain != "" && line != "" && words[0] != "type":
			all[chain] = append(all[chain], line)
		}
	}
	return all
}

// compare compares a chain with the lines of that name and takes them out.
func compare(t *testing.T, want map[string][]string, name string, c *firewall.Chain) {
	t.Helper()
	lines := want[name]
	delete(want, name)
	if len(lines) != len(c.Rules) {
		t.Errorf("%s: want %d rules, got %d", name, len(lines), len(c.Rules))
		return
	}
	for i, r := range c.Rules {
		if r.Text() != lines[i] {
			t.Errorf("%s, rule %d\nwant %s\n got %s", name, r.Number, lines[i], r.Text())
		}
	}
}

// TestIptablesRulesets compares whole rulesets with what iptables-save prints.
func TestIptablesRulesets(t *testing.T) {
	for _, file := range rulesets(t, "*.iptables") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			inside(t, func() {
				run(t, string(text), "iptables-restore")
				want := make(map[string][]string)
				name := ""
				for line := range strings.Lines(run(t, "", "iptables-save")) {
					line = strings.TrimSpace(line)
					if strings.HasPrefix(line, "*") {
						name = line[1:]
					} else if strings.HasPrefix(line, "-A ") {
						chain := name + " " + strings.Fields(line)[1]
						want[chain] = append(want[chain], line)
					}
				}
				for _, tab := range read(t) {
					for _, c := range tab.Chains {
						compare(t, want, tab.Name+" "+c.Name, c)
					}
				}
			})
		})
	}
}

// TestBridgeAndARPText compares rules with what ebtables-save and arptables-save print.
func TestBridgeAndARPText(t *testing.T) {
	for _, tt := range []struct {
		tool, save string
		family     firewall.Family
		rules      []string
	}{
		{"ebtables", "ebtables-save", firewall.FamilyBridge, []string{
			"-p ip --ip-proto tcp --ip-dport 80 -j DROP",
			"-p ip --ip-src 10.0.0.0/8 --ip-dst 1.2.3.4 -i eth0 -j DROP",
			"-s 02:00:00:00:00:01 -d 01:00:00:00:00:00/01:00:00:00:00:00 -j ACCEPT",
			"-d ff:ff:ff:ff:ff:ff -j DROP",
			"-p ARP --arp-ip-src 1.2.3.4 -j ACCEPT",
			"-o veth+ -j CONTINUE",
			"-p LENGTH -j ACCEPT",
			"! -p ARP ! -i eth0 ! -s 02:00:00:00:00:01 -j mark --mark-set 1",
			"--pkttype-type multicast -j ACCEPT",
			"-p IPv6 --ip6-proto icmpv6 -j ACCEPT",
		}},
		{"arptables", "arptables-save", firewall.FamilyARP, []string{
			"-s 1.2.3.4 -j DROP",
			"-d 10.0.0.0/8 --opcode Request -i eth0 -j ACCEPT",
			"! -s 1.2.3.4 --source-mac 02:00:00:00:00:01 -j DROP",
		}},
	} {
		t.Run(tt.tool, func(t *testing.T) {
			inside(t, func() {
				chain := map[string]string{"ebtables": "FORWARD", "arptables": "INPUT"}[tt.tool]
				for _, rule := range tt.rules {
					run(t, "", append([]string{tt.tool, "-A", chain}, strings.Fields(rule)...)...)
				}
				want := make(map[string][]string)
				for line := range strings.Lines(run(t, "", tt.save)) {
					if strings.HasPrefix(line, "-A ") {
						want[""] = append(want[""], strings.TrimSpace(line))
					}
				}
				compare(t, want, "", table(t, read(t), tt.family, "filter").Chain(chain))
			})
		})
	}
}

// TestEbtablesPolicy checks that the policy of a chain of its own is told from a rule.
func TestEbtablesPolicy(t *testing.T) {
	inside(t, func() {
		run(t, "", "ebtables", "-N", "mine", "-P", "DROP")
		r := table(t, read(t), firewall.FamilyBridge, "filter").Chain("mine").Rules
		if len(r) != 1 || r[0].Text() != "-P mine DROP" {
			t.Errorf("rules: %+v", r[0])
		}
	})
}
