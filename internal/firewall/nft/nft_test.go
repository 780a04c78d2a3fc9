package nft_test

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nft"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

// inside runs fn in a network namespace of its own.
func inside(t testing.TB, fn func()) {
	t.Helper()
	labtest.NeedsRoot(t)
	ns, err := netns.New()
	labtest.Must(t, err)
	defer ns.Close()
	labtest.Must(t, netns.Do(ns, func() error { fn(); return nil }))
}

// run runs a program in the calling thread's namespace and returns what it prints.
func run(t testing.TB, stdin string, argv ...string) string {
	t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		t.Skipf("%s is not installed", argv[0])
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, stderr.String())
	}
	return string(out)
}

// read reads the rules of the calling thread's namespace; there must be no problem.
func read(t testing.TB) []*firewall.Table {
	t.Helper()
	tables, problems, err := new(nft.Reader).Read()
	if err != nil || len(problems) > 0 {
		t.Fatalf("Read: %v, problems %q", err, problems)
	}
	return tables
}

// table returns one table of those that were read.
func table(t testing.TB, all []*firewall.Table, family firewall.Family, name string) *firewall.Table {
	t.Helper()
	for _, tab := range all {
		if tab.Family == family && tab.Name == name {
			return tab
		}
	}
	t.Fatalf("no table %s %s", family, name)
	return nil
}

// rulesOf returns the lines of a chain as nft lists it that are rules.
func rulesOf(listing string) []string {
	var rules []string
	lines := bufio.NewScanner(strings.NewReader(listing))
	in := false
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "chain "):
			in = true
		case line == "}":
			in = false
		case in && !strings.HasPrefix(line, "type ") && line != "" && !strings.HasPrefix(line, "comment "):
			rules = append(rules, line)
		}
	}
	return rules
}
