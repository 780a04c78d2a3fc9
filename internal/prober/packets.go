package prober

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Packets sends packets that were made whole, and takes what comes back. Its socket uses the device's
// MTU, not the cached path MTU, and takes no path MTU from ICMP errors (IP_PMTUDISC_INTERFACE), so
// that no exception in the route cache misleads it. With IPv4 it makes none either; with IPv6 raw
// sockets always do (rawv6_err, net/ipv6/raw.c). It needs CAP_NET_RAW. Its methods are for one
// goroutine.
type Packets struct {
	fd  int
	v6  bool
	buf []byte
}

// OpenPackets opens the socket in the network namespace of the calling thread, for packets from src
// to dst.
func OpenPackets(proto path.Proto, src, dst netip.Addr) (*Packets, error) {
	number := int(Sized{Proto: proto, Dst: netip.AddrPortFrom(dst, 0)}.protocol())
	fd, err := newSocket(dst, unix.SOCK_RAW, number)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("%w: run as root or with CAP_NET_RAW", err)
	}
	if err != nil {
		return nil, err
	}
	p := &Packets{fd: fd, v6: dst.Is6(), buf: make([]byte, maxDatagram)}
	if err := p.prepare(src, dst); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return p, nil
}

func (p *Packets) prepare(src, dst netip.Addr) error {
	const ipv6HdrIncl = 36 // IPV6_HDRINCL of uapi linux/in6.h
	level, whole, discover, use := unix.IPPROTO_IP, unix.IP_HDRINCL, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE
	if p.v6 {
		level, whole, discover, use = unix.IPPROTO_IPV6, ipv6HdrIncl, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_INTERFACE
	}
	if err := unix.SetsockoptInt(p.fd, level, whole, 1); err != nil {
		return fmt.Errorf("let the probe have its own IP header: %w", err)
	}
	if err := unix.SetsockoptInt(p.fd, level, discover, use); err != nil {
		return fmt.Errorf("set IP_MTU_DISCOVER on the probe: %w", err)
	}
	// Best effort: without it an answer in fragments looks like a whole one (Linux 4.10).
	_ = unix.SetsockoptInt(p.fd, level, p.fragmentSize(), 1)
	if err := withErrors(p.fd, dst); err != nil {
		return err
	}
	if err := bindTo(p.fd, src, 0, dst); err != nil {
		return err
	}
	if err := unix.Connect(p.fd, sockaddr(netip.AddrPortFrom(dst, 0))); err != nil {
		return routeError(dst, err)
	}
	return nil
}

// fragmentSize is the option and the control message that tell the size of the largest fragment of a
// packet that came in fragments.
func (p *Packets) fragmentSize() int {
	const ipv4, ipv6 = 25, 77 // IP_RECVFRAGSIZE of uapi linux/in.h, IPV6_RECVFRAGSIZE of linux/in6.h
	if p.v6 {
		return ipv6
	}
	return ipv4
}

// Close closes the socket.
func (p *Packets) Close() error { return unix.Close(p.fd) }

// Answer is what came back for a Sized probe.
type Answer struct {
	// Kind is Answered (an acknowledgement, a datagram, an echo reply), Refused (a reset), ICMPError,
	// Unreachable (the kernel of the sender did not send it: Errno is EMSGSIZE where the packet is
	// larger than the device's MTU), Silent or Canceled.
	Kind  Kind
	ICMP  ICMP
	Errno unix.Errno
	// RTT is the time from sending to the answer or giving up.
	RTT time.Duration
	// Fragment is the size of the largest fragment if the answer came in fragments, bytes; else 0.
	Fragment int
}

// Passed reports whether the answer proves that the probe arrived at its destination.
func (a Answer) Passed() bool {
	switch a.Kind {
	case Answered, Refused:
		return true
	case ICMPError: // port unreachable comes from the destination itself
		return a.ICMP.V6 && a.ICMP.Type == 1 && a.ICMP.Code == 4 || !a.ICMP.V6 && a.ICMP.Type == 3 && a.ICMP.Code == 3
	}
	return false
}

// TooBig reports whether the answer says that the probe was larger than a link's MTU.
func (a Answer) TooBig() bool {
	return a.Kind == ICMPError && a.ICMP.tooBig() || a.Kind == Unreachable && a.Errno == unix.EMSGSIZE
}

// Exchange sends one probe and waits until an answer to it comes, the timeout passes or ctx ends.
func (p *Packets) Exchange(ctx context.Context, s Sized, timeout time.Duration) (Answer, error) {
	packet, err := s.Bytes()
	if err != nil {
		return Answer{}, err
	}
	w, err := newWaiter(ctx, timeout)
	if err != nil {
		return Answer{}, err
	}
	defer w.close()
	p.drain()
	start := time.Now()
	if err := sendAll(p.fd, packet); err != nil {
		var errno unix.Errno
		if !errors.As(err, &errno) {
			return Answer{}, err
		}
		// The own kernel's ICMP error, if any, says more.
		if a, ok := p.receive(s); ok {
			return a, nil
		}
		return Answer{Kind: Unreachable, Errno: errno}, nil
	}
	for {
		if a, ok := p.receive(s); ok {
			a.RTT = time.Since(start)
			return a, nil
		}
		switch err := w.wait(p.fd, unix.POLLIN); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return Answer{Kind: Silent, RTT: time.Since(start)}, nil
		case err != nil && ctx.Err() != nil:
			return Answer{Kind: Canceled, RTT: time.Since(start)}, nil
		case err != nil:
			return Answer{}, err
		}
	}
}

