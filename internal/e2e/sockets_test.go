//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// dialFrom opens a socket in a network namespace.
func dialFrom(t *testing.T, namespace string, d *net.Dialer, network, addr string) (conn net.Conn, err error) {
	t.Helper()
	ns, err := netns.Open(namespace)
	check(t, err)
	defer ns.Close()
	doErr := netns.Do(ns, func() error {
		conn, err = d.Dial(network, addr)
		return nil
	})
	check(t, doErr)
	return conn, err
}

func outsidePath() string { return filepath.Join("/run/netns", shared.Outside) }

// listenOn opens a listening socket in the host's namespace, owned by this test, that answers.
func (h *host) listenOn(t *testing.T, port uint16) uint16 {
	t.Helper()
	ns, err := netns.Open(filepath.Join("/run/netns", h.NetNS))
	check(t, err)
	defer ns.Close()
	var ln net.Listener
	check(t, netns.Do(ns, func() (err error) {
		ln, err = net.Listen("tcp4", fmt.Sprintf(":%d", port))
		return err
	}))
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(c, "hello")
			c.Close()
		}
	}()
	return ln.Addr().(*net.TCPAddr).AddrPort().Port()
}

// chatter sends a datagram every 50 ms from a fixed port of the outside until the test ends, and counts
// the answers.
type chatter struct {
	mu      sync.Mutex
	sent    int
	answers int
}

func (c *chatter) counts() (sent, answers int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent, c.answers
}

func startChatter(t *testing.T, to netip.AddrPort, port int) *chatter {
	t.Helper()
	conn, err := dialFrom(t, outsidePath(), &net.Dialer{LocalAddr: &net.UDPAddr{Port: port}}, "udp4", to.String())
	check(t, err)
	c := &chatter{}
	stop := make(chan struct{})
	var all sync.WaitGroup
	t.Cleanup(func() { close(stop); conn.Close(); all.Wait() })
	all.Go(func() {
		buf := make([]byte, 512)
		for {
			_, err := conn.Read(buf)
			select {
			case <-stop:
				return
			default:
			}
			if err == nil {
				c.mu.Lock()
				c.answers++
				c.mu.Unlock()
			}
		}
	})
	all.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = conn.Write([]byte("hello")) // refused until somebody listens
				c.mu.Lock()
				c.sent++
				c.mu.Unlock()
			}
		}
	})
	if !eventually(10*time.Second, func() bool { sent, _ := c.counts(); return sent > 3 }) {
		t.Fatal("nothing is sent")
	}
	return c
}

// watchDatagrams watches for three seconds and returns the verdict on the flow from a port of the outside.
func (h *host) watchDatagrams(t *testing.T, to string, from uint16) (*result, path.Verdict) {
	t.Helper()
	r := h.run(t, "--to", to, "--proto", "udp", "--duration", "3s", "-o", "json")
	client := netip.AddrPortFrom(shared.OutsideAddr, from).String()
	i := slices.IndexFunc(r.verdicts, func(v path.Verdict) bool { return v.Src == client })
	if i < 0 {
		t.Fatalf("no verdict on the flow from %s\n%s%s", client, tailOf(r.stdout), r.stderr)
	}
	return r, r.verdicts[i]
}

// forgetFlows removes the host's entries of flows to a port, as conntrack -D does.
func (h *host) forgetFlows(t *testing.T, proto uint8, port uint16) {
	t.Helper()
	ns, err := netns.Open(filepath.Join("/run/netns", h.NetNS))
	check(t, err)
	defer ns.Close()
	filter := &netlink.ConntrackFilter{}
	check(t, filter.AddProtocol(proto))
	check(t, filter.AddPort(netlink.ConntrackOrigDstPort, port))
	check(t, netns.Do(ns, func() error {
		n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter)
		if err == nil && n == 0 {
			err = fmt.Errorf("no entry to port %d", port)
		}
		return err
	}))
}

