package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// limited is pathtrace with a few capabilities only.
func limited(t *testing.T, keep []int, args ...string) *exec.Cmd {
	t.Helper()
	cmd := command(t.Context(), "drop", args...)
	words := strings.Trim(fmt.Sprint(keep), "[]")
	cmd.Env = append(cmd.Env, keepCapabilities+"="+words, "DOCKER_HOST=unix:///nonexistent/docker.sock")
	return cmd
}

// TestLimits: with a few capabilities a watch still finds the drop, says what is not seen without the
// others, and what cannot be done is one sentence.
func TestLimits(t *testing.T) {
	d := labtest.Demo(t, lab.Options{Named: true, Prefix: "lim-"})
	_, err := d.DropWeb()
	labtest.Must(t, err)
	trace := []int{unix.CAP_BPF, unix.CAP_PERFMON}
	net := append(slices.Clone(trace), unix.CAP_NET_ADMIN)
	for _, tt := range []struct {
		name string
		keep []int
		says []string
	}{
		{"BPF, PERFMON, NET_ADMIN", net, []string{"no CAP_SYS_ADMIN", "no CAP_SYS_PTRACE"}},
		{"BPF, PERFMON", trace, []string{"no CAP_NET_ADMIN", "no CAP_SYS_ADMIN", "no CAP_SYS_PTRACE"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkLimitedHooks(t, tt.keep, tt.says)
			checkLimitedProbe(t, d, tt.keep)
			if slices.Contains(tt.keep, unix.CAP_NET_ADMIN) {
				checkLimitedWatch(t, d, tt.keep, tt.says)
			}
		})
	}
}

// TestHidden: no hook needs tracefs or debugfs; without type information one sentence says so.
func TestHidden(t *testing.T) {
	labtest.NeedsRoot(t)
	self, err := os.Executable()
	labtest.Must(t, err)
	for _, tt := range []struct {
		name, hide, want string
		status           int
	}{
		{"tracefs", "/sys/kernel/tracing /sys/kernel/debug", "hooks attached", 0},
		{"BTF", "/sys/kernel/btf", "no type information (/sys/kernel/btf/vmlinux)", exitCannotTrace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--propagation", "private", "sh", "-c",
				"for f in "+tt.hide+"; do [ ! -d $f ] || mount -t tmpfs hidden $f || exit 99; done; exec "+self+" hooks")
			cmd.Env = append(os.Environ(), asCommand+"=run")
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != tt.status || !strings.Contains(string(out), tt.want) {
				t.Errorf("got %v and %s, want status %d and %q", err, out, tt.status, tt.want)
			}
			if lines := strings.Count(string(out), "\n"); tt.status != 0 && lines != 1 {
				t.Errorf("got %d lines, want one: %s", lines, out)
			}
		})
	}
}

// checkLimitedHooks: `pathtrace hooks` says what is missing.
func checkLimitedHooks(t *testing.T, keep []int, says []string) {
	t.Helper()
	out, err := limited(t, keep, "hooks").CombinedOutput()
	labtest.Must(t, err)
	for _, want := range says {
		if !strings.Contains(string(out), want+": not seen are ") {
			t.Errorf("hooks: %q is missing in\n%s", want, out)
		}
	}
	checkWidth(t, "hooks", string(out), 100)
	out, err = limited(t, keep, "hooks", "-o", "json").Output()
	labtest.Must(t, err)
	if types := checkJSON(t, string(out)); !slices.Contains(types, "limit") {
		t.Errorf("hooks -o json: got %v, want limits", types)
	}
}

// checkLimitedWatch watches a connection that the router's rule drops, from inside the router.
func checkLimitedWatch(t *testing.T, d *lab.Demo, keep []int, says []string) {
	t.Helper()
	cmd := limited(t, keep, "--to", d.Published(false).String(), "--duration", "30s", "-o", "json")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	labtest.Must(t, err)
	labtest.Must(t, d.Router.Do(cmd.Start))
	var v path.Verdict
	var stats path.Stats
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var object struct{ Type string }
		labtest.Must(t, json.Unmarshal(lines.Bytes(), &object))
		switch object.Type {
		case "meta":
			go func() { // dropped, so that it takes its time
				if c, err := d.Client.Dial(t.Context(), "tcp", d.Published(false).String()); err == nil {
					c.Close()
				}
			}()
		case "verdict": // others on this machine may use the same addresses
			var got path.Verdict
			labtest.Must(t, json.Unmarshal(lines.Bytes(), &got))
			if v.Outcome == "" && got.Where != nil && got.Where.Namespace == d.Router.Name {
				v = got
				labtest.Must(t, cmd.Process.Signal(unix.SIGINT))
			}
		case "stats":
			labtest.Must(t, json.Unmarshal(lines.Bytes(), &stats))
		}
	}
	_ = cmd.Wait()
	if v.Outcome != path.Dropped || v.Where == nil || v.Where.Stage != path.StageForward ||
		v.Cause != path.CauseFirewallDrop || v.Where.Rule == nil {
		t.Errorf("got %s %s: %s\n%s%s", v.Outcome, v.Cause, v.Summary, strings.Join(v.Evidence, "\n"), errs.String())
	}
	t.Log(v.Summary)
	for _, want := range says {
		said := slices.ContainsFunc(stats.Skipped, func(s string) bool { return strings.HasPrefix(s, want+": ") })
		if !said {
			t.Errorf("%q is missing in %q", want, stats.Skipped)
		}
	}
	for _, s := range stats.Skipped {
		if strings.Contains(s, "operation not permitted") && !strings.HasPrefix(s, "hook ") {
			t.Errorf("said beside what is missing: %q", s)
		}
	}
}

// checkLimitedProbe: a probe from another namespace cannot be sent.
func checkLimitedProbe(t *testing.T, d *lab.Demo, keep []int) {
	t.Helper()
	cmd := limited(t, keep, "--from", "lim-client", "--to", d.Published(false).String())
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitCannotTrace || !strings.Contains(string(out), "CAP_SYS_ADMIN") {
		t.Errorf("probe: got %v after %v and %q, want status %d and what is missing", err, time.Since(start), out, exitCannotTrace)
	}
}
