package diagnose

import (
	"strings"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// untracks makes a rule one that turns tracking off.
func (r testRule) untracks() testRule { return r.verdict(firewall.Verdict{Untracks: true}) }

func (r testRule) verdict(v firewall.Verdict) testRule { r.body.verdict = v; return r }

// natRules are the facts of a host whose rules translate requests and what leaves, but for some before.
func natRules(process string, raw, pre, post []testRule) func() *Facts {
	dnat := drops("-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination "+inner).kind(firewall.DNAT, inner)
	masquerade := drops("-A POSTROUTING -s 172.18.0.0/16 ! -o br-app -j MASQUERADE").kind(firewall.Masquerade, "")
	iptRaw := firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: "raw"}
	return func() *Facts {
		x := without(facts(), none)
		x.Namespaces[nsHost].Rules = &firewall.Ruleset{Tables: []*firewall.Table{
			testTable(iptRaw, baseChain("PREROUTING", firewall.Prerouting, -300, firewall.Accept, raw...)),
			testTable(ipNAT, baseChain("PREROUTING", firewall.Prerouting, -100, firewall.Accept,
				append(pre, jumps("-A PREROUTING -j DOCKER", "DOCKER"))...), chain("DOCKER", dnat),
				baseChain("POSTROUTING", firewall.Postrouting, 100, firewall.Accept, append(post, masquerade)...)),
		}}
		if x.Namespaces[nsHost].Listeners = nil; process != "" {
			x.Namespaces[nsHost].Listeners = []Listener{{Proto: path.TCP, Addr: ap("0.0.0.0:8080"), Process: process}}
		}
		return x
	}
}

// TestKeptFromDNAT: Docker's rule for the port is there, and another one keeps the request from it.
func TestKeptFromDNAT(t *testing.T) {
	const notrackText, acceptText = "-A PREROUTING -p tcp -m tcp --dport 8080 -j NOTRACK", "-A PREROUTING -s 10.0.0.0/8 -j ACCEPT"
	notrack, accept := drops(notrackText).untracks(), drops(acceptText).kind(firewall.Accept, "")
	back := drops("-A PREROUTING -j RETURN").kind(firewall.Return, "")
	flow := func() *testFlow {
		f := newFlow(path.TCP).untranslated()
		e := ends(sender, asked)
		f.add(path.Request, "S", append(f.out()[:5], f.hop(nsHost, path.StagePrerouting, path.ActionLeave, "eth0", e),
			f.hop(nsHost, path.StageSocket, path.ActionDeliver, "eth0", e))...)
		f.p.ServerEstablished, f.p.ServerNetNS, f.p.DeliverNetNS = 1e9+f.now, nsHost, nsHost
		return f
	}
	const took = "misdelivered: process dockerd in host took the request from 10.99.0.1, not web: rule 1 of chain PREROUTING "
	const unseen = ", so Docker's DNAT rule does not see it"
	runRuleCases(t, []ruleCase{
		{verdictCase{name: "no tracking", flow: flow, facts: natRules("dockerd", []testRule{notrack}, nil, nil), outcome: path.Misdelivered,
			cause: path.CauseNATMissing, summary: took + "(table raw) turns connection tracking off for it" + unseen,
			where: "host netfilter/prerouting request", remedy: "iptables -t raw -D PREROUTING -p tcp -m tcp --dport 8080 -j NOTRACK"},
			notrackText, "user"},
		{verdictCase{name: "exempted", flow: flow, facts: natRules("dockerd", nil, []testRule{accept}, nil), outcome: path.Misdelivered,
			cause: path.CauseNATMissing, summary: took + "(table nat) takes it out before" + unseen,
			remedy: "iptables -t nat -D PREROUTING -s 10.0.0.0/8 -j ACCEPT"}, acceptText, "user"},
		{verdictCase{name: "both", flow: flow, facts: natRules("dockerd", []testRule{notrack}, []testRule{back}, nil), outcome: path.Misdelivered,
			cause: path.CauseNATMissing, summary: took + "(table raw) and rule 1 of chain PREROUTING (table nat) keep it from NAT" + unseen,
			evidence: "so did nat PREROUTING 1 (user): -A PREROUTING -j RETURN", remedy: "iptables -t nat -D PREROUTING -j RETURN"},
			notrackText, "user"},
		{verdictCase{name: "perhaps", flow: flow, facts: natRules("dockerd", []testRule{drops("?").limited(-1).untracks()}, nil, nil),
			outcome: path.Misdelivered, cause: path.CauseUnexplainedDrop,
			summary:  "misdelivered: process dockerd in host took the request from 10.99.0.1, not web",
			evidence: "something kept the request from it, such as a rule in the raw table that turns tracking off"}, "", ""},
	})
	v := Explain(&flow().p, natRules("docker-proxy", []testRule{notrack}, nil, nil)())
	if v.Outcome != path.Delivered || len(v.Warnings) != 1 || v.Warnings[0].Cause != path.CauseNATMissing ||
		!strings.Contains(v.Warnings[0].Summary, "turns connection tracking off for it") || !strings.Contains(v.Warnings[0].Summary, notrackText) {
		t.Errorf("through docker-proxy: %+v", v)
	}
	if v := Explain(&flow().p, natRules("docker-proxy", nil, nil, nil)()); len(v.Warnings) != 0 {
		t.Errorf("nothing kept it: %+v", v.Warnings)
	}
}

