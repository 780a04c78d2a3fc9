package legacy_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/legacy"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

// inNamespace calls fn on a thread in a network namespace of its own.
func inNamespace(t testing.TB, fn func()) {
	t.Helper()
	labtest.NeedsRoot(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	if err := netns.Do(ns, func() error { fn(); return nil }); err != nil {
		t.Fatal(err)
	}
}

// run runs a program in the namespace of the calling thread and returns what it printed.
func run(t testing.TB, stdin string, name string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s", name)
	}
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), err
}

// read reads the tables and fails on any problem.
func read(t testing.TB) []*firewall.Table {
	t.Helper()
	tables, problems, err := legacy.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	return tables
}

// show prints a table as iptables -S does.
func show(table *firewall.Table) []string {
	var lines, rules []string
	for _, c := range table.Chains {
		switch {
		case !c.IsBase():
			lines = append(lines, "-N "+c.Name)
		case c.Policy == firewall.Drop:
			lines = append(lines, "-P "+c.Name+" DROP")
		default:
			lines = append(lines, "-P "+c.Name+" ACCEPT")
		}
		for _, r := range c.Rules {
			rules = append(rules, r.Text)
		}
	}
	return append(lines, rules...)
}

// compare compares every table that was read with what the tool prints of it.
func compare(t *testing.T, tool string, tables []*firewall.Table) {
	t.Helper()
	for _, table := range tables {
		if (table.Family == firewall.FamilyIP6) != strings.HasPrefix(tool, "ip6") {
			continue
		}
		out, err := run(t, "", tool, "-t", table.Name, "-S")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(strings.TrimSpace(out), "\n")
		got := show(table)
		for i := range max(len(got), len(want)) {
			g, w := "", ""
			if i < len(got) {
				g = got[i]
			}
			if i < len(want) {
				w = strings.TrimSpace(want[i])
			}
			if g != w {
				t.Errorf("%s, table %s:\n got %s\nwant %s", tool, table.Name, g, w)
			}
		}
	}
}

// lines returns the lines of a file of testdata without its comments.
func lines(t testing.TB, name string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if text := strings.TrimSpace(s.Text()); text != "" && !strings.HasPrefix(text, "#") {
			list = append(list, text)
		}
	}
	return list
}

// TestOptions adds rules with every option of every match and target that this package knows, and
// compares the text with that of iptables itself.
func TestOptions(t *testing.T) {
	for tool, file := range map[string]string{
		"iptables-legacy": "options4.rules", "ip6tables-legacy": "options6.rules",
	} {
		t.Run(tool, func(t *testing.T) {
			inNamespace(t, func() {
				rules, refused := lines(t, file), 0
				for _, rule := range rules {
					// The shell takes the quotes apart, as it does for people.
					if _, err := run(t, "", "sh", "-c", tool+" "+rule); err != nil {
						t.Logf("refused: %v", err)
						refused++
					}
				}
				if refused > len(rules)/4 {
					t.Errorf("%d of %d rules were refused", refused, len(rules))
				}
				compare(t, tool, read(t))
			})
		})
	}
}
