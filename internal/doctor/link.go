package doctor

import (
	"fmt"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// linkChecks looks at bridges, veth pairs and the devices inside containers.
func linkChecks(h *Host) []finding {
	var out []finding
	downBridges := map[string]bool{}
	for _, n := range h.Networks {
		f, ok := bridgeCheck(h, n)
		if ok {
			downBridges[n.ID] = true
			out = append(out, f)
		}
	}
	for _, a := range h.attachments() {
		if f, ok := attachmentCheck(h, a, downBridges[a.endpoint.NetworkID]); ok {
			f.about = about{containers: []string{a.container.ID}, networks: []string{a.endpoint.NetworkID}}
			out = append(out, f)
		}
	}
	return out
}

// bridgeCheck looks at the bridge of a network that has running containers.
func bridgeCheck(h *Host, n *Network) (finding, bool) {
	users := h.on(n.ID)
	if n.Bridge == "" || h.NS == nil || h.NS.Links == nil || len(users) == 0 {
		return finding{}, false
	}
	f := finding{
		Finding: path.Finding{
			Severity: path.SeverityError, Cause: path.CauseLinkDown,
			Where: &path.Place{Namespace: h.NS.Name, Network: n.Name, Device: n.Bridge},
		},
		about: about{networks: []string{n.ID}, containers: ids(users)},
	}
	bridge := h.NS.link(0, n.Bridge)
	switch {
	case bridge == nil:
		f.Check = "bridge-missing"
		f.Summary = fmt.Sprintf("network %s has no bridge: %s does not exist, so its containers reach nothing", n.Name, n.Bridge)
		f.Evidence = []string{"on it: " + joinWords(names(users))}
		f.Remedy = []string{"systemctl restart docker  # makes it anew; restarts the containers too, unless live-restore is on"}
	case !bridge.Up:
		f.Check = "bridge-down"
		f.Summary = fmt.Sprintf("the bridge of network %s is down: its containers reach nothing", n.Name)
		f.Evidence = []string{fmt.Sprintf("%s is down in %s", n.Bridge, h.NS.Name), "on it: " + joinWords(names(users))}
		f.Remedy = []string{enter(h.NS, "ip link set "+n.Bridge+" up")}
	default:
		return f, false
	}
	return f, true
}

// attachmentCheck follows one veth pair from the container to the bridge.
func attachmentCheck(h *Host, a attachment, bridgeDown bool) (finding, bool) {
	c, netName := a.container, a.endpoint.Network
	f := finding{Finding: path.Finding{
		Severity: path.SeverityError, Cause: path.CauseLinkDown,
		Where: &path.Place{Namespace: c.NS.Name, Container: c.Name, Network: netName},
	}}
	say := func(check, device, summary, evidence, remedy string) (finding, bool) {
		f.Check, f.Summary, f.Where.Device = check, summary, device
		f.Evidence, f.Remedy = []string{evidence}, []string{remedy}
		return f, true
	}
	reconnect := h.docker("network disconnect %s %s && %s", quote(netName), quote(c.Name),
		h.docker("network connect %s %s  # breaks its connections", quote(netName), quote(c.Name)))
	addr := a.endpoint.IPv4
	if !addr.IsValid() {
		addr = a.endpoint.IPv6
	}
	switch {
	case a.dev == nil && addr.IsValid():
		f.Cause = ""
		return say("address-missing", "",
			fmt.Sprintf("%s does not have its address %s on network %s", c.Name, addr, netName),
			fmt.Sprintf("no device in %s carries %s", c.Name, addr), reconnect)
	case a.dev == nil:
		return f, false
	case !a.dev.Up:
		return say("container-device-down", a.dev.Name,
			fmt.Sprintf("%s is cut off from network %s: %s inside it is down", c.Name, netName, a.dev.Name),
			fmt.Sprintf("%s is down in %s", a.dev.Name, c.Name),
			enter(c.NS, "ip link set "+a.dev.Name+" up"))
	case addr.IsValid() && !a.dev.has(addr) && a.dev.Kind == "veth":
		f.Cause = ""
		return say("address-missing", a.dev.Name,
			fmt.Sprintf("%s does not have its address %s on network %s", c.Name, addr, netName),
			fmt.Sprintf("%s in %s carries %s", a.dev.Name, c.Name, carried(a.dev)), reconnect)
	case a.peer == nil || a.peerNS == nil:
		return f, false
	}
	return portCheck(a, bridgeDown, say)
}

// portCheck looks at the end of the pair that is a port of the bridge.
func portCheck(a attachment, bridgeDown bool, say func(check, device, summary, evidence, remedy string) (finding, bool)) (finding, bool) {
	c, netName, peer := a.container, a.endpoint.Network, a.peer
	inBridge := a.network != nil && a.network.Bridge != ""
	switch {
	case !peer.Up:
		return say("veth-down", peer.Name,
			fmt.Sprintf("%s is cut off from network %s: its device %s on the host is down", c.Name, netName, peer.Name),
			fmt.Sprintf("%s is down in %s", peer.Name, a.peerNS.Name),
			enter(a.peerNS, "ip link set "+peer.Name+" up"))
	case inBridge && (a.bridge == nil || a.bridge.Name != a.network.Bridge):
		f, _ := say("not-bridged", peer.Name,
			fmt.Sprintf("%s is cut off from network %s: its device %s is not a port of %s", c.Name, netName, peer.Name, a.network.Bridge),
			fmt.Sprintf("%s in %s is %s", peer.Name, a.peerNS.Name, masterOf(a)),
			enter(a.peerNS, "ip link set "+peer.Name+" master "+a.network.Bridge))
		f.Cause = path.CauseNotBridged
		return f, true
	case !bridgeDown && inBridge && peer.Carrier && (peer.PortState == "blocking" || peer.PortState == "disabled"):
		f, _ := say("bridge-port-blocked", peer.Name,
			fmt.Sprintf("%s is cut off from network %s: the bridge does not forward at %s", c.Name, netName, peer.Name),
			fmt.Sprintf("bridge port %s is %s", peer.Name, peer.PortState),
			enter(a.peerNS, "bridge link set dev "+peer.Name+" state 3"))
		f.Cause = path.CauseBridgePortBlocked
		return f, true
	}
	return finding{}, false
}

func masterOf(a attachment) string {
	if a.bridge == nil {
		return "in no bridge"
	}
	return "a port of " + a.bridge.Name
}

// carried lists the addresses of a device.
func carried(l *Link) string {
	var out []string
	for _, p := range l.Addrs {
		if !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p.String())
		}
	}
	if len(out) == 0 {
		return "no address"
	}
	return joinWords(out)
}
