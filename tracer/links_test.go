package tracer_test

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// tool runs a command of the machine in a namespace.
func tool(t *testing.T, ns *lab.Namespace, command string) {
	t.Helper()
	words := strings.Fields(command)
	if _, err := exec.LookPath(words[0]); err != nil {
		t.Skipf("this test needs %s", words[0])
	}
	var out strings.Builder
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &out
	labtest.Must(t, ns.Do(cmd.Start))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s in %s: %v: %s", command, ns.Name, err, out.String())
	}
}

// outage is something wrong with devices, bridges, neighbours or routes.
type outage struct {
	name string
	// do are commands, each after the name of the namespace and a colon; undo are those that mend it.
	do, undo []string
	set      func(*testing.T, *lab.Demo) // what no command does
	from, to string                      // as in failure
	proto    path.Proto
	timeout  time.Duration
	outcomes []path.Outcome
	cause    path.Cause
	where    string // namespace, device
	says     string // part of the summary
}

func (o *outage) run(t *testing.T, d *lab.Demo, commands []string) {
	t.Helper()
	macs := strings.NewReplacer("$webmac", mac(t, d.Web, "eth0").String(), "$appmac", mac(t, d.App, "eth0").String(),
		"$routermac", mac(t, d.Router, "eth0").String())
	for _, c := range commands {
		name, command, _ := strings.Cut(c, ": ")
		for _, ns := range d.Namespaces() {
			if ns.Name == name {
				tool(t, ns, macs.Replace(command))
			}
		}
	}
}

