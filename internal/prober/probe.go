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
	"github.com/pathtrace/pathtrace/tracer/path"
)

// DefaultTimeout is the time that Send waits for an answer if Config has none.
const DefaultTimeout = 2 * time.Second

// Config describes a probe.
type Config struct {
	// NetNSPath is the namespace to send from, such as /run/netns/NAME or /proc/PID/ns/net; empty
	// means that of the caller.
	NetNSPath string
	Proto     path.Proto
	// Bind is the source address; the zero value lets the namespace's routes choose.
	Bind netip.Addr
	// Dst is where the probe goes; the port is ignored for ICMP. A zone (fe80::1%eth0) is looked up
	// in the namespace.
	Dst netip.AddrPort
	// Timeout bounds the wait for an answer; 0 means DefaultTimeout.
	Timeout time.Duration
	// Payload is what a datagram or an echo carries; nil means a short text. TCP sends no data.
	Payload []byte
}

// Probe is a bound socket that has sent nothing yet. It must be closed. Its methods are for one
// goroutine.
type Probe struct {
	cfg   Config
	sock  socket
	nsID  netns.ID // identity of NetNSPath at Open; valid iff NetNSPath is set
	local netip.AddrPort
	keep  bool // the connection outlives Send
}

// socket is the part that differs between the protocols. Its methods never block.
type socket interface {
	// send sends the probe; an error means that the kernel refused.
	send() error
	// events returns what to poll for after send.
	events() int16
	// receive is called when the socket is ready and reports what came; ok is false if it was
	// nothing of ours.
	receive() (r Result, ok bool)
	// descriptor returns the file descriptor.
	descriptor() int
}

// Open creates the socket of a probe in its namespace and binds it; nothing is sent. Besides errors
// that only describe themselves it returns a *NamespaceError if the namespace cannot be entered and a
// *RouteError if no packet can be sent to Dst from there.
func Open(cfg Config) (*Probe, error) {
	cfg, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	p := &Probe{cfg: cfg}
	if cfg.NetNSPath == "" {
		if err := p.open(); err != nil {
			return nil, err
		}
		return p, nil
	}
	ns, err := netns.Open(cfg.NetNSPath)
	if err != nil {
		return nil, &NamespaceError{Path: cfg.NetNSPath, Err: err}
	}
	// The socket alone keeps the namespace from here on.
	defer ns.Close()
	if p.nsID, err = netns.Identify(ns); err != nil {
		return nil, &NamespaceError{Path: cfg.NetNSPath, Err: err}
	}
	entered := false
	err = netns.Do(ns, func() error {
		entered = true
		return p.open()
	})
	if err != nil {
		if !entered {
			err = &NamespaceError{Path: cfg.NetNSPath, Err: err}
		}
		return nil, err
	}
	return p, nil
}

// complete checks the configuration and fills what may be left out.
func (c Config) complete() (Config, error) {
	c.Dst = netip.AddrPortFrom(c.Dst.Addr().Unmap(), c.Dst.Port())
	c.Bind = c.Bind.Unmap()
	switch {
	case !c.Dst.IsValid() || c.Dst.Addr().IsUnspecified():
		return c, fmt.Errorf("open probe: %q is no destination address: give one that is not unspecified", c.Dst.Addr())
	case c.Proto != path.TCP && c.Proto != path.UDP && c.Proto != path.ICMP:
		return c, fmt.Errorf("open probe: unknown protocol %q: want tcp, udp or icmp", c.Proto)
	case c.Proto != path.ICMP && c.Dst.Port() == 0:
		return c, fmt.Errorf("open probe: port 0 cannot be connected to: give a port from 1 to 65535")
	case c.Bind.IsValid() && c.Bind.Is4() != c.Dst.Addr().Is4():
		return c, fmt.Errorf("open probe: source %s and destination %s are of different families", c.Bind, c.Dst.Addr())
	}
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Payload == nil {
		c.Payload = []byte("pathtrace probe\n")
	}
	return c, nil
}

