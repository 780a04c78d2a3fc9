package tracer

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pathtrace/pathtrace/internal/diagnose"
	"github.com/pathtrace/pathtrace/internal/docker"
	"github.com/pathtrace/pathtrace/internal/target"
	"github.com/pathtrace/pathtrace/internal/topo"
	"github.com/pathtrace/pathtrace/tracer/path"
)

// gather reads the facts that would settle why a flow ended; p is nil if nothing was seen of it.
// What cannot be read stays unknown, which package diagnose takes into account.
func (s *session) gather(p *path.Path) *diagnose.Facts {
	lost := s.readings.lostEvents(s.lost)
	f := &diagnose.Facts{
		Probe:  s.probe,
		Dialed: s.dialed.AddrPort,
		Target: s.targetFact(p),
		Source: s.sourceFact(),
		Lookup: s.lookup.result(),

		Publications: s.publications(),
		NoIPVS:       !s.readings.ipvs(),
		Namespaces:   map[uint32]*diagnose.Namespace{},
		LostEvents:   lost,
		MissingHooks: s.t.set.MissingHooks(),

		NFTDropsInPlace: s.nftInPlace,
		Complete:        lost == 0 && !s.gaps(p),
	}
	if s.t.cfg.Source == "" {
		f.Waited = time.Since(s.t.started)
	}
	var want diagnose.Want
	if p != nil {
		want = diagnose.Needs(p)
	}
	if len(want.Neighbours) > 0 {
		// What ends somewhere may end there because the other end of the target's device is down.
		want.Links = append(want.Links, f.Target.HostNetNS...)
	}
	s.read(f, want, p)
	s.readRules(f, want, p)
	s.readExpected(f, want, p)
	return f
}

// gaps reports whether the flow passed a namespace that could not be attached to; without a flow,
// whether there is such a namespace at all.
func (s *session) gaps(p *path.Path) bool {
	skipped := s.t.skippedNamespaces()
	if p == nil {
		return len(skipped) > 0
	}
	for _, packet := range p.Packets {
		for i := range packet.Hops {
			if _, ok := skipped[packet.Hops[i].NetNS]; ok {
				return true
			}
		}
	}
	return false
}

func (s *session) read(f *diagnose.Facts, want diagnose.Want, p *path.Path) {
	start := uint64(0)
	if p != nil {
		start = p.Start
	}
	for _, inode := range append(want.Links, f.Target.NetNS...) {
		s.readLinks(s.fact(f, inode), inode)
	}
	for _, inode := range want.Neighbours {
		s.readNeighbours(s.fact(f, inode), inode)
	}
	if s.isDown(f) {
		want.Listeners = append(want.Listeners, f.Target.HostNetNS...) // who has its ports?
	}
	for _, inode := range append(want.Listeners, f.Target.NetNS...) {
		s.readListeners(s.fact(f, inode), inode)
	}
	for _, inode := range want.Counters {
		s.readCounters(s.fact(f, inode), inode, start)
	}
	s.readTracked(f, want)
	for _, q := range want.Routes {
		s.readRoute(s.fact(f, q.NetNS), q)
	}
	for _, q := range want.Sysctls {
		s.readSysctl(s.fact(f, q.NetNS), q)
	}
	s.readOwners(f, want.Owners)
	if want.OwnerCounters {
		for _, o := range f.Owners {
			s.readCounters(s.fact(f, o.NetNS), o.NetNS, start)
		}
	}
	if p == nil || len(want.Way) > 0 {
		s.readWay(f, want.LinkWant)
	}
}

func (s *session) fact(f *diagnose.Facts, inode uint32) *diagnose.Namespace {
	if ns := f.Namespaces[inode]; ns != nil {
		return ns
	}
	ns := &diagnose.Namespace{Name: s.t.labels.namespace(inode), Self: inode == s.t.topo.Self()}
	if c, ok := s.t.engines.ByNetNS(inode); ok {
		ns.Container = c.Name
	}
	if known, ok := s.t.topo.Namespace(inode); ok {
		ns.Path = known.Path
	}
	f.Namespaces[inode] = ns
	return ns
}

func (s *session) readLinks(ns *diagnose.Namespace, inode uint32) {
	if ns.Links != nil {
		return
	}
	links, err := recall(&s.readings.mu, &s.readings.links, inode, func() ([]diagnose.Link, error) {
		now, err := s.t.topo.LinksNow(inode)
		links := []diagnose.Link{}
		for _, l := range now {
			links = append(links, linkFact(l))
		}
		return links, err
	})
	if err == nil {
		ns.Links = links
	}
}

func (s *session) readNeighbours(ns *diagnose.Namespace, inode uint32) {
	if ns.Neighbours != nil {
		return
	}
	list, err := s.t.topo.Neighbours(inode, 0)
	if err != nil {
		return
	}
	ns.Neighbours = []diagnose.Neighbour{}
	for _, n := range list {
		ns.Neighbours = append(ns.Neighbours, diagnose.Neighbour{
			Ifindex: n.Ifindex, Addr: n.Addr, State: n.State, MAC: n.HardwareAddr,
		})
	}
}

func (s *session) readRoute(ns *diagnose.Namespace, q diagnose.RouteQuery) {
	r, err := s.t.topo.RouteTo(q.NetNS, q.Dst)
	out := diagnose.Route{Dst: q.Dst, Gateway: r.Gateway, Ifindex: r.Index, Device: r.Dev}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		out.Err = errnoName(errno)
	case err != nil:
		return
	}
	ns.Routes = append(ns.Routes, out)
}

