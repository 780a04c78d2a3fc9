//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// swarm is two hosts with an overlay network, and a web server on each.
type swarm struct {
	t        *testing.T
	one, two *host
	net      *network // as one sees it; its namespaces are on both
	id       string
	o1, o2   *container
}

// newSwarm makes the hosts of two spare engines a swarm. They are none of those with --live-restore,
// which a swarm refuses.
func newSwarm(t *testing.T, flags ...string) *swarm {
	t.Helper()
	s := &swarm{t: t, one: spare(t, plain), two: spare(t, noProxy)}
	s.one.must(t, append([]string{"swarm", "init", "--advertise-addr", s.one.Addr.String()}, flags...)...)
	t.Cleanup(func() { s.one.leave(t) })
	token := s.one.must(t, "swarm", "join-token", "-q", "worker")
	s.two.must(t, "swarm", "join", "--token", token, "--advertise-addr", s.two.Addr.String(), s.one.Addr.String()+":2377")
	t.Cleanup(func() { s.two.leave(t) })
	s.net, s.id = s.overlay(t)
	s.o1, s.o2 = s.pair(t, s.net)
	s.until(t, "entries for the other host's container", func() bool { return s.told(s.one, s.o2) && s.told(s.two, s.o1) })
	return s
}

// leave ends the membership of a host.
func (h *host) leave(t *testing.T) {
	t.Helper()
	h.must(t, "swarm", "leave", "--force")
	h.must(t, "network", "rm", "docker_gwbridge")
}

// overlay creates an overlay network and returns it with its ID.
func (s *swarm) overlay(t *testing.T, flags ...string) (*network, string) {
	t.Helper()
	n := &network{h: s.one, Name: unique("ov")}
	number := serial.Add(1)
	subnet := fmt.Sprintf("10.%d.%d.0/24", 214+number/256, number%256) // not the one that every swarm begins with
	id := s.one.must(t, append(append([]string{"network", "create", "-d", "overlay", "--attachable", "--subnet", subnet}, flags...), n.Name)...)
	t.Cleanup(func() { _ = s.one.docker("network", "rm", n.Name) })
	return n, id
}

// pair starts a web server on each host.
func (s *swarm) pair(t *testing.T, n *network) (first, second *container) {
	t.Helper()
	return s.one.runs(t, "o", "tcp :80", "--network", n.Name), s.two.runs(t, "o", "tcp :80", "--network", n.Name)
}

// until waits for what the engines tell each other.
func (s *swarm) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	if !eventually(15*time.Second, ok) {
		t.Fatalf("no %s", what)
	}
}

// hidden is the namespace that a host's engine keeps for the network.
func (s *swarm) hidden(h *host) string {
	return filepath.Join(h.Dir, "exec", "netns", "1-"+s.id[:10])
}

// inside runs a tool of the machine in that namespace.
func (s *swarm) inside(t *testing.T, h *host, name string, args ...string) string {
	t.Helper()
	return inNetNS(t, s.hidden(h), name, args...)
}

// told reports whether a host knows where a container of the other is.
func (s *swarm) told(h *host, c *container) bool {
	fdb, err := runInNetNS(s.hidden(h), "bridge", "fdb", "show", "dev", "vxlan0")
	neigh, err2 := runInNetNS(s.hidden(h), "ip", "neigh", "show", "dev", "vxlan0")
	return err == nil && err2 == nil && strings.Contains(fdb, c.mac(s.net)) && strings.Contains(neigh, c.addr(s.net).String()+" ")
}

func (c *container) mac(n *network) string {
	c.t.Helper()
	return c.inspect(`{{(index .NetworkSettings.Networks "` + n.Name + `").MacAddress}}`)
}

// both are the arguments that add the other host's engine.
func (s *swarm) both(args ...string) []string {
	return append([]string{"--docker-host", "unix://" + s.two.Socket}, args...)
}