// drain forgets what came for earlier probes.
func (p *Packets) drain() {
	for range 1024 {
		if _, _, err := unix.Recvfrom(p.fd, p.buf, unix.MSG_DONTWAIT); errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	for range 1024 {
		if _, ok := readErrorQueue(p.fd); !ok {
			return
		}
	}
}

// receive reads until there is an answer to s or nothing more to read.
func (p *Packets) receive(s Sized) (Answer, bool) {
	oob := make([]byte, 128)
	for {
		n, oobn, _, _, err := unix.Recvmsg(p.fd, p.buf, oob, unix.MSG_DONTWAIT)
		if err == nil {
			if a, ok := s.answer(p.transport(p.buf[:n])); ok {
				a.Fragment = p.fragment(oob[:oobn])
				return a, true
			}
			continue
		}
		q, ok := readErrorQueue(p.fd)
		if !ok {
			return Answer{}, false
		}
		if s.quotedBy(q.quoted) {
			return Answer{Kind: q.result.Kind, ICMP: q.result.ICMP, Errno: q.result.Errno}, true
		}
	}
}

// fragment reads the size of the largest fragment from control messages.
func (p *Packets) fragment(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if int(m.Header.Type) == p.fragmentSize() && (m.Header.Level == unix.SOL_IP || m.Header.Level == unix.SOL_IPV6) && len(m.Data) >= 4 {
			return int(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return 0
}

// transport skips the IP header, which raw sockets of IPv4 alone are given.
func (p *Packets) transport(b []byte) []byte {
	if p.v6 {
		return b
	}
	return skipIPv4(b)
}

// quotedBy reports whether an ICMP error quotes the probe. The quotation begins with the IP header, as
// the probe was given with it.
func (s Sized) quotedBy(b []byte) bool {
	if s.v6() && len(b) >= sizeIPv6 {
		b = b[sizeIPv6:]
	} else {
		b = skipIPv4(b)
	}
	switch {
	case len(b) < 8:
		return false
	case s.Proto == path.ICMP:
		return binary.BigEndian.Uint16(b[4:]) == s.Src.Port() && binary.BigEndian.Uint16(b[6:]) == s.ID
	}
	ports := binary.BigEndian.Uint16(b) == s.Src.Port() && binary.BigEndian.Uint16(b[2:]) == s.Dst.Port()
	return ports && (s.Proto != path.TCP || binary.BigEndian.Uint32(b[4:]) == s.FirstSeq())
}

// answer says whether a transport header and what follows answer the probe.
func (s Sized) answer(b []byte) (Answer, bool) {
	switch s.Proto {
	case path.TCP:
		return s.acknowledged(b)
	case path.UDP:
		ok := len(b) >= sizeUDP && binary.BigEndian.Uint16(b) == s.Dst.Port() && binary.BigEndian.Uint16(b[2:]) == s.Src.Port()
		return Answer{Kind: Answered}, ok
	}
	reply := byte(echoReply4)
	if s.v6() {
		reply = echoReply6
	}
	ok := len(b) >= sizeEcho && b[0] == reply &&
		binary.BigEndian.Uint16(b[4:]) == s.Src.Port() && binary.BigEndian.Uint16(b[6:]) == s.ID
	return Answer{Kind: Answered}, ok
}

// acknowledged: the other side answers what it has already with an acknowledgement, which names the
// repeated bytes where both sides speak SACK (RFC 2883). Segments that do something else are none.
func (s Sized) acknowledged(b []byte) (Answer, bool) {
	if len(b) < sizeTCP || binary.BigEndian.Uint16(b) != s.Dst.Port() || binary.BigEndian.Uint16(b[2:]) != s.Src.Port() {
		return Answer{}, false
	}
	flags, header := b[13], int(b[12]>>4)*4
	switch {
	case flags&tcpRST != 0:
		return Answer{Kind: Refused}, true
	case flags&(tcpSYN|tcpFIN|tcpACK) != tcpACK, header < sizeTCP, header != len(b):
		return Answer{}, false
	}
	if left, ok := firstSACK(b[sizeTCP:header]); ok && left != s.FirstSeq() {
		return Answer{}, false // of an earlier probe
	}
	return Answer{Kind: Answered}, true
}

// firstSACK returns the left edge of the first block of a SACK option (RFC 2018).
func firstSACK(options []byte) (uint32, bool) {
	const end, nop, sack = 0, 1, 5
	for len(options) > 0 {
		switch kind := options[0]; {
		case kind == end:
			return 0, false
		case kind == nop:
			options = options[1:]
		case len(options) < 2 || options[1] < 2 || int(options[1]) > len(options):
			return 0, false
		case kind == sack && options[1] >= 10:
			return binary.BigEndian.Uint32(options[2:]), true
		default:
			options = options[options[1]:]
		}
	}
	return 0, false
}
