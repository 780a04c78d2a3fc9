package topo

import "net/netip"

// Listener is a TCP socket in state LISTEN or a bound, unconnected UDP socket.
type Listener struct {
	Addr netip.AddrPort
	// V6Only is set on an IPv6 socket that does not take IPv4 too.
	V6Only bool
	// Inode is that of the socket in the sockfs.
	Inode uint32
	// Queue is how many connections wait to be accepted (TCP) or how many bytes wait to be read
	// (UDP). Backlog is the most that may wait (TCP), 0 if the kernel does not tell.
	Queue, Backlog uint32
	// PID and Process are the owner, if ListenerOwners was asked and a process has it open.
	PID     int
	Process string
}

// Listeners returns the sockets of a namespace that take new flows of proto ("tcp" or "udp").
func (t *Topology) Listeners(netns uint32, proto string) ([]Listener, error) { return nil, nil }

// ListenerOwners fills PID and Process of each listener by looking through the descriptors of all
// processes, which is slow. A socket that no visible process has open keeps PID 0.
func (t *Topology) ListenerOwners(ls []Listener) error { return nil }

// Counters returns the protocol counters of a namespace under the names that nstat prints, such as
// TcpExtListenOverflows, IpExtInNoRoutes, UdpRcvbufErrors, Ip6InNoRoutes.
func (t *Topology) Counters(netns uint32) (map[string]uint64, error) { return nil, nil }

// Sysctl reads a value such as "net/ipv4/ip_forward" as it holds in the namespace.
func (t *Topology) Sysctl(netns uint32, name string) (string, error) { return "", nil }
