package diagnose

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/expect"
	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// engine is the Docker engine of the test flows' host.
func engine() *expect.State {
	subnet := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	return &expect.State{
		Version: "20.10.24", IPTables: true, UserlandProxy: true,
		Networks: []expect.Network{
			{Name: "app", Bridge: "br-app", ICC: true, Masquerade: true, Subnets: subnet("172.18.0.0/16")},
			{Name: "plain", Bridge: "br-plain", ICC: true, Subnets: subnet("172.20.0.0/16")},
		},
		Containers: []expect.Container{{
			Name: "web", Endpoints: []expect.Endpoint{{Network: "app", IPv4: ip("172.18.0.2")}},
			Ports: []expect.Port{{HostIP: netip.IPv4Unspecified(), HostPort: 8080, ContainerPort: 80, Proto: "tcp"}},
		}},
	}
}

// without are the facts of a host on which those of Docker's rules are missing that keep says.
func without(f *Facts, keep func(expect.Missing) bool) *Facts {
	x := &Expected{Missing: []expect.Missing{}, Networks: engine().Networks}
	for _, m := range expect.Check(engine(), &firewall.Ruleset{}) {
		if keep(m) {
			x.Missing = append(x.Missing, m)
		}
	}
	f.Namespaces[nsHost].Expected = x
	return f
}

func purpose(list ...expect.Purpose) func(expect.Missing) bool {
	return func(m expect.Missing) bool { return slices.Contains(list, m.Purpose) }
}

func natTable(m expect.Missing) bool { return m.Table == "nat" && m.Purpose != expect.Chain }

func all(expect.Missing) bool { return true }

func none(expect.Missing) bool { return false }

// ruleDrop is a request that the FORWARD hook of the host dropped.
func ruleDrop() *testFlow {
	f := newFlow(path.TCP)
	d := ends(sender, inner)
	f.add(path.Request, "S", append(f.out(),
		f.hop(nsHost, path.StageForward, path.ActionEnter, "eth0", d, through("eth0", "br-app")),
		f.hop(nsHost, path.StageForward, path.ActionDrop, "eth0", d, why("NETFILTER_DROP", "nft_do_chain")))...)
	return f
}

// replyDrop is a flow whose answer the FORWARD hook of the host dropped.
func replyDrop() *testFlow {
	f := newFlow(path.TCP)
	f.add(path.Request, "S", f.arriving()...)
	d := ends(inner, sender)
	f.add(path.Reply, "SA", append(f.backToHost(),
		f.hop(nsHost, path.StageForward, path.ActionEnter, "br-app", d, through("br-app", "eth0")),
		f.hop(nsHost, path.StageForward, path.ActionDrop, "br-app", d, why("NETFILTER_DROP", "nft_do_chain")))...)
	return f
}

// leaving is a request of a container that leaves its host with the source address given.
func leaving(src string) *testFlow {
	f := newFlow(path.TCP)
	f.p.NAT = nil
	f.p.Client, f.p.Source = ap("172.18.0.3:40000"), ap(src)
	f.p.Server, f.p.Target = ap("10.99.0.12:80"), ap("10.99.0.12:80")
	e, o := ends("172.18.0.3:40000", "10.99.0.12:80"), ends(src, "10.99.0.12:80")
	f.add(path.Request, "S",
		f.hop(nsCli, path.StageDevice, path.ActionTransmit, "eth0", e),
		f.hop(nsHost, path.StageDevice, path.ActionReceive, "veth2", e, bridgePort),
		f.hop(nsHost, path.StageForward, path.ActionEnter, "br-app", e, through("br-app", "eth0")),
		f.hop(nsHost, path.StageForward, path.ActionLeave, "br-app", e, through("br-app", "eth0")),
		f.hop(nsHost, path.StagePostrouting, path.ActionEnter, "eth0", e),
		f.hop(nsHost, path.StagePostrouting, path.ActionLeave, "eth0", o),
		f.hop(nsHost, path.StageDevice, path.ActionTransmit, "eth0", o))
	return f
}

// fromContainer are the facts of a flow from container cli to another host.
func fromContainer(keep func(expect.Missing) bool) func() *Facts {
	return func() *Facts {
		f := without(facts().between(Network{Name: "app"}), keep)
		f.Target = Endpoint{Label: "10.99.0.12"}
		f.Probe = silentProbe()
		return f
	}
}

func lostRules(keep func(expect.Missing) bool) func() *Facts {
	return func() *Facts { return without(facts(), keep) }
}

