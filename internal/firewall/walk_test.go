package firewall_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	fw "github.com/pathtrace/pathtrace/internal/firewall"
)

// show writes candidates as "CHAIN 1 sure" or "CHAIN policy (-m limit)".
func show(list []fw.Candidate) string {
	var out []string
	for _, c := range list {
		s := c.Chain.Name + " policy"
		if c.Rule != nil {
			s = fmt.Sprintf("%s %d", c.Chain.Name, c.Rule.Number)
		}
		if c.Sure {
			s += " sure"
		}
		if len(c.Unjudged) > 0 {
			s += " (" + strings.Join(c.Unjudged, ", ") + ")"
		}
		out = append(out, s)
	}
	return strings.Join(out, "; ")
}

func TestWalk(t *testing.T) {
	forward := func(policy fw.VerdictKind, list ...body) *fw.Chain {
		return base("FORWARD", fw.Forward, 0, policy, list...)
	}
	for name, c := range map[string]struct {
		chains []*fw.Chain
		want   string
		passed fw.Truth
	}{
		"nothing":          {chains: []*fw.Chain{forward(fw.Accept)}, passed: fw.Yes},
		"policy":           {chains: []*fw.Chain{forward(fw.Drop, no(accept))}, want: "FORWARD policy sure"},
		"accept":           {chains: []*fw.Chain{forward(fw.Drop, yes(accept))}, passed: fw.Yes},
		"rule":             {chains: []*fw.Chain{forward(fw.Accept, no(drop), yes(drop), yes(accept))}, want: "FORWARD 2 sure"},
		"count and log":    {chains: []*fw.Chain{forward(fw.Accept, yes(next), yes(drop))}, want: "FORWARD 2 sure"},
		"other hook":       {chains: []*fw.Chain{base("INPUT", fw.Input, 0, fw.Drop)}, passed: fw.Yes},
		"jump":             {chains: []*fw.Chain{forward(fw.Accept, yes(to("A"))), chain("A", yes(drop))}, want: "A 1 sure"},
		"jump not taken":   {chains: []*fw.Chain{forward(fw.Accept, no(to("A"))), chain("A", yes(drop))}, passed: fw.Yes},
		"jump and back":    {chains: []*fw.Chain{forward(fw.Drop, yes(to("A"))), chain("A", no(drop))}, want: "FORWARD policy sure"},
		"return":           {chains: []*fw.Chain{forward(fw.Drop, yes(to("A"))), chain("A", yes(ret), yes(drop))}, want: "FORWARD policy sure"},
		"return of a base": {chains: []*fw.Chain{forward(fw.Drop, yes(ret), yes(accept))}, want: "FORWARD policy sure"},
		"accept in a jump": {chains: []*fw.Chain{forward(fw.Drop, yes(to("A")), yes(drop)), chain("A", yes(accept))}, passed: fw.Yes},
		"goto does not come back": {
			chains: []*fw.Chain{forward(fw.Accept, yes(to("A")), yes(drop)), chain("A", yes(goTo("B")), yes(accept)), chain("B")},
			want:   "FORWARD 2 sure",
		},
		"goto of a base": {
			chains: []*fw.Chain{forward(fw.Drop, yes(goTo("A")), yes(accept)), chain("A")},
			want:   "FORWARD policy sure",
		},
		"limit drops": {
			chains: []*fw.Chain{forward(fw.Accept, maybe(drop, "-m limit"), yes(drop))},
			want:   "FORWARD 1 (-m limit); FORWARD 2 (-m limit)",
		},
		"limit accepts": {
			chains: []*fw.Chain{forward(fw.Drop, maybe(accept, "-m limit"))},
			want:   "FORWARD policy (-m limit)", passed: fw.Maybe,
		},
		"only maybe": {
			chains: []*fw.Chain{forward(fw.Accept, maybe(drop, "-m statistic"))},
			want:   "FORWARD 1 (-m statistic)", passed: fw.Maybe,
		},
		"doubtful jump": {
			chains: []*fw.Chain{forward(fw.Accept, maybe(to("A"), "-m set"), yes(drop)), chain("A", yes(drop))},
			want:   "A 1 (-m set); FORWARD 2 (-m set)",
		},
		"doubtful jump that comes back": {
			chains: []*fw.Chain{forward(fw.Drop, maybe(to("A"), "-m set")), chain("A", yes(next))},
			want:   "FORWARD policy sure",
		},
		"doubtful return from a chain that comes back": {
			chains: []*fw.Chain{forward(fw.Drop, yes(to("A"))), chain("A", maybe(ret, "-m limit"), yes(next))},
			want:   "FORWARD policy sure",
		},
		"limit returns, the rest drops": {
			chains: []*fw.Chain{forward(fw.Accept, yes(to("A"))), chain("A", maybe(ret, "-m limit"), yes(drop))},
			want:   "A 2 (-m limit)", passed: fw.Maybe,
		},
		"loop": {
			chains: []*fw.Chain{forward(fw.Drop, yes(to("A"))), chain("A", yes(to("B"))), chain("B", yes(to("A")))},
			want:   "FORWARD policy", passed: fw.Maybe,
		},
		"unknown target": {
			chains: []*fw.Chain{forward(fw.Accept, body{match: fw.Yes, verdict: verdict(fw.Unknown), unjudged: []string{"-j X"}}, yes(drop))},
			want:   "FORWARD 1; FORWARD 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := rules(build(filter, c.chains...)).Walk(packet())
			if got := show(w.Candidates); got != c.want {
				t.Errorf("candidates %q, want %q", got, c.want)
			}
			if c.passed != fw.No && w.Passed != c.passed {
				t.Errorf("passed %v, want %v", w.Passed, c.passed)
			}
		})
	}
}

