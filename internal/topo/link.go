package topo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// linkState is a link with what is needed to find its peer's namespace.
type linkState struct {
	Link
	// nsid is the identifier, valid in the link's namespace, of the namespace PeerIndex is in;
	// sameNS if it is the same one, -1 if the kernel does not say.
	nsid int
}

const sameNS = -2

// extMaskSkipStats is RTEXT_FILTER_SKIP_STATS of include/uapi/linux/rtnetlink.h, which the libraries lack.
const extMaskSkipStats = 1 << 3

// dumpLinks reads the links of the namespace the calling thread is in: all, or those of a kind; all again
// where the kernel has no such kind.
func dumpLinks(kind string) ([][]byte, error) {
	return dump(func() *nl.NetlinkRequest {
		req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		req.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(extMaskSkipStats)))
		if kind != "" {
			info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
			info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
			req.AddData(info)
		}
		return req
	}, unix.RTM_NEWLINK)
}

// kindOf is the kind in the payload of an RTM_NEWLINK message, "" if it has none.
func kindOf(msg []byte) string {
	info := attr(msg[min(len(msg), unix.SizeofIfInfomsg):], unix.IFLA_LINKINFO)
	return string(trimNul(attr(info, nl.IFLA_INFO_KIND)))
}

// dumpAddrs reads all addresses of the namespace the calling thread is in.
func dumpAddrs() ([][]byte, error) {
	return dump(func() *nl.NetlinkRequest {
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		return req
	}, unix.RTM_NEWADDR)
}

// dump repeats a request that a change interrupted; the third answer is taken as it is.
func dump(request func() *nl.NetlinkRequest, reply uint16) (msgs [][]byte, err error) {
	for range 3 {
		msgs, err = request().Execute(unix.NETLINK_ROUTE, reply)
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			return msgs, err
		}
	}
	return msgs, nil
}

// parseLink decodes the payload of an RTM_NEWLINK message read in namespace netns.
func parseLink(netns uint32, msg []byte) (linkState, error) {
	if len(msg) < unix.SizeofIfInfomsg {
		return linkState{}, fmt.Errorf("decode link: %d bytes", len(msg))
	}
	link, err := netlink.LinkDeserialize(nil, msg)
	if err != nil {
		return linkState{}, fmt.Errorf("decode link: %w", err)
	}
	a := link.Attrs()
	s := linkState{nsid: sameNS, Link: Link{
		NetNS:        netns,
		Index:        uint32(a.Index),
		Name:         a.Name,
		Kind:         linkKind(link),
		PeerIndex:    uint32(a.ParentIndex),
		Master:       uint32(a.MasterIndex),
		MTU:          uint32(a.MTU),
		Up:           a.RawFlags&unix.IFF_UP != 0,
		Carrier:      a.RawFlags&unix.IFF_LOWER_UP != 0,
		HardwareAddr: a.HardwareAddr.String(),
		Alias:        a.Alias,
	}}
	s.setBridgePort(msg[unix.SizeofIfInfomsg:])
	if x := a.Xdp; x != nil && x.Attached {
		s.XDP, s.XDPMode = x.ProgId, xdpMode(x.AttachMode)
	}
	// -1 without the attribute; with it, -1 again in 32 bits if no identifier was assigned.
	if a.NetNsID != -1 {
		s.nsid = int(int32(a.NetNsID))
	}
	switch v := link.(type) {
	case *netlink.Vxlan:
		s.VNI, s.VXLANPort, s.VXLANProxy = uint32(v.VxlanId), uint16(v.Port), v.Proxy
	case *netlink.Macvlan:
		s.Mode = macvlanMode(v.Mode)
	case *netlink.Macvtap:
		s.Mode = macvlanMode(v.Mode)
	case *netlink.IPVlan:
		s.Mode = ipvlanMode(v.Mode)
	case *netlink.IPVtap:
		s.Mode = ipvlanMode(v.Mode)
	}
	return s, nil
}

// macvlanMode names the MACVLAN_MODE_* of include/uapi/linux/if_link.h.
func macvlanMode(mode netlink.MacvlanMode) string {
	switch mode {
	case netlink.MACVLAN_MODE_PRIVATE:
		return "private"
	case netlink.MACVLAN_MODE_VEPA:
		return "vepa"
	case netlink.MACVLAN_MODE_BRIDGE:
		return "bridge"
	case netlink.MACVLAN_MODE_PASSTHRU:
		return "passthru"
	case netlink.MACVLAN_MODE_SOURCE:
		return "source"
	}
	return ""
}