// TestStaleEntry: a client talks before the port is published and keeps its entry without translation.
func TestStaleEntry(t *testing.T) {
	const port, from = 5353, 44444
	h := spare(t, noProxy)
	n := h.network(t)
	chat := startChatter(t, netip.AddrPortFrom(h.Addr, port), from)
	us := n.h.runs(t, "us", "udp :5353", "--network", n.Name, "-p", "5353:5353/udp")
	r, v := h.watchDatagrams(t, us.Name+":5353", from)
	if v.Outcome != path.Misdelivered || v.Cause != path.CauseConntrackStale {
		t.Errorf("got %s %s, want misdelivered conntrack-stale\n%s", v.Outcome, v.Cause, lastVerdict(r))
	}
	for _, part := range []string{"dockerd", "conntrack -D -p udp", fmt.Sprint(from)} {
		if text := strings.Join(append(v.Evidence, append(v.Remedy, v.Summary)...), "\n"); !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, text)
		}
	}
	h.forgetFlows(t, unix.IPPROTO_UDP, port)
	if !eventually(10*time.Second, func() bool { _, answers := chat.counts(); return answers > 0 }) {
		t.Fatal("no answer after the entry was removed")
	}
	if r, v := h.watchDatagrams(t, us.Name+":5353", from); v.Outcome != path.Delivered || len(v.Warnings) > 0 {
		t.Errorf("after the undo: %s", lastVerdict(r))
	}
}

// TestStaleEntryBehindProxy: with docker-proxy the same flow is answered, by a detour.
func TestStaleEntryBehindProxy(t *testing.T) {
	const port = 5354
	h := spare(t, plain)
	n := h.network(t)
	startChatter(t, netip.AddrPortFrom(h.Addr, port), 44445)
	us := h.runs(t, "us", "udp :5354", "--network", n.Name, "-p", "5354:5354/udp")
	r, v := h.watchDatagrams(t, us.Name+":5354", 44445)
	warned := slices.ContainsFunc(v.Warnings, func(w path.Warning) bool { return w.Cause == path.CauseConntrackStale })
	if v.Outcome != path.Delivered || !warned {
		t.Errorf("want delivered with a warning\n%s", lastVerdict(r))
	}
}

// TestAcceptQueue fills the queue of a server that accepts nothing.
func TestAcceptQueue(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	st := h.runs(t, "st", "deaf :80", "--network", n.Name, "-p", "80")
	at := st.published("80/tcp")
	p := h.launch(t, "--to", st.Name+":80", "--duration", "6s", "-o", "json")
	p.ready()
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			conn, err := dialFrom(t, outsidePath(), &net.Dialer{Timeout: 4 * time.Second}, "tcp4", at.String())
			if err == nil {
				t.Cleanup(func() { conn.Close() })
			}
		})
	}
	all.Wait()
	r := p.wait()
	got := map[path.Cause]int{}
	for _, v := range r.verdicts {
		got[v.Cause]++
	}
	if len(r.verdicts) != 6 || got[path.CauseAcceptQueueFull] < 3 || got[path.CauseAcceptQueueFull]+got[""] != 6 {
		t.Errorf("watched: got %v, want 6 flows, those without a place in the queue with %s\n%s", got,
			path.CauseAcceptQueueFull, tailOf(r.stdout))
	}
	h.probe(t, want{
		Outcome: path.Dropped, Cause: path.CauseAcceptQueueFull, Stage: path.StageTCP, Container: st.Name,
		Says: []string{"ptserver", "backlog is 1"},
	}, shared.Outside, at.String(), brief...)
}

