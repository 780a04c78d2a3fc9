package expect

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func net4(name, bridge, subnet string) Network {
	return Network{Name: name, Bridge: bridge, ICC: true, Masquerade: true,
		Subnets: []netip.Prefix{netip.MustParsePrefix(subnet)}}
}

// oldState is the engine whose rules are in iptables-20.10.rules.
func oldState() *State {
	all := func(host, container uint16, proto string) []Port {
		return []Port{
			{netip.IPv4Unspecified(), host, container, proto}, {netip.IPv6Unspecified(), host, container, proto},
		}
	}
	s := &State{
		Version: "20.10.24+dfsg1", IPTables: true, UserlandProxy: true,
		Networks: []Network{
			net4("app", "br-app", "172.18.0.0/16"), net4("two", "br-two", "172.19.0.0/16"),
			net4("int", "br-int", "172.20.0.0/16"), net4("icc", "br-icc", "172.21.0.0/16"),
			net4("nomasq", "br-nomasq", "172.22.0.0/16"), net4("bridge", "docker0", "172.17.0.0/16"),
		},
		Containers: []Container{
			{Name: "web", Endpoints: []Endpoint{{Network: "app", IPv4: addr("172.18.0.2")}}, Ports: append(
				slices.Concat(all(8080, 80, "tcp"), all(53, 53, "udp")), Port{addr("127.0.0.1"), 5432, 5432, "tcp"})},
			{Name: "multi", Ports: all(9090, 80, "tcp"), Endpoints: []Endpoint{
				{Network: "app", IPv4: addr("172.18.0.3")}, {Network: "int", IPv4: addr("172.20.0.2")},
				{Network: "two", IPv4: addr("172.19.0.2")}}},
			{Name: "dflt", Ports: all(8081, 80, "tcp"), Endpoints: []Endpoint{{Network: "bridge", IPv4: addr("172.17.0.2")}}},
			{Name: "ia", Endpoints: []Endpoint{{Network: "int", IPv4: addr("172.20.0.3")}}},
			{Name: "hn", Endpoints: []Endpoint{{Network: "host"}}},
		},
	}
	s.Networks[2].Internal, s.Networks[3].ICC, s.Networks[4].Masquerade = true, false, false
	return s
}

const testFile = "iptables-20.10.rules"

func TestHealthy(t *testing.T) {
	noProxy := oldState()
	noProxy.UserlandProxy = false
	for name, s := range map[string]*State{testFile: oldState(), "iptables-20.10-noproxy.rules": noProxy} {
		t.Run(name, func(t *testing.T) {
			for _, m := range Check(s, saved(t, name)) {
				t.Errorf("missing: %s: %s", m.Sentence, m.Rule)
			}
		})
	}
	s := oldState()
	s.Version = "library-import" // the chains tell
	if got := Check(s, saved(t, testFile)); len(got) != 0 {
		t.Errorf("without a version: %+v", got)
	}
	s.IPTables = false
	if got := Check(s, &firewall.Ruleset{}); len(got) != 0 {
		t.Errorf("an engine that writes no rules misses none, got %+v", got)
	}
}

// delete removes the rules of a chain that contain a text; all of them for "".
func deleteRules(rs *firewall.Ruleset, table, chain, text string) int {
	n := 0
	for _, tb := range rs.Tables {
		if c := tb.Chain(chain); c != nil && tb.Name == table {
			before := len(c.Rules)
			c.Rules = slices.DeleteFunc(c.Rules, func(r *firewall.Rule) bool { return strings.Contains(r.Text(), text) })
			n += before - len(c.Rules)
		}
	}
	return n
}

