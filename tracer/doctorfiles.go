package tracer

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/pathtrace/pathtrace/internal/doctor"
)

// maxFile is how much of a file is read: files of rules can be long, and their beginning tells.
const maxFile = 1 << 20

// readServices reads what the service manager's files below root say; nil if there is none.
func readServices(root string) *doctor.Services {
	at := func(path string) string { return filepath.Join("/", root, path) }
	if _, err := os.Stat(at("/etc/systemd")); err != nil {
		return nil
	}
	s := &doctor.Services{Files: map[string]string{}}
	paths := []string{
		"/etc/nftables.conf", "/etc/default/ufw", "/etc/default/netfilter-persistent", "/etc/iptables/rules.v4",
		"/etc/sysconfig/iptables",
	}
	for _, dir := range []string{"/lib/systemd/system", "/usr/lib/systemd/system", "/etc/systemd/system", "/run/systemd/system"} {
		paths = append(paths, dir+"/docker.service")
		dropIns, _ := filepath.Glob(at(dir + "/docker.service.d/*.conf"))
		for _, file := range dropIns {
			paths = append(paths, dir+"/docker.service.d/"+filepath.Base(file))
		}
	}
	for _, path := range paths {
		if text, err := readStart(at(path)); err == nil {
			s.Files[path] = text
		}
	}
	wants, _ := filepath.Glob(at("/etc/systemd/system/*.wants/*.service"))
	for _, file := range wants {
		s.Enabled = append(s.Enabled, filepath.Base(file))
	}
	// The manager keeps the invocation of every unit that was started as a link.
	invocations, _ := filepath.Glob(at("/run/systemd/units/invocation:*.service"))
	for _, file := range invocations {
		s.Active = append(s.Active, strings.TrimPrefix(filepath.Base(file), "invocation:"))
	}
	return s
}

func readStart(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	return string(text), err
}
