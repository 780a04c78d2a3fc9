package diagnose

import (
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// TestUnheard: the request was refused, and the refusal did not come to the asker.
func TestUnheard(t *testing.T) {
	const text = "-A DOCKER-USER -p tcp -m tcp --tcp-flags RST RST -j DROP"
	flow := func(last ...path.Hop) func() *testFlow {
		return func() *testFlow {
			f := newFlow(path.TCP)
			d := ends(sender, inner)
			f.add(path.Request, "S", append(f.in(), f.hop(nsWeb, path.StageTCP, path.ActionReset, "eth0", d),
				f.hop(nsWeb, path.StageTCP, path.ActionDrop, "eth0", d, why("NO_SOCKET", "tcp_v4_rcv")))...)
			e := ends(inner, sender)
			for i := range last {
				ends(inner, sender)(&last[i])
				f.now += 1000
				last[i].Time = 1e9 + f.now
			}
			f.add(path.Reply, "RA", append([]path.Hop{f.hop(nsWeb, path.StageDevice, path.ActionTransmit, "eth0", e)}, last...)...)
			return f
		}
	}
	c := &clock{}
	way := through("br-app", "eth0")
	dropped := flow(c.hop(nsHost, path.StageForward, path.ActionEnter, "br-app", way),
		c.hop(nsHost, path.StageForward, path.ActionDrop, "br-app", way, why("NETFILTER_DROP", "nft_do_chain")))
	arrived := flow(c.hop(nsCli, path.StageDevice, path.ActionReceive, "eth0"),
		c.hop(nsCli, path.StageTCP, path.ActionDrop, "eth0", why("TCP_RESET", "tcp_rcv_state_process")))
	probed := func(kind ProbeKind) func() *Facts {
		return func() *Facts {
			f := ruled(forward(firewall.Accept, chain("DOCKER-USER", drops(text))))()
			f.Namespaces[nsWeb].Listeners = []Listener{}
			if kind != ProbeNone {
				f.Probe = &Probe{Kind: kind, Timeout: 2e9}
			}
			return f
		}
	}
	const nobody = "nothing listens on port 80 in container web"
	const told = "dropped: " + nobody + ", and 10.99.0.1 was not told: the reply from web was dropped by rule 1 of chain DOCKER-USER " +
		"in the FORWARD hook (netfilter) of host on its way br-app → eth0"
	heard := verdictCase{outcome: path.Refused, cause: path.CauseNotListening, summary: "refused: " + nobody}
	unheard := verdictCase{outcome: path.Dropped, cause: path.CauseNotListening, summary: told, where: "web eth0 tcp request",
		evidence: "the rule that kept 10.99.0.1 from being told: " + text,
		remedy:   "iptables -D DOCKER-USER -p tcp -m tcp --tcp-flags RST RST -j DROP"}
	of := func(v verdictCase, name string, flow func() *testFlow, facts func() *Facts) verdictCase {
		v.name, v.flow, v.facts = name, flow, facts
		return v
	}
	runCases(t, []verdictCase{
		of(unheard, "silence", dropped, probed(ProbeSilence)),
		of(unheard, "watched", dropped, probed(ProbeNone)),
		of(heard, "another one was heard", dropped, probed(ProbeRefused)),
		of(heard, "heard", arrived, probed(ProbeRefused)),
		of(heard, "read by the stack", arrived, probed(ProbeNone)),
	})
}
