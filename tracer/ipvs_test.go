package tracer_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// balanced is a connection through IPVS in the router, or in the asker itself.
type balanced struct {
	name     string
	do       []string // commands, as in outage
	from, to string
	// request and reply are parts of their ways, in order.
	request, reply []string
}

func balancers() []balanced {
	service := []string{"ipvsadm -A -t 192.0.2.1:8000 -s rr", "ipvsadm -a -t 192.0.2.1:8000 -r 10.77.0.2:80 -m"}
	inRouter := func(more ...string) (do []string) {
		for _, c := range append(service, more...) {
			do = append(do, "router: "+c)
		}
		return do
	}
	request := []string{"client eth0 device transmit", "router eth0 device receive", "router eth0 netfilter/output dnat",
		"router veth-web device transmit", "web eth0 device receive"}
	reply := []string{"web eth0 device transmit", "router veth-web device receive", "router eth0 device transmit", "client eth0 device receive"}
	return []balanced{
		{name: "in the router", do: inRouter(), to: "192.0.2.1:8000", request: request, reply: reply},
		{name: "in the router, tracked", do: inRouter("sysctl -qw net.ipv4.vs.conntrack=1"), to: "192.0.2.1:8000", request: request, reply: reply},
		{name: "in the asker", from: "app", to: "10.77.0.9:8000", do: []string{"app: ip address add 10.77.0.9/32 dev lo",
			"app: ipvsadm -A -t 10.77.0.9:8000 -s rr", "app: ipvsadm -a -t 10.77.0.9:8000 -r 10.77.0.2:80 -m"},
			request: []string{"app - netfilter/output dnat", "app eth0 device transmit", "web eth0 device receive"},
			reply:   []string{"web eth0 device transmit", "app eth0 device receive"}},
	}
}

// TestIPVS: the service's address becomes a server's outside of conntrack's NAT, and back.
func TestIPVS(t *testing.T) {
	needsIPVS(t)
	for _, b := range balancers() {
		t.Run(b.name, func(t *testing.T) {
			d := labtest.Demo(t, lab.Options{})
			(&outage{}).run(t, d, b.do)
			if b.from == "" {
				b.from = "client"
			}
			o := probe(t, d.Lab, b.from, b.to, nil)
			f := o.flows[0]
			t.Logf("%s\n\t%s", f.Verdict.Summary, strings.Join(f.Verdict.Evidence, "\n\t"))
			if n := f.Path.NAT; len(n) != 1 || n[0].By != path.IPVS || n[0].To != "10.77.0.2:80" {
				t.Errorf("translations: got %+v, want one by IPVS to 10.77.0.2:80", n)
			}
			checkVerdict(t, f.Verdict, path.Delivered, "")
			checkWay(t, "request", first(f.Path, path.Request), b.request)
			checkWay(t, "reply", first(f.Path, path.Reply), b.reply)
			if t.Failed() {
				logPackets(t, f.Path)
			}
		})
	}
}

func needsIPVS(t *testing.T) {
	t.Helper()
	labtest.NeedsRoot(t)
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		t.Skip("this kernel has no IPVS: scripts/kernels.sh runs this in machines that have it")
	}
	if _, err := exec.LookPath("ipvsadm"); err != nil {
		t.Skip("this test needs ipvsadm")
	}
}
