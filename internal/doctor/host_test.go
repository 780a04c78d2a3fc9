package doctor

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

func TestEngine(t *testing.T) {
	runIll(t, []ill{
		{name: "none", spoil: func(h *Host) {
			*h = Host{NS: h.NS, Engine: Engine{State: EngineNone, Problem: "no Docker engine at /x"}}
		},
			want: []string{"note docker-absent"}, says: []string{"no Docker engine at /x"}},
		{name: "dead", spoil: func(h *Host) {
			h.Engine.State, h.Engine.Problem, h.Engine.Orphans = EngineDown, "the Docker engine at /x is not running", 3
			nat := &firewall.Table{Family: firewall.FamilyIP, Name: "nat", Backend: firewall.IptablesNFT}
			chain(nat, "DOCKER", "", dport("-A DOCKER", 8080, firewall.DNAT))
			nat.Chains[0].Rules[0].Body = body{verdict: firewall.Verdict{Kind: firewall.DNAT, Detail: "172.18.0.2:80"}}
			h.NS.Rules.Tables = append(h.NS.Rules.Tables, nat)
		}, want: []string{"error docker-not-running"}, says: []string{"/x is not running", "3 containers still running without it", "systemctl start docker"}},
		{name: "dead, rules gone", spoil: func(h *Host) {
			h.Engine.State, h.Engine.Problem, h.NS.TCP = EngineDown, "x", nil
		}, want: []string{"error docker-not-running", "error nat-missing"}, says: []string{"systemctl start docker"}},
		{name: "hangs", spoil: func(h *Host) {
			h.Engine.State, h.Engine.Problem = EngineHangs, "the Docker engine at /x does not answer"
		},
			want: []string{"error docker-not-running"}, says: []string{"systemctl restart docker"}},
		{name: "not allowed", spoil: func(h *Host) { h.Engine.State = EngineDenied }},
		{name: "iptables off", spoil: func(h *Host) { h.Engine.IPTables = false }, want: []string{"warning docker-iptables-off"},
			cause: "docker-rules-missing", says: []string{"/etc/docker/daemon.json", "docker-proxy only"}},
		{name: "broken configuration", spoil: func(h *Host) { h.Engine.ConfigProblem = "decode /etc/docker/daemon.json: unexpected end" },
			want: []string{"warning daemon-config-broken"}, says: []string{"dockerd --validate --config-file /etc/docker/daemon.json"}},
	})
}

// TestInferNetworks: an engine that is away leaves enough to tell bridges and subnets.
func TestInferNetworks(t *testing.T) {
	h := sound()
	want := *h.Networks[0]
	h.Networks = nil
	h.InferNetworks()
	if len(h.Networks) != 1 || !reflect.DeepEqual(*h.Networks[0], want) {
		t.Errorf("got %+v, want %+v", h.Networks, want)
	}
	h.NS.Links[4].Up, h.Engine.State, h.Engine.Problem, h.NS.Rules = false, EngineDown, "x", nil
	if words, _ := examine(h, nil); !slices.Equal(words, []string{"error docker-not-running", "error veth-down"}) {
		t.Errorf("got %q", words)
	}
}

func TestNames(t *testing.T) {
	onDefault := func(h *Host, names ...string) {
		for _, name := range names {
			h.Containers = append(h.Containers, &Container{ID: name, Name: name, State: "running", Mode: "default",
				Endpoints: []Endpoint{{NetworkID: "n0", Network: "bridge", IPv4: addr("172.17.0.2")}}})
		}
	}
	runIll(t, []ill{
		{name: "rules gone", spoil: func(h *Host) { h.Containers[1].NS.Rules = &firewall.Ruleset{} }, want: []string{"error dns-rules-missing"},
			cause: "name-not-resolved", says: []string{"db", "127.0.0.11", "docker restart db"}},
		{name: "rules not readable", spoil: func(h *Host) { h.Containers[1].NS.Rules = &firewall.Ruleset{Problems: []string{"x"}} }},
		{name: "rules not read", spoil: func(h *Host) { h.Containers[1].NS.Rules = nil }},
		{name: "own name servers", spoil: func(h *Host) {
			h.Containers[1].NS.Rules, h.Containers[1].NS.Resolvers = &firewall.Ruleset{}, nil
		}},
		{name: "server gone", spoil: func(h *Host) { h.Containers[1].NS.UDP = []Listener{} }, want: []string{"error dns-server-gone"},
			cause: "name-not-resolved", says: []string{"db", "docker restart db"}},
		{name: "default bridge", spoil: func(h *Host) { onDefault(h, "one", "two") }, want: []string{"note default-bridge-names"},
			cause: "name-not-resolved", says: []string{"one and two", "docker network connect app one"}},
		{name: "alone on the default bridge", spoil: func(h *Host) { onDefault(h, "one") }},
	})
}

