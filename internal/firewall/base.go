package firewall

import (
	"cmp"
	"slices"
)

// Priorities at which the kernel itself works in a hook (include/uapi/linux/netfilter_ipv4.h).
const (
	priorityConntrack = -200
	priorityDNAT      = -100 // prerouting, output
	prioritySNAT      = 100  // postrouting, input
)

// baseChains returns the base chains that p's hook calls, in the kernel's order; those of equal
// priority share a group.
func (r *Ruleset) baseChains(p *Packet) [][]*Chain {
	var list []*Chain
	for _, t := range r.Tables {
		if t.Dormant || !t.sees(p) {
			continue
		}
		for _, c := range t.Chains {
			if c.IsBase() && c.Hook == p.Hook && c.onDevice(p) {
				list = append(list, c)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *Chain) int {
		return cmp.Or(cmp.Compare(a.calledAt(), b.calledAt()), cmp.Compare(a.Priority, b.Priority))
	})
	var groups [][]*Chain
	for i, c := range list {
		if i > 0 && c.calledAt() == list[i-1].calledAt() && c.Priority == list[i-1].Priority {
			groups[len(groups)-1] = append(groups[len(groups)-1], c)
			continue
		}
		groups = append(groups, []*Chain{c})
	}
	return groups
}

// sees reports whether the table's family sees packets such as p.
func (t *Table) sees(p *Packet) bool {
	switch t.Family {
	case FamilyBridge:
		return p.Bridge
	case FamilyIP:
		return !p.Bridge && !p.isDevice() && !p.IsIPv6()
	case FamilyIP6:
		return !p.Bridge && !p.isDevice() && p.IsIPv6()
	case FamilyInet:
		return !p.Bridge && p.Hook != Egress
	case FamilyNetdev:
		return p.isDevice()
	}
	return false
}

// isDevice reports whether the hook is a device's.
func (p *Packet) isDevice() bool { return p.Hook == Ingress || p.Hook == Egress }

// onDevice reports whether the chain is called for the device of p; only device hooks ask.
func (c *Chain) onDevice(p *Packet) bool {
	if len(c.Devices) == 0 {
		return true
	}
	dev := p.In
	if p.Hook == Egress {
		dev = p.Out
	}
	return dev == "" || slices.Contains(c.Devices, dev)
}

// calledAt is the priority at which the kernel calls the chain. All nat chains of a hook are called by
// the NAT core, whatever their own priority, which orders them among each other (nf_nat_core.c).
func (c *Chain) calledAt() int32 {
	switch {
	case c.Type != "nat" || c.Table.Family == FamilyBridge:
		return c.Priority
	case c.Hook == Prerouting || c.Hook == Output:
		return priorityDNAT
	}
	return prioritySNAT
}

// at returns the packet as a base chain sees it: untracked before connection tracking, translated
// after the hook's own translation.
func (p *Packet) at(c *Chain) *Packet {
	starts := p.Hook == Prerouting || p.Hook == Output
	if p.Bridge || p.isDevice() {
		return p
	}
	if starts && c.calledAt() < priorityConntrack && !p.TrackedBefore {
		q := *p
		q.CT = &Conntrack{State: CTInvalid}
		return &q
	}
	translates := int32(prioritySNAT)
	if starts {
		translates = priorityDNAT
	}
	if t := p.Translated; t != nil && c.calledAt() > translates {
		q := *p
		q.Src, q.Dst, q.SrcPort, q.DstPort = t.Src, t.Dst, t.SrcPort, t.DstPort
		return &q
	}
	return p
}

// needsNAT reports whether nat chains are asked about the packet: the first one of a connection.
func (p *Packet) needsNAT() Truth {
	ct := p.CT
	switch {
	case ct == nil:
		return Maybe
	case ct.State != CTNew && ct.State != CTRelated, ct.Reply:
		return No
	case ct.HasStatus:
		return Of(ct.Status&StatusConfirmed == 0)
	case ct.State == CTNew:
		return Yes
	}
	return Maybe
}

// untracked returns the packet as it is once a rule may have kept connection tracking from it. What was
// seen of its entry says more than the rules do.
func (p *Packet) untracked(t Truth) *Packet {
	if t == No || p.TrackedBefore || p.CT != nil && p.CT.HasStatus {
		return p
	}
	q := *p
	if q.CT = nil; t == Yes {
		q.CT = &Conntrack{State: CTUntracked}
	}
	return &q
}
