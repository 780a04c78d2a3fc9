package doctor

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// body is a rule's body for tests: match nil is a rule that matches everything.
type body struct {
	match   func(p *firewall.Packet) firewall.Truth
	verdict firewall.Verdict
}

func (b body) Judge(p *firewall.Packet) firewall.Judgement {
	j := firewall.Judgement{Match: firewall.Yes, Verdict: b.verdict}
	if b.match != nil {
		j.Match = b.match(p)
	}
	return j
}

func (b body) Verdicts() []firewall.Verdict { return []firewall.Verdict{b.verdict} }

// chain makes a chain of a table.
func chain(t *firewall.Table, name string, hook firewall.Hook, rules ...*firewall.Rule) *firewall.Chain {
	c := &firewall.Chain{Table: t, Name: name, Hook: hook, Rules: rules}
	if hook != "" {
		c.Type, c.Policy = "filter", firewall.Accept
	}
	for i, r := range rules {
		r.Chain, r.Number = c, i+1
	}
	t.Chains = append(t.Chains, c)
	return c
}

func rule(text string, kind firewall.VerdictKind, detail string) *firewall.Rule {
	return &firewall.Rule{Written: text, Body: body{verdict: firewall.Verdict{Kind: kind, Detail: detail}}}
}

// dport is a rule for one destination port.
func dport(text string, port uint16, kind firewall.VerdictKind) *firewall.Rule {
	return &firewall.Rule{Written: text, Body: body{
		match:   func(p *firewall.Packet) firewall.Truth { return firewall.Of(p.DstPort == port) },
		verdict: firewall.Verdict{Kind: kind},
	}}
}

// Inodes and indexes of the sound host.
const (
	hostNS, webNS, dbNS, dbcNS = 1, 11, 12, 13

	eth0, brApp, docker0, vethWeb, vethDB = 2, 3, 4, 5, 6
)

func listener(text string) Listener { return Listener{Addr: netip.MustParseAddrPort(text)} }

// inside is the namespace of a container with one device on network app.
func inside(inode uint32, name, ip, mac string, peer uint32, tcp ...Listener) *Namespace {
	if tcp == nil {
		tcp = []Listener{}
	}
	nat := &firewall.Table{Family: firewall.FamilyIP, Name: "nat", Backend: firewall.IptablesNFT}
	chain(nat, "DOCKER_OUTPUT", "", rule("-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:40000", firewall.DNAT, "127.0.0.11:40000"))
	return &Namespace{
		Inode: inode, Name: name, Path: "/run/docker/netns/" + name,
		Links: []Link{
			{Index: 1, Name: "lo", Kind: "loopback", Up: true, Carrier: true, Addrs: []netip.Prefix{prefix("127.0.0.1/8")}},
			{Index: 9, Name: "eth0", Kind: "veth", Up: true, Carrier: true, MTU: 1500, MAC: mac, PeerNetNS: hostNS, PeerIndex: peer,
				Addrs: []netip.Prefix{prefix(ip + "/16"), prefix("fe80::1/64")}},
		},
		Routes: []Route{
			{Dst: prefix("0.0.0.0/0"), Dev: "eth0", Gateway: addr("172.18.0.1"), Table: mainTable},
			{Dst: prefix("172.18.0.0/16"), Dev: "eth0", Table: mainTable, Kernel: true},
		},
		Neighbours: []Neighbour{},
		TCP:        tcp, UDP: []Listener{listener("127.0.0.11:40000")},
		Resolvers: []netip.Addr{embeddedDNS()}, Rules: &firewall.Ruleset{Tables: []*firewall.Table{nat}},
	}
}

