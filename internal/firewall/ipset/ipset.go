// Package ipset reads the ipsets of a network namespace, so that rules with `-m set` can be judged.
//
// The sets are read once, by a netlink dump (include/uapi/linux/netfilter/ipset/ip_set.h), when a rule
// first asks for one: a namespace without such rules is not asked. What was read is how the sets were
// then; elements come and go without the rules changing.
package ipset

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"github.com/pathtrace/pathtrace/internal/firewall"
	"github.com/pathtrace/pathtrace/internal/firewall/tape"
)

// maxElements bounds what is kept of all sets of a namespace. Sets beyond it are known by name alone.
const maxElements = 1 << 17

// Sets are the sets of one network namespace. It implements xt.Sets. Name must be called on a thread
// in that namespace; it is not safe for concurrent use. Contains may be called anywhere afterwards.
type Sets struct {
	read    bool
	problem string
	byIndex map[uint16]*set
	byName  map[string]*set
	// elements counts the elements that are kept.
	elements int
	tape     *tape.Tape
}

// NewTape is New with a tape that keeps the sets, or gives them; nil for none.
func NewTape(t *tape.Tape) *Sets {
	s := New()
	s.tape = t
	return s
}

// New returns the sets of the namespace in which it is used first.
func New() *Sets {
	return &Sets{byIndex: map[uint16]*set{}, byName: map[string]*set{}}
}

// Name returns the name of the set with that index, false if there is none. It reads the sets when it
// is called first.
func (s *Sets) Name(index uint16) (string, bool) {
	if !s.read {
		s.read = true
		if err := s.dump(); err != nil {
			s.problem = fmt.Sprintf("ipsets could not be read: %v", err)
		}
	}
	set, ok := s.byIndex[index]
	if !ok {
		return "", false
	}
	return set.name, true
}

// Problem is a sentence about what could not be read; "" if all was, or nothing was asked for.
func (s *Sets) Problem() string { return s.problem }

// Contains says whether the set has what source chooses of p, of each of its dimensions.
func (s *Sets) Contains(index uint16, source []bool, p *firewall.Packet) firewall.Truth {
	set, ok := s.byIndex[index]
	if !ok || s.problem != "" {
		return firewall.Maybe
	}
	return s.contains(set, source, p)
}

func (s *Sets) contains(set *set, source []bool, p *firewall.Packet) firewall.Truth {
	if set.partial {
		return firewall.Maybe
	}
	if set.kind == "list:set" {
		found := firewall.No
		for _, e := range set.elements {
			member, ok := s.byName[e.name]
			if !ok || member.kind == "list:set" {
				found = max(found, firewall.Maybe)
				continue
			}
			found = max(found, s.contains(member, source, p))
		}
		return found
	}
	return set.contains(source, p)
}

// set is one set.
type set struct {
	name, kind string
	family     uint8 // NFPROTO_IPV4, NFPROTO_IPV6 or 0 for both
	netmask    uint8 // length of the prefix to which addresses are cut; 0 for none
	markMask   uint32
	elements   []element
	// partial is set if something of it is missing or not understood.
	partial bool

	indexing sync.Once
	index    index
}

// element is one element of a set; what it holds depends on the set's kind.
type element struct {
	nets    [2]netip.Prefix // of IP and IP2
	proto   uint8
	ports   [2]uint16 // first and last
	mac     string
	device  string
	prefix  bool // the device is a prefix of names
	mark    uint32
	name    string // of a member set
	nomatch bool
}

// contains follows the ktest functions of net/netfilter/ipset: of elements with networks the most
// specific one decides, which may be an exception.
func (s *set) contains(source []bool, p *firewall.Packet) firewall.Truth {
	_, types, _ := strings.Cut(s.kind, ":")
	dims := strings.Split(types, ",")
	if len(source) < len(dims) || s.family == familyIPv4 && p.IsIPv6() || s.family == familyIPv6 && !p.IsIPv6() {
		return firewall.No
	}
	best := element{}
	answer := firewall.No
	for _, e := range s.fitting(dims[0], source[0], p) {
		t := firewall.Yes
		address := 0
		for i, dim := range dims {
			t = t.And(s.dimension(dim, e, address, source[i], p))
			if dim == "ip" || dim == "net" {
				address++
			}
		}
		switch {
		case t == firewall.Maybe:
			return firewall.Maybe
		case t == firewall.Yes && (answer == firewall.No || e.moreSpecific(best)):
			best, answer = e, firewall.Yes
		}
	}
	if best.nomatch {
		return firewall.No
	}
	return answer
}

