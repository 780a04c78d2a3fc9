package expect

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// BenchmarkCheck compares a host of 50 containers on 10 networks with rules that all have to be looked
// at: none of those that are expected is there.
func BenchmarkCheck(b *testing.B) {
	s := &State{Version: "20.10.24", IPTables: true, UserlandProxy: true}
	for i := range 10 {
		n := net4(fmt.Sprintf("n%d", i), fmt.Sprintf("br-%d", i), fmt.Sprintf("172.%d.0.0/16", 18+i))
		s.Networks = append(s.Networks, n)
		for k := range 5 {
			ip := netip.AddrFrom4([4]byte{172, byte(18 + i), 0, byte(2 + k)})
			s.Containers = append(s.Containers, Container{Name: fmt.Sprintf("c%d-%d", i, k),
				Endpoints: []Endpoint{{Network: n.Name, IPv4: ip}},
				Ports:     []Port{{netip.IPv4Unspecified(), uint16(8000 + 10*i + k), 80, "tcp"}}})
		}
	}
	rs := &firewall.Ruleset{}
	for _, name := range []string{filterTable, natTable} {
		t := &firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: name}
		for _, chain := range []string{forwardChain, dockerChain, stage1Chain, stage2Chain, "PREROUTING", "OUTPUT", "POSTROUTING"} {
			c := &firewall.Chain{Table: t, Name: chain}
			for range 1000 {
				addRule(c, "", &body{conditions: []condition{{key: "--dport", value: "1"}, {key: "-i", value: "eth9"}}})
			}
			t.Chains = append(t.Chains, c)
		}
		rs.Tables = append(rs.Tables, t)
	}
	for b.Loop() {
		Check(s, rs)
	}
}
