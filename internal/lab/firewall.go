package lab

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Hook is a netfilter hook.
type Hook int

// The hooks, in the order in which a packet meets them.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
)

// String returns the name of the hook, which is also that of its filter chain.
func (h Hook) String() string {
	switch h {
	case Prerouting:
		return "prerouting"
	case Input:
		return "input"
	case Forward:
		return "forward"
	case Output:
		return "output"
	case Postrouting:
		return "postrouting"
	}
	return "unknown"
}

// Action is what a rule does.
type Action int

// The actions.
const (
	Drop        Action = iota
	Reject             // ICMP port unreachable, the default of `reject`
	RejectReset        // TCP reset
	RejectAdmin        // ICMP administratively prohibited
	Accept
	DNAT       // to Rule.To; hooks Prerouting and Output
	Masquerade // hook Postrouting
)

// Table is the name of the table, of family inet, that holds the lab's rules.
const Table = "lab"

// Rule is a firewall or NAT rule; zero fields match everything.
type Rule struct {
	Hook    Hook
	Action  Action
	Proto   path.Proto
	DstPort uint16
	Src     netip.Prefix
	Dst     netip.Prefix
	In, Out string // names of devices
	// Translated matches packets of connections whose destination was translated.
	Translated bool
	// To is the new destination of a DNAT.
	To netip.AddrPort
}

func (r Rule) nat() bool { return r.Action == DNAT || r.Action == Masquerade }

// InstalledRule is a rule that can be removed.
type InstalledRule struct {
	ns      *Namespace
	comment []byte
	chain   *nftables.Chain
}

// AddRule adds a rule to the end of the chain of its hook. The first rule of a hook creates the chain,
// with policy accept.
func (ns *Namespace) AddRule(r Rule) (*InstalledRule, error) {
	rules, err := ns.AddRules(r)
	if err != nil {
		return nil, err
	}
	return rules[0], nil
}

// AddRules adds several rules in one transaction.
func (ns *Namespace) AddRules(rules ...Rule) ([]*InstalledRule, error) {
	conn, err := ns.nft()
	if err != nil {
		return nil, err
	}
	table := conn.AddTable(labTable())
	installed := make([]*InstalledRule, 0, len(rules))
	for _, r := range rules {
		exprs, err := r.expressions()
		if err != nil {
			return nil, err
		}
		chain := conn.AddChain(r.chain(table))
		// The comment is what the rule is found by when it is removed; two equal rules are told apart.
		comment := userdata.AppendString(nil, userdata.TypeComment, fmt.Sprintf("lab rule %d", ns.ruleSerial.Add(1)))
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs, UserData: comment})
		installed = append(installed, &InstalledRule{ns: ns, comment: comment, chain: chain})
	}
	return installed, ns.flush(conn)
}

// SetPolicy sets what the filter chain of a hook does with packets that no rule decided about.
func (ns *Namespace) SetPolicy(h Hook, drop bool) error {
	conn, err := ns.nft()
	if err != nil {
		return err
	}
	policy := nftables.ChainPolicyAccept
	if drop {
		policy = nftables.ChainPolicyDrop
	}
	chain := Rule{Hook: h}.chain(conn.AddTable(labTable()))
	chain.Policy = &policy
	conn.AddChain(chain)
	return ns.flush(conn)
}

// Remove removes the rule; the chain stays.
func (i *InstalledRule) Remove() error {
	conn, err := i.ns.nft()
	if err != nil {
		return err
	}
	rules, err := conn.GetRules(i.chain.Table, i.chain)
	if err != nil {
		return fmt.Errorf("read chain %s in namespace %s: %w", i.chain.Name, i.ns.Name, err)
	}
	for _, r := range rules {
		if bytes.Equal(r.UserData, i.comment) {
			if err := conn.DelRule(r); err != nil {
				return fmt.Errorf("remove rule from chain %s: %w", i.chain.Name, err)
			}
		}
	}
	return i.ns.flush(conn)
}

func labTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: Table}
}

// chain returns the chain of the rule's hook: filter rules and NAT rules need chains of their own.
func (r Rule) chain(table *nftables.Table) *nftables.Chain {
	chain := &nftables.Chain{Table: table, Name: r.Hook.String(), Type: nftables.ChainTypeFilter,
		Priority: nftables.ChainPriorityFilter}
	if r.nat() {
		chain.Name, chain.Type = "nat-"+chain.Name, nftables.ChainTypeNAT
		chain.Priority = nftables.ChainPriorityNATDest
		if r.Hook == Postrouting {
			chain.Priority = nftables.ChainPriorityNATSource
		}
	}
	hooks := [...]*nftables.ChainHook{Prerouting: nftables.ChainHookPrerouting, Input: nftables.ChainHookInput,
		Forward: nftables.ChainHookForward, Output: nftables.ChainHookOutput, Postrouting: nftables.ChainHookPostrouting}
	if r.Hook >= 0 && int(r.Hook) < len(hooks) {
		chain.Hooknum = hooks[r.Hook]
	}
	return chain
}

func (ns *Namespace) nft() (*nftables.Conn, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(int(ns.file.Fd())))
	if err != nil {
		return nil, fmt.Errorf("open nftables in namespace %s: %w", ns.Name, err)
	}
	return conn, nil
}

func (ns *Namespace) flush(conn *nftables.Conn) error {
	if err := conn.Flush(); err != nil {
		return explain(fmt.Errorf("change the firewall of namespace %s: %w", ns.Name, err), "nf_tables with NAT",
			"CONFIG_NF_TABLES_INET, CONFIG_NFT_CT, CONFIG_NFT_NAT, CONFIG_NFT_MASQ and CONFIG_NFT_REJECT")
	}
	return nil
}
