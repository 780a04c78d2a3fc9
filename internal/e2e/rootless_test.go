//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// rootlessUser is who the rootless engine belongs to, by number: no account of this machine.
const rootlessUser = 47000

// rootlessTools is a directory whose dockerd is one without root privileges, as Docker's
// dockerd-rootless.sh starts it: in user, mount and network namespaces of rootlesskit. Its account exists
// in a mount namespace only, and so does a /dev/net/tun that everybody may open, which slirp4netns needs.
func rootlessTools(t *testing.T, h *host) string {
	t.Helper()
	for _, tool := range []string{"rootlesskit", "slirp4netns", "newuidmap", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacks(t, "this test needs "+tool+": run scripts/install-test-needs.sh")
		}
	}
	dockerd, err := exec.LookPath("dockerd")
	check(t, err)
	dir := filepath.Join(shared.Dir, "rootless")
	check(t, os.MkdirAll(dir, 0o755))
	check(t, os.MkdirAll(filepath.Join(h.Dir, "home"), 0o755))
	check(t, os.Chmod(shared.Dir, 0o711))
	inner := fmt.Sprintf(`#!/bin/sh
set -e
chown -R %[1]d:%[1]d %[2]s
mount -t tmpfs tun /dev/net && mknod -m 666 /dev/net/tun c 10 200
mount -t tmpfs accounts /mnt
cp /etc/passwd /etc/group /mnt
echo "ptrootless:x:%[1]d:%[1]d::%[2]s/home:/bin/sh" >>/mnt/passwd
echo "ptrootless:x:%[1]d:" >>/mnt/group
echo "ptrootless:%[1]d0:65536" | tee /mnt/subuid >/mnt/subgid
for f in passwd group subuid subgid; do [ -e /etc/$f ] || touch /etc/$f; mount --bind /mnt/$f /etc/$f; done
export HOME=%[2]s/home XDG_RUNTIME_DIR=%[2]s USER=ptrootless
exec setpriv --reuid %[1]d --regid %[1]d --clear-groups rootlesskit --net=slirp4netns --disable-host-loopback \
	--port-driver=builtin --copy-up=/etc --copy-up=/run --propagation=rslave \
	sh -c 'rm -rf /run/docker /run/containerd /run/xtables.lock; exec "$@"' sh %[3]s --rootless --storage-driver vfs "$@"
`, rootlessUser, h.Dir, dockerd)
	check(t, os.WriteFile(filepath.Join(dir, "rootless"), []byte(inner), 0o755))
	outer := "#!/bin/sh\nexec unshare --mount --propagation private " + filepath.Join(dir, "rootless") + " \"$@\"\n"
	check(t, os.WriteFile(filepath.Join(dir, "dockerd"), []byte(outer), 0o755))
	return dir
}

// TestRootless: an engine that runs as a user, in a user namespace, with its containers' networks in a
// network namespace of its own: bridged, published, and dropped by a rule in there.
func TestRootless(t *testing.T) {
	h := spare(t, rootless)
	n := h.network(t)
	web, client := n.server(t, "-p", "18080:80"), n.client(t)
	h.probe(t, want{
		Outcome: path.Delivered, Says: []string{"container " + client.Name, "container " + web.Name},
		Hops: []hop{
			{Container: client.Name, Direction: path.Request, Action: path.ActionTransmit},
			{Container: web.Name, Network: n.Name, Direction: path.Request, Action: path.ActionReceive},
		},
	}, client.Name, web.Name+":80")
	h.probe(t, want{Outcome: path.Delivered, Says: []string{"DNAT", "container " + web.Name}}, "host", web.Name+":18080")
	inside := []string{"nsenter", "-t", strconv.Itoa(h.pid()), "-n", "iptables", "-w"}
	h.do(t, inside[0], append(inside[1:], "-I", "OUTPUT", "-p", "tcp", "--dport", "80", "-j", "DROP")...)
	t.Cleanup(func() { h.do(t, inside[0], append(inside[1:], "-F", "OUTPUT")...) })
	h.ask(t, want{Outcome: path.Dropped, Cause: path.CauseFirewallDrop}, "host", web.Name+":18080", brief...)
}
