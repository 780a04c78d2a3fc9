package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the page of commands anew")

// TestCommandsPage: docs/commands.md has the help of every command, word for word.
func TestCommandsPage(t *testing.T) {
	page := strings.Builder{}
	page.WriteString(`# Commands

What ` + "`--help`" + ` says of each command. What they write for programs is in [output.md](output.md); all of it changes
only by adding.
`)
	root := newRoot(&streams{})
	for _, name := range []string{"", "doctor", "latency", "mtu", "record", "replay", "hooks", "demo"} {
		status, help, stderr := inProcess(t, append(strings.Fields(name), "--help")...)
		if status != exitDelivered || stderr != "" {
			t.Fatalf("%s --help: status %d, %q", name, status, stderr)
		}
		title := strings.TrimSpace("pathtrace " + name)
		fmt.Fprintf(&page, "\n## %s\n\n```\n%s```\n", title, help)
	}
	for _, cmd := range root.Commands() {
		if !cmd.Hidden && !strings.Contains(page.String(), "\n## "+cmd.CommandPath()+"\n") {
			t.Errorf("%s is not on the page", cmd.CommandPath())
		}
	}
	file := filepath.Join("..", "..", "docs", "commands.md")
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != page.String() {
		t.Errorf("%s is not what --help says: go test ./cmd/pathtrace -run %s -update writes it anew", file, t.Name())
	}
}
