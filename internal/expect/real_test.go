package expect

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/legacy"
	"github.com/pathtrace/pathtrace/internal/firewall/nft"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

// inNamespace runs fn on a thread in a network namespace of its own.
func inNamespace(t *testing.T, fn func()) {
	t.Helper()
	labtest.NeedsRoot(t)
	ns, err := netns.New()
	labtest.Must(t, err)
	defer ns.Close()
	labtest.Must(t, netns.Do(ns, func() error { fn(); return nil }))
}

// shell runs a command line in the thread's namespace.
func shell(t *testing.T, line, input string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// real reads the rules of the thread's namespace.
func real(t *testing.T) *firewall.Ruleset {
	t.Helper()
	rs := &firewall.Ruleset{}
	for _, read := range []func() ([]*firewall.Table, []string, error){
		new(nft.Reader).Read, func() ([]*firewall.Table, []string, error) { return legacy.Read(nil) },
	} {
		tables, problems, err := read()
		labtest.Must(t, err)
		rs.Tables, rs.Problems = append(rs.Tables, tables...), append(rs.Problems, problems...)
	}
	if len(rs.Problems) > 0 {
		t.Fatalf("not read: %q", rs.Problems)
	}
	return rs
}

// needsTool skips the test if a program is not there.
func needsTool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
}

// TestRealIptables puts rules of real engines into the kernel, takes away one after the other, and puts
// it back as the command says: then everything must stand where it stood.
func TestRealIptables(t *testing.T) {
	noProxy := oldState()
	noProxy.UserlandProxy = false
	for _, tool := range []string{"iptables-nft", "iptables-legacy"} {
		for file, s := range map[string]*State{testFile: oldState(), "iptables-20.10-noproxy.rules": noProxy} {
			t.Run(tool+" "+file, func(t *testing.T) {
				needsTool(t, tool)
				text, err := os.ReadFile(filepath.Join("testdata", file))
				labtest.Must(t, err)
				inNamespace(t, func() { takeAway(t, tool, string(text), s) })
			})
		}
	}
}

func takeAway(t *testing.T, tool, saved string, s *State) {
	t.Helper()
	shell(t, tool+"-restore", saved)
	if got := Check(s, real(t)); len(got) > 0 {
		t.Errorf("missing: %q", rulesOf(got))
	}
	done := 0
	for _, name := range []string{filterTable, natTable} {
		list := tool + " -t " + name + " -S"
		before := shell(t, list, "")
		for line := range strings.Lines(before) {
			line = strings.TrimSpace(line)
			if !strings.HasPrefix(line, "-A ") {
				continue
			}
			shell(t, tool+" -t "+name+" -D "+line[len("-A "):], "")
			got := Check(s, real(t))
			if len(got) == 1 && got[0].Command != "" {
				if got[0].Rule != line {
					t.Errorf("missing %q, want %q", got[0].Rule, line)
				}
				if legacyTool := strings.Contains(got[0].Command, "iptables-legacy"); legacyTool != (tool == "iptables-legacy") {
					t.Errorf("%s: %s", tool, got[0].Command)
				}
				shell(t, strings.Replace(got[0].Command, "iptables ", tool+" ", 1), "")
				if got := Check(s, real(t)); len(got) > 0 {
					t.Errorf("after %s: %q", line, rulesOf(got))
				}
				done++
			}
			closing(t, line, before, shell(t, list, ""))
			shell(t, tool+"-restore", saved)
		}
	}
	if done < 40 {
		t.Errorf("only %d rules were put back", done)
	}
}

// closing checks that FORWARD begins as before: what accepts must stand behind the chains that close.
func closing(t *testing.T, line, before, after string) {
	t.Helper()
	first := func(text string) []string {
		var out []string
		for l := range strings.Lines(text) {
			if strings.HasPrefix(l, "-A FORWARD") && len(out) < 2 {
				out = append(out, strings.TrimSpace(l))
			}
		}
		return out
	}
	if !slices.Equal(first(before), first(after)) {
		t.Errorf("%s was put in front: %q", line, first(after))
	}
}

// TestRealNFTables does the same with Docker 29's own table.
func TestRealNFTables(t *testing.T) {
	needsTool(t, "nft")
	for _, name := range goldens(t) {
		if !strings.HasSuffix(name, "__ip.golden") && !strings.HasSuffix(name, "__ip6.golden") || filepath.IsAbs(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", name))
			labtest.Must(t, err)
			// Older releases of nft know the name of that priority only at prerouting.
			saved := strings.ReplaceAll(string(text), "hook output priority dstnat", "hook output priority -100")
			inNamespace(t, func() { takeAwayNFT(t, name, saved) })
		})
	}
}

func takeAwayNFT(t *testing.T, name, saved string) {
	t.Helper()
	s := configured(name)
	load := func() { shell(t, "nft flush ruleset; nft -f -", saved) }
	load()
	full := real(t)
	if got := Check(s, full); len(got) > 0 {
		t.Errorf("missing: %q", rulesOf(got))
	}
	table, done := full.Tables[0], 0
	for ci, chain := range table.Chains {
		for ri := range chain.Rules {
			load()
			now := real(t).Tables[0].Chains[ci].Rules[ri]
			shell(t, strings.Join([]string{"nft delete rule", string(table.Family), table.Name, chain.Name, "handle",
				strconv.FormatUint(now.Handle, 10)}, " "), "")
			for _, m := range Check(s, real(t)) {
				if m.Command != "" {
					shell(t, m.Command, "")
					done++
				}
			}
			for _, m := range Check(s, real(t)) {
				if m.Command != "" {
					t.Errorf("after %s: %s is still missing", now.Text(), m.Rule)
				}
			}
		}
	}
	if done < 5 {
		t.Errorf("only %d rules were put back", done)
	}
}
