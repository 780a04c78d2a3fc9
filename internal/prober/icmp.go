package prober

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Echo types of RFC 792 and RFC 4443.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129

	sizeEcho = 8 // bytes of the header
	sequence = 1 // of the one echo that is sent
)

// icmpSocket sends one echo request, through a ping socket or a raw one.
type icmpSocket struct {
	fd      int
	v6, raw bool
	id      uint16
	payload []byte
}

func openICMP(src netip.Addr, dst netip.AddrPort, payload []byte) (socket, netip.AddrPort, error) {
	s := &icmpSocket{v6: dst.Addr().Is6(), payload: payload}
	proto := unix.IPPROTO_ICMP
	if s.v6 {
		proto = unix.IPPROTO_ICMPV6
	}
	// Ping sockets need no privilege, where ping_group_range lets them be.
	fd, local, err := openBound(src, dst.Addr(), unix.SOCK_DGRAM, proto)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EPROTONOSUPPORT) {
		s.raw = true
		fd, local, err = openBound(src, dst.Addr(), unix.SOCK_RAW, proto)
	}
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return nil, local, fmt.Errorf("open echo probe: neither ping sockets (net.ipv4.ping_group_range) nor raw sockets are allowed: run as root or with CAP_NET_RAW: %w", err)
	}
	if err != nil {
		return nil, local, err
	}
	s.fd, s.id = fd, local.Port()
	if err := s.prepare(dst); err != nil {
		unix.Close(fd)
		return nil, local, err
	}
	return s, netip.AddrPortFrom(local.Addr(), s.id), nil
}

// prepare connects the socket and, for a raw one, chooses the identifier that a ping socket is given
// by the kernel.
func (s *icmpSocket) prepare(dst netip.AddrPort) error {
	if s.raw {
		var b [2]byte
		if _, err := rand.Read(b[:]); err != nil {
			return fmt.Errorf("choose echo identifier: %w", err)
		}
		s.id = binary.BigEndian.Uint16(b[:]) | 1 // never 0, which means "none" to readers
	}
	if err := unix.Connect(s.fd, sockaddr(netip.AddrPortFrom(dst.Addr(), 0))); err != nil {
		return routeError(dst.Addr(), err)
	}
	return nil
}

func (s *icmpSocket) descriptor() int { return s.fd }

func (s *icmpSocket) events() int16 { return unix.POLLIN }

func (s *icmpSocket) send() error {
	b := make([]byte, sizeEcho, sizeEcho+len(s.payload))
	b[0] = echoRequest4
	if s.v6 {
		b[0] = echoRequest6
	}
	binary.BigEndian.PutUint16(b[4:], s.id)
	binary.BigEndian.PutUint16(b[6:], sequence)
	b = append(b, s.payload...)
	if s.raw && !s.v6 { // the kernel fills the checksum of the others
		binary.BigEndian.PutUint16(b[2:], checksum(b))
	}
	return sendAll(s.fd, b)
}

func (s *icmpSocket) receive() (Result, bool) {
	buf := make([]byte, maxDatagram)
	n, q, err := receiveOrError(s.fd, buf)
	request, reply := byte(echoRequest4), byte(echoReply4)
	if s.v6 {
		request, reply = echoRequest6, echoReply6
	}
	switch {
	case q != nil:
		// A raw socket gets the errors of everybody's echoes to the destination.
		foreign := s.raw && q.result.Kind == ICMPError && !s.ours(q.quoted, request)
		return q.result, !foreign
	case err != nil:
		return received(0, err)
	}
	message := buf[:n]
	if s.raw && !s.v6 {
		message = skipIPv4(message)
	}
	return Result{Kind: Answered, Bytes: len(message) - sizeEcho}, s.ours(message, reply)
}

// ours tells whether an ICMP message is of the given type and belongs to the echo that was sent.
func (s *icmpSocket) ours(b []byte, typ byte) bool {
	return len(b) >= sizeEcho && b[0] == typ &&
		binary.BigEndian.Uint16(b[4:]) == s.id && binary.BigEndian.Uint16(b[6:]) == sequence
}

// skipIPv4 returns what follows the IPv4 header, or nil if the packet is too short.
func skipIPv4(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	if size := int(b[0]&0x0f) * 4; size >= 20 && size <= len(b) {
		return b[size:]
	}
	return nil
}

// checksum is the Internet checksum (RFC 1071).
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