func linkOutages() []outage {
	lost, dropped, refused := []path.Outcome{path.Lost}, []path.Outcome{path.Dropped}, []path.Outcome{path.Refused}
	const web = "10.77.0.2:80"
	return []outage{
		{name: "port down, from outside", do: []string{"router: ip link set veth-web down"},
			undo: []string{"router: ip link set veth-web up"}, outcomes: lost, cause: path.CauseLinkDown,
			where: "router veth-web", says: "veth-web in router is down"},
		{name: "port down while its MAC address is known", set: learn,
			do:   []string{"router: ip neigh replace 10.77.0.2 lladdr $webmac dev br-demo nud permanent", "router: ip link set veth-web down"},
			undo: []string{"router: ip link set veth-web up"}, outcomes: append(lost, path.Dropped), cause: path.CauseLinkDown,
			where: "router veth-web", says: "veth-web"},
		{name: "own port down", from: "web", to: "10.77.0.3:80", do: []string{"router: ip link set veth-web down"},
			outcomes: append(dropped, path.Lost, path.NoTraffic),
			cause:    path.CauseLinkDown, says: "down"},
		{name: "bridge down", from: "app", to: web, do: []string{"router: ip link set br-demo down"},
			undo: []string{"router: ip link set br-demo up"}, outcomes: append(lost, path.Dropped), cause: path.CauseLinkDown,
			where: "router br-demo", says: "br-demo in router is down"},
		{name: "bridge down, from outside, no other route", do: []string{"router: ip link set br-demo down"},
			outcomes: append(refused, path.Dropped), cause: path.CauseLinkDown, where: "router br-demo",
			says: "br-demo in router, by which it is reached, is down"},
		{name: "bridge down, sent back", do: []string{"router: ip route add default via 192.0.2.2",
			"router: ip link set br-demo down"}, outcomes: append(lost, path.Dropped), cause: path.CauseLinkDown,
			where: "router br-demo", says: "br-demo in router, by which it is reached, is down"},
		{name: "not bridged", do: []string{"router: ip link set veth-web nomaster"},
			undo: []string{"router: ip link set veth-web master br-demo"}, outcomes: lost, cause: path.CauseNotBridged,
			where: "router veth-web", says: "is not a port of bridge br-demo"},
		{name: "asker not bridged", from: "app", to: web, do: []string{"router: ip link set veth-app nomaster"},
			undo: []string{"router: ip link set veth-app master br-demo"}, outcomes: lost, cause: path.CauseNotBridged,
			where: "router veth-app", says: "veth-app in router, which leads to app, is not a port of bridge br-demo"},
		{name: "blocked by spanning tree", do: []string{"router: ip link set br-demo type bridge stp_state 1",
			"router: ip link set veth-web down", "router: ip link set veth-web up"},
			undo: []string{"router: ip link set br-demo type bridge stp_state 0", "router: ip link set veth-web down",
				"router: ip link set veth-web up"}, outcomes: append(lost, path.Dropped),
			cause: path.CauseBridgePortBlocked, where: "router veth-web", says: "spanning tree state is listening"},
		{name: "asker blocked by spanning tree", set: learn, from: "app", to: web, do: []string{
			"router: ip link set br-demo type bridge stp_state 1", "router: ip link set veth-app down", "router: ip link set veth-app up",
			"app: ip neigh replace 10.77.0.2 lladdr $webmac dev eth0 nud permanent"}, outcomes: append(lost, path.Dropped),
			cause: path.CauseBridgePortBlocked, where: "router veth-app", says: "spanning tree state is listening"},
		{name: "isolated", from: "app", to: web, do: []string{"router: bridge link set dev veth-web isolated on",
			"router: bridge link set dev veth-app isolated on"}, undo: []string{"router: bridge link set dev veth-app isolated off"},
			outcomes: append(lost, path.Dropped), cause: path.CauseBridgePortBlocked, where: "router", says: "both isolated"},
		{name: "isolated, neighbours known", set: learn, from: "app", to: web, do: []string{"router: bridge link set dev veth-web isolated on",
			"router: bridge link set dev veth-app isolated on"}, outcomes: append(lost, path.Dropped),
			cause: path.CauseBridgePortBlocked, where: "router", says: "both isolated"},
		{name: "hairpin off", set: learn, from: "web", to: "192.0.2.1:8080", do: []string{"router: bridge link set dev veth-web hairpin off"},
			undo: []string{"router: bridge link set dev veth-web hairpin on"}, outcomes: append(lost, path.Dropped),
			cause: path.CauseBridgePortBlocked, where: "router veth-web", says: "hairpin"},
		{name: "locked", set: learn, from: "app", to: web, do: []string{"router: bridge link set dev veth-app learning off",
			"router: bridge fdb del $appmac dev veth-app master", "router: bridge link set dev veth-app locked on"},
			undo: []string{"router: bridge link set dev veth-app locked off learning on"}, outcomes: append(lost, path.Dropped),
			cause: path.CauseBridgePortBlocked, where: "router veth-app", says: "locked"},
		{name: "no broadcasts", from: "app", to: web, do: []string{"router: bridge link set dev veth-web bcast_flood off"},
			undo: []string{"router: bridge link set dev veth-web bcast_flood on"}, outcomes: lost,
			cause: path.CauseBridgePortBlocked, where: "router veth-web", says: "veth-web in router gets no broadcasts"},
		{name: "no unknown addresses", set: learn, from: "app", to: web, do: []string{
			"app: ip neigh replace 10.77.0.2 lladdr $webmac dev eth0 nud permanent",
			"router: bridge link set dev veth-web flood off learning off", "router: bridge fdb del $webmac dev veth-web master"},
			undo: []string{"router: bridge link set dev veth-web flood on learning on"}, outcomes: append(lost, path.Dropped),
			cause: path.CauseBridgePortBlocked, where: "router veth-web", says: "has not learned"},
		{name: "MAC address of nobody", do: []string{"router: ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:09 dev br-demo nud permanent"},
			undo: []string{"router: ip neigh del 10.77.0.2 dev br-demo"}, outcomes: lost, cause: path.CauseWrongNeighbour,
			where: "router br-demo", says: "02:00:00:00:00:09, which no device here has"},
		{name: "MAC address of another container", do: []string{"router: ip neigh replace 10.77.0.2 lladdr $appmac dev br-demo nud permanent"},
			outcomes: append(lost, path.Dropped, path.Refused), cause: path.CauseWrongNeighbour, where: "router br-demo", says: "that of eth0 in app"},
		{name: "address of another container, too", do: []string{"app: ip address add 10.77.0.2/24 dev eth0",
			"router: ip neigh replace 10.77.0.2 lladdr $appmac dev br-demo nud permanent"}, to: "192.0.2.1:8080",
			outcomes: refused, cause: path.CauseDuplicateAddress, where: "app eth0", says: "app and web both have the address 10.77.0.2"},
		{name: "IPv6: port down", from: "app", to: "[fd77::2]:80", do: []string{"router: ip link set veth-web down"},
			undo: []string{"router: ip link set veth-web up"}, outcomes: append(lost, path.Dropped), cause: path.CauseLinkDown,
			where: "router veth-web", says: "veth-web in router is down"},
		{name: "IPv6: not bridged", to: "[2001:db8:1::1]:8080", do: []string{"router: ip link set veth-web nomaster"},
			outcomes: append(lost, path.Dropped), cause: path.CauseNotBridged, where: "router veth-web", says: "is not a port of bridge br-demo"},
		{name: "IPv6: MAC address of nobody", to: "[2001:db8:1::1]:8080", outcomes: lost, cause: path.CauseWrongNeighbour,
			do:   []string{"router: ip neigh replace fd77::2 lladdr 02:00:00:00:00:09 dev br-demo nud permanent"},
			undo: []string{"router: ip neigh del fd77::2 dev br-demo"}, where: "router br-demo", says: "which no device here has"},
		{name: "IPv6: bridge down", to: "[2001:db8:1::1]:8080", do: []string{"router: ip link set br-demo down"},
			outcomes: append(refused, path.Dropped, path.Lost), cause: path.CauseLinkDown, where: "router br-demo", says: "br-demo in router"},
		{name: "IPv6: prohibited", to: "[2001:db8:1::1]:8080", do: []string{"router: ip route add prohibit fd77::2/128"},
			outcomes: refused, cause: path.CauseNoRoute, where: "router", says: "route of kind prohibit to fd77::2"},
		{name: "IPv6: hop limit", to: "[2001:db8:1::1]:8080", do: []string{"client: sysctl -qw net.ipv6.conf.all.hop_limit=1 net.ipv6.conf.eth0.hop_limit=1"},
			outcomes: refused, cause: path.CauseTTLExceeded, where: "router", says: "used up its hop limit in router"},
		{name: "unreachable route", do: []string{"router: ip route add unreachable 10.77.0.2/32"},
			undo: []string{"router: ip route del unreachable 10.77.0.2/32"}, outcomes: refused, cause: path.CauseNoRoute,
			where: "router", says: "route of kind unreachable to 10.77.0.2"},
		{name: "prohibited", do: []string{"router: ip route add prohibit 10.77.0.2/32"}, outcomes: refused,
			cause: path.CauseNoRoute, where: "router", says: "route of kind prohibit"},
		{name: "blackhole", do: []string{"router: ip route add blackhole 10.77.0.2/32"}, outcomes: dropped,
			cause: path.CauseNoRoute, where: "router", says: "route of kind blackhole"},
		{name: "router's own source", do: []string{"client: ip address add 10.77.0.1/32 dev lo",
			"client: ip route replace 192.0.2.0/24 dev eth0 src 10.77.0.1",
			"client: ip neigh replace 192.0.2.1 lladdr $routermac dev eth0 nud permanent"}, outcomes: dropped, cause: path.CauseMartianSource,
			where: "router eth0", says: "10.77.0.1 is one of router's own"},
		{name: "loopback destination", to: "192.0.2.1:9090", set: func(t *testing.T, d *lab.Demo) {
			_, err := d.Router.AddRule(lab.Rule{Hook: lab.Prerouting, Action: lab.DNAT, Proto: path.TCP, DstPort: 9090,
				To: netip.MustParseAddrPort("127.0.0.1:80")})
			labtest.Must(t, err)
		}, outcomes: dropped, cause: path.CauseMartianSource, where: "router eth0", says: "loopback address 127.0.0.1"},
		{name: "loopback source, translated", from: "router", to: "127.0.0.1:8088", set: publishLoopback,
			undo: []string{"router: sysctl -qw net.ipv4.conf.br-demo.route_localnet=1"}, outcomes: append(lost, path.Dropped, path.NoTraffic),
			cause: path.CauseMartianSource, where: "router", says: "may not leave router with the loopback address 127.0.0.1"},
		{name: "hop limit", do: []string{"client: sysctl -qw net.ipv4.ip_default_ttl=1"},
			undo: []string{"client: sysctl -qw net.ipv4.ip_default_ttl=64"}, outcomes: refused, cause: path.CauseTTLExceeded,
			where: "router", says: "used up its hop limit in router"},
		{name: "tcx program", set: attachTCX, outcomes: dropped, cause: path.CauseTCDrop, where: "router eth0",
			says: "by the tcx ingress program drop_tcp"},
		{name: "generic XDP program", set: attachXDP(link.XDPGenericMode), outcomes: dropped, cause: path.CauseTCDrop,
			where: "router eth0", says: "by the XDP generic program drop_tcp"},
		{name: "native XDP program", set: attachXDP(link.XDPDriverMode), outcomes: dropped, cause: path.CauseTCDrop,
			where: "router eth0", says: "XDP native program drop_tcp"},
		{name: "tc classifier", set: attachFilter, outcomes: dropped, cause: path.CauseTCDrop, where: "router eth0",
			says: "tc ingress program drop_tcp"},
		{name: "token bucket", do: []string{"router: tc qdisc add dev eth0 root tbf rate 8kbit burst 60 limit 3000"},
			undo: []string{"router: tc qdisc del dev eth0 root"}, outcomes: dropped, cause: path.CauseQueueOverlimit,
			where: "router eth0", says: "tbf queue of eth0"},
	}
}

