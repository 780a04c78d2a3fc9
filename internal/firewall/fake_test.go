package firewall_test

import (
	"net/netip"

	fw "github.com/pathtrace/pathtrace/internal/firewall"
)

// body is a rule that judges every packet alike, unless match decides.
type body struct {
	match    fw.Truth
	fits     func(*fw.Packet) fw.Truth
	verdict  fw.Verdict
	unjudged []string
}

func (b body) Judge(p *fw.Packet) fw.Judgement {
	m := b.match
	if b.fits != nil {
		m = b.fits(p)
	}
	j := fw.Judgement{Match: m, Verdict: b.verdict}
	if m == fw.Maybe {
		j.Unjudged = b.unjudged
	}
	return j
}

func (b body) Verdicts() []fw.Verdict { return []fw.Verdict{b.verdict} }

func yes(v fw.Verdict) body { return body{match: fw.Yes, verdict: v} }

func no(v fw.Verdict) body { return body{verdict: v} }

func maybe(v fw.Verdict, unjudged ...string) body {
	return body{match: fw.Maybe, verdict: v, unjudged: unjudged}
}

func verdict(k fw.VerdictKind) fw.Verdict { return fw.Verdict{Kind: k} }

func to(chain string) fw.Verdict { return fw.Verdict{Kind: fw.Jump, Chain: chain} }

func goTo(chain string) fw.Verdict { return fw.Verdict{Kind: fw.Goto, Chain: chain} }

var (
	drop   = verdict(fw.Drop)
	accept = verdict(fw.Accept)
	ret    = verdict(fw.Return)
	next   = verdict(fw.Continue)
)

// build makes a table out of chains.
func build(t fw.Table, chains ...*fw.Chain) *fw.Table {
	out := &t
	for _, c := range chains {
		c.Table = out
		out.Chains = append(out.Chains, c)
	}
	return out
}

func base(name string, hook fw.Hook, priority int32, policy fw.VerdictKind, rules ...body) *fw.Chain {
	c := chain(name, rules...)
	c.Hook, c.Priority, c.Policy, c.Type = hook, priority, policy, "filter"
	return c
}

func nat(name string, hook fw.Hook, rules ...body) *fw.Chain {
	c := base(name, hook, 0, fw.Accept, rules...)
	c.Type = "nat"
	return c
}

func chain(name string, rules ...body) *fw.Chain {
	c := &fw.Chain{Name: name}
	for i, b := range rules {
		c.Rules = append(c.Rules, &fw.Rule{Chain: c, Number: i + 1, Handle: uint64(100 + i), Body: b})
	}
	return c
}

// text sets the text of the chain's rules.
func text(c *fw.Chain, texts ...string) *fw.Chain {
	for i, s := range texts {
		c.Rules[i].Written = s
	}
	return c
}

var filter = fw.Table{Backend: fw.IptablesNFT, Family: fw.FamilyIP, Name: "filter"}

func rules(tables ...*fw.Table) *fw.Ruleset { return &fw.Ruleset{Tables: tables} }

func packet() *fw.Packet {
	return &fw.Packet{
		Hook: fw.Forward, In: "eth0", Out: "br-app", Proto: 6,
		Src: netip.MustParseAddr("10.99.0.1"), Dst: netip.MustParseAddr("172.18.0.2"),
		SrcPort: 40000, DstPort: 80, CT: &fw.Conntrack{State: fw.CTNew},
	}
}