// An accept ends the walk of one base chain; the chains after it are asked all the same.
func TestWalkSeveralTables(t *testing.T) {
	inet := fw.Table{Backend: fw.NFTables, Family: fw.FamilyInet, Name: "other"}
	docker := build(filter, base("FORWARD", fw.Forward, 0, fw.Drop, yes(accept)))
	for name, c := range map[string]struct {
		other *fw.Table
		want  string
	}{
		"later":    {build(inet, base("fwd", fw.Forward, 10, fw.Accept, yes(drop))), "fwd 1 sure"},
		"earlier":  {build(inet, base("fwd", fw.Forward, -10, fw.Accept, yes(accept))), ""},
		"dormant":  {build(fw.Table{Family: fw.FamilyInet, Dormant: true}, base("fwd", fw.Forward, 10, fw.Drop)), ""},
		"IPv6":     {build(fw.Table{Family: fw.FamilyIP6}, base("fwd", fw.Forward, 10, fw.Drop)), ""},
		"bridge":   {build(fw.Table{Family: fw.FamilyBridge}, base("fwd", fw.Forward, 10, fw.Drop)), ""},
		"arp":      {build(fw.Table{Family: fw.FamilyARP}, base("fwd", fw.Forward, 10, fw.Drop)), ""},
		"same one": {build(inet, base("fwd", fw.Forward, 0, fw.Accept, yes(drop))), "fwd 1 sure"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := show(rules(docker, c.other).Walk(packet()).Candidates); got != c.want {
				t.Errorf("candidates %q, want %q", got, c.want)
			}
		})
	}
}

// Of two chains with one priority that both drop, the kernel asks the one that was made last first.
func TestWalkEqualPriority(t *testing.T) {
	other := build(fw.Table{Backend: fw.NFTables, Family: fw.FamilyInet}, base("fwd", fw.Forward, 0, fw.Accept, yes(drop)))
	w := rules(build(filter, base("FORWARD", fw.Forward, 0, fw.Drop)), other).Walk(packet())
	const open = "(which of the chains of this priority is called first)"
	if got, want := show(w.Candidates), "FORWARD policy "+open+"; fwd 1 "+open; got != want {
		t.Errorf("candidates %q, want %q", got, want)
	}
	if w.Passed != fw.No {
		t.Errorf("passed %v", w.Passed)
	}
}

func TestWalkFamilies(t *testing.T) {
	bridge := build(fw.Table{Family: fw.FamilyBridge}, base("b", fw.Forward, -200, fw.Drop))
	ip := build(filter, base("FORWARD", fw.Forward, 0, fw.Drop))
	dev := base("in", fw.Ingress, 0, fw.Drop)
	dev.Devices = []string{"eth0"}
	set := rules(bridge, ip, build(fw.Table{Family: fw.FamilyNetdev}, dev))
	p := packet()
	p.Bridge = true
	if got := show(set.Walk(p).Candidates); got != "b policy sure" {
		t.Errorf("bridge: %s", got)
	}
	p = packet()
	p.Hook = fw.Ingress
	if got := show(set.Walk(p).Candidates); got != "in policy sure" {
		t.Errorf("ingress: %s", got)
	}
	p.In = "eth1"
	if got := show(set.Walk(p).Candidates); got != "" {
		t.Errorf("ingress of another device: %s", got)
	}
}