func TestRulesMissing(t *testing.T) {
	// refused is a request for the published port that the host's own stack answers.
	refused := func() *testFlow {
		f := newFlow(path.TCP).untranslated()
		e := ends(sender, asked)
		f.add(path.Request, "S", append(f.out()[:5],
			f.hop(nsHost, path.StageInput, path.ActionEnter, "eth0", e, through("eth0", "")),
			f.hop(nsHost, path.StageInput, path.ActionLeave, "eth0", e),
			f.hop(nsHost, path.StageTCP, path.ActionReset, "eth0", e),
			f.hop(nsHost, path.StageTCP, path.ActionDrop, "eth0", e, why("NO_SOCKET", "tcp_v4_rcv")))...)
		return f
	}
	input := func() *testFlow {
		f := newFlow(path.TCP).untranslated()
		e := ends(sender, asked)
		f.add(path.Request, "S", append(f.out()[:5],
			f.hop(nsHost, path.StageInput, path.ActionEnter, "eth0", e, through("eth0", "")),
			f.hop(nsHost, path.StageInput, path.ActionDrop, "eth0", e, why("NETFILTER_DROP", "nft_do_chain")))...)
		return f
	}
	const inForward = "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host " +
		"on its way eth0 → br-app, where Docker's own rules are missing: "
	runCases(t, []verdictCase{
		{
			name: "no rule for the port", flow: ruleDrop, facts: lostRules(purpose(expect.Open)),
			outcome: path.Dropped, cause: path.CauseDockerRulesMissing,
			summary: inForward + "no rule lets requests in to port 80 of web",
			where:   "host eth0 netfilter/forward request",
			remedy:  "iptables -I DOCKER -d 172.18.0.2/32 ! -i br-app -o br-app -p tcp -m tcp --dport 80 -j ACCEPT",
			evidence: "missing in host: -A DOCKER -d 172.18.0.2/32 ! -i br-app -o br-app -p tcp -m tcp --dport 80" +
				" -j ACCEPT (table filter)",
		},
		{
			name: "all is gone", flow: ruleDrop, facts: lostRules(all),
			outcome: path.Dropped, cause: path.CauseDockerRulesMissing,
			summary: inForward + "chain FORWARD does not call DOCKER for network app",
			remedy:  "systemctl restart docker  # puts all of Docker's rules back; restarts the containers, as live-restore is off",
		},
		{
			name: "answers", flow: replyDrop, facts: lostRules(purpose(expect.Outgoing)),
			outcome: path.Dropped, cause: path.CauseDockerRulesMissing,
			summary: "dropped: the reply from web was dropped in the FORWARD hook (netfilter) of host on its way " +
				"br-app → eth0, where Docker's own rules are missing: no rule lets network app out",
		},
		{
			name: "rules of something else", flow: ruleDrop, facts: lostRules(natTable),
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host on " +
				"its way eth0 → br-app",
		},
		{
			name: "only what closes", flow: ruleDrop, facts: lostRules(purpose(expect.Protection)),
			outcome: path.Dropped, cause: path.CauseFirewallDrop,
			summary: "dropped: the request from 10.99.0.1 was dropped in the FORWARD hook (netfilter) of host on " +
				"its way eth0 → br-app",
		},
		{
			name: "refused by the host", flow: refused, facts: lostRules(natTable),
			outcome: path.Refused, cause: path.CauseNATMissing,
			summary: "refused: the request from 10.99.0.1 for port 8080, which web publishes, stayed in host: " +
				"chain PREROUTING does not call DOCKER",
			where: "host eth0 tcp request", remedy: "systemctl restart docker",
		},
		{
			name: "dropped on its way to the host's socket", flow: input, facts: lostRules(purpose(expect.Publish)),
			outcome: path.Dropped, cause: path.CauseNATMissing,
			summary: "dropped: the request from 10.99.0.1 for port 8080, which web publishes, stayed in host: " +
				"no DNAT rule takes host port 8080 to web (172.18.0.2:80)",
			remedy: "iptables -t nat -A DOCKER ! -i br-app -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.18.0.2:80",
		},
		{
			name: "private source", flow: func() *testFlow { return leaving("172.18.0.3:40000") },
			facts: fromContainer(purpose(expect.Masquerade)), outcome: path.Lost, cause: path.CauseMasqueradeMissing,
			summary: "lost: the request from cli left host through eth0 with the private address 172.18.0.3, to " +
				"which no answer finds back: no MASQUERADE rule translates what leaves network app (172.18.0.0/16)",
			where:    "host eth0 netfilter/postrouting request",
			remedy:   "iptables -t nat -A POSTROUTING -s 172.18.0.0/16 ! -o br-app -j MASQUERADE",
			evidence: "eth0 in host sent it as 172.18.0.3:40000 to 10.99.0.12:80",
		},
		{
			name: "translated source", flow: func() *testFlow { return leaving("10.99.0.11:40000") },
			facts: fromContainer(all), outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from cli left host through eth0, and nothing came back within 2 s",
		},
		{
			name: "masquerading is not wanted", flow: func() *testFlow { return leaving("172.20.0.3:40000") },
			facts: fromContainer(none), outcome: path.Lost, cause: path.CauseMasqueradeMissing,
			summary: "lost: the request from cli left host through eth0 with the private address 172.20.0.3, to " +
				"which no answer finds back: network plain was made without masquerading",
			remedy: "docker network inspect",
		},
		{
			name: "the rule is there", flow: func() *testFlow { return leaving("172.18.0.3:40000") },
			facts: fromContainer(none), outcome: path.Lost, cause: path.CauseLostInTransit,
			summary: "lost: the request from cli left host through eth0, and nothing came back within 2 s",
		},
	})
}

