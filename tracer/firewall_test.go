package tracer_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/lab"
	"github.com/pathtrace/pathtrace/internal/lab/labtest"
	"github.com/pathtrace/pathtrace/tracer"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// ruleOutage is rules that a tool writes, and the one that is to be named.
type ruleOutage struct {
	name     string
	do       []string // commands, each after the name of the namespace and a colon
	from, to string   // client and the published port if empty
	proto    path.Proto
	outcome  path.Outcome // dropped if empty
	cause    path.Cause   // firewall-drop if empty
	place    string       // family, table, chain and number of the rule; "" if it cannot be told
	text     string       // the rule as it is to be shown
	says     string       // part of the evidence
	in       string       // part of the summary
}

// ruleOutages are rules of every tool in every hook.
func ruleOutages() []ruleOutage {
	const (
		web  = "10.77.0.2:80"
		bare = "-p tcp -m tcp --dport 80 -j DROP"
	)
	inet := func(name, hook string) []string {
		return []string{"router: nft add table inet other", "router: nft add chain inet other c { type filter hook " + hook + " ; }",
			"router: nft add rule inet other c " + name}
	}
	return []ruleOutage{
		{name: "iptables, forward", do: []string{"router: iptables -A FORWARD -i eth0 -o br-demo -p tcp --dport 80 -j DROP"},
			place: "ip filter FORWARD 1", text: "-A FORWARD -i eth0 -o br-demo -p tcp -m tcp --dport 80 -j DROP"},
		{name: "chains and marks", do: []string{
			"router: iptables -t mangle -A PREROUTING -p tcp --dport 8080 -j MARK --set-xmark 0x7/0xff",
			"router: iptables -N a", "router: iptables -N b", "router: iptables -A FORWARD -p udp -j DROP", "router: iptables -A FORWARD -j a",
			"router: iptables -A a -m mark ! --mark 0x7/0xff -j RETURN", "router: iptables -A a -g b", "router: iptables -A a -j ACCEPT",
			"router: iptables -A b -s 192.0.2.0/24 -m conntrack --ctstate NEW --ctorigdstport 8080 -m comment --comment closed -j DROP"},
			place: "ip filter b 1", says: "the rule's comment says: closed",
			text: "-A b -s 192.0.2.0/24 -m conntrack --ctstate NEW --ctorigdstport 8080 -m comment --comment closed -j DROP"},
		{name: "iptables, raw", do: []string{"router: iptables -t raw -A PREROUTING -p tcp -m multiport --dports 8080,9090 -j DROP"},
			place: "ip raw PREROUTING 1", text: "-A PREROUTING -p tcp -m multiport --dports 8080,9090 -j DROP"},
		{name: "iptables, mangle after routing", do: []string{"router: iptables -t mangle -A POSTROUTING -o br-demo -p tcp -j DROP"},
			place: "ip mangle POSTROUTING 1", text: "-A POSTROUTING -o br-demo -p tcp -j DROP"},
		{name: "policy", do: []string{"router: iptables -P FORWARD DROP", "router: iptables -A FORWARD -p udp -j ACCEPT"},
			cause: path.CauseFirewallPolicy, place: "ip filter FORWARD 0", text: "-P FORWARD DROP"},
		{name: "in the target", do: []string{"web: iptables -A INPUT -p tcp --dport 80 -j DROP"},
			place: "ip filter INPUT 1", text: "-A INPUT " + bare},
		{name: "at the source", do: []string{"client: iptables -A OUTPUT -d 192.0.2.1/32 -p tcp -j DROP"},
			place: "ip filter OUTPUT 1", text: "-A OUTPUT -d 192.0.2.1/32 -p tcp -j DROP"},
		{name: "the reply", do: []string{"router: iptables -A FORWARD -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j DROP"},
			place: "ip filter FORWARD 1", text: "-A FORWARD -m conntrack --ctstate ESTABLISHED --ctdir REPLY -j DROP"},
		{name: "reject", do: []string{"router: iptables -A FORWARD -p tcp -j REJECT --reject-with tcp-reset"},
			outcome: path.Refused, cause: path.CauseFirewallReject, place: "ip filter FORWARD 1",
			text: "-A FORWARD -p tcp -j REJECT --reject-with tcp-reset"},
		{name: "legacy, forward", do: []string{"router: iptables-legacy -A FORWARD -p tcp --dport 80 -j DROP"},
			place: "ip filter FORWARD 1", text: "-A FORWARD " + bare},
		{name: "legacy policy", do: []string{"router: iptables-legacy -P FORWARD DROP"},
			cause: path.CauseFirewallPolicy, place: "ip filter FORWARD 0", text: "-P FORWARD DROP"},
		{name: "legacy beside nftables", do: append(inet("tcp dport 80 counter drop", "forward priority 10"),
			"router: iptables-legacy -A FORWARD -p tcp --dport 80 -j DROP"),
			place: "ip filter FORWARD 1", text: "-A FORWARD " + bare},
		{name: "nftables, forward", do: inet("ip saddr 192.0.2.0/24 tcp dport { 80, 443 } counter drop", "forward priority 10"),
			place: "inet other c 1", text: "ip saddr 192.0.2.0/24 tcp dport { 80, 443 } counter drop"},
		{name: "nftables, without a counter", do: inet("ip protocol tcp ct original proto-dst 8080 drop", "forward priority -10"),
			place: "inet other c 1", text: "ip protocol tcp ct original proto-dst 8080 drop"},
		{name: "nftables, prerouting after the translation", do: inet("tcp dport 80 drop", "prerouting priority 0"),
			place: "inet other c 1", text: "tcp dport 80 drop"},
		{name: "nftables, prerouting before the translation", do: inet("tcp dport 8080 drop", "prerouting priority -150"),
			place: "inet other c 1", text: "tcp dport 8080 drop"},
		{name: "one of two that count", do: append(inet("tcp dport 80 limit rate 1/second counter drop", "forward priority 0"),
			"router: nft add rule inet other c tcp dport 80 limit rate over 1/hour counter drop"),
			place: "inet other c 1", text: "tcp dport 80 limit rate 1/second counter drop", says: "counter went from 0 to 1 packets"},
		{name: "one of two that do not count", do: append(inet("limit rate 1/second drop", "forward priority 0"),
			"router: nft add rule inet other c drop"), says: "it was one of these 2: "},
		{name: "netdev family", do: []string{"router: nft add table netdev n",
			"router: nft add chain netdev n c { type filter hook ingress device eth0 priority 0 ; }",
			"router: nft add rule netdev n c tcp dport 8080 counter drop"},
			place: "netdev n c 1", text: "tcp dport 8080 counter drop", in: "the ingress hook of device eth0 in router"},
		{name: "bridge family", from: "app", to: web, do: []string{"router: nft add table bridge b",
			"router: nft add chain bridge b c { type filter hook forward priority 0 ; }", "router: nft add rule bridge b c tcp dport 80 counter drop"},
			cause: path.CauseBridgeFilter, place: "bridge b c 1", text: "tcp dport 80 counter drop"},
		{name: "IPv6, forward", to: "[2001:db8:1::1]:8080", do: []string{"router: ip6tables -A FORWARD -d fd77::2/128 -p tcp --dport 80 -j DROP"},
			place: "ip6 filter FORWARD 1", text: "-A FORWARD -d fd77::2/128 -p tcp -m tcp --dport 80 -j DROP"},
		{name: "IPv6, legacy", to: "[2001:db8:1::1]:8080", do: []string{"router: ip6tables-legacy -A FORWARD -p tcp --dport 80 -j DROP"},
			place: "ip6 filter FORWARD 1", text: "-A FORWARD " + bare},
		{name: "IPv6, inet table", to: "[2001:db8:1::1]:8080", do: inet("ip6 daddr fd77::/64 drop", "forward priority 10"),
			place: "inet other c 1", text: "ip6 daddr fd77::/64 drop"},
		{name: "UDP", to: "192.0.2.1:7070", proto: path.UDP, do: []string{"router: iptables -A FORWARD -p udp --dport 7 -j DROP"},
			place: "ip filter FORWARD 1", text: "-A FORWARD -p udp -m udp --dport 7 -j DROP"},
		{name: "echo", to: "192.0.2.1", proto: path.ICMP, do: []string{"router: iptables -A INPUT -p icmp --icmp-type echo-request -j DROP"},
			place: "ip filter INPUT 1", text: "-A INPUT -p icmp -m icmp --icmp-type 8 -j DROP"},
	}
}