// Nat chains see the first packet of a connection, and chains after the translation what became of it.
func TestWalkNAT(t *testing.T) {
	dnat := fw.Verdict{Kind: fw.DNAT, Detail: "172.18.0.2:80"}
	inside := func(p *fw.Packet) fw.Truth { return fw.Of(p.DstPort == 80) }
	set := rules(
		build(fw.Table{Family: fw.FamilyIP, Name: "nat"}, nat("PREROUTING", fw.Prerouting, yes(to("DOCKER"))), chain("DOCKER", yes(dnat))),
		build(fw.Table{Family: fw.FamilyIP, Name: "late"}, base("late", fw.Prerouting, 0, fw.Accept, body{fits: inside, verdict: drop})),
		build(fw.Table{Family: fw.FamilyIP, Name: "raw"}, base("early", fw.Prerouting, -300, fw.Accept, body{fits: func(p *fw.Packet) fw.Truth {
			return fw.Of(p.DstPort == 80 || p.CT.State != fw.CTInvalid)
		}, verdict: drop})),
	)
	p := packet()
	p.Hook, p.DstPort = fw.Prerouting, 8080
	p.Translated = &fw.Tuple{Src: p.Src, Dst: p.Dst, SrcPort: p.SrcPort, DstPort: 80, Proto: 6}
	if got, want := show(set.Walk(p).Candidates), "DOCKER 1 sure; late 1 sure"; got != want {
		t.Errorf("first packet: %q, want %q", got, want)
	}
	p.CT = &fw.Conntrack{State: fw.CTEstablished}
	if got, want := show(set.Walk(p).Candidates), "late 1 sure"; got != want {
		t.Errorf("later packet: %q, want %q", got, want)
	}
	if got := fw.Translating(set.Walk(p).Candidates, fw.DNAT); len(got) != 0 {
		t.Errorf("later packet is translated by %s", show(got))
	}
}

// What is not tracked is not translated, unless its entry was seen.
func TestWalkUntracked(t *testing.T) {
	untrack := fw.Verdict{Untracks: true}
	at := func(raw ...body) *fw.Ruleset {
		return rules(
			build(fw.Table{Family: fw.FamilyIP, Name: "raw"}, base("PREROUTING", fw.Prerouting, -300, fw.Accept, raw...)),
			build(fw.Table{Family: fw.FamilyIP, Name: "nat"}, nat("PREROUTING", fw.Prerouting, yes(fw.Verdict{Kind: fw.DNAT}))),
		)
	}
	p := packet()
	p.Hook = fw.Prerouting
	for name, c := range map[string]struct {
		set  *fw.Ruleset
		ct   *fw.Conntrack
		want string
	}{
		"tracked":        {at(), p.CT, "PREROUTING 1 sure"},
		"not":            {at(yes(untrack)), p.CT, ""},
		"another":        {at(no(untrack)), p.CT, "PREROUTING 1 sure"},
		"not, and ended": {at(yes(fw.Verdict{Kind: fw.Accept, Untracks: true})), p.CT, ""},
		"perhaps":        {at(maybe(untrack, "-m set")), p.CT, "PREROUTING 1"},
		"entry was seen": {at(yes(untrack)), &fw.Conntrack{State: fw.CTNew, HasStatus: true}, "PREROUTING 1 sure"},
	} {
		p.CT = c.ct
		if got := show(c.set.Walk(p).Candidates); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	set := at(yes(untrack))
	p.CT = &fw.Conntrack{State: fw.CTNew}
	if got, want := show(set.WalkWithout(p, set.Tables[0].Chains[0].Rules[0]).Candidates), "PREROUTING 1 sure"; got != want {
		t.Errorf("without that rule: %q, want %q", got, want)
	}
}

func TestWalkVia(t *testing.T) {
	set := rules(build(filter, base("FORWARD", fw.Forward, 0, fw.Accept, yes(to("A"))), chain("A", yes(to("B"))), chain("B", yes(drop))))
	w := set.Walk(packet())
	var via []string
	for _, r := range w.Candidates[0].Via {
		via = append(via, r.Chain.Name)
	}
	if !slices.Equal(via, []string{"FORWARD", "A"}) || w.Candidates[0].Base.Name != "FORWARD" {
		t.Errorf("via %v from %s", via, w.Candidates[0].Base.Name)
	}
	if len(w.Steps) != 3 {
		t.Errorf("%d steps, want 3", len(w.Steps))
	}
}

// Doubtful jumps that lead to the same chains over and over are bounded.
func TestWalkBounded(t *testing.T) {
	var chains []*fw.Chain
	const depth = 30
	for i := range depth {
		down := maybe(to(fmt.Sprint("c", i+1)), "-m set")
		chains = append(chains, chain(fmt.Sprint("c", i), down, down))
	}
	chains = append(chains, chain(fmt.Sprint("c", depth), maybe(drop, "-m limit")))
	set := rules(build(filter, append(chains, base("FORWARD", fw.Forward, 0, fw.Accept, yes(to("c0"))))...))
	start := time.Now()
	w := set.Walk(packet())
	if !w.Bounded || time.Since(start) > 5*time.Second {
		t.Errorf("bounded %v after %v", w.Bounded, time.Since(start))
	}
}

func BenchmarkWalk(b *testing.B) {
	var list []body
	for range 5000 {
		list = append(list, no(drop))
	}
	set := rules(build(filter, base("FORWARD", fw.Forward, 0, fw.Drop, list...)))
	p := packet()
	for b.Loop() {
		set.Walk(p)
	}
}
