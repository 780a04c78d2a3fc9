package tracer_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

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
	t.Parallel()
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
	t.Parallel()
	c := newChain(t, false, 1500)
	c.narrow(t, 1400)
	learnMTU(t, c)
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
	t.Parallel()
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
	t.Parallel()
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
	t.Parallel()
	c := newChain(t, false, 1500)
	m := measure(t, c.Lab, "client", c.to(81), 0, nil)
	checkVerdict(t, m.Verdict, path.Refused, path.CauseNotListening)
	if len(m.Directions) != 0 {
		t.Errorf("got %d directions, want none", len(m.Directions))
	}
}

// watchMTU watches while traffic runs, and records what it sees: the recording shows the same.
func watchMTU(t *testing.T, c *chain, proto path.Proto, to string, traffic func()) tracer.MTUWatchResult {
	t.Helper()
	var o observed
	cfg := config(c.Lab, &o)
	var out recorded
	cfg.Target, cfg.Proto, cfg.AllPackets = to, proto, true
	cfg.Record = &tracer.RecordConfig{Open: func(int) (io.WriteCloser, error) { return &out, nil }}
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
	again, err := tracer.ReplayMTUWatch(t.Context(), tracer.ReplayConfig{}, tracer.Input{Name: "watch", Reader: bytes.NewReader(out.Bytes())})
	labtest.Must(t, err)
	again.Watch.Seconds = got.r.Watch.Seconds // of which the recording knows the part after its beginning
	if !reflect.DeepEqual(again.Watch, got.r.Watch) || !reflect.DeepEqual(again.Verdict, got.r.Verdict) {
		t.Errorf("replayed: %+v\n%+v\nlive: %+v\n%+v", again.Watch, again.Verdict, got.r.Watch, got.r.Verdict)
	}
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
	t.Parallel()
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

// TestMTULocal: both ends in one namespace, over its loopback device.
func TestMTULocal(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Options{})
	a := labtest.Namespace(t, l, "a")
	labtest.Must(t, a.WaitUp(t.Context()))
	_, err := a.TCPServer("127.0.0.1:80", nil)
	labtest.Must(t, err)
	m := measure(t, l, "a", "127.0.0.1:80", 0, nil)
	checkVerdict(t, m.Verdict, path.Delivered, "")
	m.checkMTU(t, path.Request, 65535, path.DiscoveryUnneeded, "")
	m.checkMTU(t, path.Reply, 65535, path.DiscoveryUnneeded, "")
}