// ipvlanMode names the IPVLAN_MODE_* of include/uapi/linux/if_link.h.
func ipvlanMode(mode netlink.IPVlanMode) string {
	switch mode {
	case netlink.IPVLAN_MODE_L2:
		return "l2"
	case netlink.IPVLAN_MODE_L3:
		return "l3"
	case netlink.IPVLAN_MODE_L3S:
		return "l3s"
	}
	return ""
}

// linkKind maps the kernel's kind to device_kind of the contract.
func linkKind(link netlink.Link) string {
	switch kind := link.Type(); kind {
	case "device", "":
		if link.Attrs().RawFlags&unix.IFF_LOOPBACK != 0 {
			return "loopback"
		}
		return "physical"
	case "tuntap":
		return "tun"
	default:
		return kind
	}
}

// setBridgePort reads IFLA_LINKINFO / IFLA_INFO_SLAVE_DATA of a bridge's port.
func (s *linkState) setBridgePort(attrs []byte) {
	info := attr(attrs, unix.IFLA_LINKINFO)
	if string(trimNul(attr(info, nl.IFLA_INFO_SLAVE_KIND))) != "bridge" {
		return
	}
	data := attr(info, nl.IFLA_INFO_SLAVE_DATA)
	if state := attr(data, nl.IFLA_BRPORT_STATE); len(state) == 1 {
		s.BridgePortState = bridgePortState(state[0])
	}
	// A kernel that does not know a setting behaves as if it had its default.
	flag := func(typ uint16, unset bool) bool {
		if v := attr(data, typ); len(v) == 1 {
			return v[0] != 0
		}
		return unset
	}
	s.PortFlags = PortFlags{
		Hairpin:        flag(nl.IFLA_BRPORT_MODE, false),
		Isolated:       flag(nl.IFLA_BRPORT_ISOLATED, false),
		Learning:       flag(nl.IFLA_BRPORT_LEARNING, true),
		Flood:          flag(nl.IFLA_BRPORT_UNICAST_FLOOD, true),
		BroadcastFlood: flag(nl.IFLA_BRPORT_BCAST_FLOOD, true),
		Locked:         flag(nl.IFLA_BRPORT_LOCKED, false),
	}
}

// bridgePortState names the BR_STATE_* of include/uapi/linux/if_bridge.h.
func bridgePortState(state byte) string {
	switch state {
	case 0:
		return "disabled"
	case 1:
		return "listening"
	case 2:
		return "learning"
	case 3:
		return "forwarding"
	case 4:
		return "blocking"
	}
	return ""
}

// xdpMode names the XDP_ATTACHED_* of include/uapi/linux/if_link.h.
func xdpMode(mode uint32) string {
	switch mode {
	case nl.XDP_ATTACHED_DRV:
		return "native"
	case nl.XDP_ATTACHED_SKB:
		return "generic"
	case nl.XDP_ATTACHED_HW:
		return "offloaded"
	}
	return ""
}

// attr returns the value of the first netlink attribute of a type, nil if there is none.
func attr(b []byte, typ uint16) []byte {
	const header, typeMask = 4, 0x3fff // NLA_TYPE_MASK
	for len(b) >= header {
		n := int(binary.NativeEndian.Uint16(b))
		if n < header || n > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:])&typeMask == typ {
			return b[header:n]
		}
		b = b[min(len(b), (n+3)&^3):]
	}
	return nil
}

func trimNul(b []byte) []byte {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	return b
}

// parseAddr decodes the payload of an RTM_NEWADDR or RTM_DELADDR message (struct ifaddrmsg).
func parseAddr(msg []byte) (ifindex uint32, prefix netip.Prefix, ok bool) {
	if len(msg) < unix.SizeofIfAddrmsg {
		return 0, netip.Prefix{}, false
	}
	bits := int(msg[1])
	ifindex = binary.NativeEndian.Uint32(msg[4:])
	attrs := msg[unix.SizeofIfAddrmsg:]
	// On point-to-point links IFA_ADDRESS is the other end.
	value := attr(attrs, unix.IFA_LOCAL)
	if value == nil {
		value = attr(attrs, unix.IFA_ADDRESS)
	}
	addr, ok := netip.AddrFromSlice(value)
	if !ok || bits > addr.BitLen() {
		return 0, netip.Prefix{}, false
	}
	return ifindex, netip.PrefixFrom(addr, bits), true
}
