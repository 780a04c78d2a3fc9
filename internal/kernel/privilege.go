package kernel

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// capability is one that tracing needs, and what for.
type capability struct {
	bit  uint
	name string
	why  string
}

func needed() []capability {
	return []capability{
		{unix.CAP_BPF, "CAP_BPF", "load BPF programs"},
		{unix.CAP_PERFMON, "CAP_PERFMON", "attach to tracepoints and read kernel memory"},
		{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN", "attach to netfilter hooks"},
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN", "enter network namespaces"},
		{unix.CAP_SYS_PTRACE, "CAP_SYS_PTRACE", "see the namespaces of other processes"},
	}
}

// Lacking returns those of the named capabilities that this process lacks, such as CAP_SYS_ADMIN.
func Lacking(names ...string) ([]string, error) {
	effective, err := capabilities()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, c := range needed() {
		if slices.Contains(names, c.name) && effective&(1<<c.bit) == 0 {
			out = append(out, c.name)
		}
	}
	return out, nil
}

// CheckPrivilege returns an error that names the capabilities this process lacks.
func CheckPrivilege() error {
	effective, err := capabilities()
	if err != nil {
		return err
	}
	return missing(effective)
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

func missing(effective uint64) error {
	var names, whys []string
	for _, c := range needed() {
		if effective&(1<<c.bit) == 0 {
			names = append(names, c.name)
			whys = append(whys, c.why)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return PermissionError(fmt.Sprintf("no permission to trace: %s missing (to %s); run it as root",
		strings.Join(names, ", "), strings.Join(whys, ", to ")))
}