// TestMacvlan: a host and its own macvlan container do not hear each other; others hear both.
func TestMacvlan(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	mv := labtest.Namespace(t, d.Lab, "mv")
	labtest.Must(t, d.Router.Macvlan(lab.RouterDevice, mv, "eth0", netip.MustParsePrefix("192.0.2.9/24")))
	_, err := mv.TCPServer("192.0.2.9:80", nil)
	labtest.Must(t, err)
	for _, o := range []outage{
		{from: "router", to: "192.0.2.9:80", where: "router eth0", says: "own macvlan container"},
		{from: "mv", to: "192.0.2.1:22", where: "mv eth0", says: "own macvlan container"},
		{from: "router", to: "192.0.2.9:80", timeout: 4 * time.Second, where: "router eth0", says: "own macvlan container"},
	} {
		o.outcomes, o.cause = []path.Outcome{path.Lost, path.Dropped}, path.CauseMacvlanHostIsolation
		o.check(t, d)
	}
	checkVerdict(t, probe(t, d.Lab, "client", "192.0.2.9:80", nil).flows[0].Verdict, path.Delivered, "")
}

// TestChecksum sends requests whose checksums are wrong, as a broken offload does.
func TestChecksum(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	fd := packetSocket(t, d.App, lab.ClientDevice)
	w := watch(t, d.Lab, netip.AddrPortFrom(d.WebAddr, lab.WebPort).String(), func(c *tracer.Config) { c.Count = 1 })
	syn := tcpSYN(40000, lab.WebPort, 1)
	syn[16] ^= 0xff // a byte of the checksum
	frame := append(ethernet(mac(t, d.Web, "eth0"), mac(t, d.App, "eth0"), unix.ETH_P_IP), ipv4(d.AppAddr, d.WebAddr, unix.IPPROTO_TCP, syn)...)
	_, err := unix.Write(fd, frame)
	labtest.Must(t, err)
	v := w.wait(t).flows[0].Verdict
	checkVerdict(t, v, path.Dropped, path.CauseChecksumInvalid)
	if v.Where.Namespace != "web" || !strings.Contains(v.Summary, "TCP checksum is wrong") {
		t.Errorf("got %+v: %s", v.Where, v.Summary)
	}
}