func (e element) moreSpecific(than element) bool {
	if e.nets[0].Bits() != than.nets[0].Bits() {
		return e.nets[0].Bits() > than.nets[0].Bits()
	}
	return e.nets[1].Bits() > than.nets[1].Bits()
}

// dimension says whether one dimension of an element fits: the address-th address if it is one.
func (s *set) dimension(dim string, e element, address int, source bool, p *firewall.Packet) firewall.Truth {
	switch dim {
	case "ip", "net":
		if address >= len(e.nets) {
			return firewall.Maybe
		}
		return s.address(e.nets[address], source, p)
	case "port":
		if s.kind == "bitmap:port" && p.Proto != protoTCP && p.Proto != protoUDP {
			return firewall.Of(p.Proto == 0).And(firewall.Maybe)
		}
		return e.port(source, s.kind != "bitmap:port", p)
	case "mac":
		return hardware(e.mac, source, p)
	case "iface":
		return e.interfaceIs(source, p)
	case "mark":
		if !p.HasMark {
			return firewall.Maybe
		}
		return firewall.Of(p.Mark&s.markMask == e.mark)
	}
	return firewall.Maybe
}

func (s *set) address(net netip.Prefix, source bool, p *firewall.Packet) firewall.Truth {
	a := s.asked(source, p)
	if !a.IsValid() {
		return firewall.Maybe
	}
	return firewall.Of(net.Contains(a))
}

// asked is the address that is looked for, cut as the set cuts its own; not valid if it is not known.
func (s *set) asked(source bool, p *firewall.Packet) netip.Addr {
	a := p.Dst
	if source {
		a = p.Src
	}
	if s.netmask == 0 || !a.IsValid() {
		return a
	}
	cut, err := a.Prefix(int(s.netmask))
	if err != nil {
		return netip.Addr{}
	}
	return cut.Addr()
}

// Numbers of protocols, RFC 5237.
const (
	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
	protoSCTP   = 132
	protoUDPL   = 136
)

// port follows ip_set_get_ip4_port: the type and code of an ICMP message count as a port, other
// protocols have port 0.
func (e element) port(source, withProto bool, p *firewall.Packet) firewall.Truth {
	if p.Proto == 0 {
		return firewall.Maybe
	}
	if withProto && p.Proto != e.proto || p.Fragment {
		return firewall.No
	}
	var port uint16
	switch p.Proto {
	case protoTCP, protoUDP, protoSCTP:
		port = p.DstPort
		if source {
			port = p.SrcPort
		}
	case protoUDPL:
		return firewall.Maybe
	case protoICMP, protoICMPv6:
		if !p.HasICMP {
			return firewall.Maybe
		}
		port = uint16(p.ICMPType)<<8 | uint16(p.ICMPCode)
	}
	return firewall.Of(port >= e.ports[0] && port <= e.ports[1])
}

func hardware(mac string, source bool, p *firewall.Packet) firewall.Truth {
	have := p.DstMAC
	if source {
		have = p.SrcMAC
	}
	switch {
	case mac == "": // bitmap:ip,mac: not known yet, the kernel learns it from the packet
		return firewall.Maybe
	case have == nil:
		return firewall.Maybe
	}
	return firewall.Of(string(have) == mac)
}

func (e element) interfaceIs(source bool, p *firewall.Packet) firewall.Truth {
	name, index := p.Out, p.OutIndex
	if source {
		name, index = p.In, p.InIndex
	}
	switch {
	case name == "" && index != 0:
		return firewall.Maybe
	case e.prefix:
		return firewall.Of(strings.HasPrefix(name, e.device))
	}
	return firewall.Of(name == e.device && name != "")
}
