package lab

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// The ports of the demo: Web and Echo are what the servers in web listen on, Published and
// PublishedEcho where the router publishes them.
const (
	WebPort       = 80
	EchoPort      = 7
	PublishedPort = 8080
	PublishedEcho = 7070
)

// The devices of the demo, by the names they have in their namespaces.
const (
	ClientDevice = "eth0" // in client, web and app
	RouterDevice = "eth0" // in router, towards client
	BridgeDevice = "br-demo"
	WebPortDev   = "veth-web" // the port of the bridge towards web
	AppPortDev   = "veth-app" // the port of the bridge towards app
)

// Demo is a small copy of a Docker host and its neighbourhood:
//
//	client --- router (DNAT 8080 -> web:80, masquerade) --- br-demo --- web
//	                                                           \------- app
//
// Addresses are of the documentation ranges (RFC 5737, RFC 3849) outside and private inside. The IPv6
// ones are invalid if the kernel has no IPv6.
type Demo struct {
	*Lab
	Client, Router, Web, App *Namespace

	ClientAddr, ClientAddr6   netip.Addr
	RouterAddr, RouterAddr6   netip.Addr // towards client
	GatewayAddr, GatewayAddr6 netip.Addr // of the bridge
	WebAddr, WebAddr6         netip.Addr
	AppAddr, AppAddr6         netip.Addr
}

// NewDemo builds the demo in a lab of its own. TCP on web:80 answers HTTP, UDP on web:7 echoes; both
// are published on the router, as 8080 and 7070. On an error, everything is removed again.
func NewDemo(ctx context.Context, opts Options) (_ *Demo, err error) {
	d := &Demo{
		Lab:         New(opts),
		ClientAddr:  netip.AddrFrom4([4]byte{192, 0, 2, 2}),
		RouterAddr:  netip.AddrFrom4([4]byte{192, 0, 2, 1}),
		GatewayAddr: netip.AddrFrom4([4]byte{10, 77, 0, 1}),
		WebAddr:     netip.AddrFrom4([4]byte{10, 77, 0, 2}),
		AppAddr:     netip.AddrFrom4([4]byte{10, 77, 0, 3}),
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("build the demo network: %w", err)
			d.Close()
		}
	}()
	if d.IPv6() {
		d.ClientAddr6, d.RouterAddr6 = netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:1::1")
		d.GatewayAddr6 = netip.MustParseAddr("fd77::1")
		d.WebAddr6, d.AppAddr6 = netip.MustParseAddr("fd77::2"), netip.MustParseAddr("fd77::3")
	}
	steps := []func(context.Context) error{d.createNamespaces, d.connect, d.route, d.publish, d.serve, d.waitUp}
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func (d *Demo) createNamespaces(context.Context) error {
	for _, ns := range []struct {
		name string
		to   **Namespace
	}{{"client", &d.Client}, {"router", &d.Router}, {"web", &d.Web}, {"app", &d.App}} {
		var err error
		if *ns.to, err = d.NewNamespace(ns.name); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demo) connect(context.Context) error {
	if err := d.Router.Bridge(BridgeDevice, prefixes(d.GatewayAddr, d.GatewayAddr6)...); err != nil {
		return err
	}
	for _, pair := range [][2]End{
		{{NS: d.Client, Name: ClientDevice, Addrs: prefixes(d.ClientAddr, d.ClientAddr6)},
			{NS: d.Router, Name: RouterDevice, Addrs: prefixes(d.RouterAddr, d.RouterAddr6)}},
		{{NS: d.Web, Name: ClientDevice, Addrs: prefixes(d.WebAddr, d.WebAddr6)},
			{NS: d.Router, Name: WebPortDev, Bridge: BridgeDevice, Hairpin: true}},
		{{NS: d.App, Name: ClientDevice, Addrs: prefixes(d.AppAddr, d.AppAddr6)},
			{NS: d.Router, Name: AppPortDev, Bridge: BridgeDevice, Hairpin: true}},
	} {
		if err := Veth(pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

// route makes the router one and the default gateway of web and app. The client knows nothing of the
// network behind the router, as on a real host.
func (d *Demo) route(context.Context) error {
	if err := d.Router.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if d.IPv6() {
		if err := d.Router.Sysctl("net/ipv6/conf/all/forwarding", "1"); err != nil {
			return err
		}
	}
	for _, ns := range []*Namespace{d.Web, d.App} {
		for _, gateway := range valid(d.GatewayAddr, d.GatewayAddr6) {
			if err := ns.AddRoute(Route{Via: gateway}); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish adds the rules that Docker would: the published ports lead to web, from outside, from the
// containers and from the router itself; what leaves the containers, and what comes back to the
// bridge through a published port, is masqueraded.
func (d *Demo) publish(context.Context) error {
	var rules []Rule
	for _, fam := range []struct{ router, gateway, web netip.Addr }{
		{d.RouterAddr, d.GatewayAddr, d.WebAddr}, {d.RouterAddr6, d.GatewayAddr6, d.WebAddr6},
	} {
		if !fam.web.IsValid() {
			continue
		}
		inside := subnet(fam.web).Masked()
		for _, port := range []struct {
			proto      path.Proto
			from, dest uint16
		}{{path.TCP, PublishedPort, WebPort}, {path.UDP, PublishedEcho, EchoPort}} {
			for _, hook := range []Hook{Prerouting, Output} {
				rules = append(rules, Rule{Hook: hook, Action: DNAT, Proto: port.proto, DstPort: port.from,
					Dst: host(fam.router), To: netip.AddrPortFrom(fam.web, port.dest)})
			}
		}
		rules = append(rules,
			Rule{Hook: Postrouting, Action: Masquerade, Src: inside, Out: RouterDevice},
			Rule{Hook: Postrouting, Action: Masquerade, Src: inside, Dst: inside, Out: BridgeDevice, Translated: true})
	}
	_, err := d.Router.AddRules(rules...)
	return err
}

func (d *Demo) serve(context.Context) error {
	if _, err := d.Web.TCPServer(":"+strconv.Itoa(WebPort), nil); err != nil {
		return err
	}
	for _, addr := range valid(d.WebAddr, d.WebAddr6) {
		if _, err := d.Web.UDPEcho(netip.AddrPortFrom(addr, EchoPort).String()); err != nil {
			return err
		}
	}
	return nil
}

func (d *Demo) waitUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for _, ns := range d.Namespaces() {
		if err := ns.WaitUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

// DropWeb drops, in the router's forward chain, what goes to the web server's port.
func (d *Demo) DropWeb() (*InstalledRule, error) {
	return d.Router.AddRule(Rule{Hook: Forward, Action: Drop, Proto: path.TCP, DstPort: WebPort})
}

// Published returns the router's address and port that lead to web:80, for IPv6 if v6.
func (d *Demo) Published(v6 bool) netip.AddrPort {
	if v6 {
		return netip.AddrPortFrom(d.RouterAddr6, PublishedPort)
	}
	return netip.AddrPortFrom(d.RouterAddr, PublishedPort)
}

func valid(addrs ...netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range addrs {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

// subnet returns the address with the length of the demo's subnets: 24 bits for IPv4, 64 for IPv6.
func subnet(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, 24)
	}
	return netip.PrefixFrom(a, 64)
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func prefixes(addrs ...netip.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range valid(addrs...) {
		out = append(out, subnet(a))
	}
	return out
}
