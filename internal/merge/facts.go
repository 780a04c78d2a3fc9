package merge

import (
	"slices"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// joinFacts puts together what the hosts know of the flow's surroundings. views are in the order in which
// a request passes them.
func (x *Exchange) joinFacts(hosts []Host, views []View) *diagnose.Facts {
	out := &diagnose.Facts{Namespaces: map[uint32]*diagnose.Namespace{}, Complete: true}
	passed := map[uint32]bool{} // namespaces that are known from a host whose packets were seen there
	for _, v := range views {
		if v.Facts == nil {
			out.Complete = false
			continue
		}
		f := x.renumber(hosts, v)
		there := passes(v.Path)
		for n, ns := range f.Namespaces {
			// Hosts that share a kernel may both know a namespace: it is of the one that follows packets there.
			if out.Namespaces[n] == nil || there[n] && !passed[n] {
				out.Namespaces[n], passed[n] = ns, there[n]
			}
		}
		addFacts(out, f)
		out.MissingHooks = appendOn(out.MissingHooks, f.MissingHooks, hosts, v.Host)
	}
	x.endFacts(hosts, views, out)
	return out
}

// passes lists the namespaces in which packets of a path were seen.
func passes(p *path.Path) map[uint32]bool {
	out := map[uint32]bool{}
	if p == nil {
		return out
	}
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			out[pkt.Hops[i].NetNS] = true
		}
	}
	return out
}

// addFacts adds what one host knows. An end is known best where its namespace is.
func addFacts(out, f *diagnose.Facts) {
	if f.Probe != nil {
		out.Probe, out.Lookup = f.Probe, f.Lookup
	}
	if knows(&f.Target) > knows(&out.Target) {
		label, port, kind := out.Target.Label, out.Target.Port, out.Target.PortKind
		out.Target, out.Publications = f.Target, f.Publications
		if out.Target.Container == "" && label != "" {
			out.Target.Label = label
		}
		if out.Target.Port == 0 {
			out.Target.Port, out.Target.PortKind = port, kind
		}
	}
	if knows(&f.Source) > knows(&out.Source) {
		out.Source = f.Source
	}
	out.Waited = max(out.Waited, f.Waited)
	out.LostEvents += f.LostEvents
	out.Complete = out.Complete && f.Complete
	out.Owners = append(out.Owners, f.Owners...)
	for _, s := range f.Subnets {
		out.Subnets = addSubnet(out.Subnets, s)
	}
	if f.VXLANs != nil && out.VXLANs == nil {
		out.VXLANs = []diagnose.VXLAN{}
	}
	for _, v := range f.VXLANs {
		if !slices.Contains(out.VXLANs, v) {
			out.VXLANs = append(out.VXLANs, v)
		}
	}
}

// knows grades how much is known of an end of the flow.
func knows(e *diagnose.Endpoint) int {
	switch {
	case e.Container != "" && len(e.NetNS) > 0:
		return 5
	case e.Container != "":
		return 4
	case len(e.NetNS) > 0:
		return 3
	case len(e.HostNetNS) > 0:
		return 2
	case e.Label != "":
		return 1
	}
	return 0
}

// addSubnet adds a network's subnet. That of an overlay is one on all hosts, each of which knows its own
// containers; those of bridges are each host's own, even if they are alike.
func addSubnet(list []diagnose.Subnet, s diagnose.Subnet) []diagnose.Subnet {
	for i := range list {
		old := &list[i]
		if s.Bridge != "" || old.Bridge != "" || len(s.Peers) == 0 || old.Network != s.Network || old.Prefix != s.Prefix {
			continue
		}
		old.HostNetNS = append(slices.Clone(old.HostNetNS), s.HostNetNS...)
		old.Peers = union(old.Peers, s.Peers)
		old.Taken = union(old.Taken, s.Taken)
		return list
	}
	return append(list, s)
}

