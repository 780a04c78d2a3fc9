package tracer_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// measured is what one measurement reported.
type measured struct {
	tracer.MTUResult
	notes []string
}

// measure finds the path MTU in a lab.
func measure(t *testing.T, l *lab.Lab, from, to string, expect int, change func(*tracer.Config)) measured {
	t.Helper()
	var o observed
	cfg := config(l, &o)
	cfg.Source, cfg.Target = from, to
	if change != nil {
		change(&cfg)
	}
	tr, err := tracer.New(t.Context(), cfg)
	labtest.Must(t, err)
	r, err := tr.MeasureMTU(t.Context(), expect)
	labtest.Must(t, err)
	m := measured{MTUResult: r, notes: o.notes}
	t.Log(m.text())
	return m
}

func (m measured) text() string {
	var b strings.Builder
	for _, d := range m.Directions {
		links := ""
		for _, l := range d.Links {
			links += " " + l.Namespace + "/" + l.Device
			if l.Limit {
				links += "!"
			}
		}
		b.WriteString(strings.TrimSpace(strings.Join([]string{string(d.Direction), strconv.Itoa(d.MTU), strconv.Itoa(d.TooBig), string(d.Discovery), links}, " ")) + "\n")
		if d.End != nil {
			b.WriteString("  " + string(d.End.Kind) + "\n")
		}
	}
	b.WriteString(m.Verdict.Summary + "\n" + strings.Join(m.Verdict.Evidence, "\n") + "\n" + strings.Join(m.Verdict.Remedy, "\n"))
	for _, w := range m.Verdict.Warnings {
		b.WriteString("\nwarning " + w.Summary)
	}
	return b.String()
}

// chain is a line of namespaces: client, near, far and web; near and far are routers, joined by a link
// whose device is "mid" on both sides.
type chain struct {
	*lab.Lab
	client, near, far, web *lab.Namespace
	webAddr                netip.Addr
}

func newChain(t *testing.T, v6 bool, mtu int) *chain {
	t.Helper()
	l := labtest.New(t, lab.Options{})
	if v6 && !l.IPv6() {
		t.Skip("this kernel has no IPv6")
	}
	c := &chain{Lab: l, client: labtest.Namespace(t, l, "client"), near: labtest.Namespace(t, l, "near"),
		far: labtest.Namespace(t, l, "far"), web: labtest.Namespace(t, l, "web")}
	addr := func(link, host int) netip.Prefix {
		if v6 {
			return netip.MustParsePrefix(fmt.Sprintf("fd91:%d::%d/64", link, host))
		}
		return netip.MustParsePrefix(fmt.Sprintf("10.91.%d.%d/24", link, host))
	}
	join := func(link int, a, b *lab.Namespace, nameA, nameB string) {
		labtest.Must(t, lab.Veth(lab.End{NS: a, Name: nameA, Addrs: []netip.Prefix{addr(link, 1)}, MTU: mtu},
			lab.End{NS: b, Name: nameB, Addrs: []netip.Prefix{addr(link, 2)}, MTU: mtu}))
	}
	join(1, c.client, c.near, "eth0", "in")
	join(2, c.near, c.far, "mid", "mid")
	join(3, c.far, c.web, "out", "eth0")
	for _, r := range []struct {
		ns  *lab.Namespace
		via netip.Prefix
	}{{c.client, addr(1, 2)}, {c.near, addr(2, 2)}, {c.far, addr(2, 1)}, {c.web, addr(3, 1)}} {
		labtest.Must(t, r.ns.AddRoute(lab.Route{Via: r.via.Addr()}))
	}
	for _, router := range []*lab.Namespace{c.near, c.far} {
		family := "ipv4/ip_forward"
		if v6 {
			family = "ipv6/conf/all/forwarding"
		}
		labtest.Must(t, router.Sysctl("net/"+family, "1"))
	}
	for _, ns := range l.Namespaces() {
		labtest.Must(t, ns.WaitUp(t.Context()))
	}
	c.webAddr = addr(3, 2).Addr()
	_, err := c.web.TCPServer(c.to(80), nil)
	labtest.Must(t, err)
	_, err = c.web.UDPEcho(c.to(53))
	labtest.Must(t, err)
	return c
}