func TestAlone(t *testing.T) {
	other := func(h *Host, c Container) *Container {
		c.ID, c.State, c.Mode = "c9", "running", "lab"
		h.Networks = append(h.Networks, &Network{ID: "n9", Name: "lab", Driver: "bridge", Bridge: "br-lab", ICC: true})
		h.NS.Links = append(h.NS.Links, Link{Index: 30, Name: "br-lab", Kind: "bridge", Up: true})
		h.Containers = append(h.Containers, &c)
		return &c
	}
	lab := []Endpoint{{NetworkID: "n9", Network: "lab"}}
	runIll(t, []ill{
		{name: "no network", spoil: func(h *Host) { other(h, Container{Name: "cli"}) }, want: []string{"warning container-without-network"},
			cause: path.CauseNoSharedNetwork, says: []string{"cli", "docker network connect lab cli"}},
		{name: "mode none", spoil: func(h *Host) { other(h, Container{Name: "cli"}).Mode = "none" }},
		{name: "worker on its own", spoil: func(h *Host) { other(h, Container{Name: "cron", Endpoints: lab}) }},
		{name: "apart from its project", spoil: func(h *Host) {
			other(h, Container{Name: "api", Project: "shop", Endpoints: lab})
			h.Containers[1].Project = "shop"
		}, want: []string{"note container-alone"}, cause: path.CauseNoSharedNetwork, says: []string{"project shop", "docker network connect app api"}},
		{name: "serves nobody", spoil: func(h *Host) {
			other(h, Container{Name: "api", Endpoints: lab, NS: &Namespace{TCP: []Listener{listener("[::]:9000")}}})
		}, want: []string{"note container-alone"}, cause: path.CauseNoSharedNetwork, says: []string{"api listens on port 9000"}},
	})
}

func TestBridgeFilter(t *testing.T) {
	off := func(h *Host) { h.NS.Sysctls["net/bridge/bridge-nf-call-iptables"] = "0" }
	runIll(t, []ill{
		{name: "nothing relies on it", spoil: off},
		{name: "absent, nothing relies on it", spoil: func(h *Host) { h.NS.Sysctls["net/bridge/bridge-nf-call-iptables"] = "" }},
		{name: "icc", spoil: func(h *Host) { off(h); h.Networks[0].ICC = false }, want: []string{"warning bridge-netfilter-off"},
			cause: "bridge-netfilter-off", says: []string{"network app", "enable_icc=false", "sysctl -w"}},
		{name: "absent", spoil: func(h *Host) {
			h.NS.Sysctls["net/bridge/bridge-nf-call-iptables"], h.Networks[0].ICC = "", false
		}, want: []string{"warning bridge-netfilter-absent"}, cause: "bridge-netfilter-off", says: []string{"modprobe br_netfilter"}},
		{name: "hairpin", spoil: func(h *Host) { off(h); h.Engine.UserlandProxy = false }, want: []string{"warning bridge-netfilter-off"},
			cause: "bridge-netfilter-off", says: []string{"without docker-proxy, containers on app"}},
		{name: "a rule", spoil: func(h *Host) {
			off(h)
			c := h.NS.Rules.Tables[0].Chain("DOCKER-USER")
			r := rule("-A DOCKER-USER -i br-app -o br-app -p tcp -m tcp --dport 80 -j DROP", firewall.Drop, "")
			r.Body = body{match: func(*firewall.Packet) firewall.Truth { return firewall.No }, verdict: firewall.Verdict{Kind: firewall.Drop}}
			r.Chain, r.Number = c, 1
			c.Rules = []*firewall.Rule{r}
		}, want: []string{"warning bridge-netfilter-off"}, cause: "bridge-netfilter-off", says: []string{"rule 1 of DOCKER-USER is not applied: -A DOCKER-USER -i br-app"}},
	})
}

func TestConntrack(t *testing.T) {
	used := func(n string) func(h *Host) {
		return func(h *Host) { h.NS.Sysctls["net/netfilter/nf_conntrack_count"] = n }
	}
	runIll(t, []ill{
		{name: "79 %", spoil: used("52000")},
		{name: "80 %", spoil: used("53000"), want: []string{"warning conntrack-nearly-full"}, cause: "conntrack-full", says: []string{"80 % full", "nf_conntrack_max=131072"}},
		{name: "full", spoil: used("65536"), want: []string{"error conntrack-full"}, cause: "conntrack-full"},
	})
}

