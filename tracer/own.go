package tracer

import (
	"sync"
)

// ownSpaces knows which namespaces belong to this host, where several hosts share a kernel: that which
// this process or an engine of it is in, those of the engines' containers, and those that the engines
// keep for overlays and their load balancers.
type ownSpaces struct {
	labels *labels

	mu   sync.Mutex
	list map[uint32]bool
}

func newOwnSpaces(l *labels) *ownSpaces {
	o := &ownSpaces{labels: l}
	o.refresh()
	l.cancel = append(l.cancel, l.engines.OnChange(o.refresh))
	return o
}

func (o *ownSpaces) has(inode uint32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.list[inode]
}

func (o *ownSpaces) refresh() {
	list := map[uint32]bool{o.labels.topo.Self(): true}
	for _, e := range o.labels.engines.List() {
		list[e.NetNS] = true
	}
	hosts := make(map[uint32]bool, len(list))
	for inode := range list {
		hosts[inode] = true
	}
	for _, c := range o.labels.engines.Containers() {
		list[c.NetNS] = true
	}
	for _, ns := range o.labels.topo.Namespaces() {
		if ns.Kept() && hosts[o.labels.underlay(ns.Inode)] {
			list[ns.Inode] = true
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.list = list
}
