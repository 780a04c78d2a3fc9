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
		if r.Text != lines[i] {
			t.Errorf("%s, rule %d\nwant %s\n got %s", name, r.Number, lines[i], r.Text)
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
