package prober

import (
	"context"
	"fmt"
	"net/netip"
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
}

// socket is the part that differs between the protocols.
type socket interface {
	// send sends the probe; an errno means that the kernel refused.
	send() error
	// poll returns the events to wait for after send.
	poll() int16
	// receive is called when the socket is ready and reports what came; ok is false if it was
	// nothing of ours.
	receive() (r Result, ok bool)
	// finish ends the conversation politely, within the context, after an answer.
	finish(ctx context.Context)
	fd() int
}

// Open creates the socket of a probe in its namespace and binds it. Nothing is sent. Besides
// descriptive errors it returns a *NamespaceError if the namespace cannot be entered and a
// *RouteError if no packet can be sent to Dst from there.
func Open(cfg Config) (*Probe, error) {
	return nil, fmt.Errorf("open probe: %w", unix.ENOSYS)
}

// Local returns the source address and port of the probe; for ICMP the port is the echo identifier.
func (p *Probe) Local() netip.AddrPort { return p.local }

// Send sends the probe and waits until an answer comes, the timeout passes or ctx ends. It is to be
// called once.
func (p *Probe) Send(ctx context.Context) Result { return Result{} }

// Close closes the socket; the probe no longer keeps its namespace alive. It may be called twice.
func (p *Probe) Close() error { return nil }