// sound is a healthy host: web, published on 8080, and db on network app, and the default network.
func sound() *Host {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	host := &Namespace{
		Inode: hostNS, Name: "host", Self: true, Host: true,
		Links: []Link{
			{Index: 1, Name: "lo", Kind: "loopback", Up: true, Carrier: true},
			{Index: eth0, Name: "eth0", Kind: "physical", Up: true, Carrier: true, MTU: 1500, Addrs: []netip.Prefix{prefix("192.0.2.10/24")}},
			{Index: brApp, Name: "br-app", Kind: "bridge", Up: true, Carrier: true, MTU: 1500, Addrs: []netip.Prefix{prefix("172.18.0.1/16")}},
			{Index: docker0, Name: "docker0", Kind: "bridge", Up: true, MTU: 1500, Addrs: []netip.Prefix{prefix("172.17.0.1/16")}},
			{Index: vethWeb, Name: "veth1", Kind: "veth", Up: true, Carrier: true, MTU: 1500, Master: brApp, PortState: "forwarding"},
			{Index: vethDB, Name: "veth2", Kind: "veth", Up: true, Carrier: true, MTU: 1500, Master: brApp, PortState: "forwarding"},
		},
		Routes: []Route{
			{Dst: prefix("0.0.0.0/0"), Dev: "eth0", Gateway: addr("192.0.2.1"), Table: mainTable},
			{Dst: prefix("192.0.2.0/24"), Dev: "eth0", Table: mainTable, Kernel: true},
			{Dst: prefix("172.18.0.0/16"), Dev: "br-app", Table: mainTable, Kernel: true},
			{Dst: prefix("172.17.0.0/16"), Dev: "docker0", Table: mainTable, Kernel: true},
		},
		Neighbours: []Neighbour{
			{Ifindex: brApp, Addr: addr("172.18.0.2"), MAC: "02:42:ac:12:00:02", State: "REACHABLE"},
			{Ifindex: brApp, Addr: addr("172.18.0.9"), MAC: "02:42:ac:12:00:09", State: "STALE"},
		},
		TCP: []Listener{{Addr: netip.MustParseAddrPort("0.0.0.0:8080"), Process: "docker-proxy", PID: 7}, listener("0.0.0.0:22")},
		UDP: []Listener{},
		Sysctls: map[string]string{
			"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "0", "net/bridge/bridge-nf-call-iptables": "1",
			"net/netfilter/nf_conntrack_count": "100", "net/netfilter/nf_conntrack_max": "65536",
			"net/ipv4/conf/eth0/forwarding": "1", "net/ipv4/conf/br-app/forwarding": "1", "net/ipv4/conf/eth0/rp_filter": "0",
			"net/ipv4/conf/br-app/rp_filter": "0",
		},
		Rules: hostRules(), Counters: map[string]uint64{},
	}
	web := inside(webNS, "web", "172.18.0.2", "02:42:ac:12:00:02", vethWeb, listener("[::]:80"))
	db := inside(dbNS, "db", "172.18.0.3", "02:42:ac:12:00:03", vethDB, listener("0.0.0.0:5432"))
	endpoint := func(ip, mac string) []Endpoint {
		return []Endpoint{{NetworkID: "n1", Network: "app", IPv4: addr(ip), Gateway: addr("172.18.0.1"), MAC: mac}}
	}
	published := []Port{{HostIP: netip.IPv4Unspecified(), HostPort: 8080, ContainerPort: 80, Proto: "tcp"}}
	return &Host{
		NS: host, Namespaces: map[uint32]*Namespace{hostNS: host, webNS: web, dbNS: db}, Now: now,
		Engine: Engine{CLI: "docker", Version: "20.10.24", SettingsKnown: true, ConfigFile: "/etc/docker/daemon.json", IPTables: true, UserlandProxy: true},
		Containers: []*Container{
			{ID: "c1", Name: "web", State: "running", NS: web, Mode: "app", Endpoints: endpoint("172.18.0.2", "02:42:ac:12:00:02"),
				Published: published, Configured: published, Restart: "always", Started: now.Add(-time.Hour)},
			{ID: "c2", Name: "db", State: "running", NS: db, Mode: "app", Endpoints: endpoint("172.18.0.3", "02:42:ac:12:00:03"), Started: now.Add(-time.Hour)},
		},
		Networks: []*Network{
			{ID: "n1", Name: "app", Driver: "bridge", Bridge: "br-app", Subnets: []netip.Prefix{prefix("172.18.0.0/16")}, ICC: true},
			{ID: "n0", Name: "bridge", Driver: "bridge", Bridge: "docker0", Subnets: []netip.Prefix{prefix("172.17.0.0/16")}, ICC: true},
			{ID: "n2", Name: "host", Driver: "host"}, {ID: "n3", Name: "none", Driver: "null"},
		},
		Services: &Services{
			Files: map[string]string{
				"/lib/systemd/system/docker.service": "[Unit]\nAfter=network-online.target docker.socket firewalld.service\n",
				"/etc/nftables.conf":                 "#!/usr/sbin/nft -f\nflush ruleset\n",
			},
			Enabled: []string{"docker.service"}, Active: []string{"docker.service"},
		},
	}
}

