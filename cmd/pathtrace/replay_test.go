package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
)

// TestReplayGolden: a recording that is part of the repository gives what it gave when it was made, also
// without privilege; a change of the format must not break it.
func TestReplayGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/dropped.txt")
	labtest.Must(t, err)
	status, stdout, stderr := inProcess(t, "replay", "testdata/dropped.ptr")
	if status != exitNotDelivered || stdout != string(want) || stderr != "" {
		t.Errorf("got status %d, %q and\n%s\nwant\n%s", status, stderr, stdout, want)
	}
	_, stdout, _ = inProcess(t, "replay", "-o", "json", "testdata/dropped.ptr")
	if types := checkJSON(t, stdout); len(types) < 4 || types[0] != "meta" || types[len(types)-1] != "stats" {
		t.Errorf("JSON: got %v", types)
	}
	cmd := command(t.Context(), "drop", "replay", "testdata/dropped.ptr")
	if out, _ := cmd.Output(); string(out) != string(want) || cmd.ProcessState.ExitCode() != exitNotDelivered {
		t.Errorf("without capabilities: status %d\n%s", cmd.ProcessState.ExitCode(), out)
	}
}

// TestReplayMemory: nothing is loaded for a replay, so that the limit of a start, which would make it
// collect garbage all the time, is not set.
func TestReplayMemory(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	for _, source := range []string{"", "web"} {
		o := (&outputFlags{output: "json"}).open(&streams{out: io.Discard, err: io.Discard}, source == "")
		o.replayed(&tracer.RecordingInfo{Meta: tracer.Meta{Target: "db", Source: source}}).OnStart(tracer.Meta{})
		if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
			t.Errorf("from %q: memory is limited to %d bytes", source, got)
		}
	}
}

// TestReplayPipe: a recording is replayed as it comes through a pipe.
func TestReplayPipe(t *testing.T) {
	want, err := os.ReadFile("testdata/dropped.txt")
	labtest.Must(t, err)
	raw, err := os.ReadFile("testdata/dropped.ptr")
	labtest.Must(t, err)
	in, out := io.Pipe()
	go func() {
		for i := range raw { // byte by byte
			_, _ = out.Write(raw[i : i+1]) // the reader may have ended
		}
		out.Close()
	}()
	cmd := command(t.Context(), "run", "replay", "-")
	cmd.Stdin = in
	if got, _ := cmd.Output(); string(got) != string(want) || cmd.ProcessState.ExitCode() != exitNotDelivered {
		t.Errorf("status %d\n%s", cmd.ProcessState.ExitCode(), got)
	}
}

// TestReplayRedacted: the copy says the same in other names, and has none of the old ones.
func TestReplayRedacted(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "a.ptr"), filepath.Join(dir, "b.ptr")
	for _, file := range []string{first, second} {
		status, stdout, stderr := inProcess(t, "replay", "testdata/dropped.ptr", "--redact", file, "--redact-key", "k")
		if status != exitNotDelivered || stderr != "" || !strings.Contains(stdout, "was dropped by rule 1 of chain INPUT") ||
			!strings.Contains(stdout, "the rule's counter went from 0 to 1 packets") {
			t.Errorf("got status %d, %q and\n%s", status, stderr, stdout)
		}
		for _, secret := range []string{"rec-client", "rec-web", "10.55.", "closed for now", "vm"} {
			if strings.Contains(stdout, secret) {
				t.Errorf("%q is still in\n%s", secret, stdout)
			}
		}
	}
	_, a, _ := inProcess(t, "replay", first)
	_, b, _ := inProcess(t, "replay", second)
	if a != b || a == "" {
		t.Errorf("with one key: \n%s\nand\n%s", a, b)
	}
}

