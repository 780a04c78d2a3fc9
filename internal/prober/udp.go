package prober

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// udpSocket sends one datagram. It is connected, so it takes answers from the destination alone, as
// most applications do.
type udpSocket struct {
	fd      int
	payload []byte
}

func openUDP(src netip.Addr, dst netip.AddrPort, payload []byte) (socket, netip.AddrPort, error) {
	fd, local, err := openBound(src, dst.Addr(), unix.SOCK_DGRAM, unix.IPPROTO_UDP)
	if err != nil {
		return nil, local, err
	}
	if err := unix.Connect(fd, sockaddr(dst)); err != nil {
		unix.Close(fd)
		return nil, local, routeError(dst.Addr(), err)
	}
	return &udpSocket{fd: fd, payload: payload}, local, nil
}

func (s *udpSocket) descriptor() int { return s.fd }

func (s *udpSocket) events() int16 { return unix.POLLIN }

func (s *udpSocket) send() error { return sendAll(s.fd, s.payload) }

func (s *udpSocket) receive() (Result, bool) {
	n, q, err := receiveOrError(s.fd, make([]byte, maxDatagram))
	if q != nil {
		return q.result, true
	}
	return received(n, err)
}

// maxDatagram is more than any datagram holds, bytes.
const maxDatagram = 64 << 10

// sendAll sends one datagram.
func sendAll(fd int, payload []byte) error {
	for {
		err := unix.Send(fd, payload, 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("send: %w", err)
		}
	}
}

// receiveOrError reads a datagram, or the queued error if there is no datagram. Reading data comes
// first: it also takes the plain errno off the socket that stands for the queued error.
func receiveOrError(fd int, buf []byte) (int, *queued, error) {
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
	if err == nil {
		return n, nil, nil
	}
	if q, ok := readErrorQueue(fd); ok {
		return 0, &q, nil
	}
	return 0, nil, err
}

// received makes a result of what recvfrom returned.
func received(n int, err error) (Result, bool) {
	switch {
	case err == nil:
		return Result{Kind: Answered, Bytes: n}, true
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return Result{}, false
	}
	return errnoResult(fmt.Errorf("receive: %w", err)), true
}
