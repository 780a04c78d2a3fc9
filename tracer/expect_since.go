package tracer

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pathtrace/pathtrace/internal/docker"
)

// firewallUnits are services that replace a host's rules when they start.
func firewallUnits() []string {
	return []string{"firewalld", "ufw", "nftables", "iptables", "ip6tables", "netfilter-persistent", "shorewall", "ferm"}
}

// userHZ is the unit of times in /proc, ticks a second: fixed in the kernel's interface to programs.
const userHZ = 100

// firewallSince says which firewall service was started after the engine, and so may have taken its
// rules away; "" if there is none or that is not known. Only services of the engine's own host count.
func firewallSince(e docker.Engine) string {
	info, err := os.Stat("/proc/1/ns/net")
	if err != nil || e.PID == 0 {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || uint32(stat.Ino) != e.NetNS {
		return ""
	}
	engine, err := processStart("/proc", e.PID)
	if err != nil {
		return ""
	}
	return startedAfter(filepath.Join("/proc", strconv.Itoa(e.PID), "root/run/systemd/units"), engine)
}

// startedAfter names the firewall service that was started last, if that was after the engine. The
// service manager keeps a link for the run of each unit, which is as old as that run.
func startedAfter(units string, engine time.Time) string {
	type run struct {
		unit string
		at   time.Time
	}
	var runs []run
	for _, unit := range firewallUnits() {
		info, err := os.Lstat(filepath.Join(units, "invocation:"+unit+".service"))
		if err == nil && info.ModTime().After(engine) {
			runs = append(runs, run{unit, info.ModTime()})
		}
	}
	if len(runs) == 0 {
		return ""
	}
	last := slices.MaxFunc(runs, func(a, b run) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	const form = "2006-01-02 15:04:05"
	return fmt.Sprintf("%s.service was started at %s, after dockerd (%s): it may have replaced the rules",
		last.unit, last.at.Format(form), engine.Format(form))
}

// processStart returns when a process was started (proc_pid_stat(5), field 22, and btime of proc_stat(5)).
func processStart(procfs string, pid int) (time.Time, error) {
	text, err := os.ReadFile(filepath.Join(procfs, strconv.Itoa(pid), "stat"))
	if err != nil {
		return time.Time{}, fmt.Errorf("read start of process: %w", err)
	}
	// The name, in parentheses, may hold anything; field 3 follows it.
	rest := string(text[strings.LastIndexByte(string(text), ')')+1:])
	fields := strings.Fields(rest)
	const start = 22 - 3
	if len(fields) <= start {
		return time.Time{}, errors.New("read start of process: too few fields")
	}
	ticks, err := strconv.ParseInt(fields[start], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("read start of process: %w", err)
	}
	boot, err := os.ReadFile(filepath.Join(procfs, "stat"))
	if err != nil {
		return time.Time{}, fmt.Errorf("read start of process: %w", err)
	}
	for line := range strings.Lines(string(boot)) {
		if value, ok := strings.CutPrefix(line, "btime "); ok {
			seconds, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return time.Unix(seconds, 0).Add(time.Duration(ticks) * time.Second / userHZ), err
		}
	}
	return time.Time{}, errors.New("read start of process: no btime")
}