// TestReplayBadInput: one sentence for each.
func TestReplayBadInput(t *testing.T) {
	dir := t.TempDir()
	good, err := os.ReadFile("testdata/dropped.ptr")
	labtest.Must(t, err)
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		labtest.Must(t, os.WriteFile(path, content, 0o600))
		return path
	}
	damaged := bytes.Clone(good)
	damaged[len(good)/2] ^= 0xff
	goodPath := write("good.ptr", good)
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"nothing", nil, exitUsage, "replay needs a file"},
		{"missing", []string{filepath.Join(dir, "none.ptr")}, exitCannotTrace, "no such file"},
		{"folder", []string{dir}, exitCannotTrace, "is a directory"},
		{"empty", []string{write("empty.ptr", nil)}, exitCannotTrace, "is no recording of pathtrace"},
		{"text", []string{write("text.ptr", []byte("hello, world\n"))}, exitCannotTrace, "is no recording of pathtrace"},
		{"newer", []string{write("newer.ptr", bytes.Replace(good, []byte("format 1"), []byte("format 9"), 1))},
			exitCannotTrace, "in format 9, and this pathtrace reads format 1"},
		{"cut in the header", []string{write("cut.ptr", good[:100])}, exitCannotTrace, "ends in the middle"},
		{"damaged", []string{write("damaged.ptr", damaged)}, exitCannotTrace, "is damaged after"},
		{"twice", []string{goodPath, write("same.ptr", good)}, exitCannotTrace, "the same recording"},
		{"redact several", []string{goodPath, goodPath, "--redact", filepath.Join(dir, "x")}, exitUsage, "one recording at a time"},
		{"redact itself", []string{goodPath, "--redact", goodPath}, exitUsage, "another file"},
		{"a key for nothing", []string{goodPath, "--redact-key", "x"}, exitUsage, "--redact FILE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _, stderr := inProcess(t, append([]string{"replay"}, tt.args...)...)
			first, _, _ := strings.Cut(stderr, "\n")
			if status != tt.status || !strings.Contains(first, tt.want) {
				t.Errorf("got status %d and %q, want %d and %q", status, stderr, tt.status, tt.want)
			}
			if n := strings.Count(strings.TrimSuffix(stderr, "pathtrace: see pathtrace --help\n"), "\n"); n != 1 {
				t.Errorf("%d lines: %q", n, stderr)
			}
		})
	}
}

func TestRecordUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--to web:80":                            "record needs a file: give it with -w",
		"-w x.ptr":                               "--to is missing",
		"-w x.ptr --to web:80 --rotate x":        `--rotate takes a size, such as 500k, 50M or 2G, got "x"`,
		"-w x.ptr --to web:80 --limit -5M":       `--limit takes a size`,
		"-w x.ptr --to web:80 --limit 5":         `--limit 5 is less than a recording has at least`,
		"-w x.ptr --to web:80 --keep 3":          "--keep is for --rotate",
		"-w x.ptr --to web:80 --keep -1":         "--keep is -1",
		"-w - --to web:80 --rotate 1M":           "--rotate makes files",
		"-w x.ptr --to web:80 --limit 99999999T": "--limit takes a size",
	} {
		status, stdout, stderr := inProcess(t, append([]string{"record"}, strings.Fields(args)...)...)
		if status != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: got status %d, %q, %q, want %q", args, status, stdout, stderr, want)
		}
	}
}

