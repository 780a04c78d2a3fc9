package tracer_test

import (
	"context"
	"errors"
	"net"
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

// failure is a way to break the demo's network, and what is to be concluded.
type failure struct {
	name    string
	do      func(*lab.Demo) error
	from    string     // client if empty
	to      string     // the published port if empty
	proto   path.Proto // tcp if empty
	outcome path.Outcome
	cause   path.Cause
	// where is the namespace, a blank and the stage; direction that of the packet that ended there.
	where     string
	direction path.Direction
}

func rule(in func(*lab.Demo) *lab.Namespace, r lab.Rule) func(*lab.Demo) error {
	return func(d *lab.Demo) error {
		_, err := in(d).AddRule(r)
		return err
	}
}

// connect opens and closes one connection.
func connect(from *lab.Namespace, to netip.AddrPort) error {
	c, err := from.Dial(context.Background(), "tcp", to.String())
	if err != nil {
		return err
	}
	return c.Close()
}

func inRouter(d *lab.Demo) *lab.Namespace { return d.Router }
func inWeb(d *lab.Demo) *lab.Namespace    { return d.Web }
func inClient(d *lab.Demo) *lab.Namespace { return d.Client }

func firewallFailures() []failure {
	web := lab.Rule{Proto: path.TCP, DstPort: lab.WebPort}
	with := func(h lab.Hook, a lab.Action) lab.Rule { r := web; r.Hook, r.Action = h, a; return r }
	reply := lab.Rule{Hook: lab.Forward, Action: lab.Drop, In: lab.BridgeDevice, Out: lab.RouterDevice}
	drop, reject := path.CauseFirewallDrop, path.CauseFirewallReject
	return []failure{
		{name: "drop in forward", do: rule(inRouter, with(lab.Forward, lab.Drop)),
			outcome: path.Dropped, cause: drop, where: "router netfilter/forward", direction: path.Request},
		{name: "drop in postrouting", do: rule(inRouter, with(lab.Postrouting, lab.Drop)),
			outcome: path.Dropped, cause: drop, where: "router netfilter/postrouting", direction: path.Request},
		{name: "drop in the target's input", do: rule(inWeb, with(lab.Input, lab.Drop)),
			outcome: path.Dropped, cause: drop, where: "web netfilter/input", direction: path.Request},
		{name: "drop in the source's output", do: rule(inClient, lab.Rule{Hook: lab.Output, Proto: path.TCP, DstPort: lab.PublishedPort}),
			outcome: path.Dropped, cause: drop, where: "client netfilter/output", direction: path.Request},
		{name: "drop in the router's prerouting", do: rule(inRouter, lab.Rule{Hook: lab.Prerouting, Proto: path.TCP, In: lab.RouterDevice}),
			outcome: path.Dropped, cause: drop, where: "router netfilter/prerouting", direction: path.Request},
		{name: "drop in the router's input", do: rule(inRouter, lab.Rule{Hook: lab.Input, Proto: path.TCP}), to: "192.0.2.1:22",
			outcome: path.Dropped, cause: drop, where: "router netfilter/input", direction: path.Request},
		{name: "policy", do: func(d *lab.Demo) error { return d.Router.SetPolicy(lab.Forward, true) },
			outcome: path.Dropped, cause: path.CauseFirewallPolicy, where: "router netfilter/forward", direction: path.Request},
		{name: "drop of the reply in forward", do: rule(inRouter, reply),
			outcome: path.Dropped, cause: drop, where: "router netfilter/forward", direction: path.Reply},
		{name: "drop of the reply in the target's output", do: rule(inWeb, lab.Rule{Hook: lab.Output, Proto: path.TCP}),
			outcome: path.Dropped, cause: drop, where: "web netfilter/output", direction: path.Reply},
		{name: "drop of the reply in the source's input", do: rule(inClient, lab.Rule{Hook: lab.Input, Proto: path.TCP}),
			outcome: path.Dropped, cause: drop, where: "client netfilter/input", direction: path.Reply},
		{name: "reject with an ICMP error", do: rule(inRouter, with(lab.Forward, lab.Reject)),
			outcome: path.Refused, cause: reject, where: "router netfilter/forward", direction: path.Request},
		{name: "reject with a reset", do: rule(inRouter, with(lab.Forward, lab.RejectReset)),
			outcome: path.Refused, cause: reject, where: "router netfilter/forward", direction: path.Request},
		{name: "reject as prohibited", do: rule(inRouter, with(lab.Forward, lab.RejectAdmin)),
			outcome: path.Refused, cause: reject, where: "router netfilter/forward", direction: path.Request},
		{name: "reject in the target", do: rule(inWeb, with(lab.Input, lab.RejectReset)),
			outcome: path.Refused, cause: reject, where: "web netfilter/input", direction: path.Request},
		{name: "reject of UDP", do: rule(inRouter, lab.Rule{Hook: lab.Forward, Action: lab.Reject, Proto: path.UDP}), to: "192.0.2.1:7070", proto: path.UDP,
			outcome: path.Refused, cause: reject, where: "router netfilter/forward", direction: path.Request},
		{name: "drop of an echo", do: rule(inRouter, lab.Rule{Hook: lab.Input, Src: netip.MustParsePrefix("192.0.2.2/32")}), to: "192.0.2.1", proto: path.ICMP,
			outcome: path.Dropped, cause: drop, where: "router netfilter/input", direction: path.Request},
	}
}

func routingFailures() []failure {
	noForwarding := func(d *lab.Demo) error { return d.Router.Sysctl("net/ipv4/ip_forward", "0") }
	reverse := func(d *lab.Demo) error {
		if err := connect(d.Client, d.Published(false)); err != nil { // the neighbours know each other then
			return err
		}
		err := d.Router.AddRoute(lab.Route{Dst: netip.PrefixFrom(d.ClientAddr, 32), Device: lab.BridgeDevice})
		return errors.Join(err, d.Router.Sysctl("net/ipv4/conf/"+lab.RouterDevice+"/rp_filter", "1"))
	}
	nobody := func(d *lab.Demo) error { return d.Web.DeleteLink(lab.ClientDevice) }
	stranger := func(d *lab.Demo) error {
		return d.Router.Neighbour(lab.BridgeDevice, d.WebAddr, net.HardwareAddr{2, 0, 0, 0, 0, 9})
	}
	return []failure{
		{name: "no route back", do: func(d *lab.Demo) error { return d.Web.DeleteRoute(lab.Route{Via: d.GatewayAddr}) },
			outcome: path.Dropped, cause: path.CauseNoRoute, where: "web route", direction: path.Reply},
		{name: "no route at the source", to: "203.0.113.1:80",
			outcome: path.NoTraffic, cause: path.CauseNoRoute},
		{name: "unreachable route", do: func(d *lab.Demo) error {
			return d.Router.AddRoute(lab.Route{Dst: netip.PrefixFrom(d.WebAddr, 32), Kind: lab.UnreachableRoute})
		}, outcome: path.Refused, cause: path.CauseNoRoute, where: "router", direction: path.Request},
		{name: "source's device down", do: func(d *lab.Demo) error { return d.Client.SetDown(lab.ClientDevice) },
			outcome: path.NoTraffic, cause: path.CauseLinkDown},
		{name: "bridge port down", do: func(d *lab.Demo) error { return d.Router.SetDown(lab.WebPortDev) }, from: "app", to: "10.77.0.2:80",
			outcome: path.Lost, cause: path.CauseLinkDown, where: "router", direction: path.Request},
		{name: "neighbour that does not exist", do: nobody,
			outcome: path.Dropped, cause: path.CauseNeighbourUnresolved, where: "router neighbour", direction: path.Request},
		{name: "neighbour of the source does not exist", to: "192.0.2.77:80",
			outcome: path.Dropped, cause: path.CauseNeighbourUnresolved, where: "client neighbour", direction: path.Request},
		{name: "wrong neighbour", do: stranger,
			outcome: path.Lost, cause: path.CauseWrongNeighbour, where: "router neighbour", direction: path.Request},
		{name: "reverse path filter", do: reverse,
			outcome: path.Dropped, cause: path.CauseReversePathFilter, where: "router", direction: path.Request},
		{name: "forwarding off", do: noForwarding,
			outcome: path.Dropped, cause: path.CauseForwardingOff, where: "router", direction: path.Request},
	}
}

func socketFailures() []failure {
	return []failure{
		{name: "nothing listens, TCP", from: "app", to: "10.77.0.2:81",
			outcome: path.Refused, cause: path.CauseNotListening, where: "web tcp", direction: path.Request},
		{name: "nothing listens, UDP", from: "app", to: "10.77.0.2:81", proto: path.UDP,
			outcome: path.Refused, cause: path.CauseNotListening, where: "web", direction: path.Request},
		{name: "nothing listens on the router", to: "192.0.2.1:22",
			outcome: path.Refused, cause: path.CauseNotListening, where: "router tcp", direction: path.Request},
	}
}

func ipv6Failures() []failure {
	const published = "[2001:db8:1::1]:8080"
	web := lab.Rule{Hook: lab.Forward, Proto: path.TCP, DstPort: lab.WebPort}
	reject, reset := web, web
	reject.Action, reset.Action = lab.Reject, lab.RejectReset
	reply := lab.Rule{Hook: lab.Forward, Action: lab.Drop, In: lab.BridgeDevice, Out: lab.RouterDevice}
	return []failure{
		{name: "drop", do: rule(inRouter, web), to: published,
			outcome: path.Dropped, cause: path.CauseFirewallDrop, where: "router netfilter/forward", direction: path.Request},
		{name: "drop of the reply", do: rule(inRouter, reply), to: published,
			outcome: path.Dropped, cause: path.CauseFirewallDrop, where: "router netfilter/forward", direction: path.Reply},
		{name: "reject", do: rule(inRouter, reject), to: published,
			outcome: path.Refused, cause: path.CauseFirewallReject, where: "router netfilter/forward", direction: path.Request},
		{name: "reset", do: rule(inRouter, reset), to: published,
			outcome: path.Refused, cause: path.CauseFirewallReject, where: "router netfilter/forward", direction: path.Request},
		{name: "no route back", do: func(d *lab.Demo) error { return d.Web.DeleteRoute(lab.Route{Via: d.GatewayAddr6}) }, to: published,
			outcome: path.Dropped, cause: path.CauseNoRoute, where: "web route", direction: path.Reply},
		{name: "no route at the source", to: "[2001:db8:9::1]:80",
			outcome: path.NoTraffic, cause: path.CauseNoRoute},
		{name: "nobody there", to: "[2001:db8:1::77]:80",
			outcome: path.Dropped, cause: path.CauseNeighbourUnresolved, where: "client neighbour", direction: path.Request},
		{name: "nothing listens, TCP", from: "app", to: "[fd77::2]:81",
			outcome: path.Refused, cause: path.CauseNotListening, where: "web tcp", direction: path.Request},
		{name: "nothing listens, UDP", from: "app", to: "[fd77::2]:81", proto: path.UDP,
			outcome: path.Refused, cause: path.CauseNotListening, where: "web", direction: path.Request},
		{name: "forwarding off", do: func(d *lab.Demo) error { return d.Router.Sysctl("net/ipv6/conf/all/forwarding", "0") }, to: published,
			outcome: path.Dropped, cause: path.CauseForwardingOff, where: "router", direction: path.Request},
	}
}

func TestIPv6Failures(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		t.Skip("this kernel has no IPv6")
	}
	testFailures(t, ipv6Failures())
}

