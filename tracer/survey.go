package tracer

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// survey is what a host knows of the two names of a trace.
type survey struct {
	Source end `json:"source"`
	Target end `json:"target"`
	// Proto is the protocol of the trace, if the target was understood.
	Proto path.Proto `json:"proto"`
	// Addrs are the host's own addresses by which others may reach it.
	Addrs []netip.Addr `json:"addrs,omitempty"`
}

// end is what a host knows of a name.
type end struct {
	// Local: it is on this host.
	Local bool   `json:"local"`
	Kind  string `json:"kind,omitempty"`
	// Problem is why the name means nothing here, "" if it does; Unknown that nothing has it, Usage
	// that it can mean nothing anywhere.
	Problem string `json:"problem,omitempty"`
	Unknown bool   `json:"unknown,omitempty"`
	Usage   bool   `json:"usage,omitempty"`
	// Ends are where traffic to it goes.
	Ends []surveyedEnd `json:"ends,omitempty"`
	// Networks are the IDs of the networks over several hosts that it is on.
	Networks []string `json:"networks,omitempty"`
}

// surveyedEnd is an end with what it means on other hosts.
type surveyedEnd struct {
	Endpoint
	// Network is the ID of the network over several hosts that the address belongs to, "" if it is none
	// of such a network.
	Network string `json:"network,omitempty"`
	// Inside is set on an address of a network that is this host's own: elsewhere it may be another's.
	Inside bool `json:"inside,omitempty"`
}

// surveyHost looks the names of a trace up on this host. It needs no privilege to trace.
func surveyHost(ctx context.Context, cfg Config) (survey, error) {
	t := &Tracer{cfg: cfg.withDefaults(), skipped: map[uint32]string{}}
	defer t.Close()
	ports := make(chan []uint16, 1)
	if err := t.openEngines(ctx, ports); err != nil {
		return survey{}, err
	}
	if len(t.engines.Pending()) > 0 {
		t.awaitEngines(ctx)
	}
	var out survey
	if cfg.Source != "" {
		src, err := t.names.Source(ctx, cfg.Source)
		t.source = src
		out.Source = t.sourceEnd(src, err)
	}
	tgt, err := t.names.Target(ctx, cfg.Target, cfg.Proto)
	out.Target, out.Proto = t.targetEnd(tgt, err), tgt.Proto
	out.Addrs = t.ownAddrs()
	return out, nil
}

// problem fills in why a name means nothing.
func (e *end) problem(err error) {
	var unknown *target.UnknownError
	var usage *target.UsageError
	e.Problem, e.Unknown, e.Usage = err.Error(), errors.As(err, &unknown), errors.As(err, &usage)
}

func (t *Tracer) sourceEnd(src target.Source, err error) end {
	var e end
	if err != nil {
		e.problem(err)
		return e
	}
	e.Local, e.Kind = true, string(src.Kind)
	if src.Container == nil {
		return e
	}
	for _, ep := range src.Container.Endpoints {
		if t.isWide(ep.NetworkID) {
			e.Networks = append(e.Networks, ep.NetworkID)
		}
	}
	return e
}

// isWide reports whether a Docker network reaches over several hosts.
func (t *Tracer) isWide(id string) bool {
	for _, n := range t.engines.Networks() {
		if n.ID == id {
			return n.Driver == "overlay" || n.Driver == "macvlan" || n.Driver == "ipvlan"
		}
	}
	return false
}

func (t *Tracer) targetEnd(tgt target.Target, err error) end {
	var e end
	if err != nil {
		e.problem(err)
		return e
	}
	e.Local, e.Kind = len(tgt.Containers) > 0 || len(tgt.NetNS) > 0 || tgt.Host, string(tgt.Kind)
	networks := map[netip.Addr]string{} // of the containers' addresses; "" for a host's own network
	for _, c := range tgt.Containers {
		for _, ep := range c.Endpoints {
			id := ""
			if t.isWide(ep.NetworkID) {
				id = ep.NetworkID
				e.Networks = append(e.Networks, id)
			}
			networks[ep.IPv4], networks[ep.IPv6] = id, id
		}
	}
	for _, ep := range append(slices.Clone(tgt.Endpoints), tgt.Behind...) {
		addr := ep.AddrPort.Addr()
		if addr.IsLoopback() {
			continue // every host has its own
		}
		id, container := networks[addr]
		e.Ends = append(e.Ends, surveyedEnd{
			Endpoint: Endpoint{Addr: ep.AddrPort, Proto: ep.Proto, Published: ep.Published},
			Network:  id, Inside: id == "" && (container || t.inBridge(addr)),
		})
	}
	return e
}

// inBridge reports whether an address belongs to a network that only this host has.
func (t *Tracer) inBridge(addr netip.Addr) bool {
	for _, n := range t.engines.Networks() {
		if n.Bridge == "" {
			continue
		}
		if slices.ContainsFunc(n.Subnets, func(p netip.Prefix) bool { return p.Contains(addr) }) {
			return true
		}
	}
	return false
}

// ownAddrs lists the addresses of the host's namespaces, without those of its own networks.
func (t *Tracer) ownAddrs() []netip.Addr {
	spaces := []uint32{t.topo.Self()}
	for _, e := range t.engines.List() {
		if e.NetNS != 0 && !slices.Contains(spaces, e.NetNS) {
			spaces = append(spaces, e.NetNS)
		}
	}
	var out []netip.Addr
	for _, inode := range spaces {
		list, err := t.topo.HostAddrs(inode)
		if err != nil {
			continue
		}
		for _, a := range list {
			if !a.IsLoopback() && !a.IsLinkLocalUnicast() && !t.inBridge(a) && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}
