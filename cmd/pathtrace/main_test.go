package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/render"
)

// asCommand makes the test binary be pathtrace; its value is "run", or "drop" to lose all capabilities
// first, but for those in keepCapabilities.
const (
	asCommand        = "PATHTRACE_TEST_AS_COMMAND"
	keepCapabilities = "PATHTRACE_TEST_KEEP" // numbers, separated by spaces
)

func TestMain(m *testing.M) {
	switch os.Getenv(asCommand) {
	case "run":
		main()
	case "drop":
		fmt.Fprintln(os.Stderr, execWithoutCapabilities())
		os.Exit(99)
	}
	os.Exit(m.Run())
}

// execWithoutCapabilities starts this program anew with an empty bounding set, which root cannot
// leave.
func execWithoutCapabilities() error {
	runtime.LockOSThread()
	keep := strings.Fields(os.Getenv(keepCapabilities))
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if slices.Contains(keep, fmt.Sprint(c)) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w", c, err)
		}
	}
	if err := os.Setenv(asCommand, "run"); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, os.Environ())
}

// command is pathtrace as a process of its own.
func command(ctx context.Context, mode string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asCommand+"="+mode, "TERM=xterm")
	return cmd
}

// inProcess runs a command line here and returns the exit status and both outputs, without what is said on a
// machine so busy that it takes long.
func inProcess(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	busy := regexp.MustCompile(`(?m)^pathtrace: .*; \d+ s\n`)
	status = run(t.Context(), args, &out, &errs)
	return status, out.String(), busy.ReplaceAllString(errs.String(), "")
}

// TestUsageErrors: status 2, one sentence that says what to do, and where the help is.
func TestUsageErrors(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string // part of the sentence
	}{
		{"web:80", `unknown command "web:80": a target is given with --to, as in pathtrace --to web:80`},
		{"doctr", `unknown command "doctr": did you mean doctor?`},
		{"--to web:80 --from cli extra", `unknown command "extra"`},
		{"--to web:80 --timeout 5", `--timeout takes a time with its unit, such as 2s or 500ms, got "5"`},
		{"--to web:80 --count x", `--count takes a number, got "x"`},
		{"demo extra", `demo takes no arguments, got "extra"`},
		{"doctor web", `doctor takes no arguments, got "web": a target is given with --to, as in pathtrace doctor --to web`},
		{"--frm cli --to web:80", "unknown flag: --frm"},
		{"-x", "unknown shorthand flag"},
		{"--to web:80 --count x", "--count"},
		{"--to web:80 --timeout soon", "--timeout"},
		{"--to web:80 --timeout -1s", "--timeout is -1s: give a positive time"},
		{"--to web:80 --timeout 0s", "--timeout is 0s: give a positive time"},
		{"--to web:80 --duration -1s", "--duration is -1s"},
		{"--to web:80 --count -1", "--count is -1"},
		{"--to web:80 --proto sctp", `unknown protocol "sctp": --proto takes tcp, udp or icmp`},
		{"--from cli", "--to is missing"},
		{"--count 3", "--to is missing"},
		{"--to web:80 --from cli --count 3", "--from sends one probe"},
		{"--to web:80 --output xml", `unknown output "xml": --output takes text, json, html or pcapng`},
		{"demo --output xml", `unknown output "xml"`},
		{"hooks -o yaml", `unknown output "yaml"`},
		{"doctor --output pcapng", `unknown output "pcapng": --output takes text, json or html`},
		{"--to web:80 --output pcapng --snaplen -1", "--snaplen is -1: give 1 to 65535 bytes"},
		{"--to web:80 --output pcapng --snaplen 70000", "--snaplen is 70000"},
		{"record -w x.ptr --to web:80 --output pcapng", "record makes a recording, of which pathtrace replay --output pcapng makes a capture"},
		{"--to web:80 --snaplen 100", "--snaplen is for --output pcapng"},
		{"--to", "flag needs an argument"},
		{"--to web:80 --from=", "--from is empty: give it a value, or leave it out"},
		{"latency --to web:80 --from=", "--from is empty"},
		{"record --to web:80 --write=", "--write is empty"},
	} {
		status, stdout, stderr := inProcess(t, strings.Fields(tt.args)...)
		lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
		if status != exitUsage || stdout != "" || len(lines) != 2 || lines[1] != "pathtrace: see pathtrace --help" {
			t.Errorf("%s: got status %d, output %q and\n%s\nwant status %d, no output, one sentence and where the help is", tt.args, status, stdout, stderr, exitUsage)
		}
		if !strings.HasPrefix(lines[0], "pathtrace: ") || !strings.Contains(lines[0], tt.want) {
			t.Errorf("%s: got %q, want it to say %q", tt.args, lines[0], tt.want)
		}
	}
}

