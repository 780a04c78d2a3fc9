package prober

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Everything in this file runs inside the namespace of the probe.

// resolveZone replaces the name in a scoped address by the index of the device, which is what
// sockaddr needs.
func resolveZone(dst netip.AddrPort) (netip.AddrPort, error) {
	zone := dst.Addr().Zone()
	if zone == "" {
		return dst, nil
	}
	if _, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return dst, nil
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return dst, fmt.Errorf("look up device %s: %w", zone, err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(zone)
	if err != nil {
		return dst, &RouteError{Dst: dst.Addr(), Errno: unix.ENODEV}
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return dst, routeError(dst.Addr(), err)
	}
	addr := dst.Addr().WithZone(strconv.FormatUint(uint64(req.Uint32()), 10))
	return netip.AddrPortFrom(addr, dst.Port()), nil
}

// source returns the address that the probe is sent from: connecting a UDP socket makes the kernel
// look up the route and choose an address without sending anything.
func source(bind netip.Addr, dst netip.AddrPort) (netip.Addr, error) {
	fd, err := newSocket(dst.Addr(), unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if err != nil {
		return netip.Addr{}, err
	}
	defer unix.Close(fd)
	if bind.IsValid() {
		if err := bindTo(fd, bind, 0, dst.Addr()); err != nil {
			return netip.Addr{}, err
		}
	}
	if dst.Port() == 0 { // an echo; any port does for the look-up
		dst = netip.AddrPortFrom(dst.Addr(), 9)
	}
	if err := unix.Connect(fd, sockaddr(dst)); err != nil {
		return netip.Addr{}, routeError(dst.Addr(), err)
	}
	local, err := localAddr(fd)
	return local.Addr(), err
}

func newSocket(family netip.Addr, kind, proto int) (int, error) {
	af := unix.AF_INET
	if family.Is6() {
		af = unix.AF_INET6
	}
	fd, err := unix.Socket(af, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, fmt.Errorf("create probe socket: %w", err)
	}
	return fd, nil
}

// bindTo binds fd to a source address; a link-local one takes the zone of the destination.
func bindTo(fd int, src netip.Addr, port uint16, dst netip.Addr) error {
	if src.Is6() && src.Zone() == "" && src.IsLinkLocalUnicast() {
		src = src.WithZone(dst.Zone())
	}
	err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(src, port)))
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("bind probe to %s: the source's namespace does not own this address: use one that it has: %w", src, err)
	case err != nil:
		return fmt.Errorf("bind probe to %s: %w", src, err)
	}
	return nil
}

// withErrors makes the kernel queue the ICMP errors that quote the socket's packets.
func withErrors(fd int, family netip.Addr) error {
	level, option := unix.SOL_IP, unix.IP_RECVERR
	if family.Is6() {
		level, option = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return fmt.Errorf("set IP_RECVERR on the probe: %w", err)
	}
	return nil
}

func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("read the probe's address: %w", err)
	}
	return addrPort(sa), nil
}

// sockaddr converts an address whose zone, if any, is a number.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	zone, err := strconv.ParseUint(a.Addr().Zone(), 10, 32)
	if err != nil {
		zone = 0 // not scoped
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16(), ZoneId: uint32(zone)}
}

// addrPort drops the zone: observations of packets have none.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// parseSockaddr reads a struct sockaddr_in or sockaddr_in6 in memory order (uapi linux/in.h).
func parseSockaddr(b []byte) netip.Addr {
	if len(b) < 8 {
		return netip.Addr{}
	}
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(b[4:8]))
	case unix.AF_INET6:
		if len(b) >= 24 {
			return netip.AddrFrom16([16]byte(b[8:24])).Unmap()
		}
	}
	return netip.Addr{}
}

// routeError wraps the errno of a route look-up.
func routeError(dst netip.Addr, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return &RouteError{Dst: dst, Errno: errno}
	}
	return fmt.Errorf("look up a route to %s: %w", dst, err)
}
