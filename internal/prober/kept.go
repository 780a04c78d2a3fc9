package prober

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/internal/netns"
)

// ErrHungUp is returned by Kept.Exchange when the other side closed or reset the connection.
var ErrHungUp = errors.New("the other side closed the connection")

// Kept is a TCP connection that stays open and carries one request at a time. It must be closed. Its
// methods are for one goroutine, which should be locked to its thread: the reads block.
type Kept struct {
	fd      int
	local   netip.AddrPort
	dst     netip.AddrPort
	timeout time.Duration
	payload []byte
	buf     []byte
	control [256]byte
}

// Exchange is one request and its answer, CLOCK_MONOTONIC ns.
type Exchange struct {
	Sent, Received uint64 // before the write, after the read
	// Arrived is the kernel's own time of the answer's first segment (SO_TIMESTAMPING); 0 if not told.
	Arrived uint64
	// Answer is what was read. It is valid until the next exchange.
	Answer []byte
}

// OpenKept creates the socket in its namespace and binds it; nothing is sent. Config.Payload is what
// each exchange sends. Errors are as those of Open.
func OpenKept(cfg Config) (*Kept, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	k := &Kept{timeout: cfg.Timeout, payload: cfg.Payload, buf: make([]byte, 64<<10)}
	if cfg.NetNSPath == "" {
		if err := k.open(cfg); err != nil {
			return nil, err
		}
		return k, nil
	}
	ns, err := netns.Open(cfg.NetNSPath)
	if err != nil {
		return nil, &NamespaceError{Path: cfg.NetNSPath, Err: err}
	}
	defer ns.Close()
	if err := netns.Do(ns, func() error { return k.open(cfg) }); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Kept) open(cfg Config) error {
	dst, err := resolveZone(cfg.Dst)
	if err != nil {
		return err
	}
	src, err := source(cfg.Bind, dst)
	if err != nil {
		return err
	}
	k.dst = dst
	k.fd, k.local, err = openBound(src, dst.Addr(), unix.SOCK_STREAM, unix.IPPROTO_TCP)
	return err
}

// Local returns the source address and port.
func (k *Kept) Local() netip.AddrPort { return k.local }

// Connect opens the connection, within the timeout.
func (k *Kept) Connect(ctx context.Context) error {
	s := tcpSocket{fd: k.fd, dst: k.dst}
	w, err := newWaiter(ctx, k.timeout)
	if err != nil {
		return err
	}
	defer w.close()
	start := monotonic()
	if err := s.send(); err != nil {
		return err
	}
	for {
		if err := w.wait(k.fd, s.events()); err != nil {
			return fmt.Errorf("connect to %s: %w", k.dst, err)
		}
		if r, ok := s.receive(); ok && r.Kind != Connected {
			r.RTT = time.Duration(monotonic() - start)
			return fmt.Errorf("connect to %s: %s", k.dst, r)
		} else if ok {
			return k.prepare()
		}
	}
}

// prepare makes the socket one whose reads block: a thread that waits in the read itself is woken
// without a detour.
func (k *Kept) prepare() error {
	if err := unix.SetNonblock(k.fd, false); err != nil {
		return fmt.Errorf("make the probe's socket block: %w", err)
	}
	limit := unix.NsecToTimeval(k.timeout.Nanoseconds())
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(k.fd, unix.SOL_SOCKET, option, &limit); err != nil {
			return fmt.Errorf("limit the wait for an answer: %w", err)
		}
	}
	// A request is one write; holding it back for an acknowledgement would measure that.
	if err := unix.SetsockoptInt(k.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return fmt.Errorf("send requests at once: %w", err)
	}
	// Without it there is one clock less to compare with.
	_ = unix.SetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, reportStamps)
	return nil
}

// Exchange sends the request and waits for the beginning of the answer; what is left of an earlier
// answer is discarded first. It returns ErrHungUp, os.ErrDeadlineExceeded without an answer in time, or
// the error of the system call.
func (k *Kept) Exchange() (Exchange, error) {
	var x Exchange
	if err := k.drain(); err != nil {
		return x, err
	}
	offset := realtimeOffset()
	x.Sent = monotonic()
	if err := unix.Sendmsg(k.fd, k.payload, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return x, exchangeError("send the request", err)
	}
	n, control, err := k.read()
	x.Received = monotonic()
	switch {
	case err != nil:
		return x, exchangeError("read the answer", err)
	case n == 0:
		return x, ErrHungUp
	}
	x.Answer = k.buf[:n]
	if at := parseStamp(k.control[:control]); at != 0 {
		x.Arrived = uint64(at - offset)
	}
	return x, nil
}

// read waits for data and returns how much there is, and how much of control messages.
func (k *Kept) read() (n, control int, err error) {
	for {
		n, control, _, _, err = unix.Recvmsg(k.fd, k.buf, k.control[:], 0)
		if !errors.Is(err, unix.EINTR) {
			return n, control, err
		}
	}
}

// drain reads what is there without waiting.
func (k *Kept) drain() error {
	for {
		n, _, err := unix.Recvfrom(k.fd, k.buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return exchangeError("read the rest of an answer", err)
		case n == 0:
			return ErrHungUp
		}
	}
}

func exchangeError(what string, err error) error {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return os.ErrDeadlineExceeded
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		return ErrHungUp
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Close hangs up politely and closes the socket. It may be called twice.
func (k *Kept) Close() error {
	if k.fd < 0 {
		return nil
	}
	if w, err := newWaiter(context.Background(), closeGrace); err == nil {
		if unix.SetNonblock(k.fd, true) == nil {
			hangUp(k.fd, w)
		}
		w.close()
	}
	err := unix.Close(k.fd)
	k.fd = -1
	if err != nil {
		return fmt.Errorf("close probe: %w", err)
	}
	return nil
}