func (c *chain) to(port uint16) string { return netip.AddrPortFrom(c.webAddr, port).String() }

// direction returns what was measured of one direction.
func (m measured) direction(t *testing.T, d path.Direction) path.MTU {
	t.Helper()
	for _, x := range m.Directions {
		if x.Direction == d {
			return x
		}
	}
	t.Fatalf("%s was not measured", d)
	return path.MTU{}
}

// checkMTU compares one direction.
func (m measured) checkMTU(t *testing.T, d path.Direction, mtu int, discovery path.Discovery, limit string) {
	t.Helper()
	x := m.direction(t, d)
	if x.MTU != mtu || x.Discovery != discovery {
		t.Errorf("%s: got MTU %d, discovery %s, want %d, %s", d, x.MTU, x.Discovery, mtu, discovery)
	}
	got := ""
	for _, l := range x.Links {
		if l.Limit {
			got = l.Namespace + " " + l.Device
		}
	}
	if limit != "" && got != limit {
		t.Errorf("%s: the limit is %q, want %q", d, got, limit)
	}
}

// narrow gives the link between the routers an MTU, at both ends.
func (c *chain) narrow(t *testing.T, mtu int) {
	t.Helper()
	labtest.Must(t, c.near.SetMTU("mid", mtu))
	labtest.Must(t, c.far.SetMTU("mid", mtu))
}

// shell runs a command line in a namespace.
func shell(t *testing.T, ns *lab.Namespace, line string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	labtest.Must(t, ns.Do(cmd.Start))
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out.String())
	}
}

// apply runs the first remedy that contains a text, as a user would paste it.
func (m measured) apply(t *testing.T, ns *lab.Namespace, text string) {
	t.Helper()
	for _, r := range m.Verdict.Remedy {
		if strings.Contains(r, text) {
			shell(t, ns, r)
			return
		}
	}
	t.Fatalf("no remedy with %q in %q", text, m.Verdict.Remedy)
}

func both(t *testing.T, test func(t *testing.T, v6 bool)) {
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) { test(t, v6) })
	}
}

func TestMTUOpenPath(t *testing.T) {
	both(t, func(t *testing.T, v6 bool) {
		c := newChain(t, v6, 1500)
		m := measure(t, c.Lab, "client", c.to(80), 1500, nil)
		checkVerdict(t, m.Verdict, path.Delivered, "")
		m.checkMTU(t, path.Request, 1500, path.DiscoveryUnneeded, "")
		m.checkMTU(t, path.Reply, 1500, path.DiscoveryUnneeded, "")
	})
}

// TestMTURouter: a narrow link between routers, which tell of it.
func TestMTURouter(t *testing.T) {
	both(t, func(t *testing.T, v6 bool) {
		c := newChain(t, v6, 1500)
		c.narrow(t, 1400)
		m := measure(t, c.Lab, "client", c.to(80), 0, nil)
		checkVerdict(t, m.Verdict, path.Delivered, "")
		m.checkMTU(t, path.Request, 1400, path.DiscoveryWorks, "near mid")
		m.checkMTU(t, path.Reply, 1400, path.DiscoveryWorks, "far mid")
		for d, from := range map[path.Direction]string{path.Request: "near", path.Reply: "far"} {
			if e := m.direction(t, d).End; e.Kind != path.TooBigAnswered || e.NextHopMTU != 1400 || e.From != from {
				t.Errorf("%s: got %+v, want the ICMP error of %s with 1400", d, e, from)
			}
			if r := m.direction(t, d); r.CachedMTU != 0 {
				t.Errorf("%s: the route cache says %d, want nothing", d, r.CachedMTU)
			}
		}
		m = measure(t, c.Lab, "client", c.to(80), 1450, nil)
		checkVerdict(t, m.Verdict, path.Dropped, path.CausePacketTooBig)
		// Raw sockets of IPv4 can leave the route cache alone; those of IPv6 cannot.
		want := 0
		if v6 {
			want = 1400
		}
		for _, d := range m.Directions {
			if d.CachedMTU != want {
				t.Errorf("%s: the route cache says %d after a measurement, want %d", d.Direction, d.CachedMTU, want)
			}
		}
		m.apply(t, c.near, "ip link set mid mtu 1450")
		labtest.Must(t, c.far.SetMTU("mid", 1450))
		m = measure(t, c.Lab, "client", c.to(80), 1450, nil)
		checkVerdict(t, m.Verdict, path.Delivered, "")
		if text := m.text(); v6 && !strings.Contains(text, "has learned an MTU of 1400 for this path, and 1450 pass by now") {
			t.Error("nothing is said of the exception that hides the change")
		}
	})
}

