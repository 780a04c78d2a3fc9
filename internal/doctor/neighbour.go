package doctor

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// neighbourChecks compares neighbour tables with the hardware addresses that containers really have.
func neighbourChecks(h *Host) []finding {
	var out []finding
	list := h.attachments()
	for _, n := range h.Networks {
		actual := actualAddresses(h, n, list)
		if bridge := h.NS.link(0, n.Bridge); n.Bridge != "" && bridge != nil {
			out = append(out, wrongNeighbours(h, n, h.NS, nil, bridge, actual)...)
		}
		for _, a := range list {
			if a.endpoint.NetworkID == n.ID && a.dev != nil {
				out = append(out, wrongNeighbours(h, n, a.container.NS, a.container, a.dev, actual)...)
			}
		}
	}
	return out
}

// owner is who has an address on a network, and the hardware address to send to.
type owner struct {
	container *Container
	mac       string
}

// actualAddresses maps the addresses of a network to their owners; one that two devices carry has none,
// which is a finding of its own.
func actualAddresses(h *Host, n *Network, list []attachment) map[netip.Addr]owner {
	carried, _ := carriers(h, n)
	out := map[netip.Addr]owner{}
	for _, a := range list {
		if a.endpoint.NetworkID != n.ID || a.dev == nil || a.dev.MAC == "" {
			continue
		}
		for _, addr := range []netip.Addr{a.endpoint.IPv4, a.endpoint.IPv6} {
			if addr.IsValid() && a.dev.has(addr) && len(carried[addr]) == 1 {
				out[addr] = owner{a.container, a.dev.MAC}
			}
		}
	}
	return out
}

// wrongNeighbours looks through the entries of one device; c is nil for the host's.
func wrongNeighbours(h *Host, n *Network, ns *Namespace, c *Container, dev *Link, actual map[netip.Addr]owner) []finding {
	var out []finding
	for _, e := range ns.Neighbours {
		o, ok := actual[e.Addr]
		if e.Ifindex != dev.Index || !ok || e.MAC == "" || strings.EqualFold(e.MAC, o.mac) || e.State == "FAILED" {
			continue
		}
		who := "the host"
		place := &path.Place{Namespace: ns.Name, Network: n.Name, Device: dev.Name}
		concerned := []string{o.container.ID}
		if c != nil {
			who, place.Container = c.Name, c.Name
			concerned = append(concerned, c.ID)
		}
		f := finding{about: about{containers: concerned, networks: []string{n.ID}}, Finding: path.Finding{
			Severity: path.SeverityWarning, Check: "wrong-neighbour", Cause: path.CauseWrongNeighbour, Where: place,
			Summary: fmt.Sprintf("%s sends what is for %s (%s) to a hardware address that is not its own, until the entry is renewed",
				who, o.container.Name, e.Addr),
			Evidence: []string{
				fmt.Sprintf("the neighbour table of %s has %s for %s on %s (%s)", ns.Name, e.MAC, e.Addr, dev.Name, e.State),
				fmt.Sprintf("%s has %s", o.container.Name, o.mac),
			},
			Remedy: []string{enter(ns, fmt.Sprintf("ip neigh del %s dev %s", e.Addr, dev.Name))},
		}}
		switch e.State {
		case "STALE": // not used at the moment, and checked before it is relied on
			f.Severity = path.SeverityNote
		case "PERMANENT", "NOARP":
			f.Severity = path.SeverityError
			f.Summary = fmt.Sprintf("%s sends what is for %s (%s) to a hardware address that is not its own",
				who, o.container.Name, e.Addr)
		}
		out = append(out, f)
	}
	return out
}