// TestHelp: it fits a terminal of 100 columns and names every flag and exit status.
func TestHelp(t *testing.T) {
	for _, args := range []string{"", "--help", "demo --help", "doctor --help", "hooks --help", "latency --help", "mtu --help",
		"record --help", "replay --help", "help"} {
		status, stdout, stderr := inProcess(t, strings.Fields(args)...)
		if status != 0 || stderr != "" || !strings.Contains(stdout, "Usage:") {
			t.Errorf("%q: got status %d, %q on standard error, output\n%s", args, status, stderr, stdout)
		}
		checkWidth(t, "help of "+args, stdout, 100)
	}
	_, stdout, _ := inProcess(t, "--help")
	for _, want := range []string{
		"--to", "--from", "--proto", "--timeout", "--duration", "--count", "--docker-host", "--output", "--write",
		"--verbose", "--no-color", "--all-packets", "demo", "hooks",
		"0 delivered, 1 cannot trace, 2 wrong usage, 3 not delivered, 4 no traffic seen",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("help does not mention %q", want)
		}
	}
}

func TestVersion(t *testing.T) {
	status, stdout, stderr := inProcess(t, "--version")
	if status != 0 || !strings.Contains(stdout, version) || stderr != "" {
		t.Errorf("got %d %q %q, want the version", status, stdout, stderr)
	}
}

// TestOutputFile: a file that cannot be written is an error before anything is traced.
func TestOutputFile(t *testing.T) {
	status, _, stderr := inProcess(t, "--to", "web:80", "-w", "/no/such/folder/x")
	if status != exitCannotTrace || !strings.Contains(stderr, "/no/such/folder/x") {
		t.Errorf("got %d %q, want %d and the file's name", status, stderr, exitCannotTrace)
	}
}

// TestNoPrivilege: one sentence that names what is missing.
func TestNoPrivilege(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the test drops what root may do")
	}
	for _, args := range []string{"--to host:80", "--to host:80 --from host", "hooks", "demo", "--to host:80 -o json"} {
		cmd := command(t.Context(), "drop", strings.Fields(args)...)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if got, want := cmd.ProcessState.ExitCode(), exitCannotTrace; got != want {
			t.Errorf("%s: got status %d (%v), want %d", args, got, err, want)
		}
		lines := strings.Split(strings.TrimSuffix(errs.String(), "\n"), "\n")
		want := "CAP_BPF, CAP_PERFMON"
		if args == "demo" {
			want = "root" // the network comes first
		}
		if len(lines) != 1 || !strings.Contains(lines[0], want) || out.Len() != 0 {
			t.Errorf("%s: got %q and output %q, want one sentence that names %s", args, errs.String(), out.String(), want)
		}
	}
}

// checkWidth fails for lines wider than columns, escape codes not counted.
func checkWidth(t *testing.T, what, text string, columns int) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		if n := utf8.RuneCountInString(line); n > columns {
			t.Errorf("%s: %d columns, want at most %d: %q", what, n, columns, line)
		}
	}
}

// checkJSON validates JSON Lines and returns the types of the objects.
func checkJSON(t *testing.T, text string) []string {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(render.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var types []string
	for line := range strings.Lines(text) {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if err := schema.Validate(v); err != nil {
			t.Errorf("line %s: %v", line, err)
		}
		types = append(types, v.(map[string]any)["type"].(string))
	}
	return types
}
