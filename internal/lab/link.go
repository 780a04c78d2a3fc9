package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// End is one end of a veth pair.
type End struct {
	NS   *Namespace
	Name string
	// Addrs are the addresses of the device, with their prefix lengths.
	Addrs []netip.Prefix
	// MTU in bytes; 0 means 1500.
	MTU int
	// Bridge is the name of the bridge in NS that the device is a port of; empty for none.
	Bridge string
	// Hairpin lets the bridge send a frame back out of this port.
	Hairpin bool
}

// Veth connects two namespaces with a pair of devices, both up.
func Veth(a, b End) error {
	veth := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: a.Name, MTU: a.MTU},
		PeerName:      b.Name,
		PeerNamespace: netlink.NsFd(b.NS.file.Fd()),
		PeerMTU:       uint32(b.MTU),
	}
	if err := a.NS.handle.LinkAdd(veth); err != nil {
		return explain(fmt.Errorf("create veth pair %s, %s: %w", a.Name, b.Name, err), "veth devices", "CONFIG_VETH")
	}
	for _, end := range []End{a, b} {
		if err := end.configure(); err != nil {
			return err
		}
	}
	return nil
}

func (e End) configure() error {
	link, err := e.NS.link(e.Name)
	if err != nil {
		return err
	}
	if e.Bridge != "" {
		bridge, err := e.NS.link(e.Bridge)
		if err != nil {
			return err
		}
		if err := e.NS.handle.LinkSetMaster(link, bridge); err != nil {
			return fmt.Errorf("make %s a port of bridge %s: %w", e.Name, e.Bridge, err)
		}
	}
	if e.Hairpin {
		if err := e.NS.handle.LinkSetHairpin(link, true); err != nil {
			return fmt.Errorf("turn hairpin mode of %s on: %w", e.Name, err)
		}
	}
	return e.NS.bringUp(link, e.Addrs)
}

// Bridge creates a bridge without spanning tree that is up and forwards at once.
func (ns *Namespace) Bridge(name string, addrs ...netip.Prefix) error {
	snooping := false // it would hold back neighbour discovery until a querier was heard
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}, MulticastSnooping: &snooping}
	return ns.add(bridge, addrs, "bridges", "CONFIG_BRIDGE")
}

// VXLAN describes a VXLAN device (RFC 7348) with a fixed set of peers.
type VXLAN struct {
	Name  string
	VNI   int
	Local netip.Addr
	// Port is the UDP port, 4789 if 0.
	Port int
	// Peers get every frame with an unknown destination.
	Peers []netip.Addr
	// Bridge as in End.
	Bridge string
	Addrs  []netip.Prefix
}

// VXLAN creates a VXLAN device.
func (ns *Namespace) VXLAN(v VXLAN) error {
	if v.Port == 0 {
		v.Port = 4789
	}
	link := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: v.Name}, VxlanId: v.VNI, SrcAddr: v.Local.AsSlice(),
		Port: v.Port, Learning: true}
	if err := ns.add(link, nil, "VXLAN devices", "CONFIG_VXLAN"); err != nil {
		return err
	}
	for _, peer := range v.Peers {
		entry := &netlink.Neigh{LinkIndex: link.Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT,
			Flags: netlink.NTF_SELF, IP: peer.AsSlice(), HardwareAddr: make(net.HardwareAddr, 6)}
		if err := ns.handle.NeighAppend(entry); err != nil {
			return fmt.Errorf("add VXLAN peer %s: %w", peer, err)
		}
	}
	return End{NS: ns, Name: v.Name, Bridge: v.Bridge, Addrs: v.Addrs}.configure()
}

// Macvlan creates a macvlan device in bridge mode on parent and moves it into child.
func (ns *Namespace) Macvlan(parent string, child *Namespace, name string, addrs ...netip.Prefix) error {
	lower, err := ns.link(parent)
	if err != nil {
		return err
	}
	link := &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: lower.Attrs().Index,
		Namespace: netlink.NsFd(child.file.Fd())}, Mode: netlink.MACVLAN_MODE_BRIDGE}
	if err := ns.handle.LinkAdd(link); err != nil {
		return explain(fmt.Errorf("create macvlan %s: %w", name, err), "macvlan devices", "CONFIG_MACVLAN")
	}
	return End{NS: child, Name: name, Addrs: addrs}.configure()
}

