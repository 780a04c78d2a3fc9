package diagnose

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// explainMacvlan: the kernel does not let packets turn round at the parent of macvlan or ipvlan devices:
// neither between a host and its own containers (macvlan_broadcast_one, ipvlan_process_multicast), nor
// between containers whose devices are not in bridge mode (macvlan_queue_xmit).
func explainMacvlan(a *analysis, e *end) *finding {
	h, addr := a.lastLeg(e)
	if h == nil || !addr.IsValid() {
		return nil
	}
	at, dev := a.macvlanSender(e, h)
	if dev == nil {
		return nil
	}
	for _, p := range a.plugsOf(addr) {
		switch {
		case isMacvlan(p.dev) && p.dev.PeerNetNS == at.NetNS && p.dev.PeerIndex == dev.Index:
			return a.macvlanHost(e, h, p.dev, a.spaceName(p.ns), dev.Name)
		case !isMacvlan(dev):
		case dev.PeerNetNS == p.ns && dev.PeerIndex == p.dev.Index:
			return a.macvlanHost(e, h, dev, a.place(at), p.dev.Name)
		case isMacvlan(p.dev) && p.ns != at.NetNS && p.dev.PeerNetNS == dev.PeerNetNS && p.dev.PeerIndex == dev.PeerIndex:
			if f := a.macvlanApart(e, h, dev, p); f != nil {
				return f
			}
		}
	}
	return nil
}

// macvlanSender returns the device that a packet was sent by, and where: a packet that left a macvlan
// device is seen on its parent last.
func (a *analysis) macvlanSender(e *end, h *path.Hop) (at *path.Hop, dev *Link) {
	if s := a.sentFrom(e, h); s != nil && s.NetNS != h.NetNS {
		if dev = a.linkNamed(s.NetNS, string(a.outDevice(e, s))); isMacvlan(dev) && dev.PeerNetNS == h.NetNS {
			return s, dev
		}
	}
	return h, a.linkNamed(h.NetNS, string(a.outDevice(e, h)))
}

func isMacvlan(l *Link) bool {
	return l != nil && (l.Kind == "macvlan" || l.Kind == "macvtap" || l.Kind == "ipvlan" || l.Kind == "ipvtap")
}

// macvlanHost words the isolation of l, a device above parent, from its host; whose is its place.
func (a *analysis) macvlanHost(e *end, h *path.Hop, l *Link, whose, parent string) *finding {
	host, mode := l.PeerNetNS, "bridge"
	if strings.HasPrefix(l.Kind, "ipvlan") {
		mode = cmp.Or(l.Mode, "l2") // all on one parent have the same
	}
	f := &finding{
		cause: path.CauseMacvlanHostIsolation, where: whereOf(h, e.direction()),
		says: fmt.Sprintf("%s got no further than %s: a host does not reach its own %s container over the device"+
			" below it (%s), nor the container its host", a.subject(e), a.place(h), l.Kind, parent),
		evidence: []string{fmt.Sprintf("%s in %s is a %s device on %s of %s%s", l.Name, whose, l.Kind, parent,
			a.spaceName(host), inMode(l))},
	}
	if l.Mode == "private" || l.Mode == "vepa" || l.Mode == "passthru" {
		// A device of the host's own would be kept apart, too.
		f.remedy = append(a.bridgeModeRemedy(parent), a.besideMacvlan(whose)...)
		return f
	}
	f.remedy = []string{
		a.commandIn(host, "", fmt.Sprintf("ip link add host-side link %s type %s mode %s", quote(parent), l.Kind, mode)),
		a.commandIn(host, "", "ip link set host-side up"),
	}
	for _, p := range l.Addrs {
		if p.Addr().IsGlobalUnicast() {
			f.remedy = append(f.remedy, a.commandIn(host, "", fmt.Sprintf("ip route add %s/%d dev host-side",
				p.Addr(), p.Addr().BitLen()))+"  # lasts until the next boot")
			break
		}
	}
	return f
}

// inMode says the mode of a device, if it is known.
func inMode(l *Link) string {
	if l.Mode == "" {
		return ""
	}
	return ", in " + l.Mode + " mode"
}

// macvlanApart words that two macvlan devices of one parent, dev and that of p, are kept apart by their
// mode; nil if they are not.
func (a *analysis) macvlanApart(e *end, h *path.Hop, dev *Link, p plug) *finding {
	l := dev
	if l.Mode == "bridge" {
		l = p.dev
	}
	parent := a.linkOf(dev.PeerNetNS, dev.PeerIndex)
	f := &finding{where: whereOf(h, e.direction()), cause: path.CauseNetworkIsolation}
	both := fmt.Sprintf("%s got no further than %s: it and %s have macvlan devices on %s of %s", a.subject(e), a.place(h),
		a.spaceName(p.ns), parent, a.spaceName(dev.PeerNetNS))
	switch l.Mode {
	case "private":
		f.says = both + " in private mode, which keeps them apart"
	case "vepa":
		f.cause = path.CauseNeighbourUnresolved
		f.says = both + " in vepa mode: what is for each other has to come back from the switch, and did not"
	default:
		return nil
	}
	f.evidence = []string{fmt.Sprintf("%s in %s is in %s mode", p.dev.Name, a.spaceName(p.ns), cmp.Or(p.dev.Mode, "an unknown"))}
	if l.Mode == "vepa" {
		f.remedy = []string{"switch on reflective relay (802.1Qbg) at the switch port of " + parent}
	}
	f.remedy = append(f.remedy, a.bridgeModeRemedy(parent)...)
	return f
}

// linkOf names a device, by its number if it was not read.
func (a *analysis) linkOf(ns, index uint32) string {
	if l := a.link(ns, index); l != nil {
		return l.Name
	}
	return fmt.Sprintf("device %d", index)
}

// bridgeModeRemedy makes the network of a parent device anew, in the mode in which its containers reach
// each other.
func (a *analysis) bridgeModeRemedy(parent string) []string {
	return []string{fmt.Sprintf("docker network create -d macvlan -o parent=%s -o macvlan_mode=bridge …"+
		"  # make the network anew, its containers too", quote(parent))}
}

// besideMacvlan gives a container a second network, by which its host reaches it.
func (a *analysis) besideMacvlan(whose string) []string {
	name, ok := strings.CutPrefix(whose, "container ")
	if !ok {
		return nil
	}
	return []string{fmt.Sprintf("docker network connect bridge %s  # or let its host reach it by a second network", quote(name))}
}
