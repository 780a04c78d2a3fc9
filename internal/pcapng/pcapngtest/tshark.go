// Package pcapngtest reads captures as Wireshark does, for tests.
package pcapngtest

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TShark returns what tshark prints of a capture; what it remarks is a failure. Without tshark the test is
// skipped, and fails where CI is set.
func TShark(t *testing.T, file string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("tshark"); err != nil {
		const why = "tshark is missing: scripts/install-test-needs.sh installs it"
		if os.Getenv("CI") != "" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	cmd := exec.Command("tshark", append([]string{"-n", "-r", file}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	said := strings.ReplaceAll(stderr.String(), `Running as user "root" and group "root". This could be dangerous.`, "")
	if err != nil || strings.TrimSpace(said) != "" {
		t.Fatalf("tshark %v: %v: %s", args, err, said)
	}
	return string(out)
}
