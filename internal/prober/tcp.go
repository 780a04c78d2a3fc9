package prober

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// closeGrace is how long a connection may take to close from both sides.
const closeGrace = 200 * time.Millisecond

// tcpSocket connects without sending data.
type tcpSocket struct {
	fd  int
	dst netip.AddrPort
}

func openTCP(src netip.Addr, dst netip.AddrPort) (socket, netip.AddrPort, error) {
	fd, local, err := openBound(src, dst.Addr(), unix.SOCK_STREAM, unix.IPPROTO_TCP)
	if err != nil {
		return nil, local, err
	}
	return &tcpSocket{fd: fd, dst: dst}, local, nil
}

// openBound creates a socket that is bound to src and a free port and queues ICMP errors.
func openBound(src, dst netip.Addr, kind, proto int) (int, netip.AddrPort, error) {
	fd, err := newSocket(dst, kind, proto)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	if err = withErrors(fd, dst); err == nil {
		err = bindTo(fd, src, 0, dst)
	}
	var local netip.AddrPort
	if err == nil {
		local, err = localAddr(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, local, err
	}
	return fd, local, nil
}

func (s *tcpSocket) descriptor() int { return s.fd }

func (s *tcpSocket) events() int16 { return unix.POLLOUT }

func (s *tcpSocket) send() error {
	for {
		err := unix.Connect(s.fd, sockaddr(s.dst))
		switch {
		case err == nil, errors.Is(err, unix.EINPROGRESS), errors.Is(err, unix.EALREADY), errors.Is(err, unix.EISCONN):
			return nil
		case !errors.Is(err, unix.EINTR):
			return fmt.Errorf("connect: %w", err)
		}
	}
}

// receive tells how the handshake ended. The error queue comes first: ECONNREFUSED stands for a reset
// and for ICMP port unreachable.
func (s *tcpSocket) receive() (Result, bool) {
	q, queued := readErrorQueue(s.fd)
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return Result{Kind: Unknown, Err: fmt.Errorf("read the probe's error: %w", err)}, true
	case queued && q.result.ICMP.tooBig():
		return Result{}, false // the kernel goes on with a smaller segment
	case queued:
		return q.result, true
	case unix.Errno(errno) == unix.ECONNREFUSED:
		return Result{Kind: Refused, Errno: unix.ECONNREFUSED}, true
	case unix.Errno(errno) == unix.ETIMEDOUT:
		return Result{Kind: Silent, Errno: unix.ETIMEDOUT}, true
	case errno != 0:
		return Result{Kind: Unreachable, Errno: unix.Errno(errno)}, true
	}
	if _, err := unix.Getpeername(s.fd); err != nil {
		return Result{}, false // woken without a reason
	}
	return Result{Kind: Connected}, true
}

// hangUp closes the connection as a polite client does: FIN, then whatever the server still says is
// read, because unread data would turn the close into a reset. A connection whose FIN nobody
// acknowledges is aborted; the kernel would otherwise keep it, and the namespace, for minutes.
func hangUp(fd int, w *waiter) {
	if unix.Shutdown(fd, unix.SHUT_WR) != nil {
		return // reset already
	}
	w = w.within(closeGrace)
	buf := make([]byte, 4096)
	for time.Now().Before(w.deadline) {
		n, err := unix.Read(fd, buf)
		switch {
		case n > 0, errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EAGAIN):
			return // closed by both sides, or reset
		}
		if w.wait(fd, unix.POLLIN) != nil {
			break
		}
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err == nil && info.State == tcpFinWait1 {
		// Best effort: without it the socket only lives longer.
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
}

// tcpFinWait1 is TCP_FIN_WAIT1 of include/net/tcp_states.h.
const tcpFinWait1 = 4
