package topo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Sysctl reads a value such as "net/ipv4/ip_forward" as it holds in the namespace. The net branch
// of /proc/sys shows the namespace of the task that opens it (net/sysctl_net.c).
func (t *Topology) Sysctl(netns uint32, name string) (string, error) {
	var value string
	err := t.InNamespace(netns, func() error {
		text, err := os.ReadFile(filepath.Join(t.procfs, "sys", filepath.Join("/", name)))
		value = strings.TrimSpace(string(text))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read sysctl %s: %w", name, err)
	}
	return value, nil
}

// Sysctls reads several values as they hold in the namespace. One that does not exist is an empty
// string; one that cannot be read is left out.
func (t *Topology) Sysctls(netns uint32, names []string) (map[string]string, error) {
	out := make(map[string]string, len(names))
	err := t.InNamespace(netns, func() error {
		for _, name := range names {
			text, err := os.ReadFile(filepath.Join(t.procfs, "sys", filepath.Join("/", name)))
			switch {
			case err == nil:
				out[name] = strings.TrimSpace(string(text))
			case errors.Is(err, fs.ErrNotExist):
				out[name] = ""
			default:
				t.log.Debug("read sysctl", "name", name, "error", err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read sysctls: %w", err)
	}
	return out, nil
}
