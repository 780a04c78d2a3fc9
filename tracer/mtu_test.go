package tracer_test

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

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

// applyAll runs all remedies.
func (m measured) applyAll(t *testing.T, ns *lab.Namespace) {
	t.Helper()
	if len(m.Verdict.Remedy) == 0 {
		t.Fatal("no remedy")
	}
	for _, r := range m.Verdict.Remedy {
		shell(t, ns, r)
	}
}

func both(t *testing.T, test func(t *testing.T, v6 bool)) {
	for _, v6 := range []bool{false, true} {
		t.Run(family(v6), func(t *testing.T) {
			t.Parallel()
			test(t, v6)
		})
	}
}

func TestMTUOpenPath(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
		m.applyAll(t, c.near)
		m = measure(t, c.Lab, "client", c.to(80), 1450, nil)
		checkVerdict(t, m.Verdict, path.Delivered, "")
		if text := m.text(); v6 && !strings.Contains(text, "has learned an MTU of 1400 for this path, and 1450 pass by now") {
			t.Error("nothing is said of the exception that hides the change")
		}
	})
}

// TestMTUFiltered: a router tells, and a rule eats it, in either direction.
func TestMTUFiltered(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
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
			for _, d := range []path.Direction{path.Request, path.Reply} {
				if e := m.direction(t, d).End; !v6 && (e.Fragmented == nil || !e.FragmentsPass) {
					t.Errorf("%s to %s: fragmented %+v, passed %v, want fragments that arrive", proto, to, e.Fragmented, e.FragmentsPass)
				}
			}
		}
	})
}

// TestMTUJumbo: a jumbo network with one ordinary link.
func TestMTUJumbo(t *testing.T) {
	t.Parallel()
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
	t.Parallel()
	c := newChain(t, false, 1500)
	shell(t, c.near, "ip route change default via 10.91.2.2 mtu lock 1300")
	m := measure(t, c.Lab, "client", c.to(80), 1400, nil)
	m.checkMTU(t, path.Request, 1300, path.DiscoveryWorks, "")
	m.checkMTU(t, path.Reply, 1500, path.DiscoveryUnneeded, "")
	checkVerdict(t, m.Verdict, path.Dropped, path.CausePacketTooBig)
	if !strings.Contains(m.Verdict.Summary, "the route to 10.91.3.2 in near") {
		t.Errorf("summary: %s, want the route that is the limit", m.Verdict.Summary)
	}
	m.apply(t, c.near, "ip route replace 10.91.3.2 via 10.91.2.2 dev mid")
	m = measure(t, c.Lab, "client", c.to(80), 1400, nil)
	checkVerdict(t, m.Verdict, path.Delivered, "")
}

// TestMTUFloor: an IPv6 link of the least size that there may be.
func TestMTUFloor(t *testing.T) {
	t.Parallel()
	c := newChain(t, true, 1500)
	c.narrow(t, 1280)
	m := measure(t, c.Lab, "client", c.to(80), 0, nil)
	checkVerdict(t, m.Verdict, path.Delivered, "")
	m.checkMTU(t, path.Request, 1280, path.DiscoveryWorks, "near mid")
	if e := m.direction(t, path.Request).End; e.Fragmented != nil || e.FragmentsPass {
		t.Errorf("end: %+v, want no fragments: routers of IPv6 make none", e)
	}
}
