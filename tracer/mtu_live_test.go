package tracer_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// sink is a TCP server in web that takes what comes; got is told each time how much has come on a connection.
func sink(t *testing.T, c *chain) (to string, got chan int) {
	t.Helper()
	to, got = c.to(81), make(chan int, 1024)
	_, err := c.web.TCPServer(to, func(conn net.Conn) {
		buf, sum := make([]byte, 1<<16), 0
		for {
			n, err := conn.Read(buf)
			if sum += n; n > 0 {
				got <- sum
			}
			if err != nil {
				return
			}
		}
	})
	labtest.Must(t, err)
	return to, got
}

// repeats is how many segments a connection has sent again (tcpi_total_retrans).
func repeats(t *testing.T, conn net.Conn) (n uint32) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	labtest.Must(t, err)
	labtest.Must(t, raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		labtest.Must(t, err)
		n = info.Total_retrans
	}))
	return n
}

// untilRepeated waits until a connection has sent n segments again.
func untilRepeated(t *testing.T, conn net.Conn, n uint32) {
	t.Helper()
	limit := time.Now().Add(labtest.Patience(30 * time.Second))
	for repeats(t, conn) < n {
		if time.Now().After(limit) {
			t.Fatalf("%d segments were sent again, want %d", repeats(t, conn), n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestMTUSlowTCP: TCP that is slow for its size is told from TCP that is slow for loss.
func TestMTUSlowTCP(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, spoil string
		last        int // bytes of what is sent after the small segments
		want        string
	}{
		// Single packets only: GSO would pass, see TestMTUGSO.
		{"size", "ip link set mid mtu 1400", 1400, "the size decides, which points to the MTU"},
		{"loss", "nft 'add table ip fw; add chain ip fw f { type filter hook forward priority 0; }; " +
			"add rule ip fw f tcp dport 81 ip length > 100 numgen inc mod 4 == 0 drop'", 100, "that is loss, or a slow receiver, whatever the size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := newChain(t, false, 1500)
			to, got := sink(t, c)
			shell(t, c.far, tt.spoil) // of the link between the routers, near's end has 1500 still
			r := watchMTU(t, c, path.TCP, to, func() {
				conn, err := c.client.Dial(t.Context(), "tcp", to)
				labtest.Must(t, err)
				defer conn.Close()
				for i := range 40 {
					_, err := conn.Write(make([]byte, 100))
					labtest.Must(t, err)
					for n := 0; n < (i+1)*100; {
						n = <-got
					}
				}
				_, err = conn.Write(make([]byte, tt.last))
				labtest.Must(t, err)
				untilRepeated(t, conn, 3)
			})
			if text := strings.Join(r.Watch.Notes, "\n"); !strings.Contains(text, tt.want) || r.Watch.Repeated < 3 {
				t.Errorf("%d repeated, notes %q, want %q", r.Watch.Repeated, r.Watch.Notes, tt.want)
			}
			if vanished := r.Verdict.Cause == path.CauseMTUBlackhole; vanished != (tt.name == "size") {
				t.Errorf("verdict %s %q", r.Verdict.Outcome, r.Verdict.Summary)
			}
		})
	}
}

// TestMTUGSO: what is still to be cut passes where single packets of the same connection do not, and that
// is said.
func TestMTUGSO(t *testing.T) {
	t.Parallel()
	c := newChain(t, false, 1500)
	to, got := sink(t, c)
	labtest.Must(t, c.near.SetMTU("in", 1400)) // while the client's end of the link has 1500
	m := measure(t, c.Lab, "client", to, 0, nil)
	checkVerdict(t, m.Verdict, path.Dropped, path.CauseMTUBlackhole)
	m.checkMTU(t, path.Request, 1404, path.DiscoveryFails, "near in")
	if !strings.Contains(strings.Join(m.direction(t, path.Request).Notes, "\n"), "pieces that the kernel has yet to cut (GSO) pass there") {
		t.Errorf("notes: %q, want GSO", m.direction(t, path.Request).Notes)
	}
	conn, err := c.client.Dial(t.Context(), "tcp", to)
	labtest.Must(t, err)
	defer conn.Close()
	const initialWindow = 10 * 1448 // sent in one piece
	_, err = conn.Write(make([]byte, initialWindow))
	labtest.Must(t, err)
	limit := time.After(labtest.Patience(20 * time.Second))
	for n := 0; n < initialWindow; {
		select {
		case n = <-got:
		case <-limit:
			t.Fatalf("%d of %d bytes came: what is still to be cut did not pass", n, initialWindow)
		}
	}
}

// TestMTUExpired: an exception that was learned is gone when its time is over.
func TestMTUExpired(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, v6 bool) {
		c := newChain(t, v6, 1500)
		key := "net/ipv4/route/mtu_expires"
		if v6 {
			key = "net/ipv6/route/mtu_expires"
		}
		if err := c.client.Sysctl(key, "1"); err != nil {
			t.Skipf("this kernel has no %s for each namespace: %v", key, err)
		}
		c.narrow(t, 1400)
		learnMTU(t, c)
		c.narrow(t, 1500)
		limit := time.Now().Add(labtest.Patience(30 * time.Second))
		for {
			m := measure(t, c.Lab, "client", c.to(80), 1500, nil)
			checkVerdict(t, m.Verdict, path.Delivered, "")
			if m.direction(t, path.Request).CachedMTU == 0 && len(m.Verdict.Warnings) == 0 {
				return
			}
			if time.Now().After(limit) {
				t.Fatal("the exception is still there")
			}
		}
	})
}

// learnMTU makes the client's route cache learn an MTU, from traffic as any.
func learnMTU(t *testing.T, c *chain) {
	t.Helper()
	conn, err := c.client.Dial(t.Context(), "udp", c.to(53))
	labtest.Must(t, err)
	defer conn.Close()
	raw, err := conn.(*net.UDPConn).SyscallConn()
	labtest.Must(t, err)
	level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if netip.MustParseAddrPort(c.to(53)).Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	labtest.Must(t, raw.Control(func(fd uintptr) {
		labtest.Must(t, unix.SetsockoptInt(int(fd), level, option, unix.IP_PMTUDISC_DO))
	}))
	_, _ = conn.Write(make([]byte, 1430)) // too big
}