func TestEvidenceOfMissingRules(t *testing.T) {
	f := without(facts(), all)
	x := f.Namespaces[nsHost].Expected
	x.Since, x.Assumed, x.LiveRestore = "firewalld was started 3 s ago, after dockerd", true, true
	v := Explain(&ruleDrop().p, f)
	text := strings.Join(append(v.Evidence, v.Remedy...), "\n")
	for _, part := range []string{x.Since, "--iptables=false", "of Docker's rules and chains are missing in host",
		"chain DOCKER of table filter is gone", "live-restore is on, the containers keep running",
		"iptables -I FORWARD -j DOCKER-USER  # with live-restore a restart may leave this out"} {
		if !strings.Contains(text, part) {
			t.Errorf("nothing says %q:\n%s", part, text)
		}
	}
	if strings.Contains(text, "iptables -I DOCKER") {
		t.Errorf("where all is gone, rules do not come back by hand:\n%s", text)
	}
}

// TestMissingWarnings: a flow that was delivered although rules for it are missing.
func TestMissingWarnings(t *testing.T) {
	flow := newFlow(path.TCP).connect()
	warned := func(keep func(expect.Missing) bool) []path.Warning {
		return Explain(&flow.p, without(facts(), keep)).Warnings
	}
	if got := warned(none); len(got) != 0 {
		t.Errorf("healthy: %+v", got)
	}
	got := warned(purpose(expect.Open))
	if len(got) != 1 || got[0].Cause != path.CauseDockerRulesMissing ||
		!strings.Contains(got[0].Summary, "no rule lets requests in to port 80 of web") {
		t.Errorf("got %+v", got)
	}
	if got := warned(purpose(expect.Masquerade, expect.ICC)); len(got) != 0 {
		t.Errorf("rules for other packets: %+v", got)
	}
}

func TestProxyAndMissingRules(t *testing.T) {
	held := func(process string, keep func(expect.Missing) bool) path.Verdict {
		f := newFlow(path.TCP).untranslated()
		e := ends(sender, asked)
		f.add(path.Request, "S", append(f.out()[:5], f.hop(nsHost, path.StageSocket, path.ActionDeliver, "eth0", e))...)
		f.p.ServerEstablished, f.p.ServerNetNS, f.p.DeliverNetNS = 1e9+f.now, nsHost, nsHost
		x := without(facts(), keep)
		x.Namespaces[nsHost].Listeners = []Listener{{Proto: path.TCP, Addr: ap("0.0.0.0:8080"), Process: process}}
		return Explain(&f.p, x)
	}
	v := held("docker-proxy", natTable)
	if v.Outcome != path.Delivered || len(v.Warnings) != 1 || v.Warnings[0].Cause != path.CauseNATMissing ||
		!strings.Contains(v.Warnings[0].Summary, "missing: -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER") {
		t.Errorf("through docker-proxy: %+v", v)
	}
	if v = held("docker-proxy", none); len(v.Warnings) != 0 {
		t.Errorf("Docker's rules left it to the proxy: %+v", v.Warnings)
	}
	v = held("dockerd", natTable)
	if v.Outcome != path.Misdelivered || v.Cause != path.CauseNATMissing {
		t.Errorf("held by dockerd: %+v", v)
	}
	if v = held("dockerd", none); v.Cause == path.CauseNATMissing {
		t.Errorf("the rule is there: %+v", v)
	}
}
