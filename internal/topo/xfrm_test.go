package topo

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestIPsec reads a policy for packets that leave, and none for those that come in.
func TestIPsec(t *testing.T) {
	a := newNS(t, "a")
	src, dst := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("198.51.100.7/32")
	toIPNet := func(p netip.Prefix) *net.IPNet {
		return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	}
	policy := func(dir netlink.Dir, from, to netip.Prefix) *netlink.XfrmPolicy {
		return &netlink.XfrmPolicy{Src: toIPNet(from), Dst: toIPNet(to), Proto: unix.IPPROTO_UDP, DstPort: 4789, Dir: dir,
			Mark: &netlink.XfrmMark{Value: 0xd0c4e3, Mask: 0xffffffff},
			Tmpls: []netlink.XfrmPolicyTmpl{{Src: from.Addr().AsSlice(), Dst: to.Addr().AsSlice(), Proto: netlink.XFRM_PROTO_ESP,
				Mode: netlink.XFRM_MODE_TRANSPORT, Spi: 0x9b0b9128}}}
	}
	err := inPath(nsPath(a), func() error {
		return errors.Join(netlink.XfrmPolicyAdd(policy(netlink.XFRM_DIR_OUT, src, dst)),
			netlink.XfrmPolicyAdd(policy(netlink.XFRM_DIR_IN, dst, src)))
	})
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		t.Skip("this kernel has no IPsec")
	}
	if err != nil {
		t.Fatal(err)
	}
	topo := newTopology(t)
	policies, states, err := topo.IPsec(inodeOf(t, topo, a))
	want := []IPsecPolicy{{Src: src, Dst: dst, Port: 4789, Mark: 0xd0c4e3, TunnelDst: dst.Addr(), SPI: 0x9b0b9128}}
	if err != nil || !slices.Equal(policies, want) || len(states) != 0 {
		t.Errorf("got %+v, %+v, %v, want %+v", policies, states, err, want)
	}
}
