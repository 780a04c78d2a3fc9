package topo

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// rereadInterval is how soon an unknown ifindex may lead to another dump of a namespace, which
// costs about 100 µs.
const rereadInterval = 20 * time.Millisecond

// content is what is in a namespace. It is empty until somebody asks.
type content struct {
	mu sync.RWMutex
	// loaded is set once links were read, stale when notifications were lost since.
	loaded, stale bool
	lastRead      time.Time
	links         map[uint32]*linkState
	goneLinks     []uint32
	// nsids maps this namespace's identifiers of other namespaces to their inodes.
	nsids      map[int]uint32
	nsidFailed time.Time
}

// Link returns a device, also one that is gone.
func (t *Topology) Link(netns, ifindex uint32) (Link, bool) {
	s, l, ok := t.known(netns, ifindex)
	if !ok {
		return Link{}, false
	}
	return t.finish(s, l), true
}

// Device is Link without the namespace of the peer, which may take a question to the kernel for each
// namespace of the host.
func (t *Topology) Device(netns, ifindex uint32) (Link, bool) {
	_, l, ok := t.known(netns, ifindex)
	return l.Link, ok
}

func (t *Topology) known(netns, ifindex uint32) (*space, linkState, bool) {
	s := t.space(netns)
	if s == nil || ifindex == 0 {
		return nil, linkState{}, false
	}
	l, ok := s.link(ifindex)
	if !ok && t.ensure(s, true) == nil {
		l, ok = s.link(ifindex)
	}
	return s, l, ok
}

// LinkByName returns the device that has the name now.
func (t *Topology) LinkByName(netns uint32, name string) (Link, bool) {
	find := func() (Link, bool) {
		s, states, _ := t.linkStates(netns)
		i := slices.IndexFunc(states, func(l linkState) bool { return l.Name == name })
		if i < 0 {
			return Link{}, false
		}
		return t.finish(s, states[i]), true
	}
	l, ok := find()
	if s := t.space(netns); !ok && s != nil && t.ensure(s, true) == nil {
		l, ok = find()
	}
	return l, ok
}

// Links returns the devices of a namespace that exist, by index.
func (t *Topology) Links(netns uint32) ([]Link, error) {
	s, states, err := t.linkStates(netns)
	if err != nil {
		return nil, err
	}
	out := make([]Link, len(states))
	for i, l := range states {
		out[i] = t.finish(s, l)
	}
	return out, nil
}

// LinksHere is Links without PeerNetNS: to find the peers takes a request for each of them.
func (t *Topology) LinksHere(netns uint32) ([]Link, error) {
	_, states, err := t.linkStates(netns)
	out := make([]Link, len(states))
	for i, l := range states {
		out[i] = l.Link
	}
	return out, err
}

// linkStates reads the devices of a namespace that exist, by index.
func (t *Topology) linkStates(netns uint32) (*space, []linkState, error) {
	s := t.space(netns)
	if s == nil {
		return nil, nil, fmt.Errorf("list links of network namespace %d: %w", netns, unix.ENOENT)
	}
	if err := t.ensure(s, false); err != nil {
		return nil, nil, fmt.Errorf("list links: %w", err)
	}
	s.content.mu.RLock()
	states := make([]linkState, 0, len(s.links))
	for _, l := range s.links {
		if !l.Gone {
			states = append(states, *l)
		}
	}
	s.content.mu.RUnlock()
	slices.SortFunc(states, func(a, b linkState) int { return cmp.Compare(a.Index, b.Index) })
	return s, states, nil
}

// LinksNow is Links, read anew: not every change of a device is notified of.
func (t *Topology) LinksNow(netns uint32) ([]Link, error) {
	s := t.space(netns)
	if s == nil {
		return nil, fmt.Errorf("list links of network namespace %d: %w", netns, unix.ENOENT)
	}
	if err := t.ensure(s, true); err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return t.Links(netns)
}

// HostAddrs returns the addresses of a namespace, loopback included, link-local ones not.
func (t *Topology) HostAddrs(netns uint32) ([]netip.Addr, error) {
	s := t.space(netns)
	if s == nil {
		return nil, fmt.Errorf("list addresses of network namespace %d: %w", netns, unix.ENOENT)
	}
	if err := t.ensure(s, false); err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var out []netip.Addr
	s.content.mu.RLock()
	for _, l := range s.links {
		for _, p := range l.Addrs {
			if !l.Gone && !p.Addr().IsLinkLocalUnicast() && !slices.Contains(out, p.Addr()) {
				out = append(out, p.Addr())
			}
		}
	}
	s.content.mu.RUnlock()
	slices.SortFunc(out, netip.Addr.Compare)
	return out, nil
}

