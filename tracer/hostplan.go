package tracer

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// hostPlan says which host does what in a trace.
type hostPlan struct {
	cfg   Config
	hosts []*remoteHost
	asker *remoteHost // nil without a probe, or if there is nothing to dial
	// homes are the hosts that have the target.
	homes []*remoteHost
	// dial is what a host is told to trace to that does not know the target by its name; "" for none.
	dial  string
	notes []string
}

// newHostPlan makes a plan of what the hosts know of the names.
func newHostPlan(cfg Config, hosts []*remoteHost) (*hostPlan, error) {
	p := &hostPlan{cfg: cfg, hosts: hosts}
	for _, h := range hosts {
		if h.found.Target.Local {
			p.homes = append(p.homes, h)
		}
	}
	if err := p.findAsker(); err != nil {
		return nil, err
	}
	if len(p.homes) == 0 && !slices.ContainsFunc(hosts, func(h *remoteHost) bool { return h.found.Target.Problem == "" }) {
		return nil, p.nobody(func(h *remoteHost) end { return h.found.Target })
	}
	p.findDial()
	if p.dial == "" && p.asker != nil && p.asker.found.Target.Problem != "" {
		p.asker = nil // the target's host says why it cannot be reached
	}
	return p, nil
}

// findAsker finds the one host that has the source.
func (p *hostPlan) findAsker() error {
	if p.cfg.Source == "" {
		return nil
	}
	var names []string
	best := 0
	for _, h := range p.hosts {
		src := &h.found.Source
		switch rank := src.rank(); {
		case rank == 0 || rank < best:
		case rank > best:
			p.asker, names, best = h, []string{src.on(h)}, rank
		default:
			names = append(names, src.on(h))
		}
	}
	switch {
	case len(names) == 0:
		return p.nobody(func(h *remoteHost) end { return h.found.Source })
	case len(names) > 1 && p.cfg.Source == "host":
		return usageOf(fmt.Sprintf("%q could be each of them: say which host is meant, as in --from %s", p.cfg.Source, p.asker.label()), true)
	case len(names) > 1:
		return usageOf(fmt.Sprintf("%q could be any of these: %s; say which with a name or an ID that only one has", p.cfg.Source,
			strings.Join(names, ", ")), true)
	}
	return nil
}

// rank says how much a name is meant for what has it: a container's more than a namespace's or an address,
// which several hosts may have. It is 0 if nothing there has it.
func (e *end) rank() int {
	switch {
	case !e.Local:
		return 0
	case e.Kind == string(target.KindNetNS), e.Kind == string(target.KindAddress), e.Kind == string(target.KindHostName):
		return 1
	}
	return 2
}

// on names what has the name, with its host.
func (e *end) on(h *remoteHost) string { return e.Kind + " on " + h.label() }

// nobody says that no host knows a name: what a host says that found more than that nothing has the name
// tells the most.
func (p *hostPlan) nobody(of func(*remoteHost) end) error {
	for _, h := range p.hosts {
		if e := of(h); !e.Unknown {
			if e.Usage {
				return usageOf(e.Problem, true)
			}
			return usageOf(h.label()+": "+e.Problem, false)
		}
	}
	var parts []string
	for _, h := range p.hosts {
		parts = append(parts, h.label()+": "+of(h).Problem)
	}
	return usageOf(strings.Join(parts, "; "), false)
}

// findDial chooses an address of the target that the asker can be expected to reach: one on a network that
// both are on, one that is published on an address of the target's host, or one of a network over several
// hosts.
func (p *hostPlan) findDial() {
	if p.asker == nil || p.asker.found.Target.Problem == "" {
		return
	}
	shared := p.asker.found.Source.Networks
	best, bestRank := netip.AddrPort{}, 0
	for _, h := range p.homes {
		for _, e := range h.found.Target.Ends {
			rank := 0
			switch {
			case e.Network != "" && slices.Contains(shared, e.Network):
				rank = 4
			case e.Published && slices.Contains(h.found.Addrs, e.Addr.Addr()):
				rank = 3
			case e.Network == "" && !e.Inside:
				rank = 2
			case e.Network != "":
				rank = 1
			}
			if rank > 0 && (p.cfg.PreferIPv6 == e.Addr.Addr().Is6()) {
				rank += 10
			}
			if rank > bestRank {
				best, bestRank = e.Addr, rank
			}
		}
	}
	if bestRank == 0 {
		return
	}
	p.dial = textOf(best)
	p.notes = append(p.notes, fmt.Sprintf("%s is on %s; from %s it is reached at %s", p.cfg.Target,
		p.homes[0].label(), p.asker.label(), p.dial))
}

// apply makes what is common to all hosts one host's part. It reports whether there is any for it: the
// target may have no address, as of a container that does not run.
func (p *hostPlan) apply(h *remoteHost, c *agentConfig) bool {
	if h != p.asker {
		c.Probed, c.Source = c.Source != "", ""
	}
	for _, other := range p.hosts {
		for _, e := range other.found.Target.Ends {
			if other == h || e.Inside || slices.Contains(c.Also, e.Endpoint) {
				continue
			}
			c.Also = append(c.Also, e.Endpoint)
		}
	}
	switch {
	case h.found.Target.Problem == "":
	case h == p.asker:
		c.Target, c.Foreign, c.Proto = p.dial, true, p.proto()
	case len(c.Also) > 0:
		c.Target, c.Foreign, c.Proto = textOf(c.Also[0].Addr), true, c.Also[0].Proto
	default:
		return false
	}
	return true
}

// proto is the protocol of the trace, as a host understood it that knows the target.
func (p *hostPlan) proto() path.Proto {
	for _, h := range p.homes {
		return h.found.Proto
	}
	return p.cfg.Proto
}

// textOf writes an address as a target.
func textOf(ap netip.AddrPort) string {
	if ap.Port() == 0 {
		return ap.Addr().String()
	}
	return ap.String()
}