// TestRules writes rules with the tools of the machine and asks which one it was.
func TestRules(t *testing.T) {
	for _, o := range ruleOutages() {
		t.Run(o.name, func(t *testing.T) {
			d := labtest.Demo(t, lab.Options{})
			if strings.Contains(o.to, "[") && !d.IPv6() {
				t.Skip("no IPv6")
			}
			for _, c := range o.do {
				name, command, _ := strings.Cut(c, ": ")
				for _, ns := range d.Namespaces() {
					if ns.Name == name {
						tool(t, ns, command)
					}
				}
			}
			o.check(t, d)
		})
	}
}

func (o *ruleOutage) check(t *testing.T, d *lab.Demo) {
	t.Helper()
	from, to, outcome, cause := o.from, o.to, o.outcome, o.cause
	if from == "" {
		from = "client"
	}
	if to == "" {
		to = d.Published(false).String()
	}
	if outcome == "" {
		outcome = path.Dropped
	}
	if cause == "" {
		cause = path.CauseFirewallDrop
	}
	v := probe(t, d.Lab, from, to, func(c *tracer.Config) { c.Proto = o.proto }).flows[0].Verdict
	checkVerdict(t, v, outcome, cause)
	place, text := ruleOf(v)
	if place != o.place || text != o.text {
		t.Errorf("rule %s: %s\nwant %s: %s\n%s\n%s", place, text, o.place, o.text, v.Summary, strings.Join(v.Evidence, "\n"))
	}
	if !strings.Contains(v.Summary, o.in) {
		t.Errorf("summary %q lacks %q", v.Summary, o.in)
	}
	if all := strings.Join(v.Evidence, "\n"); !strings.Contains(all, o.says) {
		t.Errorf("evidence lacks %q:\n%s", o.says, all)
	}
}

