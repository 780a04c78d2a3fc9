package recording

import (
	"encoding/json"
	"fmt"
	"net/netip"
)

// Types of records that this package knows.
const (
	TypeName      = "name"      // of a number of the kernel's; only Writer.Name makes them
	TypeNamespace = "namespace" // Namespace
	TypeDevice    = "device"    // Device
	TypeAddress   = "address"   // Address
	TypeClock     = "clock"     // Clock
)

// NameKind says what a number is that the kernel has a name for.
type NameKind string

// The kinds of names, those of flow.Namer.
const (
	NameDrop   NameKind = "drop"   // enum skb_drop_reason
	NameReset  NameKind = "reset"  // enum sk_rst_reason
	NameSymbol NameKind = "symbol" // an address in a function
)

type nameRecord struct {
	Kind   NameKind `json:"kind"`
	Number uint64   `json:"number"`
	Name   string   `json:"name"`
}

// Namespace is what is said of a network namespace. The last record of an inode counts.
type Namespace struct {
	Inode uint32 `json:"inode"`
	Name  string `json:"name"`
	// Container, Project (Compose) and Service are those of the container that lives there; "" if none.
	Container string `json:"container,omitempty"`
	Project   string `json:"project,omitempty"`
	Service   string `json:"service,omitempty"`
}

// Device is what is said of a network device. The last record of a namespace and index counts.
type Device struct {
	NetNS   uint32 `json:"netns"`
	Ifindex uint32 `json:"ifindex"`
	Name    string `json:"name"`
	Kind    string `json:"kind,omitempty"`    // veth, bridge, vxlan, …; "" for hardware or if unknown
	Network string `json:"network,omitempty"` // Docker's
	Bridge  string `json:"bridge,omitempty"`  // that it is a port of
	MTU     uint32 `json:"mtu,omitempty"`     // bytes
	// PeerMTU is the MTU of the other end of a veth pair, bytes: only of one that a packet could not pass.
	PeerMTU uint32 `json:"peer_mtu,omitempty"`
	// Addrs are its own addresses that packets of the trace had as a source.
	Addrs []netip.Addr `json:"addrs,omitempty"`
}

// Address is who has an address. NetNS is 0 where that is the same everywhere; else the namespace in
// which it is meant, as for loopback addresses. The last record counts.
type Address struct {
	NetNS uint32     `json:"netns,omitempty"`
	Addr  netip.Addr `json:"addr"`
	Name  string     `json:"name"`
}

// maxNames bounds what Names keeps of each kind: a hostile recording may hold any number.
const maxNames = 1 << 17

// Names are the names that are known at a moment of a recording. It implements flow.Namer. It is not
// safe for concurrent use.
type Names struct {
	numbers    map[numberKey]string
	namespaces map[uint32]Namespace
	devices    map[deviceKey]Device
	addrs      map[addrKey]string
	version    int
}

// Version changes whenever a name does.
func (n *Names) Version() int { return n.version }

type numberKey struct {
	kind   NameKind
	number uint64
}

type deviceKey struct{ netns, ifindex uint32 }

type addrKey struct {
	netns uint32
	addr  netip.Addr
}

func newNames() *Names {
	return &Names{
		numbers: map[numberKey]string{}, namespaces: map[uint32]Namespace{},
		devices: map[deviceKey]Device{}, addrs: map[addrKey]string{},
	}
}

// DropReason returns the name of a drop reason, "" if it was not recorded.
func (n *Names) DropReason(reason uint32) string {
	return n.numbers[numberKey{NameDrop, uint64(reason)}]
}

// ResetReason returns the name of the reason of a reset, "" if it was not recorded.
func (n *Names) ResetReason(reason uint32) string {
	return n.numbers[numberKey{NameReset, uint64(reason)}]
}

// Symbol returns the kernel function that contains an address, "" if unknown.
func (n *Names) Symbol(addr uint64) string { return n.numbers[numberKey{NameSymbol, addr}] }

// Namespace returns what is known of a namespace; its name is never empty.
func (n *Names) Namespace(inode uint32) Namespace {
	if ns, ok := n.namespaces[inode]; ok {
		return ns
	}
	return Namespace{Inode: inode, Name: fmt.Sprintf("netns:%d", inode)}
}

// Device returns what is known of a device.
func (n *Names) Device(netns, ifindex uint32) (Device, bool) {
	d, ok := n.devices[deviceKey{netns, ifindex}]
	return d, ok
}

// Address names the owner of an address as seen in a namespace, "" if unknown.
func (n *Names) Address(netns uint32, a netip.Addr) string {
	if name, ok := n.addrs[addrKey{netns, a}]; ok {
		return name
	}
	return n.addrs[addrKey{0, a}]
}

// add takes a record, if it is one of names.
func (n *Names) add(r *Record) error {
	n.version++
	switch r.Type {
	case TypeName:
		return keep(r, n.numbers, func(x nameRecord) (numberKey, string) { return numberKey{x.Kind, x.Number}, x.Name })
	case TypeNamespace:
		return keep(r, n.namespaces, func(x Namespace) (uint32, Namespace) { return x.Inode, x })
	case TypeDevice:
		return keep(r, n.devices, func(x Device) (deviceKey, Device) { return deviceKey{x.NetNS, x.Ifindex}, x })
	case TypeAddress:
		return keep(r, n.addrs, func(x Address) (addrKey, string) { return addrKey{x.NetNS, x.Addr}, x.Name })
	}
	return nil
}

// keep puts the value of a record into a map, if there is room.
func keep[R any, K comparable, V any](r *Record, m map[K]V, entry func(R) (K, V)) error {
	var x R
	if err := json.Unmarshal(r.JSON, &x); err != nil {
		return fmt.Errorf("a record %q is not what it says", r.Type)
	}
	key, value := entry(x)
	if _, known := m[key]; known || len(m) < maxNames {
		m[key] = value
	}
	return nil
}