// TestShaped: of a burst, a shaped device drops what its queue cannot hold; what gets through makes the
// flow a delivered one, and the drops a warning.
func TestShaped(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	learn(t, d)
	tool(t, d.App, "tc qdisc add dev eth0 root tbf rate 64kbit burst 1500 limit 1500")
	to := netip.AddrPortFrom(d.WebAddr, lab.EchoPort)
	w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.Count, c.Proto = 1, path.UDP })
	conn, err := d.App.Dial(t.Context(), "udp", to.String())
	labtest.Must(t, err)
	defer conn.Close()
	for range 20 {
		_, err := conn.Write(make([]byte, 400))
		labtest.Must(t, err)
	}
	v := w.wait(t).flows[0].Verdict
	checkVerdict(t, v, path.Delivered, "")
	if len(v.Warnings) == 0 || v.Warnings[0].Cause != path.CauseQueueOverlimit || !strings.Contains(v.Warnings[0].Summary, "tbf queue of eth0") {
		t.Errorf("got %v, want a warning of a queue", v.Warnings)
	}
}

// TestLinkMTU: a frame that is larger than the MTU of the next device of its link vanishes unsaid.
func TestLinkMTU(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	tool(t, d.Web, "ip link set eth0 mtu 1000")
	learn(t, d)
	to := netip.AddrPortFrom(d.WebAddr, lab.EchoPort)
	w := watch(t, d.Lab, to.String(), func(c *tracer.Config) { c.Count, c.Proto = 1, path.UDP })
	conn, err := d.App.Dial(t.Context(), "udp", to.String())
	labtest.Must(t, err)
	defer conn.Close()
	_, err = conn.Write(make([]byte, 1300))
	labtest.Must(t, err)
	v := w.wait(t).flows[0].Verdict
	checkVerdict(t, v, path.Dropped, path.CauseMTUBlackhole)
	if !strings.Contains(v.Summary, "too big for eth0 in web (MTU 1000)") {
		t.Error(v.Summary)
	}
}

