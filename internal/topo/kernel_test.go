package topo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	enterns "github.com/pathtrace/pathtrace/internal/netns"
)

// needRoot skips where namespaces cannot be made, and fails in CI, where they must be.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal("this test makes network namespaces and must run as root in CI")
	}
	t.Skip("making network namespaces needs root")
}

// newNS makes a namespace as `ip netns add` does and removes it with the test.
func newNS(t *testing.T, suffix string) string {
	t.Helper()
	needRoot(t)
	name := fmt.Sprintf("topotest%d%s", os.Getpid(), suffix)
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in the new namespace
		ns, err := netns.NewNamed(name)
		if err == nil {
			ns.Close()
		}
		made <- err
	}()
	if err := <-made; err != nil {
		t.Fatalf("make namespace %s: %v", name, err)
	}
	t.Cleanup(func() { netns.DeleteNamed(name) })
	return name
}

func nsPath(name string) string { return "/run/netns/" + name }

// in runs fn with a netlink handle of a named namespace.
func in(t *testing.T, name string, fn func(h *netlink.Handle) error) {
	t.Helper()
	err := inPath(nsPath(name), func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		return fn(h)
	})
	if err != nil {
		t.Fatalf("in %s: %v", name, err)
	}
}

// linkUp adds an address, if any, and sets a link up.
func linkUp(h *netlink.Handle, name string, prefix string) error {
	l, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if prefix != "" {
		addr, err := netlink.ParseAddr(prefix)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if err := h.AddrAdd(l, addr); err != nil {
			return err
		}
	}
	return h.LinkSetUp(l)
}

// veth joins two named namespaces, which may be the same.
func veth(t *testing.T, ns1, dev1, ns2, dev2 string) {
	t.Helper()
	f, err := os.Open(nsPath(ns2))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in(t, ns1, func(h *netlink.Handle) error {
		return h.LinkAdd(&netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: dev1},
			PeerName:      dev2,
			PeerNamespace: netlink.NsFd(int(f.Fd())),
		})
	})
}

func newTopology(t *testing.T) *Topology {
	t.Helper()
	needRoot(t)
	topo, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { topo.Close() })
	return topo
}

func inodeOf(t *testing.T, topo *Topology, name string) uint32 {
	t.Helper()
	inode, err := topo.InodeOf(nsPath(name))
	if err != nil {
		t.Fatal(err)
	}
	return inode
}

func TestNamespaces(t *testing.T) {
	name := newNS(t, "a")
	topo := newTopology(t)
	inode := inodeOf(t, topo, name)

	got, ok := topo.Namespace(inode)
	if !ok || got.Name != name || got.Kind != KindNamed || got.Path != nsPath(name) || got.Gone {
		t.Errorf("got %+v, want a named namespace %s", got, name)
	}
	if self, ok := topo.Namespace(topo.Self()); !ok {
		t.Errorf("own namespace unknown: %+v", self)
	}
	if byName := topo.NamespaceByName(name); len(byName) != 1 || byName[0].Inode != inode {
		t.Errorf("by name: got %+v", byName)
	}

	topo.SetName(inode, "web", KindContainer)
	if got, _ := topo.Namespace(inode); got.Name != "web" || got.Kind != KindContainer {
		t.Errorf("after SetName: got %+v", got)
	}
	if got := topo.Mounted(inode); got != name {
		t.Errorf("name under /run/netns: got %q, want %q", got, name)
	}
	if got := topo.Mounted(topo.Self()); got != "" {
		t.Errorf("own namespace: got %q, want none", got)
	}

	if err := netns.DeleteNamed(name); err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "namespace is gone", func() bool {
		got, ok := topo.Namespace(inode)
		return ok && got.Gone && got.Name == "web"
	})
	if _, err := topo.PathOf(inode); err == nil {
		t.Error("a path to a namespace that is gone")
	}
}

func TestNamespaceOfProcess(t *testing.T) {
	topo := newTopology(t)
	added := make(chan NetNS, 64)
	topo.OnChange(func(c Change) {
		if c.Kind == NamespaceAdded {
			added <- c.NetNS
		}
	})
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	inode, err := topo.InodeOf(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "namespace is found", func() bool {
		got, ok := topo.Namespace(inode)
		return ok && got.PID == cmd.Process.Pid
	})
	for deadline := time.After(10 * time.Second); ; {
		select {
		case n := <-added:
			if n.Inode == inode {
				return
			}
		case <-deadline:
			t.Fatal("the new namespace was not reported")
		}
	}
}