func (s *session) readSysctl(ns *diagnose.Namespace, q diagnose.SysctlQuery) {
	value, err := s.t.topo.Sysctl(q.NetNS, strings.ReplaceAll(q.Name, ".", "/"))
	if err != nil {
		return
	}
	if ns.Sysctls == nil {
		ns.Sysctls = map[string]string{}
	}
	ns.Sysctls[q.Name] = value
}

func (s *session) targetFact(p *path.Path) diagnose.Endpoint {
	tgt := s.t.currentTarget()
	e := diagnose.Endpoint{Label: tgt.Label, NetNS: tgt.NetNS, Port: tgt.Port}
	if len(tgt.Containers) > 0 {
		c := pickContainer(tgt.Containers, s.dialed.Container)
		s.describe(&e, c)
		if tgt.Host && c.NetNS != 0 {
			// A host address with a published port stands for the container that publishes it.
			e.NetNS = []uint32{c.NetNS}
		}
	} else {
		e.HostNetNS = s.hostNetNS(tgt.Engine)
	}
	name := e.Container
	if len(tgt.Containers) > 0 && tgt.Host && len(e.NetNS) > 0 && slices.Contains(e.HostNetNS, e.NetNS[0]) {
		name = "" // it does not run: whoever answers is somebody else
	}
	e.Label = s.answerer(p, tgt, name)
	if s.dialed.Published {
		e.PortKind = diagnose.PortHost
	} else if e.PortKind == diagnose.PortUnknown && tgt.Kind != target.KindAddress && len(tgt.Containers) > 0 {
		e.PortKind = diagnose.PortContainer
	}
	return e
}

// answerer names a target given by address, which says more than the address: after the container
// that publishes it, if that runs, or the namespace whose socket took the request.
func (s *session) answerer(p *path.Path, tgt target.Target, container string) string {
	if _, err := netip.ParseAddr(tgt.Label); err != nil {
		return tgt.Label
	}
	if container != "" || p == nil {
		return cmp.Or(container, tgt.Label)
	}
	ns, ok := s.t.topo.Namespace(cmp.Or(p.ServerNetNS, p.DeliverNetNS))
	if ok && (ns.Kind == topo.KindNamed || ns.Kind == topo.KindContainer) {
		return ns.Name
	}
	return tgt.Label
}

func (s *session) sourceFact() diagnose.Endpoint {
	src := s.t.source
	e := diagnose.Endpoint{Label: src.Label}
	if src.NetNS != 0 {
		e.NetNS = []uint32{src.NetNS}
	}
	if src.Container != nil {
		s.describe(&e, src.Container)
	}
	return e
}

// pickContainer is the container in question: the one dialled, else the first.
func pickContainer(list []*docker.Container, dialed *docker.Container) *docker.Container {
	if dialed != nil {
		return dialed
	}
	return list[0]
}

func (s *session) describe(e *diagnose.Endpoint, c *docker.Container) {
	// Its state may have changed since the name was resolved.
	for _, now := range s.t.engines.Containers() {
		if now.ID == c.ID {
			c = now
		}
	}
	e.Container, e.State = c.Name, string(c.State)
	e.Rivals = s.rivals(c)
	e.StartError, e.ExitCode, e.OOMKilled = c.StartError, c.ExitCode, c.OOMKilled
	e.HostNetNS = s.hostNetNS(c.Engine)
	internal := map[string]bool{} // by identifier
	for _, n := range s.t.engines.Networks() {
		internal[n.ID] = n.Internal
	}
	c = s.shares(e, c)
	e.Networks = []diagnose.Network{}
	for _, ep := range c.Endpoints {
		e.Networks = append(e.Networks, diagnose.Network{
			Name: ep.Network, Addrs: validAddrs(ep.IPv4, ep.IPv6), Gateways: validAddrs(ep.GatewayV4, ep.GatewayV6),
			Internal: internal[ep.NetworkID],
		})
	}
	e.Published = []diagnose.Published{}
	for _, p := range c.Ports {
		e.Published = append(e.Published, published(p))
	}
	for _, p := range c.Configured {
		e.Configured = append(e.Configured, published(p))
	}
}

// shares says with whom a container shares its namespace, and returns the one whose namespace it is:
// the networks and ports are those of that one.
func (s *session) shares(e *diagnose.Endpoint, c *docker.Container) *docker.Container {
	owner := c
	for _, other := range s.t.engines.Containers() {
		if other.Engine != c.Engine || other.ID == c.ID {
			continue
		}
		if other.ID == c.JoinedID {
			owner, e.Joined = other, other.Name
		}
		if c.NetNS != 0 && other.NetNS == c.NetNS && !c.HostNetwork() {
			e.Sharers = append(e.Sharers, other.Name)
		}
	}
	e.HostNetwork = owner.HostNetwork()
	for _, engine := range s.t.engines.List() {
		e.Podman = e.Podman || engine.Index == c.Engine && engine.Podman
	}
	return owner
}

func validAddrs(list ...netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		if a.IsValid() {
			out = append(out, a)
		}
	}
	return out
}

func (s *session) hostNetNS(engine int) []uint32 {
	var out []uint32
	for _, e := range s.t.engines.List() {
		if e.NetNS != 0 && (engine < 0 || e.Index == engine) {
			out = append(out, e.NetNS)
		}
	}
	return out
}
