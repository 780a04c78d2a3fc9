package doctor

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// holderOf is a device that carries an address or a hardware address on a network.
type holderOf struct {
	label     string // the container, or the device of the host
	container *Container
	ns        *Namespace
	dev       *Link
	prefix    netip.Prefix // as the device carries it
}

// duplicateChecks finds addresses that two devices of one network carry, by what is configured inside
// the namespaces: the engine itself gives none away twice.
func duplicateChecks(h *Host) []finding {
	var out []finding
	for _, n := range h.Networks {
		holders, macs := carriers(h, n)
		for _, addr := range slices.SortedFunc(maps.Keys(holders), netip.Addr.Compare) {
			if list := holders[addr]; len(list) > 1 {
				out = append(out, duplicateAddress(h, n, addr, list))
			}
		}
		for _, mac := range slices.Sorted(maps.Keys(macs)) {
			if list := macs[mac]; len(list) > 1 {
				out = append(out, duplicateMAC(h, n, mac, list))
			}
		}
	}
	return out
}

// carriers lists who carries which address on a network: containers and, for a bridge, the host.
func carriers(h *Host, n *Network) (map[netip.Addr][]holderOf, map[string][]holderOf) {
	addrs, macs := map[netip.Addr][]holderOf{}, map[string][]holderOf{}
	add := func(o holderOf) {
		for _, p := range o.dev.Addrs {
			if p.Addr().IsLinkLocalUnicast() || p.Addr().IsLoopback() {
				continue
			}
			o.prefix = p
			addrs[p.Addr()] = append(addrs[p.Addr()], o)
		}
		if o.dev.MAC != "" && o.container != nil {
			mac := strings.ToLower(o.dev.MAC)
			macs[mac] = append(macs[mac], o)
		}
	}
	seen := map[*Link]bool{}
	for _, a := range h.attachments() {
		if a.endpoint.NetworkID == n.ID && a.dev != nil && !seen[a.dev] {
			seen[a.dev] = true
			add(holderOf{label: a.container.Name, container: a.container, ns: a.container.NS, dev: a.dev})
		}
	}
	if bridge := h.NS.link(0, n.Bridge); n.Bridge != "" && bridge != nil {
		add(holderOf{label: "the host (" + n.Bridge + ")", ns: h.NS, dev: bridge})
	}
	return addrs, macs
}

func duplicateAddress(h *Host, n *Network, addr netip.Addr, list []holderOf) finding {
	f := finding{
		about: about{networks: []string{n.ID}},
		Finding: path.Finding{
			Severity: path.SeverityError, Check: "duplicate-address", Cause: path.CauseDuplicateAddress,
			Summary: fmt.Sprintf("%s have the same address %s on network %s: packets reach the one or the other",
				labels(list), addr, n.Name),
			Where: &path.Place{Network: n.Name},
		},
	}
	for _, o := range list {
		text := fmt.Sprintf("%s carries %s on %s (%s)", o.label, addr, o.dev.Name, o.dev.MAC)
		if o.container == nil {
			f.Evidence = append(f.Evidence, text)
			continue
		}
		f.about.containers = append(f.about.containers, o.container.ID)
		if given(o.container, n.ID, addr) {
			f.Evidence = append(f.Evidence, text+", which the engine gave it")
			continue
		}
		f.Evidence = append(f.Evidence, text+", which the engine did not give it")
		f.Where.Container = o.container.Name
		f.Remedy = append(f.Remedy, enter(o.ns, fmt.Sprintf("ip addr del %s dev %s", o.prefix, o.dev.Name)))
	}
	if len(f.Remedy) == 0 {
		c := list[len(list)-1].container
		for _, o := range list {
			if o.container != nil {
				c = o.container
			}
		}
		if c != nil {
			f.Remedy = []string{h.docker("network disconnect %s %s && %s", quote(n.Name), quote(c.Name),
				h.docker("network connect %s %s  # gives it another address", quote(n.Name), quote(c.Name)))}
		}
	}
	return f
}

func labels(list []holderOf) string {
	words := make([]string, len(list))
	for i, o := range list {
		words[i] = o.label
	}
	return joinWords(words)
}

// given reports whether the engine assigned an address to a container on a network.
func given(c *Container, networkID string, addr netip.Addr) bool {
	return slices.ContainsFunc(c.Endpoints, func(e Endpoint) bool {
		return e.NetworkID == networkID && (e.IPv4 == addr || e.IPv6 == addr)
	})
}

func duplicateMAC(h *Host, n *Network, mac string, list []holderOf) finding {
	f := finding{
		about: about{networks: []string{n.ID}},
		Finding: path.Finding{
			Severity: path.SeverityError, Check: "duplicate-mac",
			Summary: fmt.Sprintf("%s have the same hardware address on network %s: the bridge sends frames to whichever spoke last",
				labels(list), n.Name),
			Where: &path.Place{Network: n.Name},
		},
	}
	for _, o := range list {
		f.about.containers = append(f.about.containers, o.container.ID)
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s has %s on %s", o.label, mac, o.dev.Name))
	}
	last := list[len(list)-1].container
	f.Remedy = []string{h.docker("network disconnect %s %s && %s", quote(n.Name), quote(last.Name),
		h.docker("network connect %s %s  # unless --mac-address was given", quote(n.Name), quote(last.Name)))}
	return f
}
