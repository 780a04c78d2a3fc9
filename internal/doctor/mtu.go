package doctor

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// vxlanOverhead is what VXLAN adds to a packet over IPv4: the inner Ethernet header and the outer IP,
// UDP and VXLAN headers (RFC 7348), bytes. Encryption adds more.
const vxlanOverhead = 14 + 20 + 8 + 8

// mtuChecks compares what containers send with what carries it.
func mtuChecks(h *Host) []finding {
	var out []finding
	up := h.uplink()
	seen := map[string]bool{}
	for _, a := range h.attachments() {
		if a.network == nil || a.dev == nil || a.dev.MTU == 0 {
			continue
		}
		if f, ok := pairMTU(a); ok {
			out = append(out, f)
			continue
		}
		if up == nil || seen[a.network.ID] || a.network.Internal {
			continue
		}
		if f, ok := uplinkMTU(h, a, up); ok {
			seen[a.network.ID] = true
			out = append(out, f)
		}
	}
	return out
}

// pairMTU: what the other end of a veth pair or the bridge cannot take is dropped without a word.
func pairMTU(a attachment) (finding, bool) {
	limit := a.peer
	if a.bridge != nil && (limit == nil || a.bridge.MTU < limit.MTU) {
		limit = a.bridge
	}
	if limit == nil || limit.MTU == 0 || a.dev.MTU <= limit.MTU {
		return finding{}, false
	}
	c := a.container
	return finding{about: about{containers: []string{c.ID}, networks: []string{a.network.ID}}, Finding: path.Finding{
		Severity: path.SeverityError, Check: "mtu-mismatch", Cause: path.CauseMTUBlackhole,
		Summary: fmt.Sprintf("large packets of %s vanish on network %s: its device sends more than the next one takes",
			c.Name, a.network.Name),
		Evidence: []string{
			fmt.Sprintf("%s in %s has an MTU of %d bytes", a.dev.Name, c.Name, a.dev.MTU),
			fmt.Sprintf("%s in %s has %d", limit.Name, a.peerNS.Name, limit.MTU),
		},
		Remedy: []string{enter(c.NS, fmt.Sprintf("ip link set %s mtu %d", a.dev.Name, limit.MTU))},
		Where:  &path.Place{Namespace: c.NS.Name, Container: c.Name, Network: a.network.Name, Device: a.dev.Name},
	}}, true
}

// uplinkMTU: packets larger than the uplink's depend on ICMP errors that firewalls like to drop.
func uplinkMTU(h *Host, a attachment, up *Link) (finding, bool) {
	n, mtu := a.network, a.dev.MTU
	if n.Parent != "" || n.Driver != "bridge" && n.Driver != "overlay" || up.MTU == 0 {
		return finding{}, false
	}
	carries := up.MTU
	evidence := fmt.Sprintf("the host's uplink %s has %d", up.Name, up.MTU)
	if n.Driver == "overlay" {
		if carries <= vxlanOverhead {
			return finding{}, false
		}
		carries -= vxlanOverhead
		evidence += fmt.Sprintf(", of which VXLAN takes %d", vxlanOverhead)
		if n.Encrypted {
			evidence += " and encryption more"
		}
	}
	if mtu <= carries {
		return finding{}, false
	}
	f := finding{about: about{networks: []string{n.ID}}, Finding: path.Finding{
		Severity: path.SeverityWarning, Check: "mtu-above-uplink", Cause: path.CausePacketTooBig,
		Summary: fmt.Sprintf("containers on network %s send packets of %d bytes, and the way out carries %d: large transfers hang where ICMP errors are dropped",
			n.Name, mtu, carries),
		Evidence: []string{fmt.Sprintf("%s in %s has an MTU of %d bytes", a.dev.Name, a.container.Name, mtu), evidence},
		Where:    &path.Place{Network: n.Name, Device: up.Name},
	}}
	switch {
	case n.Default():
		f.Remedy = []string{fmt.Sprintf(`set "mtu": %d in %s and restart docker  # then recreate the containers`, carries, configFile(h))}
	default:
		f.Remedy = []string{
			h.docker("network rm %s  # after its containers", quote(n.Name)),
			h.docker("network create --driver %s --opt com.docker.network.driver.mtu=%d %s", n.Driver, carries, quote(n.Name)),
		}
	}
	return f, true
}
