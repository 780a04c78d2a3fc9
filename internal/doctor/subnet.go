package doctor

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// subnetChecks finds Docker subnets that cover addresses the host reaches elsewhere.
func subnetChecks(h *Host) []finding {
	if h.NS == nil {
		return nil
	}
	var out []finding
	for i, n := range h.Networks {
		if n.Driver != "bridge" && n.Driver != "overlay" { // macvlan and ipvlan share the host's subnet on purpose
			continue
		}
		for _, subnet := range n.Subnets {
			for _, r := range h.NS.Routes {
				if conflicts(h, n, subnet, r) {
					out = append(out, overlapsRoute(h, n, subnet, r))
				}
			}
			for _, other := range h.Networks[i+1:] {
				if f, ok := overlapsNetwork(h, n, subnet, other); ok {
					out = append(out, f)
				}
			}
		}
	}
	return out
}

// conflicts reports whether a route leads elsewhere for addresses of a Docker subnet. Default routes
// and routes of other Docker networks do not count.
func conflicts(h *Host, n *Network, subnet netip.Prefix, r Route) bool {
	if r.Table != mainTable || r.Dst.Bits() == 0 || r.Dev == "" || r.Dev == n.Bridge ||
		r.Dst.Addr().IsLinkLocalUnicast() || r.Dst.Addr().IsMulticast() || !r.Dst.Overlaps(subnet) {
		return false
	}
	for _, other := range h.Networks {
		if other.Bridge != "" && other.Bridge == r.Dev {
			return false
		}
	}
	// Containers reach the outside from an overlay by other means; only what is on the link is taken away.
	return n.Driver == "bridge" || r.Kernel && r.Dev != "docker_gwbridge"
}

func overlapsRoute(h *Host, n *Network, subnet netip.Prefix, r Route) finding {
	f := finding{about: about{networks: []string{n.ID}}, Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "subnet-overlap", Cause: path.CauseSubnetOverlap,
		Evidence: []string{
			fmt.Sprintf("network %s has %s", n.Name, subnet),
			fmt.Sprintf("%s has a route to %s by %s", h.NS.Name, r.Dst, r.Dev),
		},
		Remedy: []string{
			h.docker("network rm %s  # after its containers", quote(n.Name)),
			h.docker("network create --subnet %s %s", freeSubnet(h), quote(n.Name)),
		},
		Where: &path.Place{Namespace: h.NS.Name, Network: n.Name, Device: r.Dev},
	}}
	if n.Default() {
		f.Remedy = []string{`set "bip": "` + firstHost(freeSubnet(h)) + `" in ` + configFile(h) +
			" and restart docker  # restarts the containers too, unless live-restore is on"}
	}
	switch {
	case n.Driver == "overlay":
		f.Summary = fmt.Sprintf("network %s covers addresses of the host's own network on %s: its containers do not reach those", n.Name, r.Dev)
	case r.Dst.Bits() >= subnet.Bits():
		if r.Kernel {
			f.Severity = path.SeverityError
		}
		f.Summary = fmt.Sprintf("addresses of network %s are also routed to %s: what is for its containers may leave there", n.Name, r.Dev)
	default:
		f.Summary = fmt.Sprintf("network %s covers addresses that are reached by %s: what is for them goes to its bridge", n.Name, r.Dev)
	}
	return f
}

func overlapsNetwork(h *Host, n *Network, subnet netip.Prefix, other *Network) (finding, bool) {
	if n.Driver != "bridge" || other.Driver != "bridge" {
		return finding{}, false
	}
	for _, s := range other.Subnets {
		if !s.Overlaps(subnet) {
			continue
		}
		return finding{about: about{networks: []string{n.ID, other.ID}}, Finding: path.Finding{
			Severity: path.SeverityError, Check: "subnet-overlap", Cause: path.CauseSubnetOverlap,
			Summary: fmt.Sprintf("networks %s and %s have the same addresses: the host reaches only one of them", n.Name, other.Name),
			Evidence: []string{
				fmt.Sprintf("network %s has %s", n.Name, subnet), fmt.Sprintf("network %s has %s", other.Name, s),
			},
			Remedy: []string{
				h.docker("network rm %s  # after its containers", quote(other.Name)),
				h.docker("network create --subnet %s %s", freeSubnet(h), quote(other.Name)),
			},
			Where: &path.Place{Namespace: h.NS.Name, Network: n.Name},
		}}, true
	}
	return finding{}, false
}

// freeSubnet proposes a private /24 that neither routes nor networks cover.
func freeSubnet(h *Host) netip.Prefix {
	for _, base := range []byte{172, 10} {
		for second := byte(31); second >= 16; second-- {
			candidate := netip.PrefixFrom(netip.AddrFrom4([4]byte{base, second, 200, 0}), 24)
			if isFree(h, candidate) {
				return candidate
			}
		}
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 200, 0}), 24)
}

func isFree(h *Host, candidate netip.Prefix) bool {
	for _, r := range h.NS.Routes {
		if r.Dst.Bits() != 0 && r.Dst.Overlaps(candidate) {
			return false
		}
	}
	for _, n := range h.Networks {
		for _, s := range n.Subnets {
			if s.Overlaps(candidate) {
				return false
			}
		}
	}
	return true
}

// firstHost is the first address of a subnet, with its length.
func firstHost(p netip.Prefix) string {
	return netip.PrefixFrom(p.Addr().Next(), p.Bits()).String()
}

func configFile(h *Host) string {
	if h.Engine.ConfigFile == "" {
		return "/etc/docker/daemon.json"
	}
	return h.Engine.ConfigFile
}
