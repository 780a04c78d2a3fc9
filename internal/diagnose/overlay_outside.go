package diagnose

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainOverlayOutside: the target's address is one of an overlay network, and the asker is not on it:
// the host has no way into its own overlays, and to everybody else their addresses mean nothing.
func explainOverlayOutside(a *analysis, e *end) *finding {
	dst := a.p.Server.Addr()
	if e.direction() != path.Request || e.phase != phaseRequest && e.pkt != nil {
		return nil
	}
	network := a.overlay(dst)
	if network == nil || a.isOnOverlay(network) {
		return nil
	}
	f := &finding{cause: path.CauseNoSharedNetwork}
	if h := e.at(); h != nil {
		f.where = whereOf(h, path.Request)
	}
	who, address := a.asker(), dst.String()
	if a.isNamed(a.target()) {
		address = a.target() + " (" + address + ")"
	}
	f.says = fmt.Sprintf("%s is on overlay %s, and %s is not: nobody else reaches its addresses", address, network.Network, who)
	if a.f.Source.Container != "" && !a.f.Source.HostNetwork {
		f.evidence = []string{"container " + a.f.Source.Container + " is on " + networkNames(a.f.Source.Networks)}
		f.remedy = []string{fmt.Sprintf("docker network connect %s %s  # at once, if the overlay was made with --attachable",
			quote(network.Network), quote(a.f.Source.Container))}
		return f
	}
	f.remedy = []string{
		fmt.Sprintf("ask from a container on it: pathtrace --from CONTAINER --to %s", a.target()),
		"or publish the port: docker run -p …, for a service docker service update --publish-add …",
	}
	return f
}

// isOnOverlay reports whether the asker has a place on an overlay, or its packet was seen in one, or that
// is not known.
func (a *analysis) isOnOverlay(network *Subnet) bool {
	s := &a.f.Source
	on := func(n Network) bool { return n.Name == network.Network }
	addressed, known := a.sourceAddrs()
	switch {
	case slices.ContainsFunc(addressed, network.Prefix.Contains), slices.ContainsFunc(s.Networks, on):
		return true
	case s.Container != "" && !s.HostNetwork && s.Networks == nil, !known && s.Networks == nil:
		return true
	}
	for _, p := range a.packets(path.Request) {
		if slices.ContainsFunc(p.Hops, func(h path.Hop) bool { return h.Outer != nil || h.Network == network.Network }) {
			return true
		}
	}
	return false
}

// sourceAddrs lists the addresses of the asker's devices; known is false if none was read.
func (a *analysis) sourceAddrs() (list []netip.Addr, known bool) {
	for _, ns := range a.f.Source.NetNS {
		for _, l := range a.space(ns).Links {
			for _, p := range l.Addrs {
				list = append(list, p.Addr())
			}
		}
	}
	return list, len(list) > 0
}
