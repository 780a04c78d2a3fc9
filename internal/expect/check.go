package expect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Check returns the rules that state calls for and that rs, the firewall of the engine's network
// namespace, does not have, in the order in which packets would meet them. Where rs is incomplete
// (Ruleset.Problems), what was not read is not called missing.
func Check(state *State, rs *firewall.Ruleset) []Missing {
	if state == nil || rs == nil {
		return nil
	}
	var out []Missing
	for _, v6 := range []bool{false, true} {
		if state.writes(v6) {
			out = append(out, checkFamily(state, rs, v6)...)
		}
	}
	return out
}

// tables are those of one family and name, of both backends that can have it.
type tables []*firewall.Table

func find(rs *firewall.Ruleset, v6 bool, name string) tables {
	family := firewall.FamilyIP
	if v6 {
		family = firewall.FamilyIP6
	}
	var out tables
	for _, t := range rs.Tables {
		if t.Family == family && t.Name == name && !t.Dormant {
			out = append(out, t)
		}
	}
	return out
}

// chains returns the chains of a name.
func (t tables) chains(name string) []*firewall.Chain {
	var out []*firewall.Chain
	for _, table := range t {
		if c := table.Chain(name); c != nil {
			out = append(out, c)
		}
	}
	return out
}

func (t tables) has(chain string) bool { return len(t.chains(chain)) > 0 }

// checker compares what is expected in one family with what there is.
type checker struct {
	state *State
	rs    *firewall.Ruleset
	v6    bool
	addrs addresses
	// backend is the one through which Docker writes.
	backend firewall.Backend
	out     []Missing
	// gone holds the chains that were already said to be missing.
	gone map[string]bool
}

func checkFamily(state *State, rs *firewall.Ruleset, v6 bool) []Missing {
	c := &checker{state: state, rs: rs, v6: v6, addrs: addressesFor(state.Networks, v6), gone: map[string]bool{}}
	if !c.addrs.client.IsValid() {
		return nil // nothing left to make a packet of
	}
	b := builder{state: state, v6: v6}
	if v6 && !slices.ContainsFunc(state.Networks, func(n Network) bool { return n.subnet(true).IsValid() }) {
		return nil // nothing of Docker's speaks IPv6
	}
	own := find(rs, v6, bridgesTable)
	if state.NFTables || len(own) > 0 && state.Version != "" && !state.before(29, 0, 0) && !c.hasDocker() {
		c.backend = firewall.NFTables
		b.nftables()
		for _, raw := range own.chains(nftRaw) {
			b.direct(raw, c.addrs)
		}
	} else {
		c.backend = c.backendOf()
		l := layoutOf(state, find(rs, v6, filterTable))
		b.iptables(l)
		if !state.before(28, 2, 0) {
			for _, raw := range find(rs, v6, rawTable).chains("PREROUTING") {
				b.direct(raw, c.addrs)
			}
		}
	}
	for i := range b.rules {
		c.check(&b.rules[i])
	}
	return c.out
}

// hasDocker reports whether iptables' tables hold a chain of Docker's.
func (c *checker) hasDocker() bool {
	return find(c.rs, c.v6, filterTable).has(dockerChain) || find(c.rs, c.v6, natTable).has(dockerChain)
}

// backendOf finds the backend of Docker's iptables: the one that has more of its rules.
func (c *checker) backendOf() firewall.Backend {
	best, most := firewall.IptablesNFT, 0
	for _, name := range []string{filterTable, natTable} {
		for _, t := range find(c.rs, c.v6, name) {
			n := 0
			for _, chain := range t.Chains {
				if strings.HasPrefix(chain.Name, dockerChain) {
					n += 1 + len(chain.Rules)
				}
			}
			if n > most {
				best, most = t.Backend, n
			}
		}
	}
	return best
}

// check looks for one rule.
func (c *checker) check(r *rule) {
	ts := find(c.rs, c.v6, r.table)
	if len(ts) == 0 && len(c.rs.Problems) > 0 {
		return
	}
	chains := ts.chains(r.chain)
	if len(chains) == 0 {
		c.chainGone(r, len(ts) == 0)
	}
	stale := ""
	for _, chain := range chains {
		present, leads := r.presence(chain, c.addrs)
		if present != firewall.No {
			return
		}
		stale = cmp.Or(stale, leads)
	}
	m := c.missing(r)
	m.Rule, m.Command = c.text(r), c.command(r)
	if stale != "" {
		m.Stale = stale
		m.Sentence = fmt.Sprintf("the DNAT rule for %s leads to %s, not to %s", portName(r.port), stale, r.container)
	}
	c.out = append(c.out, m)
}

