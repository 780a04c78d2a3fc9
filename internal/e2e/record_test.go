//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// nobody is the user and group without privilege.
const nobody = 65534

// replayAlone replays a recording as somebody without privilege, away from the engine.
func replayAlone(t *testing.T, file string, args ...string) *result {
	t.Helper()
	dir, err := os.MkdirTemp("", "pathtrace-replay")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chmod(dir, 0o755))
	binary := filepath.Join(dir, "pathtrace")
	for to, from := range map[string]string{binary: shared.Binary, filepath.Join(dir, "x.ptr"): file} {
		content, err := os.ReadFile(from)
		check(t, err)
		check(t, os.WriteFile(to, content, 0o755))
	}
	cmd := exec.Command(binary, append([]string{"replay", "-o", "json", filepath.Join(dir, "x.ptr")}, args...)...)
	cmd.Env = []string{"DOCKER_HOST=unix:///nonexistent"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the status is that of the trace
	r := &result{t: t, args: cmd.Args, status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if r.parse(); r.meta == nil || r.stats == nil {
		t.Fatalf("replay: status %d, %s", r.status, r.stderr)
	}
	return r
}

// TestRecord records a delivered and a dropped connection to a published port, and replays both without
// privilege and without the engine: the same names, path, verdict and rule with its owner.
func TestRecord(t *testing.T) {
	h := need(t).Hosts[0]
	h.saveRules(t)
	n := h.network(t)
	web, client := n.server(t), n.client(t)
	for _, c := range []struct {
		name    string
		rule    []string
		outcome path.Outcome
	}{
		{"delivered", nil, path.Delivered},
		{"dropped", []string{"-I", "DOCKER-USER", "-s", client.addr(n).String(), "-p", "tcp", "--dport", "80", "-j", "DROP"}, path.Dropped},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.rule != nil {
				h.do(t, "iptables", append([]string{"-w"}, c.rule...)...)
			}
			file := filepath.Join(t.TempDir(), "web.ptr")
			live := h.run(t, "record", "-o", "json", "-w", file, "--from", client.Name, "--to", web.Name+":80")
			if !strings.Contains(live.stderr, "pathtrace replay "+file) {
				t.Errorf("record said %q", live.stderr)
			}
			again := replayAlone(t, file)
			if again.status != live.status || !reflect.DeepEqual(again.verdicts, live.verdicts) ||
				!reflect.DeepEqual(again.hops, live.hops) || !reflect.DeepEqual(again.meta, live.meta) {
				t.Errorf("replayed, status %d:\n%s\nrecorded, status %d:\n%s", again.status, again.stdout, live.status, live.stdout)
			}
			v := again.verdicts[0]
			if v.Outcome != c.outcome || c.rule != nil && (v.Where.Rule == nil || v.Where.Rule.Owner != "docker-user") {
				t.Errorf("got %s with rule %+v", v.Outcome, v.Where)
			}
			checkRedacted(t, file, v.Outcome, web.Name, client.Name, n.Name, client.addr(n).String())
		})
	}
}

// checkRedacted makes a redacted copy: it has the same verdict and none of the names.
func checkRedacted(t *testing.T, file string, outcome path.Outcome, secrets ...string) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "shared.ptr")
	if out, err := exec.Command(shared.Binary, "replay", file, "--redact", copied).CombinedOutput(); err != nil && outcome == path.Delivered {
		t.Fatalf("redact: %v: %s", err, out)
	}
	r := replayAlone(t, copied)
	if r.verdicts[0].Outcome != outcome {
		t.Errorf("redacted: got %s, want %s", r.verdicts[0].Outcome, outcome)
	}
	for _, secret := range secrets {
		if strings.Contains(r.stdout, secret) {
			t.Errorf("redacted: %s is still in\n%s", secret, r.stdout)
		}
	}
}

// unpacked is what a recording holds.
func unpacked(t *testing.T, file string) []byte {
	t.Helper()
	f, err := os.Open(file)
	check(t, err)
	defer f.Close()
	z, err := zstd.NewReader(f)
	check(t, err)
	defer z.Close()
	content, err := io.ReadAll(z)
	check(t, err)
	return content
}