// probes traces from o1 to o2, seen by the first host's engine alone and by both. Whether a packet that
// waits for a MAC address is dropped before the probe ends is chance, so text and JSON may differ in that.
//
// Soon after a host is cut off, the others forget its containers: quick leaves the text out.
func (s *swarm) probes(t *testing.T, w want, quick bool) {
	t.Helper()
	ends := []string{"--from", s.o1.Name, "--to", s.o2.Name + ":80"}
	for i, args := range [][]string{append(ends, brief...), s.both(append(ends, brief...)...)} {
		r := s.one.run(t, append(slices.Clone(args), "-o", "json")...)
		if len(r.verdicts) != 1 {
			t.Fatalf("%v: %d verdicts\n%s%s", args, len(r.verdicts), r.stdout, r.stderr)
		}
		r.verdict(w)
		if i == 0 && !quick {
			text := s.one.run(t, args...)
			text.has(w.Says...)
			t.Logf("%v\n%s%s", args, text.stdout, text.stderr)
		}
	}
}

// outer is what the text says of the tunnel.
func (s *swarm) outer() []string {
	return []string{"VXLAN 4097: " + s.one.Addr.String() + " → " + s.two.Addr.String(),
		"VXLAN 4097 decapsulated, came from " + s.one.Addr.String(),
		"VXLAN 4097: " + s.two.Addr.String() + " → " + s.one.Addr.String(),
		"VXLAN 4097 decapsulated, came from " + s.two.Addr.String()}
}

// TestOverlay follows connections through an overlay between two hosts, and breaks it.
func TestOverlay(t *testing.T) {
	s := newSwarm(t)
	t.Run("delivered", s.delivered)
	t.Run("encrypted", s.encrypted)
	t.Run("service", s.service)
	t.Run("several hosts", s.severalHosts)
	t.Run("one view", s.oneView)
	for _, kind := range []string{docker26, docker29Iptables} {
		t.Run("Docker "+kind, func(t *testing.T) { s.generation(t, kind) })
	}
	t.Run("latency", s.latency)
	t.Run("soak", s.soak)
	t.Run("vanished", s.vanished)
	for _, row := range overlayOutages(s) {
		t.Run(row.name, func(t *testing.T) {
			row.break_(t)
			s.probes(t, row.want, row.cutOff)
			row.repair(t)
			s.until(t, "contact again", func() bool { return s.told(s.one, s.o2) && s.told(s.two, s.o1) })
			r := s.one.run(t, s.both("--from", s.o1.Name, "--to", s.o2.Name+":80", "-o", "json")...)
			if len(r.verdicts) != 1 || r.verdicts[0].Outcome != path.Delivered || len(r.verdicts[0].Warnings) > 0 {
				t.Errorf("after the repair: %s%s", lastVerdict(r), r.stderr)
			}
		})
	}
}

// delivered: every step both ways, with names, inner and outer packet.
func (s *swarm) delivered(t *testing.T) {
	on := func(h *host) string { return "overlay " + s.net.Name + " on " + h.NetNS }
	way := func(dir path.Direction, from, to *container) []hop {
		return []hop{
			{Container: from.Name, Direction: dir, Device: "eth0", Network: s.net.Name, Action: path.ActionTransmit},
			{Namespace: on(from.h), Direction: dir, Device: "vxlan0", Kind: "vxlan", Network: s.net.Name, Action: path.ActionTransmit},
			{Namespace: from.h.NetNS, Direction: dir, Device: "eth0", Stage: path.StageVXLAN, Action: path.ActionEncapsulate},
			{Namespace: from.h.NetNS, Direction: dir, Device: "eth0", Stage: path.StageDevice, Action: path.ActionTransmit},
			{Namespace: to.h.NetNS, Direction: dir, Device: "eth0", Stage: path.StageDevice, Action: path.ActionReceive},
			{Namespace: to.h.NetNS, Direction: dir, Stage: path.StageInput, Action: path.ActionLeave},
			{Namespace: on(to.h), Direction: dir, Device: "vxlan0", Kind: "vxlan", Stage: path.StageVXLAN, Action: path.ActionDecapsulate},
			{Container: to.Name, Direction: dir, Device: "eth0", Network: s.net.Name, Action: path.ActionReceive},
		}
	}
	hops := append(way(path.Request, s.o1, s.o2), way(path.Reply, s.o2, s.o1)...)
	r := s.one.probe(t, want{Outcome: path.Delivered, Hops: hops, Says: append(s.outer(), on(s.one), "container "+s.o2.Name)},
		s.o1.Name, s.o2.Name+":80", s.both()...)
	if i := slices.IndexFunc(r.hops, func(h path.Hop) bool { return h.Outer != nil }); i < 0 || r.hops[i].Outer.VNI != 4097 ||
		!strings.HasPrefix(r.hops[i].Outer.Dst, s.two.Addr.String()+":") {
		t.Errorf("no hop in VXLAN 4097 to %s", s.two.Addr)
	}
	for _, args := range [][]string{{"--proto", "udp"}, {"--proto", "icmp"}} {
		to := s.o2.Name
		if args[1] == "udp" {
			to += ":53" // nobody listens, and that is what has to come back
		}
		r := s.one.run(t, append(s.both("--from", s.o1.Name, "--to", to, "-o", "json"), args...)...)
		if len(r.verdicts) != 1 || (r.verdicts[0].Outcome != path.Delivered && r.verdicts[0].Cause != path.CauseNotListening) {
			t.Errorf("%v: %d verdicts\n%s%s", args, len(r.verdicts), r.stdout, r.stderr)
		}
	}
	// With its own engine alone, a host knows the other's container by the name server only.
	s.one.probe(t, want{Outcome: path.Delivered, Says: s.outer()}, s.o1.Name, s.o2.Name+":80")
	s.two.probe(t, want{Outcome: path.Delivered, Says: s.outer()}, s.o2.Name, s.o1.Name+":80")
}

