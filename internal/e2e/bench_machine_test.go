//go:build e2e && bench

package e2e

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"testing"
)

// machineRows are the figures of an emulated machine: what TestMachineBench of package tracer calls
// them, their bound, and what was measured of pwru 1.0.12 there. Its figures are of earlier runs, with
// other traffic of the same kinds: docs/performance.md says how they were come by.
var machineRows = []struct {
	key, format string
	least, most float64 // 0: no such bound
	pwru        string
}{
	{"exec to ready, s", "%.2f s", 0, 1.5, "7 to 13 s"},
	{"Ctrl-C to exit, s", "%.2f s", 0, 0.3, "1.0 s"},
	{"matching nothing, request and response", "%.3f", 0.95, 0, "0.30"},
	{"matching nothing, connect and request", "%.3f", 0.95, 0, "0.34"},
	{"matching nothing, bulk", "%.3f", 0.95, 0, "0.17"},
	{"matching the flow, request and response", "%.3f", 0.80, 0, "0.26"},
	{"matching the flow, connect and request", "%.3f", 0.80, 0, "0.24"},
	{"matching the flow, connect and request, with what comes after", "%.3f", 0, 0, "not told apart"},
	{"matching the flow, bulk", "%.3f", 0.80, 0, "0.12"},
	{"matching every packet, request and response", "%.3f", 0, 0, "0.26"},
	{"matching every packet, connect and request", "%.3f", 0, 0, "0.24"},
	{"matching every packet, bulk", "%.3f", 0, 0, "0.12"},
}

// benchMachine measures in an emulated machine with Linux 6.12, by its instructions; its hooks are those of a usual
// distribution. It takes some five minutes, so a short run leaves it out.
func benchMachine(t *testing.T, b *bench) {
	if b.short || runtime.GOARCH != "amd64" {
		t.Skip("the emulated machine takes minutes, and is an amd64 one")
	}
	cmd := exec.Command("scripts/kernels.sh", "bench")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("measure in a machine: %v\n%s", err, tailOf(string(out)))
	}
	log, err := os.ReadFile("../../.cache/kernels/bench.log")
	check(t, err)
	values := map[string][]string{}
	for _, m := range regexp.MustCompile(`machine: (.*) = ([\d.]+) \(([\d.]+) to ([\d.]+)\)`).FindAllStringSubmatch(string(log), -1) {
		values[m[1]] = m[2:]
	}
	for _, row := range machineRows {
		v := values[row.key]
		if v == nil {
			t.Errorf("the machine does not tell %q", row.key)
			continue
		}
		value, err := strconv.ParseFloat(v[0], 64)
		check(t, err)
		what, beside := "6.12 emulated, "+row.key, v[1]+" to "+v[2]+"; pwru "+row.pwru
		switch {
		case row.least > 0:
			b.report.atLeast(what, value, row.least, row.format, beside)
		case row.most > 0:
			b.report.atMost(what, value, row.most, row.format, beside)
		default:
			b.report.info(what, row.format+"  (%s)", value, beside)
		}
	}
}