func TestInNamespaceReturns(t *testing.T) {
	a := newNS(t, "a")
	topo := newTopology(t)
	inode := inodeOf(t, topo, a)
	for range 50 {
		var inside uint32
		err := topo.InNamespace(inode, func() (err error) {
			inside, err = readNetNS("/proc/thread-self/ns/net")
			return err
		})
		if err != nil || inside != inode {
			t.Fatalf("inside: got %d %v, want %d", inside, err, inode)
		}
		runtime.LockOSThread()
		outside, err := readNetNS("/proc/thread-self/ns/net")
		runtime.UnlockOSThread()
		if err != nil || outside != topo.Self() {
			t.Fatalf("outside: got %d %v, want %d", outside, err, topo.Self())
		}
	}
	if err := topo.InNamespace(inode, func() error { return unix.EBUSY }); !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v, want EBUSY", err)
	}
	if err := topo.InNamespace(inode, func() error { runtime.Goexit(); return nil }); err == nil {
		t.Errorf("a function that ended its goroutine gave no error")
	}
	if err := topo.InNamespace(1, func() error { return nil }); !errors.Is(err, unix.ENOENT) {
		t.Errorf("unknown namespace: got %v, want ENOENT", err)
	}
}

func TestSocketsCountersSysctl(t *testing.T) {
	a := newNS(t, "a")
	in(t, a, func(h *netlink.Handle) error { return linkUp(h, "lo", "") })
	topo := newTopology(t)
	netns := inodeOf(t, topo, a)
	var fds []int
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	err := topo.InNamespace(netns, func() error {
		tcp, err1 := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		udp, err2 := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		fds = append(fds, tcp, udp)
		return errors.Join(err1, err2,
			unix.Bind(tcp, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(tcp, 7),
			unix.Bind(udp, &unix.SockaddrInet6{Port: 53}),
			os.WriteFile("/proc/sys/net/ipv4/ip_default_ttl", []byte("77"), 0))
	})
	if err != nil {
		t.Fatal(err)
	}
	for proto, want := range map[string]string{"tcp": "127.0.0.1:80", "udp": "[::]:53"} {
		ls, err := topo.Listeners(netns, proto)
		if err != nil || len(ls) != 1 || ls[0].Addr.String() != want {
			t.Fatalf("%s: got %+v %v, want %s", proto, ls, err, want)
		}
		if proto == "tcp" && topo.features().tcpDiag && ls[0].Backlog != 7 {
			t.Errorf("backlog: got %d, want 7", ls[0].Backlog)
		}
		if err := topo.ListenerOwners(netns, ls); err != nil || ls[0].PID != os.Getpid() || ls[0].Process == "" {
			t.Errorf("owner of %s: got %+v %v", proto, ls[0], err)
		}
	}
	counters, err := topo.Counters(netns)
	for _, name := range []string{"TcpExtListenOverflows", "IpExtInNoRoutes", "UdpRcvbufErrors", "Ip6InNoRoutes"} {
		if _, ok := counters[name]; !ok {
			t.Errorf("no counter %s (%v)", name, err)
		}
	}
	if got, err := topo.Sysctl(netns, "net/ipv4/ip_default_ttl"); got != "77" {
		t.Errorf("sysctl: got %q %v, want 77", got, err)
	}
	if got, err := topo.Sysctl(topo.Self(), "net/ipv4/ip_default_ttl"); got == "77" {
		t.Errorf("own sysctl: got %q %v", got, err)
	}
}

func TestPrivateMounts(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	pin := dir + "/netns/1-abcdefghij"
	// A process in a mount namespace of its own pins a namespace there and leaves it.
	script := fmt.Sprintf("mkdir -p %[1]s/netns; : > %[2]s; mount --make-rprivate /; unshare --net=%[2]s true; echo; exec sleep 60", dir, pin)
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Skip("no mount namespaces with pins here: ", err)
	}
	topo := newTopology(t)
	if _, err := topo.InodeOf(pin); err == nil {
		t.Fatal("the pin is visible here, the test shows nothing")
	}
	inode, err := topo.InodeOf(fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, pin))
	if err != nil {
		t.Fatal(err)
	}
	labtest.Eventually(t, "hidden namespace is found", func() bool {
		got, ok := topo.Namespace(inode)
		return ok && got.Name == "1-abcdefghij" && got.Kind == KindHidden
	})
	if _, err := topo.Links(inode); err != nil {
		t.Error(err)
	}
	if err := topo.Rescan(); err != nil {
		t.Fatal(err)
	}
	if got, ok := topo.Namespace(inode); !ok || got.Gone {
		t.Errorf("after the next scan: got %+v", got)
	}
}

func TestCloseReleases(t *testing.T) {
	needRoot(t)
	a := newNS(t, "a")
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := count()
	for range 5 {
		topo, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := topo.Links(inodeOf(t, topo, a)); err != nil {
			t.Fatal(err)
		}
		topo.Close()
		topo.Close()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func BenchmarkNew(b *testing.B) {
	for range b.N {
		topo, err := New(Options{})
		if err != nil {
			b.Fatal(err)
		}
		topo.Close()
	}
}

func BenchmarkLink(b *testing.B) {
	topo, err := New(Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer topo.Close()
	for range b.N {
		if _, ok := topo.Link(topo.Self(), 1); !ok {
			b.Fatal("no link 1")
		}
	}
}

// inPath runs fn inside the namespace at path.
func inPath(path string, fn func() error) error {
	f, err := enterns.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return enterns.Do(f, fn)
}