func TestServices(t *testing.T) {
	const wiped = "warning rules-wiped-on-restart"
	active := func(units ...string) func(h *Host) {
		return func(h *Host) { h.Services.Active = append(h.Services.Active, units...) }
	}
	with := func(unit, file, text string) func(h *Host) {
		return func(h *Host) {
			h.Services.Enabled = append(h.Services.Enabled, unit)
			h.Services.Files[file] = text
		}
	}
	const dropIn = "/etc/systemd/system/docker.service.d/x.conf"
	runIll(t, []ill{
		{name: "nftables", spoil: active("nftables.service"), want: []string{wiped}, cause: "docker-rules-missing",
			says: []string{"nftables.service is active", "flush ruleset", "PartOf=nftables.service"}},
		{name: "nftables, commented out", spoil: with("nftables.service", "/etc/nftables.conf", "# flush ruleset\ntable inet f {}\n")},
		{name: "nftables, bound", spoil: func(h *Host) {
			active("nftables.service")(h)
			h.Services.Files[dropIn] = "[Unit]\nPartOf=nftables.service\n"
		}},
		{name: "netfilter-persistent", spoil: with("netfilter-persistent.service", "/etc/iptables/rules.v4", "*filter\nCOMMIT\n"), want: []string{wiped},
			cause: "docker-rules-missing", says: []string{"starts with the host", "rules.v4", "IPTABLES_RESTORE_NOFLUSH"}},
		{name: "netfilter-persistent without flushing", spoil: func(h *Host) {
			with("netfilter-persistent.service", "/etc/iptables/rules.v4", "*filter\nCOMMIT\n")(h)
			h.Services.Files["/etc/default/netfilter-persistent"] = "IPTABLES_RESTORE_NOFLUSH=yes\n"
		}},
		{name: "ufw", spoil: with("ufw.service", "/etc/default/ufw", "IPV6=yes\nMANAGE_BUILTINS=no\n")},
		{name: "ufw with builtins", spoil: with("ufw.service", "/etc/default/ufw", "MANAGE_BUILTINS=yes\n"), want: []string{wiped}, cause: "docker-rules-missing"},
		{name: "firewalld", spoil: active("firewalld.service")},
		{name: "firewalld, not ordered", spoil: func(h *Host) {
			active("firewalld.service")(h)
			h.Services.Files["/lib/systemd/system/docker.service"] = "[Unit]\nAfter=network.target\n"
		}, want: []string{wiped}, cause: "docker-rules-missing", says: []string{"not ordered after firewalld.service"}},
		{name: "not installed here", spoil: func(h *Host) { active("nftables.service")(h); h.Services = nil }},
	})
}

