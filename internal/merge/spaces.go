package merge

// spaces numbers the network namespaces of several hosts, of which two may have the same inode number:
// the first host's keep theirs, others get a number that no namespace has.
type spaces struct {
	kernels []string // by host: hosts that share one share its numbers
	owner   map[uint32]string
	number  map[space]uint32
	real    map[uint32]uint32
	next    uint32
}

type space struct {
	kernel string
	inode  uint32
}

// firstNumber is where numbers begin that no namespace has: the kernel gives those of /proc from
// 0xf0000000 on (PROC_DYNAMIC_FIRST, fs/proc/generic.c), and the few fixed ones are just below.
const firstNumber = 1 << 20

func newSpaces(hosts []Host) *spaces {
	s := &spaces{owner: map[uint32]string{}, number: map[space]uint32{}, real: map[uint32]uint32{}, next: firstNumber}
	for i, h := range hosts {
		kernel := h.BootID
		if kernel == "" {
			kernel = "host " + string(rune('0'+i)) // unknown: its own
		}
		s.kernels = append(s.kernels, kernel)
	}
	return s
}

// of returns the number of a host's namespace; 0, an unknown one, stays 0.
func (s *spaces) of(host int, inode uint32) uint32 {
	if inode == 0 {
		return 0
	}
	key := space{s.kernels[host], inode}
	if n, ok := s.number[key]; ok {
		return n
	}
	n := inode
	if owner, taken := s.owner[inode]; taken && owner != key.kernel {
		n = s.next
		s.next++
	} else {
		s.owner[inode] = key.kernel
	}
	s.number[key], s.real[n] = n, inode
	return n
}

// list is of for several namespaces.
func (s *spaces) list(host int, inodes []uint32) []uint32 {
	if inodes == nil {
		return nil
	}
	out := make([]uint32, len(inodes))
	for i, inode := range inodes {
		out[i] = s.of(host, inode)
	}
	return out
}

// inode returns a namespace's own number.
func (s *spaces) inode(n uint32) uint32 {
	if inode, ok := s.real[n]; ok {
		return inode
	}
	return n
}