// TestPortConflict: a port that is taken keeps a container from its start, and the requests from it.
func TestPortConflict(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	start := func(prefix string, port uint16) string {
		t.Helper()
		name := unique(prefix)
		t.Cleanup(func() { _ = h.docker("rm", "-f", name) })
		if err := h.docker("run", "-d", "--name", name, "--network", n.Name, "-p", fmt.Sprintf("%d:80", port), image, "tcp", ":80"); err == nil {
			t.Fatalf("%s started although port %d is taken", name, port)
		}
		return name
	}
	conflict := want{Outcome: path.NoTraffic, Cause: path.CausePortConflict}
	t.Run("by another container", func(t *testing.T) {
		web := n.server(t, "-p", "80")
		pp := start("pp", web.published("80/tcp").Port())
		w := conflict
		w.Says = []string{"since container " + web.Name + " has port", "docker stop " + web.Name}
		h.probe(t, w, shared.Outside, pp+":80")
		h.probe(t, want{Outcome: path.Delivered}, shared.Outside, web.published("80/tcp").String())
	})
	t.Run("by a process of the host", func(t *testing.T) {
		port := h.listenOn(t, 0)
		pp := start("pp", port)
		w := conflict
		w.Says = []string{"e2e.test", "address already in use"}
		h.probe(t, w, shared.Outside, pp+":80")
		r := h.probe(t, want{Outcome: path.Delivered}, shared.Outside, netip.AddrPortFrom(h.Addr, port).String())
		if len(r.verdicts[0].Warnings) != 1 || r.verdicts[0].Warnings[0].Cause != path.CausePortConflict {
			t.Errorf("by address: got %+v, want a warning of %s", r.verdicts[0].Warnings, path.CausePortConflict)
		}
	})
}