func TestFirewall(t *testing.T)        { testFailures(t, firewallFailures()) }
func TestRoutingFailures(t *testing.T) { testFailures(t, routingFailures()) }
func TestSocketFailures(t *testing.T)  { testFailures(t, socketFailures()) }

func testFailures(t *testing.T, list []failure) {
	if testing.Short() {
		t.Skip("a trace takes half a second, and these are many")
	}
	for _, f := range list {
		t.Run(f.name, func(t *testing.T) {
			d := labtest.Demo(t, lab.Options{})
			if f.do != nil {
				labtest.Must(t, f.do(d))
			}
			f.check(t, d)
		})
	}
}

func (f failure) check(t *testing.T, d *lab.Demo) {
	from, to := f.from, f.to
	if from == "" {
		from = "client"
	}
	if to == "" {
		to = d.Published(false).String()
	}
	o := probe(t, d.Lab, from, to, func(c *tracer.Config) {
		c.Proto = f.proto
		if f.cause == path.CauseNeighbourUnresolved {
			c.Timeout = 5 * time.Second // the kernel gives up after three seconds
		}
	})
	checkTrace(t, d.Lab, o)
	f.checkVerdict(t, o.flows[0].Verdict)
}

func (f failure) checkVerdict(t *testing.T, v tracer.Verdict) {
	checkVerdict(t, v, f.outcome, f.cause)
	var where string
	var direction path.Direction
	if w := v.Where; w != nil {
		where, direction = strings.TrimSpace(w.Namespace+" "+string(w.Stage)), w.Direction
	}
	if !strings.HasPrefix(where, f.where) || f.where != "" && direction != f.direction {
		t.Errorf("where: got %q, %s, want %q, %s (%s)", where, direction, f.where, f.direction, v.Summary)
	}
}
