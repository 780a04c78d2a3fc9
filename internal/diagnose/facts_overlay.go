package diagnose

import "net/netip"

// VXLAN is a VXLAN device.
type VXLAN struct {
	// NetNS is the namespace it is in, HostNetNS the one that its packets leave and come in by; 0 if
	// unknown.
	NetNS, HostNetNS uint32
	Ifindex          uint32
	Device           string
	// Network is the Docker network that the namespace is kept for, "" if none.
	Network string
	VNI     uint32
	Port    uint16 // UDP
	// Proxy: it answers ARP and neighbour discovery from its neighbour entries.
	Proxy bool
}

// FDBEntry says behind which tunnel endpoint a MAC address is.
type FDBEntry struct {
	Ifindex uint32 // of the VXLAN device
	MAC     string // in colon form; all zero for whatever has no entry
	VTEP    netip.Addr
}

// IPsec holds the policies for packets that leave a namespace, and its states for packets that leave
// or come in (RFC 4301: security policies, security associations).
type IPsec struct {
	Policies []IPsecPolicy
	States   []IPsecState
}

// IPsecPolicy demands encryption of packets.
type IPsecPolicy struct {
	Src, Dst netip.Prefix // of the packets
	// Port is the UDP port that they go to, 0 for all packets.
	Port uint16
	// Mark is the mark that they have, 0 for any.
	Mark uint32
	// TunnelDst and SPI name the state that is to be used; 0 for any SPI.
	TunnelDst netip.Addr
	SPI       uint32
}

// IPsecState has the keys for packets to Dst.
type IPsecState struct {
	Src, Dst netip.Addr
	SPI      uint32
}
