package topo

import (
	"fmt"
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
