package resolve

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestParseResolv(t *testing.T) {
	servers := func(list ...string) (out []netip.AddrPort) {
		for _, s := range list {
			out = append(out, netip.AddrPortFrom(netip.MustParseAddr(s), 53))
		}
		return out
	}
	tests := []struct {
		name, text string
		want       Config
	}{
		{"empty", "", Config{Servers: servers("127.0.0.1"), Ndots: 1}},
		{"Docker", "nameserver 127.0.0.11\noptions edns0 ndots:0\n", Config{Servers: servers("127.0.0.11"), Ndots: 0}},
		{"search", "# a comment\n; another\nsearch a.example b.example # here, too\nnameserver 192.0.2.1\n",
			Config{Servers: servers("192.0.2.1"), Search: []string{"a.example", "b.example"}, Ndots: 1}},
		{"the last list counts", "search a\ndomain b\n", Config{Servers: servers("127.0.0.1"), Search: []string{"b"}, Ndots: 1}},
		{"three servers", "nameserver fe80::1%eth0\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n",
			Config{Servers: servers("fe80::1%eth0", "192.0.2.1", "192.0.2.2"), Ndots: 1}},
		{"nonsense", "nameserver\nnameserver x\noptions ndots:x ndots:99 rotate\nfoo bar\n",
			Config{Servers: servers("127.0.0.1"), Ndots: 15}},
	}
	for _, tt := range tests {
		var c Config
		if err := c.parseResolv(strings.NewReader(tt.text)); err != nil || !reflect.DeepEqual(c, tt.want) {
			t.Errorf("%s: got %+v %v, want %+v", tt.name, c, err, tt.want)
		}
	}
}

func TestCandidates(t *testing.T) {
	c := Config{Search: []string{"a.example", "."}, Ndots: 1}
	for name, want := range map[string]string{
		"web":   "web.a.example. web.",
		"web.":  "web.",
		"web.b": "web.b. web.b.a.example.",
	} {
		if got := strings.Join(c.candidates(name), " "); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	c.Ndots = 0
	if got := strings.Join(c.candidates("web"), " "); got != "web. web.a.example." {
		t.Errorf("ndots 0: got %s", got)
	}
}

func TestReadConfig(t *testing.T) {
	root := t.TempDir()
	c, err := ReadConfig(root)
	if err != nil || len(c.Servers) != 1 || c.Ndots != 1 {
		t.Errorf("no files: got %+v %v", c, err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("hosts", "127.0.0.1 localhost\n172.17.0.2\tDB db.internal # linked\n::1\nx y\n")
	write("resolv.conf", "nameserver 192.0.2.1\n")
	c, err = ReadConfig(root)
	if err != nil || c.Servers[0].Addr() != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("got %+v %v", c, err)
	}
	got := Lookup(t.Context(), c, "db", nil)
	if got.Status != Found || !got.FromHosts || len(got.Addrs) != 1 || got.Addrs[0].String() != "172.17.0.2" {
		t.Errorf("hosts: got %+v", got)
	}
	if err := os.Remove(filepath.Join(root, "etc/hosts")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(root, "etc/hosts")); err != nil {
		t.Fatal(err)
	}
	if _, err = ReadConfig(root); err == nil {
		t.Error("a link out of the root was followed")
	}
}

// server is a name server on a loopback address that answers with respond; nil leaves the question
// unanswered.
func server(t *testing.T, respond func(dnsmessage.Question) *dnsmessage.Message) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			if m := respond(q.Questions[0]); m != nil {
				m.ID, m.Response, m.Questions = q.ID, true, q.Questions
				if out, err := m.Pack(); err == nil {
					_, _ = conn.WriteToUDPAddrPort(out, from) // the client may have gone
				}
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func dial(server netip.AddrPort) (net.Conn, error) {
	return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
}

func code(c dnsmessage.RCode) func(dnsmessage.Question) *dnsmessage.Message {
	return func(dnsmessage.Question) *dnsmessage.Message {
		return &dnsmessage.Message{Header: dnsmessage.Header{RCode: c}}
	}
}

// only has an IPv4 address for one name, nothing else for that name, and knows no other.
func only(name string, addr [4]byte) func(dnsmessage.Question) *dnsmessage.Message {
	return func(q dnsmessage.Question) *dnsmessage.Message {
		switch {
		case q.Name.String() != name:
			return &dnsmessage.Message{Header: dnsmessage.Header{RCode: dnsmessage.RCodeNameError}}
		case q.Type != dnsmessage.TypeA:
			return &dnsmessage.Message{}
		}
		return &dnsmessage.Message{Answers: []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: addr},
		}}}
	}
}

