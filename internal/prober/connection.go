package prober

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/pathtrace/pathtrace/tracer/path"
)

// Connection is a TCP connection that is opened and kept, without data. It must be closed. Its
// methods are for one goroutine.
type Connection struct {
	probe *Probe
	fd    int
}

// OpenConnection prepares a connection as Open does; nothing is sent.
func OpenConnection(cfg Config) (*Connection, error) {
	cfg.Proto = path.TCP
	p, err := Open(cfg)
	if err != nil {
		return nil, err
	}
	return &Connection{probe: p, fd: p.sock.descriptor()}, nil
}

// Local returns the address and port that the connection has at this end.
func (c *Connection) Local() netip.AddrPort { return c.probe.Local() }

// Send opens the connection; see Probe.Send for what the result says.
func (c *Connection) Send(ctx context.Context) Result {
	c.probe.keep = true
	return c.probe.Send(ctx)
}

// Sequence is where a connection is.
type Sequence struct {
	// Next is the sequence number of the next byte that this end sends, Expected that of the next one
	// that it expects.
	Next, Expected uint32
}

// Sequence reads the connection's sequence numbers, by way of TCP_REPAIR (tcp(7), Linux 4.19 for the
// way back without a window probe), which needs CAP_NET_ADMIN. Nothing is sent for it.
func (c *Connection) Sequence() (Sequence, error) {
	const (
		on, offSilently      = 1, -1 // TCP_REPAIR_ON, TCP_REPAIR_OFF_NO_WP
		receiveQueue, sendQ  = 1, 2  // TCP_RECV_QUEUE, TCP_SEND_QUEUE
		operation, selection = unix.TCP_REPAIR, unix.TCP_REPAIR_QUEUE
	)
	if err := unix.SetsockoptInt(c.fd, unix.SOL_TCP, operation, on); err != nil {
		return Sequence{}, fmt.Errorf("read sequence numbers (TCP_REPAIR): %w", err)
	}
	read := func(queue int) (uint32, error) {
		if err := unix.SetsockoptInt(c.fd, unix.SOL_TCP, selection, queue); err != nil {
			return 0, err
		}
		n, err := unix.GetsockoptInt(c.fd, unix.SOL_TCP, unix.TCP_QUEUE_SEQ)
		return uint32(n), err
	}
	next, err := read(sendQ)
	var expected uint32
	if err == nil {
		expected, err = read(receiveQueue)
	}
	if off := unix.SetsockoptInt(c.fd, unix.SOL_TCP, operation, offSilently); err == nil {
		err = off
	}
	if err != nil {
		return Sequence{}, fmt.Errorf("read sequence numbers: %w", err)
	}
	return Sequence{Next: next, Expected: expected}, nil
}

// Segments is what TCP says of a connection.
type Segments struct {
	// Open is false once the other side is gone.
	Open bool
	// Packet is the largest packet that TCP sends on it, from the IP header on, bytes: the MSS that
	// both sides and the path MTU leave, with headers.
	Packet int
	// PathMTU is what the kernel takes for the path MTU.
	PathMTU int
	// Announced is the MSS that this end announced.
	Announced int
}

// Segments reads TCP_INFO (tcp(7)).
func (c *Connection) Segments() (Segments, error) {
	info, err := unix.GetsockoptTCPInfo(c.fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil {
		return Segments{}, fmt.Errorf("read TCP_INFO: %w", err)
	}
	const established, closeWait = 1, 8 // include/net/tcp_states.h
	const timestamps = 1                // TCPI_OPT_TIMESTAMPS of uapi linux/tcp.h
	return Segments{
		Open:      info.State == established || info.State == closeWait,
		Packet:    int(info.Snd_mss) + TCPHeaders(c.Local().Addr().Is6(), info.Options&timestamps != 0),
		PathMTU:   int(info.Pmtu),
		Announced: int(info.Advmss),
	}, nil
}

// TCPHeaders is the size of the headers of a segment that carries data, bytes. The kernel's MSS leaves
// the timestamps out already.
func TCPHeaders(v6, timestamps bool) int {
	n := sizeIPv4 + sizeTCP
	if v6 {
		n = sizeIPv6 + sizeTCP
	}
	if timestamps {
		const sizeTimestamps = 12 // RFC 7323, padded
		n += sizeTimestamps
	}
	return n
}

// Close closes the connection as a polite client does.
func (c *Connection) Close() error {
	if c.probe.sock == nil {
		return nil
	}
	if w, err := newWaiter(context.Background(), closeGrace); err == nil {
		hangUp(c.fd, w)
		w.close()
	}
	return c.probe.Close()
}
