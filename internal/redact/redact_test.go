package redact

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// common is how many leading bits two addresses share.
func common(a, b netip.Addr) int {
	for n := a.BitLen(); n > 0; n-- {
		p, _ := a.Prefix(n)
		if p.Contains(b) {
			return n
		}
	}
	return 0
}

// TestAddr: addresses that share a network share one of the same length afterwards, no two become one,
// and the kind of an address stays.
func TestAddr(t *testing.T) {
	m := New([]byte("key"))
	r := rand.New(rand.NewPCG(3, 4))
	var list []netip.Addr
	for range 300 {
		a := [4]byte{[]byte{10, 172, 192, 8, 169, 100}[r.IntN(6)], byte(r.IntN(256)), byte(r.IntN(4)), byte(r.IntN(256))}
		list = append(list, netip.AddrFrom4(a))
	}
	for _, text := range []string{"fd00::1", "fd00::2", "fd00:1::2", "2001:db8::5", "fe80::1", "fe80::ff"} {
		list = append(list, netip.MustParseAddr(text))
	}
	changed := 0
	for i, a := range list {
		ra := m.Addr(a)
		if a.IsPrivate() != ra.IsPrivate() || a.IsLinkLocalUnicast() != ra.IsLinkLocalUnicast() || a.Is4() != ra.Is4() {
			t.Errorf("%v became %v", a, ra)
		}
		if ra != a {
			changed++
		}
		for _, b := range list[:i] {
			if a.BitLen() == b.BitLen() && common(a, b) != common(ra, m.Addr(b)) {
				t.Errorf("%v and %v became %v and %v", a, b, ra, m.Addr(b))
			}
		}
	}
	if changed < len(list)*9/10 {
		t.Errorf("%d of %d were replaced", changed, len(list))
	}
	for _, kept := range []string{"0.0.0.0", "127.0.0.11", "255.255.255.255", "224.0.0.1", "::", "::1", "ff02::1"} {
		if a := netip.MustParseAddr(kept); m.Addr(a) != a {
			t.Errorf("%v became %v", a, m.Addr(a))
		}
	}
	if other := New([]byte("other")); other.Addr(list[0]) == m.Addr(list[0]) && other.Addr(list[1]) == m.Addr(list[1]) {
		t.Error("another key gives the same")
	}
	if New([]byte("key")).Addr(list[0]) != m.Addr(list[0]) {
		t.Error("the same key gives something else")
	}
}

func TestText(t *testing.T) {
	m := New([]byte("key"))
	web, net, br := m.Name("container", "web"), m.Name("network", "acme_default"), m.Device("br-1f2e3d4c5b6a")
	addr := m.Addr(netip.MustParseAddr("172.18.0.2")).String()
	v6 := m.Addr(netip.MustParseAddr("fd00::2")).String()
	for in, want := range map[string]string{
		"container web of acme_default":           "container " + web + " of " + net,
		"web:80, then":                            web + ":80, then",
		"webserver":                               "webserver",
		"from 172.18.0.2:80 to [fd00::2]:80.":     "from " + addr + ":80 to [" + v6 + "]:80.",
		"/run/netns/web":                          "/run/netns/" + web,
		"-i br-1f2e3d4c5b6a -j DROP":              "-i " + br + " -j DROP",
		"net.ipv4.conf.br-1f2e3d4c5b6a.rp_filter": "net.ipv4.conf." + br + ".rp_filter",
		"--sport 1.5 at 12:30":                    "--sport 1.5 at 12:30",
	} {
		if got := m.Text(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for _, secret := range []string{
		m.Text("a range 172.18.0.2-172.18.0.9"), m.Rule(`-s 172.18.0.0/16 -m comment --comment "172.18 is mine" -j LOG --log-prefix mine:`),
		m.Text("id 0123456789abcdef0123"), m.Text("02:42:ac:12:00:02"), m.Rule(`ip saddr 172.18.0.2 counter drop comment "mine"`),
		m.Label("acme_default/web"), m.Device("tenant7"), m.MAC("02:42:ac:12:00:02"), m.Chain("mine-in"),
	} {
		for _, part := range []string{"172.18", "mine", "0123456789ab", "42:ac:12", "acme", "tenant", "web"} {
			if strings.Contains(secret, part) {
				t.Errorf("%q is still in %q", part, secret)
			}
		}
	}
	for _, kept := range []string{"lo", "eth0", "docker0", "ens3"} {
		if m.Device(kept) != kept {
			t.Errorf("device %s became %s", kept, m.Device(kept))
		}
	}
	for _, kept := range []string{"FORWARD", "DOCKER-USER", "ufw-user-input", "nat"} {
		if m.Chain(kept) != kept {
			t.Errorf("chain %s became %s", kept, m.Chain(kept))
		}
	}
}

// TestJSON: a name is replaced in a text that comes before it, and what is no name stays.
func TestJSON(t *testing.T) {
	m := New([]byte("key"))
	in := `{"A":"container shop on 10.1.2.3","Container":"shop","Links":[{"Name":"br-shop","MTU":1500,"Kind":"bridge"}],` +
		`"Big":12345678901234567890,"Nil":null,"Empty":[],"Cause":"not-listening","Sysctls":{"net.ipv4.conf.br-shop.rp_filter":"1"}}`
	out, err := m.JSON([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"shop", "10.1.2.3"} {
		if strings.Contains(string(out), secret) {
			t.Errorf("%q is still in %s", secret, out)
		}
	}
	for _, kept := range []string{`"Big":12345678901234567890`, `"Nil":null`, `"Empty":[]`, `"MTU":1500`, `"Kind":"bridge"`, "not-listening"} {
		if !strings.Contains(string(out), kept) {
			t.Errorf("%q is not in %s", kept, out)
		}
	}
	if !json.Valid(out) {
		t.Errorf("not JSON: %s", out)
	}
	if _, err := m.JSON([]byte("{")); err == nil {
		t.Error("no error for what is no JSON")
	}
}