// missing copies what a rule is about.
func (c *checker) missing(r *rule) Missing {
	family := firewall.FamilyIP
	if c.v6 {
		family = firewall.FamilyIP6
	}
	return Missing{
		Cause: r.cause, Purpose: r.purpose, Sentence: r.says, Exposes: r.exposes,
		Backend: c.backend, Family: family, Table: r.table, Chain: r.chain,
		Network: r.network, Container: r.container, Port: r.port, covers: r.match, hook: r.hook,
	}
}

// chainGone notes, once, that a chain of Docker's does not exist. The kernel's own chains exist
// whenever somebody uses them.
func (c *checker) chainGone(r *rule, table bool) {
	what := "chain " + r.chain
	if c.backend == firewall.NFTables && table {
		what = "table " + string(c.missing(r).Family) + " " + r.table
	} else if c.backend != firewall.NFTables && !strings.HasPrefix(r.chain, dockerChain) {
		return
	}
	if c.gone[r.table+what] {
		return
	}
	c.gone[r.table+what] = true
	m := c.missing(r)
	m.Purpose, m.Network, m.Container, m.Port = Chain, "", "", Port{}
	m.covers, m.Exposes = match{}, onlyCloses(r.chain)
	if m.Cause == path.CauseMasqueradeMissing {
		m.Cause = path.CauseDockerRulesMissing
	}
	switch {
	case c.backend == firewall.NFTables:
		m.Sentence = what + " is gone"
	default:
		m.Sentence = fmt.Sprintf("chain %s of table %s is gone", r.chain, r.table)
		m.Command = c.tool(r.table) + " -N " + r.chain
	}
	c.out = append(c.out, m)
}

// tool is the command that edits a table of iptables.
func (c *checker) tool(table string) string {
	tool := "iptables"
	if c.v6 {
		tool = "ip6tables"
	}
	if c.backend == firewall.IptablesLegacy {
		tool += "-legacy"
	}
	if table != filterTable {
		tool += " -t " + table
	}
	return tool
}

// text writes a rule as its tool lists it.
func (c *checker) text(r *rule) string {
	if name := c.verdictMap(r); name != "" {
		return fmt.Sprintf(`element { "%s" : jump %s } of map %s`, c.bridge(r), r.verdict.Chain, name)
	}
	if c.backend == firewall.NFTables {
		m := r.written()
		return m.nft(c.v6) + r.nftAction()
	}
	m := r.written()
	return "-A " + r.chain + m.iptables() + " -j " + r.action()
}

// written is the match without what Docker leaves to the chain's callers.
func (r *rule) written() match {
	m := r.match
	if r.purpose == Publish {
		m.dstLocal = false // the jump to the chain asks for it
	}
	if r.purpose == Hairpin {
		switch {
		case r.verdict.Kind == firewall.Return:
			m.dstLocal = false
		case m.src.IsValid():
			m.in, m.out = "", "" // it follows from the addresses
		}
	}
	return m
}

// command adds the rule again; "" where it is not certain how Docker would write it.
func (c *checker) command(r *rule) string {
	if r.unsure || r.verdict.Kind == firewall.DNAT && r.verdict.Detail == "" {
		return ""
	}
	if c.backend == firewall.NFTables {
		if c.verdictMap(r) != "" {
			return "" // the element, the map or the rule that uses it may be gone
		}
		verb := "add"
		if r.first {
			verb = "insert"
		}
		return fmt.Sprintf("nft '%s rule %s %s %s %s'", verb, c.missing(r).Family, r.table, r.chain, c.text(r))
	}
	at := " -A " + r.chain
	if r.first {
		at = " -I " + r.chain
		if n := c.behind(r); n > 0 {
			at += fmt.Sprintf(" %d", n+1)
		}
	}
	m := r.written()
	return c.tool(r.table) + at + m.iptables() + " -j " + r.action()
}

// behind is the number of the last rule that a rule has to stand behind; 0 if there is none. A rule that
// accepts must not come before the chains that close.
func (c *checker) behind(r *rule) int {
	last := 0
	for _, chain := range find(c.rs, c.v6, r.table).chains(r.chain) {
		for i, have := range chain.Rules {
			if slices.ContainsFunc(have.Body.Verdicts(), func(v firewall.Verdict) bool { return slices.Contains(r.after, v.Chain) }) {
				last = max(last, i+1)
			}
		}
	}
	return last
}

// verdictMap names the map through which Docker's nftables chains call the rule's target; "" if it is
// called by a rule of its own.
func (c *checker) verdictMap(r *rule) string {
	name, device, ok := strings.Cut(r.verdict.Chain, "__")
	if c.backend != firewall.NFTables || !ok || device != c.bridge(r) {
		return ""
	}
	return name + "-jumps"
}

// bridge is the device of the rule's network.
func (c *checker) bridge(r *rule) string {
	if n := c.state.network(r.network); n != nil {
		return n.Bridge
	}
	return "\x00"
}