// TestKeptFromSNAT: the network's MASQUERADE rule is there, and another one keeps the request from it.
func TestKeptFromSNAT(t *testing.T) {
	const text = "-A POSTROUTING -s 172.18.0.0/16 -d 10.0.0.0/8 -j RETURN"
	with := func(raw, post []testRule) func() *Facts {
		return func() *Facts {
			f := natRules("", raw, nil, post)().between(Network{Name: "app"})
			f.Target, f.Probe = Endpoint{Label: "10.99.0.12"}, silentProbe()
			return f
		}
	}
	const left = "lost: the request from cli left host through eth0 with the private address 172.18.0.3, to which no answer finds back: "
	runRuleCases(t, []ruleCase{
		{verdictCase{name: "exempted", flow: func() *testFlow { return leaving("172.18.0.3:40000") },
			facts: with(nil, []testRule{drops(text).kind(firewall.Return, "")}), outcome: path.Lost, cause: path.CauseMasqueradeMissing,
			summary: left + "rule 1 of chain POSTROUTING (table nat) takes it out before, so the network's MASQUERADE rule does not see it",
			where:   "host netfilter/postrouting request", remedy: "iptables -t nat -D POSTROUTING -s 172.18.0.0/16 -d 10.0.0.0/8 -j RETURN"},
			text, "user"},
	})
}

// TestReplyUntracked: the answer is not tracked, so nothing gives it the address that was asked.
func TestReplyUntracked(t *testing.T) {
	const text = "-A PREROUTING -p tcp -m tcp --sport 80 -j NOTRACK"
	rules := func(hook firewall.Truth) func() *Facts {
		r := drops(text).untracks()
		r.body.match = hook
		return natRules("", []testRule{r}, nil, nil)
	}
	flow := func() *testFlow {
		f := newFlow(path.TCP)
		f.add(path.Request, "S", f.arriving()...)
		e := ends(inner, sender)
		f.add(path.Reply, "SA",
			f.hop(nsWeb, path.StageDevice, path.ActionTransmit, "eth0", e),
			f.hop(nsHost, path.StageDevice, path.ActionReceive, "veth1", e, bridgePort),
			f.hop(nsHost, "bridge-netfilter/prerouting", path.ActionEnter, "veth1", e),
			f.hop(nsHost, "bridge-netfilter/prerouting", path.ActionLeave, "veth1", e),
			f.hop(nsCli, path.StageDevice, path.ActionReceive, "eth0", e),
			f.hop(nsCli, path.StageTCP, path.ActionReset, "eth0", e),
			f.hop(nsCli, path.StageTCP, path.ActionDrop, "eth0", e, why("NO_SOCKET", "tcp_v4_rcv")))
		return f
	}
	runRuleCases(t, []ruleCase{
		{verdictCase{name: "sure", flow: flow, facts: rules(firewall.Yes), outcome: path.Dropped, cause: path.CauseConntrackInvalid,
			summary: "dropped: the reply from web went on untranslated in host, since rule 1 of chain PREROUTING (table raw) turns " +
				"connection tracking off for it",
			where: "host bridge-netfilter/prerouting reply", remedy: "iptables -t raw -D PREROUTING -p tcp -m tcp --sport 80 -j NOTRACK"},
			text, "user"},
		{verdictCase{name: "perhaps", flow: flow, facts: rules(firewall.Maybe), outcome: path.Dropped, cause: path.CauseUnexplainedDrop,
			summary: "dropped: the reply from web was answered with a reset in container cli, which knows no such connection"}, "", ""},
	})
}
