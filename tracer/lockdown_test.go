package tracer_test

import (
	"os"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
)

// TestLockdown: integrity mode and hidden symbols cost no hook, confidentiality mode is said in a sentence.
// Neither mode can be left again: only a machine that ends with the test may do this.
func TestLockdown(t *testing.T) {
	if os.Getenv("MACHINE") != "lockdown" {
		t.Skip("this locks the kernel down: scripts/kernels.sh runs it in a machine of its own")
	}
	const file = "/sys/kernel/security/lockdown"
	labtest.Must(t, os.WriteFile("/proc/sys/kernel/kptr_restrict", []byte("2"), 0o644))
	labtest.Must(t, os.WriteFile(file, []byte("integrity"), 0o644))
	list, err := tracer.Hooks()
	labtest.Must(t, err)
	for _, h := range list {
		if h.Err != nil {
			t.Errorf("integrity: no hook %s: %v", h.Name, h.Err)
		}
	}
	labtest.Must(t, os.WriteFile(file, []byte("confidentiality"), 0o644))
	if _, err := tracer.Hooks(); err == nil || !strings.Contains(err.Error(), "locked down (confidentiality mode)") {
		t.Errorf("confidentiality: got %v, want that the kernel is locked down", err)
	}
}