func union[T comparable](a, b []T) []T {
	out := slices.Clone(a)
	for _, v := range b {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

func appendOn(list, more []string, hosts []Host, host int) []string {
	for _, s := range more {
		list = append(list, s+" on "+hosts[host].Name)
	}
	return list
}

// endFacts settles what is of one host only by where the flow ended.
func (x *Exchange) endFacts(hosts []Host, views []View, out *diagnose.Facts) {
	for _, pkt := range x.Path.Packets {
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			if h.NetNS != 0 && out.Namespaces[h.NetNS] == nil {
				out.Namespaces[h.NetNS] = &diagnose.Namespace{Name: h.Namespace, Container: h.Container, Host: h.Host,
					Reach: reachOf(hosts, h.Host)}
			}
		}
	}
	if end := endOf(x.Path); end != "" {
		for _, v := range views {
			if v.Facts != nil && hosts[v.Host].Name == end {
				out.NFTDropsInPlace = v.Facts.NFTDropsInPlace
			}
		}
	}
	if len(out.Owners) > 1 {
		out.Owners = x.owners(out)
	}
}

// owners leaves out who has an address on a host where it means something else: the subnets of bridge
// networks are alike on every host. An address of the flow is owned by whom the flow met; of any other
// all owners stay.
func (x *Exchange) owners(f *diagnose.Facts) []diagnose.Owner {
	local := func(o diagnose.Owner) bool {
		for _, s := range f.Subnets {
			if s.Prefix.Contains(o.Addr) && s.Bridge != "" {
				return true
			}
		}
		return false
	}
	visited := passes(x.Path)
	met := map[string]bool{} // hosts of owners that the flow met, by address
	hostOf := func(n uint32) string {
		if ns := f.Namespaces[n]; ns != nil {
			return ns.Host
		}
		return ""
	}
	for _, o := range f.Owners {
		if visited[o.NetNS] {
			met[o.Addr.String()+" "+hostOf(o.NetNS)] = true
			met[o.Addr.String()] = true
		}
	}
	return slices.DeleteFunc(f.Owners, func(o diagnose.Owner) bool {
		a := o.Addr.String()
		return local(o) && met[a] && !met[a+" "+hostOf(o.NetNS)]
	})
}

// endOf is the host of the last packet that was dropped, "" if none was.
func endOf(p *path.Path) (host string) {
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			if h := &pkt.Hops[i]; h.Action == path.ActionDrop && !h.Noise && !h.Copy {
				host = h.Host
			}
		}
	}
	return host
}

func reachOf(hosts []Host, name string) string {
	for _, h := range hosts {
		if h.Name == name {
			return h.Reach
		}
	}
	return ""
}

// renumber returns a host's facts with the numbers of namespaces that all have in common.
func (x *Exchange) renumber(hosts []Host, v View) *diagnose.Facts {
	f, host := *v.Facts, hosts[v.Host]
	one := func(inode uint32) uint32 { return x.spaces.of(v.Host, inode) }
	f.Namespaces = make(map[uint32]*diagnose.Namespace, len(v.Facts.Namespaces))
	for inode, ns := range v.Facts.Namespaces {
		now := *ns
		now.Name, now.Host, now.Reach = onHost(now.Name, host.Name), host.Name, host.Reach
		now.Links = slices.Clone(now.Links)
		for i := range now.Links {
			now.Links[i].PeerNetNS = one(now.Links[i].PeerNetNS)
		}
		f.Namespaces[one(inode)] = &now
	}
	for _, e := range []*diagnose.Endpoint{&f.Target, &f.Source} {
		e.NetNS, e.HostNetNS = x.spaces.list(v.Host, e.NetNS), x.spaces.list(v.Host, e.HostNetNS)
	}
	f.Owners = slices.Clone(f.Owners)
	for i := range f.Owners {
		o := &f.Owners[i]
		o.NetNS, o.PeerNetNS = one(o.NetNS), one(o.PeerNetNS)
		if o.Label == "host" {
			o.Label = host.Name
		}
	}
	f.Subnets = slices.Clone(f.Subnets)
	for i := range f.Subnets {
		f.Subnets[i].HostNetNS = x.spaces.list(v.Host, f.Subnets[i].HostNetNS)
	}
	f.VXLANs = slices.Clone(f.VXLANs)
	for i := range f.VXLANs {
		d := &f.VXLANs[i]
		d.NetNS, d.HostNetNS = one(d.NetNS), one(d.HostNetNS)
	}
	return &f
}