// hostRules are a filter table that lets everything pass, with DOCKER-USER.
func hostRules() *firewall.Ruleset {
	filter := &firewall.Table{Family: firewall.FamilyIP, Name: "filter", Backend: firewall.IptablesNFT}
	chain(filter, "INPUT", firewall.Input)
	chain(filter, "FORWARD", firewall.Forward, &firewall.Rule{
		Written: "-A FORWARD -j DOCKER-USER", Body: body{verdict: firewall.Verdict{Kind: firewall.Jump, Chain: "DOCKER-USER"}},
	})
	chain(filter, "DOCKER-USER", "", rule("-A DOCKER-USER -j RETURN", firewall.Return, ""))
	chain(filter, "DOCKER", "")
	return &firewall.Ruleset{Tables: []*firewall.Table{filter}}
}

// examine returns what is found, as "severity check" words.
func examine(h *Host, scope *Scope) (words []string, all []path.Finding) {
	all = Examine([]*Host{h}, scope)
	for _, f := range all {
		words = append(words, string(f.Severity)+" "+f.Check)
	}
	return words, all
}

func TestSound(t *testing.T) {
	if words, all := examine(sound(), nil); len(words) > 0 {
		t.Errorf("found %q: %+v", words, all)
	}
	// Nothing read is nothing found.
	empty := &Host{NS: &Namespace{}, Engine: Engine{}}
	if words, all := examine(empty, nil); len(words) > 0 {
		t.Errorf("found without facts %q: %+v", words, all)
	}
}

// ill is a host with one thing wrong.
type ill struct {
	name  string
	spoil func(h *Host)
	want  []string // "severity check"
	says  []string // in the first finding
	cause path.Cause
}

func runIll(t *testing.T, table []ill) {
	t.Helper()
	for _, tt := range table {
		t.Run(tt.name, func(t *testing.T) {
			h := sound()
			tt.spoil(h)
			words, all := examine(h, nil)
			if !slices.Equal(words, tt.want) {
				t.Fatalf("got %q, want %q\n%+v", words, tt.want, all)
			}
			if len(all) == 0 {
				return
			}
			checkWords(t, all[0], tt)
		})
	}
}

// checkWords checks what a finding says, and that it can be used: one sentence, commands with names.
func checkWords(t *testing.T, f path.Finding, tt ill) {
	t.Helper()
	if f.Cause != tt.cause {
		t.Errorf("cause %q, want %q", f.Cause, tt.cause)
	}
	text := f.Summary + "\n" + strings.Join(f.Evidence, "\n") + "\n" + strings.Join(f.Remedy, "\n")
	for _, part := range tt.says {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
	if f.Type != "finding" || strings.Contains(f.Summary, "\n") || strings.HasSuffix(f.Summary, ".") || len(f.Evidence) == 0 {
		t.Errorf("not one sentence with evidence: %+v", f)
	}
	if strings.Contains(text, "%!") || strings.Contains(text, "invalid") {
		t.Errorf("a value is missing in\n%s", text)
	}
}
