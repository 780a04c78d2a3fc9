package doctor

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// routeChecks finds containers that cannot answer beyond their networks.
func routeChecks(h *Host) []finding {
	var out []finding
	for _, c := range h.Containers {
		if !c.Runs() || c.Joined || c.NS == nil || c.NS.Host || c.NS.Routes == nil || hasDefault(c.NS.Routes) {
			continue
		}
		e, ok := wayOut(h, c)
		if !ok {
			continue
		}
		f := finding{
			about: about{containers: []string{c.ID}},
			Finding: path.Finding{
				Severity: path.SeverityError, Check: "no-default-route", Cause: path.CauseNoRoute,
				Summary: fmt.Sprintf("%s has no default route: it answers nobody beyond its own networks and does not get out", c.Name),
				Evidence: []string{
					"its routes: " + routeList(c.NS.Routes),
					fmt.Sprintf("network %s gives it the gateway %s", e.Network, e.Gateway),
				},
				Remedy: []string{enter(c.NS, "ip route add default via "+e.Gateway.String())},
				Where:  &path.Place{Namespace: c.NS.Name, Container: c.Name, Network: e.Network},
			},
		}
		if len(c.Published) > 0 {
			f.Evidence = append(f.Evidence, "published: "+portWord(hostPorts(c.Published)))
		}
		out = append(out, f)
	}
	return out
}

// hasDefault also takes the two halves that VPN clients set instead of a default route.
func hasDefault(routes []Route) bool {
	return slices.ContainsFunc(routes, func(r Route) bool { return r.Dst.Addr().Is4() && r.Dst.Bits() <= 1 })
}

// wayOut is a network by which the container should get out.
func wayOut(h *Host, c *Container) (Endpoint, bool) {
	for _, e := range c.Endpoints {
		n := h.network(e.NetworkID)
		if n != nil && !n.Internal && e.Gateway.IsValid() && e.IPv4.IsValid() {
			return e, true
		}
	}
	return Endpoint{}, false
}

func routeList(routes []Route) string {
	var out []string
	for _, r := range routes {
		if r.Dst.Addr().Is4() {
			out = append(out, r.Dst.String()+" by "+r.Dev)
		}
	}
	if len(out) == 0 {
		return "none"
	}
	return joinWords(out)
}

// reversePathChecks finds devices with a strict filter and a route that makes it refuse what should
// come in there.
func reversePathChecks(h *Host) []finding {
	if h.NS == nil {
		return nil
	}
	var out []finding
	for _, r := range h.NS.Routes {
		n, ok := strayRoute(h, r)
		if !ok {
			continue
		}
		strict := h.strictDevices(r.Dev)
		if len(strict) == 0 {
			continue
		}
		out = append(out, finding{Finding: path.Finding{
			Severity: path.SeverityWarning, Check: "strict-reverse-path", Cause: path.CauseReversePathFilter,
			Summary: fmt.Sprintf("packets from %s are refused unless they come in by %s: a route leads back there, and the reverse path filter is strict",
				r.Dst, r.Dev),
			Evidence: reversePathEvidence(h, r, n, strict),
			Remedy: []string{
				enter(h.NS, fmt.Sprintf("ip route del %s dev %s  # if the route is a mistake", r.Dst, r.Dev)),
				enter(h.NS, "sysctl -w net.ipv4.conf.all.rp_filter=2  # loose: any way back will do"),
			},
			Where: &path.Place{Namespace: h.NS.Name, Network: n.Name, Device: r.Dev},
		}})
	}
	return append(out, twoDefaults(h)...)
}

// strayRoute reports a route that leads to a Docker bridge and is none of its network's subnets, and
// not one behind a container as its gateway.
func strayRoute(h *Host, r Route) (*Network, bool) {
	if !r.Dst.Addr().Is4() || r.Dst.Bits() == 0 || r.Gateway.IsValid() || r.Table != mainTable {
		return nil, false
	}
	for _, n := range h.Networks {
		if n.Bridge == "" || n.Bridge != r.Dev {
			continue
		}
		inside := func(s netip.Prefix) bool { return s.Overlaps(r.Dst) }
		return n, !slices.ContainsFunc(n.Subnets, inside)
	}
	return nil, false
}

// strictDevices lists the devices, but one, whose reverse path filter is strict: the greater of the
// settings for all and for the device counts (Documentation/networking/ip-sysctl.rst).
func (h *Host) strictDevices(but string) []string {
	all := h.NS.Sysctls["net/ipv4/conf/all/rp_filter"]
	var out []string
	for _, l := range h.NS.Links {
		own, ok := h.NS.Sysctl("net/ipv4/conf/" + l.Name + "/rp_filter")
		if ok && l.Name != but && l.Kind != "loopback" && l.Master == 0 && max(all, own) == "1" {
			out = append(out, l.Name)
		}
	}
	return out
}

func reversePathEvidence(h *Host, r Route, n *Network, strict []string) []string {
	out := []string{
		fmt.Sprintf("%s has a route to %s by %s, which is no subnet of network %s", h.NS.Name, r.Dst, r.Dev, n.Name),
		"rp_filter is 1 (strict) on " + joinWords(strict),
	}
	return append(out, reversePathCount(h)...)
}

// reversePathCount tells what the filter refused so far.
func reversePathCount(h *Host) []string {
	if n := h.NS.Counters["TcpExtIPReversePathFilter"]; n > 0 {
		return []string{fmt.Sprintf("the filter has refused %d packets so far", n)}
	}
	return nil
}

// twoDefaults: with two ways out and a strict filter, what comes in by the worse one is refused.
func twoDefaults(h *Host) []finding {
	best := h.uplink()
	if best == nil {
		return nil
	}
	strict := h.strictDevices(best.Name)
	var out []finding
	for _, r := range h.NS.Routes {
		if r.Table != mainTable || r.Dst.Bits() != 0 || !r.Dst.Addr().Is4() || !slices.Contains(strict, r.Dev) {
			continue
		}
		// Rules that choose the route by source, as multi-homed hosts have, live in tables of their own.
		if slices.ContainsFunc(h.NS.Routes, func(o Route) bool { return o.Table != mainTable && o.Dst.Bits() == 0 && o.Dev == r.Dev }) {
			continue
		}
		out = append(out, finding{Finding: path.Finding{
			Severity: path.SeverityNote, Check: "strict-reverse-path", Cause: path.CauseReversePathFilter,
			Summary: fmt.Sprintf("published ports are not reachable from far away by %s: answers would leave by %s, and the reverse path filter is strict",
				r.Dev, best.Name),
			Evidence: append([]string{
				fmt.Sprintf("default routes by %s and, with a higher metric, by %s", best.Name, r.Dev),
				"rp_filter is 1 (strict) on " + r.Dev,
			}, reversePathCount(h)...),
			Remedy: []string{enter(h.NS, "sysctl -w net/ipv4/conf/"+r.Dev+"/rp_filter=2  # loose: any way back will do")},
			Where:  &path.Place{Namespace: h.NS.Name, Device: r.Dev},
		}})
	}
	return out
}
