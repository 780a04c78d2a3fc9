package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// demoLimit is how long the whole demo may take.
const demoLimit = 10 * time.Second

// TestDemoText runs the demo as a user does who writes its output to a file.
func TestDemoText(t *testing.T) {
	labtest.NeedsRoot(t)
	start := time.Now()
	status, stdout, stderr := inProcess(t, "demo")
	if took := time.Since(start); took > demoLimit {
		t.Errorf("the demo took %v, want at most %v", took, demoLimit)
	}
	if status != 0 || stderr != "" {
		t.Errorf("got status %d and %q, want 0 and silence", status, stderr)
	}
	checkWidth(t, "demo", stdout, 100)
	if strings.Contains(stdout, "\x1b") {
		t.Error("escape codes in a file")
	}
	at := 0
	for _, want := range []string{"\nrequest\n", "DNAT", "\nreply\n", "\ndelivered: ", "\nrequest\n", "DROPPED", "\ndropped: ", "docs/causes/firewall-drop.md"} {
		i := strings.Index(stdout[at:], want)
		if i < 0 {
			t.Fatalf("%q is missing or out of order in\n%s", want, stdout)
		}
		at += i + len(want)
	}
	for _, not := range []string{"lost  ", "skipped", "netns:"} {
		if strings.Contains(stdout, not) {
			t.Errorf("the output says %q:\n%s", not, stdout)
		}
	}
}

func TestDemoVerbose(t *testing.T) {
	labtest.NeedsRoot(t)
	status, stdout, _ := inProcess(t, "demo", "-v")
	if status != 0 || !strings.Contains(stdout, "netfilter/forward enter") {
		t.Errorf("got status %d and\n%s\nwant every hook", status, stdout)
	}
	checkWidth(t, "demo -v", stdout, 100)
}

func TestDemoJSON(t *testing.T) {
	labtest.NeedsRoot(t)
	status, stdout, stderr := inProcess(t, "demo", "-o", "json")
	if status != 0 || stderr != "" {
		t.Errorf("got status %d and %q, want 0 and silence", status, stderr)
	}
	types := slices.Compact(checkJSON(t, stdout))
	want := []string{"meta", "hop", "verdict", "stats", "meta", "hop", "verdict", "stats"}
	if !slices.Equal(types, want) {
		t.Errorf("got %v, want %v", types, want)
	}
	for _, want := range []string{`"outcome":"delivered"`, `"outcome":"dropped","cause":"firewall-drop"`} {
		if n := strings.Count(stdout, want); n != 1 {
			t.Errorf("%s: %d times, want once", want, n)
		}
	}
}

// TestDemoToFile: -w writes there what would be on standard output.
func TestDemoToFile(t *testing.T) {
	labtest.NeedsRoot(t)
	file := filepath.Join(t.TempDir(), "out")
	status, stdout, stderr := inProcess(t, "demo", "-w", file)
	text, err := os.ReadFile(file)
	labtest.Must(t, err)
	if status != 0 || stdout != "" || stderr != "" {
		t.Errorf("got status %d, %q and %q, want 0 and silence", status, stdout, stderr)
	}
	for _, want := range []string{"\ndelivered: ", "\ndropped: "} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in the file:\n%s", want, text)
		}
	}
}

// TestTerminal: colours and the terminal's width there, unless they are switched off.
func TestTerminal(t *testing.T) {
	labtest.NeedsRoot(t)
	escapes := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for _, tt := range []struct {
		name string
		args []string
		env  string
		want bool
	}{
		{"plain", nil, "NO_COLOR=", true},
		{"--no-color", []string{"--no-color"}, "NO_COLOR=", false},
		{"NO_COLOR", nil, "NO_COLOR=1", false},
		{"dumb", nil, "TERM=dumb", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := onTerminal(t, 80, tt.env, append([]string{"demo"}, tt.args...)...)
			if got := escapes.MatchString(text); got != tt.want {
				t.Errorf("colours: got %v, want %v\n%q", got, tt.want, text)
			}
			text = escapes.ReplaceAllString(text, "")
			if strings.Contains(text, "\x1b") {
				t.Errorf("escape codes that are no colours in %q", text)
			}
			checkWidth(t, "terminal", strings.ReplaceAll(text, "\r", ""), 80)
		})
	}
}

// terminal makes a terminal of its own: what is written to slave is read from master.
func terminal(t *testing.T, columns uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	labtest.Must(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	labtest.Must(t, err)
	labtest.Must(t, unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}))
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	return master, slave
}

// onTerminal runs pathtrace with its output on a terminal of its own and returns what came there.
func onTerminal(t *testing.T, columns uint16, env string, args ...string) string {
	t.Helper()
	master, slave := terminal(t, columns)
	defer master.Close()
	cmd := command(t.Context(), "run", args...)
	cmd.Env = append(cmd.Env, env)
	cmd.Stdout, cmd.Stderr = slave, os.Stderr
	labtest.Must(t, cmd.Start())
	slave.Close()
	var text bytes.Buffer
	// EIO is how a terminal ends.
	if _, err := text.ReadFrom(master); err != nil && !errors.Is(err, unix.EIO) {
		t.Error(err)
	}
	labtest.Must(t, cmd.Wait())
	return text.String()
}

