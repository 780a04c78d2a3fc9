package topo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// perTour is how many namespaces are worth a thread of their own.
const perTour = 16

// AddrOwner returns the links of all namespaces that carry an address. It asks every namespace whose links
// are not known for its addresses, and reads only the links of those that have it.
func (t *Topology) AddrOwner(addr netip.Addr) []Owner {
	addr = addr.Unmap().WithZone("")
	var out []Owner
	for _, ns := range t.mayCarry(addr) {
		s, states, err := t.linkStates(ns.Inode)
		if err != nil {
			t.log.Debug("look for address", "address", addr, "error", err)
			continue
		}
		for _, l := range states {
			if slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr() == addr }) {
				out = append(out, Owner{NetNS: ns, Link: t.finish(s, l)})
			}
		}
	}
	return out
}

// mayCarry returns the namespaces that have an address, and those whose links are known anyway, by name.
func (t *Topology) mayCarry(addr netip.Addr) []NetNS {
	all := t.Namespaces()
	may := make([]bool, len(all))
	var ask []int
	for i, ns := range all {
		if s := t.lookup(ns.Inode); s != nil && s.current() {
			may[i] = true
		} else {
			ask = append(ask, i)
		}
	}
	var group errgroup.Group
	tours := min(runtime.GOMAXPROCS(0), (len(ask)+perTour-1)/perTour)
	for n := range tours {
		mine := ask[n*len(ask)/tours : (n+1)*len(ask)/tours]
		group.Go(func() error {
			return netns.Tour(func(enter func(*os.File) error) error {
				buf := make([]byte, 1<<15)
				for _, i := range mine {
					has, err := t.carries(enter, all[i].Inode, addr, buf)
					if err != nil {
						t.log.Debug("look for address", "address", addr, "netns", all[i].Name, "error", err)
					}
					may[i] = has
				}
				return nil
			})
		})
	}
	if err := group.Wait(); err != nil {
		t.log.Debug("look for address", "address", addr, "error", err)
	}
	var out []NetNS
	for i, ns := range all {
		if may[i] {
			out = append(out, ns)
		}
	}
	return out
}

// VXLANPorts returns the UDP ports of the VXLAN devices in some namespaces. It leaves everything else there
// unread: a host has a device for each container.
func (t *Topology) VXLANPorts(inodes []uint32) []uint16 {
	var ports []uint16
	err := netns.Tour(func(enter func(*os.File) error) error {
		for _, inode := range inodes {
			links, err := t.vxlans(enter, inode)
			if err != nil {
				t.log.Debug("look for VXLAN devices", "netns", inode, "error", err) // it may just have vanished
			}
			for _, l := range links {
				if l.VXLANPort != 0 && !slices.Contains(ports, l.VXLANPort) {
					ports = append(ports, l.VXLANPort)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.log.Debug("look for VXLAN devices", "error", err)
	}
	return ports
}

// goTo brings the calling thread into a namespace, within a netns.Tour.
func (t *Topology) goTo(enter func(*os.File) error, inode uint32) error {
	f, _, err := t.open(inode)
	if err != nil {
		return err
	}
	defer f.Close()
	return enter(f)
}

// vxlans reads the VXLAN devices of a namespace; the calling thread stays there.
func (t *Topology) vxlans(enter func(*os.File) error, inode uint32) ([]linkState, error) {
	if err := t.goTo(enter, inode); err != nil {
		return nil, err
	}
	const kind = "vxlan"
	msgs, err := dumpLinks(kind)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var out []linkState
	for _, msg := range msgs {
		if kindOf(msg) != kind {
			continue
		}
		l, err := parseLink(inode, msg)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// current reports whether the links of a namespace are known as they are.
func (s *space) current() bool {
	s.content.mu.RLock()
	defer s.content.mu.RUnlock()
	return s.loaded && !s.stale
}

// carries reports whether a device of a namespace has an address; the calling thread stays there.
func (t *Topology) carries(enter func(*os.File) error, inode uint32, addr netip.Addr, buf []byte) (bool, error) {
	if err := t.goTo(enter, inode); err != nil {
		return false, err
	}
	return carriesHere(addr, buf)
}

// carriesHere asks the namespace the calling thread is in. dumpAddrs takes twice the processor time (30 µs
// against 14 in an empty namespace), and there may be hundreds to ask.
func carriesHere(addr netip.Addr, buf []byte) (bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return false, fmt.Errorf("open netlink socket: %w", err)
	}
	defer unix.Close(fd)
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	for range 3 { // as in dump
		req := nl.NewNetlinkRequest(unix.RTM_GETADDR, unix.NLM_F_DUMP)
		req.AddData(nl.NewIfAddrmsg(family))
		if err := unix.Sendto(fd, req.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return false, fmt.Errorf("list addresses: %w", err)
		}
		found, again, err := findAddr(fd, addr, buf)
		if found || err != nil || !again {
			return found, err
		}
	}
	return false, nil
}

// findAddr looks for an address in the answer to a dump. again says that the kernel's list changed while
// it was told.
func findAddr(fd int, addr netip.Addr, buf []byte) (found, again bool, err error) {
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, false, fmt.Errorf("list addresses: %w", err)
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return false, false, fmt.Errorf("list addresses: %w", err)
		}
		for _, m := range msgs {
			again = again || m.Header.Flags&unix.NLM_F_DUMP_INTR != 0
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return found, again, nil
			case unix.NLMSG_ERROR:
				if len(m.Data) < 4 {
					return false, false, fmt.Errorf("list addresses: answer of %d bytes", len(m.Data))
				}
				errno := -int32(binary.NativeEndian.Uint32(m.Data)) // struct nlmsgerr
				return false, false, fmt.Errorf("list addresses: %w", syscall.Errno(errno))
			case unix.RTM_NEWADDR:
				_, p, ok := parseAddr(m.Data)
				found = found || ok && p.Addr() == addr
			}
		}
	}
}
