package diagnose

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pathtrace/pathtrace/tracer/path"
)

const causesDir = "../../docs/causes"

// documentedCauses lists the causes that have a page.
func documentedCauses(t *testing.T) map[path.Cause]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(causesDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[path.Cause]bool{}
	for _, name := range files {
		if base := strings.TrimSuffix(filepath.Base(name), ".md"); base != "README" {
			known[path.Cause(base)] = true
		}
	}
	return known
}

// causeConstants reads the values of the constants of type Cause from the source of package path.
func causeConstants(t *testing.T) []path.Cause {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../../tracer/path/vocabulary.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []path.Cause
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Cause" {
			return true
		}
		for _, v := range spec.Values {
			text, err := strconv.Unquote(v.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, path.Cause(text))
		}
		return true
	})
	return out
}

func TestEveryCauseHasAPage(t *testing.T) {
	pages := documentedCauses(t)
	causes := causeConstants(t)
	if len(causes) < 18 {
		t.Fatalf("found only %d cause constants: %v", len(causes), causes)
	}
	for _, c := range append(causes, path.CauseNATMissing, path.CauseListeningOnLoopback, path.CauseMTUBlackhole) {
		if !pages[c] {
			t.Errorf("cause %s has no page in docs/causes", c)
			continue
		}
		if text := readPage(t, string(c)); strings.Contains(text, "names this cause: **not yet**") {
			t.Errorf("page of %s says that pathtrace does not name it", c)
		}
	}
}

var link = regexp.MustCompile(`\]\(([a-z-]+)\.md\)`)

func TestPages(t *testing.T) {
	pages := documentedCauses(t)
	index := readPage(t, "README")
	for c := range pages {
		text := readPage(t, string(c))
		for _, section := range []string{"# " + string(c) + "\n", "\npathtrace names this cause: **",
			"\n## How it looks\n", "\n## Why it happens\n", "\n## What to do\n"} {
			if !strings.Contains(text, section) {
				t.Errorf("page of %s lacks %q", c, strings.TrimSpace(section))
			}
		}
		if !strings.Contains(index, "("+string(c)+".md)") {
			t.Errorf("index does not list %s", c)
		}
		checkText(t, string(c), text, pages)
	}
	checkText(t, "README", index, pages)
}

// checkText checks links and line lengths.
func checkText(t *testing.T, name, text string, pages map[path.Cause]bool) {
	t.Helper()
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if !pages[path.Cause(m[1])] {
			t.Errorf("page %s links to %s.md, which does not exist", name, m[1])
		}
	}
	for i, line := range strings.Split(text, "\n") {
		if n := utf8.RuneCountInString(line); n > 100 {
			t.Errorf("page %s line %d has %d columns, want at most 100", name, i+1, n)
		}
	}
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(causesDir, name+".md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