// TestMTUFiltered: a router tells, and a rule eats it, in either direction.
func TestMTUFiltered(t *testing.T) {
	both(t, func(t *testing.T, v6 bool) {
		c := newChain(t, v6, 1500)
		c.narrow(t, 1400)
		match := "icmp type destination-unreachable"
		if v6 {
			match = "icmpv6 type packet-too-big"
		}
		for _, row := range []struct {
			ns *lab.Namespace
			d  path.Direction
		}{{c.near, path.Request}, {c.far, path.Reply}} {
			shell(t, row.ns, "nft 'add table inet fw; add chain inet fw out { type filter hook output priority 0; }; add rule inet fw out "+match+" drop'")
			m := measure(t, c.Lab, "client", c.to(80), 0, nil)
			checkVerdict(t, m.Verdict, path.Dropped, path.CauseMTUBlackhole)
			m.checkMTU(t, row.d, 1400, path.DiscoveryFails, row.ns.Name+" mid")
			m.checkMTU(t, row.d.Opposite(), 1400, path.DiscoveryWorks, "")
			w := m.Verdict.Where
			if w == nil || w.Rule == nil || w.Rule.Chain != "out" || w.Namespace != row.ns.Name {
				t.Errorf("where: got %+v, want the rule in chain out of %s", w, row.ns.Name)
			}
			m.apply(t, row.ns, "nft insert rule inet fw out")
			m = measure(t, c.Lab, "client", c.to(80), 0, nil)
			checkVerdict(t, m.Verdict, path.Delivered, "")
		}
	})
}

// TestMTUVeth: two ends of a link that do not agree; the kernel tells nobody.
func TestMTUVeth(t *testing.T) {
	both(t, func(t *testing.T, v6 bool) {
		c := newChain(t, v6, 1500)
		labtest.Must(t, c.far.SetMTU("out", 1400))
		m := measure(t, c.Lab, "client", c.to(80), 0, nil)
		checkVerdict(t, m.Verdict, path.Dropped, path.CauseMTUBlackhole)
		m.checkMTU(t, path.Request, 1400, path.DiscoveryWorks, "far out")
		m.checkMTU(t, path.Reply, 1404, path.DiscoveryFails, "far out")
		if e := m.direction(t, path.Reply).End; e.Kind != path.TooBigSilent || e.Where.Device != "eth0" {
			t.Errorf("end: got %+v, want a silent drop on eth0", e)
		}
		m.apply(t, c.far, "TCPMSS")
		m = measure(t, c.Lab, "client", c.to(80), 0, nil)
		checkVerdict(t, m.Verdict, path.Delivered, "")
		if len(m.Verdict.Warnings) == 0 {
			t.Error("no warning for protocols other than TCP")
		}
	})
}

// TestMTUDatagrams: UDP and ICMP instead of TCP; UDP asks nothing of who does not answer.
func TestMTUDatagrams(t *testing.T) {
	both(t, func(t *testing.T, v6 bool) {
		c := newChain(t, v6, 1500)
		c.narrow(t, 1400)
		mute, err := c.web.ListenPacket(t.Context(), "udp", c.to(54))
		labtest.Must(t, err)
		defer mute.Close()
		targets := map[string]path.Proto{c.to(54): path.UDP, c.webAddr.String(): path.ICMP}
		if !v6 {
			targets[c.to(53)] = path.UDP
		}
		for to, proto := range targets {
			m := measure(t, c.Lab, "client", to, 0, func(cfg *tracer.Config) { cfg.Proto = proto })
			checkVerdict(t, m.Verdict, path.Delivered, "")
			m.checkMTU(t, path.Request, 1400, path.DiscoveryWorks, "near mid")
			m.checkMTU(t, path.Reply, 1400, path.DiscoveryWorks, "far mid")
		}
	})
}

