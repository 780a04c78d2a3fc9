//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/pathtrace/pathtrace/internal/lab"
)

// lan4 and lan6 are the addresses between the hosts and the outside: 1 is the outside, 11 and 12 are
// the hosts. run makes them differ between runs that happen at the same time.
func lan4(run, n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 213, run, n}) }

func lan6(run, n byte) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 0, 0x02, 0x13, 0, run, 15: n})
}

// host is a Docker host: a namespace with an engine in it.
type host struct {
	NetNS  string     // name under /run/netns
	Addr   netip.Addr // of its eth0
	Dir    string     // of the engine's files
	Socket string
	Args   []string // of dockerd beyond the usual
	Tools  string   // a directory that comes before those of PATH, "" for none
}

// fixture is what the tests share.
type fixture struct {
	Missing string // why there is none
	Dir     string
	Binary  string // pathtrace
	Hosts   [2]*host
	// Spare are hosts for engines of another kind, which a test starts: see spare.
	Spare   map[string]*host
	Outside string // name under /run/netns
	// OutsideAddr and OutsideAddr6 are the outside's addresses, Elsewhere is a subnet that is not in use.
	OutsideAddr, OutsideAddr6 netip.Addr
	Elsewhere                 netip.Prefix
}

var shared fixture

// need returns the fixture; without one the test is skipped, or fails in CI.
func need(t *testing.T) *fixture {
	t.Helper()
	if shared.Missing != "" {
		lacks(t, shared.Missing)
	}
	return &shared
}

// lacks skips a test that cannot run on this machine, or fails it in CI.
func lacks(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// maker makes the fixture and removes it.
type maker struct {
	fixture fixture
	lab     *lab.Lab
	run     byte
}

func (m *maker) make() (*fixture, error) {
	dir, err := os.MkdirTemp("", "pte") // short: a socket's path has at most 107 bytes
	if err != nil {
		return nil, err
	}
	f := &m.fixture
	f.Dir, f.Binary = dir, filepath.Join(dir, "bin", "pathtrace")
	prefix := fmt.Sprintf("pte%d-", os.Getpid())
	m.lab = lab.New(lab.Options{Named: true, Prefix: prefix})
	f.Outside = prefix + "outside"
	m.run = byte(os.Getpid()%100) + 100
	f.OutsideAddr, f.OutsideAddr6 = lan4(m.run, 1), lan6(m.run, 1)
	f.Elsewhere = netip.PrefixFrom(lan4(m.run-100, 1), 24)
	for i := range f.Hosts {
		f.Hosts[i] = m.host(i)
	}
	f.Spare = map[string]*host{}
	for i, kind := range spareKinds {
		f.Spare[kind] = m.host(len(f.Hosts) + i)
	}
	f.Hosts[1].Args = []string{"--live-restore"}
	if err := m.network(); err != nil {
		return nil, err
	}
	if err := m.build(); err != nil {
		return nil, err
	}
	var group errgroup.Group
	for _, h := range f.Hosts[:engines()] {
		group.Go(func() error { return m.engine(h) })
	}
	return f, group.Wait()
}

// engines is how many are started at once. In an emulated machine, where each takes ten seconds, only the
// tests that get along with the first are run.
func engines() int {
	if os.Getenv("PATHTRACE_E2E_ENGINES") == "1" {
		return 1
	}
	return 2
}

// host is the i-th host; its files are in a directory with a short name.
func (m *maker) host(i int) *host {
	dir := filepath.Join(m.fixture.Dir, fmt.Sprintf("h%d", i+1))
	return &host{
		NetNS: strings.TrimSuffix(m.fixture.Outside, "outside") + fmt.Sprintf("host%d", i+1),
		Dir:   dir, Socket: filepath.Join(dir, "d.sock"), Addr: lan4(m.run, byte(11+i)),
	}
}

// hosts are all of them, also those whose engine no test has started.
func (f *fixture) hosts() []*host {
	list := slices.Clone(f.Hosts[:])
	for _, kind := range spareKinds {
		list = append(list, f.Spare[kind])
	}
	return list
}

func (m *maker) engine(h *host) error {
	if err := h.startDaemon(); err != nil {
		return err
	}
	return h.importImage(filepath.Join(m.fixture.Dir, "bin", "ptserver"))
}

// network makes the outside and the hosts, joined by a bridge in the outside.
func (m *maker) network() error {
	outside, err := m.lab.NewNamespace("outside")
	if err != nil {
		return err
	}
	addrs := []netip.Prefix{netip.PrefixFrom(m.fixture.OutsideAddr, 24)}
	if m.lab.IPv6() {
		addrs = append(addrs, netip.PrefixFrom(m.fixture.OutsideAddr6, 64))
	}
	if err := outside.Bridge("br-lan", addrs...); err != nil {
		return err
	}
	// A switch does not look into what it switches.
	if err := outside.Sysctl("net/bridge/bridge-nf-call-iptables", "0"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for i, h := range m.fixture.hosts() {
		ns, err := m.lab.NewNamespace(fmt.Sprintf("host%d", i+1))
		if err != nil {
			return err
		}
		addrs := []netip.Prefix{netip.PrefixFrom(h.Addr, 24)}
		if m.lab.IPv6() {
			addrs = append(addrs, netip.PrefixFrom(lan6(m.run, byte(11+i)), 64))
		}
		err = lab.Veth(lab.End{NS: ns, Name: "eth0", Addrs: addrs},
			lab.End{NS: outside, Name: fmt.Sprintf("lan%d", i+1), Bridge: "br-lan"})
		if err != nil {
			return err
		}
		if err := ns.AddRoute(lab.Route{Via: m.fixture.OutsideAddr}); err != nil {
			return err
		}
	}
	return nil
}

// build builds pathtrace and the image's program, both static; a machine without Go has them in the
// folder that the environment variable PATHTRACE_E2E_BIN names.
func (m *maker) build() error {
	if dir := os.Getenv("PATHTRACE_E2E_BIN"); dir != "" {
		return os.Symlink(dir, filepath.Join(m.fixture.Dir, "bin"))
	}
	for name, pkg := range map[string]string{"pathtrace": "../../cmd/pathtrace", "ptserver": "./testdata/server"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(m.fixture.Dir, "bin", name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

// remove ends and removes everything, also what a test left behind.
func (m *maker) remove() error {
	f := &m.fixture
	if f.Dir == "" {
		return nil
	}
	var errs []error
	for _, h := range f.hosts() {
		if h != nil && h.pid() != 0 {
			h.removeContainers()
			errs = append(errs, h.stopDaemon())
		}
	}
	errs = append(errs, killStrays(f.Dir), unmountBelow(f.Dir), m.lab.Close(), removeNames(f.Outside))
	errs = append(errs, os.RemoveAll(f.Dir))
	return errors.Join(errs...)
}

// removeNames removes the named namespaces that tests of this run made and did not remove.
func removeNames(outside string) error {
	prefix := strings.TrimSuffix(outside, "outside")
	names, err := filepath.Glob("/run/netns/" + prefix + "*")
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range names {
		out, err := exec.Command("ip", "netns", "del", filepath.Base(path)).CombinedOutput()
		if err != nil {
			errs = append(errs, fmt.Errorf("remove namespace %s: %w: %s", path, err, out))
		}
	}
	return errors.Join(errs...)
}
