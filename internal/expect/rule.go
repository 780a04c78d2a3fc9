package expect

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// rule is a rule that Docker should have made.
type rule struct {
	cause        path.Cause
	purpose      Purpose
	table, chain string
	hook         firewall.Hook // from which the chain is called
	match
	verdict firewall.Verdict
	// first is set if it stands before others of its chain, where a command has to insert it, behind
	// the jumps to the chains of after.
	first bool
	after []string
	// shared is set in chains that are not Docker's own, where a rule counts only if it is made for
	// this bridge.
	shared bool
	// comment is what Docker writes to it (nft only).
	comment string
	// unsure is set if it is not known which of the container's networks Docker uses.
	unsure  bool
	exposes bool

	says               string
	network, container string
	port               Port
	// accepts further destinations of a DNAT rule, as not all of them may be known.
	accepts func(netip.AddrPort) bool
}

// action writes the verdict for iptables.
func (r *rule) action() string {
	switch r.verdict.Kind {
	case firewall.Jump:
		return r.verdict.Chain
	case firewall.DNAT:
		return "DNAT --to-destination " + r.verdict.Detail
	case firewall.Masquerade:
		return "MASQUERADE"
	case firewall.Accept:
		return "ACCEPT"
	case firewall.Return:
		return "RETURN"
	}
	return "DROP"
}

// nftAction writes the verdict for nft.
func (r *rule) nftAction() string {
	text := ""
	switch r.verdict.Kind {
	case firewall.Jump:
		text = "counter jump " + r.verdict.Chain
	case firewall.DNAT:
		text = "counter dnat to " + r.verdict.Detail
	case firewall.Masquerade:
		text = "counter masquerade"
	case firewall.Accept:
		text = "counter accept"
	default:
		text = "counter drop"
	}
	if r.comment != "" {
		text += fmt.Sprintf(" comment %q", r.comment)
	}
	return text
}

// does says whether a verdict is the one that the rule should have.
func (r *rule) does(v firewall.Verdict) firewall.Truth {
	switch {
	case v.Kind == firewall.Unknown:
		return firewall.Maybe
	case r.verdict.Kind == firewall.Jump:
		return firewall.Of((v.Kind == firewall.Jump || v.Kind == firewall.Goto) && v.Chain == r.verdict.Chain)
	case r.verdict.Kind == firewall.Masquerade:
		return firewall.Of(v.Kind == firewall.Masquerade || v.Kind == firewall.SNAT)
	case r.verdict.Kind == firewall.DNAT:
		return r.leads(v)
	case r.verdict.Kind == firewall.Drop:
		return firewall.Of(v.Kind == firewall.Drop || v.Kind == firewall.Reject)
	}
	return firewall.Of(v.Kind == r.verdict.Kind)
}

// leads says whether a DNAT verdict leads to the container.
func (r *rule) leads(v firewall.Verdict) firewall.Truth {
	if v.Kind != firewall.DNAT {
		return firewall.No
	}
	to, err := netip.ParseAddrPort(v.Detail)
	if err != nil {
		return firewall.Maybe // a range, or a map
	}
	return firewall.Of(v.Detail == r.verdict.Detail || r.accepts != nil && r.accepts(to))
}

// elsewhere returns the same match for another bridge, which a rule made for this one does not match.
func (m match) elsewhere() match {
	other := func(name string) string {
		if name == "" {
			return ""
		}
		return outside
	}
	m.in, m.out = other(m.in), other(m.out)
	return m
}

// presence says whether a chain has the rule. stale is where a rule that should be it leads instead.
func (r *rule) presence(c *firewall.Chain, a addresses) (present firewall.Truth, stale string) {
	p := r.packet(r.hook, a)
	var other *firewall.Packet
	if m := r.elsewhere(); r.shared && m != r.match {
		other = m.packet(r.hook, a)
	}
	for _, have := range c.Rules {
		j := have.Body.Judge(p)
		if j.Match == firewall.No {
			continue
		}
		if other != nil && have.Body.Judge(other).Match == firewall.Yes {
			continue // made for everything, not for this bridge
		}
		fits := r.does(j.Verdict)
		if fits == firewall.No && j.Match == firewall.Yes && r.verdict.Kind == firewall.DNAT &&
			j.Verdict.Kind == firewall.DNAT && stale == "" {
			stale = j.Verdict.Detail
		}
		if present = max(present, j.Match.And(fits)); present == firewall.Yes {
			break
		}
	}
	return present, stale
}
