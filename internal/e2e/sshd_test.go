//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sshHosts are hosts with an ssh server each, and an ssh that knows them.
type sshHosts struct {
	t   *testing.T
	dir string
	bin string // with an ssh that uses dir's configuration
}

// privsep is a directory that sshd demands.
const privsep = "/run/sshd"

// newSSH starts an ssh server in the namespace of each host. They are called by the last part of their
// namespace's name: host1, host2.
func newSSH(t *testing.T, hosts ...*host) *sshHosts {
	t.Helper()
	for _, tool := range []string{"/usr/sbin/sshd", "/usr/bin/ssh", "/usr/bin/ssh-keygen"} {
		if _, err := os.Stat(tool); err != nil {
			lacks(t, tool+" is missing: scripts/install-test-needs.sh installs it")
		}
	}
	if err := os.Mkdir(privsep, 0o755); err == nil {
		t.Cleanup(func() { _ = os.Remove(privsep) }) // unless somebody else uses it now
	}
	dir, err := os.MkdirTemp(shared.Dir, "ssh")
	check(t, err)
	s := &sshHosts{t: t, dir: dir, bin: filepath.Join(dir, "bin")}
	s.key("id")
	s.key("hostkey")
	public, err := os.ReadFile(s.file("id.pub"))
	check(t, err)
	s.write("authorized_keys", string(public), 0o600)
	known, err := os.ReadFile(s.file("hostkey.pub"))
	check(t, err)
	var list strings.Builder
	for _, h := range hosts {
		fmt.Fprintf(&list, "%s %s", h.Addr, known)
		s.serve(h)
	}
	s.write("known_hosts", list.String(), 0o600)
	s.write("config", fmt.Sprintf("Host *\n IdentityFile %s\n IdentitiesOnly yes\n UserKnownHostsFile %s\n"+
		" GlobalKnownHostsFile /dev/null\n LogLevel ERROR\n", s.file("id"), s.file("known_hosts")), 0o600)
	s.write("bin/ssh", fmt.Sprintf("#!/bin/sh\nexec /usr/bin/ssh -F %s \"$@\"\n", s.file("config")), 0o755)
	return s
}

func (s *sshHosts) file(name string) string { return filepath.Join(s.dir, name) }

func (s *sshHosts) write(name, text string, mode os.FileMode) {
	s.t.Helper()
	check(s.t, os.MkdirAll(filepath.Dir(s.file(name)), 0o755))
	check(s.t, os.WriteFile(s.file(name), []byte(text), mode))
}

func (s *sshHosts) key(name string) {
	s.t.Helper()
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.file(name)).CombinedOutput()
	if err != nil {
		s.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
}

// name is what a host calls itself, in a UTS namespace of its server.
func (h *host) name() string { return h.NetNS[strings.LastIndex(h.NetNS, "-")+1:] }

// tmp is where what is copied to a host lands.
func (s *sshHosts) tmp(h *host) string { return s.file("tmp-" + h.name()) }

// serve starts the ssh server of a host.
func (s *sshHosts) serve(h *host) {
	s.t.Helper()
	check(s.t, os.MkdirAll(s.tmp(h), 0o777))
	config := "sshd-" + h.name()
	s.write(config, fmt.Sprintf("ListenAddress %s\nPort 22\nHostKey %s\nAuthorizedKeysFile %s\nPidFile none\nStrictModes no\n"+
		"UsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\nSetEnv DOCKER_HOST=unix://%s TMPDIR=%s\n",
		h.Addr, s.file("hostkey"), s.file("authorized_keys"), h.Socket, s.tmp(h)), 0o600)
	log, err := os.Create(s.file(config + ".log"))
	check(s.t, err)
	defer log.Close()
	cmd := exec.Command("unshare", "--uts", "sh", "-c", "hostname "+h.name()+" && exec /usr/sbin/sshd -D -e -f "+s.file(config))
	cmd.Stdout, cmd.Stderr = log, log
	check(s.t, startIn(h.NetNS, cmd))
	s.t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended
		_ = cmd.Wait()
	})
	up := func() bool {
		_, err := runInNetNS(filepath.Join("/run/netns", h.NetNS), "bash", "-c", "exec 3<>/dev/tcp/"+h.Addr.String()+"/22")
		return err == nil
	}
	if !eventually(20*time.Second, up) {
		s.t.Fatalf("sshd of %s does not listen\n%s", h.NetNS, tail(log.Name()))
	}
}

// launch starts pathtrace outside of the hosts, with an ssh that knows them.
func (s *sshHosts) launch(t *testing.T, args ...string) *process {
	t.Helper()
	return launchIn(t, shared.Outside, func(cmd *exec.Cmd) {
		cmd.Env = append(cmd.Env, "PATH="+s.bin+":"+os.Getenv("PATH"))
	}, args...)
}

func (s *sshHosts) run(t *testing.T, args ...string) *result {
	t.Helper()
	return s.launch(t, args...).wait()
}

// at are the arguments that name hosts.
func at(hosts ...*host) []string {
	var out []string
	for _, h := range hosts {
		out = append(out, "--host", "ssh://root@"+h.Addr.String())
	}
	return out
}

// clean checks that nothing of pathtrace is left on a host.
func (s *sshHosts) clean(t *testing.T, h *host) {
	t.Helper()
	gone := func() bool {
		list, err := filepath.Glob(filepath.Join(s.tmp(h), "*"))
		return err == nil && len(list) == 0 && len(s.running(h)) == 0
	}
	if !eventually(20*time.Second, gone) {
		list, _ := filepath.Glob(filepath.Join(s.tmp(h), "*"))
		t.Errorf("left on %s: files %v, processes %v", h.name(), list, s.running(h))
	}
}

// running lists the processes of copied programs.
func (s *sshHosts) running(h *host) []string {
	var list []string
	entries, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, entry := range entries {
		if target, err := os.Readlink(entry); err == nil && strings.HasPrefix(target, s.tmp(h)+"/") {
			list = append(list, filepath.Base(filepath.Dir(entry)))
		}
	}
	return list
}
