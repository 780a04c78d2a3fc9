package ipset

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// TestIndex compares what a large set says with what each of its elements says, and checks that few of
// them are asked.
func TestIndex(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, kind := range []string{"hash:ip", "hash:net", "hash:net,port", "hash:net,net", "hash:ip,iface"} {
		for _, netmask := range []uint8{0, 24} {
			s := &set{name: "s", kind: kind, netmask: netmask}
			for range 400 {
				s.elements = append(s.elements, anElement(random, kind))
			}
			most := 0
			for i := range 300 {
				p := packet(fmt.Sprintf("10.%d.%d.%d", random.IntN(3), random.IntN(200), random.IntN(4)), "10.1.0.1", 1, uint16(random.IntN(3)))
				if i%50 == 0 {
					p.Src = netip.Addr{}
				} else {
					most = max(most, len(s.fitting("ip", true, p)))
				}
				source := []bool{true, false}
				want := oneByOne(s, source, p)
				if got := s.contains(source, p); got != want {
					t.Fatalf("%s, %v to port %d: got %v, want %v", kind, p.Src, p.DstPort, got, want)
				}
			}
			if most > 40 {
				t.Errorf("%s: %d of 400 elements are compared", kind, most)
			}
		}
	}
}

func anElement(random *rand.Rand, kind string) element {
	a := netip.AddrFrom4([4]byte{10, byte(random.IntN(3)), byte(random.IntN(200)), byte(random.IntN(4))})
	bits := 32
	if kind != "hash:ip" && kind != "hash:ip,iface" {
		bits = []int{16, 24, 24, 32, 32, 32}[random.IntN(6)]
	}
	port := uint16(random.IntN(3))
	return element{
		nets:  [2]netip.Prefix{netip.PrefixFrom(a, bits).Masked(), netip.MustParsePrefix("10.1.0.0/16")},
		proto: protoTCP, ports: [2]uint16{port, port}, device: "eth0", nomatch: random.IntN(4) == 0 && bits < 32,
	}
}

// oneByOne is contains by sets of as few elements as are compared one by one.
func oneByOne(s *set, source []bool, p *firewall.Packet) firewall.Truth {
	answer, best := firewall.No, element{}
	for _, e := range s.elements {
		plain := e
		plain.nomatch = false
		t := (&set{kind: s.kind, netmask: s.netmask, elements: []element{plain}}).contains(source, p)
		switch {
		case t == firewall.Maybe:
			return firewall.Maybe
		case t == firewall.Yes && (answer == firewall.No || e.moreSpecific(best)):
			answer, best = firewall.Yes, e
		}
	}
	if best.nomatch {
		return firewall.No
	}
	return answer
}