// TestMTUJumbo: a jumbo network with one ordinary link.
func TestMTUJumbo(t *testing.T) {
	c := newChain(t, false, 9000)
	m := measure(t, c.Lab, "client", c.to(80), 9000, nil)
	checkVerdict(t, m.Verdict, path.Delivered, "")
	m.checkMTU(t, path.Request, 9000, path.DiscoveryUnneeded, "")
	m.checkMTU(t, path.Reply, 9000, path.DiscoveryUnneeded, "")
	c.narrow(t, 1500)
	m = measure(t, c.Lab, "client", c.to(80), 9000, nil)
	checkVerdict(t, m.Verdict, path.Dropped, path.CausePacketTooBig)
	m.checkMTU(t, path.Request, 1500, path.DiscoveryWorks, "near mid")
}

// TestMTUAsymmetric: the ways there and back carry different sizes.
func TestMTUAsymmetric(t *testing.T) {
	c := newChain(t, false, 1500)
	shell(t, c.near, "ip route change default via 10.91.2.2 mtu lock 1300")
	m := measure(t, c.Lab, "client", c.to(80), 1400, nil)
	m.checkMTU(t, path.Request, 1300, path.DiscoveryWorks, "")
	m.checkMTU(t, path.Reply, 1500, path.DiscoveryUnneeded, "")
	checkVerdict(t, m.Verdict, path.Dropped, path.CausePacketTooBig)
	if !strings.Contains(m.Verdict.Summary, "the route to 10.91.3.2 in near") {
		t.Errorf("summary: %s, want the route that is the limit", m.Verdict.Summary)
	}
}

// TestMTUFloor: an IPv6 link of the least size that there may be.
func TestMTUFloor(t *testing.T) {
	c := newChain(t, true, 1500)
	c.narrow(t, 1280)
	m := measure(t, c.Lab, "client", c.to(80), 0, nil)
	checkVerdict(t, m.Verdict, path.Delivered, "")
	m.checkMTU(t, path.Request, 1280, path.DiscoveryWorks, "near mid")
	if e := m.direction(t, path.Request).End; e.Fragmented != nil || e.FragmentsPass {
		t.Errorf("end: %+v, want no fragments: routers of IPv6 make none", e)
	}
}

// mtuTunnel joins the namespaces a and b by VXLAN over a link of 1500 bytes: bridged, as Docker's overlays are,
// or with an address on the tunnel's device.
func mtuTunnel(t *testing.T, v6, bridged bool) *lab.Lab {
	t.Helper()
	l := labtest.New(t, lab.Options{})
	if v6 && !l.IPv6() {
		t.Skip("this kernel has no IPv6")
	}
	outer := func(n int) netip.Prefix {
		if v6 {
			return netip.MustParsePrefix(fmt.Sprintf("fd98::%d/64", n))
		}
		return netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/24", n))
	}
	var hosts [2]*lab.Namespace
	for i, name := range []string{"a", "b"} {
		hosts[i] = labtest.Namespace(t, l, name)
		inner := netip.MustParsePrefix(fmt.Sprintf("10.78.0.%d/24", i+1))
		v := lab.VXLAN{Name: "vxlan0", VNI: 42, Local: outer(i + 1).Addr(), Peers: []netip.Addr{outer(2 - i).Addr()}, Addrs: []netip.Prefix{inner}}
		if bridged {
			end := hosts[i]
			hosts[i] = labtest.Namespace(t, l, "host-"+name)
			labtest.Must(t, hosts[i].Bridge("br0"))
			labtest.Must(t, lab.Veth(lab.End{NS: end, Name: "eth0", Addrs: v.Addrs}, lab.End{NS: hosts[i], Name: "port", Bridge: "br0"}))
			v.Addrs, v.Bridge = nil, "br0"
		}
		if i == 1 {
			labtest.Must(t, lab.Veth(lab.End{NS: hosts[0], Name: "wire", Addrs: []netip.Prefix{outer(1)}}, lab.End{NS: hosts[1], Name: "wire", Addrs: []netip.Prefix{outer(2)}}))
		}
		defer func() {
			labtest.Must(t, hosts[i].VXLAN(v))
			labtest.Must(t, hosts[i].SetMTU("vxlan0", 1500))
		}()
	}
	return l
}

