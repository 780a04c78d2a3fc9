package firewall

import (
	"slices"
	"sync"
	"time"
)

// Backend is the interface through which a rule was written, and thus the tool that shows it.
type Backend string

// The backends. Rules of ebtables-nft and arptables-nft are IptablesNFT in their family.
const (
	NFTables       Backend = "nftables"
	IptablesNFT    Backend = "iptables-nft"
	IptablesLegacy Backend = "iptables-legacy"
)

// Family is the address family of a table, with the names that nft uses.
type Family string

// The families.
const (
	FamilyIP     Family = "ip"
	FamilyIP6    Family = "ip6"
	FamilyInet   Family = "inet"
	FamilyBridge Family = "bridge"
	FamilyARP    Family = "arp"
	FamilyNetdev Family = "netdev"
)

// Hook is a place in the kernel at which base chains are called.
type Hook string

// The hooks; bridge-family chains use the same names for their own hooks.
const (
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
	Ingress     Hook = "ingress"
	Egress      Hook = "egress"
)

// Ruleset is what was read of one network namespace. It is not changed after it was read.
type Ruleset struct {
	Tables []*Table
	// Read is when reading ended.
	Read time.Time
	// Problems are sentences about what could not be read; what is here is right nevertheless.
	Problems []string

	once   sync.Once // guards docker
	docker dockers
}

// Table is a table of one backend.
type Table struct {
	Backend Backend
	Family  Family
	Name    string
	Chains  []*Chain // in the order in which the kernel lists them
	// Dormant tables are not walked (nft flag dormant).
	Dormant bool
	// Progname is the owner's program name of a table with the owner flag; "" if none.
	Progname string
}

// byName returns the chains by their names.
func (t *Table) byName() map[string]*Chain {
	out := make(map[string]*Chain, len(t.Chains))
	for _, c := range slices.Backward(t.Chains) {
		out[c.Name] = c // the first of that name, as Chain has it
	}
	return out
}

// Chain returns the chain of that name, nil if there is none.
func (t *Table) Chain(name string) *Chain {
	for _, c := range t.Chains {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// Chain is a list of rules.
type Chain struct {
	Table *Table
	Name  string
	// Hook is where the kernel calls it; "" for a chain that others jump to.
	Hook Hook
	// Type is filter, nat or route; "" for a chain that others jump to. A nat chain is walked by the
	// first packet of a connection only.
	Type     string
	Priority int32
	// Policy is Accept or Drop; the zero value for a chain without a hook.
	Policy VerdictKind
	// PolicyPackets counts packets that the policy decided, if PolicyCounted (x_tables only).
	PolicyPackets uint64
	PolicyCounted bool
	// Devices of an ingress or egress chain.
	Devices []string
	Rules   []*Rule
}

// IsBase reports whether the kernel calls the chain itself.
func (c *Chain) IsBase() bool { return c.Hook != "" }

// Rule is one rule.
type Rule struct {
	Chain *Chain
	// Number is its place in the chain, from 1, as `iptables -L --line-numbers` counts.
	Number int
	// Handle is nf_tables' number of it, 0 for iptables-legacy.
	Handle uint64
	// Written is the rule as its user would write it: "-A DOCKER-USER -p tcp --dport 80 -j DROP" for
	// both iptables backends, nft's syntax (without chain and table) for nftables; "" if Body is a Writer,
	// which writes it when it is asked for. Text returns either.
	Written string
	Comment string
	// Packets and Bytes are valid if Counted.
	Packets, Bytes uint64
	Counted        bool
	// Body judges packets; never nil.
	Body Body
}

// Writer is a Body that puts the rule into words itself, which may take time.
type Writer interface{ Text() string }

// Text returns the rule as its user would write it.
func (r *Rule) Text() string {
	if w, ok := r.Body.(Writer); ok && r.Written == "" {
		return w.Text()
	}
	return r.Written
}

// Body is what a rule does, as its backend understands it. It may be asked by several goroutines at once.
type Body interface {
	// Judge says whether the rule matches p and what it then does. It does not change p.
	Judge(p *Packet) Judgement
	// Verdicts lists everything the rule can do, whatever the packet: for finding rules and chains.
	Verdicts() []Verdict
}

// Truth is a three-valued answer.
type Truth uint8

// The answers. The zero value is No.
const (
	No Truth = iota
	Maybe
	Yes
)

// And is Yes if both are, No if one is.
func (t Truth) And(u Truth) Truth { return min(t, u) }

// Not inverts Yes and No.
func (t Truth) Not() Truth { return Yes - t }

// Of makes a Truth of a known answer.
func Of(b bool) Truth {
	if b {
		return Yes
	}
	return No
}

// Judgement is what a rule says about a packet.
type Judgement struct {
	Match Truth
	// Verdict is what the rule does if it matches.
	Verdict Verdict
	// Unjudged names the matches that could not be judged, as the user wrote them: "-m limit".
	// It is only set if Match is Maybe.
	Unjudged []string
}

// VerdictKind is the kind of a verdict.
type VerdictKind uint8

// The kinds of verdicts. Continue, the zero value, goes on with the next rule: the rule only counts,
// logs or marks.
const (
	Continue VerdictKind = iota
	Accept
	Drop
	Reject
	Jump
	Goto
	Return
	DNAT
	SNAT
	Masquerade
	Redirect
	Queue
	Stolen  // synproxy, tproxy, dup and others that take the packet away
	Unknown // a target or a verdict map that could not be read
)

// Verdict is what a rule does.
type Verdict struct {
	Kind VerdictKind
	// Chain is where Jump and Goto go.
	Chain string
	// Detail is "icmp-port-unreachable" or "tcp-reset" for Reject, the address and port for DNAT,
	// SNAT and Redirect as the rule has them ("172.18.0.2:80"), the target's name for Unknown and
	// Stolen.
	Detail string
	// Untracks says that the rule also keeps connection tracking, and so NAT, from the packet (NOTRACK,
	// notrack).
	Untracks bool
}

// Ends reports whether the verdict ends the walk through the rules of this hook's chain.
func (v Verdict) Ends() bool {
	switch v.Kind {
	case Continue, Jump, Goto, Return, Unknown:
		return false
	}
	return true
}

// Translates reports whether the verdict changes addresses.
func (v Verdict) Translates() bool {
	switch v.Kind {
	case DNAT, SNAT, Masquerade, Redirect:
		return true
	}
	return false
}

// String returns the verdict in nft's words, for those that nft knows.
func (k VerdictKind) String() string {
	switch k {
	case Continue:
		return "continue"
	case Accept:
		return "accept"
	case Drop:
		return "drop"
	case Reject:
		return "reject"
	case Jump:
		return "jump"
	case Goto:
		return "goto"
	case Return:
		return "return"
	case DNAT:
		return "dnat"
	case SNAT:
		return "snat"
	case Masquerade:
		return "masquerade"
	case Redirect:
		return "redirect"
	case Queue:
		return "queue"
	case Stolen:
		return "stolen"
	}
	return "unknown"
}
