package nft

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/nfnl"
)

// Attributes of uapi linux/netfilter/nf_tables.h that x/sys does not have.
const (
	tableFlagOwner  = 0x2
	attrTableOwner  = 7
	attrHookDevs    = 4
	attrDeviceName  = 1
	chainPolicyDrop = 0
)

func (f *ruleset) addTable(family uint8, a nfnl.Attrs) error {
	flags := a.U32(unix.NFTA_TABLE_FLAGS)
	t := &firewall.Table{
		Backend: firewall.NFTables,
		Family:  nfnl.Family(family),
		Name:    a.Str(unix.NFTA_TABLE_NAME),
		Dormant: flags&unix.NFT_TABLE_F_DORMANT != 0,
	}
	if flags&tableFlagOwner != 0 {
		t.Progname = progname(a.U32(attrTableOwner))
	}
	f.tables = append(f.tables, t)
	f.byKey[tableKey{family, t.Name}] = t
	f.handles[tableKey{family, t.Name}] = a.U64(attrTableHandle)
	f.chains[t] = make(map[string]*firewall.Chain)
	return nil
}

// progname names the process that owns a table. The owner is the port of its netlink socket, which is
// the process's id for its first socket (netlink_autobind) and else tells nothing.
func progname(portid uint32) string {
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", portid))
	if err != nil {
		return fmt.Sprintf("netlink port %d", portid)
	}
	return strings.TrimSpace(string(comm))
}

func (f *ruleset) addChain(family uint8, a nfnl.Attrs) error {
	t := f.byKey[tableKey{family, a.Str(unix.NFTA_CHAIN_TABLE)}]
	if t == nil {
		return nfnl.ErrInterrupted
	}
	c := &firewall.Chain{Table: t, Name: a.Str(unix.NFTA_CHAIN_NAME)}
	if a.Has(unix.NFTA_CHAIN_HOOK) {
		h := a.Nested(unix.NFTA_CHAIN_HOOK)
		c.Hook = hookOf(family, h.U32(unix.NFTA_HOOK_HOOKNUM))
		c.Priority = int32(h.U32(unix.NFTA_HOOK_PRIORITY))
		c.Devices = devices(h)
		c.Type = a.Str(unix.NFTA_CHAIN_TYPE)
		c.Policy = firewall.Accept
		if a.Has(unix.NFTA_CHAIN_POLICY) && a.U32(unix.NFTA_CHAIN_POLICY) == chainPolicyDrop {
			c.Policy = firewall.Drop
		}
	}
	t.Chains = append(t.Chains, c)
	f.chains[t][c.Name] = c
	return nil
}

// hookOf names a hook number (uapi linux/netfilter.h; netfilter_arp.h and netfilter_netdev.h differ).
func hookOf(family uint8, num uint32) firewall.Hook {
	names := []firewall.Hook{firewall.Prerouting, firewall.Input, firewall.Forward, firewall.Output,
		firewall.Postrouting, firewall.Ingress}
	switch family {
	case unix.NFPROTO_ARP:
		names = []firewall.Hook{firewall.Input, firewall.Output, firewall.Forward}
	case unix.NFPROTO_NETDEV:
		names = []firewall.Hook{firewall.Ingress, firewall.Egress}
	}
	if int(num) < len(names) {
		return names[num]
	}
	return firewall.Hook(fmt.Sprintf("hook %d", num))
}

// devices reads the devices of an ingress or egress chain, of which old kernels send one.
func devices(hook nfnl.Attrs) []string {
	var names []string
	if hook.Has(attrHookDevs) {
		_ = nfnl.Walk(hook[attrHookDevs], func(typ uint16, b []byte) {
			if typ == attrDeviceName {
				names = append(names, unix.ByteSliceToString(b))
			}
		})
	}
	if len(names) == 0 && hook.Has(unix.NFTA_HOOK_DEV) {
		names = append(names, hook.Str(unix.NFTA_HOOK_DEV))
	}
	return names
}

// setBackends tells the tables that iptables-nft and its siblings wrote from all others: by their
// names and those of their base chains, which iptables-nft refuses to read otherwise.
func (f *ruleset) setBackends() {
	for _, t := range f.tables {
		names := xtablesNames(t.Family)
		if !names[t.Name] {
			continue
		}
		base, ours := 0, 0
		for _, c := range t.Chains {
			if !c.IsBase() {
				continue
			}
			base++
			if c.Name == strings.ToUpper(string(c.Hook)) {
				ours++
			}
		}
		if base == ours {
			t.Backend = firewall.IptablesNFT
		}
	}
}

