package topo

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// Listener is a TCP socket in state LISTEN or a bound, unconnected UDP socket.
type Listener struct {
	Addr netip.AddrPort
	// V6Only is set on an IPv6 socket that is known not to take IPv4 too.
	V6Only bool
	// Inode is that of the socket in the sockfs.
	Inode uint32
	// Queue is how many connections wait to be accepted (TCP) or how many bytes wait to be read
	// (UDP). Backlog is the most that may wait (TCP), 0 if the kernel does not tell.
	Queue, Backlog uint32
	// PID and Process are the owner, if ListenerOwners was asked and a process has it open.
	PID     int
	Process string
	// Cgroups are the container IDs in the path of the owner's control group, outermost first.
	Cgroups []string
	// Forward is where docker-proxy, if that is the owner, was told to carry connections to.
	Forward netip.AddrPort
}

// Socket states of include/net/tcp_states.h as /proc/net shows them.
const (
	stateClose  = 0x07 // of a UDP socket that is not connected
	stateListen = 0x0a
)

// Listeners returns the sockets of a namespace that take new flows of proto ("tcp" or "udp").
//
// The backlog of a TCP socket is known only through tcp_diag. Asking for it would load that module,
// and nothing is to be loaded on behalf of a trace, so it is asked only where it is there already.
func (t *Topology) Listeners(netns uint32, proto string) ([]Listener, error) {
	state := uint64(stateListen)
	switch proto {
	case "tcp":
	case "udp":
		state = stateClose
	default:
		return nil, fmt.Errorf("list listeners: protocol %q has none", proto)
	}
	var out []Listener
	err := t.InNamespace(netns, func() error {
		if proto == "tcp" && t.features().tcpDiag {
			var err error
			if out, err = diagListeners(); err == nil {
				return nil
			}
			t.log.Debug("ask tcp_diag", "error", err)
		}
		for _, name := range []string{proto, proto + "6"} {
			err := t.readNet(name, func(r io.Reader) error {
				found, err := parseSockets(r, state)
				out = append(out, found...)
				return err
			})
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list listeners: %w", err)
	}
	return out, nil
}

// parseSockets reads /proc/net/{tcp,tcp6,udp,udp6} and keeps the sockets in one state. Listening ones come
// first (tcp_get_idx, net/ipv4/tcp_ipv4.c): behind them may stand a hundred thousand connections.
func parseSockets(r io.Reader, state uint64) ([]Listener, error) {
	var out []Listener
	lines := bufio.NewScanner(r)
	lines.Scan() // heading
	for lines.Scan() {
		// sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode …
		f := strings.Fields(lines.Text())
		if len(f) < 10 {
			continue
		}
		if st, err := strconv.ParseUint(f[3], 16, 8); err != nil || st != state {
			if err == nil && state == stateListen && st != stateClose { // one may be closed just now
				break
			}
			continue
		}
		addr, err := parseHexAddrPort(f[1])
		if err != nil {
			return nil, fmt.Errorf("decode socket: %w", err)
		}
		_, queue, _ := strings.Cut(f[4], ":")
		waiting, err := strconv.ParseUint(queue, 16, 32)
		if err != nil {
			return nil, fmt.Errorf("decode socket: queue %q", f[4])
		}
		inode, err := strconv.ParseUint(f[9], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("decode socket: inode %q", f[9])
		}
		out = append(out, Listener{Addr: addr, Inode: uint32(inode), Queue: uint32(waiting)})
	}
	return out, lines.Err()
}

// parseHexAddrPort decodes "0100007F:0050": 32-bit words of the address as this machine reads them
// from network order (net/ipv4/tcp_ipv4.c, get_tcp4_sock), and the port.
func parseHexAddrPort(s string) (netip.AddrPort, error) {
	addr, port, ok := strings.Cut(s, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	if !ok || err != nil || len(addr) != 8 && len(addr) != 32 {
		return netip.AddrPort{}, fmt.Errorf("address %q", s)
	}
	raw := make([]byte, 0, 16)
	for i := 0; i < len(addr); i += 8 {
		word, err := strconv.ParseUint(addr[i:i+8], 16, 32)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("address %q", s)
		}
		raw = binary.NativeEndian.AppendUint32(raw, uint32(word))
	}
	ip, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(ip.Unmap(), uint16(p)), nil
}
