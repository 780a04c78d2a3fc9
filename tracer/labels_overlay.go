package tracer

import (
	"maps"

	"github.com/pathtrace/pathtrace/internal/topo"
)

// hiddenSpace is the overlay network that Docker keeps a namespace for.
type hiddenSpace struct {
	pin, network string
	kind         topo.Kind
}

// name is what people are told of it.
func (h hiddenSpace) name() string {
	switch {
	case h.kind == topo.KindHidden:
		return "overlay " + h.network
	case h.pin == ingressPin:
		return "routing mesh"
	}
	return "load balancer of " + h.network
}

// ingressPin is the pin of the namespace in which Swarm's routing mesh works.
const ingressPin = "ingress_sbox"

// nameHidden names the namespaces that Docker keeps for overlay networks. Two hosts on one kernel each
// have one of the same network, and they need telling apart.
func (l *labels) nameHidden() {
	l.mu.Lock()
	hidden := maps.Clone(l.hidden)
	l.mu.Unlock()
	if hidden == nil {
		hidden = map[uint32]hiddenSpace{}
	}
	for _, n := range l.engines.Networks() {
		for pin, kind := range map[string]topo.Kind{n.HiddenNetNS(): topo.KindHidden, n.BalancerNetNS(): topo.KindBalancer} {
			if pin == "" {
				continue
			}
			for _, ns := range l.topo.NamespaceByName(pin) { // those that were not named before
				hidden[ns.Inode] = hiddenSpace{pin, n.Name, kind}
			}
		}
	}
	hosts := map[string]int{}
	for _, h := range hidden {
		hosts[h.pin]++
	}
	for inode, h := range hidden {
		name := h.name()
		if hosts[h.pin] > 1 {
			if host := l.underlay(inode); host != 0 {
				name += " on " + l.namespace(host)
			}
		}
		l.topo.SetName(inode, name, h.kind)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hidden = hidden
}

// underlay returns the namespace of the host that keeps a hidden one, 0 if unknown: an overlay's tunnel
// leaves by it, and a load balancer is joined to an overlay's.
func (l *labels) underlay(inode uint32) uint32 {
	if peer := l.peer(inode, "vxlan"); peer != 0 {
		return peer
	}
	if overlay := l.peer(inode, "veth"); overlay != 0 {
		return l.peer(overlay, "vxlan")
	}
	return 0
}

// peer returns the namespace that the first device of a kind leads to from another one, 0 if unknown.
func (l *labels) peer(inode uint32, kind string) uint32 {
	links, err := l.topo.LinksHere(inode)
	if err != nil {
		return 0
	}
	for _, link := range links {
		if link.Kind == kind {
			link, _ = l.topo.Link(inode, link.Index)
			return link.PeerNetNS
		}
	}
	return 0
}

// hiddenNetwork returns the overlay network that Docker keeps a namespace for, "" if none.
func (l *labels) hiddenNetwork(netns uint32) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hidden[netns].network
}
