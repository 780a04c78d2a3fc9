package tracer

import (
	"net/netip"
	"testing"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nftrace"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// jumping is a rule that leads to another chain; others only need a place.
type jumping struct{ to string }

func (j jumping) Judge(*firewall.Packet) firewall.Judgement {
	return firewall.Judgement{Match: firewall.Yes, Verdict: j.Verdicts()[0]}
}

func (j jumping) Verdicts() []firewall.Verdict {
	if j.to == "" {
		return []firewall.Verdict{{Kind: firewall.Accept}}
	}
	return []firewall.Verdict{{Kind: firewall.Jump, Chain: j.to}}
}

// natAndFilter is a ruleset as Docker has it: translation in prerouting, a drop in forward.
func natAndFilter() *firewall.Ruleset {
	chain := func(t *firewall.Table, name string, hook firewall.Hook, rules ...*firewall.Rule) {
		c := &firewall.Chain{Table: t, Name: name, Hook: hook, Rules: rules}
		for i, r := range rules {
			r.Chain, r.Number = c, i+1
		}
		t.Chains = append(t.Chains, c)
	}
	nat := &firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: "nat"}
	chain(nat, "PREROUTING", firewall.Prerouting, &firewall.Rule{Handle: 5, Written: "-A PREROUTING -j DOCKER", Body: jumping{"DOCKER"}})
	chain(nat, "DOCKER", "", &firewall.Rule{Handle: 6, Written: "-A DOCKER -j DNAT", Body: jumping{}})
	filter := &firewall.Table{Backend: firewall.IptablesNFT, Family: firewall.FamilyIP, Name: "filter"}
	chain(filter, "FORWARD", firewall.Forward, &firewall.Rule{Handle: 7, Written: "-A FORWARD -j DROP", Body: jumping{}})
	return &firewall.Ruleset{Tables: []*firewall.Table{nat, filter}}
}

func TestJoinRules(t *testing.T) {
	const host, seq = 7, 1000
	client, published, web := netip.MustParseAddrPort("192.0.2.2:4000"), netip.MustParseAddrPort("192.0.2.1:8080"),
		netip.MustParseAddrPort("10.0.0.2:80")
	hop := func(stage path.Stage, action path.Action, dst netip.AddrPort) path.Hop {
		return path.Hop{NetNS: host, Stage: stage, Action: action, SrcAddr: client, DstAddr: dst}
	}
	attempt := func() *path.Packet {
		return &path.Packet{Seq: seq, Hops: []path.Hop{
			hop(path.StagePrerouting, path.ActionEnter, published), hop(path.StagePrerouting, path.ActionDNAT, web),
			hop(path.StageForward, path.ActionEnter, web), hop(path.StageForward, path.ActionDrop, web),
		}}
	}
	p := &path.Path{Packets: []*path.Packet{attempt(), attempt()}} // the second is a retransmission
	step := func(packet uint32, kind nftrace.Kind, table, chain string, handle uint64, v firewall.Verdict, dst netip.AddrPort, seq uint32) nftrace.Step {
		s := nftrace.Step{Packet: packet, Kind: kind, Family: firewall.FamilyIP, Table: table, Chain: chain, Handle: handle, Verdict: v}
		if dst.IsValid() {
			s.Header = nftrace.Header{Src: client, Dst: dst, Proto: 6, Seq: seq}
		}
		return s
	}
	none := netip.AddrPort{}
	l := newRuns()
	for _, id := range []uint32{1, 2} {
		for _, s := range []nftrace.Step{
			step(id, nftrace.Rule, "nat", "PREROUTING", 5, firewall.Verdict{Kind: firewall.Jump, Chain: "DOCKER"}, published, seq),
			step(id, nftrace.Rule, "nat", "DOCKER", 6, firewall.Verdict{Kind: firewall.Accept}, none, 0),
			step(9, nftrace.Rule, "filter", "FORWARD", 7, firewall.Verdict{Kind: firewall.Drop}, web, 4711), // of somebody else
			step(id, nftrace.Rule, "filter", "FORWARD", 7, firewall.Verdict{Kind: firewall.Drop}, web, seq),
		} {
			if !l.add(s) {
				t.Fatal("no room")
			}
		}
	}
	l.join(p, host, natAndFilter())
	for n, packet := range p.Packets {
		at := func(i int) (text string) {
			for _, s := range packet.Hops[i].Rules {
				text += s.Chain + " " + s.Verdict + " " + s.Text + "; "
			}
			return text
		}
		if got, want := at(0), "PREROUTING jump DOCKER -A PREROUTING -j DOCKER; DOCKER accept -A DOCKER -j DNAT; "; got != want {
			t.Errorf("packet %d, prerouting: got %q, want %q", n, got, want)
		}
		if got, want := at(2), "FORWARD drop -A FORWARD -j DROP; "; got != want {
			t.Errorf("packet %d, forward: got %q, want %q", n, got, want)
		}
		if len(packet.Hops[1].Rules)+len(packet.Hops[3].Rules) > 0 {
			t.Errorf("packet %d: rules on hops that entered no hook", n)
		}
	}
	if len(l.list) != 2 || l.kept != 2 {
		t.Errorf("%d runs with %d steps are left, want the two of another flow", len(l.list), l.kept)
	}
}

func TestRunsAreBounded(t *testing.T) {
	l := newRuns()
	for range maxRuleSteps {
		l.add(nftrace.Step{Packet: 1})
	}
	if l.add(nftrace.Step{Packet: 1}) {
		t.Error("a step beyond the limit was kept")
	}
}
