package diagnose

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/flow"
	"github.com/pathtrace/pathtrace/internal/wire"
	"github.com/pathtrace/pathtrace/tracer/path"
)

var update = flag.Bool("update", false, "write the golden files")

// kernelNames are the names that a script of package flow gives to the kernel's numbers, in lines
// that begin with #!, and the targets it is about.
type kernelNames struct {
	symbols         map[uint64]string
	reasons, resets map[uint32]string
	targets         []wire.Tuple
}

func (k *kernelNames) Symbol(addr uint64) string   { return k.symbols[addr] }
func (k *kernelNames) DropReason(n uint32) string  { return k.reasons[n] }
func (k *kernelNames) ResetReason(n uint32) string { return k.resets[n] }

func (k *kernelNames) isTarget(ap netip.AddrPort, proto uint8) bool {
	for _, t := range k.targets {
		if t.Proto == proto && t.Dst.Addr() == ap.Addr() && (t.Dst.Port() == 0 || t.Dst.Port() == ap.Port()) {
			return true
		}
	}
	return false
}

func readNames(t *testing.T, text string) *kernelNames {
	t.Helper()
	k := &kernelNames{map[uint64]string{}, map[uint32]string{}, map[uint32]string{}, nil}
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) != 4 || w[0] != "#!" {
			continue
		}
		switch n, _ := strconv.ParseUint(w[2], 10, 32); w[1] {
		case "symbol":
			addr, _ := strconv.ParseUint(w[2], 16, 64)
			k.symbols[addr] = w[3]
		case "reason":
			k.reasons[uint32(n)] = w[3]
		case "reset":
			k.resets[uint32(n)] = w[3]
		case "target":
			e, err := wire.ParseText(w[2] + "=" + w[3] + ">" + w[3])
			if err != nil {
				t.Fatal(err)
			}
			k.targets = append(k.targets, e.Tuple)
		}
	}
	return k
}

// flowsOf follows the events of a script.
func flowsOf(t *testing.T, file string) []*path.Path {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var paths []*path.Path
	k := readNames(t, string(text))
	tr := flow.New(flow.Config{IsTarget: k.isTarget, Namer: k,
		OnDone: func(p *path.Path) { paths = append(paths, p) }})
	for e, err := range wire.ReadText(bytes.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		tr.Add(&e)
	}
	tr.Flush()
	return paths
}

// TestVerdictsOnFlows judges whole flows, from events as hooks report them to the verdict. The files
// recorded_* come from a real kernel, the others are written by hand. Nothing but the path is known.
func TestVerdictsOnFlows(t *testing.T) {
	files, err := filepath.Glob("testdata/*.events")
	if err != nil || len(files) == 0 {
		t.Fatalf("no flows: %v", err)
	}
	var out strings.Builder
	for _, file := range files {
		fmt.Fprintf(&out, "%s\n", strings.TrimSuffix(filepath.Base(file), ".events"))
		for _, p := range flowsOf(t, file) {
			v := Explain(p, nil)
			checkVerdict(t, &v)
			fmt.Fprintf(&out, "  %s\n", v.Summary)
			if v.Cause != "" {
				fmt.Fprintf(&out, "    cause %s\n", v.Cause)
			}
			for _, e := range v.Evidence {
				fmt.Fprintf(&out, "    - %s\n", e)
			}
			for _, w := range v.Warnings {
				fmt.Fprintf(&out, "    warning %s: %s\n", w.Cause, w.Summary)
			}
		}
	}
	const golden = "testdata/flows.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, wanted := strings.Split(out.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(got), len(wanted)) {
		if g, w := lineAt(got, i), lineAt(wanted, i); g != w {
			t.Fatalf("%s:%d (run with -update to accept)\n got %s\nwant %s", golden, i+1, g, w)
		}
	}
}

func lineAt(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}