// rulesOf lists what is missing as the commands' rules.
func rulesOf(list []Missing) []string {
	out := []string{}
	for _, m := range list {
		out = append(out, m.Table+" "+m.Rule)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestEveryRule deletes the rules of the dumps one after the other: what is then missing must be just
// that rule, as the dump has it.
func TestEveryRule(t *testing.T) {
	noProxy := oldState()
	noProxy.UserlandProxy = false
	for name, s := range map[string]*State{testFile: oldState(), "iptables-20.10-noproxy.rules": noProxy} {
		full := saved(t, name)
		for ti, table := range full.Tables {
			for ci, chain := range table.Chains {
				for ri, rule := range chain.Rules {
					rs := saved(t, name)
					c := rs.Tables[ti].Chains[ci]
					c.Rules = slices.Delete(c.Rules, ri, ri+1)
					got := rulesOf(Check(s, rs))
					want := []string{table.Name + " " + rule.Text()}
					switch {
					case strings.HasSuffix(rule.Text(), "-j RETURN") && chain.Name != dockerChain,
						strings.Contains(rule.Text(), "172.18.0.3/32"), // multi has several networks
						s.UserlandProxy && strings.Contains(rule.Text(), "-s 172.18.0.2/32 -d"),
						s.UserlandProxy && strings.Contains(rule.Text(), "-s 172.17.0.2/32 -d"):
						want = []string{}
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s without %s %s:\ngot  %q\nwant %q", name, table.Name, rule.Text(), got, want)
					}
				}
			}
		}
	}
}

func TestMissing(t *testing.T) {
	for _, test := range []struct {
		name                   string
		table, chain, contains string
		cause                  path.Cause
		sentence, command      string
		count                  int
	}{
		{"one port", "nat", "DOCKER", "dport 8080", path.CauseNATMissing,
			"no DNAT rule takes host port 8080 to web (172.18.0.2:80)",
			"iptables -t nat -A DOCKER ! -i br-app -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:80", 1},
		{"one address", "nat", "DOCKER", "dport 5432", path.CauseNATMissing,
			"no DNAT rule takes 127.0.0.1:5432 to web (172.18.0.2:5432)",
			"iptables -t nat -A DOCKER -d 127.0.0.1/32 ! -i br-app -p tcp -m tcp --dport 5432 -j DNAT" +
				" --to-destination 172.18.0.2:5432", 1},
		{"several networks", "nat", "DOCKER", "dport 9090", path.CauseNATMissing,
			"no DNAT rule takes host port 9090 to multi (172.18.0.3:80)", "", 1},
		{"masquerade", "nat", "POSTROUTING", "172.18.0.0/16", path.CauseMasqueradeMissing,
			"no MASQUERADE rule translates what leaves network app (172.18.0.0/16)",
			"iptables -t nat -A POSTROUTING -s 172.18.0.0/16 ! -o br-app -j MASQUERADE", 1},
		{"user chain", "filter", "FORWARD", "DOCKER-USER", path.CauseDockerRulesMissing,
			"chain FORWARD does not call DOCKER-USER", "iptables -I FORWARD -j DOCKER-USER", 1},
		{"isolation chain", "filter", "FORWARD", "DOCKER-ISOLATION-STAGE-1", path.CauseDockerRulesMissing,
			"chain FORWARD does not call DOCKER-ISOLATION-STAGE-1", "iptables -I FORWARD 2 -j DOCKER-ISOLATION-STAGE-1", 1},
		{"way out", "filter", "FORWARD", "-i br-app ! -o br-app", path.CauseDockerRulesMissing,
			"no rule lets network app out", "iptables -I FORWARD 3 -i br-app ! -o br-app -j ACCEPT", 1},
		{"filter DOCKER", "filter", "DOCKER", "", path.CauseDockerRulesMissing,
			"no rule lets requests in to port 80 of web",
			"iptables -I DOCKER -d 172.18.0.2/32 ! -i br-app -o br-app -p tcp -m tcp --dport 80 -j ACCEPT", 4},
		{"isolation", "filter", "DOCKER-ISOLATION-STAGE-2", "", path.CauseDockerRulesMissing,
			"no rule isolates network app from others (stage 2)", "iptables -I DOCKER-ISOLATION-STAGE-2 -o br-app -j DROP", 5},
	} {
		t.Run(test.name, func(t *testing.T) {
			rs := saved(t, testFile)
			if deleteRules(rs, test.table, test.chain, test.contains) == 0 {
				t.Fatal("nothing to delete")
			}
			got := Check(oldState(), rs)
			if len(got) != test.count {
				t.Fatalf("got %d, want %d: %q", len(got), test.count, rulesOf(got))
			}
			m := got[0]
			if m.Cause != test.cause || m.Sentence != test.sentence || m.Command != test.command {
				t.Errorf("got %s: %q, %q", m.Cause, m.Sentence, m.Command)
			}
			if m.Exposes != (strings.HasPrefix(test.name, "isolation") || test.name == "user chain") {
				t.Errorf("exposes: %v", m.Exposes)
			}
		})
	}
}

// TestFlushed empties the nat table as `iptables -t nat -F` does, and then removes everything.
func TestFlushed(t *testing.T) {
	rs := saved(t, testFile)
	for _, chain := range []string{"PREROUTING", "OUTPUT", "POSTROUTING", "DOCKER"} {
		deleteRules(rs, "nat", chain, "")
	}
	causes := map[path.Cause]int{}
	for _, m := range Check(oldState(), rs) {
		causes[m.Cause]++
	}
	if causes[path.CauseNATMissing] != 2+4+5 || causes[path.CauseMasqueradeMissing] != 4 || len(causes) != 2 {
		t.Errorf("got %v", causes)
	}
	got := Check(oldState(), &firewall.Ruleset{})
	if !slices.ContainsFunc(got, func(m Missing) bool { return m.Purpose == Chain && m.Sentence == "chain DOCKER of table nat is gone" }) {
		t.Errorf("nothing says that the chain is gone: %+v", got)
	}
	if got := Check(oldState(), &firewall.Ruleset{Problems: []string{"read: permission denied"}}); len(got) != 0 {
		t.Errorf("what was not read is not missing, got %+v", got)
	}
}

// TestStale has a DNAT rule that leads to another address.
func TestStale(t *testing.T) {
	s := oldState()
	s.Containers[0].Endpoints[0].IPv4 = addr("172.18.0.9")
	var got []Missing
	for _, m := range Check(s, saved(t, testFile)) {
		if m.Purpose == Publish {
			got = append(got, m)
		}
	}
	if len(got) != 3 || got[0].Stale != "172.18.0.2:80" ||
		got[0].Sentence != "the DNAT rule for host port 8080 leads to 172.18.0.2:80, not to web" {
		t.Errorf("got %+v", got)
	}
}

// TestUserRule puts rules of a user in front, which hide Docker's but do not replace them.
func TestUserRule(t *testing.T) {
	rs := saved(t, testFile)
	for _, tb := range rs.Tables {
		for _, c := range tb.Chains {
			kind := firewall.Verdict{Kind: firewall.Drop}
			c.Rules = slices.Insert(c.Rules, 0, &firewall.Rule{Chain: c, Written: "user", Body: &body{verdict: kind}})
		}
	}
	if got := Check(oldState(), rs); len(got) != 0 {
		t.Errorf("Docker's rules are there: %q", rulesOf(got))
	}
	rs = saved(t, testFile)
	forward := rs.Tables[0].Chain(forwardChain)
	deleteRules(rs, "filter", forwardChain, "-i br-app ! -o br-app")
	forward.Rules = append(forward.Rules, &firewall.Rule{Chain: forward, Body: &body{verdict: firewall.Verdict{Kind: firewall.Accept}}})
	if got := Check(oldState(), rs); len(got) != 1 || got[0].Purpose != Outgoing {
		t.Errorf("a rule that accepts everything is not Docker's: %q", rulesOf(got))
	}
}

func TestCovers(t *testing.T) {
	rs := saved(t, testFile)
	deleteRules(rs, "nat", "DOCKER", "dport 8080")
	deleteRules(rs, "nat", "POSTROUTING", "172.18.0.0/16")
	got := Check(oldState(), rs)
	if len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	masq, nat := got[0], got[1]
	request := firewall.Packet{Hook: firewall.Prerouting, In: "eth0", Src: addr("10.0.0.1"), Dst: addr("10.0.0.11"), Proto: 6, DstPort: 8080}
	for _, test := range []struct {
		name   string
		change func(*firewall.Packet)
		want   firewall.Truth
	}{
		{"request", func(*firewall.Packet) {}, firewall.Yes},
		{"from the host", func(p *firewall.Packet) { p.Hook, p.In = firewall.Output, "" }, firewall.Maybe},
		{"another port", func(p *firewall.Packet) { p.DstPort = 80 }, firewall.No},
		{"from the network", func(p *firewall.Packet) { p.In = "br-app" }, firewall.No},
		{"udp", func(p *firewall.Packet) { p.Proto = 17 }, firewall.No},
		{"forward", func(p *firewall.Packet) { p.Hook = firewall.Forward }, firewall.No},
	} {
		p := request
		test.change(&p)
		if got := nat.Covers(&p); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	out := firewall.Packet{Hook: firewall.Postrouting, Out: "eth0", Src: addr("172.18.0.3"), Dst: addr("10.0.0.1"), Proto: 6, DstPort: 80}
	if masq.Covers(&out) != firewall.Yes {
		t.Error("a container's packet is not covered")
	}
	if out.Out = "br-app"; masq.Covers(&out) != firewall.No {
		t.Error("a packet within the network is covered")
	}
}

// newState is the engine of moby's own tests, whose results are in the rules29 files.
func newState(v6 bool) *State {
	s := &State{Version: "29.0.0", UserlandProxy: true, IPTables: !v6, IP6Tables: v6,
		Networks: []Network{{Name: "n", Bridge: "br-dummy", ICC: true, Masquerade: true, Subnets: []netip.Prefix{
			netip.MustParsePrefix("192.168.0.0/24"), netip.MustParsePrefix("fd49:efd7:54aa::/64")}}},
		Containers: []Container{{Name: "c", Endpoints: []Endpoint{
			{Network: "n", IPv4: addr("192.168.0.2"), IPv6: addr("fd49:efd7:54aa::1")}},
			Ports: []Port{{netip.IPv4Unspecified(), 8080, 80, "tcp"}, {netip.IPv6Unspecified(), 8080, 80, "tcp"}}}},
	}
	return s
}

// configured applies the parameters in the name of one of moby's golden files:
// "hairpin=false,internal=false,icc=true,masq=true,snat=false,gwm=nat,bindlh=false__iptables.golden".
func configured(name string) *State {
	s := newState(strings.Contains(name, "ip6"))
	n := &s.Networks[0]
	s.UserlandProxy = !strings.Contains(name, "hairpin=true")
	s.NFTables = strings.HasSuffix(name, "__ip.golden") || strings.HasSuffix(name, "__ip6.golden")
	n.Internal = strings.Contains(name, "internal=true")
	n.ICC = !strings.Contains(name, "icc=false")
	n.Masquerade = !strings.Contains(name, "masq=false")
	_, mode, _ := strings.Cut(name, "gwm=")
	mode, _, _ = strings.Cut(mode, ",")
	n.Mode4, n.Mode6 = Mode(mode), Mode(mode)
	ports := s.Containers[0].Ports
	if strings.Contains(name, "bindlh=true") {
		ports[0].HostIP, ports[1].HostIP = addr("127.0.0.1"), addr("::1")
	}
	if n.Internal {
		s.Containers[0].Ports = nil
	}
	if mode == "routed" {
		ports[0].HostPort, ports[1].HostPort = 0, 0
	}
	return s
}

// golden reads one of moby's golden files and adds DOCKER-USER, which another part of the engine makes.
func golden(t *testing.T, name string) *firewall.Ruleset {
	t.Helper()
	rs := saved(t, name)
	for _, tb := range rs.Tables {
		if c := tb.Chain(forwardChain); c != nil {
			addRule(c, "-A FORWARD -j DOCKER-USER", &body{verdict: verdictOf(userChain, "")})
			tb.Chains = append(tb.Chains, &firewall.Chain{Table: tb, Name: userChain})
		}
	}
	return rs
}

func goldens(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/29/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	if dir := os.Getenv("PATHTRACE_MOBY_GOLDEN"); dir != "" { // all of them, from moby's source
		more, _ := filepath.Glob(filepath.Join(dir, "*internal=*.golden"))
		files = append(files, more...)
	}
	for i, name := range files {
		files[i] = strings.TrimPrefix(name, "testdata/")
	}
	return files
}

func TestDocker29(t *testing.T) {
	for _, name := range goldens(t) {
		if got := Check(configured(name), golden(t, name)); len(got) != 0 {
			t.Errorf("%s: %q", name, rulesOf(got))
		}
	}
}

// TestDocker29Deleted deletes every rule of Docker 29, of both backends, in turn.
func TestDocker29Deleted(t *testing.T) {
	for _, name := range goldens(t) {
		for ti, table := range golden(t, name).Tables {
			for ci, chain := range table.Chains {
				for ri, rule := range chain.Rules {
					rs := golden(t, name)
					c := rs.Tables[ti].Chains[ci]
					c.Rules = slices.Delete(c.Rules, ri, ri+1)
					got := Check(configured(name), rs)
					if len(got) == 0 && !ignored(name, chain.Name, rule.Text()) {
						t.Errorf("%s without %s %s: nothing is missing", name, chain.Name, rule.Text())
					}
					for _, m := range got {
						if m.Chain != chain.Name || m.Table != table.Name {
							t.Errorf("%s without %s %s: missing %s %s", name, chain.Name, rule.Text(), m.Chain, m.Rule)
						}
					}
				}
			}
		}
	}
}

// ignored reports whether the absence of a rule is not looked for: it matters little, another rule does
// the same, or only the engine's environment tells whether it should be there.
func ignored(file, chain, text string) bool {
	parts := []string{"icmp", "DROP DIRECT ACCESS", "PREROUTING -d ", "REMOTE LOOPBACK", "loopback0",
		"@nat-postrouting-in", "@nat-postrouting-out"}
	if strings.HasPrefix(chain, "filter-forward-out") {
		parts = append(parts, "ct state") // what follows accepts everything
	}
	for name, redundant := range map[string][]string{
		"gwm=routed":          {"DNAT", "dport 80 -j MASQUERADE", "MASQ TO OWN PORT", "@nat-postrouting"},
		"gwm=nat-unprotected": {"ct state", "ICC", "UNPROTECTED"},
		"icc=false":           {`"ICC"`, "INTERNAL NETWORK INGRESS"},
		"internal=true":       {"ct state"},
	} {
		if strings.Contains(file, name) {
			parts = append(parts, redundant...)
		}
	}
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}
