package topo

import (
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nsidRetry is how soon an identifier that could not be resolved is tried again.
const nsidRetry = time.Second

// nsid finds the namespace that namespace s knows under an identifier; 0 if it cannot be found.
func (t *Topology) nsid(s *space, id int) uint32 {
	s.content.mu.RLock()
	inode, ok := s.nsids[id]
	recent := t.now().Sub(s.nsidFailed) < nsidRetry
	s.content.mu.RUnlock()
	// Identifiers are reused once their namespace is gone.
	if ok && t.exists(inode) {
		return inode
	}
	if recent {
		return 0
	}
	s.content.mu.Lock()
	defer s.content.mu.Unlock()
	if inode, ok := s.nsids[id]; ok && t.exists(inode) {
		return inode
	}
	if err := t.resolveNSIDs(s, id); err != nil {
		t.log.Debug("resolve peer namespaces", "netns", s.inode, "error", err)
	}
	inode, ok = s.nsids[id]
	if !ok {
		s.nsidFailed = t.now()
	}
	return inode
}

func (t *Topology) exists(inode uint32) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.spaces[inode]
	return s != nil && !s.gone
}

// resolveNSIDs asks namespace s (RTM_GETNSID) for its identifier of each other namespace until it
// meets the one wanted. s.content.mu is held.
func (t *Topology) resolveNSIDs(s *space, wanted int) error {
	known := map[uint32]bool{s.inode: true}
	for id, inode := range s.nsids {
		if !t.exists(inode) {
			delete(s.nsids, id)
			continue
		}
		known[inode] = true
	}
	if s.nsids == nil {
		s.nsids = map[int]uint32{}
	}
	candidates := slices.DeleteFunc(t.Namespaces(), func(n NetNS) bool { return known[n.Inode] })
	// Most peers are in a host's namespace.
	slices.SortStableFunc(candidates, func(a, b NetNS) int { return hostFirst(a.Kind) - hostFirst(b.Kind) })
	return t.InNamespace(s.inode, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer h.Close()
		for _, c := range candidates {
			if id, ok := t.askNSID(h, c.Inode); ok {
				s.nsids[id] = c.Inode
				if id == wanted {
					break
				}
			}
		}
		return nil
	})
}

func hostFirst(k Kind) int {
	if k == KindHost {
		return 0
	}
	return 1
}

func (t *Topology) askNSID(h *netlink.Handle, inode uint32) (int, bool) {
	s := t.lookup(inode)
	if s == nil {
		return 0, false
	}
	f, _, err := t.tryOpen(s)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	id, err := h.GetNetNsIdByFd(int(f.Fd()))
	return id, err == nil && id >= 0
}
