package merge

import (
	"cmp"
	"slices"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// Host is a host of which observations come.
type Host struct {
	// Name is how people call it, unique among the hosts.
	Name string
	// BootID identifies the running kernel (/proc/sys/kernel/random/boot_id), "" if unknown: hosts
	// that share it share its clock and the numbers of its namespaces.
	BootID string
	// Wall is the wall clock less the monotonic clock of the observations, ns.
	Wall int64
	// Reach is what runs a command line there, such as "ssh root@h2"; "" if unknown.
	Reach string
}

// View is what one host saw of one flow. Exchange takes it over.
type View struct {
	Host  int // index
	Path  *path.Path
	Facts *diagnose.Facts
}

// Exchange is one flow over all hosts.
type Exchange struct {
	Path  *path.Path
	Facts *diagnose.Facts
	// Offsets are by host, towards the clock that Path has its times of; a host that saw nothing of the
	// flow has none.
	Offsets map[int]Offset
	// Reference is the host with that clock: the asker's, if it was seen.
	Reference int

	spaces *spaces
}

// Join makes one exchange of the views of one flow, of which at least one has a path. Those without one
// are of hosts that saw nothing of it and know something of its surroundings.
func (c *Clocks) Join(hosts []Host, views []View) *Exchange {
	isBlind := func(v View) bool { return v.Path == nil }
	blind := slices.DeleteFunc(slices.Clone(views), func(v View) bool { return !isBlind(v) })
	views = orient(slices.DeleteFunc(slices.Clone(views), isBlind))
	x := &Exchange{Offsets: map[int]Offset{}, spaces: newSpaces(hosts)}
	x.Reference = views[0].Host
	groups := c.align(hosts, views, x)
	x.Path = x.joinPaths(hosts, views, groups)
	x.Facts = x.joinFacts(hosts, append(views, blind...))
	return x
}

// align pairs the packets of the views and finds the offsets of their clocks. What looks alike is paired
// again once the clocks are known better than by themselves.
func (c *Clocks) align(hosts []Host, views []View, x *Exchange) []group {
	wall := func(a, b int) int64 { return hosts[views[a].Host].Wall - hosts[views[b].Host].Wall }
	groups := pair(views, wall)
	sure := slices.DeleteFunc(slices.Clone(groups), func(g group) bool { return !markOf(g[0].pkt).sure() })
	if c.measure(hosts, views, sure, x); len(sure) == len(groups) {
		return groups
	}
	known := func(a, b int) int64 { return x.Offsets[views[b].Host].NS - x.Offsets[views[a].Host].NS }
	groups = pair(views, known)
	c.measure(hosts, views, groups, x)
	return groups
}

// measure fills in the offset of each view's host: from the reference itself, or by way of a host between.
func (c *Clocks) measure(hosts []Host, views []View, groups []group, x *Exchange) {
	clear(x.Offsets)
	x.Offsets[x.Reference] = Offset{Same: true}
	for v := 1; v < len(views); v++ {
		host := views[v].Host
		if _, done := x.Offsets[host]; done {
			continue
		}
		var best *Offset
		for u := range v {
			base, ok := x.Offsets[views[u].Host]
			if !ok || views[u].Host == host {
				continue
			}
			o := c.offset(hosts, views[u].Host, host, bound(groups, u, v), int64(views[u].Path.Start)).after(base)
			if best == nil || o.Error < best.Error {
				best = &o
			}
		}
		if best != nil {
			x.Offsets[host] = *best
		}
	}
}

// after adds the offset of the host that o was measured against.
func (o Offset) after(base Offset) Offset {
	o.NS += base.NS
	o.Same = o.Same && base.Same
	if o.Error == Unbounded || base.Error == Unbounded {
		o.Error = Unbounded
	} else {
		o.Error += base.Error
	}
	return o
}

// orient puts the views in the order in which a request passes them, and makes them agree on what a
// request is.
func orient(views []View) []View {
	slices.SortStableFunc(views, func(a, b View) int { return cmp.Compare(a.rank(), b.rank()) })
	slices.SortStableFunc(views, func(a, b View) int {
		if a.rank() != 1 || b.rank() != 1 {
			return 0
		}
		return cmp.Compare(b.hopLimit(), a.hopLimit())
	})
	lead := views[0]
	for _, v := range views[1:] {
		if opposes(lead.Path, v.Path) {
			turn(v.Path)
		}
	}
	return views
}

// rank is 0 for the asker's host, 2 for that of the target and 1 for one in between.
func (v *View) rank() int {
	switch {
	case v.Facts != nil && v.Facts.Probe != nil, startsHere(v.Path, path.Request), v.Path.ClientEstablished != 0:
		return 0
	case startsHere(v.Path, path.Reply), v.Path.ServerEstablished != 0, v.Path.DeliverNetNS != 0:
		return 2
	}
	return 1
}

// startsHere reports whether packets of one direction were made on the host.
func startsHere(p *path.Path, d path.Direction) bool {
	for _, pkt := range p.Packets {
		if pkt.Direction != d || pkt.ICMPError {
			continue
		}
		for i := range pkt.Hops {
			h := &pkt.Hops[i]
			if h.Copy || h.Stage == path.StageRoute {
				continue
			}
			return h.Stage == path.StageOutput || h.Stage == path.StageSocket || h.Action == path.ActionSend ||
				h.Action == path.ActionQueue || h.Action == path.ActionTransmit
		}
	}
	return false
}

// hopLimit is that of the first request packet, as the host first saw it.
func (v *View) hopLimit() int {
	for _, pkt := range v.Path.Packets {
		for i := range pkt.Hops {
			if h := &pkt.Hops[i]; pkt.Direction == path.Request && h.HasMark {
				return int(h.TTL)
			}
		}
	}
	return 0
}

// opposes reports whether b calls a reply what a calls a request: where a host sees the middle of a
// connection only, it has to guess.
func opposes(a, b *path.Path) bool {
	marks := map[mark]bool{}
	for _, p := range a.Packets {
		marks[markOf(p)] = true
	}
	same, other := 0, 0
	for _, p := range b.Packets {
		m := markOf(p)
		if marks[m] {
			same++
		}
		if m.dir = m.dir.Opposite(); marks[m] {
			other++
		}
	}
	return other > same
}

// turn exchanges request and reply.
func turn(p *path.Path) {
	for _, pkt := range p.Packets {
		pkt.Direction = pkt.Direction.Opposite()
		for i := range pkt.Hops {
			pkt.Hops[i].Direction = pkt.Hops[i].Direction.Opposite()
		}
	}
	for i := range p.NAT {
		p.NAT[i].Direction = p.NAT[i].Direction.Opposite()
	}
	p.Client, p.Server, p.Source, p.Target = p.Target, p.Source, p.Server, p.Client
	p.ServerEstablished, p.ClientEstablished = p.ClientEstablished, p.ServerEstablished
	p.ServerNetNS, p.ClientNetNS = p.ClientNetNS, p.ServerNetNS
}

// Restore gives the namespaces their own numbers back, for people and programs to read.
func (x *Exchange) Restore() {
	p := x.Path
	for _, pkt := range p.Packets {
		for i := range pkt.Hops {
			pkt.Hops[i].NetNS = x.spaces.inode(pkt.Hops[i].NetNS)
		}
	}
	for i := range p.NAT {
		p.NAT[i].NetNS = x.spaces.inode(p.NAT[i].NetNS)
	}
	for _, n := range []*uint32{&p.ServerNetNS, &p.ClientNetNS, &p.DeliverNetNS} {
		*n = x.spaces.inode(*n)
	}
}