// ruleOf returns the place and the text of the rule that a verdict names; "" if it names none.
func ruleOf(v path.Verdict) (place, text string) {
	if v.Where == nil || v.Where.Rule == nil {
		return "", ""
	}
	r := v.Where.Rule
	return strings.Join([]string{r.Family, r.Table, r.Chain, strconv.Itoa(r.Number)}, " "), r.Text
}

// TestTranslationRules: the steps of NAT name the rules that made them.
func TestTranslationRules(t *testing.T) {
	d := labtest.Demo(t, lab.Options{})
	for _, c := range []string{"iptables -t nat -N DOCKER", "iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
		"iptables -t nat -A DOCKER ! -i br-demo -p tcp -m tcp --dport 9090 -j DNAT --to-destination 10.77.0.2:80",
		"iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -o br-demo -p tcp --dport 80 -j MASQUERADE"} {
		tool(t, d.Router, c)
	}
	v := probe(t, d.Lab, "client", "192.0.2.1:9090", nil).flows[0].Verdict
	checkVerdict(t, v, path.Delivered, "")
	want := map[path.Action]string{path.ActionDNAT: "nat DOCKER 1 docker", path.ActionMasquerade: "nat POSTROUTING 1 user"}
	for _, n := range v.NAT {
		if n.Direction != path.Request {
			continue
		}
		got := ""
		if r := n.Rule; r != nil {
			got = strings.Join([]string{r.Table, r.Chain, strconv.Itoa(r.Number), r.Owner}, " ")
		}
		if got != want[n.Kind] {
			t.Errorf("%s by %q, want %q", n.Kind, got, want[n.Kind])
		}
		delete(want, n.Kind)
	}
	if len(want) > 0 {
		t.Errorf("not seen: %v, in %+v", want, v.NAT)
	}
}
