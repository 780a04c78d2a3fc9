package topo

import (
	"encoding/hex"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func tuple(src, dst string) Tuple {
	return Tuple{Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst)}
}

// recorded is an entry of Linux 6.18 with its struct nfgenmsg: an unreplied UDP flow from 10.0.0.1:44444
// to 10.0.0.2:5353, translated to 172.18.0.2:53.
const recorded = "02000000" +
	"340001801400018008000100" + "0a000001" + "08000200" + "0a000002" +
	"1c00028005000100" + "11000000" + "06000200" + "ad9c0000" + "06000300" + "14e90000" +
	"340002801400018008000100" + "ac120002" + "08000200" + "0a000001" +
	"1c00028005000100" + "11000000" + "06000200" + "00350000" + "06000300" + "ad9c0000" +
	"08000300" + "00000188" + "08000700" + "0000001e"

func TestParseConntrack(t *testing.T) {
	msg, err := hex.DecodeString(recorded)
	if err != nil {
		t.Fatal(err)
	}
	want := Conntrack{
		Orig:  tuple("10.0.0.1:44444", "10.0.0.2:5353"),
		Reply: tuple("172.18.0.2:53", "10.0.0.1:44444"),
		Proto: unix.IPPROTO_UDP, Timeout: 30 * time.Second,
	}
	if got, ok := parseConntrack(msg); !ok || got != want {
		t.Errorf("got %+v %v, want %+v", got, ok, want)
	}
}

func FuzzParseConntrack(f *testing.F) {
	msg, err := hex.DecodeString(recorded)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg)
	f.Add(msg[:20])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, msg []byte) {
		if c, ok := parseConntrack(msg); ok && (!c.Orig.Src.Addr().IsValid() || !c.Reply.Dst.Addr().IsValid()) {
			t.Errorf("an entry without addresses: %+v", c)
		}
	})
}

func TestParseConntrackStat(t *testing.T) {
	const text = `entries  clashres found new invalid insert_failed drop
00000010  00000001 00000000 00000000 0000000a 00000002 00000000
00000010  00000001 00000000 00000000 00000001 00000000 00000003
`
	got := map[string]uint64{}
	want := map[string]uint64{
		"nf_conntrack_clashres": 2, "nf_conntrack_found": 0, "nf_conntrack_new": 0,
		"nf_conntrack_invalid": 11, "nf_conntrack_insert_failed": 2, "nf_conntrack_drop": 3,
	}
	if err := parseConntrackStat(strings.NewReader(text), got); err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v %v, want %v", got, err, want)
	}
	for _, bad := range []string{"a b\n1\n", "a b\n1 x\n"} {
		if err := parseConntrackStat(strings.NewReader(bad), map[string]uint64{}); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestContainerIDs(t *testing.T) {
	outer, inner := strings.Repeat("0a", 32), strings.Repeat("1b", 32)
	tests := []struct {
		text string
		want []string
	}{
		{"0::/\n", nil},
		{"9:name=systemd:/docker/" + outer + "\n0::/docker/" + outer + "\n", []string{outer}},
		{"0::/system.slice/docker-" + outer + ".scope\n", []string{outer}},
		{"0::/docker/" + outer + "/docker/" + inner + "\n", []string{outer, inner}},
		{"4:memory:/api/06ad1544c6a3911f27a1f404bc0553df\n", nil},
	}
	for _, tt := range tests {
		if got := containerIDs(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestProxyTarget(t *testing.T) {
	tests := []struct{ args, want string }{
		{"docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.18.0.2 -container-port 80",
			"172.18.0.2:80"},
		{"docker-proxy --container-ip=fd00::2 --container-port=53 -use-listen-fd", "[fd00::2]:53"},
		{"docker-proxy -proto tcp", "invalid AddrPort"},
		{"docker-proxy -container-ip x -container-port 80", "invalid AddrPort"},
		{"docker-proxy -container-ip 172.18.0.2 -container-port", "invalid AddrPort"},
	}
	for _, tt := range tests {
		if got := proxyTarget(strings.Fields(tt.args)); got.String() != tt.want {
			t.Errorf("%s: got %s, want %s", tt.args, got, tt.want)
		}
	}
}

// flowTo is an entry for the kernel to keep: a client's flow, translated to a server's own address.
func flowTo(server, own string, clientPort uint16) *netlink.ConntrackFlow {
	client := net.IPv4(10, 0, 0, 1).To4() // the library sends what it is given
	asked, real := netip.MustParseAddrPort(server), netip.MustParseAddrPort(own)
	return &netlink.ConntrackFlow{
		FamilyType: unix.AF_INET, TimeOut: 30,
		Forward: netlink.IPTuple{SrcIP: client, DstIP: asked.Addr().AsSlice(), SrcPort: clientPort,
			DstPort: asked.Port(), Protocol: unix.IPPROTO_UDP},
		Reverse: netlink.IPTuple{SrcIP: real.Addr().AsSlice(), DstIP: client, SrcPort: real.Port(),
			DstPort: clientPort, Protocol: unix.IPPROTO_UDP},
	}
}

func TestConntrack(t *testing.T) {
	name := newNS(t, "ct")
	err := inPath(nsPath(name), func() error {
		for port := uint16(44444); port < 44447; port++ {
			flow := flowTo("10.0.0.2:5353", "172.18.0.2:53", port)
			if err := netlink.ConntrackCreate(netlink.ConntrackTable, unix.AF_INET, flow); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	topo, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer topo.Close()
	netns, err := topo.InodeOf(nsPath(name))
	if err != nil {
		t.Fatal(err)
	}
	orig := tuple("10.0.0.1:44444", "10.0.0.2:5353")
	reply := tuple("172.18.0.2:53", "10.0.0.1:44444")
	for _, asked := range []Tuple{orig, reply} {
		c, err := topo.Conntrack(netns, unix.IPPROTO_UDP, asked)
		if err != nil || c.Orig != orig || c.Reply != reply || c.Replied || c.Timeout == 0 {
			t.Errorf("by %v: got %+v %v", asked, c, err)
		}
	}
	if _, err := topo.Conntrack(netns, unix.IPPROTO_TCP, orig); !errors.Is(err, unix.ENOENT) {
		t.Errorf("another protocol: got %v, want ENOENT", err)
	}
	if _, err := topo.Conntrack(topo.Self(), unix.IPPROTO_UDP, orig); !errors.Is(err, unix.ENOENT) {
		t.Errorf("another namespace: got %v, want ENOENT", err)
	}
	n, err := topo.CountConntrack(netns, unix.IPPROTO_UDP, reply.Src, reply.Dst.Addr())
	if err != nil || n != 3 {
		t.Errorf("count: got %d %v, want 3", n, err)
	}
}
