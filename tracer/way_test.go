package tracer_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Parts of ways through the demo's network. What br_netfilter adds and hooks without functions are
// left out: both depend on the kernel.
const (
	outOfClient = `client eth0 qdisc queue
client eth0 device transmit
router eth0 device receive`
	intoWeb = `router br-demo qdisc queue
router br-demo device transmit
router veth-web qdisc queue
router veth-web device transmit
web eth0 device receive`
	outOfWeb = `web eth0 qdisc queue
web eth0 device transmit
router veth-web device receive`
	outOfRouter = `router eth0 qdisc queue
router eth0 device transmit
client eth0 device receive`
	acrossToWeb = `app eth0 qdisc queue
app eth0 device transmit
router veth-app device receive
router veth-web qdisc queue
router veth-web device transmit
web eth0 device receive`
	acrossToApp = `web eth0 qdisc queue
web eth0 device transmit
router veth-web device receive
router veth-app qdisc queue
router veth-app device transmit
app eth0 device receive`
)

// watchedWay is what a watch sees of a way: it is not told of what a device without a queue is given.
func watchedWay(way string) []string {
	return slices.DeleteFunc(strings.Split(way, "\n"), func(line string) bool { return strings.HasSuffix(line, " qdisc queue") })
}

// way is one route through the demo's network.
type way struct {
	name, from string
	proto      path.Proto
	port       uint16
	to         func(*lab.Demo, bool) netip.Addr // true: IPv6
	request    string
	reply      string
	nat        []string // kind, namespace and direction; undoing it on the way back is no other one
}

func ways() []way {
	router := func(d *lab.Demo, v6 bool) netip.Addr { return pick(v6, d.RouterAddr, d.RouterAddr6) }
	web := func(d *lab.Demo, v6 bool) netip.Addr { return pick(v6, d.WebAddr, d.WebAddr6) }
	client := func(d *lab.Demo, v6 bool) netip.Addr { return pick(v6, d.ClientAddr, d.ClientAddr6) }
	dnat := func(dev string) string { return "\nrouter " + dev + " netfilter/prerouting dnat\n" }
	published := way{
		from: "client", to: router,
		request: outOfClient + dnat("eth0") + "router eth0 netfilter/forward leave\n" + intoWeb + "\nweb eth0 netfilter/input leave",
		reply:   outOfWeb + "\nrouter br-demo netfilter/forward leave\nrouter eth0 netfilter/postrouting snat\n" + outOfRouter,
		nat:     []string{"dnat router request"},
	}
	masqueraded := way{
		from: "web", to: client,
		request: outOfWeb + "\nrouter br-demo netfilter/forward leave\nrouter eth0 netfilter/postrouting masquerade\n" + outOfRouter,
		reply:   outOfClient + dnat("eth0") + intoWeb,
		nat:     []string{"masquerade router request"},
	}
	bridged := way{from: "app", to: web, request: acrossToWeb, reply: acrossToApp}
	list := []way{
		published.over(path.TCP, lab.PublishedPort), published.over(path.UDP, lab.PublishedEcho),
		masqueraded.over(path.TCP, lab.WebPort), masqueraded.over(path.UDP, lab.EchoPort), masqueraded.over(path.ICMP, 0),
		bridged.over(path.TCP, lab.WebPort), bridged.over(path.UDP, lab.EchoPort), bridged.over(path.ICMP, 0),
	}
	for i, name := range []string{"published", "published", "masqueraded", "masqueraded", "masqueraded", "bridged", "bridged", "bridged"} {
		list[i].name = name
	}
	ping := way{name: "router itself", from: "client", to: router,
		request: outOfClient + "\nrouter eth0 netfilter/input leave", reply: outOfRouter}
	return append(list, ping.over(path.ICMP, 0))
}

func (w way) over(p path.Proto, port uint16) way {
	w.proto, w.port = p, port
	return w
}

func pick(v6 bool, a4, a6 netip.Addr) netip.Addr {
	if v6 {
		return a6
	}
	return a4
}

// serveOutside lets the client answer what comes from inside.
func serveOutside(t *testing.T, d *lab.Demo) {
	t.Helper()
	_, err := d.Client.TCPServer(fmt.Sprintf(":%d", lab.WebPort), nil)
	labtest.Must(t, err)
	for _, a := range []netip.Addr{d.ClientAddr, d.ClientAddr6} {
		if a.IsValid() {
			_, err := d.Client.UDPEcho(netip.AddrPortFrom(a, lab.EchoPort).String())
			labtest.Must(t, err)
		}
	}
}

// TestWays follows a probe over every way of the demo's network and checks every step.
func TestWays(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	serveOutside(t, d)
	for _, v6 := range []bool{false, true} {
		if v6 && !d.IPv6() {
			continue
		}
		for _, w := range ways() {
			t.Run(fmt.Sprintf("%s %s %s", w.name, w.proto, family(v6)), func(t *testing.T) {
				w.check(t, d, v6)
			})
		}
	}
}

func family(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}

func (w way) check(t *testing.T, d *lab.Demo, v6 bool) {
	to := w.to(d, v6).String()
	if w.port != 0 {
		to = netip.AddrPortFrom(w.to(d, v6), w.port).String()
	}
	o := probe(t, d.Lab, w.from, to, func(c *tracer.Config) { c.Proto = w.proto })
	checkTrace(t, d.Lab, o)
	f := o.flows[0]
	checkVerdict(t, f.Verdict, path.Delivered, "")
	checkWay(t, "request", first(f.Path, path.Request), strings.Split(w.request, "\n"))
	checkWay(t, "reply", first(f.Path, path.Reply), strings.Split(w.reply, "\n"))
	var nat []string
	for _, tr := range f.Path.NAT {
		nat = append(nat, fmt.Sprintf("%s %s %s", tr.Kind, tr.Namespace, tr.Direction))
	}
	if got, want := strings.Join(nat, ", "), strings.Join(w.nat, ", "); got != want {
		t.Errorf("translations: got %s, want %s", got, want)
	}
	for _, p := range f.Path.Packets {
		if p.Retransmission || p.ICMPError {
			t.Errorf("packet %d: retransmission %v, ICMP error %v, want neither", p.ID, p.Retransmission, p.ICMPError)
		}
	}
	l := f.Verdict.LatencyNS
	if l == nil || l.Request <= 0 || l.Reply <= 0 || l.RoundTrip < l.Request+l.Reply {
		t.Errorf("latency: got %+v, want request and reply within the round trip", l)
	}
}