func TestLookup(t *testing.T) {
	silent := server(t, func(dnsmessage.Question) *dnsmessage.Message { return nil })
	web := server(t, only("web.", [4]byte{172, 18, 0, 2}))
	domain := server(t, only("web.a.example.", [4]byte{192, 0, 2, 9}))
	broken := server(t, code(dnsmessage.RCodeServerFailure))
	closed, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.LocalAddr().(*net.UDPAddr).AddrPort()
	closed.Close()
	tests := []struct {
		name    string
		servers []netip.AddrPort
		ask     string
		want    Status
		addr    string
		code    string
	}{
		{"found", []netip.AddrPort{web}, "web", Found, "172.18.0.2", "NOERROR"},
		{"found in a domain", []netip.AddrPort{domain}, "web", Found, "192.0.2.9", "NOERROR"},
		{"no such name", []netip.AddrPort{web}, "other", NotFound, "", "NXDOMAIN"},
		{"nobody listens", []netip.AddrPort{nobody}, "web", Refused, "", ""},
		{"no answer", []netip.AddrPort{silent}, "web", Silent, "", ""},
		{"a broken server", []netip.AddrPort{broken}, "web", Failed, "", "SERVFAIL"},
		{"the second one knows", []netip.AddrPort{silent, web}, "web", Found, "172.18.0.2", "NOERROR"},
		{"the first one decides", []netip.AddrPort{web, domain}, "other", NotFound, "", "NXDOMAIN"},
		{"no name", []netip.AddrPort{web}, strings.Repeat("x", 300), NotFound, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			got := Lookup(ctx, Config{Servers: tt.servers, Search: []string{"a.example"}, Ndots: 1}, tt.ask, dial)
			if got.Status != tt.want || got.Code != tt.code {
				t.Errorf("got %+v, want status %v and code %q", got, tt.want, tt.code)
			}
			if tt.addr != "" && (len(got.Addrs) != 1 || got.Addrs[0].String() != tt.addr) {
				t.Errorf("got %v, want %s", got.Addrs, tt.addr)
			}
		})
	}
}

// TestLookupEnds: the look-up keeps to its time, whatever the server does.
func TestLookupEnds(t *testing.T) {
	var asked atomic.Int32
	s := server(t, func(dnsmessage.Question) *dnsmessage.Message { asked.Add(1); return nil })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	got := Lookup(ctx, Config{Servers: []netip.AddrPort{s}, Ndots: 0}, "web", dial)
	if got.Status != Silent || time.Since(start) > 5*time.Second || asked.Load() == 0 {
		t.Errorf("got %+v after %v, asked %d times", got, time.Since(start), asked.Load())
	}
}

func FuzzParseAnswer(f *testing.F) {
	name, err := dnsmessage.NewName("web.")
	if err != nil {
		f.Fatal(err)
	}
	m := *only("web.", [4]byte{172, 18, 0, 2})(dnsmessage.Question{Name: name, Type: dnsmessage.TypeA})
	m.Response = true
	m.Questions = []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}
	msg, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg)
	f.Add(msg[:len(msg)-3])
	f.Fuzz(func(t *testing.T, msg []byte) {
		_, out, ok := parseAnswer(msg, "web.")
		if ok && (out.Status == Found) != (len(out.Addrs) > 0) || slices.Contains(out.Addrs, netip.Addr{}) {
			t.Errorf("got %+v %v", out, ok)
		}
	})
}

func FuzzParseResolv(f *testing.F) {
	f.Add("nameserver 127.0.0.11\nsearch a b\noptions ndots:0\n")
	f.Fuzz(func(t *testing.T, text string) {
		var c Config
		if err := c.parseResolv(strings.NewReader(text)); err != nil {
			return
		}
		if len(c.Servers) == 0 || len(c.Servers) > maxServers || c.Ndots < 0 || len(c.candidates("web")) == 0 {
			t.Errorf("got %+v", c)
		}
	})
}
