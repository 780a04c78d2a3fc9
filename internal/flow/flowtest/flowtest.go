// Package flowtest makes many connections out of the events of one, for measuring what a connection
// costs to follow and to judge. Only tests use it.
package flowtest

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"strings"

	"github.com/pathtrace/pathtrace/internal/wire"
)

// Script is one connection: its events in order, its target, and the client's port.
type Script struct {
	events  []wire.Event
	targets map[netip.AddrPort]bool
	client  uint16
}

// Read reads a script of package flow (testdata/*.events): events in text form, and lines that name the
// targets. The first event is the client's.
func Read(r io.Reader) (*Script, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	s := &Script{targets: map[netip.AddrPort]bool{}}
	for line := range strings.Lines(string(text)) {
		if w := strings.Fields(line); len(w) == 4 && w[0] == "#!" && w[1] == "target" {
			target, err := netip.ParseAddrPort(w[3])
			if err != nil {
				return nil, fmt.Errorf("target: %w", err)
			}
			s.targets[target] = true
		}
	}
	for e, err := range wire.ReadText(bytes.NewReader(text)) {
		if err != nil {
			return nil, err
		}
		s.events = append(s.events, e)
	}
	if len(s.events) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	s.client = s.events[0].Tuple.Src.Port()
	return s, nil
}

// Len is the number of events of one connection.
func (s *Script) Len() int { return len(s.events) }

// IsTarget is for flow.Config.
func (s *Script) IsTarget(ap netip.AddrPort, _ uint8) bool { return s.targets[ap] }

// DropReason is that of a kernel that tells nothing (flow.Namer).
func (*Script) DropReason(uint32) string { return "" }

// ResetReason is that of a kernel that tells nothing (flow.Namer).
func (*Script) ResetReason(uint32) string { return "" }

// Symbol is that of a kernel that tells nothing (flow.Namer).
func (*Script) Symbol(uint64) string { return "" }

const (
	// together is how many connections go on at the same time, with their events interleaved.
	together = 8
	// pause is the time between the beginnings of two such groups, ns: 4,000 connections a second, with
	// which a client's port comes back after 15 s.
	pause = 2e6
	// firstPort and ports are those that clients use.
	firstPort, ports = 2000, 60000
)

// Connections yields the events of n connections in the order of time. The event is valid until the
// next is asked for.
func (s *Script) Connections(n int) iter.Seq[*wire.Event] {
	return func(yield func(*wire.Event) bool) {
		var e wire.Event
		for first := 0; first < n; first += together {
			for i := range s.events {
				for c := first; c < min(first+together, n); c++ {
					e = s.events[i]
					s.move(&e, c)
					if !yield(&e) {
						return
					}
				}
			}
		}
	}
}

// move makes an event that of connection number c: other ports, addresses of the kernel, times.
func (s *Script) move(e *wire.Event, c int) {
	e.Time += uint64(c/together)*pause + uint64(c%together)
	// Addresses come back after a while, as in a kernel.
	shift := uint64(c%1024+1) << 20
	for _, address := range []*uint64{&e.Skb, &e.Head, &e.Sock, &e.CT} {
		if *address != 0 {
			*address += shift
		}
	}
	port := firstPort + uint16(c%ports)
	for _, t := range []*wire.Tuple{&e.Tuple, &e.CTOrig, &e.CTReply} {
		s.movePort(&t.Src, port)
		s.movePort(&t.Dst, port)
	}
	e.Seq += uint32(c) * 7919
	e.Ack += uint32(c) * 7919
}

func (s *Script) movePort(ap *netip.AddrPort, port uint16) {
	if ap.Port() == s.client {
		*ap = netip.AddrPortFrom(ap.Addr(), port)
	}
}
