package nftrace

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

const tableName = "pathtrace-test"

// open traces datagrams to addr in the namespace and returns what comes of them.
func open(t *testing.T, ns *lab.Namespace, addr netip.AddrPort) <-chan Step {
	t.Helper()
	var tr *Trace
	labtest.Must(t, ns.Do(func() (err error) {
		tr, err = Open(tableName, []End{{Addr: addr, Proto: unix.IPPROTO_UDP}})
		return err
	}))
	steps := make(chan Step, 64)
	done := make(chan error, 1)
	go func() { done <- tr.Read(func(s Step) { steps <- s }, func() {}) }()
	t.Cleanup(func() {
		labtest.Must(t, tr.Close())
		labtest.Must(t, <-done)
		labtest.Must(t, tr.Close())
	})
	return steps
}

// datagram sends one datagram inside the namespace.
func datagram(t *testing.T, ns *lab.Namespace, to netip.AddrPort) {
	t.Helper()
	labtest.Must(t, ns.Do(func() error { return sendTo(to) }))
}

// until takes steps, without those of our own table, until one of the kind in the chain.
func until(t *testing.T, steps <-chan Step, kind Kind, chain string) []Step {
	t.Helper()
	var got []Step
	for {
		select {
		case s := <-steps:
			if s.Table == tableName {
				continue
			}
			got = append(got, s)
			if s.Kind == kind && s.Chain == chain {
				return got
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no step of kind %d in chain %s; got %+v", kind, chain, got)
		}
	}
}

// TestDrop follows a datagram into a rule that drops it.
func TestDrop(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	to := netip.MustParseAddrPort("127.0.0.1:9999")
	_, err := ns.AddRules(
		lab.Rule{Hook: lab.Output, Action: lab.Accept, Proto: path.TCP},
		lab.Rule{Hook: lab.Input, Action: lab.Drop, Proto: path.UDP, DstPort: to.Port()})
	labtest.Must(t, err)
	steps := open(t, ns, to)
	datagram(t, ns, to)
	got := until(t, steps, Rule, "input")
	last := got[len(got)-1]
	if last.Table != lab.Table || last.Verdict.Kind != firewall.Drop || last.Handle == 0 || last.Family != firewall.FamilyInet {
		t.Errorf("last step %+v, want the dropping rule of table %s", last, lab.Table)
	}
	policy := slices.IndexFunc(got, func(s Step) bool { return s.Chain == "output" && s.Kind == Policy })
	if policy < 0 || got[policy].Verdict.Kind != firewall.Accept {
		t.Errorf("steps %+v: want the policy of chain output", got)
	}
	if h := got[0].Header; h.Dst != to || h.Proto != unix.IPPROTO_UDP {
		t.Errorf("header %+v, want a datagram to %s", h, to)
	}
}

// TestOthers: packets that are not the flow's are not reported.
func TestOthers(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	to := netip.MustParseAddrPort("127.0.0.1:9999")
	_, err := ns.AddRule(lab.Rule{Hook: lab.Output, Action: lab.Drop, Proto: path.UDP})
	labtest.Must(t, err)
	steps := open(t, ns, to)
	for _, other := range []string{"127.0.0.1:9998", "127.0.0.2:9999"} {
		addr := netip.MustParseAddrPort(other)
		// The rule refuses it, and the sender is told.
		if err := ns.Do(func() error { return sendTo(addr) }); err == nil {
			t.Errorf("datagram to %s was not dropped", other)
		}
	}
	_ = ns.Do(func() error { return sendTo(to) }) // dropped, as well
	for _, s := range until(t, steps, Rule, "output") {
		if s.Header.Proto != 0 && s.Header.Dst != to {
			t.Errorf("step of another packet: %+v", s)
		}
	}
}

func sendTo(to netip.AddrPort) error {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("x"))
	return err
}

// TestGone: the table belongs to the socket, others cannot remove it, and it goes with the process even
// if that is killed.
func TestGone(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	ns := labtest.Namespace(t, l, "a")
	if os.Getenv("NFTRACE_HOLD") != "" {
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestHold$")
	cmd.Env = append(os.Environ(), "NFTRACE_HOLD=1")
	out, err := cmd.StdoutPipe()
	labtest.Must(t, err)
	labtest.Must(t, ns.Do(cmd.Start))
	buf := make([]byte, 64)
	n, err := out.Read(buf)
	labtest.Must(t, err)
	if !strings.HasPrefix(string(buf[:n]), "held") {
		t.Fatalf("helper says %q", buf[:n])
	}
	if got := labtest.Tables(t, ns); !slices.Contains(got, tableName) {
		t.Errorf("tables %q while it is held", got)
	}
	labtest.Must(t, ns.Do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		conn.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})
		if conn.Flush() == nil {
			t.Error("another process could remove the table")
		}
		return nil
	}))
	labtest.Must(t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
	labtest.Eventually(t, "the table goes with its killed process", func() bool {
		return !slices.Contains(labtest.Tables(t, ns), tableName)
	})
}

// TestHold is the process that TestGone kills.
func TestHold(t *testing.T) {
	if os.Getenv("NFTRACE_HOLD") == "" {
		t.Skip("it is the other process of TestGone")
	}
	tr, err := Open(tableName, []End{{Addr: netip.MustParseAddrPort("127.0.0.1:1"), Proto: unix.IPPROTO_TCP}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	os.Stdout.WriteString("held\n")
	time.Sleep(time.Minute)
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 6, 0, 0, 0, 0, 1})
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = decode(data) // it must not panic
	})
}