// learn makes the neighbours and the bridge know each other.
func learn(t *testing.T, d *lab.Demo) {
	for _, ns := range []*lab.Namespace{d.Client, d.App, d.Web} {
		to := d.Published(false)
		if ns != d.Client {
			to = netip.AddrPortFrom(d.WebAddr, lab.WebPort)
		}
		labtest.Must(t, connect(ns, to))
	}
}

// publishLoopback adds the rules that publish web on the router's loopback address, as Docker does
// without its proxy.
func publishLoopback(t *testing.T, d *lab.Demo) {
	_, err := d.Router.AddRules(
		lab.Rule{Hook: lab.Output, Action: lab.DNAT, Proto: path.TCP, DstPort: 8088, To: netip.AddrPortFrom(d.WebAddr, lab.WebPort)},
		lab.Rule{Hook: lab.Postrouting, Action: lab.Masquerade, Src: netip.MustParsePrefix("127.0.0.0/8"), Out: lab.BridgeDevice})
	labtest.Must(t, err)
}

// dropTCP is a program that answers verdict for TCP over IPv4 without options and pass for the rest.
// data is the offset of the field in its context that points to the frame.
func dropTCP(t *testing.T, typ ebpf.ProgramType, data int16, verdict, pass int32) *ebpf.Program {
	t.Helper()
	const headers, protocol = 34, 23 // of Ethernet and IPv4; the offset of the protocol
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: typ, License: "GPL", Name: "drop_tcp",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, data, asm.Word),
			asm.LoadMem(asm.R3, asm.R1, data+4, asm.Word),
			asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, headers), asm.JGT.Reg(asm.R4, asm.R3, "pass"),
			asm.LoadMem(asm.R5, asm.R2, protocol, asm.Byte), asm.JNE.Imm(asm.R5, 6, "pass"),
			asm.Mov.Imm(asm.R0, verdict), asm.Return(),
			asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"), asm.Return(),
		}})
	labtest.Must(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// attachTCX drops TCP at the ingress of the router's outer device.
func attachTCX(t *testing.T, d *lab.Demo) {
	index, err := d.Router.Ifindex(lab.RouterDevice)
	labtest.Must(t, err)
	const data, shot, next = 76, 2, -1 // __sk_buff->data, TCX_DROP, TCX_NEXT
	p := dropTCP(t, ebpf.SchedCLS, data, shot, next)
	var l link.Link
	err = d.Router.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Program: p, Interface: int(index), Attach: ebpf.AttachTCXIngress})
		return err
	})
	if err != nil {
		t.Skipf("this kernel has no tcx: %v", err)
	}
	t.Cleanup(func() { l.Close() })
}

