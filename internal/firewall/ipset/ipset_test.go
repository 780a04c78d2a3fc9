package ipset

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/internal/netns"
)

func packet(src, dst string, sport, dport uint16) *firewall.Packet {
	return &firewall.Packet{
		Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: protoTCP, SrcPort: sport, DstPort: dport,
		In: "eth0", InIndex: 2, SrcMAC: []byte{2, 0, 0, 0, 0, 1},
	}
}

// TestKernel makes sets in the kernel, reads them back and judges packets.
func TestKernel(t *testing.T) {
	labtest.NeedsRoot(t)
	ns, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	ip := net.ParseIP("10.0.0.1").To4()
	network := net.ParseIP("10.1.0.0").To4()
	udp, port, mark := uint8(protoUDP), uint16(53), uint32(5)
	sets := []struct {
		name, kind string
		options    netlink.IpsetCreateOptions
		entry      netlink.IPSetEntry
		source     []bool
		yes, no    *firewall.Packet
	}{
		{"a", "hash:ip", netlink.IpsetCreateOptions{}, netlink.IPSetEntry{IP: ip}, []bool{true},
			packet("10.0.0.1", "10.9.9.9", 1, 2), packet("10.9.9.9", "10.0.0.1", 1, 2)},
		{"b", "hash:net", netlink.IpsetCreateOptions{}, netlink.IPSetEntry{IP: network, CIDR: 16}, []bool{false},
			packet("10.9.9.9", "10.1.200.1", 1, 2), packet("10.1.9.9", "10.2.0.1", 1, 2)},
		{"c", "hash:ip,port", netlink.IpsetCreateOptions{}, netlink.IPSetEntry{IP: ip, Port: &port}, []bool{true, false},
			packet("10.0.0.1", "10.9.9.9", 1, 53), packet("10.0.0.1", "10.9.9.9", 53, 1)},
		{"d", "hash:ip,port", netlink.IpsetCreateOptions{}, netlink.IPSetEntry{IP: ip, Port: &port, Protocol: &udp},
			[]bool{true, false}, nil, packet("10.0.0.1", "10.9.9.9", 1, 53)},
		{"e", "hash:net,iface", netlink.IpsetCreateOptions{}, netlink.IPSetEntry{IP: network, CIDR: 16, IFace: "eth0"},
			[]bool{true, true}, packet("10.1.0.1", "10.9.9.9", 1, 2), packet("10.1.0.1", "10.9.9.9", 1, 2)},
		{"f", "hash:mac", netlink.IpsetCreateOptions{}, netlink.IPSetEntry{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}},
			[]bool{true}, packet("10.1.0.1", "10.9.9.9", 1, 2), nil},
		{"h", "hash:ip", netlink.IpsetCreateOptions{Family: familyIPv6}, netlink.IPSetEntry{IP: net.ParseIP("fd00::1")},
			[]bool{true}, packet("fd00::1", "fd00::2", 1, 53), packet("10.0.0.1", "10.9.9.9", 53, 54)},
		{"i", "hash:net,net", netlink.IpsetCreateOptions{}, netlink.IPSetEntry{IP: network, CIDR: 16, IP2: ip, CIDR2: 32},
			[]bool{true, false}, packet("10.1.0.1", "10.0.0.1", 1, 2), packet("10.1.0.1", "10.0.0.2", 1, 2)},
		{"j", "hash:ip,mark", netlink.IpsetCreateOptions{}, netlink.IPSetEntry{IP: ip, Mark: &mark},
			[]bool{true, true}, nil, packet("10.1.0.1", "10.0.0.2", 1, 2)},
	}
	sets[4].no.In = "eth1"
	err = netns.Do(ns, func() error {
		made := sets[:0:0]
		for i, c := range sets {
			if err := netlink.IpsetCreate(c.name, c.kind, c.options); err != nil {
				t.Logf("this kernel makes no %s: %v", c.kind, err)
				continue
			}
			if err := netlink.IpsetAdd(c.name, &sets[i].entry); err != nil {
				t.Errorf("add to %s: %v", c.kind, err)
			}
			made = append(made, c)
		}
		if len(made) == 0 {
			t.Skip("this kernel has no ipsets")
		}
		s := New()
		for i, c := range made {
			name, ok := s.Name(uint16(i))
			if !ok || name != c.name {
				t.Errorf("set %d: got %q, want %q; %s", i, name, c.name, s.Problem())
				continue
			}
			if c.yes != nil {
				if got := s.Contains(uint16(i), c.source, c.yes); got != firewall.Yes {
					t.Errorf("%s: got %v, want yes", c.kind, got)
				}
			}
			if c.no != nil {
				if got := s.Contains(uint16(i), c.source, c.no); got != firewall.No {
					t.Errorf("%s: got %v, want no", c.kind, got)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestMostSpecific checks that an exception inside a network counts, and a network inside it again.
func TestMostSpecific(t *testing.T) {
	network := func(s string, nomatch bool) element {
		return element{nets: [2]netip.Prefix{netip.MustParsePrefix(s)}, nomatch: nomatch}
	}
	nets := &set{name: "nets", kind: "hash:net", elements: []element{
		network("10.0.0.0/8", false), network("10.1.1.0/24", false), network("10.1.0.0/16", true),
	}}
	list := &set{name: "list", kind: "list:set", elements: []element{{name: "nets"}}}
	s := &Sets{
		read: true, byIndex: map[uint16]*set{0: nets, 1: list},
		byName: map[string]*set{"nets": nets, "list": list},
	}
	for src, want := range map[string]firewall.Truth{
		"10.2.0.1": firewall.Yes, "10.1.2.1": firewall.No, "10.1.1.1": firewall.Yes, "11.0.0.1": firewall.No,
	} {
		for index := range uint16(2) {
			if got := s.Contains(index, []bool{true}, packet(src, "10.9.9.9", 1, 2)); got != want {
				t.Errorf("set %d, %s: got %v, want %v", index, src, got, want)
			}
		}
	}
	if got := s.Contains(9, []bool{true}, packet("10.0.0.1", "10.9.9.9", 1, 2)); got != firewall.Maybe {
		t.Errorf("a set that is not known: got %v", got)
	}
	if got := s.Contains(0, []bool{true}, &firewall.Packet{}); got != firewall.Maybe {
		t.Errorf("an address that is not known: got %v", got)
	}
}

// TestNotAsked checks that sets are not read, nor a module loaded, before a rule asks for one.
func TestNotAsked(t *testing.T) {
	s := New()
	if s.read || s.Problem() != "" || s.Contains(0, []bool{true}, &firewall.Packet{}) != firewall.Maybe {
		t.Errorf("new sets: %+v", s)
	}
}

// FuzzAdd adds anything as a message of a dump.
func FuzzAdd(f *testing.F) {
	f.Add([]byte{2, 0, 0, 0, 8, 0, 2, 0, 'a', 'b', 'c', 0, 12, 0, 3, 0, 'h', 'a', 's', 'h', ':', 'i', 'p', 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := New()
		s.read = true
		if err := s.add(b); err != nil {
			return
		}
		for index := range s.byIndex {
			s.Contains(index, []bool{true, false, true}, packet("10.0.0.1", "10.9.9.9", 1, 2))
		}
	})
}
