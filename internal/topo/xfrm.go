package topo

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// IPsecPolicy is a policy that demands encryption of packets that leave a namespace.
type IPsecPolicy struct {
	Src, Dst netip.Prefix
	// Port is the destination port of the packets it is for, 0 for all; Mark what they are marked
	// with, 0 for any.
	Port uint16
	Mark uint32
	// TunnelDst and SPI name the state to be used; SPI 0 means any.
	TunnelDst netip.Addr
	SPI       uint32
}

// IPsecState has the keys for one direction between two hosts. The keys themselves are not kept.
type IPsecState struct {
	Src, Dst netip.Addr
	SPI      uint32
}

// IPsec returns the policies for packets that leave a namespace, and its states. A kernel without
// IPsec has neither.
func (t *Topology) IPsec(inode uint32) (policies []IPsecPolicy, states []IPsecState, err error) {
	err = t.InNamespace(inode, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_XFRM)
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("open netlink socket: %w", err)
		}
		defer h.Close()
		list, err := h.XfrmPolicyList(netlink.FAMILY_ALL)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list IPsec policies: %w", err)
		}
		for i := range list {
			if p, ok := ipsecPolicy(&list[i]); ok {
				policies = append(policies, p)
			}
		}
		found, err := h.XfrmStateList(netlink.FAMILY_ALL)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return fmt.Errorf("list IPsec states: %w", err)
		}
		for i := range found {
			states = append(states, IPsecState{Src: toAddr(found[i].Src), Dst: toAddr(found[i].Dst), SPI: uint32(found[i].Spi)})
		}
		return nil
	})
	return policies, states, err
}

// ipsecPolicy converts a policy; ok is false for one that is for other packets than those that leave,
// or that demands nothing.
func ipsecPolicy(in *netlink.XfrmPolicy) (p IPsecPolicy, ok bool) {
	if in.Dir != netlink.XFRM_DIR_OUT || len(in.Tmpls) == 0 || in.Action != netlink.XFRM_POLICY_ALLOW {
		return p, false
	}
	last := in.Tmpls[len(in.Tmpls)-1]
	p = IPsecPolicy{Src: toPrefix(in.Src), Dst: toPrefix(in.Dst), Port: uint16(in.DstPort),
		TunnelDst: toAddr(last.Dst), SPI: uint32(last.Spi)}
	if in.Mark != nil {
		p.Mark = in.Mark.Value
	}
	return p, true
}

// toPrefix converts, and gives an invalid prefix for none.
func toPrefix(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ones, _ := n.Mask.Size()
	return netip.PrefixFrom(toAddr(n.IP), ones)
}
