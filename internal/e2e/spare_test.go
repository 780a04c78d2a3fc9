//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The kinds of engines that some tests need. Each is started by the first test that asks for it and
// ends with the fixture.
const (
	plain   = "plain"    // as the machine's package is, for tests that break what others need
	noProxy = "no proxy" // with --userland-proxy=false
	legacy  = "legacy"   // drives iptables-legacy
	private = "private"  // in a mount namespace of its own

	rootless = "rootless" // of a user, in a user namespace

	docker29         = "29 nftables" // Docker 29, drives nftables itself
	docker29Iptables = "29 iptables" // Docker 29 with its other backend
	docker26         = "26"          // Docker 26
)

var spareKinds = []string{plain, noProxy, legacy, private, rootless, docker29, docker29Iptables, docker26}

// spare returns the host of that kind, with a running engine. Tests that use one kind must not run in
// parallel with each other.
func spare(t *testing.T, kind string) *host {
	t.Helper()
	h := need(t).Spare[kind]
	if h.pid() != 0 {
		return h
	}
	switch kind {
	case noProxy:
		h.Args = []string{"--userland-proxy=false"}
	case legacy:
		h.Tools = legacyTools(t)
	case private:
		h.Tools = privateTools(t)
	case rootless:
		h.Tools = rootlessTools(t, h)
	case docker29:
		h.newEngine(t, "nftables")
		h.do(t, "sysctl", "-qw", "net.ipv4.ip_forward=1") // this backend does not turn it on
	case docker29Iptables:
		h.newEngine(t, "iptables")
	case docker26:
		dir, err := filepath.Abs("../../.cache/engine26")
		check(t, err)
		if _, err := os.Stat(filepath.Join(dir, "dockerd")); err != nil {
			lacks(t, "this test needs Docker 26: run scripts/engine26.sh")
		}
		h.Tools, h.Args = dir, []string{"--userland-proxy-path", filepath.Join(dir, "docker-proxy")}
	}
	check(t, h.startDaemon())
	check(t, h.importImage(filepath.Join(shared.Dir, "bin", "ptserver")))
	return h
}

// legacyTools is a directory in which the names of iptables mean iptables-legacy.
func legacyTools(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(shared.Dir, "legacy")
	check(t, os.MkdirAll(dir, 0o755))
	for _, family := range []string{"iptables", "ip6tables"} {
		for _, tool := range []string{"", "-save", "-restore"} {
			program, err := exec.LookPath(family + "-legacy" + tool)
			check(t, err)
			check(t, os.Symlink(program, filepath.Join(dir, family+tool)))
		}
	}
	return dir
}

// newEngine makes the host's engine the one of scripts/engine29.sh, without which the test is skipped,
// or fails in CI.
func (h *host) newEngine(t *testing.T, backend string) {
	t.Helper()
	dir, err := filepath.Abs("../../.cache/engine29")
	check(t, err)
	for _, program := range []string{"dockerd", "docker-proxy", "runc"} {
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			lacks(t, "this test needs Docker 29: run scripts/engine29.sh")
		}
	}
	h.Tools = dir
	h.Args = []string{
		"--firewall-backend", backend, "--userland-proxy-path", filepath.Join(dir, "docker-proxy"),
		"--seccomp-profile", "unconfined",
	}
}

// privateTools is a directory whose dockerd begins a mount namespace of its own: what it mounts, such as
// the pins of its containers' namespaces, is not mounted for anybody else.
func privateTools(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(shared.Dir, "private")
	check(t, os.MkdirAll(dir, 0o755))
	dockerd, err := exec.LookPath("dockerd")
	check(t, err)
	script := "#!/bin/sh\nexec unshare --mount --propagation private " + dockerd + " \"$@\"\n"
	check(t, os.WriteFile(filepath.Join(dir, "dockerd"), []byte(script), 0o755))
	return dir
}