// xtablesNames are the tables of iptables, ebtables and arptables.
func xtablesNames(f firewall.Family) map[string]bool {
	switch f {
	case firewall.FamilyIP, firewall.FamilyIP6:
		return map[string]bool{"filter": true, "nat": true, "mangle": true, "raw": true, "security": true}
	case firewall.FamilyBridge:
		return map[string]bool{"filter": true, "nat": true, "broute": true}
	case firewall.FamilyARP:
		return map[string]bool{"filter": true}
	}
	return nil
}

// ruleKey names a rule of one namespace; handles are unique within a table.
type ruleKey struct {
	table  tableKey
	handle uint64
}

func (f *ruleset) addRule(family uint8, a nfnl.Attrs) error {
	key := ruleKey{tableKey{family, a.Str(unix.NFTA_RULE_TABLE)}, a.U64(unix.NFTA_RULE_HANDLE)}
	t := f.byKey[key.table]
	if t == nil {
		return nfnl.ErrInterrupted
	}
	c := f.chains[t][a.Str(unix.NFTA_RULE_CHAIN)]
	if c == nil {
		return nfnl.ErrInterrupted
	}
	rule := &firewall.Rule{Chain: c, Number: len(c.Rules) + 1, Handle: key.handle}
	b := f.known[key]
	if b == nil {
		var err error
		if b, err = f.newBody(c, key.table, a); err != nil {
			return err
		}
	}
	rule.Written, rule.Comment, rule.Body = b.text, b.comment, b
	if err := count(rule, a[unix.NFTA_RULE_EXPRESSIONS]); err != nil {
		return err
	}
	c.Rules = append(c.Rules, rule)
	f.bodies[key] = b
	f.report(t, c, rule, b)
	return nil
}

// newBody reads what a rule does and puts it into words.
func (f *ruleset) newBody(c *firewall.Chain, table tableKey, a nfnl.Attrs) (*body, error) {
	t, udataOf := c.Table, a[unix.NFTA_RULE_USERDATA]
	b := &body{family: t.Family, backend: t.Backend, sets: f.sets[table]}
	d := decoder{family: t.Family, sets: b.sets, links: &f.links, ipsets: f.ipsets}
	err := nfnl.List(a[unix.NFTA_RULE_EXPRESSIONS], func(e nfnl.Attrs) error {
		b.exprs = append(b.exprs, d.decode(e))
		return nil
	})
	b.policy = t.Family == firewall.FamilyBridge && t.Backend == firewall.IptablesNFT &&
		udata(udataOf, udataEbtablesPolicy) != nil
	b.comment = unix.ByteSliceToString(udata(udataOf, udataComment))
	comment := b.comment
	if b.write = func() { b.text = b.inWords(c, &f.links, comment) }; b.unread() == nil {
		b.written.Do(b.write)
	}
	if b.comment == "" {
		b.comment = b.commentMatch()
	}
	return b, err
}

// count copies the counters of a rule, if it has any.
func count(rule *firewall.Rule, exprs []byte) error {
	return nfnl.List(exprs, func(e nfnl.Attrs) error {
		if !rule.Counted && string(e[unix.NFTA_EXPR_NAME]) == "counter\x00" {
			n := e.Nested(unix.NFTA_EXPR_DATA)
			rule.Packets, rule.Bytes = n.U64(unix.NFTA_COUNTER_PACKETS), n.U64(unix.NFTA_COUNTER_BYTES)
			rule.Counted = true
		}
		return nil
	})
}

// report tells once of every kind of expression that could not be read.
func (f *ruleset) report(t *firewall.Table, c *firewall.Chain, rule *firewall.Rule, b *body) {
	for _, e := range b.exprs {
		u, ok := e.(*unknownExpr)
		if !ok || f.unknown[u.name] {
			continue
		}
		f.unknown[u.name] = true
		f.problems = append(f.problems, fmt.Sprintf(
			"rule %d of chain %s in table %s %s uses the expression %q, which cannot be judged",
			rule.Number, c.Name, t.Family, t.Name, u.name))
	}
}