// TestNothingStays: however the demo ends, its namespaces, programs and links go with it.
func TestNothingStays(t *testing.T) {
	labtest.NeedsRoot(t)
	for _, tt := range []struct {
		name   string
		signal os.Signal
		status int // an interrupted trace is concluded with what was seen
	}{
		{"end", nil, 0}, {"SIGINT", os.Interrupt, 0}, {"SIGTERM", unix.SIGTERM, 0}, {"SIGKILL", os.Kill, -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), demoLimit)
			defer cancel()
			cmd := command(ctx, "run", "demo")
			held, stderr := startDemo(t, cmd)
			freed := held.watch(t)
			start := time.Now()
			if tt.signal != nil {
				labtest.Must(t, cmd.Process.Signal(tt.signal))
			}
			_ = cmd.Wait() // the status tells
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("got status %d, want %d: %s", got, tt.status, stderr)
			}
			if took := time.Since(start); tt.signal != nil && took > 5*time.Second {
				t.Errorf("it ended %v after the signal", took)
			}
			freed(10 * time.Second)
			held.checkGone(t)
		})
	}
}

// holdings is what a process keeps in the kernel.
type holdings struct {
	namespaces map[string]*os.File // by what their links say: its descriptors may be others by now
	programs   []ebpf.ProgramID
	links      []link.ID
}

// startDemo starts the demo and returns what it holds while it traces the second connection.
func startDemo(t *testing.T, cmd *exec.Cmd) (*holdings, *bytes.Buffer) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	labtest.Must(t, err)
	labtest.Must(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "once more") {
		continue
	}
	if lines.Err() != nil || lines.Text() == "" {
		t.Fatalf("the demo ended early: %v %s", lines.Err(), &stderr)
	}
	go func() {
		for lines.Scan() {
			continue
		}
	}()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		h := heldBy(cmd.Process.Pid)
		if len(h.links) > 40 && len(h.namespaces) >= 4 || len(h.links) > 0 && time.Now().After(deadline.Add(-4500*time.Millisecond)) {
			return h, &stderr
		}
		h.release()
		if time.Now().After(deadline) {
			t.Fatalf("the demo holds %+v, want namespaces, programs and links", h)
		}
	}
}

// watch watches for the end of the namespaces, and keeps them no longer.
func (h *holdings) watch(t *testing.T) (freed func(time.Duration)) {
	t.Helper()
	defer h.release()
	var paths []string
	for _, f := range h.namespaces {
		paths = append(paths, fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	}
	return labtest.Watch(t, paths...)
}

func (h *holdings) release() {
	for _, f := range h.namespaces {
		f.Close()
	}
}

// heldBy reads what the descriptors of a process are.
func heldBy(pid int) *holdings {
	h := &holdings{namespaces: map[string]*os.File{}}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // it may end meanwhile
	for _, e := range entries {
		if f, to := openNamespace(filepath.Join(dir, e.Name())); f != nil {
			if h.namespaces[to] != nil || to == ownNamespace() {
				f.Close()
			} else {
				h.namespaces[to] = f
			}
		}
		info, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, e.Name()))
		if id, ok := field(info, "link_id:"); ok {
			h.links = append(h.links, link.ID(id))
		} else if id, ok := field(info, "prog_id:"); ok {
			h.programs = append(h.programs, ebpf.ProgramID(id))
		}
	}
	return h
}

// openNamespace opens a descriptor of another process, if it is a namespace, and returns what it is.
func openNamespace(file string) (*os.File, string) {
	if to, _ := os.Readlink(file); !strings.HasPrefix(to, "net:[") {
		return nil, ""
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, ""
	}
	to, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if !strings.HasPrefix(to, "net:[") { // the descriptor was given to something else in between
		f.Close()
		return nil, ""
	}
	return f, to
}

func ownNamespace() string {
	to, _ := os.Readlink("/proc/self/ns/net")
	return to
}

// field reads a number of /proc/PID/fdinfo.
func field(info []byte, name string) (uint32, bool) {
	_, rest, ok := strings.Cut(string(info), name)
	if !ok {
		return 0, false
	}
	rest, _, _ = strings.Cut(strings.TrimSpace(rest), "\n")
	n, err := strconv.ParseUint(rest, 10, 32)
	return uint32(n), err == nil
}

// checkGone waits until the kernel has freed everything, which it does in the background.
func (h *holdings) checkGone(t *testing.T) {
	t.Helper()
	if len(h.programs) == 0 || len(h.links) == 0 {
		t.Errorf("the demo held %d programs and %d links: nothing was tested", len(h.programs), len(h.links))
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		programs, links := h.left()
		if programs+links == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d programs and %d of %d links are left", programs, len(h.programs), links, len(h.links))
		}
	}
}

func (h *holdings) left() (programs, links int) {
	for _, id := range h.programs {
		if p, err := ebpf.NewProgramFromID(id); err == nil {
			p.Close()
			programs++
		}
	}
	for _, id := range h.links {
		if l, err := link.NewFromID(id); err == nil {
			l.Close()
			links++
		}
	}
	return programs, links
}