// link looks a device up without asking the kernel.
func (s *space) link(ifindex uint32) (linkState, bool) {
	s.content.mu.RLock()
	defer s.content.mu.RUnlock()
	l := s.links[ifindex]
	if l == nil || s.stale {
		return linkState{}, false
	}
	return *l, true
}

// finish completes a link that leaves the package.
func (t *Topology) finish(s *space, l linkState) Link {
	switch {
	case l.PeerIndex == 0:
	case l.nsid == sameNS:
		l.PeerNetNS = l.NetNS
	case l.nsid >= 0:
		l.PeerNetNS = t.nsid(s, l.nsid)
	}
	t.mu.RLock()
	l.Gone = l.Gone || s.gone
	t.mu.RUnlock()
	return l.Link
}

// ensure reads the content of a namespace if that was not done yet, if it is out of date, or if
// again is set and the last reading was not just now. What is known of a namespace that is gone
// stays as it is.
func (t *Topology) ensure(s *space, again bool) error {
	s.content.mu.RLock()
	fresh := s.loaded && !s.stale && (!again || t.now().Sub(s.lastRead) < rereadInterval)
	loaded := s.loaded
	s.content.mu.RUnlock()
	if fresh {
		return nil
	}
	t.mu.RLock()
	gone := s.gone
	t.mu.RUnlock()
	if gone && loaded {
		return nil
	}
	return t.read(s)
}

// read dumps links and addresses. The subscription comes first, so that no change falls between;
// a change applied twice does no harm.
func (t *Topology) read(s *space) error {
	if err := t.watch.follow(s); err != nil {
		t.log.Debug("watch namespace", "netns", s.inode, "error", err)
	}
	s.content.mu.Lock()
	defer s.content.mu.Unlock()
	var links, addrs [][]byte
	err := t.InNamespace(s.inode, func() (err error) {
		if links, err = dumpLinks(""); err != nil {
			return fmt.Errorf("list links: %w", err)
		}
		if addrs, err = dumpAddrs(); err != nil {
			return fmt.Errorf("list addresses: %w", err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	again := s.loaded
	found := s.replace(t.decode(s.inode, links, addrs))
	s.loaded, s.stale, s.lastRead = true, false, t.now()
	if again {
		t.report(s, found)
	}
	return nil
}

// report tells of links that came and went before their notifications were taken: with what was read they
// are no news any more.
func (t *Topology) report(s *space, found []Change) {
	t.mu.RLock()
	ns := t.describe(s)
	t.mu.RUnlock()
	for _, c := range found {
		c.NetNS = ns
		t.events.send(c)
	}
}

func (t *Topology) decode(netns uint32, links, addrs [][]byte) map[uint32]*linkState {
	out := make(map[uint32]*linkState, len(links))
	for _, msg := range links {
		l, err := parseLink(netns, msg)
		if err != nil {
			t.log.Debug("read link", "netns", netns, "error", err)
			continue
		}
		out[l.Index] = &l
	}
	for _, msg := range addrs {
		if ifindex, prefix, ok := parseAddr(msg); ok && out[ifindex] != nil {
			out[ifindex].Addrs = append(out[ifindex].Addrs, prefix)
		}
	}
	return out
}

// replace makes a dump the truth; links it does not have are gone. It returns which came and went.
// s.content.mu is held.
func (s *space) replace(now map[uint32]*linkState) []Change {
	var found []Change
	for index, l := range now {
		if old := s.links[index]; old == nil || old.Gone {
			found = append(found, Change{Kind: LinkAdded, Link: l.Link})
		}
	}
	for index, l := range s.links {
		if now[index] == nil {
			now[index] = l
			if s.buryLink(l) {
				found = append(found, Change{Kind: LinkGone, Link: l.Link})
			}
		}
	}
	s.links = now
	s.trimGone()
	return found
}

// buryLink marks a link as gone and reports whether it was not before.
func (s *space) buryLink(l *linkState) bool {
	if l.Gone {
		return false
	}
	l.Gone = true
	s.goneLinks = append(s.goneLinks, l.Index)
	return true
}

func (s *space) trimGone() {
	for len(s.goneLinks) > maxGone {
		oldest := s.goneLinks[0]
		s.goneLinks = s.goneLinks[1:]
		if l := s.links[oldest]; l != nil && l.Gone {
			delete(s.links, oldest)
		}
	}
}
