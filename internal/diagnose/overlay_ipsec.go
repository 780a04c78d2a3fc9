package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainEncryption: IPsec refused the packet of an encrypted overlay, because it has no keys for it.
// The packet is routed again after it was marked in OUTPUT, and that fails (ip_route_me_harder in
// net/ipv4/netfilter.c, whose end the kernel reports as nf_hook_slow), or it reaches IPsec itself.
func explainEncryption(a *analysis, e *end) *finding {
	h := e.drop
	vtep, ok := vtepOf(h)
	if !ok {
		return nil
	}
	inHook := hookName(e.hook()) == "OUTPUT" && isNetfilterDrop(h) && !isRuleFunction(h.Function)
	if !inHook && h.Stage != path.StageXfrm && h.Stage != path.StageRoute || a.ruling(e).one() != nil {
		return nil
	}
	policy, network := a.ipsecPolicy(h.NetNS, vtep), a.overlay(h.DstAddr.Addr())
	if policy == nil || a.hasState(h.NetNS, policy) || network != nil && !network.Encrypted {
		return nil
	}
	f := &finding{cause: path.CauseEncryptionFailed, where: whereOf(h, e.direction())}
	f.where.Stage = path.StageXfrm
	f.says = fmt.Sprintf("%s was dropped in %s: its VXLAN packet to %s has to be encrypted, and IPsec has no state (keys)"+
		" for that", a.subject(e), a.place(h), vtep.Addr())
	f.evidence = []string{fmt.Sprintf("an IPsec policy in %s demands state %s for UDP port %d to %s, marked 0x%x",
		a.place(h), spiText(policy), policy.Port, policy.Dst.Addr(), policy.Mark)}
	if network != nil {
		f.evidence = append(f.evidence, fmt.Sprintf("overlay %s is encrypted", network.Network))
	}
	f.remedy = []string{
		a.command(h, "ip xfrm state count"), a.command(h, "ip xfrm policy"),
		"journalctl -u docker | grep 'Failed Adding'  # why the engine could not add the state",
		"modprobe -a esp4 gcm  # if the kernel has no ESP or AES-GCM",
	}
	return f
}

// ipsecPolicy returns the policy for packets to a tunnel endpoint, nil if there is none. Whether the
// packet had the policy's mark when it was routed again was not seen.
func (a *analysis) ipsecPolicy(ns uint32, to netip.AddrPort) *IPsecPolicy {
	facts := a.space(ns).IPsec
	if facts == nil {
		return nil
	}
	for i := range facts.Policies {
		p := &facts.Policies[i]
		if p.Dst.Contains(to.Addr()) && (p.Port == 0 || p.Port == to.Port()) {
			return p
		}
	}
	return nil
}

// hasState reports whether there is a state that a policy can use.
func (a *analysis) hasState(ns uint32, p *IPsecPolicy) bool {
	return slices.ContainsFunc(a.space(ns).IPsec.States, func(s IPsecState) bool {
		return s.Dst == p.TunnelDst && (p.SPI == 0 || s.SPI == p.SPI)
	})
}

func spiText(p *IPsecPolicy) string {
	if p.SPI == 0 {
		return "to " + p.TunnelDst.String()
	}
	return fmt.Sprintf("0x%08x", p.SPI)
}
