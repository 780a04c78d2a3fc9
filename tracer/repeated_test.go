package tracer_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

const (
	wayToWeb   = " client/eth0 router/eth0 router/br-demo router/veth-web web/eth0"
	wayFromWeb = " web/eth0 router/veth-web router/br-demo router/eth0 client/eth0"
)

// TestRepeatedRequest: a SYN waits for the address of the web's device until it is sent again, so that
// both attempts and both answers are on their way at once. Each has its own way.
func TestRepeatedRequest(t *testing.T) {
	for _, ipv6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("IPv6 %v", ipv6), func(t *testing.T) {
			d := labtest.Demo(t, lab.Options{})
			if ipv6 && !d.IPv6() {
				t.Skip("this kernel has no IPv6")
			}
			family := map[bool]string{false: "ipv4", true: "ipv6"}[ipv6]
			labtest.Must(t, d.Router.Sysctl("net/"+family+"/neigh/"+lab.BridgeDevice+"/mcast_solicit", "100"))
			tool(t, d.Router, "ip link set "+lab.BridgeDevice+" address 02:00:00:00:00:77") // not that of a port
			tool(t, d.Router, "ip link set "+lab.WebPortDev+" nomaster")
			tool(t, d.Router, "ip neighbour flush dev "+lab.BridgeDevice)
			tool(t, d.Web, "ip neighbour flush dev "+lab.ClientDevice)
			w := watch(t, d.Lab, d.Published(ipv6).String(), func(c *tracer.Config) { c.Timeout = labtest.Patience(10 * time.Second) })
			done := make(chan error, 1)
			go func() { done <- connect(d.Client, d.Published(ipv6)) }()
			labtest.Eventually(t, "the SYN is sent again", func() bool { return sentAgain(t, d.Client) })
			tool(t, d.Router, "ip link set "+lab.WebPortDev+" master "+lab.BridgeDevice)
			labtest.Must(t, <-done)
			labtest.Eventually(t, "every segment arrives", func() bool {
				out := counter(t, d.Client, "snmp", "OutSegs") + counter(t, d.Client, "snmp", "RetransSegs")
				back := counter(t, d.Web, "snmp", "OutSegs")
				return counter(t, d.Web, "snmp", "InSegs") >= out && counter(t, d.Client, "snmp", "InSegs") >= back
			})
			f := onlyFlow(t, w.stop(t))
			if n := checkPackets(t, f, path.Request, "S", wayToWeb); n < 2 {
				t.Errorf("%d SYNs, want 2", n)
			}
			checkPackets(t, f, path.Reply, "SA", wayFromWeb)
		})
	}
}

// TestRepeatedAnswers: answers of a socket that is not connected have no identification, and each gets
// the memory of the one before, which a rule dropped a moment ago. Each has its own way to the rule.
func TestRepeatedAnswers(t *testing.T) {
	const count = 6
	d := labtest.Demo(t, lab.Options{})
	_, err := d.Router.AddRule(lab.Rule{Hook: lab.Forward, In: lab.BridgeDevice, Out: lab.RouterDevice})
	labtest.Must(t, err)
	to := netip.AddrPortFrom(d.RouterAddr, 7070).String()
	before := counter(t, d.Router, "snmp", "InReceives")
	w := watch(t, d.Lab, to, func(c *tracer.Config) { c.Proto, c.Timeout = path.UDP, labtest.Patience(10*time.Second) })
	conn, err := d.Client.Dial(t.Context(), "udp", to)
	labtest.Must(t, err)
	defer conn.Close()
	for range count {
		_, err := conn.Write([]byte("the same"))
		labtest.Must(t, err)
	}
	labtest.Eventually(t, "requests and answers reach the router", func() bool {
		return counter(t, d.Router, "snmp", "InReceives") >= before+2*count
	})
	f := onlyFlow(t, w.stop(t))
	for direction, way := range map[path.Direction]string{path.Request: wayToWeb, path.Reply: " web/eth0 router/veth-web router/br-demo"} {
		if n := checkPackets(t, f, direction, "", way); n != count {
			t.Errorf("%d packets of the %s, want %d", n, direction, count)
		}
	}
}

func onlyFlow(t *testing.T, o *observed) *tracer.Flow {
	t.Helper()
	if len(o.flows) != 1 {
		for i := range o.flows {
			t.Logf("%s: %s", o.flows[i].Path.Client, o.flows[i].Verdict.Summary)
		}
		t.Fatalf("%d flows, want 1", len(o.flows))
	}
	return &o.flows[0]
}

// checkPackets fails unless all packets of a direction with these flags took the same way, and returns
// how many there are.
func checkPackets(t *testing.T, f *tracer.Flow, d path.Direction, flags, want string) (n int) {
	t.Helper()
	for _, p := range f.Path.Packets {
		if p.Direction != d || p.TCPFlags != flags || p.ICMPError {
			continue
		}
		n++
		if got := devices(p); got != want {
			t.Errorf("packet %d of the %s: got%s, want%s\n\t%s", p.ID, d, got, want, strings.Join(lines(p), "\n\t"))
		}
	}
	if n == 0 {
		t.Errorf("no packet of the %s with flags %q", d, flags)
	}
	return n
}

func sentAgain(t *testing.T, ns *lab.Namespace) bool {
	t.Helper()
	return counter(t, ns, "netstat", "TCPSynRetrans") > 0
}

// counter returns one of the counters of /proc/net/snmp or netstat: a line of names, a line of values.
func counter(t *testing.T, ns *lab.Namespace, file, name string) int {
	t.Helper()
	var text []byte
	labtest.Must(t, ns.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/" + file)
		return err
	}))
	all := strings.Split(string(text), "\n")
	for i := 0; i+1 < len(all); i += 2 {
		values := strings.Fields(all[i+1])
		for j, key := range strings.Fields(all[i]) {
			var n int
			if _, err := fmt.Sscan(values[j], &n); key == name && err == nil {
				return n
			}
		}
	}
	t.Fatalf("no counter %s in %s", name, file)
	return 0
}