// ageless is what was found, without how long containers have run.
func ageless(list []path.Finding) string {
	return regexp.MustCompile(`started \d+ seconds? ago`).ReplaceAllString(findingList(list), "started")
}

// TestRecordDoctor: a recording holds what doctor reads of the host, in each of its parts, and replay
// --doctor finds the same; of a redacted one without any name or address.
func TestRecordDoctor(t *testing.T) {
	h := spare(t, plain)
	h.saveRules(t)
	n, other := h.network(t), h.network(t)
	web, client := n.server(t, "-p", "80"), n.client(t)
	closed := h.runs(t, "closed", "idle", "--network", other.Name, "-p", "81")
	web.do("ip", "route", "del", "default")
	h.do(t, "iptables", "-w", "-t", "nat", "-F", "DOCKER")
	h.do(t, "iptables", "-w", "-I", "DOCKER-USER", "-s", client.addr(n).String(), "-m", "comment", "--comment", "keep this quiet", "-j", "RETURN")
	file := filepath.Join(t.TempDir(), "web.ptr")
	h.run(t, "record", "-o", "json", "-w", file, "--from", client.Name, "--to", web.Name+":80")
	live := h.doctor(t)
	live.found("no-default-route", "port-nothing-listens", "nat-missing")
	again := replayAlone(t, file, "--doctor")
	if again.status != live.status || ageless(again.findings) != ageless(live.findings) {
		t.Errorf("replayed, status %d: %s\nlive, status %d: %s", again.status, findingList(again.findings), live.status, findingList(live.findings))
	}
	copied := filepath.Join(t.TempDir(), "shared.ptr")
	if out, err := exec.Command(shared.Binary, "replay", file, "--redact", copied).CombinedOutput(); err != nil {
		t.Fatalf("redact: %v: %s", err, out)
	}
	redacted := replayAlone(t, copied, "--doctor")
	if redacted.status != live.status || len(redacted.findings) != len(live.findings) {
		t.Errorf("redacted, status %d: %s", redacted.status, findingList(redacted.findings))
	}
	for i, f := range redacted.findings {
		if f.Check != live.findings[i].Check || f.Severity != live.findings[i].Severity {
			t.Errorf("redacted: %s %s, want %s %s", f.Severity, f.Check, live.findings[i].Severity, live.findings[i].Check)
		}
	}
	content := unpacked(t, copied)
	secrets := []string{
		web.Name, client.Name, closed.Name, n.Name, other.Name, client.addr(n).String(), web.addr(n).String(), "keep this quiet",
	}
	checkSecrets(t, content, secrets)
	t.Run("mtu", func(t *testing.T) {
		web.do("ip", "link", "set", "eth0", "mtu", "1300")
		checkRecordedMTU(t, h, client.Name, web.Name+":80", secrets)
	})
}

// checkRecordedMTU records a measurement of packet sizes: replay --mtu says the same, without privilege.
func checkRecordedMTU(t *testing.T, h *host, from, to string, secrets []string) {
	t.Helper()
	file, copied := filepath.Join(t.TempDir(), "mtu.ptr"), filepath.Join(t.TempDir(), "shared.ptr")
	live := h.run(t, "record", "--mtu", "-o", "json", "-w", file, "--from", from, "--to", to)
	again := replayAlone(t, file, "--mtu")
	if len(live.mtus) == 0 || again.status != live.status || !reflect.DeepEqual(again.mtus, live.mtus) || !reflect.DeepEqual(again.verdicts, live.verdicts) {
		t.Errorf("replayed, status %d:\n%s\nrecorded, status %d:\n%s%s", again.status, again.stdout, live.status, live.stdout, live.stderr)
	}
	_ = exec.Command(shared.Binary, "replay", file, "--redact", copied).Run() // the status is that of the flow
	redacted := replayAlone(t, copied, "--mtu")
	if redacted.status != live.status || len(redacted.mtus) != len(live.mtus) || redacted.mtus[0].MTU != live.mtus[0].MTU {
		t.Errorf("redacted, status %d:\n%s", redacted.status, redacted.stdout)
	}
	checkSecrets(t, unpacked(t, copied), secrets)
}

func checkSecrets(t *testing.T, content []byte, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("redacted: %s is still in the file", secret)
		}
	}
}
