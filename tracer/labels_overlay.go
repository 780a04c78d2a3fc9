package tracer

import (
	"maps"

	"github.com/pathtrace/pathtrace/internal/topo"
)

// hiddenSpace is the overlay network that Docker keeps a namespace for.
type hiddenSpace struct{ id, network string }

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
		pin := n.HiddenNetNS()
		if pin == "" {
			continue
		}
		for _, ns := range l.topo.NamespaceByName(pin) { // those that were not named before
			hidden[ns.Inode] = hiddenSpace{n.ID, n.Name}
		}
	}
	hosts := map[string]int{}
	for _, h := range hidden {
		hosts[h.id]++
	}
	for inode, h := range hidden {
		name := "overlay " + h.network
		if host := l.underlay(inode); hosts[h.id] > 1 && host != 0 {
			name += " on " + l.namespace(host)
		}
		l.topo.SetName(inode, name, topo.KindHidden)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hidden = hidden
}

// underlay returns the namespace by which the tunnel of an overlay's namespace leaves, 0 if unknown.
func (l *labels) underlay(inode uint32) uint32 {
	links, err := l.topo.LinksHere(inode)
	if err != nil {
		return 0
	}
	for _, link := range links {
		if link.Kind == "vxlan" {
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
