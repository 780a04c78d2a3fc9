package doctor

import (
	"net/netip"
	"slices"
	"strings"
)

// attachment is a container's device on a network and what it leads to.
type attachment struct {
	container *Container
	endpoint  Endpoint
	network   *Network
	dev       *Link      // inside the container
	peerNS    *Namespace // where the other end of its veth pair is; nil if unknown
	peer      *Link
	bridge    *Link // the bridge that the peer is a port of
}

// attachments finds the device of each running container on each of its networks. A container without
// a namespace that was read has none; dev is nil if no device carries what the engine says.
func (h *Host) attachments() []attachment {
	var out []attachment
	for _, c := range h.Containers {
		if !c.Runs() || c.NS == nil || c.NS.Links == nil || c.Joined || c.NS.Host {
			continue
		}
		for _, e := range c.Endpoints {
			a := attachment{container: c, endpoint: e, network: h.network(e.NetworkID), dev: deviceOf(c.NS, e)}
			if a.dev != nil && a.dev.Kind == "veth" && a.dev.PeerNetNS != 0 {
				a.peerNS = h.Namespaces[a.dev.PeerNetNS]
				a.peer = a.peerNS.link(a.dev.PeerIndex, "")
				if a.peer != nil && a.peer.Master != 0 {
					a.bridge = a.peerNS.link(a.peer.Master, "")
				}
			}
			out = append(out, a)
		}
	}
	return out
}

// deviceOf finds the device of an endpoint by its hardware address, else by its address.
func deviceOf(ns *Namespace, e Endpoint) *Link {
	for i, l := range ns.Links {
		if e.MAC != "" && strings.EqualFold(l.MAC, e.MAC) {
			return &ns.Links[i]
		}
	}
	for i, l := range ns.Links {
		if l.Kind != "loopback" && (l.has(e.IPv4) || l.has(e.IPv6)) {
			return &ns.Links[i]
		}
	}
	return nil
}

// has reports whether the device carries an address.
func (l *Link) has(addr netip.Addr) bool {
	return addr.IsValid() && slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// dockerBridges lists the bridges of a namespace that have the names Docker gives.
func dockerBridges(ns *Namespace) []string {
	var out []string
	for _, l := range ns.Links {
		generated := strings.HasPrefix(l.Name, "br-") && len(l.Name) == len("br-")+12
		if l.Kind == "bridge" && (l.Name == "docker0" || l.Name == "docker_gwbridge" || generated) {
			out = append(out, l.Name)
		}
	}
	return out
}

// unique keeps the first of equal words.
func unique(words []string) []string {
	var out []string
	for _, w := range words {
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	return out
}