// TestMTUVXLAN: what a tunnel adds, over IPv4 and IPv6.
func TestMTUVXLAN(t *testing.T) {
	for _, bridged := range []bool{true, false} {
		t.Run(fmt.Sprintf("bridged %v", bridged), func(t *testing.T) {
			both(t, func(t *testing.T, v6 bool) {
				l := mtuTunnel(t, v6, bridged)
				for _, ns := range l.Namespaces() {
					labtest.Must(t, ns.WaitUp(t.Context()))
					if ns.Name == "b" {
						_, err := ns.TCPServer("10.78.0.2:80", nil)
						labtest.Must(t, err)
					}
				}
				m := measure(t, l, "a", "10.78.0.2:80", 0, nil)
				checkVerdict(t, m.Verdict, path.Delivered, "")
				if !v6 && !bridged { // the tunnel's own packets may be cut
					m.checkMTU(t, path.Request, 1500, path.DiscoveryUnneeded, "")
					if d := m.direction(t, path.Request); d.FragmentsAbove != 1450 || d.Fragmented == nil || d.Fragmented.Device != "wire" {
						t.Errorf("fragments above %d, at %+v, want 1450, at wire", d.FragmentsAbove, d.Fragmented)
					}
					return
				}
				want := 1450
				if v6 {
					want = 1430
				}
				for _, d := range []path.Direction{path.Request, path.Reply} {
					m.checkMTU(t, d, want, path.DiscoveryWorks, "")
					if x := m.direction(t, d); x.Declared != want {
						t.Errorf("%s: declared are %d, want %d", d, x.Declared, want)
					}
				}
			})
		})
	}
}

// TestMTUCached: an exception that was learned from other traffic neither misleads the probes nor is hidden.
func TestMTUCached(t *testing.T) {
	c := newChain(t, false, 1500)
	c.narrow(t, 1400)
	// Traffic of others, as any: it learns the MTU.
	conn, err := c.client.Dial(t.Context(), "udp", c.to(53))
	labtest.Must(t, err)
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	labtest.Must(t, err)
	labtest.Must(t, raw.Control(func(fd uintptr) {
		labtest.Must(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO))
	}))
	_, _ = conn.Write(make([]byte, 1450)) // too big
	m := measure(t, c.Lab, "client", c.to(80), 0, nil)
	d := m.direction(t, path.Request)
	if d.CachedMTU != 1400 || d.CachedSeconds == 0 {
		t.Errorf("the route cache says %d for %d s, want 1400", d.CachedMTU, d.CachedSeconds)
	}
	c.narrow(t, 1500)
	m = measure(t, c.Lab, "client", c.to(80), 1500, nil)
	checkVerdict(t, m.Verdict, path.Delivered, "")
	m.checkMTU(t, path.Request, 1500, path.DiscoveryUnneeded, "")
	if !strings.Contains(m.text(), "has learned an MTU of 1400 for this path, and 1500 pass by now") {
		t.Error("nothing is said of the exception that hides the change")
	}
	shell(t, c.client, "ip route flush cache")
	m = measure(t, c.Lab, "client", c.to(80), 1500, nil)
	if d := m.direction(t, path.Request); d.CachedMTU != 0 || len(m.Verdict.Warnings) != 0 {
		t.Errorf("after the exception is gone: %+v, warnings %v", d, m.Verdict.Warnings)
	}
}

