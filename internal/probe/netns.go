package probe

import (
	"errors"
	"fmt"
	"math"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
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

// attachHooks links enter before and leave after everything else on all five hooks of both families.
func attachHooks(enter, leave *ebpf.Program) ([]link.Link, error) {
	var links []link.Link
	for _, family := range []link.NetfilterProtocolFamily{link.NetfilterProtoIPv4, link.NetfilterProtoIPv6} {
		for hook := link.NetfilterInetHook(0); hook <= link.NetfilterInetPostRouting; hook++ {
			opts := link.NetfilterOptions{ProtocolFamily: family, Hook: hook}
			for _, end := range []struct {
				program     *ebpf.Program
				first, step int32
			}{{enter, firstPriority, 1}, {leave, lastPriority, -1}} {
				opts.Program = end.program
				l, err := attachNear(opts, end.first, end.step)
				if err != nil {
					return nil, errors.Join(err, closeAll(links))
				}
				links = append(links, l)
			}
		}
	}
	return links, nil
}

// The outermost priorities that can be had: the kernel refuses the extremes to BPF
// (net/netfilter/nf_bpf_link.c), and IPv6 connection tracking confirms at the last but one
// (net/netfilter/nf_conntrack_proto.c).
const (
	firstPriority = math.MinInt32 + 1
	lastPriority  = math.MaxInt32 - 2
	// maxPriorities is how many neighbouring priorities are tried: each is taken by one program, so
	// this is how many traces can run at once.
	maxPriorities = 64
)

// attachNear attaches at the priority, or at the next free one: BPF programs share none.
func attachNear(opts link.NetfilterOptions, priority, step int32) (link.Link, error) {
	for opts.Priority = priority; ; opts.Priority += step {
		l, err := link.AttachNetfilter(opts)
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return l, err
		}
		if opts.Priority == priority+step*maxPriorities {
			return nil, fmt.Errorf("all outer priorities of the hook are taken, by other traces perhaps: %w", err)
		}
	}
}
