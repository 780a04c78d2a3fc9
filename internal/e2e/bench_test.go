//go:build e2e && bench

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/kernel"
	"github.com/pathtrace/pathtrace/internal/lab"
)

// tolerance is how much worse than a bound a number may be before a test fails: timing on a machine
// that others use varies. Whether the bound itself was met is printed.
const tolerance = 1.25

// bench is what the parts of the benchmark share.
type bench struct {
	short   bool
	report  report
	binary  string // pathtrace as it is released: stripped
	traffic string
}

// TestBench measures and prints one table. It fails where something cannot be measured and, unless
// BENCH_SHORT is set, where a bound is clearly missed.
func TestBench(t *testing.T) {
	need(t)
	for _, tool := range []string{"iperf3", "tcpdump"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the benchmarks need %s: run scripts/install-test-needs.sh", tool)
		}
	}
	b := &bench{short: os.Getenv("BENCH_SHORT") != ""}
	b.build(t)
	load, err := os.ReadFile("/proc/loadavg")
	check(t, err)
	b.report.machine = fmt.Sprintf("Linux %s, %d processors, load average before: %s",
		kernel.Release(), runtime.NumCPU(), strings.Join(strings.Fields(string(load))[:3], " "))
	defer b.report.print(os.Stdout)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *bench)
	}{
		{"containers", benchContainers}, {"packets of others", benchForeign}, {"packets of ours", benchOurs},
		{"events", benchEvents}, {"loss", benchLoss}, {"latency", benchLatency}, {"added", benchAdded}, {"analysis", benchAnalysis},
		{"crowd", benchCrowd}, {"machine", benchMachine},
	} {
		t.Run(part.name, func(t *testing.T) {
			start := time.Now()
			part.run(t, b)
			t.Logf("took %.0f s", time.Since(start).Seconds())
		})
	}
	if missed := b.report.clearlyMissed(); len(missed) > 0 && !b.short {
		t.Errorf("clearly missed: %q", missed)
	}
}

// build builds pathtrace as `make build` does, and the maker of traffic.
func (b *bench) build(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	b.binary, b.traffic = filepath.Join(dir, "pathtrace"), filepath.Join(dir, "traffic")
	for out, args := range map[string][]string{
		b.binary:  {"-trimpath", "-ldflags", "-s -w", "../../cmd/pathtrace"},
		b.traffic: {"./testdata/traffic"},
	} {
		cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", out}, args...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, text)
		}
	}
}

// prefix is that of named namespaces, which the harness removes if a test does not.
func (b *bench) prefix(t *testing.T) string {
	t.Helper()
	return strings.TrimSuffix(need(t).Outside, "outside") + unique("bench") + "-"
}

// pick is the number for a short or for a full run.
func (b *bench) pick(short, full int) int {
	if b.short {
		return short
	}
	return full
}

// start starts a program inside a namespace and returns what ends it; it is ended with the test.
func (b *bench) start(t *testing.T, ns *lab.Namespace, cmd *exec.Cmd) func() {
	t.Helper()
	cmd.Stderr = os.Stderr
	check(t, ns.Do(cmd.Start))
	end := sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // it was killed
	})
	t.Cleanup(end)
	return end
}

// sink starts what swallows packets and waits until it listens.
func (b *bench) sink(t *testing.T, ns *lab.Namespace, addr string) func() {
	t.Helper()
	cmd := exec.Command(b.traffic, "sink", addr)
	out, err := cmd.StdoutPipe()
	check(t, err)
	end := b.start(t, ns, cmd)
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("start sink: %v", err)
	}
	return end
}

// report is the table.
type report struct {
	machine string
	rows    []row
}

type row struct {
	what, measured, bound, verdict string
	worse                          bool // than the tolerance
}

// info adds a number without a bound.
func (r *report) info(what, format string, args ...any) {
	r.rows = append(r.rows, row{what: what, measured: fmt.Sprintf(format, args...)})
}

// atMost adds a number that must not be above its bound; format prints it.
func (r *report) atMost(what string, value, bound float64, format, beside string) {
	r.add(what, value, bound, format, beside, "≤ ", value <= bound, value > bound*tolerance)
}

// atLeast adds a number that must not be below its bound.
func (r *report) atLeast(what string, value, bound float64, format, beside string) {
	r.add(what, value, bound, format, beside, "≥ ", value >= bound, value*tolerance < bound)
}

func (r *report) add(what string, value, bound float64, format, beside, sign string, met, worse bool) {
	verdict := "MISSED"
	if met {
		verdict = "met"
	}
	measured := fmt.Sprintf(format, value)
	if beside != "" {
		measured += "  (" + beside + ")"
	}
	r.rows = append(r.rows, row{what, measured, sign + fmt.Sprintf(format, bound), verdict, worse})
}

func (r *report) clearlyMissed() (list []string) {
	for _, row := range r.rows {
		if row.worse {
			list = append(list, row.what)
		}
	}
	return list
}

func (r *report) print(w io.Writer) {
	widths := [3]int{}
	for _, row := range r.rows {
		for i, text := range []string{row.what, row.measured, row.bound} {
			widths[i] = max(widths[i], len([]rune(text)))
		}
	}
	fmt.Fprintf(w, "\n%s\n\n", r.machine)
	for _, row := range append([]row{{what: "what", measured: "measured", bound: "bound"}}, r.rows...) {
		fmt.Fprintf(w, "%-*s  %-*s  %-*s  %s\n", widths[0], row.what, widths[1], row.measured, widths[2], row.bound, row.verdict)
	}
	fmt.Fprintln(w)
}

// quantile returns the value that the given share of values is not above; 0.5 is the median.
func quantile(values []float64, share float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

func median(values []float64) float64 { return quantile(values, 0.5) }
