package nftrace

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// traceMessage is the type of trace messages.
const traceMessage = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_TRACE

// buffer is the socket's receive buffer in bytes: a packet through a long ruleset makes hundreds of
// messages at once.
const buffer = 4 << 20

// Trace is the trace table of one namespace with the socket that its messages come from.
type Trace struct {
	table  *netlink.Conn // owns the table
	events *netlink.Conn
	closed atomic.Bool
	once   sync.Once
	err    error
}

// Open makes the table, called name, and opens the socket, in the namespace of the calling thread.
// The table goes with Close, or with the process.
func Open(name string, ends []End) (*Trace, error) {
	events, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink for trace messages: %w", err)
	}
	_ = events.SetReadBuffer(buffer) // a smaller one loses messages, which is noticed then
	if err := events.JoinGroup(unix.NFNLGRP_NFTRACE); err != nil {
		_ = events.Close() // the first error says more
		return nil, fmt.Errorf("subscribe to trace messages: %w", err)
	}
	table, err := install(name, ends)
	if err != nil {
		_ = events.Close() // the first error says more
		return nil, err
	}
	return &Trace{table: table, events: events}, nil
}

// Read calls fn for every step until Close, from the calling goroutine. lost is called when messages
// did not fit the socket's buffer.
func (t *Trace) Read(fn func(Step), lost func()) error {
	for {
		messages, err := t.events.Receive()
		switch {
		case err != nil && t.closed.Load():
			return nil
		case errors.Is(err, unix.ENOBUFS):
			lost()
			continue
		case err != nil:
			return fmt.Errorf("read trace messages: %w", err)
		}
		for _, m := range messages {
			if m.Header.Type != traceMessage {
				continue
			}
			s, err := decode(m.Data)
			if err != nil {
				return err
			}
			fn(s)
		}
	}
}

// Close removes the table and ends Read. It may be called more than once.
func (t *Trace) Close() error {
	t.once.Do(func() {
		t.closed.Store(true)
		t.err = errors.Join(t.table.Close(), t.events.Close())
	})
	return t.err
}
