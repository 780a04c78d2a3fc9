package prober

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is what became of a probe.
type Kind uint8

// The kinds. The zero value means unknown.
const (
	Unknown Kind = iota
	// Connected: the TCP handshake was completed; the connection was closed again without data.
	Connected
	// Answered: a UDP datagram or an ICMP echo reply came back.
	Answered
	// Refused: a TCP reset came back.
	Refused
	// ICMPError: an ICMP error that quotes the probe came back. Result.ICMP says which.
	ICMPError
	// Unreachable: the kernel of the probe's own namespace refused to send. Result.Errno says why.
	Unreachable
	// Silent: nothing came back until the timeout.
	Silent
	// NamespaceVanished: the namespace of the probe went away before an answer came.
	NamespaceVanished
	// Canceled: the context ended before an answer came.
	Canceled
)

// String returns the name of k in lower case.
func (k Kind) String() string {
	switch k {
	case Connected:
		return "connected"
	case Answered:
		return "answered"
	case Refused:
		return "refused"
	case ICMPError:
		return "icmp error"
	case Unreachable:
		return "unreachable"
	case Silent:
		return "silent"
	case NamespaceVanished:
		return "namespace vanished"
	case Canceled:
		return "canceled"
	}
	return "unknown"
}

// ICMP describes an ICMP error.
type ICMP struct {
	// V6 tells ICMPv6 (RFC 4443) from ICMP (RFC 792); the numbers of Type and Code differ.
	V6         bool
	Type, Code uint8
	// Origin is the sender of the error, which is the probe's own address if its own kernel made it,
	// for example when a neighbour did not answer.
	Origin netip.Addr
	// MTU is the next-hop MTU of "fragmentation needed" and "packet too big", bytes, else 0.
	MTU uint32
}

// Result is what became of a probe.
type Result struct {
	Kind Kind
	// Errno is the error of the system call; 0 if there was none.
	Errno unix.Errno
	// ICMP is valid iff Kind is ICMPError.
	ICMP ICMP
	// Bytes is the length of the answer's payload, valid iff Kind is Answered.
	Bytes int
	// Start is CLOCK_MONOTONIC right before the probe was sent, ns; 0 if nothing was sent.
	Start uint64
	// RTT is the time from Start to the answer, the error or giving up.
	RTT time.Duration
	// Err is the context's error (Canceled) or an error that fits no kind (Unknown), else nil.
	Err error
}

// String returns a phrase for people, such as "refused after 120µs".
func (r Result) String() string {
	after := " after " + r.RTT.Round(time.Microsecond).String()
	switch r.Kind {
	case Answered:
		return fmt.Sprintf("answered with %d bytes%s", r.Bytes, after)
	case ICMPError:
		return fmt.Sprintf("icmp error type %d code %d from %s%s", r.ICMP.Type, r.ICMP.Code, r.ICMP.Origin, after)
	case Unreachable:
		return fmt.Sprintf("unreachable: %v", r.Errno)
	case Silent:
		return "no answer" + after
	case Unknown:
		return fmt.Sprintf("unknown: %v", r.Err)
	case Connected, Refused:
		return r.Kind.String() + after
	}
	return r.Kind.String()
}
