package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// listen accepts connections on loopback until the test ends and returns the address.
func listen(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	labtest.Must(t, err)
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return ln.Addr().String()
}

// unused returns an address of loopback that nothing listens on.
func unused(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	labtest.Must(t, err)
	labtest.Must(t, ln.Close())
	return ln.Addr().String()
}

// TestExitStatus: what became of the flows, on loopback.
func TestExitStatus(t *testing.T) {
	labtest.NeedsRoot(t)
	open, closed := listen(t), unused(t)
	for _, tt := range []struct {
		name, args string
		status     int
		want       string
	}{
		{"delivered", "--from host --to " + open, exitDelivered, "delivered: "},
		{"refused", "--from host --to " + closed, exitNotDelivered, "refused: "},
		{"echo", "--from host --to 127.0.0.1", exitDelivered, "delivered: "},
		{"no traffic", "--to " + closed + " --duration 100ms", exitNoTraffic, "no-traffic"},
		{"unknown", "--from host --to nosuchname.invalid:80", exitCannotTrace, ""},
		{"unknown source", "--from nosuchname.invalid --to " + open, exitCannotTrace, ""},
		{"no port", "--proto udp --from host --to host", exitUsage, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append(strings.Fields(tt.args), "--docker-host", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
			status, stdout, stderr := inProcess(t, args...)
			if status != tt.status || !strings.Contains(stdout, tt.want) {
				t.Errorf("got status %d, want %d and %q in\n%s%s", status, tt.status, tt.want, stdout, stderr)
			}
			if tt.want == "" && (stdout != "" || !strings.HasPrefix(stderr, "pathtrace: ")) {
				t.Errorf("got output %q and %q, want a sentence on standard error alone", stdout, stderr)
			}
			checkWidth(t, tt.name, stdout, 100)
		})
	}
}

// TestJSON: only objects of the schema on standard output, meta first and stats last.
func TestJSON(t *testing.T) {
	labtest.NeedsRoot(t)
	for _, args := range []string{
		"--from host --to " + listen(t), "--from host --to " + unused(t), "--from host --to 127.0.0.1",
		"--to " + unused(t) + " --duration 50ms",
	} {
		args += " -o json --docker-host unix://" + filepath.Join(t.TempDir(), "none.sock")
		_, stdout, stderr := inProcess(t, strings.Fields(args)...)
		types := checkJSON(t, stdout)
		if len(types) < 3 || types[0] != "meta" || types[len(types)-1] != "stats" || !slices.Contains(types, "verdict") {
			t.Errorf("%s: got %v %s, want meta, hops, a verdict and stats", args, types, stderr)
		}
	}
}

// TestHooks lists every hook, as text and as JSON.
func TestHooks(t *testing.T) {
	labtest.NeedsRoot(t)
	status, stdout, stderr := inProcess(t, "hooks")
	if status != 0 || stderr != "" || !strings.Contains(stdout, "kfree_skb") || !strings.Contains(stdout, "hooks attached") {
		t.Errorf("got status %d, %q and\n%s", status, stderr, stdout)
	}
	checkWidth(t, "hooks", stdout, 100)
	file := filepath.Join(t.TempDir(), "hooks")
	status, stdout, _ = inProcess(t, "hooks", "-o", "json", "-w", file)
	text, err := os.ReadFile(file)
	labtest.Must(t, err)
	types := checkJSON(t, string(text))
	if status != 0 || stdout != "" || len(types) < 10 || slices.ContainsFunc(types, func(s string) bool { return s != "hook" }) {
		t.Errorf("got status %d, output %q and %v, want hooks in the file alone", status, stdout, types)
	}
}

// TestFullDisk: an error of writing is not silent.
func TestFullDisk(t *testing.T) {
	labtest.NeedsRoot(t)
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	for _, output := range []string{"text", "json", "pcapng", "html"} {
		status, _, stderr := inProcess(t, "--from", "host", "--to", listen(t), "-w", "/dev/full", "-o", output)
		if status != exitCannotTrace || !strings.Contains(stderr, "no space left") {
			t.Errorf("%s: got status %d and %q, want %d and the error", output, status, stderr, exitCannotTrace)
		}
	}
}

// TestOutputFolder: -w of a folder is an error.
func TestOutputFolder(t *testing.T) {
	status, _, stderr := inProcess(t, "--to", "host:80", "-w", t.TempDir())
	if status != exitCannotTrace || !strings.Contains(stderr, "is a directory") {
		t.Errorf("got %d %q, want %d and that it is a directory", status, stderr, exitCannotTrace)
	}
}