// attachFilter drops TCP at the ingress of the router's outer device through a classifier.
func attachFilter(t *testing.T, d *lab.Demo) {
	index, err := d.Router.Ifindex(lab.RouterDevice)
	labtest.Must(t, err)
	const data, shot, ok = 76, 2, 0 // __sk_buff->data, TC_ACT_SHOT, TC_ACT_OK
	p := dropTCP(t, ebpf.SchedCLS, data, shot, ok)
	err = d.Router.Do(func() error {
		attrs := netlink.QdiscAttrs{LinkIndex: int(index), Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}
		if err := netlink.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "clsact"}); err != nil {
			return err
		}
		return netlink.FilterAdd(&netlink.BpfFilter{
			FilterAttrs: netlink.FilterAttrs{LinkIndex: int(index), Parent: netlink.HANDLE_MIN_INGRESS, Handle: 1,
				Protocol: unix.ETH_P_ALL, Priority: 1},
			Fd: p.FD(), Name: "drop_tcp", DirectAction: true,
		})
	})
	if err != nil {
		t.Skipf("this kernel has no tc classifiers of kind bpf: %v", err)
	}
}

// attachXDP drops TCP that comes in on the router's outer device.
func attachXDP(mode link.XDPAttachFlags) func(*testing.T, *lab.Demo) {
	return func(t *testing.T, d *lab.Demo) {
		index, err := d.Router.Ifindex(lab.RouterDevice)
		labtest.Must(t, err)
		const data, drop, pass = 0, 1, 2 // xdp_md->data, XDP_DROP, XDP_PASS
		p := dropTCP(t, ebpf.XDP, data, drop, pass)
		var l link.Link
		labtest.Must(t, d.Router.Do(func() (err error) {
			l, err = link.AttachXDP(link.XDPOptions{Program: p, Interface: int(index), Flags: mode})
			return err
		}))
		t.Cleanup(func() { l.Close() })
	}
}

// TestLinkOutages breaks the demo's network below and beside its firewall.
func TestLinkOutages(t *testing.T) {
	if testing.Short() {
		t.Skip("a trace takes half a second, and these are many")
	}
	for _, o := range linkOutages() {
		t.Run(o.name, func(t *testing.T) {
			d := labtest.Demo(t, lab.Options{})
			if strings.HasPrefix(o.name, "IPv6") && !d.IPv6() {
				t.Skip("this kernel has no IPv6")
			}
			if o.set != nil {
				o.set(t, d)
			}
			o.run(t, d, o.do)
			o.check(t, d)
			if o.undo != nil {
				o.run(t, d, o.undo)
				labtest.Must(t, d.Router.WaitUp(t.Context()))
				for _, ns := range d.Namespaces() {
					tool(t, ns, "ip neigh flush all")
				}
				checkVerdict(t, o.trace(t, d).Verdict, path.Delivered, "")
			}
		})
	}
}

func (o *outage) trace(t *testing.T, d *lab.Demo) tracer.Flow {
	t.Helper()
	from, to := o.from, o.to
	if from == "" {
		from = "client"
	}
	if to == "" {
		to = d.Published(false).String()
	}
	return probe(t, d.Lab, from, to, func(c *tracer.Config) {
		c.Proto = o.proto
		if o.timeout != 0 {
			c.Timeout = o.timeout
		}
	}).flows[0]
}

func (o *outage) check(t *testing.T, d *lab.Demo) {
	t.Helper()
	v := o.trace(t, d).Verdict
	ok := false
	for _, outcome := range o.outcomes {
		ok = ok || v.Outcome == outcome
	}
	if !ok || v.Cause != o.cause {
		t.Errorf("got %s %q (%s), want %v %q\n\t%s", v.Outcome, v.Cause, v.Summary, o.outcomes, o.cause,
			strings.Join(v.Evidence, "\n\t"))
	}
	where := ""
	if w := v.Where; w != nil {
		where = strings.TrimSpace(w.Namespace + " " + w.Device)
	}
	if !strings.HasPrefix(where, o.where) || !strings.Contains(v.Summary, o.says) {
		t.Errorf("got %q: %s; want %q: %q\n\t%s", where, v.Summary, o.where, o.says, strings.Join(v.Evidence, "\n\t"))
	}
	t.Logf("%s\n\t%s\n\tremedy: %s", v.Summary, strings.Join(v.Evidence, "\n\t"), strings.Join(v.Remedy, "\n\t"))
}
