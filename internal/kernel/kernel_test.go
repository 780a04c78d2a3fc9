package kernel

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseSymbols(t *testing.T) {
	table := parseSymbols(strings.NewReader(strings.Join([]string{
		"ffffffff81000200 T ip_rcv",
		"ffffffff81000100 t nf_hook_slow.part.0",
		"ffffffff81000300 D some_data",
		"ffffffffc0000000 t br_forward\t[bridge]",
		"0000000000000000 T hidden",
		"garbage",
		"",
	}, "\n")))
	for addr, want := range map[uint64]string{
		0:                  "",
		0xffffffff81000000: "",
		0xffffffff81000100: "nf_hook_slow",
		0xffffffff810001ff: "nf_hook_slow",
		0xffffffff81000250: "ip_rcv",
		0xffffffffc0000010: "br_forward",
	} {
		if got := table.find(addr); got != want {
			t.Errorf("find(%#x) = %q, want %q", addr, got, want)
		}
	}
	for name, want := range map[string]bool{"hidden": true, "br_forward": true, "some_data": false, "br": false} {
		if got := table.has(name); got != want {
			t.Errorf("has(%q) = %v, want %v", name, got, want)
		}
	}
}

// TestHiddenSymbols: without the privilege to see addresses all of them are 0.
func TestHiddenSymbols(t *testing.T) {
	table := parseSymbols(strings.NewReader("0000000000000000 T ip_rcv\n0000000000000000 T ip_forward\n"))
	if got := table.find(0xffffffff81000000); got != "" {
		t.Errorf("find = %q, want nothing", got)
	}
	if !table.has("ip_rcv") {
		t.Error("has(ip_rcv) = false, want true")
	}
}

func TestMissingNamesCapabilities(t *testing.T) {
	if err := missing(^uint64(0)); err != nil {
		t.Errorf("missing(all) = %v, want nil", err)
	}
	err := missing(0)
	if err == nil || !strings.Contains(err.Error(), "CAP_BPF") || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("missing(none) = %v, want it to name the capabilities", err)
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("missing(none) = %v, want an fs.ErrPermission", err)
	}
	if !errors.Is(ErrNoBTF, errors.ErrUnsupported) || errors.Is(ErrNoBTF, fs.ErrPermission) {
		t.Error("ErrNoBTF is not just an errors.ErrUnsupported")
	}
}

// TestLimits: what can be done without is no error but a line, and CAP_SYS_ADMIN stands for what was split
// from it.
func TestLimits(t *testing.T) {
	const trace = 1<<unix.CAP_BPF | 1<<unix.CAP_PERFMON
	for _, tt := range []struct {
		name    string
		held    uint64
		refused bool
		limits  []string
	}{
		{"all", ^uint64(0), false, nil},
		{"enough", trace, false, []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}},
		{"rules, too", trace | 1<<unix.CAP_NET_ADMIN, false, []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}},
		{"the old way", 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN, false, []string{"CAP_SYS_PTRACE"}},
		{"no PERFMON", 1<<unix.CAP_BPF | 1<<unix.CAP_NET_ADMIN, true, []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}},
	} {
		var got []string
		for _, l := range limits(tt.held) {
			got = append(got, l.Name)
		}
		if err := missing(tt.held); (err != nil) != tt.refused || !slices.Equal(got, tt.limits) {
			t.Errorf("%s: got %v and %q, want refused %v and %q", tt.name, err, got, tt.refused, tt.limits)
		}
	}
}

func TestParseLockdown(t *testing.T) {
	for text, want := range map[string]string{
		"[none] integrity confidentiality": "none",
		"none integrity [confidentiality]": "confidentiality",
		"":                                 "",
	} {
		if got := parseLockdown(text); got != want {
			t.Errorf("parseLockdown(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestRunningKernel(t *testing.T) {
	f, err := Load()
	if err != nil {
		t.Skipf("no kernel type information: %v", err)
	}
	if n, ok := f.TracepointArgs("kfree_skb"); !ok || n < 2 {
		t.Errorf("TracepointArgs(kfree_skb) = %d, %v, want at least 2", n, ok)
	}
	if _, ok := f.TracepointArgs("no_such_tracepoint"); ok {
		t.Error("TracepointArgs(no_such_tracepoint) = true, want false")
	}
	if got := f.DropReason(0); got != "" {
		t.Errorf("DropReason(0) = %q, want none", got)
	}
	if got := f.DropReason(0xfffffff0); got != "reason 4294967280" {
		t.Errorf("DropReason(unknown) = %q, want its number", got)
	}
}

// TestTakesMemory: the machines that the tests run on have it, unless they are made to be older.
func TestTakesMemory(t *testing.T) {
	f, err := Load()
	if err != nil || os.Geteuid() != 0 {
		t.Skipf("no kernel type information (%v), or no root", err)
	}
	start := time.Now()
	got := f.TakesMemory()
	took := time.Since(start)
	// check_mem_reg is what 5.12 added to the verifier; later compilers may have inlined it.
	if f.HasFunction("check_mem_reg") && !got {
		t.Error("TakesMemory() = false on a kernel with check_mem_reg")
	}
	t.Logf("%v in %v", got, took)
}