// IPvlan creates an ipvlan device on parent, in mode L3 or L2, and moves it into child.
func (ns *Namespace) IPvlan(parent string, child *Namespace, name string, l3 bool, addrs ...netip.Prefix) error {
	lower, err := ns.link(parent)
	if err != nil {
		return err
	}
	link := &netlink.IPVlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: lower.Attrs().Index,
		Namespace: netlink.NsFd(child.file.Fd())}, Mode: netlink.IPVLAN_MODE_L2}
	if l3 {
		link.Mode = netlink.IPVLAN_MODE_L3
	}
	if err := ns.handle.LinkAdd(link); err != nil {
		return explain(fmt.Errorf("create ipvlan %s: %w", name, err), "ipvlan devices", "CONFIG_IPVLAN")
	}
	return End{NS: child, Name: name, Addrs: addrs}.configure()
}

func (ns *Namespace) add(link netlink.Link, addrs []netip.Prefix, feature, config string) error {
	if err := ns.handle.LinkAdd(link); err != nil {
		return explain(fmt.Errorf("create %s %s: %w", link.Type(), link.Attrs().Name, err), feature, config)
	}
	return ns.bringUp(link, addrs)
}

// bringUp adds the addresses that the kernel supports and sets the device up.
func (ns *Namespace) bringUp(link netlink.Link, addrs []netip.Prefix) error {
	for _, addr := range addrs {
		if addr.Addr().Is6() && !ns.lab.ipv6 {
			continue
		}
		if err := ns.addAddr(link, addr); err != nil {
			return err
		}
	}
	if err := ns.handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", link.Attrs().Name, err)
	}
	return nil
}

func (ns *Namespace) addAddr(link netlink.Link, addr netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(addr)}
	if addr.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // usable at once
	}
	if err := ns.handle.AddrAdd(link, a); err != nil {
		return fmt.Errorf("add %s to %s: %w", addr, link.Attrs().Name, err)
	}
	return nil
}

// AddAddr adds an address to a device.
func (ns *Namespace) AddAddr(device string, addr netip.Prefix) error {
	link, err := ns.link(device)
	if err != nil {
		return err
	}
	return ns.addAddr(link, addr)
}

// SetUp sets a device up.
func (ns *Namespace) SetUp(device string) error {
	return ns.withLink(device, "set up", ns.handle.LinkSetUp)
}

// SetDown sets a device down; its routes go with it.
func (ns *Namespace) SetDown(device string) error {
	return ns.withLink(device, "set down", ns.handle.LinkSetDown)
}

// DeleteLink removes a device and, of a veth pair, its peer.
func (ns *Namespace) DeleteLink(device string) error {
	return ns.withLink(device, "delete", ns.handle.LinkDel)
}

// SetMTU sets the MTU of a device, bytes.
func (ns *Namespace) SetMTU(device string, mtu int) error {
	return ns.withLink(device, "set mtu", func(l netlink.Link) error { return ns.handle.LinkSetMTU(l, mtu) })
}

// Ifindex returns the index of a device.
func (ns *Namespace) Ifindex(device string) (uint32, error) {
	link, err := ns.link(device)
	if err != nil {
		return 0, err
	}
	return uint32(link.Attrs().Index), nil
}

// Neighbour adds a permanent neighbour entry.
func (ns *Namespace) Neighbour(device string, addr netip.Addr, mac net.HardwareAddr) error {
	return ns.withLink(device, "add neighbour", func(l netlink.Link) error {
		return ns.handle.NeighSet(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: addr.AsSlice(),
			HardwareAddr: mac, State: netlink.NUD_PERMANENT})
	})
}

// WaitUp waits until every device of the namespace that is set up can carry traffic: the kernel
// starts a queue a moment after the carrier came.
func (ns *Namespace) WaitUp(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		device, err := ns.notReady()
		if err != nil || device == "" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s in namespace %s: %w", device, ns.Name, ctx.Err())
		case <-tick.C:
		}
	}
}

func (ns *Namespace) notReady() (string, error) {
	links, err := ns.handle.LinkList()
	if err != nil {
		return "", fmt.Errorf("list devices of namespace %s: %w", ns.Name, err)
	}
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagUp != 0 && a.OperState != netlink.OperUp && a.OperState != netlink.OperUnknown {
			return a.Name, nil
		}
	}
	return "", nil
}

func (ns *Namespace) link(name string) (netlink.Link, error) {
	link, err := ns.handle.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find device %s in namespace %s: %w", name, ns.Name, err)
	}
	return link, nil
}

func (ns *Namespace) withLink(name, operation string, fn func(netlink.Link) error) error {
	link, err := ns.link(name)
	if err != nil {
		return err
	}
	if err := fn(link); err != nil {
		return fmt.Errorf("%s %s in namespace %s: %w", operation, name, ns.Name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
