package diagnose

import (
	"fmt"
	"net/netip"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// bridgeNetfilter is the setting that shows bridged frames of an address's family to the firewall.
func bridgeNetfilter(addr netip.Addr) string {
	if addr.Is6() {
		return "net.bridge.bridge-nf-call-ip6tables"
	}
	return "net.bridge.bridge-nf-call-iptables"
}

// explainBridgeNetfilter: the request was translated on its way and the answer came straight over the
// bridge, past the translation: it arrived from an address that the asker did not ask.
func explainBridgeNetfilter(a *analysis, e *end) *finding {
	h := e.at()
	origin := a.origin()
	if h == nil || origin == nil || e.direction() != path.Reply || h.NetNS != origin.NetNS || !a.hasDNAT() ||
		h.SrcAddr != a.p.Target || h.SrcAddr == a.p.Server {
		return nil
	}
	ns, port := a.bridgedBack(e)
	if port == nil {
		return nil
	}
	name := bridgeNetfilter(a.p.Target.Addr())
	value, known := a.sysctl(ns, name)
	if known && value != 0 {
		return nil
	}
	at := a.place(port)
	f := &finding{
		cause: path.CauseBridgeNetfilterOff, where: mergeWhere(h, e),
		says: fmt.Sprintf("%s came from %s instead of %s: bridge %s in %s passed it on without undoing the translation"+
			" of the request", a.subject(e), address(a.p.Target), address(a.p.Server), port.Bridge, at),
		remedy: []string{
			a.command(port, "modprobe br_netfilter"),
			a.command(port, "sysctl -w "+name+"=1") +
				"  # firewall rules then see traffic between containers of one bridge as well",
		},
	}
	if known {
		f.evidence = append(f.evidence, fmt.Sprintf("%s is 0 in %s", name, at))
		f.remedy = f.remedy[1:]
	} else {
		f.evidence = append(f.evidence, fmt.Sprintf("%s could not be read in %s: br_netfilter is not loaded", name, at))
	}
	return f
}

// bridgedBack returns the namespace that translated the request and a bridge port there over which the
// answer went, if it passed no hook of IP or of br_netfilter there; a nil port if it did.
func (a *analysis) bridgedBack(e *end) (uint32, *path.Hop) {
	for _, t := range a.p.NAT {
		if t.Kind != path.ActionDNAT {
			continue
		}
		var port *path.Hop
		hooked := false
		for i := range e.pkt.Hops {
			h := &e.pkt.Hops[i]
			if h.NetNS != t.NetNS {
				continue
			}
			hooked = hooked || isNetfilter(h.Stage)
			if h.Bridge != "" {
				port = h
			}
		}
		if port != nil && !hooked {
			return t.NetNS, port
		}
	}
	return 0, nil
}
