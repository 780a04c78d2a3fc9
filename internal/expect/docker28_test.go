package expect

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// state28 is the engine of one of the files 28.5-*.rules, which moby's own tests of 28.5 generated.
func state28(name string) *State {
	s := &State{Version: "28.5.2", IPTables: true, UserlandProxy: !strings.Contains(name, "noproxy"),
		Networks: []Network{net4("bridge", "docker0", "172.17.0.0/16"), net4("bridge1", "bridge1", "192.0.2.0/24")},
		Containers: []Container{{Name: "c1", Endpoints: []Endpoint{{Network: "bridge1", IPv4: addr("192.0.2.2")}},
			Ports: []Port{{netip.IPv4Unspecified(), 8080, 80, "tcp"}}}},
	}
	n := &s.Networks[1]
	switch {
	case strings.Contains(name, "internal"):
		icc, noICC := net4("icc", "bridgeICC", "192.0.2.0/24"), net4("noicc", "bridgeNoICC", "198.51.100.0/24")
		icc.Internal, noICC.Internal, noICC.ICC = true, true, false
		s.Networks, s.Containers = []Network{s.Networks[0], icc, noICC}, nil
	case strings.Contains(name, "noicc"):
		n.ICC = false
	case strings.Contains(name, "natunprot"):
		n.Mode4 = NATUnprotected
	case strings.Contains(name, "routed"):
		n.Mode4 = Routed
		s.Containers[0].Ports[0].HostPort = 0
	}
	return s
}

func TestDocker28(t *testing.T) {
	files, err := filepath.Glob("testdata/28/*.rules")
	if err != nil || len(files) < 6 {
		t.Fatalf("got %q, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimPrefix(file, "testdata/")
		s := state28(name)
		if got := Check(s, saved(t, name)); len(got) != 0 {
			t.Errorf("%s: %q", name, rulesOf(got))
		}
		for ti, table := range saved(t, name).Tables {
			for ci, chain := range table.Chains {
				for ri, rule := range chain.Rules {
					rs := saved(t, name)
					c := rs.Tables[ti].Chains[ci]
					c.Rules = slices.Delete(c.Rules, ri, ri+1)
					got, want := rulesOf(Check(s, rs)), []string{table.Name + " " + rule.Text()}
					if ignored28(name, rule.Text()) {
						want = []string{}
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s without %s: got %q", name, rule.Text(), got)
					}
				}
			}
		}
	}
}

// ignored28 reports whether the absence of a rule is not looked for.
func ignored28(name, text string) bool {
	switch {
	case strings.Contains(text, "-j RETURN"), strings.Contains(text, "-p icmp"), strings.HasPrefix(text, "-A PREROUTING -d "):
		return true
	case strings.Contains(name, "natunprot"), strings.Contains(name, "routed"):
		// Such networks are isolated in ways of their own.
		return strings.Contains(text, "bridge1 -j DOCKER-ISOLATION-STAGE-2") || strings.HasPrefix(text, "-A DOCKER-ISOLATION") && strings.Contains(text, "bridge1")
	}
	return false
}