// connectUntil opens connections to an address until ctx ends.
func connectUntil(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			c.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// grown waits until a file has so many bytes.
func grown(t *testing.T, path string, size int64) {
	t.Helper()
	labtest.Eventually(t, fmt.Sprintf("%s grows to %d bytes", path, size), func() bool {
		info, err := os.Stat(path)
		return err == nil && info.Size() >= size
	})
}

// TestRecordKilled: what was recorded before kill -9 is replayed, and what is missing is said.
func TestRecordKilled(t *testing.T) {
	labtest.NeedsRoot(t)
	addr, file := listen(t), filepath.Join(t.TempDir(), "x.ptr")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := command(ctx, "run", "record", "-w", file, "--to", addr, "--timeout", "100ms", "--docker-host", "unix:///nonexistent")
	labtest.Must(t, cmd.Start())
	go connectUntil(ctx, addr)
	grown(t, file, 20_000)
	labtest.Must(t, cmd.Process.Signal(unix.SIGKILL))
	_ = cmd.Wait() // killed
	status, stdout, stderr := inProcess(t, "replay", file)
	if status == exitCannotTrace || !strings.Contains(stdout, "delivered") || !strings.Contains(stderr+stdout, "ends in the middle") {
		t.Errorf("got status %d, %q and\n%s", status, stderr, tail(stdout))
	}
}

// tail is the end of a text.
func tail(s string) string { return s[max(0, len(s)-2000):] }

// TestRecordFullDisk: the trace goes on, the end says what is wrong, and the beginning can be replayed.
func TestRecordFullDisk(t *testing.T) {
	labtest.NeedsRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("pathtrace-test", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=160k"); err != nil {
		t.Skipf("no tmpfs here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	addr, file := listen(t), filepath.Join(dir, "x.ptr")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go connectUntil(ctx, addr)
	status, stdout, stderr := inProcess(t, "record", "-w", file, "--to", addr, "--count", "800", "--timeout", "100ms",
		"--docker-host", "unix:///nonexistent")
	if status != exitCannotTrace || !strings.Contains(stdout+stderr, "the recording ended, the trace goes on") ||
		!strings.Contains(stderr, "ends early, and can be replayed up to there: write recording") ||
		!strings.Contains(stderr, "no space left on device") || strings.Count(stdout, "delivered") < 300 {
		t.Errorf("got status %d, %q and\n%s", status, stderr, tail(stdout))
	}
	status, stdout, stderr = inProcess(t, "replay", file)
	if status == exitCannotTrace || !strings.Contains(stdout, "delivered") || !strings.Contains(stdout+stderr, "ends in the middle") {
		t.Errorf("replay: got status %d, %q and\n%s", status, stderr, tail(stdout))
	}
}

// TestRecordParts: files of a size, of which the newest are kept; those that are left can be replayed, and
// show what a watch of packet sizes would have.
func TestRecordParts(t *testing.T) {
	labtest.NeedsRoot(t)
	addr, dir := listen(t), t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := command(ctx, "run", "record", "-w", filepath.Join(dir, "x.ptr"), "--to", addr, "--timeout", "100ms",
		"--rotate", "64k", "--keep", "2", "--docker-host", "unix:///nonexistent")
	labtest.Must(t, cmd.Start())
	for range 4 {
		go connectUntil(ctx, addr)
	}
	grown(t, filepath.Join(dir, "x.2.ptr"), 30_000)
	labtest.Must(t, cmd.Process.Signal(unix.SIGINT))
	_ = cmd.Wait() // the status is that of the trace
	names, err := filepath.Glob(filepath.Join(dir, "*.ptr"))
	if labtest.Must(t, err); len(names) != 2 {
		t.Fatalf("%v are kept, want 2", names)
	}
	status, stdout, stderr := inProcess(t, append([]string{"replay"}, names...)...)
	// A machine too busy to take every event may make one of the connections a lost one, and says so.
	lossy := status == exitNotDelivered && strings.Contains(stdout, " events lost: ")
	if status != exitDelivered && !lossy || !strings.Contains(stdout, "delivered") {
		t.Errorf("got status %d, %q and\n%s", status, stderr, tail(stdout))
	}
	status, stdout, stderr = inProcess(t, append([]string{"replay", "--mtu"}, names...)...)
	if status != exitDelivered || !strings.Contains(stdout, "no packet was dropped for its size") ||
		!strings.Contains(stderr, "record with --all-packets") {
		t.Errorf("sizes: got status %d, %q and\n%s", status, stderr, tail(stdout))
	}
	if _, _, stderr := inProcess(t, "replay", names[0], "testdata/dropped.ptr"); stderr == "" {
		t.Error("two recordings were taken for one")
	}
}

// TestRecordLimit: the recording ends at its limit, the trace does not.
func TestRecordLimit(t *testing.T) {
	labtest.NeedsRoot(t)
	addr, file := listen(t), filepath.Join(t.TempDir(), "x.ptr")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 4 {
		go connectUntil(ctx, addr)
	}
	cmd := command(ctx, "run", "record", "-w", file, "--to", addr, "--timeout", "100ms", "--limit", "64k", "--docker-host", "unix:///nonexistent")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	labtest.Must(t, cmd.Start())
	grown(t, file, 64<<10)
	labtest.Eventually(t, "the recording has its end mark", func() bool {
		status, stdout, stderr := inProcess(t, "replay", file)
		return status != exitCannotTrace && !strings.Contains(stdout+stderr, "ends in the middle")
	})
	labtest.Must(t, cmd.Process.Signal(unix.SIGINT))
	_ = cmd.Wait() // the status is that of the trace
	if !strings.Contains(out.String(), "reached its size limit") {
		t.Errorf("nothing was said of the limit:\n%s", tail(out.String()))
	}
	if info, err := os.Stat(file); err != nil || info.Size() > 192<<10 {
		t.Errorf("%v bytes (%v), want about 64k", info.Size(), err)
	}
}
