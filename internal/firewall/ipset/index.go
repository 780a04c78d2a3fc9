package ipset

import (
	"net/netip"
	"slices"

	"github.com/pathtrace/pathtrace/internal/firewall"
)

// fewElements is up to how many elements are compared one by one.
const fewElements = 16

// index finds elements by their first address: each of thousands of rules may ask for a set of thousands.
type index struct {
	byNet   map[netip.Prefix][]element // in the order of the set
	lengths []int                      // of the prefixes that there are
}

// fitting returns the elements whose first dimension can be what is looked for, in the order of the set
// for each length of prefix; all of them if that dimension is no address, or not known.
func (s *set) fitting(dim string, source bool, p *firewall.Packet) []element {
	if len(s.elements) <= fewElements || dim != "ip" && dim != "net" {
		return s.elements
	}
	a := s.asked(source, p)
	if !a.IsValid() || a.Zone() != "" {
		return s.elements
	}
	s.indexing.Do(s.makeIndex)
	var out []element
	for _, n := range s.index.lengths {
		if net, err := a.Prefix(n); err == nil {
			out = append(out, s.index.byNet[net]...)
		}
	}
	return out
}

func (s *set) makeIndex() {
	s.index.byNet = make(map[netip.Prefix][]element, len(s.elements))
	for _, e := range s.elements {
		net := e.nets[0]
		s.index.byNet[net] = append(s.index.byNet[net], e)
		if net.IsValid() && !slices.Contains(s.index.lengths, net.Bits()) {
			s.index.lengths = append(s.index.lengths, net.Bits())
		}
	}
}