// open runs inside the namespace.
func (p *Probe) open() error {
	dst, err := resolveZone(p.cfg.Dst)
	if err != nil {
		return err
	}
	src, err := source(p.cfg.Bind, dst)
	if err != nil {
		return err
	}
	switch p.cfg.Proto {
	case path.TCP:
		p.sock, p.local, err = openTCP(src, dst)
	case path.UDP:
		p.sock, p.local, err = openUDP(src, dst, p.cfg.Payload)
	default:
		p.sock, p.local, err = openICMP(src, dst, p.cfg.Payload)
	}
	return err
}

// Local returns the source address and port of the probe; for ICMP the port is the echo identifier.
func (p *Probe) Local() netip.AddrPort { return p.local }

// Send sends the probe and waits until an answer comes, the timeout passes or ctx ends. It is to be
// called once.
func (p *Probe) Send(ctx context.Context) Result {
	if p.sock == nil {
		return Result{Kind: Unknown, Err: fmt.Errorf("send probe: %w", os.ErrClosed)}
	}
	if p.vanished() {
		return Result{Kind: NamespaceVanished}
	}
	if err := ctx.Err(); err != nil {
		return Result{Kind: Canceled, Err: err}
	}
	start := monotonic()
	r := p.exchange(ctx, start)
	if r.Start == 0 {
		r.Start = start
	}
	if r.RTT == 0 {
		r.RTT = time.Duration(monotonic() - start)
	}
	// Without its namespace's devices a probe ends in silence or in a route error; that is not the
	// fault of the path.
	if (r.Kind == Silent || r.Kind == Unreachable || r.Kind == ICMPError) && p.vanished() {
		r.Kind = NamespaceVanished
	}
	return r
}

// lookAgain is how often it is checked whether the probe's namespace is still there: nothing tells.
const lookAgain = 100 * time.Millisecond

func (p *Probe) exchange(ctx context.Context, start uint64) Result {
	w, err := newWaiter(ctx, p.cfg.Timeout)
	if err != nil {
		return Result{Kind: Unknown, Err: err}
	}
	defer w.close()
	if err := p.sock.send(); err != nil {
		return p.sendError(err)
	}
	for {
		err := w.within(lookAgain).wait(p.sock.descriptor(), p.sock.events())
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Now().Before(w.deadline) {
			if p.vanished() {
				return Result{Kind: NamespaceVanished}
			}
			continue
		}
		if err != nil {
			return waitError(err)
		}
		if r, ok := p.sock.receive(); ok {
			r.RTT = time.Duration(monotonic() - start)
			if r.Kind == Connected && !p.keep {
				hangUp(p.sock.descriptor(), w)
			}
			return r
		}
	}
}

// sendError classifies the error of sending. An ICMP error may be there before send returns, when
// the kernel of the namespace itself rejected the packet.
func (p *Probe) sendError(err error) Result {
	if r, ok := p.sock.receive(); ok && r.Kind != Unknown {
		return r
	}
	return errnoResult(err)
}

// errnoResult says that the kernel of the namespace did not send.
func errnoResult(err error) Result {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return Result{Kind: Unreachable, Errno: errno}
	}
	return Result{Kind: Unknown, Err: err}
}

func waitError(err error) Result {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return Result{Kind: Silent}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Result{Kind: Canceled, Err: err}
	}
	return Result{Kind: Unknown, Err: err}
}

// vanished tells whether the path of the namespace no longer leads to it: its container stopped or
// its name was removed. The socket still holds what is left of the namespace.
func (p *Probe) vanished() bool {
	if p.cfg.NetNSPath == "" {
		return false
	}
	id, err := netns.IdentifyPath(p.cfg.NetNSPath)
	return err != nil || id != p.nsID
}

// Close closes the socket; the probe no longer keeps its namespace alive. It may be called twice.
func (p *Probe) Close() error {
	if p.sock == nil {
		return nil
	}
	err := unix.Close(p.sock.descriptor())
	p.sock = nil
	if err != nil {
		return fmt.Errorf("close probe: %w", err)
	}
	return nil
}

// monotonic returns CLOCK_MONOTONIC in nanoseconds, the clock of the kernel's observations.
func monotonic() uint64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0 // cannot fail with a valid clock
	}
	return uint64(ts.Nano())
}
