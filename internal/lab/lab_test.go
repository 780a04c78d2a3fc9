package lab_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

// helperEnv makes the test binary build a demo and wait to be killed.
const helperEnv = "PATHTRACE_LAB_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		if err := helper(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// helper prints the paths of its namespaces and an empty line, with a connection open, and waits.
func helper() error {
	d, err := lab.NewDemo(context.Background(), lab.Options{})
	if err != nil {
		return err
	}
	if _, err := d.Client.Dial(context.Background(), "tcp", d.Published(false).String()); err != nil {
		return err
	}
	for _, ns := range d.Namespaces() {
		fmt.Println(ns.Path)
	}
	fmt.Println()
	select {}
}

// freeTime is how long the kernel may take to free namespaces; it does so in the background.
const freeTime = 10 * time.Second

func paths(l *lab.Lab) []string {
	var out []string
	for _, ns := range l.Namespaces() {
		out = append(out, ns.Path)
	}
	return out
}

func TestCloseFreesEverything(t *testing.T) {
	labtest.NeedsRoot(t)
	for _, named := range []bool{false, true} {
		d, err := lab.NewDemo(t.Context(), lab.Options{Named: named})
		labtest.Must(t, err)
		freed := labtest.Watch(t, paths(d.Lab)...)
		c, err := d.Client.Dial(t.Context(), "tcp", d.Published(false).String())
		labtest.Must(t, err)
		labtest.Must(t, d.Close())
		labtest.Must(t, d.Close())
		labtest.Must(t, c.Close()) // the test's own, it would keep the client's namespace
		freed(freeTime)
	}
}

func TestKilledProcessLeavesNothing(t *testing.T) {
	labtest.NeedsRoot(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	labtest.Must(t, err)
	labtest.Must(t, cmd.Start())
	defer func() {
		// Already killed on the way that succeeds.
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var namespaces []string
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "" {
		namespaces = append(namespaces, lines.Text())
	}
	if got, want := len(namespaces), 4; got != want {
		t.Fatalf("namespaces of the helper: got %d, want %d", got, want)
	}
	freed := labtest.Watch(t, namespaces...)
	labtest.Must(t, cmd.Process.Signal(unix.SIGKILL))
	freed(freeTime)
	left, err := filepath.Glob(fmt.Sprintf("/run/netns/ptdemo-%d-*", cmd.Process.Pid))
	if err != nil || len(left) != 0 {
		t.Errorf("names left behind: got %v, %v, want none", left, err)
	}
}

func TestNamed(t *testing.T) {
	l := labtest.New(t, lab.Options{Named: true, Prefix: fmt.Sprintf("ptdemo-%d-named-", os.Getpid())})
	ns := labtest.Namespace(t, l, "a")
	if got, want := ns.Path, "/run/netns/"+ns.Name; got != want {
		t.Errorf("path: got %s, want %s", got, want)
	}
	id, err := netns.IdentifyPath(ns.Path)
	if err != nil || id.Inode != ns.Inode {
		t.Errorf("inode: got %d, %v, want %d", ns.Inode, err, id.Inode)
	}
	if _, err := l.NewNamespace("a"); !errors.Is(err, os.ErrExist) {
		t.Errorf("second namespace of that name: got error %v, want %v", err, os.ErrExist)
	}
	labtest.Must(t, l.Close())
	if _, err := os.Stat(ns.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("name after Close: got error %v, want %v", err, os.ErrNotExist)
	}
	if _, err := l.NewNamespace("b"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("namespace after Close: got error %v, want %v", err, os.ErrClosed)
	}
}

func TestInterruptedBuild(t *testing.T) {
	labtest.NeedsRoot(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := lab.NewDemo(ctx, lab.Options{Named: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
}

// TestVXLAN sends through a tunnel between two namespaces.
func TestVXLAN(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	a, b := labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	outerA, outerB := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")
	labtest.Must(t, lab.Veth(lab.End{NS: a, Name: "eth0", Addrs: []netip.Prefix{outerA}}, lab.End{NS: b, Name: "eth0", Addrs: []netip.Prefix{outerB}}))
	inner := netip.MustParsePrefix("10.1.0.2/24")
	labtest.Must(t, a.VXLAN(lab.VXLAN{Name: "vxlan0", VNI: 4097, Local: outerA.Addr(), Peers: []netip.Addr{outerB.Addr()},
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}}))
	labtest.Must(t, b.VXLAN(lab.VXLAN{Name: "vxlan0", VNI: 4097, Local: outerB.Addr(), Peers: []netip.Addr{outerA.Addr()},
		Addrs: []netip.Prefix{inner}}))
	s, err := b.TCPServer(netip.AddrPortFrom(inner.Addr(), 80).String(), nil)
	labtest.Must(t, err)
	get(t, a, s.Addr)
}

func TestMacvlan(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	outside, host, child := labtest.Namespace(t, l, "outside"), labtest.Namespace(t, l, "host"), labtest.Namespace(t, l, "child")
	labtest.Must(t, lab.Veth(lab.End{NS: outside, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}, lab.End{NS: host, Name: "eth0"}))
	inner := netip.MustParsePrefix("192.0.2.3/24")
	labtest.Must(t, host.Macvlan("eth0", child, "eth0", inner))
	for _, ns := range l.Namespaces() {
		labtest.Must(t, ns.WaitUp(t.Context()))
	}
	s, err := child.TCPServer(netip.AddrPortFrom(inner.Addr(), 80).String(), nil)
	labtest.Must(t, err)
	get(t, outside, s.Addr)
}

func TestFeatureError(t *testing.T) {
	labtest.NeedsRoot(t)
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	err := ns.Sysctl("net/no/such/key", "1")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown sysctl: got error %v, want %v", err, os.ErrNotExist)
	}
	fe := &lab.FeatureError{Feature: "veth devices", Config: "CONFIG_VETH", Err: unix.EOPNOTSUPP}
	if !errors.Is(fe, unix.EOPNOTSUPP) || !strings.Contains(fe.Error(), "CONFIG_VETH") {
		t.Errorf("got %q, want a sentence with the option and the kernel's error", fe)
	}
}