// TestPortTaken: the proxy of a published port is gone and somebody else has its place.
func TestPortTaken(t *testing.T) {
	h := spare(t, plain)
	n := h.network(t)
	web := n.server(t, "-p", "80")
	at := web.published("80/tcp")
	for _, field := range strings.Fields(h.do(t, "pgrep", "-f", fmt.Sprintf("docker-proxy.* -host-port %d ", at.Port()))) {
		inNetNS(t, filepath.Join("/run/netns", h.NetNS), "kill", field)
	}
	h.saveRules(t)
	h.do(t, "iptables", "-w", "-t", "nat", "-F")
	if !eventually(10*time.Second, func() bool {
		conn, err := dialFrom(t, outsidePath(), &net.Dialer{Timeout: time.Second}, "tcp4", at.String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	}) {
		t.Fatal("docker-proxy still answers")
	}
	h.listenOn(t, at.Port())
	h.probe(t, want{
		Outcome: path.Misdelivered, Cause: path.CausePortConflict, Namespace: "host", Stage: path.StageSocket,
		Says: []string{"e2e.test", web.Name},
	}, shared.Outside, web.Name+":80")
}

// TestNATExhausted: two ports for the source translation, and both are in use.
func TestNATExhausted(t *testing.T) {
	h := spare(t, plain)
	n := h.network(t)
	client := n.client(t)
	to := netip.AddrPortFrom(shared.OutsideAddr, serveOutside(t))
	rule := []string{"-s", client.addr(n).String(), "-p", "tcp", "-j", "MASQUERADE", "--to-ports", "40000-40001"}
	h.do(t, "iptables", append([]string{"-w", "-t", "nat", "-I", "POSTROUTING"}, rule...)...)
	undo := sync.OnceFunc(func() { h.do(t, "iptables", append([]string{"-w", "-t", "nat", "-D", "POSTROUTING"}, rule...)...) })
	t.Cleanup(undo)
	var held []net.Conn
	for range 2 {
		conn, err := dialFrom(t, client.inspect("{{.NetworkSettings.SandboxKey}}"), &net.Dialer{Timeout: 5 * time.Second}, "tcp4", to.String())
		check(t, err)
		held = append(held, conn)
	}
	h.probe(t, want{
		Outcome: path.Dropped, Cause: path.CauseNATExhausted, Stage: path.StagePostrouting, Namespace: "host",
		Says: []string{"no free port", "2 ports of"},
	}, client.Name, to.String(), brief...)
	for _, conn := range held {
		conn.Close()
	}
	undo()
	h.probe(t, want{Outcome: path.Delivered}, client.Name, to.String())
}

// TestPausedDatagram: a paused container takes datagrams and answers none.
func TestPausedDatagram(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	echo, client := h.runs(t, "echo", "udp :53", "--network", n.Name), n.client(t)
	to := echo.Name + ":53"
	h.must(t, "pause", echo.Name)
	r := h.run(t, append([]string{"--from", client.Name, "--to", to, "--proto", "udp", "-o", "json"}, brief...)...)
	if len(r.verdicts) != 1 || r.verdicts[0].Outcome != path.Delivered || len(r.verdicts[0].Warnings) != 1 ||
		r.verdicts[0].Warnings[0].Cause != path.CauseContainerPaused {
		t.Errorf("want delivered with a warning of %s\n%s%s", path.CauseContainerPaused, r.stdout, r.stderr)
	}
	h.must(t, "unpause", echo.Name)
	h.probe(t, want{Outcome: path.Delivered, Says: []string{"answered"}}, client.Name, to, "--proto", "udp")
}

// TestNotListeningThere says on which port the service does listen.
func TestNotListeningThere(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := h.runs(t, "web", "tcp :8000", "--network", n.Name, "-p", "80")
	h.probe(t, want{
		Outcome: path.Refused, Cause: path.CauseNotListening, Container: web.Name,
		Says: []string{"container " + web.Name + " does listen on [::]:8000"},
	}, shared.Outside, web.published("80/tcp").String())
}

// TestProxyToNobody: docker-proxy takes a datagram that nobody in the container wants.
func TestProxyToNobody(t *testing.T) {
	h := spare(t, plain)
	n := h.network(t)
	mute := h.runs(t, "mute", "idle", "--network", n.Name, "-p", "53/udp")
	to := mute.published("53/udp").String()
	h.saveRules(t)
	h.do(t, "iptables", "-w", "-t", "nat", "-F")
	r := h.run(t, append([]string{"--from", shared.Outside, "--to", to, "--proto", "udp", "-o", "json"}, brief...)...)
	if len(r.verdicts) != 1 || r.verdicts[0].Outcome == path.Delivered || r.verdicts[0].Cause != path.CauseNotListening {
		t.Errorf("want %s\n%s%s", path.CauseNotListening, lastVerdict(r), r.stderr)
	}
}

// TestInvalid: the entry of a connection is gone, and a rule drops what fits no connection.
func TestInvalid(t *testing.T) {
	h := spare(t, plain)
	n := h.network(t)
	client := n.client(t)
	ns, err := netns.Open(outsidePath())
	check(t, err)
	defer ns.Close()
	var ln net.Listener
	check(t, netns.Do(ns, func() (err error) { ln, err = net.Listen("tcp4", ":0"); return err }))
	defer ln.Close()
	to := netip.AddrPortFrom(shared.OutsideAddr, ln.Addr().(*net.TCPAddr).AddrPort().Port()).String()
	conn, err := dialFrom(t, client.inspect("{{.NetworkSettings.SandboxKey}}"), &net.Dialer{Timeout: 5 * time.Second}, "tcp4", to)
	check(t, err)
	defer conn.Close()
	server, err := ln.Accept()
	check(t, err)
	defer server.Close()
	rule := []string{"FORWARD", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"}
	h.do(t, "iptables", append([]string{"-w", "-I"}, rule...)...)
	t.Cleanup(func() { h.do(t, "iptables", append([]string{"-w", "-D"}, rule...)...) })
	h.sysctl(t, "net.netfilter.nf_conntrack_tcp_loose", "0")
	p := h.launch(t, "--to", to, "--count", "1", "--duration", "20s", "--all-packets", "-o", "json")
	p.ready()
	h.forgetFlows(t, unix.IPPROTO_TCP, ln.Addr().(*net.TCPAddr).AddrPort().Port())
	_, err = conn.Write([]byte("hello\n"))
	check(t, err)
	r := p.wait()
	if len(r.verdicts) != 1 {
		t.Fatalf("got %d verdicts, want one\n%s%s", len(r.verdicts), tailOf(r.stdout), r.stderr)
	}
	v := r.verdicts[0]
	if v.Outcome != path.Dropped || v.Cause != path.CauseConntrackInvalid || v.Where == nil || v.Where.Rule == nil ||
		v.Where.Rule.Text != "-A FORWARD -m conntrack --ctstate INVALID -j DROP" {
		t.Errorf("want dropped %s by the rule\n%s", path.CauseConntrackInvalid, lastVerdict(r))
	}
}

// TestWatchLetsGo: the hooks of a namespace that is gone are let go, for they would keep it alive.
func TestWatchLetsGo(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t)
	p := h.launch(t, "--to", web.Name+":80", "-o", "json")
	p.ready()
	before := len(held(p.cmd.Process.Pid)["link"])
	h.must(t, "rm", "-f", web.Name)
	if !eventually(10*time.Second, func() bool { return len(held(p.cmd.Process.Pid)["link"]) < before }) {
		t.Errorf("%d links are held after the container is gone, %d before", len(held(p.cmd.Process.Pid)["link"]), before)
	}
	p.interrupt()
	p.wait()
}

// TestPublishedElsewhere asks an address of the host that the port is not published on.
func TestPublishedElsewhere(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	n := h.network(t)
	web := n.server(t, "-p", "127.0.0.1::80")
	h.probe(t, want{
		Outcome: path.Refused, Cause: path.CauseNotPublished, Namespace: "host",
		Says: []string{"container " + web.Name + " publishes port", "but not on " + h.Addr.String()},
	}, shared.Outside, web.published("80/tcp").String())
}

// TestHostNetwork: in the host's network a container shares its ports with everybody.
func TestHostNetwork(t *testing.T) {
	h := need(t).Hosts[0]
	t.Parallel()
	port := h.listenOn(t, 0)
	idle := h.runs(t, "hn", "idle", "--network", "host")
	h.probe(t, want{
		Outcome: path.Misdelivered, Cause: path.CausePortConflict, Namespace: "host",
		Says: []string{"e2e.test", "not container " + idle.Name},
	}, shared.Outside, fmt.Sprintf("%s:%d", idle.Name, port))
	free := h.listenOn(t, 0) + 1 // most likely nobody has it
	web := h.runs(t, "hn", fmt.Sprintf("tcp :%d", free), "--network", "host")
	r := h.probe(t, want{Outcome: path.Delivered}, shared.Outside, fmt.Sprintf("%s:%d", web.Name, free))
	if len(r.verdicts[0].Warnings) > 0 {
		t.Errorf("warnings: %v", r.verdicts[0].Warnings)
	}
}

// TestStaleEntryOfReplaced: an entry leads to the address of a container that was replaced. Engines
// remove such entries when they remove the container, so it is put back.
func TestStaleEntryOfReplaced(t *testing.T) {
	const port, from = 5355, 44446
	h := spare(t, noProxy)
	n := h.network(t)
	us := h.runs(t, "us", "udp :5355", "--network", n.Name, "-p", "5355:5355/udp")
	old := us.addr(n).Next().Next() // nobody's
	flow := &netlink.ConntrackFlow{
		FamilyType: unix.AF_INET, TimeOut: 60,
		Forward: netlink.IPTuple{SrcIP: shared.OutsideAddr.AsSlice(), DstIP: h.Addr.AsSlice(), SrcPort: from, DstPort: port,
			Protocol: unix.IPPROTO_UDP},
		Reverse: netlink.IPTuple{SrcIP: old.AsSlice(), DstIP: shared.OutsideAddr.AsSlice(), SrcPort: port, DstPort: from,
			Protocol: unix.IPPROTO_UDP},
	}
	h.inside(t, func() error { return netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, flow) })
	chat := startChatter(t, netip.AddrPortFrom(h.Addr, port), from)
	r, v := h.watchDatagrams(t, us.Name+":5355", from)
	if v.Outcome == path.Delivered || v.Cause != path.CauseConntrackStale || !strings.Contains(v.Summary, old.String()) {
		t.Errorf("want %s that leads to %s\n%s", path.CauseConntrackStale, old, lastVerdict(r))
	}
	h.forgetFlows(t, unix.IPPROTO_UDP, port)
	if !eventually(10*time.Second, func() bool { _, answers := chat.counts(); return answers > 0 }) {
		t.Fatal("no answer after the entry was removed")
	}
}
