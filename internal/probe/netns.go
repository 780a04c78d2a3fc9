package probe

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// NeedsNetNS reports whether netfilter hooks are attached per namespace on this kernel.
func (s *Set) NeedsNetNS() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.status {
		if st.Kind == KindNetfilter {
			return true
		}
	}
	return false
}

// Attached reports whether the namespace with that inode has its netfilter links.
func (s *Set) Attached(inode uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.netns[inode]
	return ok
}

// AttachNetNS attaches to every netfilter hook of the namespace the calling thread is in, whose
// inode is given. It does nothing for a namespace that has its links.
func (s *Set) AttachNetNS(inode uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.netns[inode]; ok || s.programs["netfilter_enter"] == nil {
		return nil // attached, closed, or not the way hooks are watched on this kernel
	}
	links, err := attachHooks(s.programs["netfilter_enter"], s.programs["netfilter_leave"])
	if err != nil {
		return fmt.Errorf("attach netfilter hooks: %w", explain(err))
	}
	s.netns[inode] = links
	return nil
}

// DetachNetNS drops the links of a namespace that is gone.
func (s *Set) DetachNetNS(inode uint32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	links := s.netns[inode]
	delete(s.netns, inode)
	return closeAll(links)
}

func closeAll(links []link.Link) error {
	var errs []error
	for _, l := range links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// attachHooks links enter and leave at the outermost priorities the kernel allows
// (net/netfilter/nf_bpf_link.c refuses the extremes) of all five hooks of both families.
func attachHooks(enter, leave *ebpf.Program) ([]link.Link, error) {
	var links []link.Link
	for _, family := range []link.NetfilterProtocolFamily{link.NetfilterProtoIPv4, link.NetfilterProtoIPv6} {
		for hook := link.NetfilterInetHook(0); hook <= link.NetfilterInetPostRouting; hook++ {
			for _, end := range []struct {
				program  *ebpf.Program
				priority int32
			}{{enter, math.MinInt32 + 1}, {leave, math.MaxInt32 - 1}} {
				l, err := link.AttachNetfilter(link.NetfilterOptions{
					Program: end.program, ProtocolFamily: family, Hook: hook, Priority: end.priority,
				})
				if err != nil {
					return nil, errors.Join(err, closeAll(links))
				}
				links = append(links, l)
			}
		}
	}
	return links, nil
}
