package probe

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
)

// maxChecked bounds the verifier's work for one program with an inlined parser; the kernel's own
// bound is a million instructions.
const maxChecked = 150_000

// maxUsual bounds the verifier's work for one program of the usual form, of which a start has fourteen:
// a quarter of a start is spent with it. On Linux 6.18 they have up to 6,400, and 34,700 together.
const (
	maxUsual    = 7_000
	maxTogether = 38_000
)

// TestUsualForms: what the verifier checks of the programs that this kernel gets.
func TestUsualForms(t *testing.T) {
	s := load(t, Config{})
	var sum uint32
	for name, p := range s.Programs() {
		info, err := p.Info()
		labtest.Must(t, err)
		n, ok := info.VerifiedInstructions()
		if !ok {
			t.Skip("this kernel does not tell how many instructions it checked")
		}
		if n > maxUsual {
			t.Errorf("program %s: %d instructions were checked, want %d at most", name, n, maxUsual)
		}
		sum += n
	}
	if sum > maxTogether {
		t.Errorf("%d instructions were checked, want %d at most", sum, maxTogether)
	}
}

// TestInlineForms loads what older kernels get, which newer ones take as well.
func TestInlineForms(t *testing.T) {
	labtest.NeedsRoot(t)
	labtest.Must(t, rlimit.RemoveMemlock())
	for family, read := range inlineFamilies() {
		spec, err := read()
		labtest.Must(t, err)
		for name, p := range spec.Programs {
			// Their arguments are those of older kernels.
			if strings.HasSuffix(name, "_plain") {
				delete(spec.Programs, name)
			}
			for _, i := range p.Instructions {
				if i.IsFunctionCall() {
					t.Errorf("program %s of %s has calls", name, family)
					break
				}
			}
		}
		coll, err := ebpf.NewCollection(spec)
		if errors.Is(err, unix.EPERM) && strings.HasPrefix(family, "function") {
			t.Logf("object %s: functions cannot be probed here: %v", family, err)
			continue
		}
		if err != nil {
			t.Errorf("object %s: %v", family, err)
			continue
		}
		for name, p := range coll.Programs {
			info, err := p.Info()
			labtest.Must(t, err)
			if n, _ := info.VerifiedInstructions(); n > maxChecked {
				t.Errorf("program %s of %s: %d instructions were checked, want %d at most", name, family, n, maxChecked)
			}
		}
		coll.Close()
	}
}

// TestInlineAndUsual: both forms of a family hold the same programs, but for newer kernels' ones.
func TestInlineAndUsual(t *testing.T) {
	for name, read := range inlineFamilies() {
		inline, err := read()
		labtest.Must(t, err)
		usual, err := families()[strings.TrimSuffix(name, inlineSuffix)]()
		labtest.Must(t, err)
		for program, p := range inline.Programs {
			if other := usual.Programs[program]; other == nil || other.SectionName != p.SectionName {
				t.Errorf("program %s of %s is not what the usual object has", program, name)
			}
		}
		for m := range inline.Maps {
			switch _, shared := usual.Maps[m]; {
			case shared, m == "rooms", m == "nesting": // an object's own: each counts its own nesting
			default:
				t.Errorf("map %s of %s would not be shared", m, name)
			}
		}
	}
}
