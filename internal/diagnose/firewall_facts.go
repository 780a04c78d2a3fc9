package diagnose

import (
	"net/netip"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// FirewallFacts is what was read of the firewall of one network namespace.
type FirewallFacts struct {
	// Rules are those read after the flow ended, RulesBefore those read before it: their counters
	// settle which rule it was. Nil means not read; RulesBefore is nil too if it was not read in time.
	Rules, RulesBefore *firewall.Ruleset
	// Addrs are the addresses of the namespace's devices, loopback included; nil if not read.
	Addrs []netip.Addr
}

// forRules asks for the rules of the namespaces in which a packet was translated, and in which one
// ended in a netfilter hook.
func (w *want) forRules(p *path.Path) {
	for _, t := range p.NAT {
		w.Rules = append(w.Rules, t.NetNS)
	}
}

// forEndRules asks for the rules of the namespace in which a packet ended, if a rule can have ended it.
func (w *want) forEndRules(e *end) {
	h := e.at()
	if h == nil {
		return
	}
	if e.hook() != "" || e.drop != nil && isNetfilterDrop(e.drop) {
		w.Rules, w.RuleCounters = append(w.Rules, h.NetNS), append(w.RuleCounters, h.NetNS)
	}
}