// overlayOutage breaks the overlay, and says what has to be concluded with one engine and with both.
type overlayOutage struct {
	name           string
	break_, repair func(*testing.T)
	want           want
	cutOff         bool // the engines cannot talk to each other
}

func overlayOutages(s *swarm) []overlayOutage {
	mac, addr := s.o2.mac(s.net), s.o2.addr(s.net).String()
	dead := netip.AddrFrom4([4]byte{10, 213, s.two.Addr.As4()[2], 77}).String()
	block := []string{"INPUT", "-p", "udp", "--dport", "4789", "-j", "DROP"}
	fdb := func(h *host, action, to string) func(*testing.T) {
		return func(t *testing.T) {
			s.inside(t, h, "bridge", "fdb", action, mac, "dev", "vxlan0", "dst", to, "self", "permanent")
		}
	}
	forget := func(t *testing.T) { s.o1.do("ip", "neigh", "flush", "all") }
	link := func(state string) func(*testing.T) {
		return func(t *testing.T) {
			outsideDo(t, "ip", "link", "set", strings.Replace(s.two.NetNS, shared.Outside[:len(shared.Outside)-len("outside")]+"host", "lan", 1), state)
		}
	}
	misrouted := func(says ...string) want {
		return want{Outcome: path.Dropped, Outcomes: []path.Outcome{path.Lost}, Cause: path.CauseOverlayMisrouted, Says: says}
	}
	return []overlayOutage{
		{name: "u1 UDP 4789 blocked at the peer",
			break_: func(t *testing.T) { s.two.do(t, "iptables", append([]string{"-w", "-I"}, block...)...) },
			repair: func(t *testing.T) { s.two.do(t, "iptables", append([]string{"-w", "-D"}, block...)...) },
			want: want{Outcome: path.Dropped, Cause: path.CauseFirewallDrop, Namespace: s.two.NetNS, Direction: path.Request,
				Says: []string{"rule 1 of chain INPUT", "--dport 4789 -j DROP", "the VXLAN packet that carried it", "VNI 4097"}}},
		{name: "u2 another VNI at the peer",
			break_: func(t *testing.T) { s.remake(t, s.two, "5000") },
			repair: func(t *testing.T) { s.remake(t, s.two, "4097") },
			want:   misrouted("VXLAN 4097, which none of the VXLAN devices there has", "5000 (vxlan0 in overlay "+s.net.Name)},
		{name: "u4 forwarding entry to another host", break_: fdb(s.one, "replace", dead), repair: fdb(s.one, "replace", s.two.Addr.String()),
			want: misrouted("the wrong tunnel endpoint, "+dead, mac)},
		{name: "u4 no forwarding entry", break_: fdb(s.one, "del", s.two.Addr.String()), repair: fdb(s.one, "replace", s.two.Addr.String()),
			want: misrouted("knows no tunnel endpoint for " + mac)},
		{name: "u6 no neighbour entry",
			break_: func(t *testing.T) { s.inside(t, s.one, "ip", "neigh", "del", addr, "dev", "vxlan0"); forget(t) },
			repair: func(t *testing.T) {
				s.inside(t, s.one, "ip", "neigh", "replace", addr, "lladdr", mac, "dev", "vxlan0", "nud", "permanent")
				forget(t)
			},
			want: misrouted("has no entry for " + addr)},
		{name: "u7 link of the peer down", break_: link("down"), repair: link("up"), cutOff: true,
			want: want{Outcome: path.Dropped, Outcomes: []path.Outcome{path.Lost}, Causes: []path.Cause{path.CauseLinkDown, path.CauseOverlayPeerUnreachable}}},
		{name: "the peer gets nothing", break_: s.void, repair: func(t *testing.T) { outsideDo(t, "ip", "link", "del", "void") }, cutOff: true,
			want: want{Outcome: path.Lost, Outcomes: []path.Outcome{path.Dropped}, Cause: path.CauseOverlayPeerUnreachable,
				Says: []string{"sent to tunnel endpoint " + s.two.Addr.String(), "tcpdump -ni any udp port 4789", "takes part in overlay"}}},
	}
}

