package kernel

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capability is one that tracing needs or is better with.
type capability struct {
	bit  uint
	name string
	why  string
	// without says what is not seen without it; nothing can be traced if it is empty.
	without string
}

func needed() []capability {
	return []capability{
		{unix.CAP_BPF, "CAP_BPF", "load BPF programs", ""},
		{unix.CAP_PERFMON, "CAP_PERFMON", "attach to tracepoints and read kernel memory", ""},
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "read firewall rules and attach to netfilter hooks",
			"firewall rules; where functions cannot be probed, netfilter hooks and what they translate"},
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "enter network namespaces",
			"rules, routes and sockets of other network namespaces; no probe starts there"},
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "see the namespaces of other processes",
			"the names of network namespaces that only other processes hold"},
	}
}

// Limit is something that is missing here, and what is not seen without it.
type Limit struct {
	Name    string // such as CAP_SYS_ADMIN
	Without string
}

// String is one line.
func (l Limit) String() string { return "no " + l.Name + ": not seen are " + l.Without }

// Lacking returns those of the named capabilities that this process lacks, such as CAP_SYS_ADMIN.
func Lacking(names ...string) ([]string, error) {
	effective, err := capabilities()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range needed() {
		if slices.Contains(names, c.name) && !holds(effective, c) {
			out = append(out, c.name)
		}
	}
	return out, nil
}

// CheckPrivilege returns an error that names the capabilities this process lacks, if it cannot trace
// without one of them.
func CheckPrivilege() error {
	effective, err := capabilities()
	if err != nil {
		return err
	}
	return missing(effective)
}

// Lacks returns the capabilities that this process lacks and can trace without.
func Lacks() ([]Limit, error) {
	effective, err := capabilities()
	if err != nil {
		return nil, err
	}
	return limits(effective), nil
}

// Limits adds to what a process lacks that the kernel hides addresses from it.
func (f *Facts) Limits(lacks []Limit) []Limit {
	if !f.hidesAddresses() {
		return lacks
	}
	return append(slices.Clip(lacks), Limit{"kernel addresses", "the functions that drop packets " +
		"(CAP_SYSLOG shows them, with kernel.kptr_restrict below 2)"})
}

func limits(effective uint64) []Limit {
	var out []Limit
	for _, c := range needed() {
		if c.without != "" && !holds(effective, c) {
			out = append(out, Limit{c.name, c.without})
		}
	}
	return out
}

// capabilities returns the effective set of this process as a bit mask.
func capabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read this process's capabilities: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// holds reports whether c is in a set. CAP_SYS_ADMIN stands for the two that were split from it
// (bpf_capable and perfmon_capable, include/linux/capability.h).
func holds(effective uint64, c capability) bool {
	mask := uint64(1) << c.bit
	if c.bit == unix.CAP_BPF || c.bit == unix.CAP_PERFMON {
		mask |= 1 << unix.CAP_SYS_ADMIN
	}
	return effective&mask != 0
}

// missing names everything that is lacking, as long as something is without which nothing works.
func missing(effective uint64) error {
	var names, whys []string
	refused := false
	for _, c := range needed() {
		if !holds(effective, c) {
			names = append(names, c.name)
			whys = append(whys, c.why)
			refused = refused || c.without == ""
		}
	}
	if !refused {
		return nil
	}
	return PermissionError(fmt.Sprintf("no permission to trace: %s missing (to %s); run it as root",
		strings.Join(names, ", "), strings.Join(whys, ", to ")))
}
