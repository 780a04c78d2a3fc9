package labtest

import (
	"encoding/binary"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
)

// NeedsRoot skips the test without root, with the reason; where the environment variable CI is set,
// it fails instead, so that no test is skipped there unseen.
func NeedsRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("network namespaces need root, and CI must not skip this test")
	}
	t.Skip("network namespaces need root")
}

// Patience stretches a time that a test waits by the factor in the environment variable PATIENCE, for
// machines that are slow, such as emulated ones.
func Patience(d time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv("PATIENCE")); err == nil && n > 1 {
		return d * time.Duration(n)
	}
	return d
}

// New returns an empty lab that is closed with the test.
func New(t testing.TB, opts lab.Options) *lab.Lab {
	t.Helper()
	NeedsRoot(t)
	l := lab.New(opts)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return l
}

// Demo returns the demo's network, which is closed with the test.
func Demo(t testing.TB, opts lab.Options) *lab.Demo {
	t.Helper()
	NeedsRoot(t)
	d, err := lab.NewDemo(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close lab: %v", err)
		}
	})
	return d
}

// Namespace returns a new namespace of l.
func Namespace(t testing.TB, l *lab.Lab, name string) *lab.Namespace {
	t.Helper()
	ns, err := l.NewNamespace(name)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// Must fails the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually waits until ok, which it asks every few milliseconds, and fails the test with what was
// waited for if that takes too long.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(Patience(20 * time.Second))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out: %s", what)
		}
	}
}

// Tables returns the names of the tables of nf_tables in a namespace.
func Tables(t testing.TB, ns *lab.Namespace) (names []string) {
	t.Helper()
	Must(t, ns.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		list, err := conn.ListTables()
		for _, table := range list {
			names = append(names, table.Name)
		}
		return err
	}))
	return names
}

// groupNSID is RTNLGRP_NSID (uapi linux/rtnetlink.h), which x/sys does not have.
const groupNSID = 28

// Watch gives the namespaces an id in the test's own namespace, by which the kernel reports their
// end. The returned function waits until all are freed and fails the test if one is not in time; it
// is the only proof that no socket, thread or descriptor keeps one.
func Watch(t testing.TB, paths ...string) (freed func(time.Duration)) {
	t.Helper()
	sock, err := nl.Subscribe(unix.NETLINK_ROUTE, groupNSID)
	Must(t, err)
	t.Cleanup(sock.Close)
	alive := make(map[int]string)
	for _, path := range paths {
		alive[identify(t, path)] = path
	}
	return func(limit time.Duration) {
		t.Helper()
		deadline := time.Now().Add(limit)
		for len(alive) > 0 && time.Now().Before(deadline) {
			left := unix.NsecToTimeval(max(time.Until(deadline), time.Microsecond).Nanoseconds())
			Must(t, sock.SetReceiveTimeout(&left))
			messages, _, err := sock.Receive()
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}
			Must(t, err)
			for _, m := range messages {
				if m.Header.Type == unix.RTM_DELNSID {
					delete(alive, nsid(t, m.Data))
				}
			}
		}
		for _, path := range alive {
			t.Errorf("namespace %s still exists after %v", path, limit)
		}
	}
}

// identify returns the id of a namespace, giving it one if needed.
func identify(t testing.TB, path string) int {
	t.Helper()
	f, err := os.Open(path)
	Must(t, err)
	defer f.Close()
	// -1 lets the kernel choose; EEXIST means that there is one.
	if err := netlink.SetNetNsIdByFd(int(f.Fd()), -1); err != nil && !errors.Is(err, unix.EEXIST) {
		t.Fatalf("give namespace %s an id: %v", path, err)
	}
	id, err := netlink.GetNetNsIdByFd(int(f.Fd()))
	Must(t, err)
	return id
}

// nsid reads NETNSA_NSID of a message about a namespace (uapi linux/net_namespace.h).
func nsid(t testing.TB, data []byte) int {
	t.Helper()
	attrs, err := nl.ParseRouteAttr(data[nl.NewRtGenMsg().Len():])
	Must(t, err)
	for _, a := range attrs {
		if a.Attr.Type == netlink.NETNSA_NSID {
			return int(int32(binary.NativeEndian.Uint32(a.Value)))
		}
	}
	return -1
}
