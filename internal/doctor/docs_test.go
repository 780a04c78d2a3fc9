package doctor

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocs: docs/doctor.md has a heading for each check that the code can report, and no other.
func TestDocs(t *testing.T) {
	name := regexp.MustCompile(`(?:Check: +|f\.Check(?:, [^=]*)? = |say\(|notRunning\([^"]*|groups\[|key = |return )"([a-z0-9]+(?:-[a-z0-9]+)+)"`)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	// Those of missing rules are the names of their causes.
	reported := []string{"docker-rules-missing", "nat-missing", "masquerade-missing"}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range name.FindAllSubmatch(text, -1) {
			reported = append(reported, string(m[1]))
		}
	}
	slices.Sort(reported)
	reported = slices.Compact(reported)
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllSubmatch(page, -1) {
		documented = append(documented, string(m[1]))
	}
	slices.Sort(documented)
	if !slices.Equal(reported, documented) {
		t.Errorf("the code reports %q\nthe page has    %q", reported, documented)
	}
	for _, line := range strings.Split(string(page), "\n") {
		if len([]rune(line)) > 104 {
			t.Errorf("%d columns: %s", len([]rune(line)), line)
		}
	}
}