func TestRules(t *testing.T) {
	legacy := func(h *Host) *firewall.Table {
		t := &firewall.Table{Family: firewall.FamilyIP, Name: "filter", Backend: firewall.IptablesLegacy}
		h.NS.Rules.Tables = append(h.NS.Rules.Tables, t)
		return t
	}
	drop := func(purpose expect.Purpose, cause path.Cause, m expect.Missing) func(h *Host) {
		m.Purpose, m.Cause = purpose, cause
		if m.Sentence == "" {
			m.Sentence = "no rule lets requests in"
		}
		m.Rule, m.Table, m.Command = "-A X", "nat", "iptables -t nat -A X"
		return func(h *Host) { h.Missing = append(h.Missing, m) }
	}
	port := expect.Port{HostIP: addr("0.0.0.0"), HostPort: 8080, ContainerPort: 80, Proto: "tcp"}
	noProxy := func(h *Host) { h.NS.TCP = []Listener{} }
	runIll(t, []ill{
		{name: "empty legacy tables", spoil: func(h *Host) { chain(legacy(h), "INPUT", firewall.Input) }},
		{name: "two backends", spoil: func(h *Host) {
			chain(legacy(h), "INPUT", firewall.Input, dport("-A INPUT -p tcp --dport 9 -j DROP", 9, firewall.Drop))
		}, want: []string{"warning two-iptables-backends"}, says: []string{"1 rule of iptables-legacy", "Docker's chains are those of iptables-nft"}},
		{name: "many rules", spoil: func(h *Host) {
			var rules []*firewall.Rule
			for i := range 1500 {
				rules = append(rules, dport(fmt.Sprintf("-A DOCKER-USER -p tcp --dport %d -j DROP", 20000+i), uint16(20000+i), firewall.Drop))
			}
			chain(h.NS.Rules.Tables[0], "LONG", "", rules...)
			h.NS.Rules.Tables[0].Chain("DOCKER-USER").Rules[0].Body = body{verdict: firewall.Verdict{Kind: firewall.Jump, Chain: "LONG"}}
		}, want: []string{"note many-rules"}, says: []string{"1,502 rules at the hook forward", "1,500 rules of them are in chain LONG"}},
		{name: "many rules elsewhere", spoil: func(h *Host) {
			var rules []*firewall.Rule
			for i := range 1500 {
				rules = append(rules, dport("-A OTHER", uint16(i), firewall.Drop))
			}
			chain(h.NS.Rules.Tables[0], "OTHER", "", rules...)
		}},
		{name: "way in", spoil: drop(expect.Open, "docker-rules-missing", expect.Missing{Container: "web", Network: "app", Port: port}),
			want: []string{"error docker-rules-missing"}, cause: "docker-rules-missing", says: []string{"missing: -A X (table nat)", "iptables -t nat -A X", "systemctl restart docker"}},
		{name: "translation, hidden", spoil: drop(expect.Publish, "nat-missing", expect.Missing{Container: "web", Network: "app", Port: port}),
			want: []string{"warning nat-missing"}, cause: "nat-missing", says: []string{"port 8080 of web works through docker-proxy only"}},
		{name: "translation", spoil: func(h *Host) {
			noProxy(h)
			drop(expect.Publish, "nat-missing", expect.Missing{Container: "web", Network: "app", Port: port})(h)
		}, want: []string{"error nat-missing"}, cause: "nat-missing", says: []string{"port 8080 of web is answered by nobody"}},
		{name: "the way to all translations", spoil: func(h *Host) {
			noProxy(h)
			drop(expect.Jump, "nat-missing", expect.Missing{Sentence: "chain PREROUTING does not call DOCKER"})(h)
		}, want: []string{"error nat-missing"}, cause: "nat-missing", says: []string{"port 8080 of web", "chain PREROUTING does not call DOCKER"}},
		{name: "masquerade", spoil: drop(expect.Masquerade, "masquerade-missing", expect.Missing{Network: "app"}),
			want: []string{"error masquerade-missing"}, cause: "masquerade-missing"},
		{name: "masquerade of nobody", spoil: drop(expect.Masquerade, "masquerade-missing", expect.Missing{Network: "bridge"}),
			want: []string{"warning masquerade-missing"}, cause: "masquerade-missing"},
		{name: "protection", spoil: drop(expect.Protection, "docker-rules-missing", expect.Missing{Exposes: true}),
			want: []string{"warning docker-protection-missing"}, cause: "docker-rules-missing"},
	})
}

func TestScope(t *testing.T) {
	h := sound()
	h.Containers[0].NS.TCP = []Listener{}                     // web, port 8080
	h.Containers[1].NS.Routes = h.Containers[1].NS.Routes[1:] // db
	h.NS.Sysctls["net/ipv4/ip_forward"] = "0"                 // the host
	h.Networks[1].Subnets = h.Networks[0].Subnets             // app and bridge overlap
	all := []string{"error forwarding-off", "error port-nothing-listens", "error no-default-route", "error subnet-overlap"}
	for _, tt := range []struct {
		name  string
		scope *Scope
		want  []string
	}{
		{"all", nil, all},
		{"web", &Scope{Containers: []string{"c1"}}, []string{all[0], all[1], all[3]}},
		{"web:8080", &Scope{Containers: []string{"c1"}, Port: 8080}, []string{all[0], all[1], all[3]}},
		{"web:80", &Scope{Containers: []string{"c1"}, Port: 80}, []string{all[0], all[1], all[3]}},
		{"web:9000", &Scope{Containers: []string{"c1"}, Port: 9000}, []string{all[0], all[3]}},
		{"db", &Scope{Containers: []string{"c2"}}, []string{all[0], all[2], all[3]}},
		{"network app", &Scope{Networks: []string{"n1"}}, []string{all[0], all[3]}},
		{"network host", &Scope{Networks: []string{"n2"}}, []string{all[0]}},
	} {
		if words, _ := examine(h, tt.scope); !slices.Equal(words, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, words, tt.want)
		}
	}
}

// TestOrder: errors come before warnings and notes, and several hosts are told apart.
func TestOrder(t *testing.T) {
	one, two := sound(), sound()
	one.Name, two.Name = "host1", "host2"
	one.NS.Sysctls["net/netfilter/nf_conntrack_count"] = "60000"
	two.NS.Links[2].Up = false
	all := Examine([]*Host{one, two}, nil)
	if len(all) != 2 || all[0].Check != "bridge-down" || all[0].Where.Host != "host2" || all[1].Where.Host != "host1" {
		t.Errorf("got %+v", all)
	}
}
