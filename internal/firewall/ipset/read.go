package ipset

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Numbers of include/uapi/linux/netfilter/ipset/ip_set.h.
const (
	protocol = 7 // with which a list has the sets' indexes (Linux 4.20)
	cmdList  = 7

	attrProtocol = 1
	attrSetName  = 2
	attrTypeName = 3
	attrFamily   = 5
	attrData     = 7
	attrADT      = 8
	attrIndex    = 11

	// In the data of a set.
	attrNetmask  = 20
	attrMarkMask = 11
	attrBitmask  = 12 // Linux 6.2; elements are masked by it, which is not done here

	// In the data of an element.
	attrIP     = 1
	attrIPTo   = 2
	attrCIDR   = 3
	attrPort   = 4
	attrPortTo = 5
	attrProto  = 7
	attrFlags  = 8
	attrMark   = 10
	attrEther  = 17
	attrName   = 18
	attrIP2    = 20
	attrCIDR2  = 21
	attrIface  = 23

	// In an address.
	attrIPv4 = 1
	attrIPv6 = 2

	typeMask = 0x3fff // of an attribute's type, without NLA_F_NESTED and NLA_F_NET_BYTEORDER

	flagPhysdev  = 1 << 1
	flagNomatch  = 1 << 2
	flagWildcard = 1 << 5
)

const (
	familyIPv4 = unix.NFPROTO_IPV4
	familyIPv6 = unix.NFPROTO_IPV6
)

// attrs are attributes by number, without the bits for nesting and byte order.
type attrs map[uint16][]byte

func parseAttrs(b []byte) (attrs, error) {
	list, err := netlink.UnmarshalAttributes(b)
	if err != nil {
		return nil, fmt.Errorf("parse attributes: %w", err)
	}
	a := make(attrs, len(list))
	for _, x := range list {
		a[x.Type&typeMask] = x.Data
	}
	return a, nil
}

func (a attrs) str(n uint16) string {
	s, _, _ := strings.Cut(string(a[n]), "\x00")
	return s
}

func (a attrs) u8(n uint16) uint8 {
	if b := a[n]; len(b) >= 1 {
		return b[0]
	}
	return 0
}

func (a attrs) u16(n uint16) uint16 {
	if b := a[n]; len(b) >= 2 {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (a attrs) u32(n uint16) uint32 {
	if b := a[n]; len(b) >= 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// addr reads a nested address; it is not valid if there is none.
func (a attrs) addr(n uint16) netip.Addr {
	inner, err := parseAttrs(a[n])
	if err != nil {
		return netip.Addr{}
	}
	for _, b := range [][]byte{inner[attrIPv4], inner[attrIPv6]} {
		if addr, ok := netip.AddrFromSlice(b); ok {
			return addr
		}
	}
	return netip.Addr{}
}

// net reads an address and the length of its network.
func (a attrs) net(addr, cidr uint16) netip.Prefix {
	ip := a.addr(addr)
	if !ip.IsValid() {
		return netip.Prefix{}
	}
	bits := ip.BitLen()
	if _, ok := a[cidr]; ok {
		bits = int(a.u8(cidr))
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// dump reads all sets of the calling thread's network namespace.
func (s *Sets) dump() error {
	messages, err := s.tape.Ask("ipsets", list)
	if err != nil {
		return err
	}
	for _, m := range messages {
		if err := s.add(m); err != nil {
			return err
		}
	}
	return nil
}

// list asks the kernel for all sets.
func list() ([][]byte, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	defer c.Close()
	version, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: attrProtocol, Data: []byte{protocol}}})
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	replies, err := c.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  unix.NFNL_SUBSYS_IPSET<<8 | cmdList,
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0}, version...),
	})
	if err != nil {
		return nil, fmt.Errorf("list sets: %w", err)
	}
	var out [][]byte
	for _, m := range replies {
		out = append(out, m.Data)
	}
	return out, nil
}

// add takes one message of the dump: a set, or more elements of the one before.
func (s *Sets) add(b []byte) error {
	const nfgenmsg = 4
	if len(b) < nfgenmsg {
		return fmt.Errorf("list sets: message of %d bytes", len(b))
	}
	a, err := parseAttrs(b[nfgenmsg:])
	if err != nil {
		return err
	}
	current, ok := s.byName[a.str(attrSetName)]
	if _, isNew := a[attrTypeName]; isNew || !ok {
		if current, err = newSet(a); err != nil {
			return err
		}
		s.byName[current.name] = current
		if _, ok := a[attrIndex]; ok {
			s.byIndex[a.u16(attrIndex)] = current
		}
	}
	elements, err := netlink.UnmarshalAttributes(a[attrADT])
	if err != nil {
		return fmt.Errorf("parse elements: %w", err)
	}
	for _, e := range elements {
		if e.Type&typeMask != attrData {
			continue
		}
		if s.elements++; s.elements > maxElements {
			current.partial, current.elements = true, nil
			continue
		}
		if err := current.addElement(e.Data); err != nil {
			return err
		}
	}
	return nil
}

func newSet(a attrs) (*set, error) {
	data, err := parseAttrs(a[attrData])
	if err != nil {
		return nil, err
	}
	n := &set{
		name: a.str(attrSetName), kind: a.str(attrTypeName), family: a.u8(attrFamily),
		netmask: data.u8(attrNetmask), markMask: 0xffffffff,
	}
	if _, ok := data[attrMarkMask]; ok {
		n.markMask = data.u32(attrMarkMask)
	}
	_, n.partial = data[attrBitmask]
	return n, nil
}

func (s *set) addElement(b []byte) error {
	a, err := parseAttrs(b)
	if err != nil {
		return err
	}
	flags := a.u32(attrFlags)
	e := element{
		nets:  [2]netip.Prefix{a.net(attrIP, attrCIDR), a.net(attrIP2, attrCIDR2)},
		proto: a.u8(attrProto), ports: [2]uint16{a.u16(attrPort), a.u16(attrPort)},
		mac: string(a[attrEther]), device: a.str(attrIface), prefix: flags&flagWildcard != 0,
		mark: a.u32(attrMark), name: a.str(attrName), nomatch: flags&flagNomatch != 0,
	}
	if _, ok := a[attrPortTo]; ok {
		e.ports[1] = a.u16(attrPortTo)
	}
	// A range of addresses is not listed by any set, but would be misread.
	if _, ok := a[attrIPTo]; ok || flags&flagPhysdev != 0 {
		s.partial = true
	}
	s.elements = append(s.elements, e)
	return nil
}