// void sends the frames for the second host where nobody wants them, without anybody dropping them: as
// far as can be seen, they left.
func (s *swarm) void(t *testing.T) {
	t.Helper()
	name := strings.TrimSuffix(shared.Outside, "outside") + "void"
	outsideDo(t, "ip", "netns", "add", name)
	t.Cleanup(func() { outsideDo(t, "ip", "netns", "del", name) })
	outsideDo(t, "ip", "link", "add", "void", "type", "veth", "peer", "name", "eth0", "netns", name)
	outsideDo(t, "ip", "link", "set", "void", "master", "br-lan", "up")
	outsideDo(t, "ip", "-n", name, "link", "set", "eth0", "up")
	_, rest, _ := strings.Cut(s.two.do(t, "ip", "-o", "link", "show", "eth0"), "link/ether ")
	mac, _, _ := strings.Cut(rest, " ")
	// On a slow machine the first host would find out by ARP that nobody is there.
	s.one.do(t, "ip", "neigh", "replace", s.two.Addr.String(), "lladdr", mac, "dev", "eth0", "nud", "permanent")
	t.Cleanup(func() { s.one.do(t, "ip", "neigh", "del", s.two.Addr.String(), "dev", "eth0") })
	outsideDo(t, "bridge", "fdb", "replace", mac, "dev", "void", "master", "static", "sticky")
}

// remake makes the VXLAN device of a host's overlay anew with another number, with the same entries.
func (s *swarm) remake(t *testing.T, h *host, vni string) {
	t.Helper()
	ns := s.hidden(h)
	fdb, neigh := s.inside(t, h, "bridge", "fdb", "show", "dev", "vxlan0"), s.inside(t, h, "ip", "neigh", "show", "dev", "vxlan0")
	s.inside(t, h, "ip", "link", "del", "vxlan0")
	h.do(t, "ip", "link", "add", "vxtmp", "type", "vxlan", "id", vni, "dstport", "4789", "proxy", "l2miss", "l3miss")
	link := filepath.Join("/run/netns", unique(filepath.Base(strings.TrimSuffix(shared.Outside, "outside"))))
	f, err := os.OpenFile(link, os.O_CREATE|os.O_EXCL, 0o600)
	check(t, err)
	check(t, f.Close())
	h.do(t, "mount", "--bind", ns, link)
	h.do(t, "ip", "link", "set", "vxtmp", "netns", filepath.Base(link))
	h.do(t, "umount", link)
	check(t, os.Remove(link))
	s.inside(t, h, "ip", "link", "set", "vxtmp", "name", "vxlan0", "mtu", "1450", "master", "br0", "up")
	for line := range strings.Lines(fdb) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "dst" {
			s.inside(t, h, "bridge", "fdb", "replace", f[0], "dev", "vxlan0", "dst", f[2], "self", "permanent")
		}
	}
	for line := range strings.Lines(neigh) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "lladdr" {
			s.inside(t, h, "ip", "neigh", "replace", f[0], "lladdr", f[2], "dev", "vxlan0", "nud", "permanent")
		}
	}
}