// TestMTUBridge: a bridge with a narrow port drops without a word; one whose frames pass the rules of
// routed packets drops, too, and cuts what may be cut.
func TestMTUBridge(t *testing.T) {
	l := labtest.New(t, lab.Options{})
	sw, a, b := labtest.Namespace(t, l, "switch"), labtest.Namespace(t, l, "a"), labtest.Namespace(t, l, "b")
	labtest.Must(t, sw.Bridge("br0"))
	for i, ns := range []*lab.Namespace{a, b} {
		labtest.Must(t, lab.Veth(lab.End{NS: ns, Name: "eth0", Addrs: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.79.0.%d/24", i+1))}},
			lab.End{NS: sw, Name: "port-" + ns.Name, Bridge: "br0"}))
	}
	for _, ns := range l.Namespaces() {
		labtest.Must(t, ns.WaitUp(t.Context()))
	}
	_, err := b.TCPServer("10.79.0.2:80", nil)
	labtest.Must(t, err)
	labtest.Must(t, sw.SetMTU("port-b", 1400))
	for _, nf := range []string{"0", "1"} {
		if err := sw.Sysctl("net/bridge/bridge-nf-call-iptables", nf); err != nil {
			t.Skipf("this kernel has no br_netfilter: %v", err)
		}
		m := measure(t, l, "a", "10.79.0.2:80", 0, nil)
		checkVerdict(t, m.Verdict, path.Dropped, path.CauseMTUBlackhole)
		d := m.direction(t, path.Request)
		want := 1404
		if nf == "1" {
			want = 1400
		}
		m.checkMTU(t, path.Request, want, path.DiscoveryFails, "switch port-b")
		if cut := d.End.Fragmented != nil && d.End.FragmentsPass; cut != (nf == "1") {
			t.Errorf("bridge-nf-call-iptables %s: fragmented %+v, passed %v", nf, d.End.Fragmented, d.End.FragmentsPass)
		}
		if d.End.Kind != path.TooBigSilent || d.End.Where.Namespace != "switch" {
			t.Errorf("end: %+v, want a silent drop in the switch", d.End)
		}
	}
}

// TestMTUUnseen: the far part of the path belongs to nobody we know, and is narrow without a word.
func TestMTUUnseen(t *testing.T) {
	c := newChain(t, false, 1500)
	c.narrow(t, 1400)
	shell(t, c.near, "nft 'add table inet fw; add chain inet fw out { type filter hook output priority 0; }; add rule inet fw out icmp type destination-unreachable drop'")
	alone := func(cfg *tracer.Config) { cfg.Namespaces = cfg.Namespaces[:1] }
	m := measure(t, c.Lab, "client", c.to(80), 0, alone)
	checkVerdict(t, m.Verdict, path.Lost, path.CauseMTUBlackhole)
	m.checkMTU(t, path.Request, 1400, path.DiscoveryFails, "")
	if e := m.direction(t, path.Request).End; e.Kind != path.TooBigUnseen || e.Where == nil || e.Where.Device != "eth0" {
		t.Errorf("end: %+v, want last seen on eth0", e)
	}
	m.checkMTU(t, path.Reply, 1400, path.DiscoveryUnknown, "")
	m.apply(t, c.client, "ip route replace 10.91.3.2 via 10.91.1.2 dev eth0 mtu 1400")
	m = measure(t, c.Lab, "client", c.to(80), 0, alone)
	checkVerdict(t, m.Verdict, path.Delivered, "")
	shell(t, c.client, "ip route del 10.91.3.2")
	// Replies to echoes may be cut: the way back is narrower than the way there.
	c.narrow(t, 1500)
	shell(t, c.far, "ip route change default via 10.91.2.1 mtu lock 1300")
	m = measure(t, c.Lab, "client", c.to(80), 0, alone)
	m.checkMTU(t, path.Request, 1500, path.DiscoveryUnneeded, "")
	m.checkMTU(t, path.Reply, 1300, path.DiscoveryUnknown, "")
	if !strings.Contains(strings.Join(m.direction(t, path.Reply).Notes, "\n"), "in fragments of up to") {
		t.Errorf("notes: %q, want fragments", m.direction(t, path.Reply).Notes)
	}
}

// TestMTURefused: a path that cannot be opened gets the verdict of a trace.
func TestMTURefused(t *testing.T) {
	c := newChain(t, false, 1500)
	m := measure(t, c.Lab, "client", c.to(81), 0, nil)
	checkVerdict(t, m.Verdict, path.Refused, path.CauseNotListening)
	if len(m.Directions) != 0 {
		t.Errorf("got %d directions, want none", len(m.Directions))
	}
}

// watchMTU watches while traffic runs.
func watchMTU(t *testing.T, c *chain, proto path.Proto, to string, traffic func()) tracer.MTUWatchResult {
	t.Helper()
	var o observed
	cfg := config(c.Lab, &o)
	cfg.Target, cfg.Proto, cfg.AllPackets = to, proto, true
	started := make(chan struct{})
	cfg.OnStart = func(tracer.Meta) { close(started) }
	tr, err := tracer.New(t.Context(), cfg)
	labtest.Must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	type outcome struct {
		r   tracer.MTUWatchResult
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		r, err := tr.WatchMTU(ctx)
		done <- outcome{r, err}
	}()
	<-started
	traffic()
	cancel()
	got := <-done
	labtest.Must(t, got.err)
	t.Logf("%+v\n%s", got.r.Watch, got.r.Verdict.Summary)
	return got.r
}

// exchange sends datagrams of a size and waits for as many answers as are wanted.
func exchange(t *testing.T, c *chain, size, n, want int) {
	t.Helper()
	conn, err := c.client.Dial(t.Context(), "udp", c.to(53))
	labtest.Must(t, err)
	defer conn.Close()
	got := 0
	for range n {
		if _, err := conn.Write(make([]byte, size)); err != nil {
			continue
		}
		labtest.Must(t, conn.SetReadDeadline(time.Now().Add(labtest.Patience(200*time.Millisecond))))
		if _, err := conn.Read(make([]byte, 65536)); err == nil {
			got++
		}
	}
	if got < want {
		t.Errorf("%d answers to %d datagrams of %d bytes, want %d", got, n, size, want)
	}
}

// TestMTUWatch: live traffic that is cut, that vanishes, and that is all right.
func TestMTUWatch(t *testing.T) {
	c := newChain(t, false, 1500)
	r := watchMTU(t, c, path.UDP, c.to(53), func() { exchange(t, c, 1000, 3, 3) })
	checkVerdict(t, r.Verdict, path.Delivered, "")
	if len(r.Watch.Places) != 0 || r.Watch.Packets < 3 {
		t.Errorf("got %+v, want three packets and no places", r.Watch)
	}
	r = watchMTU(t, c, path.UDP, c.to(53), func() { exchange(t, c, 4000, 3, 3) })
	checkVerdict(t, r.Verdict, path.Delivered, "")
	if r.Watch.Fragments == 0 || len(r.Verdict.Warnings) == 0 {
		t.Errorf("got %+v, want fragments and a warning", r.Watch)
	}
	labtest.Must(t, c.far.SetMTU("out", 1400)) // while the other end of the link, web's, has 1500
	r = watchMTU(t, c, path.UDP, c.to(53), func() { exchange(t, c, 1450, 3, 0) })
	checkVerdict(t, r.Verdict, path.Dropped, path.CauseMTUBlackhole)
	if r.Watch.TooBig < 3 || !slices.ContainsFunc(r.Watch.Places, func(p path.MTUWatchPlace) bool {
		return p.Device == "eth0" && p.Namespace == "web" && p.TooBig > 0 && p.Smallest > 1404
	}) {
		t.Errorf("got %+v, want three drops, some of them at eth0 of web", r.Watch)
	}
}

// TestTooBigRule: an ordinary trace names the rule that ate the ICMP error, too.
func TestTooBigRule(t *testing.T) {
	c := newChain(t, false, 1500)
	c.narrow(t, 1400)
	shell(t, c.near, "nft 'add table inet fw; add chain inet fw out { type filter hook output priority 0; }; add rule inet fw out icmp type destination-unreachable drop'")
	w := watch(t, c.Lab, c.to(53), func(cfg *tracer.Config) { cfg.Proto, cfg.Count = path.UDP, 1 })
	conn, err := c.client.Dial(t.Context(), "udp", c.to(53))
	labtest.Must(t, err)
	defer conn.Close()
	_, err = conn.Write(make([]byte, 1450)) // of UDP, Linux sets DF
	labtest.Must(t, err)
	o := w.wait(t)
	v := o.flows[0].Verdict
	checkVerdict(t, v, path.Dropped, path.CauseMTUBlackhole)
	if v.Where == nil || v.Where.Rule == nil || v.Where.Rule.Chain != "out" || len(v.Remedy) == 0 ||
		!strings.Contains(v.Remedy[0], "nft insert rule inet fw out icmp type destination-unreachable icmp code frag-needed accept") {
		t.Errorf("where %+v, remedy %q, want the rule and what lets the error pass", v.Where, v.Remedy)
	}
	t.Log(v.Summary, v.Evidence)
}
